package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/client/clienttest"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
)

// series is n signed statements that continue each other.
func (f *fixture) series(n int) []*client.Submission {
	f.t.Helper()
	ctx := context.Background()
	chain, err := f.Chain(ctx, f.key.ID(), trial)
	if err != nil {
		f.t.Fatal(err)
	}
	named, beacon, err := f.Beacon(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	link := chain.Next()
	list := make([]*client.Submission, n)
	for i := range list {
		s := milestone()
		s.Log, s.Organisation, s.Chain, s.Beacon = clienttest.Name, org, link, named
		s.Subject, s.Digest = statement.SubjectStatement, chain.Trial
		s.Signers = []statement.Signer{{Key: f.key.ID(), Meaning: statement.Authorship, At: "2026-03-02T10:00:00Z"}}
		payload, err := statement.Build(&s)
		if err != nil {
			f.t.Fatal(err)
		}
		env, err := statement.Sign(payload, f.key)
		if err != nil {
			f.t.Fatal(err)
		}
		link = statement.Link{Number: link.Number + 1, Previous: s.Identity(payload)}
		list[i] = &client.Submission{Envelope: env.Bytes(), Beacon: beacon}
	}
	return list
}

// stream opens a stream to the fixture's log; change may alter how.
func (f *fixture) stream(change ...func(*client.StreamConfig)) *client.Stream {
	f.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	stop := f.log.ServeStreams(listener)
	f.t.Cleanup(stop)
	cfg := client.StreamConfig{
		Address: listener.Addr().String(), Token: clienttest.Token, Policy: f.policy, Now: time.Now,
		Retry: client.Retry{For: time.Hour, Base: time.Millisecond, Max: 2 * time.Millisecond},
	}
	for _, c := range change {
		c(&cfg)
	}
	s, err := client.NewStream(context.Background(), cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = s.Close() })
	return s
}

