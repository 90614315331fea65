package clock

import (
	"errors"
	"fmt"
	"time"
)

// ErrUnverified says that no majority of the sources tells what time it is.
var ErrUnverified = errors.New("the time is not verified")

// Reading is a time that was itself held against the sources.
type Reading struct {
	// Time is the machine's clock.
	Time time.Time
	// Bound is the most that Time may be off either way, as long as a majority
	// of all configured sources states its own uncertainty truly: the distance
	// from the sources, their uncertainty, and what a clock drifts since they
	// answered.
	Bound time.Duration
}

// Read returns the time with what it may be off. It is this very reading of the
// clock that is compared, not the clock shortly before or after, so a step of the
// clock cannot get in between. The error matches ErrDisagrees or ErrUnverified.
func (g *Guard) Read() (Reading, error) {
	// The wall clock is read at some moment between two readings of the other
	// one; how far these are apart is all that a pause in here can do.
	before := g.c.Monotonic()
	t := g.c.Now()
	after := g.c.Monotonic()
	g.mu.Lock()
	defer g.mu.Unlock()
	opinions := g.opinions(t.UnixNano()-int64(before), before)
	verified, err := verdict(opinions)
	g.report(opinions, verified, err)
	if err != nil {
		return Reading{}, err
	}
	bound, ok := worst(opinions)
	if !ok {
		return Reading{}, fmt.Errorf("%w: no majority of the %d sources agrees", ErrUnverified, len(opinions))
	}
	return Reading{Time: t, Bound: bound + (after - before)}, nil
}

// worst returns the greatest error of the clock that a majority of all sources
// holds to be possible (Marzullo's intersection). While a majority is right, the
// true error lies within all of its intervals, and so it is not greater than
// this, whatever the others say. False means that no error is possible to a
// majority: then at least one of them is wrong about itself.
func worst(opinions []opinion) (time.Duration, bool) {
	if len(opinions) < Least {
		return 0, false
	}
	majority := len(opinions)/2 + 1
	var most time.Duration
	found := false
	consider := func(at time.Duration) {
		covering := 0
		for _, o := range opinions {
			if o.known && (o.offset-at).Abs() <= o.slack {
				covering++
			}
		}
		if covering >= majority {
			most, found = max(most, at.Abs()), true
		}
	}
	// What a majority covers is made of intervals that end where one of a
	// source does.
	for _, o := range opinions {
		if o.known {
			consider(o.offset - o.slack)
			consider(o.offset + o.slack)
		}
	}
	return most, found
}
