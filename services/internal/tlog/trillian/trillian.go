// Package trillian is a tlog.Log on Google Trillian, used as a library: the
// sequenced leaves and the integration of a PREORDERED_LOG tree, called in this
// process, over any Trillian storage that meets Storage.
//
// The storage is trusted to keep what it acknowledged, and for nothing else.
// Each root that Trillian writes is recomputed from the leaves that were
// appended; each leaf and each old root that is read is proven against the last
// root that was checked so. What cannot be checked here is whether the whole
// store was put back to an older state: that is the register's business.
package trillian

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/trees"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/services/internal/tlog"
)

// Storage is a Trillian log storage with what tlog.Log needs beyond Trillian.
type Storage interface {
	storage.LogStorage

	// AddSequencedLeavesAtomic is AddSequencedLeaves, but if any leaf is refused,
	// with a status other than OK and AlreadyExists, it stores none. A storage
	// that cannot tell an identical leaf from another may refuse it too.
	AddSequencedLeavesAtomic(
		ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, timestamp time.Time,
	) ([]*trillian.QueuedLogLeaf, error)

	// FindIndex returns the index of the sequenced leaf with this identity, from
	// an index that is as durable as the leaves and written together with them.
	FindIndex(ctx context.Context, tree *trillian.Tree, identity []byte) (index int64, found bool, err error)
}

// Config says which log to open, and with what. Storage, Admin and Origin are
// required.
type Config struct {
	Storage Storage
	Admin   storage.AdminStorage
	// Origin is the name of the log, 1 to 200 bytes. It is kept as the tree's
	// description and finds the tree again.
	Origin string
	// Create makes the tree if there is none of that origin. Without it Open
	// returns tlog.ErrNotFound: a log that is expected to exist must not come
	// back empty.
	Create bool
	// BatchLimit is the greatest number of leaves that are integrated in one
	// transaction; 0 means 8,192.
	BatchLimit int
	// Now is the clock; nil means time.Now. It may step back: the times of roots
	// go on increasing.
	Now func() time.Time
	// Logger takes Trillian's messages too, at debug level unless they are errors;
	// nil means none. Trillian logs through one logger per process: it is the one
	// given to the first Open.
	Logger *slog.Logger
	// CloseStorage is called by Close when the last call has returned; may be nil.
	CloseStorage func() error
}

const (
	defaultBatchLimit = 8192
	treeName          = "trialog"
	// maxOrigin is the width of the description column of Trillian's SQL schemas.
	maxOrigin = 200
)

// Log is one tree. It implements tlog.Log.
type Log struct {
	storage    Storage
	admin      storage.AdminStorage
	tree       *trillian.Tree
	batchLimit int
	now        func() time.Time
	clock      *rootClock
	log        *slog.Logger
	release    func() error

	// life is held for reading by every call and for writing by Close.
	life   sync.RWMutex
	closed bool

	// appending is held from handing leaves to the storage to learning what
	// became of them.
	appending sync.Mutex

	// integrating guards edge and behind.
	integrating sync.Mutex
	edge        *compact.Range // the right edge of the tree of the checked root
	behind      bool           // an integration failed: the stored root may be ahead

	// head is the root that was last checked; it is read without a lock.
	head atomic.Pointer[tlog.Root]
	// broken is set once the storage was caught out. Nothing is written after.
	broken atomic.Pointer[error]

	pending pending
}

// Open opens the log, and creates it if asked to. It checks that the stored root
// is the root of the stored right edge and that the last leaf is in it.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	if cfg.Storage == nil || cfg.Admin == nil {
		return nil, fmt.Errorf("%w: storage and admin storage are required", tlog.ErrInvalid)
	}
	if n := len(cfg.Origin); n < 1 || n > maxOrigin {
		return nil, fmt.Errorf("%w: origin has %d bytes, expected 1 to %d", tlog.ErrInvalid, n, maxOrigin)
	}
	if cfg.BatchLimit < 0 {
		return nil, fmt.Errorf("%w: batch limit %d is negative", tlog.ErrInvalid, cfg.BatchLimit)
	}
	if cfg.BatchLimit == 0 {
		cfg.BatchLimit = defaultBatchLimit
	}
	if cfg.Now == nil {
		cfg.Now = time.Now //nolint:forbidigo // the default of the clock that is handed in
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	prepareProcess(cfg.Logger)
	l := &Log{
		storage: cfg.Storage, admin: cfg.Admin, batchLimit: cfg.BatchLimit,
		now: cfg.Now, clock: &rootClock{now: cfg.Now}, log: cfg.Logger, release: cfg.CloseStorage,
		pending: newPending(),
	}
	var err error
	if l.tree, err = openTree(ctx, cfg, l.clock); err != nil {
		return nil, fmt.Errorf("opening log %q: %w", cfg.Origin, err)
	}
	if err := l.load(ctx); err != nil {
		return nil, fmt.Errorf("opening log %q: %w", cfg.Origin, err)
	}
	return l, nil
}

