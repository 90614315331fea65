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

// held is what one witness is known to hold.
type held struct {
	// witnesses are the policy's names for the witness's keys.
	witnesses []string
	// size is that of the newest checkpoint of which a verified cosignature was seen;
	// 0 if there was none.
	size uint64
}

// held returns what the witnesses are known to hold.
func (p *Pool) held() []held {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]held, len(p.witnesses))
	for i, e := range p.witnesses {
		out[i].size = e.size
		for _, entry := range e.entries {
			out[i].witnesses = append(out[i].witnesses, entry.Name)
		}
	}
	return out
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
		if got := w.pool.held()[2]; got.size != 15 || !slices.Equal(got.witnesses, []string{"c1", "c2"}) {
			t.Errorf("the laggard is known to have %+v", got)
		}
	})
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
		wg.Go(func() { w.pool.held() })
	}
	wg.Wait()
	w.mustCosign(20)
}
