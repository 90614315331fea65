package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
)

// batchJSON is a SubmitBatchResponse in JSON.
type batchJSON struct {
	Results []struct {
		Submitted *submittedJSON `json:"submitted"`
		Error     *struct {
			Code    int              `json:"code"`
			Message string           `json:"message"`
			Details []map[string]any `json:"details"`
		} `json:"error"`
	} `json:"results"`
}

func batchBody(list ...*trialogv1.SubmitRequest) map[string]any {
	items := make([]any, len(list))
	for i, s := range list {
		items[i] = submitBody(s)
	}
	return map[string]any{"submissions": items}
}

// TestBatch: one chain in its order, a statement that was refused does not touch
// the others, and the same call again gives the same entries.
func TestBatch(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	list := w.series(5)
	list[2].Wait = trialogv1.Wait_WAIT_PENDING
	list = slices.Insert(list, 1, &trialogv1.SubmitRequest{Envelope: []byte("{}")})
	first, err := h.rpc.SubmitBatch(context.Background(), &trialogv1.SubmitBatchRequest{Submissions: list})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range first.GetResults() {
		if i == 1 {
			if r.GetError().GetCode() != int32(codes.InvalidArgument) {
				t.Errorf("result 1 is %v", r)
			}
			continue
		}
		at := uint64(i + 3 - min(i, 1))
		if got := r.GetSubmitted(); got.GetIndex() != at || got.GetDuplicate() || (len(got.GetReceipt()) > 0) == (i == 3) {
			t.Errorf("result %d is of index %d, expected %d: %v", i, got.GetIndex(), at, r.GetError())
		}
	}
	var again batchJSON
	h.post("/v1/statements:batch", batchBody(list...)).want(t, 200, &again)
	for i, r := range again.Results {
		if i != 1 && (r.Submitted == nil || !r.Submitted.Duplicate ||
			r.Submitted.Index != strconv.FormatUint(first.GetResults()[i].GetSubmitted().GetIndex(), 10)) {
			t.Errorf("the same statement %d again: %+v", i, r)
		}
	}
	if w.size() != 8 {
		t.Errorf("%d entries, expected 8", w.size())
	}
}

// TestBatchReceipts: what was sent in parts is, byte for byte, what Submit gives.
func TestBatchReceipts(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	list := w.series(3)
	batch, err := h.rpc.SubmitBatch(context.Background(), &trialogv1.SubmitBatchRequest{Submissions: list})
	if err != nil {
		t.Fatal(err)
	}
	again, err := h.rpc.SubmitBatch(context.Background(), &trialogv1.SubmitBatchRequest{Submissions: append(list, w.resigned(list[0]))})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range append(list, w.resigned(list[0])) {
		whole, err := h.rpc.Submit(context.Background(), s)
		if err != nil {
			t.Fatal(err)
		}
		got := again.GetResults()[i].GetSubmitted()
		if !bytes.Equal(got.GetReceipt(), whole.GetReceipt()) || got.GetIndex() != whole.GetIndex() || got.GetIdentity() != whole.GetIdentity() {
			t.Errorf("statement %d: the receipts differ: %v", i, again.GetResults()[i].GetError())
		}
	}
	if batch.GetResults()[2].GetSubmitted().GetIndex() != 5 {
		t.Errorf("results %v", batch.GetResults())
	}
}

// TestBatchErrorsAreReadable: every error of a statement over REST says what is
// wrong, where, and what to do.
func TestBatchErrorsAreReadable(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	good := w.series(3)
	var got batchJSON
	h.post("/v1/statements:batch", batchBody(
		&trialogv1.SubmitRequest{Envelope: []byte{}},
		&trialogv1.SubmitRequest{Envelope: good[0].GetEnvelope(), Beacon: strings.Repeat("x", maxBeacon+1)},
		good[1], // the chain has a hole
		&trialogv1.SubmitRequest{Envelope: []byte(`{"payload":1}`)},
		good[0],
	)).want(t, 200, &got)
	for i, want := range []struct {
		code  codes.Code
		field string
		types []string
	}{
		{codes.InvalidArgument, "envelope", []string{"google.rpc.BadRequest"}},
		{codes.InvalidArgument, "beacon", []string{"google.rpc.BadRequest"}},
		{codes.Aborted, "envelope.payload.predicate.chain", []string{"google.rpc.BadRequest", "trialog.v1.ChainHead"}},
		{codes.InvalidArgument, "envelope.payloadType", []string{"google.rpc.BadRequest"}},
	} {
		e := got.Results[i].Error
		if e == nil || e.Code != int(want.code) || e.Message == "" || len(e.Details) != len(want.types) {
			t.Errorf("result %d: %+v", i, e)
			continue
		}
		for j, name := range want.types {
			if e.Details[j]["@type"] != "type.googleapis.com/"+name {
				t.Errorf("result %d: detail %v, expected a %s", i, e.Details[j], name)
			}
		}
		raw, err := json.Marshal(e.Details[0])
		if err != nil {
			t.Fatal(err)
		}
		var bad struct{ FieldViolations []problemFieldJSON }
		if err := json.Unmarshal(raw, &bad); err != nil || len(bad.FieldViolations) != 1 || bad.FieldViolations[0].Field != want.field ||
			bad.FieldViolations[0].Description == "" {
			t.Errorf("result %d: violations %s, expected field %s", i, raw, want.field)
		}
	}
	if got.Results[4].Submitted == nil {
		t.Errorf("the good statement: %+v", got.Results[4].Error)
	}
}

