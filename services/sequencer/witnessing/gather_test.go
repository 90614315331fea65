package witnessing

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// TestQuarantineIsShort: a witness that starts beside the log, and signs nothing
// before it has caught up, is not left alone for as long as it says.
func TestQuarantineIsShort(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		begun := time.Now()
		lie := func(ready time.Duration) func(*model, asked) told {
			return func(m *model, a asked) told {
				if time.Since(begun) < ready {
					return told{status: 503, header: http.Header{"Retry-After": {"30"}}}
				}
				return m.honest(a)
			}
		}
		w.models["c"].setLie(lie(time.Second))
		w.mustCosign(10)
		if gone := time.Since(begun); gone > 2*time.Second {
			t.Errorf("cosigned after %s, want about a second after the quarantine's end", gone)
		}
		if got := len(w.models["c"].seen()); got > 6 {
			t.Errorf("asked %d times", got)
		}
		// A minute of it does not make the pause longer.
		begun = time.Now()
		w.models["c"].setLie(lie(time.Minute))
		for {
			if _, err := w.cosign(12); err == nil {
				break
			}
		}
		if gone := time.Since(begun); gone > 61*time.Second {
			t.Errorf("cosigned after %s, want about a second after the quarantine's end", gone)
		}
		if got := len(w.models["c"].seen()); got > 70 {
			t.Errorf("asked %d times", got)
		}
	})
}

// TestGather returns what came, and says who is missing and why.
func TestGather(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		names := func(sigs []checkpoint.Signature) string {
			n, err := w.log.note(10).With(sigs...)
			if err != nil {
				t.Fatal(err)
			}
			return w.signers(n)
		}
		gather := func(size int64) ([]checkpoint.Signature, error) {
			return w.pool.Gather(context.Background(), w.log.note(size), w.log.prove)
		}
		w.models["b"].setLie(answer(told{status: 404}))
		w.models["c"].setLie(answer(told{after: 1000 * time.Hour}))
		begun := time.Now()
		sigs, missing := gather(10)
		none := (*NoQuorumError)(nil)
		if !errors.As(missing, &none) || none.Witnesses[2].Outcome != NotConfigured || none.Witnesses[4].Outcome != NotAsked {
			t.Errorf("missing: %v", missing)
		}
		if gone := time.Since(begun); gone != w.pool.timeout || names(sigs) != "a1 a2" {
			t.Errorf("%s after %s", names(sigs), gone)
		}
		// b has come to its senses, and c answers no sooner: what is there is kept, and
		// a is not asked again.
		w.models["b"].setLie(nil)
		if sigs, missing = gather(10); missing == nil || names(sigs) != "a1 a2 b1 b2" {
			t.Errorf("again: %s, %v", names(sigs), missing)
		}
		if got := olds(w.models["a"]); got != "0-10" {
			t.Errorf("a was asked %s", got)
		}
		// All have refused: nobody is waited for.
		for _, m := range w.models {
			m.setLie(answer(told{status: 422}))
		}
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock, not the wall's
		begun = time.Now()
		if sigs, missing = gather(12); missing == nil || len(sigs) != 0 || time.Since(begun) > w.pool.timeout {
			t.Errorf("all refuse: %d lines, %v after %s", len(sigs), missing, time.Since(begun))
		}
		for _, m := range w.models {
			m.setLie(nil)
		}
		if sigs, missing = gather(13); missing != nil || len(sigs) != 6 {
			t.Errorf("all sign: %d lines, %v", len(sigs), missing)
		}
		if _, err := gather(12); !errors.Is(err, ErrBackwards) {
			t.Errorf("backwards: %v", err)
		}
	})
}

// TestGatherEndsWithItsContext, and returns what came until then.
func TestGatherEndsWithItsContext(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		w.models["c"].setLie(answer(told{after: time.Hour}))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		sigs, missing := w.pool.Gather(ctx, w.log.note(10), w.log.prove)
		if !errors.Is(missing, context.DeadlineExceeded) || len(sigs) != 4 {
			t.Errorf("%d lines, %v", len(sigs), missing)
		}
	})
}

// TestWithout: lines that the pool has nothing to do with are neither asked nor
// waited for, and do not count.
func TestWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.close()
		without := func(names ...string) Config {
			return Config{
				Policy: w.policy, HTTP: &http.Client{Transport: network{
					"a.example": w.models["a"], "b.example": w.models["b"], "c.example": w.models["c"],
				}},
				Without: func(e checkpoint.WitnessEntry) bool { return slices.Contains(names, e.Name) },
			}
		}
		if p, err := New(without("b1", "b2", "c1", "c2")); err == nil || !strings.Contains(err.Error(), "cannot meet") {
			t.Errorf("a quorum that cannot be met: %v, %v", p, err)
		}
		p, err := New(without("c1", "c2"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := p.Cosign(context.Background(), w.log.note(10), w.log.prove)
		if err != nil || w.signers(n) != "a1 a2 b1 b2" {
			t.Errorf("%s, %v", w.signers(n), err)
		}
		if got := len(w.models["c"].seen()); got != 0 {
			t.Errorf("c was asked %d times", got)
		}
		results, err := p.Probe(context.Background(), w.log.note(10))
		if err != nil || len(results) != 4 || p.Unasked(results) {
			t.Errorf("probe: %v, %v", results, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}
