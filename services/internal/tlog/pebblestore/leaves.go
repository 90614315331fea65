package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trialog/trialog/services/internal/tlog"
)

// maxRange bounds what one call reads, whatever count it is given.
const maxRange = 1 << 16

// GetLeavesByRange returns leaves from start on, at most count, without a gap.
// A gap below the tree's size is an error; beyond it, it ends the answer.
func (t *logTX) GetLeavesByRange(ctx context.Context, start, count int64) ([]*trillian.LogLeaf, error) {
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer t.exit()
	if count <= 0 {
		return nil, status.Errorf(codes.InvalidArgument, "invalid count %d, want > 0", count)
	}
	if start < 0 {
		return nil, status.Errorf(codes.InvalidArgument, "invalid start %d, want >= 0", start)
	}
	if t.kind == trillian.TreeType_LOG {
		size := int64(t.root.TreeSize)
		if start >= size {
			return nil, status.Errorf(codes.OutOfRange, "invalid start %d, want < %d, the tree's size", start, size)
		}
		count = min(count, size-start)
	}
	return t.leafRange(start, min(count, maxRange))
}

func (t *logTX) leafRange(start, count int64) ([]*trillian.LogLeaf, error) {
	size := int64(t.root.TreeSize)
	it, err := t.snap.NewIter(&pebble.IterOptions{
		LowerBound: leafKey(t.treeID, start),
		UpperBound: prefixEnd(treeKey(kindLeaf, t.treeID)),
	})
	if err != nil {
		return nil, fmt.Errorf("reading leaves: %w", t.s.fault.mark(err))
	}
	leaves := make([]*trillian.LogLeaf, 0, min(count, 4096))
	want := start
	for ok := it.First(); ok && int64(len(leaves)) < count; ok = it.Next() {
		index := int64(binary.BigEndian.Uint64(it.Key()[treePrefixSize:]))
		if index != want {
			break
		}
		rec, err := parseRecord(it.Value())
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%w: leaf %d: %w", tlog.ErrCorrupt, index, err), it.Close())
		}
		leaves = append(leaves, rec.leaf(index))
		want++
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, fmt.Errorf("reading leaves: %w", t.s.fault.mark(err))
	}
	if want < size && int64(len(leaves)) < count {
		return nil, fmt.Errorf("%w: leaf %d is missing from a tree of size %d", tlog.ErrCorrupt, want, size)
	}
	return leaves, nil
}

// GetLeavesByHash is not implemented: an index by Merkle hash would cost a random
// write for each leaf, and proofs are computed from published tiles.
func (t *logTX) GetLeavesByHash(context.Context, [][]byte, bool) ([]*trillian.LogLeaf, error) {
	return nil, status.Error(codes.Unimplemented, "leaves are not indexed by Merkle leaf hash")
}

// DequeueLeaves returns leaves to integrate: of a PREORDERED_LOG those that
// follow the root, of a LOG the oldest that were queued at cutoff or before.
func (t *logTX) DequeueLeaves(ctx context.Context, limit int, cutoff time.Time) ([]*trillian.LogLeaf, error) {
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer t.exit()
	if limit <= 0 || t.slr == nil {
		return nil, nil
	}
	if t.kind == trillian.TreeType_PREORDERED_LOG {
		return t.leafRange(int64(t.root.TreeSize), int64(limit))
	}
	if t.dequeued == nil {
		t.dequeued = map[[hashSize]byte]record{}
	}
	it, err := t.snap.NewIter(&pebble.IterOptions{
		LowerBound: treeKey(kindQueue, t.treeID),
		UpperBound: queueKey(t.treeID, cutoff.UnixNano()+1, nil),
	})
	if err != nil {
		return nil, fmt.Errorf("reading the queue: %w", t.s.fault.mark(err))
	}
	var leaves []*trillian.LogLeaf
	for ok := it.First(); ok && len(leaves) < limit; ok = it.Next() {
		rec, err := parseRecord(append([]byte(nil), it.Value()...))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%w: queued leaf: %w", tlog.ErrCorrupt, err), it.Close())
		}
		id := [hashSize]byte(rec.identity)
		if _, ok := t.dequeued[id]; ok {
			continue
		}
		t.dequeued[id] = rec
		leaves = append(leaves, rec.leaf(0))
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, fmt.Errorf("reading the queue: %w", t.s.fault.mark(err))
	}
	return leaves, nil
}