type problemFieldJSON struct{ Field, Description string }

// TestBatchLimits: each limit of the whole call, over both interfaces.
func TestBatchLimits(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	good := w.protocol([]byte("p"))
	many := make([]*trialogv1.SubmitRequest, maxBatch+1)
	for i := range many {
		many[i] = good
	}
	for name, tc := range map[string]struct {
		body   any
		status int
		field  string
	}{
		"none":           {map[string]any{"submissions": []any{}}, 400, "submissions"},
		"no list":        {map[string]any{}, 400, "submissions"},
		"129":            {batchBody(many...), 400, "submissions"},
		"an unknown one": {`{"submissions":[{"envelop":"e30="}]}`, 400, "submissions[0].envelop"},
		"no object":      {`{"submissions":["e30="]}`, 400, "submissions[0]"},
		"a number":       {`{"submissions":[{"wait":2}]}`, 400, "submissions[0].wait"},
		"a long body":    {`{"submissions":[{"beacon":"` + strings.Repeat("x", maxBatchBody) + `"}]}`, 413, "body"},
	} {
		if got := h.post("/v1/statements:batch", tc.body); got.status != tc.status || got.problem.Field != tc.field {
			t.Errorf("%s: %d, field %q: %.200s", name, got.status, got.problem.Field, got.body)
		}
	}
	for _, n := range []int{0, maxBatch + 1} {
		_, err := h.rpc.SubmitBatch(context.Background(), &trialogv1.SubmitBatchRequest{Submissions: many[:n]})
		if s := status.Convert(err); s.Code() != codes.InvalidArgument || !strings.Contains(s.Message(), "submissions: expected 1 to 128") {
			t.Errorf("%d submissions: %v", n, err)
		}
	}
	if w.size() != 3 || w.calls["AddStream"] != 0 {
		t.Errorf("%d entries, the sequencer was asked %d times", w.size(), w.calls["AddStream"])
	}
	h.post("/v1/statements:batch", batchBody(many[:maxBatch]...)).want(t, 200, nil)
}

// TestBatchQuota counts each statement of a batch.
func TestBatchQuota(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, func(c *Config) {
		c.Settings.Quota.Address = &config.GatewayRate{PerMinute: 60, Burst: 3}
		c.Now = func() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) }
		w.now = c.Now
	})
	w.startTrial()
	got, err := h.rpc.SubmitBatch(context.Background(), &trialogv1.SubmitBatchRequest{Submissions: w.series(5)})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range got.GetResults() {
		if i < 3 {
			if r.GetSubmitted() == nil {
				t.Errorf("statement %d: %v", i, r.GetError())
			}
			continue
		}
		s := status.FromProto(r.GetError())
		if s.Code() != codes.ResourceExhausted || retryOf(s) != time.Second {
			t.Errorf("statement %d: %v", i, s)
		}
	}
}

