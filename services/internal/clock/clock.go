// Package clock tells whether the machine's clock can be believed, by asking
// sources of time that the machine does not set itself.
//
// A source is trusted for nothing alone: only a majority of all configured
// sources, at least three, says that the clock is right or wrong. Whoever controls
// a majority of them, or of the network to them (NTP is not authenticated), can
// stop intake; they cannot move the clock.
package clock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Least is how many sources must be configured before any of them counts.
const Least = 3

// Source tells by how much the machine's clock is wrong. Its methods may be
// called concurrently.
type Source interface {
	// Name is for logs and errors.
	Name() string
	// Offset returns what must be added to the machine's clock to get the
	// source's time, and how far that may be off either way, both at the moment
	// at which it returns. It gives up when ctx ends.
	Offset(ctx context.Context) (offset, uncertainty time.Duration, err error)
}

// ErrDisagrees is what a *DisagreementError matches.
var ErrDisagrees = errors.New("the clock disagrees with the sources of time")

// DisagreementError says that a majority of the sources contradicts the clock.
type DisagreementError struct {
	// Offset is what must be added to the machine's clock to get the time of
	// the middle one of the sources that contradict it.
	Offset time.Duration
	// Sources are the names of those that contradict it, sorted, Of is how many
	// are configured.
	Sources []string
	Of      int
}

// Error names the offset and the sources.
func (e *DisagreementError) Error() string {
	direction := "behind"
	if e.Offset < 0 {
		direction = "ahead of"
	}
	return fmt.Sprintf("the clock is %s %s %s (%d of %d sources)",
		e.Offset.Abs().Round(time.Millisecond), direction, strings.Join(e.Sources, ", "), len(e.Sources), e.Of)
}

// Is makes errors.Is(err, ErrDisagrees) true.
func (e *DisagreementError) Is(target error) bool { return target == ErrDisagrees }

// opinion is what a source says about the clock at one moment.
type opinion struct {
	name   string
	known  bool // it has been asked successfully, and not too long ago
	wrong  bool // the clock is off by more than it may be
	offset time.Duration
	slack  time.Duration // by how much the offset may be off either way by now
}

// verdict counts opinions: verified if a majority of all of them says that the
// clock is right, an error if a majority says that it is wrong. Sources that say
// nothing count neither way, so silence never verifies and never stops.
func verdict(opinions []opinion) (verified bool, err error) {
	if len(opinions) < Least {
		return false, nil
	}
	majority := len(opinions)/2 + 1
	right := 0
	var wrong []opinion
	for _, o := range opinions {
		switch {
		case o.known && o.wrong:
			wrong = append(wrong, o)
		case o.known:
			right++
		}
	}
	if len(wrong) < majority {
		return right >= majority, nil
	}
	slices.SortFunc(wrong, func(a, b opinion) int { return int(min(max(a.offset-b.offset, -1), 1)) })
	e := &DisagreementError{Offset: wrong[len(wrong)/2].offset, Of: len(opinions)}
	for _, o := range wrong {
		e.Sources = append(e.Sources, o.name)
	}
	slices.Sort(e.Sources)
	return false, e
}
