// Package pebblestore keeps Trillian logs in a Pebble database in one local
// directory: a storage.LogStorage and a storage.AdminStorage, with a persistent
// index of leaf identities.
//
// It is trusted for durability only. One process may have the directory open.
// Every commit is synced; leaves and their identities are written in one batch.
// A leaf's index and identity are checked and written under one lock per tree,
// so that of two writers one sees the other's leaf.
package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/trillian"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trialog/trialog/services/internal/tlog"
)

// formatMark is the value of the row that says what the other rows mean.
const formatMark = "trialog/pebblestore 1"

// Options are the choices that Open leaves open. The zero value is useful.
type Options struct {
	// FS is where the directory is; nil means the disk.
	FS vfs.FS
	// CacheBytes bounds memtables and cached blocks together; 0 means 320 MiB.
	CacheBytes int64
	// MemTableBytes is the size of one memtable, of which up to four exist at
	// once; 0 means 64 MiB. Smaller ones mean more compaction.
	MemTableBytes uint64
	// RebuildIdentities makes the identity index again from the leaves, also if
	// nothing was found wrong with it.
	RebuildIdentities bool
	// Now is the clock for the creation and update times of trees; nil means
	// time.Now. Nothing about leaves depends on it.
	Now func() time.Time
	// Logger takes the store's own and Pebble's messages; nil means none.
	Logger *slog.Logger
}

// Store is an open directory. It implements storage.LogStorage; Admin returns
// its storage.AdminStorage.
type Store struct {
	db     *pebble.DB
	now    func() time.Time
	fault  *fault
	filter *filter

	// life is held for reading by every call while it uses db, never while
	// a caller's function runs; Close takes it for writing.
	life   sync.RWMutex
	closed bool

	mu    sync.Mutex             // guards the two maps
	open  map[io.Closer]struct{} // snapshots and iterating transactions to end at Close
	trees map[int64]*treeLocks

	// admin is held for writing while trees change and for reading from the
	// check that a tree exists to the end of a write to it.
	admin sync.RWMutex
	// adminTx admits one writing AdminTX at a time.
	adminTx sync.Mutex
}

// treeLocks are one tree's locks. Writers touch leaf, identity and queue rows,
// the integrator tile and root rows, so that each may run beside the other.
type treeLocks struct {
	write     sync.Mutex // from looking up indexes and identities to the commit
	integrate sync.Mutex // for the length of a read-write transaction
}

