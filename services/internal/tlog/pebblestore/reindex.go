package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian/types"

	"github.com/trialog/trialog/services/internal/tlog"
)

// The identity index holds nothing that the leaves do not say. If it is found to
// be incomplete or wrong it is made again from them:
//
//   - Open compares the newest leaves of each tree with it, and makes it again at
//     once if they differ.
//   - The background load of the filter reads all of it and counts. If rows are
//     missing, identities may be admitted a second time: the store fails, and the
//     next Open makes the index again.
//
// A row with the key kindRebuild marks a tree whose index is not to be trusted,
// from before the first row is deleted until the last one is written.

// sampled is how many of a tree's newest leaves Open looks up.
const sampled = 256

// rebuildBatch is how many bytes of rows are written at once.
const rebuildBatch = 4 << 20

// restoreIdentities makes the identity indexes again that are marked or seen to
// be wrong, or all of them.
func (s *Store) restoreIdentities(all bool) error {
	trees, err := s.listTrees(s.db, true)
	if err != nil {
		return fmt.Errorf("listing trees: %w", err)
	}
	for _, tr := range trees {
		sound := !all
		if sound {
			if sound, err = s.identitiesSound(tr.TreeId); err != nil {
				return fmt.Errorf("checking the identity index of tree %d: %w", tr.TreeId, err)
			}
		}
		if sound {
			continue
		}
		s.fault.log.Warn("making the identity index again from the leaves", "tree_id", tr.TreeId)
		if err := s.rebuildIdentities(tr.TreeId); err != nil {
			return fmt.Errorf("making the identity index of tree %d again: %w", tr.TreeId, err)
		}
	}
	return nil
}

// identitiesSound is false if the tree is marked or one of its newest leaves is
// not found by its identity.
func (s *Store) identitiesSound(treeID int64) (sound bool, err error) {
	switch _, err := s.get(treeKey(kindRebuild, treeID)); {
	case err == nil:
		return false, nil
	case !errors.Is(err, pebble.ErrNotFound):
		return false, err
	}
	it, err := s.db.NewIter(treeRange(kindLeaf, treeID))
	if err != nil {
		return false, s.fault.mark(err)
	}
	defer func() { err = errors.Join(err, s.fault.mark(it.Close())) }()
	n := 0
	for ok := it.Last(); ok && n < sampled; ok = it.Prev() {
		n++
		index, rec, err := parseLeaf(it)
		if err != nil {
			return false, err
		}
		row, err := s.get(identityKey(treeID, rec.identity))
		if errors.Is(err, pebble.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if !bytes.Equal(row, identityRow{sequenced: true, number: index}.appendTo(nil)) {
			return false, nil
		}
	}
	return true, s.fault.mark(it.Error())
}

func treeRange(kind byte, treeID int64) *pebble.IterOptions {
	return &pebble.IterOptions{LowerBound: treeKey(kind, treeID), UpperBound: prefixEnd(treeKey(kind, treeID))}
}

// parseLeaf reads the leaf at which an iterator stands; it is valid until the
// iterator moves.
func parseLeaf(it *pebble.Iterator) (int64, record, error) {
	index := int64(binary.BigEndian.Uint64(it.Key()[treePrefixSize:]))
	rec, err := parseRecord(it.Value())
	if err != nil {
		return 0, record{}, fmt.Errorf("%w: leaf %d: %w", tlog.ErrCorrupt, index, err)
	}
	return index, rec, nil
}

// rebuildIdentities writes the identity rows of a tree anew. Nobody else uses the
// store yet.
func (s *Store) rebuildIdentities(treeID int64) error {
	if err := s.db.Set(treeKey(kindRebuild, treeID), nil, pebble.Sync); err != nil {
		return s.fault.mark(err)
	}
	span := treeRange(kindIdentity, treeID)
	if err := s.db.DeleteRange(span.LowerBound, span.UpperBound, pebble.Sync); err != nil {
		return s.fault.mark(err)
	}
	if err := s.indexAgain(treeID, kindLeaf); err != nil {
		return err
	}
	if err := s.indexAgain(treeID, kindQueue); err != nil {
		return err
	}
	b := s.db.NewBatch()
	if err := b.Delete(treeKey(kindRebuild, treeID), nil); err != nil {
		return err
	}
	return s.commit(b)
}

// indexAgain writes the identity rows of a tree's leaves, or of those that wait.
func (s *Store) indexAgain(treeID int64, kind byte) (err error) {
	it, err := s.db.NewIter(treeRange(kind, treeID))
	if err != nil {
		return s.fault.mark(err)
	}
	defer func() { err = errors.Join(err, s.fault.mark(it.Close())) }()
	b := s.db.NewBatch()
	for ok := it.First(); ok; ok = it.Next() {
		number, rec, err := parseLeaf(it)
		if err != nil {
			return errors.Join(err, b.Close())
		}
		row := identityRow{sequenced: kind == kindLeaf, number: number}
		if err := b.Set(identityKey(treeID, rec.identity), row.appendTo(nil), nil); err != nil {
			return errors.Join(err, b.Close())
		}
		if b.Len() >= rebuildBatch {
			if err := s.commit(b); err != nil {
				return err
			}
			b = s.db.NewBatch()
		}
	}
	if err := s.fault.mark(it.Error()); err != nil {
		return errors.Join(err, b.Close())
	}
	return s.commit(b)
}

// sizes returns the size of each tree.
func (s *Store) sizes() (map[int64]uint64, error) {
	trees, err := s.listTrees(s.db, true)
	if err != nil {
		return nil, fmt.Errorf("listing trees: %w", err)
	}
	out := map[int64]uint64{}
	for _, tr := range trees {
		raw, err := s.get(treeKey(kindRoot, tr.TreeId))
		if errors.Is(err, pebble.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the root of tree %d: %w", tr.TreeId, err)
		}
		var root types.LogRootV1
		if err := root.UnmarshalBinary(raw); err != nil {
			return nil, fmt.Errorf("%w: reading the root of tree %d: %w", tlog.ErrCorrupt, tr.TreeId, err)
		}
		out[tr.TreeId] = root.TreeSize
	}
	return out, nil
}

// judgeCounts fails the store if a tree has fewer identities than leaves.
func (s *Store) judgeCounts(sizes, identities map[int64]uint64) {
	for treeID, size := range sizes {
		if identities[treeID] >= size {
			continue
		}
		leaves, err := s.countLeaves(treeID, size)
		if err == nil && leaves <= identities[treeID] {
			continue // the leaves are missing, which is for those to find who read them
		}
		if err == nil {
			err = fmt.Errorf("tree %d has %d leaves and %d identities; the index is made again when the store is opened next",
				treeID, leaves, identities[treeID])
			err = errors.Join(err, s.db.Set(treeKey(kindRebuild, treeID), nil, pebble.Sync))
		}
		s.fault.fail(fmt.Errorf("identity index: %w", err))
	}
}

func (s *Store) countLeaves(treeID int64, size uint64) (n uint64, err error) {
	span := treeRange(kindLeaf, treeID)
	span.UpperBound = leafKey(treeID, int64(size))
	it, err := s.db.NewIter(span)
	if err != nil {
		return 0, s.fault.mark(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	return n, s.fault.mark(errors.Join(it.Error(), it.Close()))
}
