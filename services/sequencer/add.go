package sequencer

import (
	"context"
	"errors"
	"fmt"

	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

// Request is a signed statement.
type Request struct {
	Envelope []byte
	// Beacon is the note that the statement names; nil if the log holds it.
	Beacon []byte
	// Granted are the roles that a first enrolment may have.
	Granted []statement.Role
	// Pending asks for an answer as soon as the entry is durable.
	Pending bool

	notes *notes // that came before in the same stream; may be nil
}

// Answer is an acknowledgement: Receipt for FINAL, Promise for PENDING.
type Answer struct {
	Identity  statement.Identity
	Index     uint64
	Duplicate bool
	Receipt   []byte
	Promise   []byte
}

// Add takes a statement in. The same statement again, whatever its signatures'
// values and order, gives the same entry, also while nothing new is taken in.
// After an error nothing was stored, except that after ErrNotReady or the
// context's error the outcome is unknown: the same call again resolves it.
func (s *Sequencer) Add(ctx context.Context, req Request) (*Answer, error) {
	id, out, err := s.admit(ctx, req)
	if err != nil {
		return nil, err
	}
	return s.acknowledge(ctx, req, id, out)
}

// admit brings a statement as far as step 4.
func (s *Sequencer) admit(ctx context.Context, req Request) (statement.Identity, outcome, error) {
	shut := s.Ready()
	if shut != nil && !takesLookups(shut) {
		return statement.Identity{}, outcome{}, errors.Join(ErrNotReady, shut)
	}
	t := ticket{hint(req.Envelope), req.cost()}
	if err := s.intake.take(t); err != nil {
		return s.crowded(ctx, req, err)
	}
	if shut != nil {
		defer s.intake.release(t)
		return s.onlyKnown(ctx, req, shut)
	}
	if err := s.turns.take(ctx, t.organisation, 1); err != nil {
		s.intake.release(t)
		return statement.Identity{}, outcome{}, err
	}
	sub, known, found, err := s.prepare(ctx, req)
	s.turns.done()
	if err != nil || found {
		s.intake.release(t)
		if err != nil {
			return statement.Identity{}, outcome{}, err
		}
		return sub.identity, known, nil
	}
	sub.ticket = s.booked(t, sub.stmt)
	answer := make(chan outcome, 1)
	sub.done = func(out outcome) { answer <- out }
	s.enqueue(sub)
	select {
	case out := <-answer:
		return sub.identity, out, out.err
	case <-ctx.Done():
		return statement.Identity{}, outcome{}, ctx.Err()
	}
}

// lookupEvery: each so-manieth submission that finds no room is looked for in
// the log, in case it is there.
const lookupEvery = 8

// crowded sends a submission away. Some are looked for in the log first: few,
// and one at a time, so that sending away stays cheap.
func (s *Sequencer) crowded(ctx context.Context, req Request, busy error) (statement.Identity, outcome, error) {
	if s.sentAway.Add(1)%lookupEvery != 0 || !s.lookup.TryLock() {
		return statement.Identity{}, outcome{}, busy
	}
	defer s.lookup.Unlock()
	return s.onlyKnown(ctx, req, busy)
}

// booked returns the ticket under the organisation that the statement names.
func (s *Sequencer) booked(t ticket, stmt *statement.Statement) ticket {
	if t.organisation == stmt.Organisation {
		return t
	}
	return s.intake.move(t, stmt.Organisation)
}

// onlyKnown answers for an entry that is in the log already, and returns shut
// for everything else.
func (s *Sequencer) onlyKnown(ctx context.Context, req Request, shut error) (statement.Identity, outcome, error) {
	if err := s.turns.take(ctx, hint(req.Envelope), 1); err != nil {
		return statement.Identity{}, outcome{}, err
	}
	sub, out, found, err := s.known(ctx, req)
	s.turns.done()
	switch {
	case err != nil:
		return statement.Identity{}, outcome{}, err
	case !found:
		return statement.Identity{}, outcome{}, shut
	}
	return sub.identity, out, nil
}

// takesLookups tells whether what keeps new statements out leaves the shard at
// work, so that what is in it can be looked up.
func takesLookups(shut error) bool {
	if refused, ok := errors.AsType[*RefusedError](shut); ok {
		return refused.Reason == Clock
	}
	return errors.Is(shut, ErrEnded) || errors.Is(shut, ErrBusy)
}

// enqueue hands a submission to the writer, who answers it. Its room in the
// queue is that of its ticket.
func (s *Sequencer) enqueue(sub *submission) {
	s.queue <- sub
	if s.stopped.Load() {
		s.drain() // nobody else may come by
	}
}

// acknowledge answers for an entry that is past step 4.
func (s *Sequencer) acknowledge(ctx context.Context, req Request, id statement.Identity, out outcome) (*Answer, error) {
	answer := &Answer{Identity: id, Index: out.index, Duplicate: out.duplicate}
	if out.final != nil { // there is nothing to wait for
		var err error
		answer.Receipt, err = s.receipt(ctx, out.final, out.index, out.entry)
		return answer, err
	}
	size := int64(len(out.entry)) + waiterBytes
	if !req.Pending && s.waiting.take(size) {
		defer s.waiting.release(size)
		wait, cancel := context.WithTimeout(ctx, s.c.Limits.FinalWait)
		defer cancel()
		p, err := s.waitPublished(wait, out.index)
		if err == nil {
			answer.Receipt, err = s.receipt(ctx, p, out.index, out.entry)
		}
		if err == nil {
			return answer, nil
		}
		// The entry is durable: whoever waited in vain for FINAL gets the promise.
		// Why there is no quorum, the publisher says, once.
		s.log.Debug("no final receipt in time", "index", out.index, "error", err)
		if p != nil && ctx.Err() == nil && !errors.Is(err, errOutdated) {
			s.log.Error("no receipt of a published entry", "index", out.index, "error", err)
		}
		answer.Receipt = nil
	}
	var err error
	answer.Promise, err = s.promise(id, out)
	return answer, err
}

// promise signs a pending record for an entry; ErrNotReady if the key does not.
func (s *Sequencer) promise(identity statement.Identity, out outcome) ([]byte, error) {
	if out.final != nil {
		return nil, fmt.Errorf("entry %d of an earlier shard is not this one's to promise", out.index)
	}
	p := receipt.Pending{
		Log: s.c.Log, Origin: s.c.Origin, Identity: identity, Index: out.index, LeafHash: out.leaf,
		Received: out.received, Deadline: out.received.Add(s.c.Limits.Promise),
	}
	raw, err := p.Sign(s.c.PendingKey)
	if failed := err != nil; s.unpromised.Load() != failed && s.unpromised.Swap(failed) != failed {
		if failed {
			s.log.Error("the key for promises does not sign", "error", err)
		} else {
			s.log.Info("the key for promises signs again")
		}
	}
	if err != nil {
		// Its token or its service may be away for a while. The entry is durable, and
		// the statement will find it when it is sent again.
		return nil, fmt.Errorf("%w: sign the promise: %w", ErrNotReady, err)
	}
	return raw, nil
}

// Ledger returns the derived state, for reads.
func (s *Sequencer) Ledger() ledger.View { return s.c.Ledger.View }
