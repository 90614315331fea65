package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trialog/trialog/api/entry"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
)

// errCut is a connection that broke: the outcome is unknown.
var errCut = status.Error(codes.Unavailable, "connection reset")

func receiveBody(id, document string) map[string]any {
	return map[string]any{"requestId": id, "draft": protocolDraft(document)}
}

// receivedOf reads the statement that a receipt of grade received proves.
func receivedOf(t *testing.T, raw []byte) *statement.Statement {
	t.Helper()
	e, err := entry.Parse(parseReceipt(t, raw).Entry)
	if err != nil {
		t.Fatal(err)
	}
	_, s, err := statement.Parse(e.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type receivedJSON struct {
	Submitted submittedJSON `json:"submitted"`
}

func TestReceive(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	var first, second, again receivedJSON
	h.post("/v1/statements:receive", receiveBody("r1", "p1"), bearer(tokenReceive)).want(t, 200, &first)
	if first.Submitted.State != "STATE_FINAL" || first.Submitted.Duplicate {
		t.Errorf("got %+v", first.Submitted)
	}
	s := receivedOf(t, first.Submitted.Receipt)
	if s.Received == nil || s.Received.Request != statement.RequestDigest("jane.doe:site-canary", "r1") {
		t.Errorf("the request is not named: %+v", s.Received)
	}
	if at := string(s.Signers[0].At); len(at) != len("2006-01-02T15:04:05Z") || statement.CheckTime("at", s.Signers[0].At) != nil {
		t.Errorf("signed at %q", at)
	}
	if s.Grade() != statement.Received || s.Received.Principal != "jane.doe:site-canary" || s.Received.Method != "token" ||
		s.Organisation != testOrg || s.Writer() != w.gateway.ID() || s.Chain.Number != 1 || s.Beacon == nil {
		t.Errorf("statement is %+v", s)
	}
	h.post("/v1/statements:receive", receiveBody("r2", "p2"), bearer(tokenReceive)).want(t, 200, &second)
	if s := receivedOf(t, second.Submitted.Receipt); s.Chain.Number != 2 {
		t.Errorf("the second statement has number %d", s.Chain.Number)
	}
	h.post("/v1/statements:receive", receiveBody("r1", "p1"), bearer(tokenReceive)).want(t, 200, &again)
	if again.Submitted.Index != first.Submitted.Index || !again.Submitted.Duplicate {
		t.Errorf("repeated: %s, duplicate %v", again.Submitted.Index, again.Submitted.Duplicate)
	}
	got := h.post("/v1/statements:receive", receiveBody("r1", "p3"), bearer(tokenReceive)).want(t, 409, nil)
	if got.problem.Field != "requestId" {
		t.Errorf("field %q", got.problem.Field)
	}
	// Ids are unique per principal only.
	h.post("/v1/statements:receive", receiveBody("r1", "p3"), bearer(tokenReceive2)).want(t, 200, nil)
	if w.size() != 3+3 {
		t.Errorf("%d entries", w.size())
	}
}

// TestReceiveRecordWithoutRequest: a record that was written before statements
// named their request still is of the same draft; one that names another
// request is not.
func TestReceiveRecordWithoutRequest(t *testing.T) {
	for name, tc := range map[string]struct {
		request statement.Digest
		status  int
	}{
		"none":    {statement.Digest{}, 200},
		"its own": {statement.RequestDigest("jane.doe:site-canary", "r"), 200},
		"another": {statement.RequestDigest("jane.doe:site-canary", "s"), 409},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			h := newHouse(t, w)
			w.startTrial()
			rec, err := h.g.sign(context.Background(), &dispatch{
				draft: &trialogv1.Draft{
					Organisation: testOrg, Trial: testTrial, Kind: "protocol", MediaType: "application/pdf", DocumentSha256: hashed("p"),
				},
				received: statement.ReceptionInfo{Principal: "jane.doe:site-canary", Method: method, Request: tc.request},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := h.g.reception.box.save("jane.doe:site-canary/r", rec); err != nil {
				t.Fatal(err)
			}
			h.post("/v1/statements:receive", receiveBody("r", "p"), bearer(tokenReceive)).want(t, tc.status, nil)
			if sent := w.envelopes(); tc.status == 200 && !bytes.Equal(sent[0], rec.envelope) {
				t.Error("something else was sent than what was written down")
			}
		})
	}
}

func TestReceivePending(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	body := receiveBody("r", "p")
	body["wait"] = "WAIT_PENDING"
	var got receivedJSON
	h.post("/v1/statements:receive", body, bearer(tokenReceive)).want(t, 200, &got)
	if got.Submitted.State != "STATE_PENDING" || w.calls["Add"] != 1 {
		t.Errorf("%s after %d calls", got.Submitted.State, w.calls["Add"])
	}
	// What to wait for is no part of the draft.
	h.post("/v1/statements:receive", receiveBody("r", "p"), bearer(tokenReceive)).want(t, 200, &got)
	if got.Submitted.State != "STATE_FINAL" || !got.Submitted.Duplicate {
		t.Errorf("got %+v", got.Submitted)
	}
}

// TestReceiveSameDraft: every member of a draft counts, spelling does not.
func TestReceiveSameDraft(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	draft := func(change func(d map[string]any)) map[string]any {
		d := protocolDraft("p")
		d["version"], d["dates"] = "1", map[string]any{"a": "2026", "b": "2026-01-01"}
		d["attributes"] = map[string]any{"reason": "because", "scope": "all"}
		change(d)
		return map[string]any{"requestId": "r", "draft": d}
	}
	send := func(body any) int { return h.post("/v1/statements:receive", body, bearer(tokenReceive)).status }
	if got := send(draft(func(map[string]any) {})); got != 200 {
		t.Fatalf("status %d", got)
	}
	for name, same := range map[string]any{
		"again":                 draft(func(map[string]any) {}),
		"organisation left out": draft(func(d map[string]any) { delete(d, "organisation") }),
		"spelling":              draft(func(d map[string]any) { d["media_type"] = d["mediaType"]; delete(d, "mediaType") }),
	} {
		if got := send(same); got != 200 {
			t.Errorf("%s: status %d", name, got)
		}
	}
	for name, change := range map[string]func(d map[string]any){
		"trial":      func(d map[string]any) { d["trial"] = "T-2" },
		"kind":       func(d map[string]any) { d["kind"] = "sap"; delete(d["attributes"].(map[string]any), "scope") },
		"version":    func(d map[string]any) { d["version"] = "2" },
		"no version": func(d map[string]any) { delete(d, "version") },
		"document":   func(d map[string]any) { d["documentSha256"] = hashed("q") },
		"sealed":     func(d map[string]any) { d["documentCommitment"] = d["documentSha256"]; delete(d, "documentSha256") },
		"media type": func(d map[string]any) { d["mediaType"] = "text/plain" },
		"dates":      func(d map[string]any) { d["dates"] = map[string]any{"a": "2026"} },
		"attribute":  func(d map[string]any) { d["attributes"] = map[string]any{"reason": "why"} },
		"amends":     func(d map[string]any) { d["amends"] = hashed("x") },
		"supersedes": func(d map[string]any) { d["supersedes"] = hashed("x") },
	} {
		if got := send(draft(change)); got != 409 {
			t.Errorf("%s: status %d", name, got)
		}
	}
	if w.size() != 4 {
		t.Errorf("%d entries", w.size())
	}
}

// TestReceiveUnknownOutcome: whenever the connection to the sequencer breaks,
// before or behind the storing, and whether the gateway is restarted or not,
// the repeated request leads to one entry.
func TestReceiveUnknownOutcome(t *testing.T) {
	for _, restart := range []bool{false, true} {
		for _, stored := range []bool{false, true} {
			for _, call := range []int{1, 2} { // the PENDING call, the FINAL call
				t.Run(fmt.Sprintf("restart=%v,stored=%v,call=%d", restart, stored, call), func(t *testing.T) {
					w := newWorld(t)
					w.startTrial()
					state := filepath.Join(t.TempDir(), "state")
					keep := func(c *Config) { c.Settings.StateFile = state }
					h := newHouse(t, w, keep)
					n := 0
					cut := func(rpc string) error {
						if rpc != "Add" {
							return nil
						}
						n++
						if n == call {
							return errCut
						}
						return nil
					}
					if stored {
						w.after = func(rpc string, _ any) error { return cut(rpc) }
					} else {
						w.before = func(rpc string, _ any) error { return cut(rpc) }
					}
					got := h.post("/v1/statements:receive", receiveBody("r", "p"), bearer(tokenReceive)).want(t, 503, nil)
					if got.header.Get("Retry-After") == "" {
						t.Error("no Retry-After")
					}
					if restart {
						h.stop()
						h = newHouse(t, w, keep)
					}
					h.post("/v1/statements:receive", receiveBody("r", "other"), bearer(tokenReceive)).want(t, 409, nil)
					h.post("/v1/statements:receive", receiveBody("r", "p"), bearer(tokenReceive)).want(t, 200, nil)
					if w.size() != 4 {
						t.Errorf("%d entries, want 4", w.size())
					}
					sent := w.envelopes()
					for _, raw := range sent[1:] {
						if !bytes.Equal(raw, sent[0]) {
							t.Error("something else was sent the second time")
						}
					}
				})
			}
		}
	}
}

// TestReceiveCallerGone: a caller who hangs up and asks again gets the one entry.
func TestReceiveCallerGone(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	gone, cancel := context.WithCancel(withToken(tokenReceive))
	arrived := make(chan struct{})
	var once sync.Once
	w.before = func(rpc string, _ any) error {
		if rpc == "Add" {
			once.Do(func() { cancel(); close(arrived) })
		}
		return nil
	}
	req := &trialogv1.ReceiveRequest{RequestId: "r", Draft: &trialogv1.Draft{
		Trial: testTrial, Kind: "protocol", MediaType: "application/pdf", DocumentSha256: hashed("p"),
	}}
	if _, err := h.rpc.Receive(gone, req); status.Code(err) != codes.Canceled {
		t.Errorf("the call that was given up ended with %v", err)
	}
	<-arrived
	if _, err := h.rpc.Receive(withToken(tokenReceive), req); err != nil {
		t.Fatal(err)
	}
	if w.size() != 4 {
		t.Errorf("%d entries", w.size())
	}
}

// TestReceiveParallel: the same request many times at once is one entry;
// different ones of a trial keep one chain.
func TestReceiveParallel(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			got := h.post("/v1/statements:receive", receiveBody(fmt.Sprintf("r%d", i%4), fmt.Sprintf("p%d", i%4)), bearer(tokenReceive))
			if got.status != 200 {
				t.Errorf("status %d: %.300s", got.status, got.body)
			}
		})
	}
	all.Wait()
	if w.size() != 3+4 {
		t.Errorf("%d entries, want 7", w.size())
	}
	if n := w.chains[testTrial+" "+w.gateway.ID().String()].GetNumber(); n != 4 {
		t.Errorf("the chain has number %d", n)
	}
	signed := map[string]bool{}
	for _, raw := range w.envelopes() {
		signed[string(raw)] = true
	}
	if len(signed) != 4 {
		t.Errorf("%d statements were signed: they got into each other's way", len(signed))
	}
}

