package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trialog/trialog/services/internal/tlog"
)

// Admin returns the storage of the trees' own rows.
func (s *Store) Admin() storage.AdminStorage { return adminStorage{s} }

type adminStorage struct{ s *Store }

// CheckDatabaseAccessible implements storage.AdminStorage.
func (a adminStorage) CheckDatabaseAccessible(ctx context.Context) error {
	return a.s.CheckDatabaseAccessible(ctx)
}

// Snapshot starts a read-only transaction.
func (a adminStorage) Snapshot(ctx context.Context) (storage.ReadOnlyAdminTX, error) {
	if err := a.s.enter(ctx); err != nil {
		return nil, err
	}
	defer a.s.exit()
	snap := a.s.db.NewSnapshot()
	return a.s.newAdminTX(snap, snap, nil), nil
}

// ReadWriteTransaction runs f in a transaction and commits if it returns nil.
// One runs at a time.
func (a adminStorage) ReadWriteTransaction(ctx context.Context, f storage.AdminTXFunc) error {
	a.s.adminTx.Lock()
	defer a.s.adminTx.Unlock()
	if err := a.s.enter(ctx); err != nil {
		return err
	}
	b := a.s.db.NewIndexedBatch()
	tx := a.s.newAdminTX(b, b, b)
	a.s.exit()
	defer tx.Close() //nolint:errcheck // after Commit it does nothing, before it there is nothing to lose
	if err := f(ctx, tx); err != nil {
		return err
	}
	return tx.Commit() //nolint:contextcheck // Trillian's AdminTX takes none
}

// reader is what a snapshot and an indexed batch have in common.
type reader interface {
	getter
	NewIter(o *pebble.IterOptions) (*pebble.Iterator, error)
}

type adminTX struct {
	s      *Store
	mu     sync.Mutex
	r      reader    // nil once the transaction has ended
	handle io.Closer // what Store.Close ends
	b      *pebble.Batch
}

func (s *Store) newAdminTX(r reader, handle io.Closer, b *pebble.Batch) *adminTX {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[handle] = struct{}{}
	return &adminTX{s: s, r: r, handle: handle, b: b}
}

func (t *adminTX) enter(ctx context.Context) error {
	if err := t.s.enter(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	if t.r == nil {
		t.exit()
		return errors.New("transaction has ended")
	}
	return nil
}

func (t *adminTX) exit() {
	t.mu.Unlock()
	t.s.exit()
}

// Commit makes the transaction's writes durable and ends it.
func (t *adminTX) Commit() error {
	if err := t.enter(context.Background()); err != nil {
		return err
	}
	defer t.exit()
	if t.b == nil {
		return t.end()
	}
	if !t.forget() {
		return tlog.ErrClosed
	}
	t.r = nil
	t.s.admin.Lock()
	defer t.s.admin.Unlock()
	return t.s.commit(t.b)
}

// Close ends the transaction without its writes, unless it was committed.
func (t *adminTX) Close() error {
	t.s.life.RLock()
	defer t.s.life.RUnlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end()
}

func (t *adminTX) end() error {
	if t.r == nil {
		return nil
	}
	t.r = nil
	if !t.forget() { // Store.Close was faster
		return nil
	}
	return t.handle.Close()
}

func (t *adminTX) forget() bool {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	_, open := t.s.open[t.handle]
	delete(t.s.open, t.handle)
	return open
}

// GetTree returns a tree, also a soft-deleted one, or NotFound.
func (t *adminTX) GetTree(ctx context.Context, treeID int64) (*trillian.Tree, error) {
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer t.exit()
	return t.tree(treeID)
}

func (t *adminTX) tree(treeID int64) (*trillian.Tree, error) {
	v, err := t.s.getFrom(t.r, treeKey(kindTree, treeID))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, status.Errorf(codes.NotFound, "tree %d not found", treeID)
	}
	if err != nil {
		return nil, fmt.Errorf("reading tree %d: %w", treeID, err)
	}
	return parseTree(v)
}

func parseTree(v []byte) (*trillian.Tree, error) {
	tree := &trillian.Tree{}
	if err := proto.Unmarshal(v, tree); err != nil {
		return nil, fmt.Errorf("%w: tree row: %w", tlog.ErrCorrupt, err)
	}
	return tree, nil
}

// ListTrees returns all trees, or all that are not soft-deleted.
func (t *adminTX) ListTrees(ctx context.Context, includeDeleted bool) ([]*trillian.Tree, error) {
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer t.exit()
	return t.s.listTrees(t.r, includeDeleted)
}

