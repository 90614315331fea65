package gateway

import (
	"context"
	"errors"
	"io"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt/parts"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/config"
)

// talk is one SubmitStream.
type talk struct {
	t         *testing.T
	rpc       trialogv1.SubmissionService_SubmitStreamClient
	sent      map[uint64]*trialogv1.StreamSubmission
	assembler *parts.Assembler
	policy    *verify.Policy
	now       func() time.Time
}

func (h *house) talk(t *testing.T, ctx context.Context) *talk { //nolint:revive // t comes first everywhere
	t.Helper()
	rpc, err := h.rpc.SubmitStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := verify.ParsePolicy(h.world.policy, h.world.sidecar)
	if err != nil {
		t.Fatal(err)
	}
	return &talk{
		t: t, rpc: rpc, sent: map[uint64]*trialogv1.StreamSubmission{},
		assembler: parts.NewAssembler(policy), policy: policy, now: h.world.now,
	}
}

// apart is the same house through a connection of its own.
func (h *house) apart(t *testing.T) *house {
	t.Helper()
	conn, err := grpc.NewClient(h.g.cfg.GRPC.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	other := *h
	other.rpc = trialogv1.NewSubmissionServiceClient(conn)
	return &other
}

func streamed(tag uint64, s *trialogv1.SubmitRequest) *trialogv1.StreamSubmission {
	return &trialogv1.StreamSubmission{Tag: tag, Envelope: s.GetEnvelope(), Beacon: s.GetBeacon(), Wait: s.GetWait()}
}

// say sends submissions in one message, with tags from first.
func (c *talk) say(first uint64, list ...*trialogv1.SubmitRequest) {
	c.t.Helper()
	m := &trialogv1.SubmitStreamRequest{}
	for i, s := range list {
		x := streamed(first+uint64(i), s)
		c.sent[x.GetTag()] = x
		m.Submissions = append(m.Submissions, x)
	}
	if err := c.rpc.Send(m); err != nil {
		c.t.Fatal(err)
	}
}

// hear takes n answers, and checks every receipt among them as a regulator would.
func (c *talk) hear(n int) map[uint64]*trialogv1.StreamAnswer {
	c.t.Helper()
	got := map[uint64]*trialogv1.StreamAnswer{}
	for len(got) < n {
		resp, err := c.rpc.Recv()
		if err != nil {
			c.t.Fatalf("after %d of %d answers: %v", len(got), n, err)
		}
		maps.Copy(got, c.take(resp))
	}
	return got
}

func (c *talk) take(resp *trialogv1.SubmitStreamResponse) map[uint64]*trialogv1.StreamAnswer {
	c.t.Helper()
	got := map[uint64]*trialogv1.StreamAnswer{}
	for _, p := range resp.GetParts() {
		if err := addPart(c.assembler, p); err != nil {
			c.t.Fatalf("a wrong part came out: %v", err)
		}
	}
	for _, a := range resp.GetAnswers() {
		x := c.sent[a.GetTag()]
		if x == nil {
			c.t.Fatalf("an answer to tag %d came out", a.GetTag())
		}
		delete(c.sent, a.GetTag())
		got[a.GetTag()] = a
		if a.GetFinal() == nil {
			continue
		}
		r, _, err := c.assembler.Receipt(x.GetEnvelope(), finalOf(a.GetFinal()))
		if err != nil {
			c.t.Fatalf("a wrong answer came out: %v", err)
		}
		raw, err := r.Encode()
		if err != nil {
			c.t.Fatal(err)
		}
		if _, err := verify.Verify(verify.Input{Receipt: raw, Policy: c.policy, StatementOnly: true, Now: c.now()}); err != nil {
			c.t.Fatalf("a receipt came out that does not verify: %v", err)
		}
	}
	return got
}

// end half-closes and wants an orderly end.
func (c *talk) end() {
	c.t.Helper()
	if err := c.rpc.CloseSend(); err != nil {
		c.t.Fatal(err)
	}
	if resp, err := c.rpc.Recv(); !errors.Is(err, io.EOF) {
		c.t.Errorf("the stream ended with %v, %v", resp, err)
	}
}

func codeOf(a *trialogv1.StreamAnswer) codes.Code { return codes.Code(a.GetError().GetCode()) }

func fieldOf(a *trialogv1.StreamAnswer) string {
	for _, d := range status.FromProto(a.GetError()).Details() {
		if b, ok := d.(*errdetails.BadRequest); ok {
			return b.GetFieldViolations()[0].GetField()
		}
	}
	return ""
}

// TestStream: receipts, promises, refusals and duplicates over one stream, and
// the receipts are byte for byte those that Submit gives.
func TestStream(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	list := w.series(4)
	list[1].Wait = trialogv1.Wait_WAIT_PENDING
	c := h.talk(t, context.Background())
	c.say(7, list[0], list[1], list[3]) // the third one has a hole before it
	got := c.hear(3)
	if got[7].GetFinal() == nil || got[8].GetPending() == nil || codeOf(got[9]) != codes.Aborted {
		t.Errorf("answers %v", got)
	}
	if fieldOf(got[9]) != "envelope.payload.predicate.chain" {
		t.Errorf("field %q", fieldOf(got[9]))
	}
	c.say(7, list[2], list[3], list[0], w.resigned(list[0]))
	got = c.hear(4)
	for tag, index := range map[uint64]uint64{7: 5, 8: 6, 9: 3, 10: 3} {
		if f := got[tag].GetFinal(); f.GetProof().GetIndex() != index || f.GetDuplicate() != (index == 3) ||
			(len(f.GetEntry()) > 0) != (tag == 10) {
			t.Errorf("tag %d: index %d, duplicate %v, %v", tag, f.GetProof().GetIndex(), f.GetDuplicate(), got[tag].GetError())
		}
	}
	c.end()
	if w.size() != 7 {
		t.Errorf("%d entries, expected 7", w.size())
	}
}

// TestStreamItems: what is wrong with one submission is said of that one, with
// the field, and the stream goes on.
func TestStreamItems(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	good := w.protocol([]byte("p"))
	for name, tc := range map[string]struct {
		s     *trialogv1.SubmitRequest
		code  codes.Code
		field string
		inner bool // the sequencer says it
	}{
		"no envelope":     {&trialogv1.SubmitRequest{}, codes.InvalidArgument, "envelope", false},
		"a long envelope": {&trialogv1.SubmitRequest{Envelope: make([]byte, statement.MaxEnvelope+1)}, codes.InvalidArgument, "envelope", false},
		"a long beacon": {
			&trialogv1.SubmitRequest{Envelope: good.GetEnvelope(), Beacon: strings.Repeat("x", maxBeacon+1)},
			codes.InvalidArgument, "beacon", false,
		},
		"another wait": {&trialogv1.SubmitRequest{Envelope: good.GetEnvelope(), Wait: 9}, codes.InvalidArgument, "wait", false},
		"an enrolment": {
			w.enrolment("new-org", testKey(t, "new"), testKey(t, "other"), statement.Sponsor),
			codes.PermissionDenied, "envelope.payload.predicate.attributes.recovery", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(w.envelopes())
			// Also with a token that may enrol.
			c := h.talk(t, withToken(tokenEnrol))
			c.say(1, tc.s, w.protocol([]byte(name)))
			got := c.hear(2)
			if codeOf(got[1]) != tc.code || fieldOf(got[1]) != tc.field || got[2].GetFinal() == nil {
				t.Errorf("%v, field %q; the next one %v", codeOf(got[1]), fieldOf(got[1]), got[2].GetError())
			}
			c.end()
			if asked := len(w.envelopes()) - before; (asked == 2) != tc.inner {
				t.Errorf("the sequencer was asked about %d submissions", asked)
			}
		})
	}
	if strings.Contains(h.logs.String(), testOrg) {
		t.Error("the log names an organisation")
	}
}

