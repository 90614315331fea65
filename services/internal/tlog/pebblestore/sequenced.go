package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/trialog/trialog/services/internal/tlog"
)

// AddSequencedLeaves stores leaves at their indexes, as storage.LogStorage says:
// each leaf has a status of its own, and those that are refused do not keep the
// others out. All that is stored is stored in one batch.
func (s *Store) AddSequencedLeaves(
	ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, timestamp time.Time,
) ([]*trillian.QueuedLogLeaf, error) {
	return s.addSequenced(ctx, tree, leaves, timestamp, false)
}

// AddSequencedLeavesAtomic is AddSequencedLeaves, but stores nothing if any of
// the leaves is refused with another status than AlreadyExists.
func (s *Store) AddSequencedLeavesAtomic(
	ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, timestamp time.Time,
) ([]*trillian.QueuedLogLeaf, error) {
	return s.addSequenced(ctx, tree, leaves, timestamp, true)
}

func (s *Store) addSequenced(
	ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, timestamp time.Time, atomic bool,
) ([]*trillian.QueuedLogLeaf, error) {
	if len(leaves) == 0 {
		return nil, nil
	}
	if err := checkLeaves(leaves); err != nil {
		return nil, err
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

	a, err := s.newAdder(tree.TreeId, leaves, timestamp)
	if err != nil {
		return nil, err
	}
	res := make([]*trillian.QueuedLogLeaf, len(leaves))
	all := make([]trillian.QueuedLogLeaf, len(leaves)) // one allocation
	ok := grpcstatus.New(codes.OK, "OK").Proto()
	refused := false
	for i := range leaves {
		res[i] = &all[i]
		res[i].Leaf, res[i].Status, err = a.add(i)
		if err != nil {
			return nil, errors.Join(err, a.batch.Close())
		}
		if res[i].Status == nil {
			res[i].Status = ok
		} else if res[i].Status.Code != int32(codes.AlreadyExists) {
			refused = true
		}
	}
	if refused && atomic {
		return res, a.batch.Close()
	}
	if err := a.addIdentities(); err != nil {
		return nil, errors.Join(err, a.batch.Close())
	}
	if err := s.commit(a.batch); err != nil {
		return nil, fmt.Errorf("adding sequenced leaves: %w", err)
	}
	return res, nil
}

func checkLeaves(leaves []*trillian.LogLeaf) error {
	for i, l := range leaves {
		if l.LeafIndex < 0 {
			return grpcstatus.Errorf(codes.InvalidArgument, "leaves[%d] has index %d, want >= 0", i, l.LeafIndex)
		}
		if err := checkHashes(i, l); err != nil {
			return err
		}
	}
	return nil
}

func checkHashes(i int, l *trillian.LogLeaf) error {
	if n := len(l.LeafIdentityHash); n != hashSize {
		return grpcstatus.Errorf(codes.InvalidArgument, "leaves[%d] has an identity hash of %d bytes, want %d", i, n, hashSize)
	}
	if n := len(l.MerkleLeafHash); n != hashSize {
		return grpcstatus.Errorf(codes.InvalidArgument, "leaves[%d] has a Merkle leaf hash of %d bytes, want %d", i, n, hashSize)
	}
	return nil
}

// needInitialised returns NotFound or ErrTreeNeedsInit unless the tree exists
// and has a root.
func (s *Store) needInitialised(treeID int64) error {
	if err := s.needTree(treeID); err != nil {
		return err
	}
	_, c, err := s.db.Get(treeKey(kindRoot, treeID))
	if errors.Is(err, pebble.ErrNotFound) {
		return storage.ErrTreeNeedsInit
	}
	if err != nil {
		return s.fault.mark(err)
	}
	return c.Close()
}

// adder puts the leaves of one call into a batch. The tree's write lock is held
// from before it is made until the batch is committed.
type adder struct {
	s      *Store
	treeID int64
	leaves []*trillian.LogLeaf
	queued time.Time
	batch  *pebble.Batch
	// occupied: some index between the least and the greatest is stored, so that
	// each must be looked up.
	occupied bool
	// What this call adds, by identity and by index.
	identities map[[hashSize]byte]int
	indexes    map[int64]int
	accepted   []*trillian.LogLeaf
}

func (s *Store) newAdder(treeID int64, leaves []*trillian.LogLeaf, queued time.Time) (*adder, error) {
	a := &adder{
		s: s, treeID: treeID, leaves: leaves, queued: queued,
		identities: make(map[[hashSize]byte]int, len(leaves)),
		indexes:    make(map[int64]int, len(leaves)),
	}
	least, greatest, size := leaves[0].LeafIndex, leaves[0].LeafIndex, 0
	for _, l := range leaves {
		least, greatest = min(least, l.LeafIndex), max(greatest, l.LeafIndex)
		size += recordHead + len(l.LeafValue) + len(l.ExtraData) + leafKeySize + idKeySize + 40
	}
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: leafKey(treeID, least),
		UpperBound: append(leafKey(treeID, greatest), 0),
	})
	if err != nil {
		return nil, fmt.Errorf("looking for stored leaves: %w", s.fault.mark(err))
	}
	a.occupied = it.First()
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, fmt.Errorf("looking for stored leaves: %w", s.fault.mark(err))
	}
	a.batch = s.db.NewBatchWithSize(size)
	return a, nil
}