// Open opens, or creates, the store in dir. tlog.ErrLocked: somebody else has
// it open.
func Open(dir string, opts Options) (*Store, error) {
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	if opts.Now == nil {
		opts.Now = time.Now //nolint:forbidigo // the default of the clock that is handed in
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	f := &fault{log: opts.Logger}
	if err := makeDir(opts.FS, dir); err != nil {
		return nil, fmt.Errorf("creating the store's directory: %w", err)
	}
	// The lock is taken before Pebble opens so that its being held can be told
	// from every other failure.
	lock, err := pebble.LockDirectory(dir, opts.FS)
	if err != nil {
		return nil, fmt.Errorf("locking the store's directory: %w: %w", tlog.ErrLocked, err)
	}
	popts := pebbleOptions(opts, f)
	popts.Lock = lock
	db, err := pebble.Open(dir, popts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store: %w", f.mark(err)), lock.Close())
	}
	s := &Store{
		db: db, now: opts.Now, fault: f, filter: newFilter(),
		open: map[io.Closer]struct{}{}, trees: map[int64]*treeLocks{},
	}
	f.lock = lock
	if err := s.prepare(opts); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare checks what is in the store before anybody uses it.
func (s *Store) prepare(opts Options) error {
	if err := s.checkFormat(); err != nil {
		return err
	}
	if err := s.restoreIdentities(opts.RebuildIdentities); err != nil {
		return err
	}
	return s.loadFilter()
}

// makeDir creates dir and makes the entries of the directories that it created
// durable: Pebble syncs what is in dir, but not that dir is there.
func makeDir(fs vfs.FS, dir string) error {
	var parents []string
	for d := dir; ; d = fs.PathDir(d) {
		if _, err := fs.Stat(d); err == nil || fs.PathDir(d) == d {
			break
		}
		parents = append(parents, fs.PathDir(d))
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, p := range parents {
		if p == "" {
			p = "."
		}
		f, err := fs.OpenDir(p)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func pebbleOptions(opts Options, f *fault) *pebble.Options {
	o := &pebble.Options{
		FS:           f.guard(opts.FS),
		CacheSize:    128 << 20,
		MemTableSize: 64 << 20,
		// Pinned, so that opening with a newer library does not silently make the
		// directory unreadable for the older one.
		FormatMajorVersion:          pebble.FormatValueSeparation,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       40,
		MemTableStopWritesThreshold: 4,
		Logger:                      f,
		EventListener:               f.events(),
	}
	if opts.CacheBytes > 0 {
		o.CacheSize = opts.CacheBytes
	}
	if opts.MemTableBytes > 0 {
		o.MemTableSize = opts.MemTableBytes
	}
	for i := range o.Levels {
		// Nearly every look-up is of an identity that is not there.
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
	}
	return o
}

// checkFormat writes the format mark into an empty database and refuses one
// that is marked otherwise or holds rows without a mark.
func (s *Store) checkFormat() error {
	v, err := s.get([]byte{kindFormat})
	switch {
	case err == nil && string(v) == formatMark:
		return nil
	case err == nil:
		return fmt.Errorf("%w: the store's format is %q, expected %q", tlog.ErrInvalid, v, formatMark)
	case !errors.Is(err, pebble.ErrNotFound):
		return fmt.Errorf("reading the store's format: %w", err)
	}
	it, err := s.db.NewIter(nil)
	if err != nil {
		return fmt.Errorf("reading the store's format: %w", s.fault.mark(err))
	}
	used := it.First()
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("reading the store's format: %w", s.fault.mark(err))
	}
	if used {
		return fmt.Errorf("%w: the store has rows but no format mark", tlog.ErrCorrupt)
	}
	b := s.db.NewBatch()
	if err := b.Set([]byte{kindFormat}, []byte(formatMark), nil); err != nil {
		return fmt.Errorf("marking the store's format: %w", err)
	}
	return s.commit(b)
}

// Close waits for the calls under way, ends transactions that were left open
// and closes the directory. A second Close does nothing.
func (s *Store) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.filter.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for c := range s.open {
		errs = append(errs, c.Close())
	}
	clear(s.open)
	errs = append(errs, s.db.Close(), s.fault.lock.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}

// Err returns the failure after which the store refuses to write, or nil.
func (s *Store) Err() error { return s.fault.first() }

// enter begins a call that uses the database; exit must follow if it is nil.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return tlog.ErrClosed
	}
	if err := s.fault.readable(); err != nil {
		s.life.RUnlock()
		return err
	}
	return nil
}

func (s *Store) exit() { s.life.RUnlock() }

// commit makes the batch durable. An error that is not ErrUnknownOutcome means
// that nothing was written.
func (s *Store) commit(b *pebble.Batch) error {
	defer b.Close() //nolint:errcheck // closing a batch only returns its memory
	if err := s.fault.writable(); err != nil {
		return err
	}
	if b.Empty() {
		return nil
	}
	err := b.Commit(pebble.Sync)
	if err != nil {
		s.fault.fail(fmt.Errorf("committing: %w", err))
	}
	// Pebble reports a failed write-ahead log to its logger, and then says nil.
	if first := s.fault.fatal(); first != nil {
		return fmt.Errorf("%w: %w", tlog.ErrUnknownOutcome, first)
	}
	return nil
}

// getter is what the database, a snapshot and an indexed batch have in common.
type getter interface {
	Get(key []byte) ([]byte, io.Closer, error)
}

func (s *Store) get(key []byte) ([]byte, error) { return s.getFrom(s.db, key) }

// getFrom returns a copy of a row's value, or pebble.ErrNotFound.
func (s *Store) getFrom(g getter, key []byte) ([]byte, error) {
	v, c, err := g.Get(key)
	if err != nil {
		if errors.Is(err, pebble.ErrNotFound) {
			return nil, err
		}
		return nil, s.fault.mark(err)
	}
	out := append([]byte(nil), v...)
	return out, c.Close()
}

func (s *Store) locks(treeID int64) *treeLocks {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.trees[treeID]
	if l == nil {
		l = &treeLocks{}
		s.trees[treeID] = l
	}
	return l
}

// needTree returns NotFound unless the tree is in the store.
func (s *Store) needTree(treeID int64) error {
	_, c, err := s.db.Get(treeKey(kindTree, treeID))
	if errors.Is(err, pebble.ErrNotFound) {
		return status.Errorf(codes.NotFound, "tree %d not found", treeID)
	}
	if err != nil {
		return s.fault.mark(err)
	}
	return c.Close()
}

// CheckDatabaseAccessible returns an error if the store has failed or is closed.
func (s *Store) CheckDatabaseAccessible(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.exit()
	return s.fault.writable()
}

// GetActiveLogIDs returns the trees whose leaves are to be integrated.
func (s *Store) GetActiveLogIDs(ctx context.Context) ([]int64, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.exit()
	trees, err := s.listTrees(s.db, false)
	if err != nil {
		return nil, err
	}
	ids := []int64{}
	for _, t := range trees {
		isLog := t.TreeType == trillian.TreeType_LOG || t.TreeType == trillian.TreeType_PREORDERED_LOG
		// A DRAINING tree takes no more leaves but integrates those it has.
		if isLog && (t.TreeState == trillian.TreeState_ACTIVE || t.TreeState == trillian.TreeState_DRAINING) {
			ids = append(ids, t.TreeId)
		}
	}
	return ids, nil
}

// FindIndex returns the index of the sequenced leaf with this identity.
func (s *Store) FindIndex(ctx context.Context, tree *trillian.Tree, identity []byte) (index int64, found bool, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, false, err
	}
	defer s.exit()
	row, found, err := s.identity(tree.TreeId, identity)
	return row.number, found && row.sequenced, err
}

func (s *Store) identity(treeID int64, identity []byte) (identityRow, bool, error) {
	if len(identity) != hashSize {
		return identityRow{}, false, status.Errorf(codes.InvalidArgument, "identity of %d bytes, want %d", len(identity), hashSize)
	}
	if !s.filter.mayHold(treeID, identity) {
		return identityRow{}, false, nil
	}
	v, c, err := s.db.Get(identityKey(treeID, identity))
	if errors.Is(err, pebble.ErrNotFound) {
		return identityRow{}, false, nil
	}
	if err != nil {
		return identityRow{}, false, fmt.Errorf("reading the identity index: %w", s.fault.mark(err))
	}
	row, err := parseIdentityRow(v)
	if cerr := c.Close(); err == nil && cerr != nil {
		return identityRow{}, false, cerr
	}
	if err != nil {
		return identityRow{}, false, fmt.Errorf("%w: %w", tlog.ErrCorrupt, err)
	}
	return row, true, nil
}
