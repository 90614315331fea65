package clock

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/trialog/trialog/services/internal/run"
)

// maxDrift is how much faster or slower than true time a machine's monotonic
// clock may run: NTP slews by 500 ppm, and crystals are off by less.
const maxDrift = 1000 * time.Microsecond // a second

// Config says what a Guard compares, and how often. The zero value of each field
// but Now and Logger means its default.
type Config struct {
	// Now is the machine's clock: the one that receive times are taken from.
	Now func() time.Time
	// Monotonic is the time since some moment, by a clock that nobody sets. The
	// default is derived from Now, whose readings must then carry Go's monotonic
	// reading, as those of time.Now do.
	Monotonic func() time.Duration
	// Sources are asked for the time; fewer than three verify nothing.
	Sources []Source
	// Tolerance is by how much the clock may differ from a source beyond the
	// uncertainty; 1 s.
	Tolerance time.Duration
	// Interval is the time between two rounds of questions, give or take an
	// eighth; 32 s.
	Interval time.Duration
	// Timeout is for one question; 2 s.
	Timeout time.Duration
	// MaxAge is how long an answer counts; 4 × Interval.
	MaxAge time.Duration
	// MaxUncertainty is above which an answer says nothing; 1 s.
	MaxUncertainty time.Duration
	// Watch is the time between two looks at whether the clock was set, after
	// which all sources are asked at once; 250 ms.
	Watch time.Duration
	// Pause waits; another one in tests only.
	Pause  func(context.Context, time.Duration) error
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	set := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&c.Tolerance, time.Second)
	set(&c.Interval, 32*time.Second)
	set(&c.Timeout, 2*time.Second)
	set(&c.MaxAge, 4*c.Interval)
	set(&c.MaxUncertainty, time.Second)
	set(&c.Watch, 250*time.Millisecond)
	if c.Monotonic == nil {
		now, start := c.Now, c.Now()
		c.Monotonic = func() time.Duration { return now().Sub(start) }
	}
	if c.Pause == nil {
		c.Pause = run.Pause
	}
	return c
}

// Guard compares the machine's clock with its sources. Make it with New, then Run
// it; Check may be called at any time.
//
// An answer of a source is kept as the distance between the source's time and
// the monotonic clock. So Check needs no network, and a clock that is set is
// noticed by the next Check, and its correction by the next one after that.
type Guard struct {
	c Config

	mu      sync.Mutex
	answers []answer // by source
	said    string   // the last verdict that was logged
}

// answer is the last one of a source.
type answer struct {
	known bool
	// base is the source's time at zero of the monotonic clock, in nanoseconds
	// since 1970.
	base        int64
	at          time.Duration // monotonic
	uncertainty time.Duration
	err         error // of the last question; the answer may be an older one
	wrong       bool  // as last logged
}

// New returns a Guard. It asks nothing yet.
func New(c Config) (*Guard, error) {
	switch {
	case c.Now == nil:
		return nil, errors.New("clock guard: expected a clock")
	case c.Logger == nil:
		return nil, errors.New("clock guard: expected a logger")
	}
	seen := map[string]bool{}
	for _, s := range c.Sources {
		if seen[s.Name()] {
			// A source that counts twice would be a majority of its own.
			return nil, fmt.Errorf("clock guard: source %q is named twice", s.Name())
		}
		seen[s.Name()] = true
	}
	c = c.withDefaults()
	if n := len(c.Sources); n < Least {
		c.Logger.Warn("times are unverified: too few sources of time", "sources", n, "needed", Least)
	}
	return &Guard{c: c, answers: make([]answer, len(c.Sources))}, nil
}

// base returns what the machine's clock showed, or would have shown, at zero of
// the monotonic clock. It changes only when the clock is set or slewed.
func (g *Guard) base() (base int64, monotonic time.Duration) {
	monotonic = g.c.Monotonic()
	return g.c.Now().UnixNano() - int64(monotonic), monotonic
}

// Check tells whether the clock can be believed now. An error matches
// ErrDisagrees: nothing may be dated by this clock. False without an error means
// that nobody knows: too few sources are configured, or have answered. It is
// cheap, and meant to be called for every batch.
func (g *Guard) Check() (verified bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	opinions := g.opinions(g.base())
	verified, err = verdict(opinions)
	g.report(opinions, verified, err)
	return verified, err
}

// opinions holds every answer against a clock with this base, now.
func (g *Guard) opinions(base int64, now time.Duration) []opinion {
	list := make([]opinion, len(g.answers))
	for i, a := range g.answers {
		o := opinion{name: g.c.Sources[i].Name()}
		if age := now - a.at; a.known && age <= g.c.MaxAge {
			o.known, o.offset = true, time.Duration(a.base-base)
			o.slack = a.uncertainty + time.Duration(age.Seconds()*float64(maxDrift))
			o.wrong = o.offset.Abs() > g.c.Tolerance+o.slack
		}
		list[i] = o
	}
	return list
}

