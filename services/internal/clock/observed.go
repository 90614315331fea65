package clock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// observedAge is how long an observation counts. Clocks drift apart by less than
// the tolerance within it.
const observedAge = 10 * time.Minute

// Observed puts together the time stamps that a source gives, such as those of a
// witness's cosignatures, which are to the second: several of them, at different
// moments, say more than each alone.
type Observed struct {
	name      string
	now       func() time.Time
	monotonic func() time.Duration

	mu          sync.Mutex
	known       bool
	base        int64 // the source's time at zero of the monotonic clock
	at          time.Duration
	uncertainty time.Duration
}

// NewObserved returns a source with the name. now is the clock that is compared;
// monotonic is as in Config, nil for the default.
func NewObserved(name string, now func() time.Time, monotonic func() time.Duration) *Observed {
	c := Config{Now: now, Monotonic: monotonic}.withDefaults()
	return &Observed{name: name, now: now, monotonic: c.Monotonic}
}

// Begin is called before the request is sent whose answer carries a time stamp.
// What it returns is given to Observe.
func (o *Observed) Begin() time.Duration { return o.monotonic() }

// Observe is called when the answer is there: the source put its time on it
// after begin, cut to a multiple of granularity (a second for cosignatures).
// The longer the answer took, the less it says.
func (o *Observed) Observe(begin time.Duration, stamp time.Time, granularity time.Duration) {
	o.between(begin, o.monotonic(), stamp, granularity)
}

// between is Observe for an answer that was there at a moment in the past.
func (o *Observed) between(begin, at time.Duration, stamp time.Time, granularity time.Duration) {
	took := at - begin
	if took < 0 || granularity < 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	uncertainty := took/2 + granularity/2
	base := stamp.Add(granularity/2).UnixNano() - int64(at-took/2)
	if o.known && at >= o.at {
		// Both observations are right, so the truth is in both of their
		// intervals; if these have nothing in common, the source was set.
		was := int64(o.uncertaintyAt(at))
		low, high := max(base-int64(uncertainty), o.base-was), min(base+int64(uncertainty), o.base+was)
		if low <= high {
			base, uncertainty = low+(high-low)/2, time.Duration((high-low+1)/2)
		}
	}
	o.known, o.at, o.base, o.uncertainty = true, at, base, uncertainty
}

// uncertaintyAt returns how far the kept observation may be off by now.
func (o *Observed) uncertaintyAt(at time.Duration) time.Duration {
	return o.uncertainty + time.Duration((at-o.at).Seconds()*float64(maxDrift))
}

// Name implements Source.
func (o *Observed) Name() string { return o.name }

// Offset implements Source. It asks nobody.
func (o *Observed) Offset(context.Context) (offset, uncertainty time.Duration, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := o.monotonic()
	now := o.now()
	pause := o.monotonic() - at // between the readings of the two clocks
	if !o.known {
		return 0, 0, errors.New("nothing was observed yet")
	}
	if age := at - o.at; age > observedAge {
		return 0, 0, fmt.Errorf("the last observation is %s old", age.Round(time.Second))
	}
	return time.Duration(o.base + int64(at) - now.UnixNano()), o.uncertaintyAt(at) + pause, nil
}
