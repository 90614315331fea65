package proofs_test

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trialog/trialog/api/checkpoint"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/timestamp/timestamptest"
	"github.com/trialog/trialog/services/internal/anchored"
	"github.com/trialog/trialog/services/proofs"
)

func anchorTime() time.Time { return time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC) }

// anchors lets a service know of the authority one, at a time.
func anchors(now *time.Time) func(*proofs.Config) {
	return func(c *proofs.Config) {
		c.Now = func() time.Time { return *now }
		c.Anchors = &proofs.Anchors{
			Interval:    time.Minute,
			Authorities: []anchored.Authority{{Name: "one", Certificate: timestamptest.New("one").Root.Cert}},
		}
	}
}

// anchor puts the anchored record of the published checkpoint, with a further
// witness and a token, as the anchoring does.
func (l *testLog) anchor(t testing.TB, change ...func(*anchored.Record)) *anchored.Record {
	t.Helper()
	note, err := checkpoint.Parse(l.get(t, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := seeded(t, "public.example", checkpoint.AlgMLDSA44).SignCheckpoint(note.Text(), 1_700_000_060)
	if err != nil {
		t.Fatal(err)
	}
	if note, err = note.With(sig); err != nil {
		t.Fatal(err)
	}
	r := &anchored.Record{At: anchorTime(), Note: note, Tokens: []anchored.Token{
		{Authority: "one", Raw: timestamptest.New("one").Stamp(sha256.Sum256(note.Text()), anchorTime())},
		{Authority: "gone", Raw: []byte("of an authority that is not asked any more")},
	}}
	for _, c := range change {
		c(r)
	}
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	l.put(t, anchored.Key, raw)
	return r
}

func (s *service) refreshAnchored(t *testing.T, query string, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/receipts:refresh?"+query, bytes.NewReader(body))
	s.handler.ServeHTTP(rec, req)
	return rec
}

// both refreshes a receipt by HTTP and by gRPC, which answer alike.
func (s *service) both(t *testing.T, raw []byte) *receipt.Receipt {
	t.Helper()
	rec := s.refreshAnchored(t, "anchored=true", raw)
	if rec.Code != http.StatusOK {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	resp, err := s.grpc(t).RefreshReceipt(t.Context(), &trialogv1.RefreshReceiptRequest{Receipt: raw, Anchored: true})
	if err != nil || !bytes.Equal(resp.GetReceipt(), rec.Body.Bytes()) {
		t.Errorf("gRPC answers otherwise: %v", err)
	}
	r, err := receipt.Parse(rec.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAnchoredReceipt: the newest anchored checkpoint, with all its signatures and
// the tokens of those who are asked, also for the enrolments of the same shard.
func TestAnchoredReceipt(t *testing.T) {
	l := newLog(t).grow(t, 5)
	l.publish(t)
	old := l.receiptOf(t, 3)
	enrolment := l.receiptOf(t, 1)
	old.Enrolments = []receipt.Enrolment{{Entry: enrolment.Entry, Proof: enrolment.Proof}}
	old.Beacon = l.get(t, "checkpoint")
	l.grow(t, 300).publish(t)
	first := l.anchor(t)
	l.grow(t, 400).publish(t)
	now := anchorTime()
	s := l.serve(t, anchors(&now))
	got := s.both(t, encode(t, old))
	holds(t, old.Entry, got.Proof, 300)
	holds(t, enrolment.Entry, got.Enrolments[0].Proof, 300)
	if !bytes.Equal(got.Proof.Note.Bytes(), first.Note.Bytes()) || !reflect.DeepEqual(got.Tokens, [][]byte{first.Tokens[0].Raw}) {
		t.Errorf("another note, or %d tokens", len(got.Tokens))
	}
	if !bytes.Equal(got.Entry, old.Entry) || !bytes.Equal(got.Beacon, old.Beacon) {
		t.Error("entry or beacon have changed")
	}
	// A newer one is found at once, also for a receipt with tokens.
	second := l.anchor(t)
	again := s.both(t, encode(t, got))
	holds(t, old.Entry, again.Proof, 400)
	if !reflect.DeepEqual(again.Tokens, [][]byte{second.Tokens[0].Raw}) {
		t.Errorf("%d tokens, expected the newer one", len(again.Tokens))
	}
	// Who does not ask for it gets the published checkpoint, and loses no tokens.
	rec := s.refreshAnchored(t, "anchored=false", encode(t, old))
	plain, err := receipt.Parse(rec.Body.Bytes())
	if err != nil || plain.Tokens != nil || len(plain.Proof.Note.Signatures()) != 3 {
		t.Errorf("not anchored: %v, %s", err, rec.Body)
	}
	problem(t, s.refreshAnchored(t, "", encode(t, again)), http.StatusBadRequest, "tokens")
}

func TestAnchoredQuery(t *testing.T) {
	l := newLog(t).grow(t, 5)
	l.publish(t)
	l.anchor(t)
	now := anchorTime()
	s := l.serve(t, anchors(&now))
	for _, query := range []string{"anchored", "anchored=", "anchored=1", "anchored=TRUE", "anchored=true&anchored=true", "x=1", "anchored=true&x=1", "%61nchored=true"} {
		problem(t, s.refreshAnchored(t, query, encode(t, l.receiptOf(t, 3))), http.StatusBadRequest, "anchored")
	}
}

// TestNotAnchoredYet says when the next one is due.
func TestNotAnchoredYet(t *testing.T) {
	l := newLog(t).grow(t, 5)
	l.publish(t)
	now := anchorTime()
	s := l.serve(t, anchors(&now))
	raw := encode(t, l.receiptOf(t, 4))
	check := func(what string, seconds int) {
		t.Helper()
		rec := s.refreshAnchored(t, "anchored=true", raw)
		problem(t, rec, http.StatusNotFound, "proof")
		due := now.Add(time.Duration(seconds) * time.Second).Format(time.RFC3339)
		if got := rec.Header().Get("Retry-After"); got != strconv.Itoa(seconds) {
			t.Errorf("%s: Retry-After %q, want %d", what, got, seconds)
		}
		if body := rec.Body.String(); !strings.Contains(body, due) || !strings.Contains(body, "proofs/not-anchored") {
			t.Errorf("%s: %s, want the time %s", what, body, due)
		}
		_, err := s.grpc(t).RefreshReceipt(t.Context(), &trialogv1.RefreshReceiptRequest{Receipt: raw, Anchored: true})
		refused(t, what, err, codes.FailedPrecondition, "proof", "not-anchored")
		for _, d := range status.Convert(err).Details() {
			if retry, ok := d.(*errdetails.RetryInfo); ok && retry.GetRetryDelay().AsDuration() != time.Duration(seconds)*time.Second {
				t.Errorf("%s: retry after %s", what, retry.GetRetryDelay().AsDuration())
			}
		}
	}
	check("before the first", 10)
	l2 := newLog(t).grow(t, 3)
	l2.publish(t)
	smaller := l2.anchor(t)
	put := func(at time.Time) {
		smaller.At = at
		encoded, err := smaller.Encode()
		if err != nil {
			t.Fatal(err)
		}
		l.put(t, anchored.Key, encoded)
	}
	put(now.Add(-20 * time.Second))
	check("20 s after one that is smaller", 50)
	put(now.Add(-time.Hour))
	check("an hour after one that is smaller", 10)
	put(now.Add(time.Hour)) // the clock was set back
	check("one of the future", 70)
	// One that the policy does not accept is as good as none.
	l.anchor(t, func(r *anchored.Record) {
		n, err := checkpoint.NewNote(r.Note.Text(), r.Note.Signatures()[:2]...)
		if err != nil {
			t.Fatal(err)
		}
		r.Note = n
	})
	now = now.Add(time.Minute)
	check("of another policy", 10)
	if got := strings.Count(s.lines.take(), "does not satisfy the policy"); got != 1 {
		t.Errorf("logged %d times", got)
	}
	// An entry that is not published is another matter.
	beyond := l.receiptOf(t, 4)
	beyond.Proof.Index = 5
	rec := s.refreshAnchored(t, "anchored=true", encode(t, beyond))
	problem(t, rec, http.StatusNotFound, "proof")
	if !strings.Contains(rec.Body.String(), "not-published") {
		t.Errorf("%s", rec.Body)
	}
}

func TestNoAnchors(t *testing.T) {
	l := newLog(t).grow(t, 5)
	l.publish(t)
	s := l.serve(t)
	raw := encode(t, l.receiptOf(t, 4))
	rec := s.refreshAnchored(t, "anchored=true", raw)
	problem(t, rec, http.StatusNotFound, "anchored")
	if rec.Header().Get("Retry-After") != "" {
		t.Error("it is not worth while to ask again")
	}
	_, err := s.grpc(t).RefreshReceipt(t.Context(), &trialogv1.RefreshReceiptRequest{Receipt: raw, Anchored: true})
	refused(t, "gRPC", err, codes.FailedPrecondition, "anchored", "no-anchors")
}

// TestAnchorThatDoesNotVerify is never handed out.
func TestAnchorThatDoesNotVerify(t *testing.T) {
	fork := newLog(t)
	fork.mark = "fork"
	fork.grow(t, 5).publish(t)
	bigger := newLog(t).grow(t, 9)
	bigger.publish(t)
	other := newShard(t, "log.example/other").grow(t, 5)
	other.publish(t)
	for name, damage := range map[string]func(t *testing.T, l *testLog){
		"garbage": func(t *testing.T, l *testLog) { l.put(t, anchored.Key, []byte("{}")) },
		"another root": func(t *testing.T, l *testLog) {
			fork.anchor(t)
			l.put(t, anchored.Key, fork.get(t, anchored.Key))
		},
		"a greater size than the published one": func(t *testing.T, l *testLog) {
			bigger.anchor(t)
			l.put(t, anchored.Key, bigger.get(t, anchored.Key))
		},
		"another origin": func(t *testing.T, l *testLog) {
			other.anchor(t)
			l.put(t, anchored.Key, other.get(t, anchored.Key))
		},
		"a damaged token": func(t *testing.T, l *testLog) { l.anchor(t, func(r *anchored.Record) { r.Tokens[0].Raw[50] ^= 1 }) },
		"a token of another checkpoint": func(t *testing.T, l *testLog) {
			l.anchor(t, func(r *anchored.Record) { r.Tokens[0].Raw = timestamptest.New("one").Stamp([32]byte{1}, anchorTime()) })
		},
		"a token of another authority": func(t *testing.T, l *testLog) {
			l.anchor(t, func(r *anchored.Record) {
				r.Tokens[0].Raw = timestamptest.New("two").Stamp(sha256.Sum256(r.Note.Text()), anchorTime())
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t).grow(t, 5)
			l.publish(t)
			now := anchorTime()
			s := l.serve(t, anchors(&now))
			damage(t, l)
			problem(t, s.refreshAnchored(t, "anchored=true", encode(t, l.receiptOf(t, 3))), http.StatusServiceUnavailable, "")
			if lines := s.lines.take(); !strings.Contains(lines, "level=ERROR") {
				t.Errorf("not logged: %s", lines)
			}
			problem(t, s.refreshAnchored(t, "anchored=true", encode(t, l.receiptOf(t, 3))), http.StatusServiceUnavailable, "")
			// What only the tree tells is found out each time.
			again := strings.Contains(s.lines.take(), "level=ERROR")
			if byTree := name == "another root" || name == "a greater size than the published one"; again != byTree {
				t.Errorf("logged again: %t", again)
			}
			// It is mended, and what does not need it goes on.
			if rec := s.refresh(t, http.MethodPost, encode(t, l.receiptOf(t, 3))); rec.Code != http.StatusOK {
				t.Errorf("a receipt under the published checkpoint: %d", rec.Code)
			}
			l.anchor(t)
			holds(t, l.receiptOf(t, 3).Entry, s.both(t, encode(t, l.receiptOf(t, 3))).Proof, 5)
		})
	}
}