// add puts one leaf into the batch and returns it with a nil status, or returns
// the leaf that is in its way with the reason.
func (a *adder) add(i int) (*trillian.LogLeaf, *status.Status, error) {
	l := a.leaves[i]
	rec := newRecord(l, a.queued)
	if prior, ok := a.indexes[l.LeafIndex]; ok {
		return a.inTheWay(&rec, a.leaves[prior], "conflicting LeafIndex")
	}
	if a.occupied {
		stored, err := a.s.leafAt(a.treeID, l.LeafIndex)
		if err != nil {
			return nil, nil, err
		}
		if stored != nil {
			return a.inTheWay(&rec, stored, "conflicting LeafIndex")
		}
	}
	id := [hashSize]byte(l.LeafIdentityHash)
	if prior, ok := a.identities[id]; ok {
		return a.inTheWay(&rec, a.leaves[prior], "conflicting LeafIdentityHash")
	}
	row, found, err := a.s.identity(a.treeID, id[:])
	if err != nil {
		return nil, nil, err
	}
	if found {
		holder, err := a.holder(row, id[:])
		if err != nil {
			return nil, nil, err
		}
		return holder, grpcstatus.New(codes.FailedPrecondition, "conflicting LeafIdentityHash").Proto(), nil
	}
	a.identities[id], a.indexes[l.LeafIndex] = i, i
	a.accepted = append(a.accepted, l)
	return l, nil, putRecord(a.batch, a.treeID, l.LeafIndex, &rec)
}

// addIdentities puts the identity rows into the batch, behind all leaves and in
// their own order: rows that follow each other in the memtable too are inserted
// at a fraction of the cost.
func (a *adder) addIdentities() error {
	slices.SortFunc(a.accepted, func(x, y *trillian.LogLeaf) int {
		return bytes.Compare(x.LeafIdentityHash, y.LeafIdentityHash)
	})
	for _, l := range a.accepted {
		row := identityRow{sequenced: true, number: l.LeafIndex}
		if err := a.s.putIdentity(a.batch, a.treeID, l.LeafIdentityHash, row); err != nil {
			return err
		}
	}
	return nil
}

func (a *adder) inTheWay(rec *record, stored *trillian.LogLeaf, reason string) (*trillian.LogLeaf, *status.Status, error) {
	other := newRecord(stored, a.queued)
	if reason == "conflicting LeafIndex" && rec.same(&other) {
		return stored, grpcstatus.New(codes.AlreadyExists, "identical leaf").Proto(), nil
	}
	return stored, grpcstatus.New(codes.FailedPrecondition, reason).Proto(), nil
}

// holder reads the leaf that an identity row points at.
func (a *adder) holder(row identityRow, identity []byte) (*trillian.LogLeaf, error) {
	if !row.sequenced {
		return &trillian.LogLeaf{LeafIdentityHash: identity, LeafIndex: -1}, nil
	}
	l, err := a.s.leafAt(a.treeID, row.number)
	if err == nil && (l == nil || !bytes.Equal(l.LeafIdentityHash, identity)) {
		err = fmt.Errorf("%w: the identity index names index %d, which does not hold that identity", tlog.ErrCorrupt, row.number)
	}
	return l, err
}

func putRecord(b *pebble.Batch, treeID, index int64, rec *record) error {
	op := b.SetDeferred(leafKeySize, rec.size())
	copy(op.Key, leafKey(treeID, index))
	rec.appendTo(op.Value[:0])
	if err := op.Finish(); err != nil {
		return fmt.Errorf("adding a leaf to a batch: %w", err)
	}
	return nil
}

// putIdentity writes an identity row. Nothing else does.
func (s *Store) putIdentity(b *pebble.Batch, treeID int64, identity []byte, row identityRow) error {
	s.filter.add(treeID, identity)
	var value [identityRowSize]byte
	if err := b.Set(identityKey(treeID, identity), row.appendTo(value[:0]), nil); err != nil {
		return fmt.Errorf("adding an identity to a batch: %w", err)
	}
	return nil
}

// leafAt returns the leaf at an index, or nil.
func (s *Store) leafAt(treeID, index int64) (*trillian.LogLeaf, error) {
	v, c, err := s.db.Get(leafKey(treeID, index))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	if err != nil {
		return nil, fmt.Errorf("reading leaf %d: %w", index, s.fault.mark(err))
	}
	rec, err := parseRecord(v)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: leaf %d: %w", tlog.ErrCorrupt, index, err), c.Close())
	}
	return rec.leaf(index), c.Close()
}
