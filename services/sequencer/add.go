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
// values and order, gives the same entry. After an error nothing was stored,
// except that after ErrNotReady or the context's error the outcome is unknown:
// the same call again resolves it.
func (s *Sequencer) Add(ctx context.Context, req Request) (*Answer, error) {
	if err := s.Ready(); err != nil {
		return nil, errors.Join(ErrNotReady, err)
	}
	sub, known, err := s.prepare(ctx, req)
	if err != nil {
		return nil, err
	}
	out := known
	if sub != nil {
		if out, err = s.enqueue(ctx, sub); err != nil {
			return nil, err
		}
	}
	answer := &Answer{Identity: out.identity, Index: out.index, Duplicate: out.duplicate}
	if !req.Pending {
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
		if p != nil && ctx.Err() == nil {
			s.log.Error("no receipt of a published entry", "index", out.index, "error", err)
		}
		answer.Receipt = nil
	}
	answer.Promise, err = s.promise(out.identity, out.outcome)
	return answer, err
}

// promise signs a pending record for an entry.
func (s *Sequencer) promise(identity statement.Identity, out outcome) ([]byte, error) {
	p := receipt.Pending{
		Log: s.c.Log, Origin: s.c.Origin, Identity: identity, Index: out.index, LeafHash: out.leaf,
		Received: out.received, Deadline: out.received.Add(s.c.Limits.Promise),
	}
	raw, err := p.Sign(s.c.PendingKey)
	if err != nil {
		return nil, fmt.Errorf("sign the promise: %w", err)
	}
	return raw, nil
}

// placed is an outcome with its identity.
type placed struct {
	outcome
	identity statement.Identity
}

// prepare does what needs no order: parsing, signatures, identity, beacon. It
// returns either a submission for the writer or a known entry.
func (s *Sequencer) prepare(ctx context.Context, req Request) (*submission, placed, error) {
	env, stmt, err := statement.Parse(req.Envelope)
	if err != nil {
		return nil, placed{}, err
	}
	if stmt.Log != s.c.Log {
		return nil, placed{}, &statement.FieldError{Field: "predicate.log", Reason: fmt.Sprintf("expected %q", s.c.Log)}
	}
	if err := s.verifySignatures(env, stmt); err != nil {
		return nil, placed{}, err
	}
	id := stmt.Identity(env.Payload)
	size, err := s.c.Ledger.Size()
	if err != nil {
		return nil, placed{}, err
	}
	known, found, err := s.find(ctx, id)
	if err != nil {
		return nil, placed{}, err
	}
	if found && known.index < s.durable.Load() {
		return nil, placed{outcome: known, identity: id}, nil
	}
	if found {
		// Its batch is under way: it may not even be durable, and nothing is
		// promised before step 4. The writer knows when it has done that batch.
		size = min(size, known.index)
	}
	b, refused := s.checkBeacon(ctx, stmt.Beacon, req.Beacon)
	if refused != nil && ctx.Err() != nil {
		return nil, placed{}, refused
	}
	return &submission{
		envelope: env, stmt: stmt, identity: id, granted: req.Granted, notIn: size, beacon: b, refused: refused,
		done: make(chan outcome, 1),
	}, placed{}, nil
}

// verifySignatures resolves the signers' keys and checks their signatures.
func (s *Sequencer) verifySignatures(env *statement.Envelope, stmt *statement.Statement) error {
	keys := map[statement.KeyID]*statement.PublicKey{}
	add := func(k *statement.PublicKey, ok bool) {
		if ok {
			keys[k.ID()] = k
		}
	}
	if stmt.Kind == statement.KindKey {
		add(stmt.EnrolledKey())
		add(stmt.RecoveryKey())
		org, err := s.c.Ledger.Organisation(stmt.Organisation)
		if err != nil {
			return err
		}
		if org != nil {
			recovery, err := statement.ParsePublicKey(org.Recovery)
			add(recovery, err == nil)
		}
	}
	for i, id := range stmt.SignerIDs() {
		if keys[id] != nil {
			continue
		}
		public, err := s.enrolledKey(id)
		if err != nil {
			return err
		}
		if public == nil {
			return forbid(fmt.Sprintf("predicate.signers[%d].key", i), "the key is not enrolled")
		}
		keys[id] = public
	}
	return statement.VerifySignatures(statement.PAE(statement.PayloadType, env.Payload), env.Signatures, stmt.SignerIDs(), keys)
}

// enrolledKey returns a key that is, or was, enrolled; nil if it never was.
func (s *Sequencer) enrolledKey(id statement.KeyID) (*statement.PublicKey, error) {
	if public, ok := s.keys.get(id); ok {
		return public, nil
	}
	k, err := s.c.Ledger.Key(id)
	if err != nil || k == nil {
		return nil, err
	}
	public, err := statement.ParsePublicKey(k.DER)
	if err != nil {
		return nil, fmt.Errorf("read an enrolled key: %w", err)
	}
	return s.keys.put(id, public), nil
}

// enqueue hands a submission to the writer and waits for its answer.
func (s *Sequencer) enqueue(ctx context.Context, sub *submission) (placed, error) {
	if s.queued.Add(sub.bytes()) > s.c.Limits.QueueBytes {
		s.queued.Add(-sub.bytes())
		return placed{}, ErrBusy
	}
	select {
	case s.queue <- sub:
	default:
		s.queued.Add(-sub.bytes())
		return placed{}, ErrBusy
	}
	if err := s.Ready(); err != nil {
		s.drain() // nobody else may come by
	}
	select {
	case out := <-sub.done:
		return placed{outcome: out, identity: sub.identity}, out.err
	case <-ctx.Done():
		return placed{}, ctx.Err()
	}
}

// Ledger returns the derived state, for reads.
func (s *Sequencer) Ledger() ledger.View { return s.c.Ledger.View }
