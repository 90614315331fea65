package witnessing

import (
	"context"
	"fmt"
	"maps"
	"time"
)

const (
	// minBackoff and maxBackoff bound the pause after failures one after the
	// other, doubled each time. The upper bound is well below the 15 s in which
	// a witness that has healed is to be cosigning again.
	minBackoff = 250 * time.Millisecond
	maxBackoff = 5 * time.Second
	// maxDoublings keeps the pause from overflowing: four minutes and more.
	maxDoublings = 10
	// quarantineFailures bounds the pause before a witness in quarantine is asked
	// again: a second.
	quarantineFailures = 2
	// maxConflicts is how many sizes of a witness are followed for one
	// candidate. One is normal, and another process of the log may be at work
	// for a moment; a witness that goes on is playing.
	maxConflicts = 3
	// requestFactor times the time-out is how long one request may take.
	requestFactor = 4
)

// wants says whether there is something to ask a witness for. Pool.mu is held.
func (p *Pool) wants(e *endpoint, r *round) bool {
	return r != nil && !p.closed && e.settled != r.attempt && !e.signedBy(r)
}

// signedBy says whether each of the witness's keys has signed.
func (e *endpoint) signedBy(r *round) bool {
	for _, entry := range e.entries {
		if _, ok := r.signed[entry.Name]; !ok {
			return false
		}
	}
	return true
}

// follow asks one witness for the newest candidate until there is nothing more
// to ask for. It is the only goroutine that speaks to this witness, except for
// Probe; the next call of begin starts it again.
func (p *Pool) follow(e *endpoint) {
	for {
		p.mu.Lock()
		r := p.latest
		if !p.wants(e, r) {
			e.running = false
			p.mu.Unlock()
			return
		}
		job := attempt{e: e, round: *r, old: e.size}
		// Pauses are counted by the machine's own monotonic clock: the injected
		// one is for the times in cosignatures.
		pause := time.Until(e.notBefore) //nolint:forbidigo // see above
		p.mu.Unlock()
		if pause > 0 {
			p.sleep(pause)
			continue // there may be a newer candidate by now
		}
		rep := p.try(job)
		p.settle(e, r, job, rep)
	}
}

// sleep waits, or until the pool is closed.
func (p *Pool) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.ctx.Done():
	}
}

// attempt is one try to get a candidate cosigned by a witness. round is a copy.
type attempt struct {
	e     *endpoint
	round round
	old   uint64
}

// try asks a witness for one candidate, following the sizes that it names.
func (p *Pool) try(a attempt) reply {
	size := a.round.note.Checkpoint().Size
	old := min(a.old, size)
	for conflicts := 0; ; conflicts++ {
		rep := p.request(a, old, size)
		switch {
		case rep.outcome != Behind:
			return rep
		case rep.size > size:
			// Either it lies, or this log has been put back. Its word alone
			// changes nothing here; start-up is where a rollback is found.
			rep.outcome = Ahead
			return rep
		case rep.size == old || conflicts == maxConflicts:
			rep.err = fmt.Errorf("it conflicts with the size that it named; %w", rep.err)
			return rep
		}
		if rep.size < a.old {
			p.log.Warn("a witness went back", "witness", a.e.url, "size", rep.size, "known_size", a.old)
		}
		old = rep.size
	}
}

// request computes the proof and sends one request.
func (p *Pool) request(a attempt, old, size uint64) reply {
	ctx, cancel := context.WithTimeout(p.ctx, requestFactor*p.timeout)
	defer cancel()
	var proof [][32]byte
	// SPEC (tlog-witness): "If the old size is zero, the consistency proof MUST
	// be empty"; between equal sizes there is none.
	if old > 0 && old < size {
		var err error
		if proof, err = a.round.prove(ctx, old, size); err != nil {
			return reply{outcome: NoProof, err: fmt.Errorf("proving consistency from %d to %d: %w", old, size, err)}
		}
	}
	return p.post(ctx, a.e, old, proof, a.round.note)
}

// settle notes what came out of an attempt. r is the round of the attempt; it
// may have been superseded meanwhile.
func (p *Pool) settle(e *endpoint, r *round, a attempt, rep reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(rep.signed) > 0 {
		// A verified cosignature is the only proof of what the witness holds.
		e.size = a.round.note.Checkpoint().Size
		maps.Copy(r.signed, rep.signed)
		close(r.changed)
		r.changed = make(chan struct{})
	}
	final := false
	switch rep.outcome {
	case Cosigned:
		e.failures, e.notBefore = 0, time.Time{}
		final = true
	case OtherRoot, Refused, Ahead, Behind, NotConfigured, BadAnswer, BadSignature:
		// Asking for this candidate again would bring the same; the next one, or
		// the next call for this one, is another matter.
		final = true
		p.backOff(e, 0)
	case Quarantined:
		// It says when it will be ready at the latest, and is asked sooner: a log
		// starts together with its witnesses. However often it says so, the pause
		// stays short.
		e.failures = min(e.failures, quarantineFailures)
		p.backOff(e, min(rep.wait, minBackoff<<e.failures))
	case BadTime:
		// Whose clock is wrong is not known, and it may be right again in a moment:
		// the pause does not grow.
		final = true
		e.failures = 0
		p.backOff(e, 0)
	default:
		p.backOff(e, rep.wait)
	}
	if p.latest != r {
		return
	}
	if final {
		e.settled = a.round.attempt
		if rep.outcome != Cosigned { // nobody has been told yet
			close(r.changed)
			r.changed = make(chan struct{})
		}
	}
	if e.last.outcome != rep.outcome && rep.outcome != Cosigned && p.ctx.Err() == nil {
		p.log.Warn("a witness did not cosign", "witness", e.url, "size", a.round.note.Checkpoint().Size,
			"outcome", rep.outcome, "error", rep.err)
	}
	e.last = rep
}

// backOff sets the pause before the next request to a witness. Pool.mu is held.
func (p *Pool) backOff(e *endpoint, wait time.Duration) {
	if wait == 0 {
		wait = min(minBackoff<<min(e.failures, maxDoublings), p.maxBackoff)
	}
	e.failures++
	e.notBefore = time.Now().Add(wait) //nolint:forbidigo // a pause, by the monotonic clock
}