// TestStreamViolations: what no answer to one submission could say ends the
// stream, and what went before is answered.
func TestStreamViolations(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, func(c *Config) { c.Limits.BodyTimeout = 100 * time.Millisecond })
	w.startTrial()
	good := w.series(1)[0]
	unknown := streamed(2, good)
	unknown.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	strange := &trialogv1.SubmitStreamRequest{Submissions: []*trialogv1.StreamSubmission{streamed(2, good)}}
	strange.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	many := &trialogv1.SubmitStreamRequest{}
	for i := range maxStreamItems + 1 {
		many.Submissions = append(many.Submissions, &trialogv1.StreamSubmission{Tag: uint64(i), Envelope: []byte("x")})
	}
	for name, tc := range map[string]struct {
		m     *trialogv1.SubmitStreamRequest
		field string
	}{
		"no submissions":       {&trialogv1.SubmitStreamRequest{}, "submissions"},
		"257":                  {many, "submissions"},
		"a tag twice":          {&trialogv1.SubmitStreamRequest{Submissions: []*trialogv1.StreamSubmission{streamed(2, good), streamed(2, good)}}, "submissions[1].tag"},
		"of a refused one":     {&trialogv1.SubmitStreamRequest{Submissions: []*trialogv1.StreamSubmission{{Tag: 2}, {Tag: 2}}}, "submissions[1].tag"},
		"an unknown field":     {&trialogv1.SubmitStreamRequest{Submissions: []*trialogv1.StreamSubmission{unknown}}, "submissions[0].?"},
		"an unknown one above": {strange, "?"},
	} {
		t.Run(name, func(t *testing.T) {
			c := h.talk(t, context.Background())
			c.say(1, good)
			if err := c.rpc.Send(tc.m); err != nil {
				t.Fatal(err)
			}
			c.sent[2] = streamed(2, good)
			var err error
			answered := map[uint64]*trialogv1.StreamAnswer{}
			for err == nil {
				var resp *trialogv1.SubmitStreamResponse
				if resp, err = c.rpc.Recv(); err == nil {
					maps.Copy(answered, c.take(resp))
				}
			}
			s := status.Convert(err)
			if s.Code() != codes.InvalidArgument || !strings.HasPrefix(s.Message(), tc.field+":") || answered[1].GetFinal() == nil {
				t.Errorf("%v after %v, expected field %s", err, answered, tc.field)
			}
		})
	}
	// A tag of a submission that has no answer yet.
	w.holding = true
	c := h.talk(t, context.Background())
	c.say(1, good)
	c.say(1, good)
	if got := c.hear(1); codeOf(got[1]) != codes.Unavailable {
		t.Errorf("answer %v", got[1])
	}
	if _, err := c.rpc.Recv(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "submissions[0].tag") {
		t.Errorf("a tag that waits for its answer, again: %v", err)
	}
}

