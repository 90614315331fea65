package witnessing

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// inBubble runs a test with a world of its own on a clock of its own.
func inBubble(t *testing.T, k int, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, k)
		defer w.close()
		f(t, w)
	})
}

// olds are the old sizes and sizes of the requests that a witness saw.
func olds(m *model) string {
	var out []string
	for _, a := range m.seen() {
		out = append(out, fmt.Sprintf("%d-%d", a.old, a.note.Checkpoint().Size))
	}
	return strings.Join(out, " ")
}

func TestRounds(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		for _, size := range []int64{0, 3, 4, 20} {
			n := w.mustCosign(size)
			if got := w.signers(n); got != "a1 a2 b1 b2 c1 c2" {
				t.Errorf("size %d: signed by %s", size, got)
			}
			if got := len(n.Signatures()); got != 8 {
				t.Errorf("size %d: %d signatures, want the log's 2 and 6", size, got)
			}
		}
		for op, m := range w.models {
			// One request a candidate for both keys.
			if got := olds(m); got != "0-0 0-3 3-4 4-20" {
				t.Errorf("%s was asked %s", op, got)
			}
			for _, a := range m.seen() {
				if got := len(a.note.Signatures()); got != 2 {
					t.Errorf("%s got a note with %d signatures, want the log's 2", op, got)
				}
			}
		}
	})
}

func TestReturnsAtQuorumAndLaggardSkipsAhead(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, w *world) {
		slow := func(m *model, a asked) told {
			ans := m.honest(a)
			ans.after = 1500 * time.Millisecond
			return ans
		}
		w.models["c"].setLie(slow)
		start := time.Now()
		for size := int64(10); size <= 15; size++ {
			if got := w.signers(w.mustCosign(size)); got != "a1 a2 b1 b2" {
				t.Errorf("size %d: signed by %s", size, got)
			}
		}
		if gone := time.Since(start); gone != 0 {
			t.Errorf("the laggard cost %s", gone)
		}
		time.Sleep(10 * time.Second) //nolint:forbidigo // the bubble's clock, not the wall's
		synctest.Wait()
		if got := olds(w.models["c"]); got != "0-10 10-15" {
			t.Errorf("the laggard was asked %s, want the first and the newest only", got)
		}
		if got := w.pool.Sizes()[2]; got.Size != 15 || !slices.Equal(got.Witnesses, []string{"c1", "c2"}) {
			t.Errorf("the laggard is known to have %+v", got)
		}
	})
}

func TestSizesOfWitnessesAreFollowed(t *testing.T) {
	for name, tc := range map[string]struct {
		size int64 // what the witness has when the pool starts
		want string
	}{
		"fresh":   {0, "0-10"},
		"behind":  {4, "0-10 4-10"},
		"there":   {10, "0-10 10-10"},
		"leaf":    {1, "0-10 1-10"},
		"ahead":   {11, "0-10"},
		"far off": {20, "0-10"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 2, func(t *testing.T, w *world) {
				m := w.models["c"]
				m.size, m.root = uint64(tc.size), w.log.note(tc.size).Checkpoint().Root
				w.mustCosign(10)
				synctest.Wait()
				if got := olds(m); got != tc.want {
					t.Errorf("asked %s, want %s", got, tc.want)
				}
				if got := w.pool.Sizes()[2].Size; got != 10 && tc.size <= 10 || got != 0 && tc.size > 10 {
					t.Errorf("known size %d", got)
				}
			})
		})
	}
}

// TestAheadIsFollowedWhenTheLogGetsThere: the witness's size was refused while
// the log was behind it; nothing went back, and nothing is lost.
func TestAheadIsFollowedWhenTheLogGetsThere(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		m := w.models["c"]
		m.size, m.root = 12, w.log.note(12).Checkpoint().Root
		none := (*NoQuorumError)(nil)
		if _, err := w.cosign(10); !errors.As(err, &none) || none.Witnesses[4].Outcome != Ahead || none.Witnesses[4].Size != 12 {
			t.Fatalf("got %v", err)
		}
		w.mustCosign(15)
	})
}