// openTree finds the tree by its origin and makes sure that it has a root.
func openTree(ctx context.Context, cfg Config, clock *rootClock) (*trillian.Tree, error) {
	all, err := storage.ListTrees(ctx, cfg.Admin, false)
	if err != nil {
		return nil, fmt.Errorf("listing trees: %w", err)
	}
	var tree *trillian.Tree
	for _, t := range all {
		if t.TreeType != trillian.TreeType_PREORDERED_LOG || t.Description != cfg.Origin {
			continue
		}
		if tree != nil {
			return nil, fmt.Errorf("%w: trees %d and %d have the same origin", tlog.ErrCorrupt, tree.TreeId, t.TreeId)
		}
		tree = t
	}
	if tree == nil {
		if !cfg.Create {
			return nil, tlog.ErrNotFound
		}
		if tree, err = createTree(ctx, cfg); err != nil {
			return nil, err
		}
	}
	return tree, initTree(ctx, cfg, tree, clock)
}

// load reads the stored root and right edge and checks them against each other.
func (l *Log) load(ctx context.Context) error {
	tx, err := l.storage.SnapshotForTree(l.context(ctx), l.tree)
	if tx != nil {
		defer l.closeTX(tx)
	}
	if err != nil {
		return fmt.Errorf("reading the root: %w", err)
	}
	root, nanos, err := latestRoot(ctx, tx)
	if err != nil {
		return err
	}
	edge, err := readRange(ctx, tx, ranges(), 0, root.Size)
	if err != nil {
		return fmt.Errorf("reading the right edge: %w", err)
	}
	hash, err := rangeRoot(edge)
	if err != nil {
		return fmt.Errorf("hashing the right edge: %w", err)
	}
	if hash != root.Hash {
		return fmt.Errorf("%w: the right edge of size %d has root %x, the stored root is %x", tlog.ErrCorrupt, root.Size, hash, root.Hash)
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("reading the root: %w", err)
	}
	l.clock.floor.Store(nanos)
	l.edge = edge
	l.head.Store(&root)
	if root.Size == 0 {
		return nil
	}
	if _, err := l.read(ctx, root.Size-1, 1); err != nil {
		return fmt.Errorf("reading the last leaf: %w", err)
	}
	return nil
}

// Close implements tlog.Log.
func (l *Log) Close() error {
	l.life.Lock()
	defer l.life.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.release == nil {
		return nil
	}
	if err := l.release(); err != nil {
		return fmt.Errorf("closing the log's storage: %w", err)
	}
	return nil
}

// enter begins a call; exit must follow if it is nil.
func (l *Log) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.life.RLock()
	if l.closed {
		l.life.RUnlock()
		return tlog.ErrClosed
	}
	return nil
}

func (l *Log) exit() { l.life.RUnlock() }

// context carries the tree, so that Trillian does not read its row each time.
func (l *Log) context(ctx context.Context) context.Context {
	return trees.NewContext(ctx, l.tree)
}

// mayWrite returns an error if the tree is frozen or the storage was caught out.
func (l *Log) mayWrite(ctx context.Context) error {
	if p := l.broken.Load(); p != nil {
		return *p
	}
	opts := trees.NewGetOpts(trees.SequenceLog, trillian.TreeType_PREORDERED_LOG)
	_, err := trees.GetTree(l.context(ctx), l.admin, l.tree.TreeId, opts)
	return err
}

// caught notes that the storage gave a wrong answer about what was appended.
func (l *Log) caught(err error) error {
	err = fmt.Errorf("%w: %w", tlog.ErrCorrupt, err)
	if l.broken.CompareAndSwap(nil, &err) {
		l.log.Error("log storage is corrupt", "tree_id", l.tree.TreeId, "error", err)
	}
	return err
}

func (l *Log) closeTX(tx storage.ReadOnlyLogTreeTX) {
	if err := tx.Close(); err != nil && !errors.Is(err, tlog.ErrClosed) {
		l.log.Warn("closing a log transaction failed", "tree_id", l.tree.TreeId, "error", err)
	}
}

// ranges makes compact ranges of RFC 6962 hashes.
func ranges() *compact.RangeFactory {
	return &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
}

// rangeRoot is the root of a range that starts at 0, also of an empty one.
func rangeRoot(r *compact.Range) ([32]byte, error) {
	if r.End() == 0 {
		return tlog.EmptyRoot().Hash, nil
	}
	hash, err := r.GetRootHash(nil)
	if err != nil {
		return [32]byte{}, err
	}
	if len(hash) != 32 {
		return [32]byte{}, fmt.Errorf("hash of %d bytes", len(hash))
	}
	return [32]byte(hash), nil
}

var _ tlog.Log = (*Log)(nil)