// TestReceiveChainMoved: another writer with the gateway's key was faster. The
// statement is signed anew, and the new one is durable before it is sent.
func TestReceiveChainMoved(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	moved := 0
	w.before = func(rpc string, _ any) error {
		if rpc != "Add" || moved == 2 {
			return nil
		}
		moved++
		w.mu.Lock()
		defer w.mu.Unlock()
		w.chains[testTrial+" "+w.gateway.ID().String()] = &trialogv1.GetChainResponse{
			Number: uint64(moved), Identity: hashed(strconv.Itoa(moved)),
		}
		return nil
	}
	var got receivedJSON
	h.post("/v1/statements:receive", receiveBody("r", "p"), bearer(tokenReceive)).want(t, 200, &got)
	if s := receivedOf(t, got.Submitted.Receipt); s.Chain.Number != 3 {
		t.Errorf("number %d", s.Chain.Number)
	}
	rec, err := h.g.reception.box.load("jane.doe:site-canary/r")
	sent := w.envelopes()
	if err != nil || !bytes.Equal(rec.envelope, sent[len(sent)-1]) {
		t.Errorf("the record is not what was sent last, %v", err)
	}
	// One that moves without end is given up, with the head in the answer.
	w.before = func(rpc string, _ any) error {
		if rpc == "Add" {
			return refusal(codes.Aborted, "predicate.chain", "moved", &trialogv1.ChainHead{Number: 9, Identity: hashed("9")})
		}
		return nil
	}
	w.calls["Add"] = 0
	if got := h.post("/v1/statements:receive", receiveBody("r9", "p9"), bearer(tokenReceive)).want(t, 409, nil); got.problem.Head == nil {
		t.Errorf("no head in %s", got.body)
	}
	if w.calls["Add"] != 1+maxRebuilds {
		t.Errorf("%d attempts", w.calls["Add"])
	}
}

