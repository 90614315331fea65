package main

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/trialog/trialog/api/client"
)

// outcome is what became of a statement.
type outcome string

const (
	final       outcome = "final"       // a receipt that verifies
	pending     outcome = "pending"     // a promise that verifies
	known       outcome = "duplicate"   // a duplicate that was answered as one
	refused     outcome = "refused"     // an invalid one that was refused
	busy        outcome = "busy"        // 429: nothing was stored, come again
	unknown     outcome = "unknown"     // no answer, or one that leaves it open
	untrue      outcome = "untrue"      // an answer that does not verify
	unexpected  outcome = "unexpected"  // a valid one refused, an invalid one taken in
	unattempted outcome = "unattempted" // not sent before the end of the run
)

// outcomes are all of them, in the order in which they are shown.
func outcomes() []outcome {
	return []outcome{final, pending, known, refused, busy, unknown, untrue, unexpected, unattempted}
}

// judge says what a result is worth.
func judge(k kind, r client.Result) outcome {
	var p *client.Problem
	var u *client.UntrueError
	switch {
	case errors.As(r.Err, &u):
		return untrue
	case errors.As(r.Err, &p) && p.Status == http.StatusTooManyRequests:
		return busy
	case client.Unreachable(r.Err):
		return unknown
	case r.Err != nil && k == invalid:
		return refused
	case r.Err != nil || k == invalid:
		return unexpected
	case k == duplicate && !r.Acknowledgement.Duplicate:
		return unexpected
	case k == duplicate:
		return known
	case r.Acknowledgement.Promise != nil:
		return pending
	}
	return final
}

// tally counts. It is safe for concurrent use.
type tally struct {
	mu        sync.Mutex
	counts    map[outcome]int64
	scheduled int64
	accepted  *hdrhistogram.Histogram // final and pending
	all       *hdrhistogram.Histogram // whatever has an answer
	first     error                   // the first that was untrue or unexpected
	reads     map[string]int64
}

// Latencies are kept from 1 µs to 10 min with three digits.
func newTally() *tally {
	h := func() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(10*time.Minute/time.Microsecond), 3) }
	return &tally{counts: map[outcome]int64{}, accepted: h(), all: h(), reads: map[string]int64{}}
}

// add counts an answer that came late behind the time for which it was scheduled.
func (t *tally) add(o outcome, late time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[o]++
	us := max(late.Microseconds(), 1)
	if o == final || o == pending {
		_ = t.accepted.RecordValue(us) // beyond ten minutes it is not kept
	}
	if o != unknown && o != unattempted {
		_ = t.all.RecordValue(us) // as above
	}
	if t.first == nil && (o == untrue || o == unexpected) {
		t.first = err
		if err == nil {
			t.first = errors.New("an answer that was not to be expected: an invalid statement was taken in, or a duplicate was new")
		}
	}
}

// schedule counts what was to be sent.
func (t *tally) schedule() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.scheduled++
}

// read counts what a reader did; a wrong answer is an untrue one.
func (t *tally) read(what string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var u *client.UntrueError
	switch {
	case err == nil:
		t.reads[what]++
	case errors.As(err, &u):
		t.reads["untrue"]++
		if t.first == nil {
			t.first = err
		}
	default:
		t.reads["failed"]++
	}
}