// all sends submissions, and returns their results in the order of sending.
func all(t *testing.T, s *client.Stream, list []*client.Submission) []*client.Result {
	t.Helper()
	var sending sync.WaitGroup
	sending.Go(func() {
		for _, x := range list {
			if err := s.Send(context.Background(), x); err != nil {
				t.Errorf("send: %v", err)
			}
		}
	})
	results := make([]*client.Result, len(list))
	for range list {
		r, err := s.Recv(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		at := slices.Index(list, r.Submission)
		if at < 0 || results[at] != nil {
			t.Fatalf("a result of submission %d", at)
		}
		results[at] = r
	}
	sending.Wait()
	return results
}

// TestStream: receipts that are byte for byte those of Receipt, promises,
// refusals, and an end.
func TestStream(t *testing.T) {
	f := newFixture(t)
	s := f.stream()
	list := f.series(4)
	list[1].Wait = client.Pending
	results := all(t, s, list[:3])
	for i, r := range results {
		if r.Err != nil {
			t.Fatalf("statement %d: %v", i, r.Err)
		}
		if a := r.Acknowledgement; a.Index != uint64(i+2) || (a.Promise != nil) != (i == 1) || (a.Verdict != nil) == (i == 1) {
			t.Errorf("statement %d: %+v", i, a)
		}
	}
	again := all(t, s, []*client.Submission{list[0]})[0].Acknowledgement
	whole, err := f.Receipt(context.Background(), again.Identity)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Duplicate || !bytes.Equal(again.Receipt, whole.Receipt) || again.TreeSize != 5 {
		t.Errorf("the same statement again: %+v", again)
	}
	// A chain with a hole.
	hole := f.series(2)[1]
	refused, ok := errors.AsType[*client.Problem](all(t, s, []*client.Submission{hole})[0].Err)
	if !ok || refused.Status != http.StatusConflict || refused.Head == nil || refused.Head.Number != 4 ||
		refused.Field != "envelope.payload.predicate.chain" || refused.Temporary() {
		t.Errorf("a hole in the chain: %+v", refused)
	}
	s.CloseSend()
	if r, err := s.Recv(context.Background()); !errors.Is(err, io.EOF) {
		t.Errorf("behind the last one: %v, %v", r, err)
	}
	if err := s.Send(context.Background(), list[0]); !errors.Is(err, client.ErrClosed) {
		t.Errorf("Send behind CloseSend: %v", err)
	}
}

// TestStreamInclusionOnly checks inclusion and makes no file.
func TestStreamInclusionOnly(t *testing.T) {
	f := newFixture(t)
	s := f.stream(func(c *client.StreamConfig) { c.Check = client.InclusionOnly })
	for i, r := range all(t, s, f.series(20)) {
		if a := r.Acknowledgement; r.Err != nil || a.Index != uint64(i+2) || a.TreeSize <= a.Index || a.Leaf == [32]byte{} || a.Receipt != nil {
			t.Errorf("statement %d: %+v, %v", i, a, r.Err)
		}
	}
}

// TestStreamConverges: however often the connection breaks behind a message that
// was stored, each statement is one entry.
func TestStreamConverges(t *testing.T) {
	f := newFixture(t)
	cuts := 0
	f.log.OnStream(func(*trialogv1.SubmitStreamRequest, *trialogv1.SubmitStreamResponse) error {
		cuts++
		if cuts%2 == 1 && cuts < 10 {
			return status.Error(codes.Unavailable, "cut")
		}
		return nil
	})
	before := f.log.Size()
	list := f.series(300) // more than one message
	for i, r := range all(t, f.stream(), list) {
		if r.Err != nil || r.Acknowledgement.Index != uint64(before+i) {
			t.Fatalf("statement %d: %+v, %v", i, r.Acknowledgement, r.Err)
		}
	}
	if f.log.Size() != before+300 || cuts < 4 {
		t.Errorf("%d entries, %d connections", f.log.Size(), cuts)
	}
}

// TestStreamAnswersThatPass: what the log answers to have an unknown outcome is
// sent again; that it is busy is for the caller to know.
func TestStreamAnswersThatPass(t *testing.T) {
	for _, tc := range []struct {
		code  codes.Code
		again bool
	}{
		{codes.Unavailable, true},
		{codes.DeadlineExceeded, true},
		{codes.Internal, true},
		{codes.ResourceExhausted, false},
		{codes.PermissionDenied, false},
		{codes.InvalidArgument, false},
	} {
		f := newFixture(t)
		n := 0
		f.log.OnStream(func(_ *trialogv1.SubmitStreamRequest, m *trialogv1.SubmitStreamResponse) error {
			n++
			if n > 2 {
				return nil
			}
			for _, a := range m.GetAnswers() {
				s, _ := status.New(tc.code, "not \x1b[31mnow").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Millisecond)})
				a.Result = &trialogv1.StreamAnswer_Error{Error: s.Proto()}
			}
			m.Parts = nil
			return nil
		})
		r := all(t, f.stream(), f.series(1))[0]
		if (r.Err == nil) != tc.again {
			// The parts that the hook took away make the log's later answers refer to
			// nothing: only that it was sent again counts here.
			if _, untrue := errors.AsType[*client.UntrueError](r.Err); !untrue || !tc.again {
				t.Errorf("%v: %v", tc.code, r.Err)
			}
		}
		if p, ok := errors.AsType[*client.Problem](r.Err); ok && (p.RetryAfter != time.Millisecond || strings.Contains(p.Detail, "\x1b")) {
			t.Errorf("%v: %+v", tc.code, p)
		}
		if (n > 1) != tc.again {
			t.Errorf("%v: sent %d times", tc.code, n)
		}
	}
}

// TestStreamGivesUp: without time for retries, what has no answer is handed out as
// unknown.
func TestStreamGivesUp(t *testing.T) {
	f := newFixture(t)
	f.log.OnStream(func(*trialogv1.SubmitStreamRequest, *trialogv1.SubmitStreamResponse) error {
		return status.Error(codes.Unavailable, "cut")
	})
	once := func(c *client.StreamConfig) { c.Retry.For = 0 }
	for i, r := range all(t, f.stream(once), f.series(3)) {
		if !client.Unreachable(r.Err) {
			t.Errorf("statement %d: %+v, %v", i, r.Acknowledgement, r.Err)
		}
	}
	nobody := func(c *client.StreamConfig) { once(c); c.Address = "127.0.0.1:1" }
	for _, r := range all(t, f.stream(nobody), f.series(2)) {
		if !client.Unreachable(r.Err) {
			t.Errorf("nobody there: %v", r.Err)
		}
	}
	// What ends the stream for good is said of each.
	f.log.OnStream(func(*trialogv1.SubmitStreamRequest, *trialogv1.SubmitStreamResponse) error {
		return status.Error(codes.Unauthenticated, "the token is not known")
	})
	s := f.stream()
	p, ok := errors.AsType[*client.Problem](all(t, s, f.series(1))[0].Err)
	if !ok || p.Status != http.StatusUnauthorized {
		t.Errorf("a token that is not known: %v", p)
	}
	if err := s.Send(context.Background(), f.series(1)[0]); !errors.As(err, &p) {
		t.Errorf("Send behind that: %v", err)
	}
}

