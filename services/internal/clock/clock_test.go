package clock_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/services/internal/clock"
)

// TestMajorities: what so many sources of so many say. Each letter is a source: r
// agrees with the clock, w contradicts it, - does not answer, u is too uncertain.
func TestMajorities(t *testing.T) {
	for sources, want := range map[string]string{
		"": "unverified", "r": "unverified", "rr": "unverified", "w": "unverified", "ww": "unverified",
		"rrr": "verified", "rrw": "verified", "rr-": "verified", "rru": "verified",
		"rww": "wrong", "www": "wrong", "ww-": "wrong", "wwu": "wrong",
		"r--": "unverified", "w--": "unverified", "rw-": "unverified", "---": "unverified", "uuu": "unverified",
		"rrww": "unverified", "rrrw": "verified", "rwww": "wrong", "rr--": "unverified", "ww--": "unverified",
		"rrrww": "verified", "rrwww": "wrong", "rrr--": "verified", "rrw--": "unverified", "www--": "wrong", "rww--": "unverified",
	} {
		w := newWorld(t, len(sources))
		for i, s := range w.sources {
			switch sources[i] {
			case 'w':
				s.off = time.Hour
			case '-':
				s.err = errors.New("no answer")
			case 'u':
				s.uncertainty = 2 * time.Second
			}
		}
		w.guard.Poll(t.Context())
		err := w.check(t, sources, want == "verified", want == "wrong")
		if err == nil {
			continue
		}
		var e *clock.DisagreementError
		if !errors.As(err, &e) || e.Offset != time.Hour || e.Of != len(sources) || len(e.Sources) != strings.Count(sources, "w") {
			t.Errorf("%s: %+v", sources, e)
		}
		for _, name := range e.Sources {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v does not name %s", sources, err, name)
			}
		}
		if !strings.Contains(err.Error(), "the clock is 1h0m0s behind") {
			t.Errorf("%s: %v", sources, err)
		}
	}
}

func TestTolerance(t *testing.T) {
	for _, tt := range []struct {
		off, uncertainty time.Duration
		wrong            bool
	}{
		{0, 0, false},
		{time.Second, 0, false},
		{-time.Second, 0, false},
		{time.Second + 1, 0, true},
		{-time.Second - 1, 0, true},
		{1500 * time.Millisecond, 500 * time.Millisecond, false},
		{1500*time.Millisecond + 1, 500 * time.Millisecond, true},
		{-1600 * time.Millisecond, 500 * time.Millisecond, true},
	} {
		w := newWorld(t, 3)
		for _, s := range w.sources {
			s.off, s.uncertainty = tt.off, tt.uncertainty
		}
		w.guard.Poll(t.Context())
		w.check(t, fmt.Sprintf("off by %s, uncertain by %s", tt.off, tt.uncertainty), !tt.wrong, tt.wrong)
	}
}

// TestJump: a clock that is set is noticed by the next Check, and so is its
// correction, without a question to anybody.
func TestJump(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour, 2 * time.Second, -2 * time.Second} {
		w := newWorld(t, 3)
		w.check(t, "before the first answer", false, false)
		w.guard.Poll(t.Context())
		w.check(t, "in the beginning", true, false)
		w.pass(10 * time.Second)
		w.jump(jump)
		err := w.check(t, "after the jump", false, true)
		if want := map[bool]string{true: "ahead of s0, s1, s2", false: "behind s0, s1, s2"}[jump > 0]; err != nil &&
			!strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %q", err, want)
		}
		w.jump(-jump)
		w.check(t, "after the correction", true, false)
		// The same with answers that were taken while the clock was wrong.
		w.jump(jump)
		w.guard.Poll(t.Context())
		w.check(t, "asked after the jump", false, true)
		w.jump(-jump)
		w.check(t, "corrected after that", true, false)
		if n := w.sources[0].asked; n != 2 {
			t.Errorf("the sources were asked %d times", n)
		}
		if got := strings.Count(w.lines.String(), `msg="the clock is wrong"`); got != 2 {
			t.Errorf("logged %d times that the clock is wrong, expected 2:\n%s", got, w.lines)
		}
	}
}

// TestWrongSources: sources that go wrong together stop the log, and a single one
// does not.
func TestWrongSources(t *testing.T) {
	w := newWorld(t, 3)
	for i := range w.sources {
		w.sources[i].set(func(s *source) { s.off = -time.Minute })
		w.guard.Poll(t.Context())
		w.check(t, fmt.Sprintf("%d sources are wrong", i+1), i == 0, i > 0)
	}
	if got := strings.Count(w.lines.String(), "a source of time contradicts the clock"); got != 3 {
		t.Errorf("%d sources logged, expected 3", got)
	}
	for _, s := range w.sources {
		s.set(func(s *source) { s.off = 0 })
	}
	w.guard.Poll(t.Context())
	w.check(t, "all are right again", true, false)
}

// TestOldAnswers: an answer counts for a while, and an old one does not.
func TestOldAnswers(t *testing.T) {
	w := newWorld(t, 3, func(c *clock.Config) { c.Interval, c.MaxAge = time.Minute, 3*time.Minute })
	w.guard.Poll(t.Context())
	for _, s := range w.sources {
		s.set(func(s *source) { s.err = errors.New("no answer") })
	}
	w.pass(3 * time.Minute)
	w.guard.Poll(t.Context())
	w.check(t, "three minutes old", true, false)
	for _, s := range w.guard.States() {
		if !s.Known || s.Err == nil || s.Age != 3*time.Minute || s.Offset != 0 {
			t.Errorf("%+v", s)
		}
	}
	w.pass(1)
	w.check(t, "a nanosecond older", false, false)
	w.jump(time.Hour)
	w.check(t, "wrong, but nobody knows", false, false)
	if w.guard.States()[0].Known {
		t.Error("an old answer is known")
	}
}