// report logs verdicts when they change.
func (g *Guard) report(opinions []opinion, verified bool, err error) {
	if len(opinions) < Least {
		return // New has said so
	}
	for i, o := range opinions {
		if o.known && o.wrong != g.answers[i].wrong {
			g.answers[i].wrong = o.wrong
			if o.wrong {
				g.c.Logger.Warn("a source of time contradicts the clock", "source", o.name, "offset", o.offset)
			}
		}
	}
	said := "unverified"
	switch {
	case err != nil:
		said = "wrong"
	case verified:
		said = "verified"
	}
	if said == g.said {
		return
	}
	g.said = said
	switch {
	case err != nil:
		g.c.Logger.Error("the clock is wrong", "error", err)
	case verified:
		g.c.Logger.Info("the clock is verified", "sources", len(opinions))
	default:
		g.c.Logger.Warn("times are unverified: no majority of the sources agrees", "answered", g.answered(), "sources", len(opinions))
	}
}

func (g *Guard) answered() int {
	n := 0
	_, now := g.base()
	for _, a := range g.answers {
		if a.known && now-a.at <= g.c.MaxAge {
			n++
		}
	}
	return n
}

// State is what is known from one source, for metrics and pages.
type State struct {
	Source string
	// Known says that there is an answer that still counts; the next three fields
	// mean nothing otherwise.
	Known bool
	// Offset is what must be added to the clock as it is now.
	Offset      time.Duration
	Uncertainty time.Duration // at the time of the answer
	Age         time.Duration
	// Err is why the last question got no answer that counts; nil if it did.
	Err error
}

// States returns what is known from each source, in their order.
func (g *Guard) States() []State {
	g.mu.Lock()
	defer g.mu.Unlock()
	base, now := g.base()
	states := make([]State, len(g.answers))
	for i, o := range g.opinions(base, now) {
		a := g.answers[i]
		states[i] = State{Source: o.name, Known: o.known, Err: a.err}
		if o.known {
			states[i].Offset, states[i].Uncertainty, states[i].Age = o.offset, a.uncertainty, now-a.at
		}
	}
	return states
}

// Poll asks every source once and returns when all have answered or given up.
func (g *Guard) Poll(ctx context.Context) {
	var wg sync.WaitGroup
	for i, s := range g.c.Sources {
		wg.Go(func() { g.ask(ctx, i, s) })
	}
	wg.Wait()
	_, _ = g.Check() // logs what has changed
}

// ask takes one answer.
func (g *Guard) ask(ctx context.Context, i int, s Source) {
	ctx, cancel := context.WithTimeout(ctx, g.c.Timeout)
	defer cancel()
	before, _ := g.base()
	offset, uncertainty, err := s.Offset(ctx)
	after, now := g.base()
	// Nobody knows to which side of a step, or of a pause between the readings of
	// the two clocks, the offset belongs.
	moved := time.Duration(after - before).Abs()
	uncertainty += moved
	switch {
	case err != nil:
	case moved > g.c.Tolerance/4:
		err = errors.New("the clock was set while the source was asked")
	case uncertainty < moved || uncertainty > g.c.MaxUncertainty:
		err = fmt.Errorf("an uncertainty of %s, expected at most %s", uncertainty, g.c.MaxUncertainty)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a := &g.answers[i]
	if a.err = err; err != nil {
		g.c.Logger.Debug("a source of time gave no answer", "source", s.Name(), "error", err)
		return
	}
	a.known, a.base, a.at, a.uncertainty = true, after+int64(offset), now, uncertainty
}

// Run asks the sources until ctx ends: in regular rounds, and at once when the
// clock was set, because a machine that slept has a clock that was rightly set.
func (g *Guard) Run(ctx context.Context) error {
	for {
		base, start := g.base()
		g.Poll(ctx)
		next := g.interval()
		for {
			if err := g.c.Pause(ctx, g.c.Watch); err != nil {
				return err
			}
			now, monotonic := g.base()
			if jump := time.Duration(now - base); jump.Abs() > g.c.Tolerance/4 {
				g.c.Logger.Warn("the clock was set", "by", jump)
				break
			}
			if monotonic-start >= next {
				break
			}
		}
	}
}

// interval is Interval, give or take an eighth, so that many machines do not ask
// at the same moment.
func (g *Guard) interval() time.Duration {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	spread := g.c.Interval / 4
	return g.c.Interval - spread/2 + spread*time.Duration(binary.BigEndian.Uint16(b[:]))>>16
}
