package trillian

import (
	"bytes"
	"context"
	"fmt"

	"github.com/google/trillian/storage"
	"github.com/transparency-dev/merkle/compact"

	"github.com/trialog/trialog/services/internal/tlog"
)

// maxRead bounds what one call to Leaves returns.
const maxRead = 1 << 14

// Root implements tlog.Log.
func (l *Log) Root(ctx context.Context) (tlog.Root, error) {
	if err := l.enter(ctx); err != nil {
		return tlog.Root{}, fmt.Errorf("reading the root: %w", err)
	}
	defer l.exit()
	return *l.head.Load(), nil
}

// RootAt implements tlog.Log.
func (l *Log) RootAt(ctx context.Context, size uint64) ([32]byte, error) {
	if err := l.enter(ctx); err != nil {
		return [32]byte{}, fmt.Errorf("reading the root at size %d: %w", size, err)
	}
	defer l.exit()
	head := *l.head.Load()
	if size > head.Size {
		return [32]byte{}, fmt.Errorf("reading the root at size %d: %w: the size is %d", size, tlog.ErrRange, head.Size)
	}
	hash, err := l.rootAt(ctx, size, head)
	if err != nil {
		return [32]byte{}, fmt.Errorf("reading the root at size %d: %w", size, err)
	}
	return hash, nil
}

func (l *Log) rootAt(ctx context.Context, size uint64, head tlog.Root) ([32]byte, error) {
	tx, err := l.storage.SnapshotForTree(l.context(ctx), l.tree)
	if tx != nil {
		defer l.closeTX(tx)
	}
	if err != nil {
		return [32]byte{}, err
	}
	hash, err := prove(ctx, tx, size, nil, head)
	if err != nil {
		return [32]byte{}, err
	}
	return hash, tx.Commit(ctx)
}

// Leaves implements tlog.Log.
func (l *Log) Leaves(ctx context.Context, first uint64, n int) ([]tlog.Leaf, error) {
	if n < 0 || first > tlog.MaxSize {
		return nil, fmt.Errorf("%w: %d leaves from index %d", tlog.ErrInvalid, n, first)
	}
	if err := l.enter(ctx); err != nil {
		return nil, fmt.Errorf("reading leaves: %w", err)
	}
	defer l.exit()
	leaves, err := l.read(ctx, first, min(n, maxRead))
	if err != nil {
		return nil, fmt.Errorf("reading %d leaves from index %d: %w", n, first, err)
	}
	return leaves, nil
}

// read reads leaves and proves those below the checked root to be in it.
func (l *Log) read(ctx context.Context, first uint64, n int) ([]tlog.Leaf, error) {
	if n == 0 || first == tlog.MaxSize {
		return nil, nil
	}
	n = int(min(uint64(n), tlog.MaxSize-first))
	// The root is taken before the snapshot, so that the snapshot has its nodes.
	head := *l.head.Load()
	tx, err := l.storage.SnapshotForTree(l.context(ctx), l.tree)
	if tx != nil {
		defer l.closeTX(tx)
	}
	if err != nil {
		return nil, err
	}
	leaves, err := readLeaves(ctx, tx, first, n)
	if err != nil {
		return nil, err
	}
	if first < head.Size {
		in := min(uint64(n), head.Size-first)
		if len(leaves) == 0 {
			return nil, fmt.Errorf("%w: leaf %d is missing from a log of size %d", tlog.ErrCorrupt, first, head.Size)
		}
		in = min(in, uint64(len(leaves))) // a storage may return fewer than it has
		if _, err := prove(ctx, tx, first, leaves[:in], head); err != nil {
			return nil, err
		}
	}
	return leaves, tx.Commit(ctx)
}

// readLeaves reads leaves and checks of each what can be checked by itself.
func readLeaves(ctx context.Context, tx storage.ReadOnlyLogTreeTX, first uint64, n int) ([]tlog.Leaf, error) {
	got, err := tx.GetLeavesByRange(ctx, int64(first), int64(n))
	if err != nil {
		return nil, fmt.Errorf("reading leaves: %w", err)
	}
	if len(got) > n {
		return nil, fmt.Errorf("%w: %d leaves for %d", tlog.ErrCorrupt, len(got), n)
	}
	leaves := make([]tlog.Leaf, len(got))
	for i, g := range got {
		index := first + uint64(i)
		if g.LeafIndex != int64(index) {
			return nil, fmt.Errorf("%w: leaf %d where leaf %d should be", tlog.ErrCorrupt, g.LeafIndex, index)
		}
		if len(g.LeafIdentityHash) != 32 {
			return nil, fmt.Errorf("%w: leaf %d has an identity of %d bytes", tlog.ErrCorrupt, index, len(g.LeafIdentityHash))
		}
		leaves[i] = tlog.Leaf{Identity: [32]byte(g.LeafIdentityHash), Value: g.LeafValue}
		if hash := leaves[i].Hash(); !bytes.Equal(hash[:], g.MerkleLeafHash) {
			return nil, fmt.Errorf("%w: leaf %d has hash %x, its row says %x", tlog.ErrCorrupt, index, hash, g.MerkleLeafHash)
		}
	}
	return leaves, nil
}