// TestSetWhileAsked: an offset that may belong to either of two clocks is dropped.
func TestSetWhileAsked(t *testing.T) {
	w := newWorld(t, 3)
	w.sources[0].during = func() { w.jump(time.Hour) }
	for _, s := range w.sources[1:] {
		s.err = errors.New("no answer")
	}
	w.guard.Poll(t.Context())
	for _, s := range w.guard.States() {
		if s.Known || s.Err == nil {
			t.Errorf("%+v", s)
		}
	}
}

func TestNew(t *testing.T) {
	m := new(machine)
	twice := &source{m: m, name: "s"}
	logger := slog.New(slog.DiscardHandler)
	for name, c := range map[string]clock.Config{
		"no clock":     {Logger: logger},
		"no logger":    {Now: m.now},
		"source twice": {Now: m.now, Logger: logger, Sources: []clock.Source{twice, twice, twice}},
	} {
		if _, err := clock.New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestDefaultMonotonic: Go's own readings are enough.
func TestDefaultMonotonic(t *testing.T) {
	var shift time.Duration
	now := func() time.Time { return time.Now().Add(shift) }
	right := func(context.Context) (offset, uncertainty time.Duration, err error) { return -shift, 0, nil }
	g, err := clock.New(clock.Config{
		Now: now, Logger: slog.New(slog.DiscardHandler),
		Sources: []clock.Source{fromFunc("a", right), fromFunc("b", right), fromFunc("c", right)},
	})
	if err != nil {
		t.Fatal(err)
	}
	g.Poll(t.Context())
	if ok, err := g.Check(); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

// TestRun: sources are asked in rounds, and at once when the clock was set.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var w *world
	looks := 0
	var rounds []int // how often the sources had been asked at each look
	w = newWorld(t, 3, func(c *clock.Config) {
		c.Interval, c.Watch = 80*time.Second, 10*time.Second
		c.Pause = func(ctx context.Context, d time.Duration) error {
			looks++
			rounds = append(rounds, w.sources[0].asked)
			w.pass(d)
			switch looks {
			case 20:
				w.jump(time.Hour)
			case 21:
				w.check(t, "after the jump", false, true)
			case 22:
				w.jump(-time.Hour)
			case 23:
				w.check(t, "after the correction", true, false)
			case 24:
				// The wall clock goes on while the machine sleeps.
				w.sleep(8 * time.Hour)
				w.check(t, "right after waking up", false, true)
			case 25:
				w.check(t, "at the next look", true, false)
			case 30:
				cancel()
			}
			return ctx.Err()
		}
	})
	if err := w.guard.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	// An interval is 70 to 90 s, so 7 to 9 looks.
	if rounds[0] != 1 || rounds[6] != 1 || rounds[9] != 2 || rounds[19] != 3 {
		t.Errorf("asked before each look: %v", rounds)
	}
	for _, at := range []int{20, 22, 24} { // looks count from 1, and see what the last one did
		if rounds[at] != rounds[at-1]+1 {
			t.Errorf("the clock was set at look %d, asked before each: %v", at, rounds)
		}
	}
}

// TestRunEnds: Run ends while a source hangs, as soon as that gives up.
func TestRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	hangs := fromFunc("hangs", func(ctx context.Context) (offset, uncertainty time.Duration, err error) {
		cancel()
		<-ctx.Done()
		return 0, 0, ctx.Err()
	})
	w := newWorld(t, 2, func(c *clock.Config) { c.Sources = append(c.Sources, hangs) })
	if err := w.guard.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	w.check(t, "two of three", true, false)
}

// TestObserved: time stamps of answers that come anyway.
func TestObserved(t *testing.T) {
	m := new(machine)
	o := clock.NewObserved("w1", m.now, m.monotonic)
	if _, _, err := o.Offset(t.Context()); err == nil || o.Name() != "w1" {
		t.Error("an offset before anything was observed")
	}
	observe := func(shift, takes time.Duration) {
		m.jump(shift)
		begin := o.Begin()
		m.pass(takes / 2)
		stamp := m.truth().Truncate(time.Second)
		m.pass(takes / 2)
		o.Observe(begin, stamp, time.Second)
	}
	within := func(what string, want, limit time.Duration) {
		t.Helper()
		offset, uncertainty, err := o.Offset(t.Context())
		if err != nil || (offset-want).Abs() > uncertainty || uncertainty > limit {
			t.Errorf("%s: offset %s ± %s, %v; expected %s ± at most %s", what, offset, uncertainty, err, want, limit)
		}
	}
	observe(0, 200*time.Millisecond)
	within("right", 0, 600*time.Millisecond)
	m.jump(time.Hour)
	within("after a jump", -time.Hour, 600*time.Millisecond)
	m.jump(-time.Hour)
	observe(0, 20*time.Second)
	within("after a slow answer", 0, 700*time.Millisecond)
	m.pass(9 * time.Minute)
	within("nine minutes later", 0, 2*time.Second)
	observe(-time.Minute, 0)
	within("a new one that says more", time.Minute, 500*time.Millisecond)
	m.pass(11 * time.Minute)
	if _, _, err := o.Offset(t.Context()); err == nil {
		t.Error("an offset of eleven minutes ago")
	}
	o.Observe(o.Begin()+time.Second, m.now(), time.Second)
	if _, _, err := o.Offset(t.Context()); err == nil {
		t.Error("an answer from before its question counts")
	}
}