func retryOf(s *status.Status) time.Duration {
	for _, d := range s.Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return r.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// TestBatchOrganisationQuota: what is certain not to be new is given back.
func TestBatchOrganisationQuota(t *testing.T) {
	w := newWorld(t)
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	h := newHouse(t, w, func(c *Config) {
		c.Settings.Quota.Organisation = &config.GatewayRate{PerMinute: 1, Burst: 2}
		c.Now = func() time.Time { return now }
		w.now = c.Now
	})
	w.startTrial()
	list := w.series(3)
	one := func(s *trialogv1.SubmitRequest) codes.Code {
		got, err := h.rpc.SubmitBatch(context.Background(), &trialogv1.SubmitBatchRequest{Submissions: []*trialogv1.SubmitRequest{s}})
		if err != nil {
			return status.Code(err)
		}
		return codes.Code(got.GetResults()[0].GetError().GetCode())
	}
	for range 3 {
		if again, hole := one(list[0]), one(list[2]); again != codes.OK || hole != codes.Aborted {
			t.Fatalf("a known statement ended with %v, one that is out of place with %v", again, hole)
		}
	}
	if code := one(list[1]); code != codes.OK {
		t.Errorf("the second new statement: %v", code)
	}
	if code := one(list[2]); code != codes.ResourceExhausted {
		t.Errorf("the third new statement: %v", code)
	}
}

// TestBatchFirstEnrolment is granted as Submit grants it, and nobody else's.
func TestBatchFirstEnrolment(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	enrolment := w.enrolment("new-org", testKey(t, "new"), testKey(t, "other"), statement.Sponsor)
	list := []*trialogv1.SubmitRequest{w.protocol([]byte("a")), enrolment}
	stranger := func(list []*trialogv1.SubmitRequest) *status.Status {
		t.Helper()
		got, err := h.rpc.SubmitBatch(context.Background(), &trialogv1.SubmitBatchRequest{Submissions: list})
		if err != nil {
			t.Fatal(err)
		}
		return status.FromProto(got.GetResults()[1].GetError())
	}
	if s := stranger(list); s.Code() != codes.Unauthenticated || !strings.Contains(s.Message(), "enrol") {
		t.Errorf("a stranger got %v", s)
	}
	got, err := h.rpc.SubmitBatch(withToken(tokenEnrol), &trialogv1.SubmitBatchRequest{
		Submissions: []*trialogv1.SubmitRequest{enrolment, w.protocol([]byte("b"))},
	})
	if err != nil || got.GetResults()[0].GetSubmitted() == nil || got.GetResults()[1].GetSubmitted() == nil {
		t.Errorf("with a token: %v, %v", got.GetResults(), err)
	}
	if s := stranger(list); s.Code() != codes.OK {
		t.Errorf("a stranger who sends the same again got %v", s)
	}
	// A sequencer that lets in what nobody granted is not believed.
	w.before = func(rpc string, req any) error {
		if m, ok := req.(*trialogv1.AddStreamRequest); ok {
			m.GrantedRoles = []string{"sponsor"}
		}
		return nil
	}
	list[1] = w.enrolment("third-org", testKey(t, "third"), testKey(t, "other"), statement.Sponsor)
	if s := stranger(list); s.Code() != codes.Unauthenticated || !strings.Contains(h.logs.String(), "nobody granted") {
		t.Errorf("a stranger got %v", s)
	}
}

// TestBatchAsAWhole: if nothing was taken in and all for one passing reason, HTTP
// says so; else each statement does.
func TestBatchAsAWhole(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	list := w.series(2)
	answer := func(code codes.Code, n int) func(string, any) error {
		return func(rpc string, resp any) error {
			m, ok := resp.(*trialogv1.AddStreamResponse)
			if !ok {
				return nil
			}
			for _, a := range m.GetSubmitted().GetAnswers()[:n] {
				s, _ := status.New(code, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)})
				a.Result = &trialogv1.StreamAnswer_Error{Error: s.Proto()}
			}
			return nil
		}
	}
	for _, tc := range []struct {
		code   codes.Code
		n      int
		status int
		after  string
	}{
		{codes.ResourceExhausted, 2, 429, "7"},
		{codes.Unavailable, 2, 503, "7"},
		{codes.Canceled, 2, 503, "1"},
		{codes.Internal, 2, 200, ""},
		{codes.ResourceExhausted, 1, 200, ""},
	} {
		w.after = answer(tc.code, tc.n)
		got := h.post("/v1/statements:batch", batchBody(list...))
		if got.status != tc.status || got.header.Get("Retry-After") != tc.after || strings.Contains(string(got.body), "sequencer") {
			t.Errorf("%d times %v: %d, Retry-After %q: %.300s", tc.n, tc.code, got.status, got.header.Get("Retry-After"), got.body)
		}
	}
	// A stream that breaks leaves every statement's outcome open.
	for name, end := range map[string]error{
		"gone":     status.Error(codes.Unavailable, "connection refused to 10.0.0.1"),
		"panicked": status.Error(codes.Internal, "postgres: connection lost"),
		"old":      status.Error(codes.Unimplemented, "unknown method"),
		"denied":   status.Error(codes.PermissionDenied, "mTLS"),
	} {
		w.before = func(rpc string, req any) error {
			if rpc == "AddStream message" {
				return end
			}
			return nil
		}
		got := h.post("/v1/statements:batch", batchBody(list...)).want(t, 503, nil)
		if got.header.Get("Retry-After") == "" || strings.ContainsAny(got.problem.Detail, "0123456789") || strings.Contains(got.problem.Detail, "postgres") {
			t.Errorf("%s: %s", name, got.body)
		}
	}
	w.before, w.after = nil, nil
	h.post("/v1/statements:batch", batchBody(list...)).want(t, 200, nil)
	if w.size() != 5 {
		t.Errorf("%d entries, expected 5", w.size())
	}
}

