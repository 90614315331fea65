package sequencer

import (
	"context"
	"sync"
	"time"
)

// share is how greedy one organisation may be: it is let in while it has less
// under way than share times what is still free. Alone it gets two thirds of the
// whole; however many there are, some room is always left for one more.
const share = 2

// Bounds and default of what a client is told to wait.
const (
	minRetry     = 50 * time.Millisecond
	maxRetry     = 30 * time.Second
	defaultRetry = time.Second
	// rateSpan is over what time the rate is measured at least.
	rateSpan = 100 * time.Millisecond
)

// intake bounds what is under way, in number and in bytes, over all callers and
// for each organisation. Whoever finds no room is sent away before anything
// costly is done for him.
//
// The organisation is the one that a statement names, before anybody has looked
// at its signatures: with another's name one can take room from that other one,
// for as long as it takes to see that the signatures are wrong.
type intake struct {
	limit load
	now   func() time.Time

	mu   sync.Mutex
	used load
	held map[string]load
	room chan struct{} // closed when there is more room; nil if nobody waits
	rate rate
}

// load is a number of submissions and the memory that they take.
type load struct {
	items int
	bytes int64
}

// ticket is one submission's room.
type ticket struct {
	organisation string
	bytes        int64
}

func newIntake(items int, bytes int64, now func() time.Time) *intake {
	return &intake{limit: load{items, bytes}, now: now, held: map[string]load{}}
}

// take gives out room, or a *BusyError.
func (in *intake) take(t ticket) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.fits(t) {
		return &BusyError{After: in.retry()}
	}
	in.add(t)
	return nil
}

// wait is take for who can wait, at most until patience fires.
func (in *intake) wait(ctx context.Context, t ticket, patience <-chan time.Time) error {
	for {
		in.mu.Lock()
		if in.fits(t) {
			in.add(t)
			in.mu.Unlock()
			return nil
		}
		if in.room == nil {
			in.room = make(chan struct{})
		}
		room, retry := in.room, in.retry()
		in.mu.Unlock()
		select {
		case <-room:
		case <-patience:
			return &BusyError{After: retry}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fits tells whether there is room. A single submission always fits.
func (in *intake) fits(t ticket) bool {
	if in.used.items == 0 {
		return true
	}
	mine := in.held[t.organisation]
	freeItems, freeBytes := in.limit.items-in.used.items, in.limit.bytes-in.used.bytes
	return freeItems > 0 && t.bytes <= freeBytes &&
		mine.items < share*freeItems && mine.bytes+t.bytes <= share*freeBytes
}

func (in *intake) add(t ticket) {
	if in.used.items == 0 {
		in.rate.begin(in.now())
	}
	mine := in.held[t.organisation]
	mine.items++
	mine.bytes += t.bytes
	in.held[t.organisation] = mine
	in.used.items++
	in.used.bytes += t.bytes
}

// move books room under the organisation that a statement really names.
func (in *intake) move(t ticket, organisation string) ticket {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.remove(t)
	t.organisation = organisation
	in.add(t)
	return t
}

func (in *intake) remove(t ticket) {
	mine := in.held[t.organisation]
	mine.items--
	mine.bytes -= t.bytes
	if mine.items == 0 {
		delete(in.held, t.organisation)
	} else {
		in.held[t.organisation] = mine
	}
	in.used.items--
	in.used.bytes -= t.bytes
}

// release gives room back.
func (in *intake) release(tickets ...ticket) {
	if len(tickets) == 0 {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, t := range tickets {
		in.remove(t)
	}
	in.rate.count(in.now(), len(tickets))
	if in.room != nil {
		close(in.room)
		in.room = nil
	}
}

// retry is how long it takes until what is under way is done.
func (in *intake) retry() time.Duration {
	if in.rate.perSecond <= 0 {
		return defaultRetry
	}
	wait := time.Duration(float64(in.used.items) / in.rate.perSecond * float64(time.Second))
	return min(max(wait, minRetry), maxRetry)
}

// load returns what is under way.
func (in *intake) load() load {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.used
}

// waiterBytes is what somebody who waits for FINAL takes beside the entry, about.
const waiterBytes = 2048

// budget bounds what those hold in memory who wait for FINAL. Whoever finds it
// used up does not wait, and gets the promise.
type budget struct {
	limit load
	mu    sync.Mutex
	used  load
}

func (b *budget) take(bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used.items >= b.limit.items || b.used.bytes+bytes > b.limit.bytes {
		return false
	}
	b.used.items++
	b.used.bytes += bytes
	return true
}

func (b *budget) release(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used.items--
	b.used.bytes -= bytes
}

// rate is how many submissions are done per second while there are any.
type rate struct {
	perSecond float64
	since     time.Time
	done      int
}

// begin starts measuring anew, after a time in which there was nothing to do.
func (r *rate) begin(now time.Time) { r.since, r.done = now, 0 }

func (r *rate) count(now time.Time, n int) {
	r.done += n
	span := now.Sub(r.since)
	if span < rateSpan {
		return
	}
	latest := float64(r.done) / span.Seconds()
	if r.perSecond == 0 {
		r.perSecond = latest
	} else {
		r.perSecond += 0.3 * (latest - r.perSecond)
	}
	r.begin(now)
}
