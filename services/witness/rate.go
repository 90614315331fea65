package witness

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// Rate limits how often one log may have a grown tree cosigned.
type Rate struct {
	// PerMinute is the long-run number a minute; at least 1.
	PerMinute int
	// Burst is how many may come at once; 0 means 1.
	Burst int
}

// bucket is a token bucket. Only what would be cosigned takes a token: were
// refused requests counted, whoever sends rubbish in a log's name could lock the
// log out, since requests are not authenticated.
type bucket struct {
	interval time.Duration // one token comes in each
	burst    float64

	mu     sync.Mutex
	tokens float64
	last   time.Time
}

func newBucket(r Rate, now time.Time) (*bucket, error) {
	if r.PerMinute < 1 || time.Duration(r.PerMinute) > time.Minute || r.Burst < 0 {
		return nil, fmt.Errorf("rate: expected at least 1 a minute and no negative burst, got %d and %d", r.PerMinute, r.Burst)
	}
	burst := float64(max(r.Burst, 1))
	return &bucket{interval: time.Minute / time.Duration(r.PerMinute), burst: burst, tokens: burst, last: now}, nil
}

// take takes a token, or says how long it takes until there is one. A nil bucket
// never runs dry.
func (b *bucket) take(now time.Time) (wait time.Duration, ok bool) {
	if b == nil {
		return 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// A clock that steps back gives nothing and takes nothing.
	if gone := now.Sub(b.last); gone > 0 {
		b.tokens = math.Min(b.burst, b.tokens+float64(gone)/float64(b.interval))
	}
	b.last = now
	if b.tokens < 1 {
		return time.Duration((1 - b.tokens) * float64(b.interval)), false
	}
	b.tokens--
	return 0, true
}