// TestWitnessThatWentBack lost its state: it is proved to from where it is.
func TestWitnessThatWentBack(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		w.mustCosign(10)
		m := w.models["c"]
		m.size, m.root = 4, w.log.note(4).Checkpoint().Root
		w.mustCosign(12)
		if got := olds(m); got != "0-10 10-12 4-12" {
			t.Errorf("asked %s", got)
		}
	})
}

// TestUnknownOutcomeIsRepeated: the witness persisted, but the answer was lost.
func TestUnknownOutcomeIsRepeated(t *testing.T) {
	for name, lost := range map[string]told{
		"connection": {err: errors.New("connection reset")},
		"500":        {status: 500},
		"502":        {status: 502, kind: "text/html", body: "<html>"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 3, func(t *testing.T, w *world) {
				first := true
				w.models["c"].setLie(func(m *model, a asked) told {
					ans := m.honest(a)
					if first {
						first = false
						return lost
					}
					return ans
				})
				w.mustCosign(10)
				if got := olds(w.models["c"]); got != "0-10 0-10 10-10" {
					t.Errorf("asked %s", got)
				}
			})
		})
	}
}

func TestHealsWithin15Seconds(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, w *world) {
		down := answer(told{err: errors.New("connection refused")})
		w.models["b"].setLie(down)
		w.models["c"].setLie(down)
		none := (*NoQuorumError)(nil)
		for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); {
			if _, err := w.cosign(10); !errors.As(err, &none) {
				t.Fatalf("2 of 3 down: %v", err)
			}
		}
		if n := len(w.models["b"].seen()); n > 600 {
			t.Errorf("a witness that is down was asked %d times in ten minutes", n)
		}
		w.models["b"].setLie(nil)
		healed := time.Now()
		for {
			if _, err := w.cosign(12); err == nil {
				break
			}
		}
		if gone := time.Since(healed); gone > 15*time.Second {
			t.Errorf("healed after %s", gone)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		w.models["c"].setLie(answer(told{status: 429, header: http.Header{"Retry-After": {"60"}}}))
		limited := time.Now()
		if _, err := w.cosign(10); err == nil {
			t.Fatal("cosigned")
		}
		w.models["c"].setLie(nil)
		for {
			if _, err := w.cosign(10); err == nil {
				break
			}
		}
		if gone := time.Since(limited); gone < 60*time.Second || gone > 70*time.Second {
			t.Errorf("asked again after %s, want 60 s", gone)
		}
		if got := olds(w.models["c"]); got != "0-10 0-10" {
			t.Errorf("asked %s", got)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	at := time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "x": 0, "-5": 0, "1.5": 0, "0": time.Second, "1": time.Second, "7": 7 * time.Second,
		"299": 299 * time.Second, "300": maxRetryAfter, "18446744073709551615": maxRetryAfter, "18446744073709551616": 0,
		"Thu, 05 Nov 2026 12:00:30 GMT": 30 * time.Second,
		"Thu, 05 Nov 2026 11:00:00 GMT": time.Second,
		"Thu, 05 Nov 2099 12:00:00 GMT": maxRetryAfter,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, at); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestSameCandidateAgain keeps what was gathered and asks only who is missing.
func TestSameCandidateAgain(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		w.models["c"].setLie(answer(told{status: 422}))
		none := (*NoQuorumError)(nil)
		if _, err := w.cosign(10); !errors.As(err, &none) {
			t.Fatal(err)
		}
		w.models["c"].setLie(nil)
		time.Sleep(time.Hour) //nolint:forbidigo // the bubble's clock, not the wall's
		synctest.Wait()
		if got := olds(w.models["c"]); got != "0-10" {
			t.Errorf("a witness that refused was asked again for the same: %s", got)
		}
		w.mustCosign(10)
		if a, c := olds(w.models["a"]), olds(w.models["c"]); a != "0-10" || c != "0-10 0-10" {
			t.Errorf("a was asked %s, c %s", a, c)
		}
	})
}

