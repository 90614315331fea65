package clock_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/services/internal/clock"
)

const ms = time.Millisecond

// TestBound: what the clock may be off, by what its sources say. Offsets and
// uncertainties are in ms; a source without uncertainty does not answer.
func TestBound(t *testing.T) {
	for name, tt := range map[string]struct {
		sources [][2]int
		want    time.Duration // -1: nobody knows
	}{
		"no source":               {nil, -1},
		"two sources":             {[][2]int{{0, 10}, {0, 10}}, -1},
		"three agree":             {[][2]int{{0, 10}, {0, 10}, {0, 10}}, 10 * ms},
		"off, and sure of it":     {[][2]int{{400, 1}, {400, 1}, {400, 1}}, 401 * ms},
		"off to the other side":   {[][2]int{{-400, 1}, {-400, 1}, {-400, 1}}, 401 * ms},
		"two say more than one":   {[][2]int{{0, 10}, {0, 10}, {0, 500}}, 10 * ms},
		"one says more":           {[][2]int{{0, 10}, {0, 500}, {0, 500}}, 500 * ms},
		"two share a part":        {[][2]int{{0, 100}, {150, 100}, {900, 10}}, 100 * ms},
		"all share a part":        {[][2]int{{-50, 100}, {50, 100}, {0, 200}}, 150 * ms},
		"one lies":                {[][2]int{{0, 10}, {0, 10}, {900, 10}}, 10 * ms},
		"one is silent":           {[][2]int{{0, 10}, {5, 10}, {0, 0}}, 10 * ms},
		"two are silent":          {[][2]int{{0, 10}, {0, 0}, {0, 0}}, -1},
		"nobody agrees":           {[][2]int{{0, 10}, {100, 10}, {200, 10}}, -1},
		"two of four":             {[][2]int{{0, 10}, {0, 10}, {300, 10}, {300, 10}}, -1},
		"three of five":           {[][2]int{{0, 10}, {0, 20}, {0, 30}, {300, 10}, {300, 10}}, 10 * ms},
		"they touch at one point": {[][2]int{{0, 10}, {20, 10}, {500, 10}}, 10 * ms},
	} {
		w := newWorld(t, len(tt.sources))
		for i, s := range w.sources {
			s.off, s.uncertainty = time.Duration(tt.sources[i][0])*ms, time.Duration(tt.sources[i][1])*ms
			if s.uncertainty == 0 {
				s.err = errors.New("no answer")
			}
		}
		w.guard.Poll(t.Context())
		r, err := w.guard.Read()
		switch {
		case tt.want < 0:
			if !errors.Is(err, clock.ErrUnverified) {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
		case err != nil || r.Bound != tt.want || !r.Time.Equal(w.now()):
			t.Errorf("%s: %+v, %v, expected %s", name, r, err, tt.want)
		}
	}
}

// TestBoundHolds: while a majority of the sources is right about its own
// uncertainty, the clock is never off by more than the bound, whatever the others
// say.
func TestBoundHolds(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	known := 0
	for range 5000 {
		n := 3 + rng.IntN(5)
		w := newWorld(t, n)
		w.jump(time.Duration(rng.IntN(1601)-800) * ms)
		truth := w.truth()
		for i, s := range w.sources {
			s.uncertainty = time.Duration(1+rng.IntN(300)) * ms
			if i < n/2+1 {
				s.off = time.Duration(float64(s.uncertainty) * (2*rng.Float64() - 1))
			} else {
				s.off = time.Duration(rng.IntN(2001)-1000) * ms
			}
		}
		w.guard.Poll(t.Context())
		r, err := w.guard.Read()
		if err != nil {
			continue
		}
		known++
		if off := r.Time.Sub(truth).Abs(); off > r.Bound {
			t.Fatalf("off by %s, bound %s, sources %+v", off, r.Bound, w.guard.States())
		}
	}
	if known < 4000 {
		t.Errorf("only %d were known", known)
	}
}

// TestBoundGrows: the bound grows with the age of the answers, and an old answer
// bounds nothing.
func TestBoundGrows(t *testing.T) {
	w := newWorld(t, 3, func(c *clock.Config) { c.Interval, c.MaxAge = 10*time.Second, 40*time.Second })
	for _, s := range w.sources {
		s.uncertainty = 5 * ms
	}
	w.guard.Poll(t.Context())
	for _, want := range []time.Duration{5 * ms, 25 * ms, 45 * ms} {
		r, err := w.guard.Read()
		if err != nil || r.Bound != want {
			t.Errorf("%s, %v, expected %s", r.Bound, err, want)
		}
		w.pass(20 * time.Second)
	}
	if r, err := w.guard.Read(); !errors.Is(err, clock.ErrUnverified) {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestReadIsCompared: a clock that is right before and behind the reading, and
// wrong at it, is found out.
func TestReadIsCompared(t *testing.T) {
	for _, step := range []time.Duration{2 * time.Second, -2 * time.Second, time.Hour} {
		var w *world
		wrong := false
		w = newWorld(t, 3, func(c *clock.Config) {
			right := c.Now
			c.Now = func() time.Time {
				if wrong {
					wrong = false
					return right().Add(step)
				}
				return right()
			}
		})
		w.guard.Poll(t.Context())
		wrong = true
		r, err := w.guard.Read()
		if !errors.Is(err, clock.ErrDisagrees) || !r.Time.IsZero() || wrong {
			t.Errorf("%s: %+v, %v", step, r, err)
		}
		if _, err := w.guard.Read(); err != nil {
			t.Errorf("behind a step of %s: %v", step, err)
		}
	}
}

// TestReadIsInterrupted: what passes while the clock is being read is in the bound.
// A clock that is behind by as much as that looks right otherwise.
func TestReadIsInterrupted(t *testing.T) {
	for _, off := range []time.Duration{0, -300 * ms, 300 * ms} {
		var w *world
		pause := time.Duration(0)
		w = newWorld(t, 3, func(c *clock.Config) {
			right := c.Now
			c.Now = func() time.Time {
				w.pass(pause)
				return right()
			}
		})
		w.guard.Poll(t.Context())
		w.jump(off)
		pause = 300 * ms
		r, err := w.guard.Read()
		if err != nil || r.Bound < pause || r.Time.Sub(w.truth()).Abs() > r.Bound {
			t.Errorf("off by %s: %+v, %v", off, r, err)
		}
	}
}

// TestSteppedWhileAsked: a step of the clock while the sources are asked, too small
// for their answers to be dropped, is in the bound.
func TestSteppedWhileAsked(t *testing.T) {
	for _, step := range []time.Duration{200 * ms, -200 * ms} {
		w := newWorld(t, 3)
		for _, s := range w.sources {
			s.uncertainty = 5 * ms
		}
		var asked sync.WaitGroup
		asked.Add(len(w.sources))
		stepped := sync.OnceFunc(func() { w.jump(step) })
		for _, s := range w.sources {
			s.during = func() {
				asked.Done()
				asked.Wait() // all of them know the offset
				stepped()    // none returns before
			}
		}
		w.guard.Poll(t.Context())
		r, err := w.guard.Read()
		if off := r.Time.Sub(w.truth()).Abs(); err != nil || off > r.Bound {
			t.Errorf("off by %s after a step of %s: %+v, %v", off, step, r, err)
		}
	}
}

// TestObservedIsInterrupted: what passes between the readings of the two clocks is
// in the uncertainty.
func TestObservedIsInterrupted(t *testing.T) {
	m := new(machine)
	pause := time.Duration(0)
	o := clock.NewObserved("w", func() time.Time { m.pass(pause); return m.now() }, m.monotonic)
	o.Observe(o.Begin(), m.truth(), 0)
	pause = 300 * ms
	offset, uncertainty, err := o.Offset(t.Context())
	if err != nil || offset.Abs() > uncertainty {
		t.Errorf("the clock is right: %s ± %s, %v", offset, uncertainty, err)
	}
}

// TestAuthoritysClock: ±0.4 s stays within an accuracy of a second, ±2 s does not,
// at once and without a question to anybody.
func TestAuthoritysClock(t *testing.T) {
	for _, tt := range []struct {
		step   time.Duration
		within bool
	}{{400 * ms, true}, {-400 * ms, true}, {2 * time.Second, false}, {-2 * time.Second, false}} {
		w := newWorld(t, 3)
		for _, s := range w.sources {
			s.uncertainty = 20 * ms
		}
		w.guard.Poll(t.Context())
		w.jump(tt.step)
		r, err := w.guard.Read()
		if within := err == nil && r.Bound <= time.Second; within != tt.within {
			t.Errorf("%s: %+v, %v", tt.step, r, err)
		}
		if err == nil && r.Time.Sub(w.truth()).Abs() > r.Bound {
			t.Errorf("%s: off by more than %s", tt.step, r.Bound)
		}
		w.jump(-tt.step)
		if r, err := w.guard.Read(); err != nil || r.Bound > time.Second {
			t.Errorf("behind %s: %+v, %v", tt.step, r, err)
		}
		if n := w.sources[0].asked; n != 1 {
			t.Error(fmt.Sprint("asked ", n, " times"))
		}
	}
}

// TestSlowDrift: a clock that goes wrong little by little is within its bound all
// the way, and out of the accuracy before it is off by as much.
func TestSlowDrift(t *testing.T) {
	for _, step := range []time.Duration{10 * ms, -10 * ms} {
		w := newWorld(t, 3)
		for _, s := range w.sources {
			s.uncertainty = 3 * ms
		}
		w.guard.Poll(t.Context())
		issued := 0
		for off := time.Duration(0); off < 1500*ms; off += step.Abs() {
			r, err := w.guard.Read()
			switch {
			case err == nil && r.Time.Sub(w.truth()).Abs() > r.Bound:
				t.Errorf("off by %s, bound %s", off, r.Bound)
			case err == nil && r.Bound <= time.Second:
				issued++
			case off < 900*ms:
				t.Errorf("off by %s: %+v, %v", off, r, err)
			}
			w.jump(step)
		}
		if issued < 90 || issued > 100 {
			t.Errorf("%d readings were within a second", issued)
		}
	}
}