// UpdateSequencedLeaves stores dequeued leaves at the indexes they now have.
func (t *logTX) UpdateSequencedLeaves(_ context.Context, leaves []*trillian.LogLeaf) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.write {
		return status.Error(codes.FailedPrecondition, "read-only transaction")
	}
	for i, l := range leaves {
		if err := checkHashes(i, l); err != nil {
			return err
		}
		if l.LeafIndex < 0 || l.IntegrateTimestamp.CheckValid() != nil {
			return status.Errorf(codes.InvalidArgument, "leaves[%d] has no valid index or integration time", i)
		}
		if _, ok := t.dequeued[[hashSize]byte(l.LeafIdentityHash)]; !ok {
			return status.Errorf(codes.FailedPrecondition, "leaves[%d] was not dequeued in this transaction", i)
		}
	}
	t.sequenced = append(t.sequenced, leaves...)
	return nil
}

// fillSequenced moves leaves from the queue to their indexes. The tree's write
// lock is held.
func (t *logTX) fillSequenced(b *pebble.Batch) error {
	for _, l := range t.sequenced {
		held, err := t.s.leafAt(t.treeID, l.LeafIndex)
		if err != nil {
			return err
		}
		if held != nil {
			return status.Errorf(codes.FailedPrecondition, "index %d is held by another leaf", l.LeafIndex)
		}
		rec := t.dequeued[[hashSize]byte(l.LeafIdentityHash)]
		if err := b.Delete(queueKey(t.treeID, rec.queueNanos, rec.identity), nil); err != nil {
			return fmt.Errorf("taking a leaf from the queue: %w", err)
		}
		rec.integrateNanos = l.IntegrateTimestamp.AsTime().UnixNano()
		if err := putRecord(b, t.treeID, l.LeafIndex, &rec); err != nil {
			return err
		}
		if err := t.s.putIdentity(b, t.treeID, rec.identity, identityRow{sequenced: true, number: l.LeafIndex}); err != nil {
			return err
		}
	}
	return nil
}

// QueueLeaves puts leaves into a LOG tree's queue. One whose identity the tree
// has is answered AlreadyExists with the leaf that is stored.
func (s *Store) QueueLeaves(
	ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, queueTimestamp time.Time,
) ([]*trillian.QueuedLogLeaf, error) {
	for i, l := range leaves {
		if err := checkHashes(i, l); err != nil {
			return nil, err
		}
	}
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.exit()
	s.admin.RLock()
	defer s.admin.RUnlock()
	if err := s.needInitialised(tree.TreeId); err != nil {
		return nil, err
	}
	locks := s.locks(tree.TreeId)
	locks.write.Lock()
	defer locks.write.Unlock()

	b := s.db.NewBatch()
	res := make([]*trillian.QueuedLogLeaf, len(leaves))
	queued := map[[hashSize]byte]*trillian.LogLeaf{}
	for i, l := range leaves {
		held := queued[[hashSize]byte(l.LeafIdentityHash)]
		if held == nil {
			var err error
			if held, err = s.holderOf(tree.TreeId, l.LeafIdentityHash); err != nil {
				return nil, errors.Join(err, b.Close())
			}
		}
		if held != nil {
			res[i] = &trillian.QueuedLogLeaf{Leaf: held, Status: status.New(codes.AlreadyExists, "leaf already exists").Proto()}
			continue
		}
		if err := s.enqueue(b, tree.TreeId, l, queueTimestamp); err != nil {
			return nil, errors.Join(err, b.Close())
		}
		l.QueueTimestamp = timestamppb.New(queueTimestamp)
		queued[[hashSize]byte(l.LeafIdentityHash)] = l
		res[i] = &trillian.QueuedLogLeaf{Leaf: l}
	}
	if err := s.commit(b); err != nil {
		return nil, fmt.Errorf("queueing leaves: %w", err)
	}
	return res, nil
}

func (s *Store) enqueue(b *pebble.Batch, treeID int64, l *trillian.LogLeaf, at time.Time) error {
	rec := newRecord(l, at)
	if err := b.Set(queueKey(treeID, rec.queueNanos, rec.identity), rec.appendTo(nil), nil); err != nil {
		return fmt.Errorf("queueing a leaf: %w", err)
	}
	return s.putIdentity(b, treeID, rec.identity, identityRow{number: rec.queueNanos})
}

// holderOf returns the queued or sequenced leaf with this identity, or nil.
func (s *Store) holderOf(treeID int64, identity []byte) (*trillian.LogLeaf, error) {
	row, found, err := s.identity(treeID, identity)
	if err != nil || !found {
		return nil, err
	}
	if row.sequenced {
		return s.leafAt(treeID, row.number)
	}
	v, err := s.get(queueKey(treeID, row.number, identity))
	if err != nil {
		return nil, fmt.Errorf("%w: reading a queued leaf: %w", tlog.ErrCorrupt, err)
	}
	rec, err := parseRecord(v)
	if err != nil {
		return nil, fmt.Errorf("%w: queued leaf: %w", tlog.ErrCorrupt, err)
	}
	return rec.leaf(0), nil
}

var (
	_ storage.LogStorage = (*Store)(nil)
	_ storage.LogTreeTX  = (*logTX)(nil)
)