func TestCandidatesThatAreRefused(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		w.mustCosign(10)
		cosign := func(n *checkpoint.Note) error {
			_, err := w.pool.Cosign(context.Background(), n, w.log.prove)
			return err
		}
		if err := cosign(w.log.note(9)); !errors.Is(err, ErrBackwards) {
			t.Errorf("smaller: %v", err)
		}
		if err := cosign(newHistory(t, 10, 3, "x").note(10)); !errors.Is(err, ErrBackwards) {
			t.Errorf("other root: %v", err)
		}
		c := w.log.note(12).Checkpoint()
		sig, err := key(t, origin, checkpoint.AlgEd25519, 88).SignCheckpoint(c.Body(), 0)
		if err != nil {
			t.Fatal(err)
		}
		stranger, err := checkpoint.NewNote(c.Body(), sig)
		if err != nil {
			t.Fatal(err)
		}
		if err := cosign(stranger); err == nil || !strings.Contains(err.Error(), "no signature by a key of log") {
			t.Errorf("not signed by the log: %v", err)
		}
		sigs := w.log.note(12).Signatures()
		sigs[0].Bytes[5] ^= 1
		broken, err := checkpoint.NewNote(c.Body(), sigs...)
		if err != nil {
			t.Fatal(err)
		}
		bad := (*checkpoint.SignatureError)(nil)
		if err := cosign(broken); !errors.As(err, &bad) {
			t.Errorf("failing log signature: %v", err)
		}
		if _, err := w.pool.Probe(context.Background(), broken); !errors.As(err, &bad) {
			t.Errorf("probing with a failing log signature: %v", err)
		}
		// None of them reached a witness, and the next good one does.
		w.mustCosign(12)
		if got := olds(w.models["a"]); got != "0-10 10-12" {
			t.Errorf("asked %s", got)
		}
	})
}

func TestProofsThatFail(t *testing.T) {
	for name, prove := range map[string]ProveFunc{
		"error":    func(context.Context, uint64, uint64) ([][32]byte, error) { return nil, errors.New("tiles are gone") },
		"too long": func(context.Context, uint64, uint64) ([][32]byte, error) { return make([][32]byte, 64), nil },
		"wrong":    func(context.Context, uint64, uint64) ([][32]byte, error) { return make([][32]byte, 3), nil },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 3, func(t *testing.T, w *world) {
				w.mustCosign(5)
				_, err := w.pool.Cosign(context.Background(), w.log.note(10), prove)
				want := map[bool]Outcome{true: Refused, false: NoProof}[name == "wrong"]
				none := (*NoQuorumError)(nil)
				if !errors.As(err, &none) || none.Witnesses[0].Outcome != want {
					t.Fatalf("got %v, want %s", err, want)
				}
				w.mustCosign(10)
			})
		})
	}
}

func TestEndsWithItsContextAndItsPool(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		w.models["c"].setLie(answer(told{after: time.Hour}))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		none := (*NoQuorumError)(nil)
		_, err := w.pool.Cosign(ctx, w.log.note(10), w.log.prove)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &none) {
			t.Errorf("got %v", err)
		}
		errs := make(chan error, 2)
		go func() { _, err := w.cosign(12); errs <- err }()
		go func() { _, err := w.pool.Probe(context.Background(), w.log.note(10)); errs <- err }()
		synctest.Wait()
		w.close()
		for range 2 {
			if err := <-errs; err != nil && !errors.Is(err, ErrClosed) {
				t.Errorf("got %v", err)
			}
		}
		if _, err := w.cosign(13); !errors.Is(err, ErrClosed) {
			t.Errorf("closed pool: %v", err)
		}
		if _, err := w.pool.Probe(context.Background(), w.log.note(13)); !errors.Is(err, ErrClosed) {
			t.Errorf("closed pool: %v", err)
		}
	})
}

// TestSuperseded: an older candidate's caller is told.
func TestSuperseded(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		for _, m := range w.models {
			m.setLie(answer(told{status: 500}))
		}
		errs := make(chan error)
		go func() { _, err := w.cosign(10); errs <- err }()
		synctest.Wait()
		if _, err := w.cosign(12); err == nil {
			t.Error("cosigned")
		}
		none := (*NoQuorumError)(nil)
		if err := <-errs; !errors.As(err, &none) || none.Checkpoint.Size != 10 || none.Witnesses[0].Outcome != NotAsked {
			t.Errorf("got %v", err)
		}
	})
}

func TestOwnClockIsUsedForTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.close()
		clock := time.Unix(0, 0)
		w.pool.now = func() time.Time { return clock }
		none := (*NoQuorumError)(nil)
		if _, err := w.cosign(10); !errors.As(err, &none) || none.Witnesses[0].Outcome != BadTime {
			t.Errorf("clock at zero: %v", err)
		}
	})
	for name, d := range map[string]time.Duration{"ahead": MaxSkew, "behind": -MaxSkew} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 3, func(t *testing.T, w *world) {
				w.models["c"].setLie(func(m *model, a asked) told { return m.sign(a.note.Text(), uint64(time.Now().Add(d).Unix())) })
				w.mustCosign(10)
			})
		})
	}
}

// TestAllHaveAnswered: when no witness is left to wait for, nobody waits.
func TestAllHaveAnswered(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		clock := time.Now()
		w.pool.now = func() time.Time { return clock.Add(-time.Hour) }
		begin := time.Now()
		none := (*NoQuorumError)(nil)
		if _, err := w.cosign(10); !errors.As(err, &none) || none.Witnesses[0].Outcome != BadTime {
			t.Errorf("got %v", err)
		}
		if passed := time.Since(begin); passed >= w.pool.timeout { // of the bubble's clock
			t.Errorf("waited for %s", passed)
		}
		// The clock is right again: the same candidate is cosigned.
		w.pool.now = time.Now
		time.Sleep(minBackoff) //nolint:forbidigo // the bubble's clock, not the wall's
		w.mustCosign(10)
	})
}

// TestTimeZero is refused also by a log whose clock is that wrong itself.
func TestTimeZero(t *testing.T) {
	p := &Pool{now: func() time.Time { return time.Unix(100, 0) }}
	if p.checkTime(0) == nil || p.checkTime(1) != nil {
		t.Error("at second 100, time 0 must be refused and time 1 taken")
	}
}

// endless is an answer that never ends; it counts what is read of it.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) {
	if e.read > 1<<24 {
		return 0, errors.New("16 MiB were read")
	}
	e.read += len(b)
	return len(b), nil
}

func TestAnswersAreReadToABound(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		stream := &endless{}
		w.models["c"].setLie(answer(told{status: 200, stream: stream}))
		none := (*NoQuorumError)(nil)
		if _, err := w.cosign(10); !errors.As(err, &none) || none.Witnesses[4].Outcome != BadAnswer {
			t.Errorf("got %v", err)
		}
		if stream.read > 2*maxAnswer {
			t.Errorf("%d bytes were read", stream.read)
		}
	})
}

// TestConflictWithWhatWasSent ends at once.
func TestConflictWithWhatWasSent(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, w *world) {
		w.models["c"].setLie(func(_ *model, a asked) told { return sizeIs(a.old) })
		w.mustCosign(10)
		synctest.Wait()
		if got := olds(w.models["c"]); got != "0-10" {
			t.Errorf("asked %s", got)
		}
	})
}

