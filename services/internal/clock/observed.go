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

// Observed is a source that is told time stamps instead of asking for them: those
// of a witness's cosignatures, which come with every checkpoint anyway.
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
	at := o.monotonic()
	took := at - begin
	if took < 0 || granularity < 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	uncertainty := took/2 + granularity/2
	if o.known && o.uncertaintyAt(at) < uncertainty {
		return // what is known says more
	}
	middle := stamp.Add(granularity / 2).UnixNano()
	o.known, o.at, o.uncertainty = true, at, uncertainty
	o.base = middle - int64(at-took/2)
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
	if !o.known {
		return 0, 0, errors.New("nothing was observed yet")
	}
	if age := at - o.at; age > observedAge {
		return 0, 0, fmt.Errorf("the last observation is %s old", age.Round(time.Second))
	}
	return time.Duration(o.base + int64(at) - o.now().UnixNano()), o.uncertaintyAt(at), nil
}