func (s *Store) listTrees(r reader, includeDeleted bool) ([]*trillian.Tree, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{kindTree}, UpperBound: []byte{kindTree + 1}})
	if err != nil {
		return nil, fmt.Errorf("reading trees: %w", s.fault.mark(err))
	}
	var trees []*trillian.Tree
	for ok := it.First(); ok; ok = it.Next() {
		tree, err := parseTree(it.Value())
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		if includeDeleted || !tree.Deleted {
			trees = append(trees, tree)
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, fmt.Errorf("reading trees: %w", s.fault.mark(err))
	}
	return trees, nil
}

// CreateTree stores a new tree under a random id.
func (t *adminTX) CreateTree(ctx context.Context, tree *trillian.Tree) (*trillian.Tree, error) {
	if err := storage.ValidateTreeForCreation(ctx, tree); err != nil {
		return nil, err
	}
	if err := refuseSettings(tree); err != nil {
		return nil, err
	}
	id, err := storage.NewTreeID()
	if err != nil {
		return nil, fmt.Errorf("choosing a tree id: %w", err)
	}
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer t.exit()
	created := proto.CloneOf(tree)
	created.TreeId = id
	created.CreateTime = timestamppb.New(t.s.now())
	created.UpdateTime = proto.CloneOf(created.CreateTime)
	return created, t.put(created)
}

// UpdateTree changes a tree as update does to a copy of it.
func (t *adminTX) UpdateTree(ctx context.Context, treeID int64, update func(*trillian.Tree)) (*trillian.Tree, error) {
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer t.exit()
	old, err := t.tree(treeID)
	if err != nil {
		return nil, err
	}
	tree := proto.CloneOf(old)
	update(tree)
	if err := storage.ValidateTreeForUpdate(ctx, old, tree); err != nil {
		return nil, err
	}
	if err := refuseSettings(tree); err != nil {
		return nil, err
	}
	tree.UpdateTime = timestamppb.New(t.s.now())
	return tree, t.put(tree)
}

// SoftDeleteTree marks a tree as deleted.
func (t *adminTX) SoftDeleteTree(ctx context.Context, treeID int64) (*trillian.Tree, error) {
	return t.setDeleted(ctx, treeID, true)
}

// UndeleteTree takes the mark away.
func (t *adminTX) UndeleteTree(ctx context.Context, treeID int64) (*trillian.Tree, error) {
	return t.setDeleted(ctx, treeID, false)
}

func (t *adminTX) setDeleted(ctx context.Context, treeID int64, deleted bool) (*trillian.Tree, error) {
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer t.exit()
	tree, err := t.tree(treeID)
	if err != nil {
		return nil, err
	}
	if tree.Deleted == deleted {
		return nil, status.Errorf(codes.FailedPrecondition, "tree %d: deleted is %v already", treeID, deleted)
	}
	tree.Deleted, tree.DeleteTime = deleted, nil
	if deleted {
		tree.DeleteTime = timestamppb.New(t.s.now())
	}
	return tree, t.put(tree)
}

// HardDeleteTree removes a soft-deleted tree and all of its rows.
func (t *adminTX) HardDeleteTree(ctx context.Context, treeID int64) error {
	if err := t.enter(ctx); err != nil {
		return err
	}
	defer t.exit()
	tree, err := t.tree(treeID)
	if err != nil {
		return err
	}
	if !tree.Deleted {
		return status.Errorf(codes.FailedPrecondition, "tree %d is not soft-deleted", treeID)
	}
	if err := t.needWrite(); err != nil {
		return err
	}
	for _, kind := range []byte(treeKinds) {
		prefix := treeKey(kind, treeID)
		if err := t.b.DeleteRange(prefix, prefixEnd(prefix), nil); err != nil {
			return fmt.Errorf("deleting tree %d: %w", treeID, err)
		}
	}
	return nil
}

func (t *adminTX) needWrite() error {
	if t.b == nil {
		return status.Error(codes.FailedPrecondition, "read-only transaction")
	}
	return nil
}

func (t *adminTX) put(tree *trillian.Tree) error {
	if err := t.needWrite(); err != nil {
		return err
	}
	v, err := proto.Marshal(tree)
	if err != nil {
		return fmt.Errorf("encoding tree %d: %w", tree.TreeId, err)
	}
	if err := t.b.Set(treeKey(kindTree, tree.TreeId), v, nil); err != nil {
		return fmt.Errorf("storing tree %d: %w", tree.TreeId, err)
	}
	return nil
}

func refuseSettings(tree *trillian.Tree) error {
	if tree.StorageSettings != nil {
		return status.Error(codes.InvalidArgument, "this storage has no storage_settings")
	}
	return nil
}

var (
	_ storage.AdminStorage = adminStorage{}
	_ storage.AdminTX      = (*adminTX)(nil)
)