// TestResultIsCheckedByThePolicy: what no reader would accept is not returned,
// even if the log signed it and the quorum is met.
func TestResultIsCheckedByThePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.close()
		p, err := New(Config{Policy: w.policyOf("quorum none\n"), HTTP: &http.Client{Transport: network{}}})
		if err != nil {
			t.Fatal(err)
		}
		text := checkpoint.Checkpoint{Origin: origin, Root: checkpoint.Hash{1}}.Body()
		v := key(t, origin, checkpoint.AlgEd25519, 1).Verifier()
		private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
		note, err := checkpoint.NewNote(text, checkpoint.Signature{Name: v.Name(), KeyID: v.ID(), Bytes: ed25519.Sign(private, text)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Cosign(context.Background(), note, w.log.prove); !errors.Is(err, checkpoint.ErrEmptyRoot) {
			t.Errorf("got %v", err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		w.models["c"].setLie(answer(told{status: 308, header: http.Header{"Location": {"http://a.example/x/add-checkpoint"}}}))
		if _, err := w.cosign(10); err == nil {
			t.Fatal("cosigned")
		}
		if got := olds(w.models["a"]); got != "0-10" {
			t.Errorf("a was asked %s", got)
		}
	})
}

func TestQuorumNoneNeedsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.close()
		p, err := New(Config{Policy: w.policyOf("quorum none\n"), HTTP: &http.Client{Transport: network{}}})
		if err != nil {
			t.Fatal(err)
		}
		n, err := p.Cosign(context.Background(), w.log.note(10), w.log.prove)
		if err != nil || len(n.Signatures()) != 2 {
			t.Errorf("got %v, %v", n, err)
		}
		if p.Unasked(nil) {
			t.Error("nobody is needed, but somebody is unasked")
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestNewRejects(t *testing.T) {
	w := newWorld(t, 3)
	w.close()
	parse := func(text string) *checkpoint.Policy {
		p, err := checkpoint.ParsePolicy([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := string(w.policy.Bytes())
	for name, tc := range map[string]struct {
		policy *checkpoint.Policy
		want   string
	}{
		"no policy": {nil, "expected a policy"},
		"no URLs":   {parse(strings.ReplaceAll(good, " http://c.example/prefix/", "")), "cannot meet"},
		"ftp":       {parse(strings.ReplaceAll(good, "http://c", "ftp://c")), "witness c1"},
		"no host":   {parse(strings.ReplaceAll(good, "http://c.example/prefix/", "http:///prefix")), "witness c1"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := New(Config{Policy: tc.policy})
			if err == nil {
				t.Fatal("accepted", p.Close())
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
		})
	}
}

// TestWitnessWithoutURL is known for verification and never asked.
func TestWitnessWithoutURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.close()
		text := bytes.ReplaceAll(w.policy.Bytes(), []byte(" http://c.example/prefix/"), nil)
		policy, err := checkpoint.ParsePolicy(text)
		if err != nil {
			t.Fatal(err)
		}
		w.models["b"].setLie(answer(told{status: 500}))
		p, err := New(Config{Policy: policy, HTTP: &http.Client{Transport: network{"a.example": w.models["a"], "b.example": w.models["b"]}}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Cosign(context.Background(), w.log.note(10), w.log.prove)
		none := (*NoQuorumError)(nil)
		if !errors.As(err, &none) || none.Witnesses[4].Outcome != NoURL || none.Witnesses[5].Outcome != NoURL {
			t.Errorf("got %v", err)
		}
		results, err := p.Probe(context.Background(), w.log.note(10))
		if err != nil || results[4].Outcome != NoURL || !p.Unasked(results) {
			t.Errorf("probe: %v, %v", results, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestManyCallersAtOnce(t *testing.T) {
	w := newWorld(t, 3)
	defer w.close()
	var wg sync.WaitGroup
	for size := int64(1); size <= 20; size++ {
		wg.Go(func() {
			n, err := w.cosign(size)
			if err == nil {
				_, err = w.policy.Check(n)
			}
			none := (*NoQuorumError)(nil)
			if err != nil && !errors.Is(err, ErrBackwards) && !errors.As(err, &none) {
				t.Errorf("size %d: %v", size, err)
			}
		})
		wg.Go(func() { w.pool.Sizes() })
	}
	wg.Wait()
	w.mustCosign(20)
}

func FuzzRead(f *testing.F) {
	w := newWorld(f, 3)
	defer w.close()
	e := w.pool.witnesses[0]
	note, err := w.pool.logSigned(w.log.note(10))
	if err != nil {
		f.Fatal(err)
	}
	good := w.models["a"].sign(note.Text(), now())
	f.Add(200, "", []byte(good.body))
	f.Add(409, "text/x.tlog.size", []byte("5\n"))
	f.Add(409, "text/x.tlog.size; charset=utf-8", []byte("9223372036854775808\n"))
	f.Add(409, "", []byte(""))
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		rep := w.pool.read(e, status, http.Header{"Content-Type": {kind}}, body, note)
		if (rep.outcome == Cosigned) != (len(rep.signed) == len(e.entries)) || (rep.outcome == Cosigned) != (rep.err == nil) {
			t.Errorf("outcome %s with %d lines, error %v", rep.outcome, len(rep.signed), rep.err)
		}
		for name, sig := range rep.signed {
			i := slices.IndexFunc(e.entries, func(x checkpoint.WitnessEntry) bool { return x.Name == name })
			if _, err := e.entries[i].Key.VerifyCheckpoint(note, sig); err != nil {
				t.Error(err)
			}
		}
		if rep.outcome == Behind && fmt.Sprintln(rep.size) != string(body) {
			t.Errorf("size %d from %q", rep.size, body)
		}
	})
}