// TestStreamLies: nothing that is not so is handed out.
func TestStreamLies(t *testing.T) {
	final := func(m *trialogv1.SubmitStreamResponse) *trialogv1.StreamFinal { return m.GetAnswers()[0].GetFinal() }
	type lie struct {
		tell func(m *trialogv1.SubmitStreamResponse)
		// full: only a full check finds it.
		full bool
	}
	for name, tc := range map[string]lie{
		"wrong path":     {func(m *trialogv1.SubmitStreamResponse) { final(m).Proof.Path[0] ^= 1 }, false},
		"other index":    {func(m *trialogv1.SubmitStreamResponse) { final(m).Proof.Index-- }, false},
		"other time":     {func(m *trialogv1.SubmitStreamResponse) { final(m).ReceivedMs++ }, false},
		"missing part":   {func(m *trialogv1.SubmitStreamResponse) { m.Parts = m.GetParts()[:1] }, false},
		"number wrong":   {func(m *trialogv1.SubmitStreamResponse) { m.Parts[0].Number = 7 }, false},
		"unknown tag":    {func(m *trialogv1.SubmitStreamResponse) { m.Answers[0].Tag = 99 }, false},
		"tag twice":      {func(m *trialogv1.SubmitStreamResponse) { m.Answers[0].Result = nil }, false},
		"without quorum": {func(m *trialogv1.SubmitStreamResponse) { m.Parts[0] = uncosigned(m.GetParts()[0]) }, false},
		"empty part":     {func(m *trialogv1.SubmitStreamResponse) { m.Parts[0].Part = nil }, false},
		"an OK error":    {func(m *trialogv1.SubmitStreamResponse) { m.Answers[0].Result = &trialogv1.StreamAnswer_Error{} }, false},
		"no beacon":      {func(m *trialogv1.SubmitStreamResponse) { final(m).Beacon = 0 }, true},
		"no enrolment":   {func(m *trialogv1.SubmitStreamResponse) { final(m).Enrolments = nil }, true},
		"another's entry": {func(m *trialogv1.SubmitStreamResponse) {
			final(m).Entry, final(m).Duplicate = m.GetParts()[2].GetEnrolment().GetEntry(), true
		}, false},
		"a promise": {func(m *trialogv1.SubmitStreamResponse) {
			m.Answers[0].Result = &trialogv1.StreamAnswer_Pending{Pending: &trialogv1.StreamPending{Index: 2, Promise: []byte("{}")}}
		}, false},
	} {
		for _, check := range []client.Check{client.Full, client.InclusionOnly} {
			f := newFixture(t)
			f.log.OnStream(func(_ *trialogv1.SubmitStreamRequest, m *trialogv1.SubmitStreamResponse) error {
				tc.tell(m)
				return nil
			})
			s := f.stream(func(c *client.StreamConfig) { c.Check = check })
			r := all(t, s, f.series(1))[0]
			_, untrue := errors.AsType[*client.UntrueError](r.Err)
			if want := check == client.Full || !tc.full; untrue != want || untrue == (r.Acknowledgement != nil) {
				t.Errorf("%s, check %d: %+v, %v", name, check, r.Acknowledgement, r.Err)
			}
		}
	}
}

// uncosigned takes the last signature line off a checkpoint, and the one before.
func uncosigned(p *trialogv1.ReceiptPart) *trialogv1.ReceiptPart {
	text := strings.TrimSpace(p.GetCheckpoint())
	for range 2 {
		text = strings.TrimSpace(text[:strings.LastIndex(text, "\n")])
	}
	return &trialogv1.ReceiptPart{Number: p.GetNumber(), Part: &trialogv1.ReceiptPart_Checkpoint{Checkpoint: text + "\n"}}
}

