package sequencer

import (
	"context"
	"errors"
	"fmt"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/tlog"
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

// find looks for a statement in the store.
func (s *Sequencer) find(ctx context.Context, id statement.Identity) (outcome, bool, error) {
	index, found, err := s.c.Tree.Find(ctx, id)
	if err != nil {
		return outcome{}, false, storeError("look for the statement", err)
	}
	if !found {
		return outcome{}, false, nil
	}
	raw, e, err := s.entryAt(ctx, index)
	if err != nil {
		return outcome{}, false, err
	}
	return outcome{index: index, received: e.Received, leaf: entry.LeafHash(raw), duplicate: true}, true, nil
}

// entryAt reads an entry that the store says it has.
func (s *Sequencer) entryAt(ctx context.Context, index uint64) ([]byte, *entry.Entry, error) {
	leaves, err := s.c.Tree.Leaves(ctx, index, 1)
	if err == nil && len(leaves) == 0 {
		err = fmt.Errorf("%w: it is not there", tlog.ErrCorrupt)
	}
	if err != nil {
		return nil, nil, storeError(fmt.Sprintf("read entry %d", index), err)
	}
	e, err := entry.Parse(leaves[0].Value)
	if err != nil {
		return nil, nil, storeError(fmt.Sprintf("read entry %d", index), errors.Join(tlog.ErrCorrupt, err))
	}
	return leaves[0].Value, e, nil
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

// Find returns an up-to-date receipt of a statement that a published checkpoint
// holds; ErrNotFound otherwise.
func (s *Sequencer) Find(ctx context.Context, id statement.Identity) ([]byte, uint64, error) {
	out, found, err := s.find(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	head := s.head()
	if !found || head.size() <= out.index {
		return nil, 0, ErrNotFound
	}
	raw, err := s.receipt(ctx, head, out.index, nil)
	return raw, out.index, err
}

// Ledger returns the derived state, for reads.
func (s *Sequencer) Ledger() ledger.View { return s.c.Ledger.View }

// receipt builds the receipt of an entry under a published checkpoint. known is
// the entry if the caller has it at hand, else nil.
func (s *Sequencer) receipt(ctx context.Context, p *published, index uint64, known []byte) ([]byte, error) {
	raw, proof, err := s.prove(ctx, p, index, known)
	if err != nil {
		return nil, err
	}
	e, err := entry.Parse(raw)
	if err != nil {
		return nil, err
	}
	_, stmt, err := statement.Parse(e.Envelope)
	if err != nil {
		return nil, err
	}
	r := &receipt.Receipt{Proof: proof, Entry: raw}
	if b := stmt.Beacon; b != nil {
		if r.Beacon, err = s.beaconNote(ctx, b.Note); err != nil {
			return nil, err
		}
	}
	if r.Enrolments, err = s.enrolments(ctx, p, stmt); err != nil {
		return nil, err
	}
	return r.Encode()
}

// prove reads an entry and its inclusion path out of the tiles, which verify
// both against the published root. An entry that is known already is not read,
// but held against the same leaf hash: reading one means to read its bundle.
func (s *Sequencer) prove(ctx context.Context, p *published, index uint64, known []byte) ([]byte, *receipt.Proof, error) {
	leaf, err := p.tree.LeafHash(ctx, index)
	if err != nil {
		return nil, nil, storeError(fmt.Sprintf("read the hash of entry %d", index), err)
	}
	raw := known
	if raw == nil || entry.LeafHash(raw) != leaf {
		if raw, err = p.tree.Entry(ctx, index); err != nil {
			return nil, nil, storeError(fmt.Sprintf("read entry %d", index), err)
		}
	}
	path, err := p.tree.Inclusion(ctx, index, p.tree.Size())
	if err != nil {
		return nil, nil, storeError(fmt.Sprintf("prove entry %d", index), err)
	}
	return raw, &receipt.Proof{Index: index, Path: path, Note: p.note}, nil
}

func (s *Sequencer) beaconNote(ctx context.Context, digest statement.Digest) ([]byte, error) {
	if b, ok := s.beacons.get([32]byte(digest)); ok {
		return b.note, nil
	}
	raw, err := s.c.Tiles.Get(ctx, BeaconPrefix+digest.String())
	if err != nil {
		return nil, fmt.Errorf("read a beacon: %w", err)
	}
	return raw, nil
}

// signature is a key that signed for an organisation; any, if it is a gateway's.
type signature struct {
	key          statement.KeyID
	organisation string
}

// enrolments collects the enrolments of the signers' keys and of the keys that
// those rest on, up to the organisations' first ones.
func (s *Sequencer) enrolments(ctx context.Context, p *published, stmt *statement.Statement) ([]receipt.Enrolment, error) {
	var list []receipt.Enrolment
	seen := map[statement.KeyID]bool{}
	if own, _ := stmt.EnrolledKey(); own != nil {
		seen[own.ID()] = true // it proves itself
	}
	var todo []signature
	for _, id := range stmt.SignerIDs() {
		sig := signature{id, stmt.Organisation}
		if stmt.Received != nil {
			sig.organisation = ""
		}
		todo = append(todo, sig)
	}
	for len(todo) > 0 {
		sig := todo[0]
		todo = todo[1:]
		if seen[sig.key] {
			continue
		}
		seen[sig.key] = true
		key, err := s.c.Ledger.Key(sig.key)
		if err != nil {
			return nil, err
		}
		if key == nil || sig.organisation != "" && key.Organisation != sig.organisation {
			// A recovery key: it stands in the organisation's first enrolment. It
			// may be that of several organisations.
			org, err := s.c.Ledger.Organisation(sig.organisation)
			if err != nil || org == nil {
				return nil, errors.Join(fmt.Errorf("no enrolment of key %s", sig.key), err)
			}
			todo = append(todo, signature{org.First, sig.organisation})
			continue
		}
		known, _ := s.enrolled.get(key.Index)
		raw, proof, err := s.prove(ctx, p, key.Index, known)
		if err != nil {
			return nil, err
		}
		if known == nil {
			s.enrolled.put(key.Index, raw)
		}
		list = append(list, receipt.Enrolment{Entry: raw, Proof: proof})
		for _, by := range key.By {
			todo = append(todo, signature{by, key.Organisation})
		}
	}
	return list, nil
}
