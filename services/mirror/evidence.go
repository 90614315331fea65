package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

const (
	evidencePrefix = "evidence/"
	forkPrefix     = evidencePrefix + string(Fork) + "/"
	rollbackPrefix = evidencePrefix + string(Rollback) + "/"
	// maxRollbacks bounds the objects that are kept about rollbacks: half of them may
	// be such that they show nothing by themselves. A source has many old notes to
	// show; a fork ends the following, and is there once.
	maxRollbacks = 32
)

// fork keeps the evidence and returns a ForkError.
func (m *Mirror) fork(ctx context.Context, next *head) error {
	e, err := m.contradiction(ctx, next)
	if err != nil {
		return err
	}
	key, err := m.keep(ctx, forkPrefix, e)
	if err != nil {
		return err
	}
	return &ForkError{Had: m.known.Size, Got: next.Size, Evidence: key}
}

// contradiction makes the evidence that next contradicts a checkpoint which the
// mirror has verified. Where no proof is to be had, because the source withholds
// the tiles of its own tree, the two notes have to do.
func (m *Mirror) contradiction(ctx context.Context, next *head) (*evidence.Evidence, error) {
	note, err := checkpoint.Parse(next.raw)
	if err != nil {
		return nil, fmt.Errorf("make the evidence: %w", err)
	}
	var both *evidence.Evidence
	for _, had := range []*head{m.known, m.placed} {
		if had == nil {
			continue
		}
		known, err := checkpoint.Parse(had.raw)
		if err != nil {
			return nil, fmt.Errorf("make the evidence: %w", err)
		}
		e, err := m.compare(ctx, had, next, known, note)
		if err != nil || e != nil && e.Kind != evidence.KindUnproven {
			return e, err
		}
		if both == nil {
			both = e
		}
	}
	if both == nil {
		return nil, fmt.Errorf("%w: the entries are not those of its checkpoints", errOwnStore)
	}
	return both, nil
}

// compare makes evidence of two notes; nil if they do not contradict each other.
func (m *Mirror) compare(ctx context.Context, had, next *head, known, note *checkpoint.Note) (*evidence.Evidence, error) {
	older, newer, first, second := had, next, known, note
	if had.Size > next.Size {
		older, newer, first, second = next, had, note, known
	}
	e := evidence.Refused(first, second, nil)
	if e == nil || e.Kind != evidence.KindUnproven {
		return e, nil
	}
	own := newer == had && newer.Size <= m.writer.Size()
	hashes, err := m.prove(ctx, older, newer, own)
	switch {
	case err != nil && (own || ctx.Err() != nil):
		return nil, fmt.Errorf("make the evidence: %w", err)
	case err != nil:
		return e, nil //nolint:nilerr // the source need not prove what speaks against it
	}
	root, whole, ok := evidence.Roots(older.Size, newer.Size, hashes)
	switch {
	case !ok || whole != newer.Root:
		return e, nil // it is not the newer tree that was read
	case root == older.Root:
		return nil, nil //nolint:nilnil // as the comment says
	}
	return evidence.NewInconsistent(first, second, hashes), nil
}

// prove makes the hashes of the newer tree, from the mirror's own copy or the
// source's.
func (m *Mirror) prove(ctx context.Context, older, newer *head, own bool) ([][32]byte, error) {
	reader := m.own
	if !own {
		reader = tile.NewReader(m.c.Source.At(newer.Size))
	}
	tree, err := reader.Tree(ctx, newer.Size, newer.Root)
	if err != nil {
		return nil, err
	}
	root, err := tree.RootAt(ctx, older.Size)
	if err != nil {
		return nil, err
	}
	proof, err := tree.Consistency(ctx, older.Size, newer.Size)
	if err != nil {
		return nil, err
	}
	return evidence.FromConsistency(older.Size, root, proof), nil
}

// rollback keeps what an older checkpoint shows, once for each checkpoint of ours,
// and returns a RollbackError. That the source shows an older one contradicts
// nothing; that witnesses signed it after they had signed a newer one does.
func (m *Mirror) rollback(ctx context.Context, next *head) error {
	if m.accused != m.known {
		if err := m.keepRollback(ctx, next); err != nil {
			return err
		}
		m.accused = m.known
	}
	return &RollbackError{Had: m.known.Size, Got: next.Size}
}

func (m *Mirror) keepRollback(ctx context.Context, next *head) error {
	known, err := checkpoint.Parse(m.known.raw)
	if err != nil {
		return fmt.Errorf("make the evidence: %w", err)
	}
	older, err := checkpoint.Parse(next.raw)
	if err != nil {
		return fmt.Errorf("make the evidence: %w", err)
	}
	e := evidence.NewWitnessRollback(older, known)
	room := maxRollbacks
	if !e.Judge(m.c.Policy).Conclusive {
		room /= 2 // whoever has old notes can show as many as he likes
	}
	for _, err := range m.c.Store.List(ctx, rollbackPrefix) {
		if err != nil {
			return fmt.Errorf("keep the evidence: %w", err)
		}
		room--
		if room == 0 {
			return nil
		}
	}
	_, err = m.keep(ctx, rollbackPrefix, e)
	return err
}

// keep writes evidence under a name that depends on the notes alone, so that the
// same is there once, and returns the key.
func (m *Mirror) keep(ctx context.Context, prefix string, e *evidence.Evidence) (string, error) {
	digest := sha256.New()
	for _, n := range e.Notes {
		digest.Write(n.Bytes())
	}
	key := prefix + hex.EncodeToString(digest.Sum(nil)[:8]) + evidence.Ending
	_, err := m.c.Store.Get(ctx, key)
	if err == nil {
		return key, nil
	}
	if !errors.Is(err, blob.ErrNotFound) {
		return "", fmt.Errorf("keep the evidence: %w", err)
	}
	e.By, e.At = "a mirror", m.c.Now().UTC().Truncate(time.Millisecond)
	raw, err := e.Encode()
	if err != nil {
		return "", fmt.Errorf("keep the evidence: %w", err)
	}
	if err := m.c.Store.Put(ctx, blob.Object{Key: key, Data: raw}); err != nil {
		return "", fmt.Errorf("keep the evidence: %w", err)
	}
	return key, nil
}

// standing returns a ForkError if there is evidence of one.
func (m *Mirror) standing(ctx context.Context) error {
	for key, err := range m.c.Store.List(ctx, forkPrefix) {
		if err != nil {
			return fmt.Errorf("open the mirror's store: %w", err)
		}
		return &ForkError{Evidence: key}
	}
	return nil
}