// TestStreamBeacon: the note goes along until it was taken, and not after.
func TestStreamBeacon(t *testing.T) {
	f := newFixture(t)
	var carried []bool
	f.log.OnStream(func(req *trialogv1.SubmitStreamRequest, _ *trialogv1.SubmitStreamResponse) error {
		for _, s := range req.GetSubmissions() {
			carried = append(carried, s.GetBeacon() != "")
		}
		return nil
	})
	s := f.stream()
	for _, x := range f.series(3) {
		if r := all(t, s, []*client.Submission{x})[0]; r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if !slices.Equal(carried, []bool{true, false, false}) {
		t.Errorf("the beacon went along: %v", carried)
	}
}

// TestStreamWindow: Send waits while the window is full, and for no longer than
// its context.
func TestStreamWindow(t *testing.T) {
	f := newFixture(t)
	s := f.stream(func(c *client.StreamConfig) { c.Window = 2 })
	list := f.series(3)
	ctx, cancel := context.WithCancel(context.Background())
	for _, x := range list[:2] {
		if err := s.Send(ctx, x); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := s.Send(ctx, list[2]); !errors.Is(err, context.Canceled) {
		t.Errorf("Send into a full window: %v", err)
	}
	if _, err := s.Recv(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Recv: %v", err)
	}
}

// TestStreamClose answers what is open, and leaves nothing running.
func TestStreamClose(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	f := newFixture(t)
	defer f.server.Close()
	arrived, release := make(chan struct{}), make(chan struct{})
	f.log.OnStream(func(*trialogv1.SubmitStreamRequest, *trialogv1.SubmitStreamResponse) error {
		close(arrived)
		<-release
		return nil
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := f.log.ServeStreams(listener)
	s, err := client.NewStream(context.Background(), client.StreamConfig{Address: listener.Addr().String(), Policy: f.policy, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(context.Background(), f.series(1)[0]); err != nil {
		t.Fatal(err)
	}
	<-arrived
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	r, err := s.Recv(context.Background())
	if err != nil || !client.Unreachable(r.Err) {
		t.Errorf("what was open: %v, %v", r, err)
	}
	if _, err := s.Recv(context.Background()); !errors.Is(err, io.EOF) {
		t.Errorf("behind it: %v", err)
	}
	close(release)
	stop()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// TestNewStreamRefuses names what is wrong.
func TestNewStreamRefuses(t *testing.T) {
	f := newFixture(t)
	for want, cfg := range map[string]client.StreamConfig{
		"address":   {Policy: f.policy, Now: time.Now},
		"no policy": {Address: "localhost:1", Now: time.Now},
		"no clock":  {Address: "localhost:1", Policy: f.policy},
		"TLS":       {Address: "log.example.org:443", Policy: f.policy, Now: time.Now, Token: "t"},
	} {
		if _, err := client.NewStream(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestSubmitBatch answers each statement for itself.
func TestSubmitBatch(t *testing.T) {
	f := newFixture(t)
	list := f.series(4)
	list[1].Wait = client.Pending
	hole := list[3]
	results, err := f.SubmitBatch(context.Background(), []*client.Submission{list[0], list[1], hole, list[2]})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		p, refused := errors.AsType[*client.Problem](r.Err)
		if refused != (i == 2) || refused && (p.Status != http.StatusConflict || p.Head == nil || p.Head.Number != 3) {
			t.Errorf("statement %d: %v", i, r.Err)
		}
		if !refused && (r.Acknowledgement.Promise != nil) != (i == 1) {
			t.Errorf("statement %d: %+v", i, r.Acknowledgement)
		}
	}
	for _, lie := range []clienttest.Fault{
		clienttest.LieOther, clienttest.LieIndex, clienttest.LieUnwitnessed, clienttest.LieForged, clienttest.LieIdentity,
	} {
		f.log.Script(clienttest.None, lie)
		results, err := f.SubmitBatch(context.Background(), list[:2])
		if _, untrue := errors.AsType[*client.UntrueError](results[1].Err); err != nil || results[0].Err != nil || !untrue {
			t.Errorf("%s: %v, %v, %v", lie, err, results[0].Err, results[1].Err)
		}
	}
	for _, n := range []int{0, client.MaxBatch + 1} {
		if _, err := f.SubmitBatch(context.Background(), make([]*client.Submission, n)); err == nil {
			t.Errorf("%d statements were sent", n)
		}
	}
	if _, err := f.dial(nil, 0).SubmitBatch(context.Background(), list); !errors.Is(err, client.ErrNoPolicy) {
		t.Errorf("without a policy: %v", err)
	}
	for name, body := range map[string]string{
		"fewer": `{"results":[]}`, "an empty one": `{"results":[{}]}`, "an OK error": `{"results":[{"error":{}}]}`,
	} {
		c := f.through(t, at("/v1/statements:batch", body))
		results, err := c.SubmitBatch(context.Background(), list[:1])
		if err == nil {
			err = results[0].Err
		}
		if _, untrue := errors.AsType[*client.UntrueError](err); !untrue {
			t.Errorf("%s: %v", name, err)
		}
	}
}
