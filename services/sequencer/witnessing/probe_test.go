package witnessing

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestProbe(t *testing.T) {
	at := func(size int64) func(*testing.T, *world, *model) {
		return func(_ *testing.T, w *world, m *model) {
			m.size, m.root = uint64(size), w.log.note(size).Checkpoint().Root
		}
	}
	lie := func(ans told) func(*testing.T, *world, *model) {
		return func(_ *testing.T, _ *world, m *model) { m.setLie(answer(ans)) }
	}
	for name, tc := range map[string]struct {
		set  func(t *testing.T, w *world, m *model)
		want Outcome
		size uint64
		// answered: it cannot be hiding anything any more.
		answered bool
	}{
		"fresh":  {at(0), KnowsNothing, 0, true},
		"behind": {at(7), Behind, 7, true},
		"there":  {at(10), Cosigned, 10, true},
		"ahead":  {at(11), Ahead, 11, true},
		"fork": {func(t *testing.T, _ *world, m *model) {
			m.size, m.root = 10, newHistory(t, 10, 3, "x").note(10).Checkpoint().Root
		}, Refused, 0, true},
		"fork, as of March 2026": {lie(told{status: 409}), OtherRoot, 0, true},
		"2^63":                   {lie(sizeIs(1 << 63)), Ahead, 1 << 63, true},
		"the size asked with":    {lie(sizeIs(10)), BadAnswer, 10, false},
		"404":                    {lie(told{status: 404}), NotConfigured, 0, false},
		"500":                    {lie(told{status: 500}), Unavailable, 0, false},
		"429":                    {lie(told{status: 429}), RateLimited, 0, false},
		"garbage":                {lie(told{status: 200, body: "x"}), BadAnswer, 0, false},
		"down":                   {lie(told{err: errors.New("refused")}), Unreachable, 0, false},
		"slow":                   {lie(told{after: time.Hour}), Unreachable, 0, false},
		"signs with any old size": {func(_ *testing.T, _ *world, m *model) {
			m.setLie(func(m *model, a asked) told { return m.sign(a.note.Text(), now()) })
		}, Cosigned, 10, true},
		"wrong time": {func(_ *testing.T, _ *world, m *model) {
			m.setLie(func(m *model, a asked) told { return m.sign(a.note.Text(), now()-9999) })
		}, BadTime, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 2, func(t *testing.T, w *world) {
				at(10)(t, w, w.models["a"])
				at(10)(t, w, w.models["b"])
				tc.set(t, w, w.models["c"])
				start := time.Now()
				got, err := w.pool.Probe(context.Background(), w.log.note(10))
				if err != nil {
					t.Fatal(err)
				}
				if gone := time.Since(start); gone > 2*time.Second {
					t.Errorf("took %s", gone)
				}
				for i, name := range []string{"a1", "a2", "b1", "b2", "c1", "c2"} {
					r := got[i]
					want, size := Cosigned, uint64(10)
					if name[0] == 'c' {
						want, size = tc.want, tc.size
					}
					if r.Witness != name || r.Outcome != want || r.Size != size || (r.Err == nil) != (want == Cosigned) {
						t.Errorf("got %+v, want %s %s %d", r, name, want, size)
					}
				}
				if w.pool.Unasked(got) {
					t.Error("one of three is no quorum of two")
				}
				// With b as silent as c, two are open.
				for i := 2; i < 4; i++ {
					got[i].Outcome = Unreachable
				}
				if w.pool.Unasked(got) == tc.answered {
					t.Errorf("unasked is %t", !tc.answered)
				}
				// A probe asks once and says nothing new.
				for op, m := range w.models {
					if got := olds(m); got != "10-10" {
						t.Errorf("%s was asked %s", op, got)
					}
				}
				m := w.models["c"]
				m.setLie(nil)
				at(10)(t, w, m)
				for _, m := range w.models {
					m.mu.Lock()
					m.requests = nil
					m.mu.Unlock()
				}
				w.mustCosign(12)
				synctest.Wait()
				if got := olds(w.models["a"]); got != "10-12" {
					t.Errorf("after the probe a was asked %s", got)
				}
			})
		})
	}
}
