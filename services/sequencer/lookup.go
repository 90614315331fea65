package sequencer

import (
	"context"
	"errors"
	"fmt"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/tlog"
)

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
