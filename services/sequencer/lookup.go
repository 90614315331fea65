package sequencer

import (
	"context"
	"errors"
	"fmt"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/tlog"
)

// find looks for a statement in the store, then in the predecessors.
func (s *Sequencer) find(ctx context.Context, id statement.Identity) (outcome, bool, error) {
	index, found, err := s.c.Tree.Find(ctx, id)
	if err != nil {
		return outcome{}, false, storeError("look for the statement", err)
	}
	if !found {
		return s.findEarlier(ctx, id)
	}
	raw, e, err := s.entryAt(ctx, index)
	if err != nil {
		return outcome{}, false, err
	}
	return outcome{index: index, received: e.Received, leaf: entry.LeafHash(raw), duplicate: true}, true, nil
}

// findEarlier looks for a statement in the predecessors. What the ledger says of
// its place is held against the entry there.
func (s *Sequencer) findEarlier(ctx context.Context, id statement.Identity) (outcome, bool, error) {
	if len(s.lineage) == 0 {
		return outcome{}, false, nil
	}
	place, found, err := s.c.Ledger.Find(id)
	if err != nil || !found {
		return outcome{}, false, err
	}
	final := s.publishedOf(place.Origin, nil)
	if final == nil {
		return outcome{}, false, nil // it has not ended: it is the one to be asked
	}
	raw, err := final.tree.Entry(ctx, place.Index)
	if err != nil {
		return outcome{}, false, storeError(fmt.Sprintf("read entry %d of %q", place.Index, place.Origin), err)
	}
	e, _, got, err := readEntry(raw)
	if err == nil && got != id {
		err = errors.New("it holds another statement than the ledger says")
	}
	if err != nil {
		return outcome{}, false, fmt.Errorf("read entry %d of %q: %w", place.Index, place.Origin, err)
	}
	return outcome{
		index: place.Index, received: e.Received, leaf: entry.LeafHash(raw), entry: raw, duplicate: true, final: final,
	}, true, nil
}

// statementOf returns the statement with this identity in the log; nil if there
// is none.
func (s *Sequencer) statementOf(ctx context.Context, id statement.Identity) (*statement.Statement, error) {
	index, found, err := s.c.Tree.Find(ctx, id)
	if err != nil {
		return nil, storeError("look for a statement", err)
	}
	if found {
		return s.statementAt(ctx, index)
	}
	out, found, err := s.findEarlier(ctx, id)
	if err != nil || !found {
		return nil, err
	}
	_, stmt, _, err := readEntry(out.entry)
	return stmt, err
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

// Find returns an up-to-date receipt of a statement that a published checkpoint
// holds; ErrNotFound otherwise.
func (s *Sequencer) Find(ctx context.Context, id statement.Identity) ([]byte, uint64, error) {
	out, found, err := s.find(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	head := s.head()
	switch {
	case found && out.final != nil:
		head = out.final
	case !found || !head.covers(out.index):
		return nil, 0, ErrNotFound
	}
	raw, err := s.receipt(ctx, head, out.index, out.entry)
	return raw, out.index, err
}