// TestStreamQuota: whose quota is used up is told so for each statement; the
// stream goes on.
func TestStreamQuota(t *testing.T) {
	w := newWorld(t)
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	h := newHouse(t, w, func(c *Config) {
		c.Settings.Quota.Address = &config.GatewayRate{PerMinute: 60, Burst: 3}
		c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		w.now = c.Now
	})
	w.startTrial()
	c := h.talk(t, context.Background()) // the opening counts too
	list := w.series(4)
	c.say(1, list...)
	got := c.hear(4)
	for tag, a := range got {
		if tag <= 2 {
			if a.GetFinal() == nil {
				t.Errorf("statement %d: %v", tag, a.GetError())
			}
		} else if codeOf(a) != codes.ResourceExhausted || retryOf(status.FromProto(a.GetError())) != time.Second {
			t.Errorf("statement %d: %v", tag, a.GetError())
		}
	}
	mu.Lock()
	now = now.Add(2 * time.Second)
	mu.Unlock()
	c.say(3, list[2:]...)
	if got := c.hear(2); got[3].GetFinal() == nil || got[4].GetFinal() == nil {
		t.Errorf("after two seconds: %v", got)
	}
	c.end()
}

// TestStreamOrganisationQuota: a limit for organisations holds in streams too,
// and what is certain not to be new is given back.
func TestStreamOrganisationQuota(t *testing.T) {
	w := newWorld(t)
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	h := newHouse(t, w, func(c *Config) {
		c.Settings.Quota.Organisation = &config.GatewayRate{PerMinute: 1, Burst: 2}
		c.Now = func() time.Time { return now }
		w.now = c.Now
	})
	w.startTrial()
	list := w.series(3)
	c := h.talk(t, context.Background())
	for i, want := range []struct {
		s    *trialogv1.SubmitRequest
		code codes.Code
	}{
		{list[0], codes.OK},
		{list[0], codes.OK},
		{list[2], codes.Aborted},
		{list[2], codes.Aborted},
		{&trialogv1.SubmitRequest{Envelope: []byte("{}")}, codes.InvalidArgument},
		{list[1], codes.OK},
		{list[2], codes.ResourceExhausted},
	} {
		c.say(1, want.s)
		if got := c.hear(1); codeOf(got[1]) != want.code {
			t.Errorf("submission %d: %v, expected %v", i, got[1].GetError(), want.code)
		}
	}
	c.end()
}