// TestBatchLate: an answer that does not come in time leaves the outcome open.
func TestBatchLate(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, func(c *Config) { c.Limits.CallTimeout = 50 * time.Millisecond })
	w.startTrial()
	w.holding = true
	got, err := h.rpc.SubmitBatch(context.Background(), &trialogv1.SubmitBatchRequest{Submissions: w.series(2)})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range got.GetResults() {
		if s := status.FromProto(r.GetError()); s.Code() != codes.DeadlineExceeded || retryOf(s) == 0 {
			t.Errorf("statement %d: %v", i, s)
		}
	}
}

// TestOverload: whoever finds the door full is told so at once, in the same way
// for every call.
func TestOverload(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, func(c *Config) { c.Limits.Calls, c.Limits.Batches = 1, 1 })
	w.startTrial()
	inside, release := make(chan struct{}), make(chan struct{})
	w.before = func(rpc string, _ any) error {
		if rpc == "Head" {
			close(inside)
			<-release
		}
		return nil
	}
	first := make(chan int, 1)
	go func() { first <- h.request("GET", "/v1/log", nil).status }()
	<-inside
	for path, body := range map[string]any{
		"/v1/statements": submitBody(w.protocol([]byte("p"))), "/v1/statements:batch": batchBody(w.protocol([]byte("p"))),
	} {
		got := h.post(path, body)
		if got.status != 429 || got.header.Get("Retry-After") != "1" {
			t.Errorf("%s: %d, Retry-After %q", path, got.status, got.header.Get("Retry-After"))
		}
	}
	close(release)
	if got := <-first; got != 200 {
		t.Errorf("the first call ended with %d", got)
	}
	h.post("/v1/statements:batch", batchBody(w.protocol([]byte("p")))).want(t, 200, nil)
	leave, err := h.g.batches.enter("")
	if err != nil {
		t.Fatal(err)
	}
	if got := h.post("/v1/statements:batch", batchBody(w.protocol([]byte("q")))); got.status != 429 {
		t.Errorf("a second batch on its way: %d", got.status)
	}
	leave()
	h.post("/v1/statements:batch", batchBody(w.protocol([]byte("q")))).want(t, 200, nil)
}

// TestRetryHint: what the sequencer says about when to come back is passed on,
// and trouble with its database is never called the caller's.
func TestRetryHint(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	body := submitBody(w.protocol([]byte("p")))
	for _, tc := range []struct {
		code   codes.Code
		retry  time.Duration
		status int
		after  string
	}{
		{codes.ResourceExhausted, 9 * time.Second, 429, "9"},
		{codes.Unavailable, 9 * time.Second, 503, "9"},
		{codes.ResourceExhausted, 0, 429, "1"},
		{codes.Unavailable, 0, 503, "1"},
		{codes.Internal, 0, 500, ""},
		{codes.Unknown, 0, 500, ""},
		{codes.DataLoss, 0, 500, ""},
	} {
		s := status.New(tc.code, "pq: too many connections for role trillian")
		if tc.retry > 0 {
			s, _ = s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(tc.retry)})
		}
		w.before = func(string, any) error { return s.Err() }
		got := h.post("/v1/statements", body)
		if got.status != tc.status || got.header.Get("Retry-After") != tc.after {
			t.Errorf("%v: %d, Retry-After %q", tc.code, got.status, got.header.Get("Retry-After"))
		}
		if tc.code != codes.ResourceExhausted && strings.Contains(string(got.body), "trillian") {
			t.Errorf("%v: %s", tc.code, got.body)
		}
	}
}

// TestClock is what the sequencer says, and "unverified" if it says nothing.
func TestClock(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	var log struct{ Clock string }
	h.request("GET", "/v1/log", nil).want(t, 200, &log)
	if log.Clock != "unverified" {
		t.Errorf("clock %q", log.Clock)
	}
	w.after = func(_ string, resp any) error {
		if head, ok := resp.(*trialogv1.HeadResponse); ok {
			head.Clock = "verified"
		}
		return nil
	}
	h.request("GET", "/v1/log", nil).want(t, 200, &log)
	if log.Clock != "verified" {
		t.Errorf("clock %q", log.Clock)
	}
}

// TestBatchBody: a long chain of long statements fits.
func TestBatchBody(t *testing.T) {
	raw := base64.StdEncoding.EncodedLen(statement.MaxEnvelope)
	if n := maxBatch * 32 << 10; base64.StdEncoding.EncodedLen(n) > maxBatchBody || raw > maxBody {
		t.Errorf("a batch of %d envelopes of 32 KiB does not fit", maxBatch)
	}
}
