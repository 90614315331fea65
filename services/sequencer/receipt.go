package sequencer

import (
	"context"
	"errors"
	"fmt"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

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
// but held against the same leaf hash: reading one means to read its bundle. Under
// an outdated checkpoint nothing is proven: no verifier would take it.
func (s *Sequencer) prove(ctx context.Context, p *published, index uint64, known []byte) ([]byte, *receipt.Proof, error) {
	if p.outdated {
		return nil, nil, errOutdated
	}
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
	raw, _, err := s.storedNote(ctx, [32]byte(digest))
	if err == nil && raw == nil {
		err = fmt.Errorf("the note %s is not there", digest)
	}
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
// those rest on, up to the organisations' first ones. Those of an earlier shard
// are proven under its last checkpoint.
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
		e, err := s.enrolment(ctx, p, key)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", sig.key, err)
		}
		list = append(list, e)
		for _, by := range key.By {
			todo = append(todo, signature{by, key.Organisation})
		}
	}
	return list, nil
}

// enrolment proves the enrolment of a key, under p if it lies in the same shard.
func (s *Sequencer) enrolment(ctx context.Context, p *published, key *ledger.Key) (receipt.Enrolment, error) {
	if origin := p.note.Checkpoint().Origin; key.Origin != origin {
		if p = s.publishedOf(key.Origin, nil); p == nil {
			return receipt.Enrolment{}, fmt.Errorf("it was enrolled in %q, behind an entry of %q", key.Origin, origin)
		}
	}
	known, _ := s.enrolled.get(key.Place)
	raw, proof, err := s.prove(ctx, p, key.Index, known)
	if err != nil {
		return receipt.Enrolment{}, err
	}
	if known == nil {
		s.enrolled.put(key.Place, raw)
	}
	return receipt.Enrolment{Entry: raw, Proof: proof}, nil
}