// prove checks that the tree of head consists of some tree of size first, then
// leaves, then other nodes, and returns the root of the first part. Without
// leaves it is a consistency proof, with one an inclusion proof.
//
// The nodes come from the storage: no wrong set of them hashes to head's root.
func prove(ctx context.Context, tx storage.ReadOnlyLogTreeTX, first uint64, leaves []tlog.Leaf, head tlog.Root) ([32]byte, error) {
	f := ranges() // ranges of different factories cannot be joined
	all, err := readRange(ctx, tx, f, 0, first)
	if err != nil {
		return [32]byte{}, err
	}
	before, err := rangeRoot(all)
	if err != nil {
		return [32]byte{}, fmt.Errorf("hashing: %w", err)
	}
	for i := range leaves {
		hash := leaves[i].Hash()
		if err := all.Append(hash[:], nil); err != nil {
			return [32]byte{}, fmt.Errorf("hashing: %w", err)
		}
	}
	rest, err := readRange(ctx, tx, f, all.End(), head.Size)
	if err != nil {
		return [32]byte{}, err
	}
	if err := all.AppendRange(rest, nil); err != nil {
		return [32]byte{}, fmt.Errorf("hashing: %w", err)
	}
	hash, err := rangeRoot(all)
	if err != nil {
		return [32]byte{}, fmt.Errorf("hashing: %w", err)
	}
	if hash != head.Hash {
		return [32]byte{}, fmt.Errorf("%w: leaves %d to %d and the stored nodes have root %x at size %d, expected %x",
			tlog.ErrCorrupt, first, first+uint64(len(leaves)), hash, head.Size, head.Hash)
	}
	return before, nil
}

// readRange reads the nodes that cover the leaves from begin to end.
func readRange(ctx context.Context, tx storage.ReadOnlyLogTreeTX, f *compact.RangeFactory, begin, end uint64) (*compact.Range, error) {
	ids := compact.RangeNodes(begin, end, nil)
	hashes := make([][]byte, 0, len(ids))
	if len(ids) > 0 {
		nodes, err := tx.GetMerkleNodes(ctx, ids)
		if err != nil {
			return nil, fmt.Errorf("reading tree nodes: %w", err)
		}
		for i, n := range nodes {
			if i >= len(ids) || n.ID != ids[i] || len(n.Hash) != 32 {
				return nil, fmt.Errorf("%w: unexpected tree node %d/%d", tlog.ErrCorrupt, n.ID.Level, n.ID.Index)
			}
			hashes = append(hashes, n.Hash)
		}
	}
	if len(hashes) != len(ids) {
		return nil, fmt.Errorf("%w: %d of %d tree nodes", tlog.ErrCorrupt, len(hashes), len(ids))
	}
	r, err := f.NewRange(begin, end, hashes)
	if err != nil {
		return nil, fmt.Errorf("hashing: %w", err)
	}
	return r, nil
}

// Find implements tlog.Log.
func (l *Log) Find(ctx context.Context, identity [32]byte) (index uint64, found bool, err error) {
	if err := l.enter(ctx); err != nil {
		return 0, false, fmt.Errorf("finding a leaf: %w", err)
	}
	defer l.exit()
	at, found, err := l.storage.FindIndex(l.context(ctx), l.tree, identity[:])
	if err != nil {
		return 0, false, fmt.Errorf("finding a leaf: %w", err)
	}
	if !found {
		return 0, false, nil
	}
	if at < 0 {
		return 0, false, fmt.Errorf("finding a leaf: %w: negative index %d", tlog.ErrCorrupt, at)
	}
	leaves, err := l.read(ctx, uint64(at), 1)
	if err != nil {
		return 0, false, fmt.Errorf("finding a leaf: %w", err)
	}
	if len(leaves) != 1 || leaves[0].Identity != identity {
		return 0, false, fmt.Errorf("finding a leaf: %w: index %d does not hold identity %x", tlog.ErrCorrupt, at, identity)
	}
	return uint64(at), true, nil
}