// TestReceiveRejected: what was rejected leaves its request id free for the
// corrected draft, unless its outcome was open before.
func TestReceiveRejected(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	bad := map[string]any{"requestId": "r", "draft": protocolDraft("p")} // the trial is unknown
	got := h.post("/v1/statements:receive", bad, bearer(tokenReceive)).want(t, 409, nil)
	if got.problem.Field != "draft.trial" {
		t.Errorf("field %q", got.problem.Field)
	}
	w.startTrial()
	h.post("/v1/statements:receive", receiveBody("r", "corrected"), bearer(tokenReceive)).want(t, 200, nil)

	n := 0
	w.before = func(rpc string, _ any) error {
		if rpc != "Add" {
			return nil
		}
		n++
		if n == 1 {
			return errCut
		}
		return refusal(codes.PermissionDenied, "predicate.kind", "may not be said")
	}
	h.post("/v1/statements:receive", receiveBody("s", "p"), bearer(tokenReceive)).want(t, 503, nil)
	h.post("/v1/statements:receive", receiveBody("s", "p"), bearer(tokenReceive)).want(t, 403, nil)
	w.before = nil
	h.post("/v1/statements:receive", receiveBody("s", "other"), bearer(tokenReceive)).want(t, 409, nil)
	h.post("/v1/statements:receive", receiveBody("s", "p"), bearer(tokenReceive)).want(t, 200, nil)
}

