package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/tree"
	"github.com/google/trillian/types"
	"github.com/transparency-dev/merkle/compact"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trialog/trialog/services/internal/tlog"
)

// logTX is a transaction on one tree: reads see a snapshot and, for Merkle
// nodes, the transaction's own writes; writes are collected until Commit.
type logTX struct {
	s      *Store
	treeID int64
	kind   trillian.TreeType
	write  bool

	mu      sync.Mutex
	snap    *pebble.Snapshot // nil once the transaction has ended
	slr     []byte           // marshalled root; nil if the tree needs initialising
	root    types.LogRootV1
	newRoot []byte
	tiles   map[tileID]*tile

	dequeued  map[[hashSize]byte]record // LOG trees: taken from the queue by this transaction
	sequenced []*trillian.LogLeaf       // LOG trees: given an index by this transaction
}

// SnapshotForTree starts a read-only transaction. With ErrTreeNeedsInit it
// returns one too, which must be closed.
func (s *Store) SnapshotForTree(ctx context.Context, tr *trillian.Tree) (storage.ReadOnlyLogTreeTX, error) {
	tx, err := s.begin(ctx, tr)
	if tx == nil { // an interface must not hold a nil *logTX
		return nil, err
	}
	return tx, err
}

// ReadWriteTransaction runs f in a transaction and commits if it returns nil.
// One such transaction runs per tree at a time.
func (s *Store) ReadWriteTransaction(ctx context.Context, tr *trillian.Tree, f storage.LogTXFunc) error {
	locks := s.locks(tr.TreeId)
	locks.integrate.Lock()
	defer locks.integrate.Unlock()
	tx, err := s.begin(ctx, tr)
	// f is to see a tree that needs initialising: it may initialise it.
	if err != nil && !errors.Is(err, storage.ErrTreeNeedsInit) {
		return err
	}
	tx.write = true
	defer tx.Close() //nolint:errcheck // after Commit it does nothing, before it there is nothing to lose
	if err := f(ctx, tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func (s *Store) begin(ctx context.Context, tr *trillian.Tree) (*logTX, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.exit()
	if err := s.needTree(tr.TreeId); err != nil {
		return nil, err
	}
	tx := &logTX{s: s, treeID: tr.TreeId, kind: tr.TreeType, snap: s.db.NewSnapshot(), tiles: map[tileID]*tile{}}
	slr, err := s.getFrom(tx.snap, treeKey(kindRoot, tr.TreeId))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		err = storage.ErrTreeNeedsInit
	case err != nil:
		return nil, errors.Join(fmt.Errorf("reading the root: %w", err), tx.snap.Close())
	default:
		tx.slr = slr
		if err := tx.root.UnmarshalBinary(slr); err != nil {
			return nil, errors.Join(fmt.Errorf("%w: reading the root: %w", tlog.ErrCorrupt, err), tx.snap.Close())
		}
	}
	s.mu.Lock()
	s.open[tx.snap] = struct{}{}
	s.mu.Unlock()
	return tx, err
}

// enter begins a method; exit must follow if it is nil.
func (t *logTX) enter(ctx context.Context) error {
	if err := t.s.enter(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	if t.snap == nil {
		t.mu.Unlock()
		t.s.exit()
		return errors.New("transaction has ended")
	}
	return nil
}

func (t *logTX) exit() {
	t.mu.Unlock()
	t.s.exit()
}

// Commit makes the transaction's writes durable and ends it.
func (t *logTX) Commit(ctx context.Context) error {
	if err := t.enter(ctx); err != nil {
		return err
	}
	defer t.exit()
	err := t.commit()
	return errors.Join(err, t.end())
}

// Close ends the transaction without its writes, unless it was committed.
func (t *logTX) Close() error {
	t.s.life.RLock()
	defer t.s.life.RUnlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end()
}

func (t *logTX) end() error {
	if t.snap == nil {
		return nil
	}
	snap := t.snap
	t.snap = nil
	t.s.mu.Lock()
	_, open := t.s.open[snap]
	delete(t.s.open, snap)
	t.s.mu.Unlock()
	if !open { // Store.Close was faster
		return nil
	}
	return snap.Close()
}

// commit writes everything in one batch.
func (t *logTX) commit() error {
	if !t.write {
		return nil
	}
	t.s.admin.RLock()
	defer t.s.admin.RUnlock()
	if err := t.s.needTree(t.treeID); err != nil {
		return err
	}
	if len(t.sequenced) > 0 {
		locks := t.s.locks(t.treeID)
		locks.write.Lock()
		defer locks.write.Unlock()
	}
	b := t.s.db.NewBatch()
	if err := t.fill(b); err != nil {
		return errors.Join(err, b.Close())
	}
	return t.s.commit(b)
}

func (t *logTX) fill(b *pebble.Batch) error {
	for id, tl := range t.tiles {
		if !tl.dirty {
			continue
		}
		if !tl.whole() {
			return fmt.Errorf("tile %d/%d would have a gap", id.level, id.index)
		}
		if err := b.Set(id.key(t.treeID), tl.hashes, nil); err != nil {
			return fmt.Errorf("adding a tile to a batch: %w", err)
		}
	}
	if err := t.fillSequenced(b); err != nil {
		return err
	}
	if t.newRoot != nil {
		if err := b.Set(treeKey(kindRoot, t.treeID), t.newRoot, nil); err != nil {
			return fmt.Errorf("adding a root to a batch: %w", err)
		}
	}
	return nil
}

// LatestSignedLogRoot returns the root that the transaction started from.
func (t *logTX) LatestSignedLogRoot(context.Context) (*trillian.SignedLogRoot, error) {
	if t.slr == nil {
		return nil, storage.ErrTreeNeedsInit
	}
	return &trillian.SignedLogRoot{LogRoot: append([]byte(nil), t.slr...)}, nil
}

// StoreSignedLogRoot replaces the root. A root that is not newer, or is of
// a smaller tree, is refused: it comes from somebody who works on an old one.
func (t *logTX) StoreSignedLogRoot(_ context.Context, slr *trillian.SignedLogRoot) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.write {
		return status.Error(codes.FailedPrecondition, "read-only transaction")
	}
	var root types.LogRootV1
	if err := root.UnmarshalBinary(slr.GetLogRoot()); err != nil {
		return status.Errorf(codes.InvalidArgument, "malformed root: %v", err)
	}
	if t.slr != nil && root.TimestampNanos <= t.root.TimestampNanos {
		return status.Errorf(codes.FailedPrecondition, "root of time %d ns is not newer than the stored root's %d ns",
			root.TimestampNanos, t.root.TimestampNanos)
	}
	if t.slr != nil && root.TreeSize < t.root.TreeSize {
		return status.Errorf(codes.FailedPrecondition, "root of size %d is smaller than the stored root's %d", root.TreeSize, t.root.TreeSize)
	}
	t.newRoot = append([]byte(nil), slr.LogRoot...)
	return nil
}

// GetMerkleNodes returns the nodes' hashes in the order of ids. All must exist.
func (t *logTX) GetMerkleNodes(ctx context.Context, ids []compact.NodeID) ([]tree.Node, error) {
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer t.exit()
	nodes := make([]tree.Node, len(ids))
	for i, id := range ids {
		nodes[i].ID = id
		tid, pos, span, err := tileOf(nodes[i])
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		tl, err := t.tile(tid)
		if err != nil {
			return nil, err
		}
		if nodes[i].Hash, err = tl.node(pos, span); err != nil {
			return nil, status.Errorf(codes.NotFound, "node %d/%d: %v", id.Level, id.Index, err)
		}
	}
	return nodes, nil
}

// SetMerkleNodes adds nodes. Those between the levels of tiles are dropped, as
// they follow from the others. A node that is stored with another hash is refused.
func (t *logTX) SetMerkleNodes(ctx context.Context, nodes []tree.Node) error {
	if err := t.enter(ctx); err != nil {
		return err
	}
	defer t.exit()
	for _, n := range nodes {
		if n.ID.Level%8 != 0 {
			continue
		}
		tid, pos, _, err := tileOf(n)
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		if len(n.Hash) != hashSize {
			return status.Errorf(codes.InvalidArgument, "node %d/%d has a hash of %d bytes", n.ID.Level, n.ID.Index, len(n.Hash))
		}
		tl, err := t.tile(tid)
		if err != nil {
			return err
		}
		if err := tl.put(pos, n.Hash); err != nil {
			return status.Errorf(codes.FailedPrecondition, "node %d/%d: %v", n.ID.Level, n.ID.Index, err)
		}
	}
	return nil
}

// tile returns a tile as this transaction sees it; one that is not stored is empty.
func (t *logTX) tile(id tileID) (*tile, error) {
	if tl, ok := t.tiles[id]; ok {
		return tl, nil
	}
	v, c, err := t.snap.Get(id.key(t.treeID))
	if errors.Is(err, pebble.ErrNotFound) {
		tl := newTile()
		t.tiles[id] = tl
		return tl, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading tile %d/%d: %w", id.level, id.index, t.s.fault.mark(err))
	}
	tl, err := parseTile(v)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: tile %d/%d: %w", tlog.ErrCorrupt, id.level, id.index, err), c.Close())
	}
	t.tiles[id] = tl
	return tl, c.Close()
}