// brokenBox is an outbox whose next write fails, or fails although it has
// happened.
type brokenBox struct {
	outbox
	mu                 sync.Mutex
	loads, saves       error
	drops              error
	persistsAllTheSame bool
}

func (b *brokenBox) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *brokenBox) load(request string) (*record, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.loads != nil {
		return nil, b.loads
	}
	return b.outbox.load(request)
}

func (b *brokenBox) save(request string, r *record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.saves == nil || b.persistsAllTheSame {
		if err := b.outbox.save(request, r); err != nil {
			return err
		}
	}
	return b.saves
}

func (b *brokenBox) drop(request string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drops == nil || b.persistsAllTheSame {
		if err := b.outbox.drop(request); err != nil {
			return err
		}
	}
	return b.drops
}

// TestReceiveStateFails: nothing is sent that may not be written down; what may
// have been written down is what is sent later.
func TestReceiveStateFails(t *testing.T) {
	errDisk := errors.New("no space left on device")
	setUp := func(t *testing.T) (*world, *house, *brokenBox) {
		w := newWorld(t)
		h := newHouse(t, w)
		w.startTrial()
		w.calls["Add"], w.sent = 0, nil
		box := &brokenBox{outbox: h.g.reception.box}
		h.g.reception.box = box
		return w, h, box
	}
	for _, persists := range []bool{false, true} {
		t.Run(fmt.Sprintf("save,persists=%v", persists), func(t *testing.T) {
			w, h, box := setUp(t)
			box.set(func() { box.saves, box.persistsAllTheSame = errDisk, persists })
			got := h.post("/v1/statements:receive", receiveBody("r", "p"), bearer(tokenReceive)).want(t, 503, nil)
			if strings.Contains(string(got.body), "space") || got.header.Get("Retry-After") == "" {
				t.Errorf("answered %s", got.body)
			}
			if w.calls["Add"] != 0 {
				t.Error("sent what may not have been written down")
			}
			before, err := box.load("jane.doe:site-canary/r")
			if err != nil || (before != nil) != persists {
				t.Fatalf("record %v, %v", before, err)
			}
			box.set(func() { box.saves = nil })
			h.post("/v1/statements:receive", receiveBody("r", "p"), bearer(tokenReceive)).want(t, 200, nil)
			if w.size() != 4 {
				t.Errorf("%d entries", w.size())
			}
			if before != nil && !bytes.Equal(w.envelopes()[0], before.envelope) {
				t.Error("sent something else than what was written down")
			}
		})
		t.Run(fmt.Sprintf("drop,persists=%v", persists), func(t *testing.T) {
			w, h, box := setUp(t)
			box.set(func() { box.drops, box.persistsAllTheSame = errDisk, persists })
			w.before = func(rpc string, _ any) error {
				if rpc == "Add" {
					return refusal(codes.PermissionDenied, "predicate.kind", "may not be said")
				}
				return nil
			}
			h.post("/v1/statements:receive", receiveBody("r", "p"), bearer(tokenReceive)).want(t, 403, nil)
			w.before = nil
			want := 409
			if persists {
				want = 200
			}
			h.post("/v1/statements:receive", receiveBody("r", "other"), bearer(tokenReceive)).want(t, want, nil)
		})
	}
	t.Run("load", func(t *testing.T) {
		w, h, box := setUp(t)
		box.set(func() { box.loads = errDisk })
		h.post("/v1/statements:receive", receiveBody("r", "p"), bearer(tokenReceive)).want(t, 503, nil)
		if w.calls["Add"] != 0 {
			t.Error("something was sent")
		}
	})
	t.Run("damaged record", func(t *testing.T) {
		w, h, box := setUp(t)
		if err := box.save("jane.doe:site-canary/r", &record{envelope: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		h.post("/v1/statements:receive", receiveBody("r", "p"), bearer(tokenReceive)).want(t, 409, nil)
		if w.calls["Add"] != 0 {
			t.Error("something was sent")
		}
	})
}

// TestReceiveDurableBeforeSent looks into the state file from the sequencer.
func TestReceiveDurableBeforeSent(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	seen := 0
	w.before = func(rpc string, req any) error {
		add, ok := req.(*trialogv1.AddRequest)
		if !ok {
			return nil
		}
		seen++
		rec, err := h.g.reception.box.load("jane.doe:site-canary/r")
		if err != nil || rec == nil || !bytes.Equal(rec.envelope, add.GetSubmit().GetEnvelope()) ||
			rec.beacon != add.GetSubmit().GetBeacon() {
			t.Errorf("%s was called with what is not written down: %v", rpc, err)
		}
		return nil
	}
	h.post("/v1/statements:receive", receiveBody("r", "p"), bearer(tokenReceive)).want(t, 200, nil)
	if seen == 0 {
		t.Error("nothing was sent")
	}
}

func TestReceiveWithoutKey(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, func(c *Config) { c.Key = nil })
	h.post("/v1/statements:receive", receiveBody("r", "p"), bearer(tokenReceive)).want(t, http.StatusNotImplemented, nil)
}
