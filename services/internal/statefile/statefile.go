// Package statefile is the one file in which a small service keeps what it must
// never forget: a bbolt database whose writes are durable, and which is not used
// any more once the outcome of a write is unknown.
//
// It is trusted to give back what was committed. That an older copy was put in
// its place is for its user to notice.
package statefile

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/trialog/trialog/services/internal/durable"
)

// ErrCommit is a transaction whose outcome is unknown: it may or may not be found
// when the file is opened again.
var ErrCommit = errors.New("committing the state file")

// errPanicked is the outcome of a commit that panicked.
var errPanicked = errors.New("the commit panicked")

// Points at which Hook is called.
const (
	BeforeCommit = "before commit" // failing here: nothing was stored
	AfterCommit  = "after commit"  // failing here: stored, but reported as failed
)

// File is an open state file. It may be used concurrently.
type File struct {
	db *bbolt.DB

	// Hook is called before and after a commit by tests only; an error that it
	// returns stands for the disk's.
	Hook func(point string) error

	// commits is held for writing while a commit is under way: bbolt's readers
	// see a new page table before it is synced, and what may yet be lost must not
	// get out by a read.
	commits sync.RWMutex

	mu     sync.Mutex
	broken error         // the commit error after which nothing is used any more
	failed chan struct{} // closed when broken is set
}

// Options say how a file is opened.
type Options struct {
	// ReadOnly opens a file that is there, beside nobody who writes it.
	ReadOnly bool
	// Freelist is how bbolt keeps free pages; empty for its default.
	Freelist bbolt.FreelistType
	// Prepare makes what belongs into a new file, or refuses an old one. It says
	// whether it has changed anything. It is not called with ReadOnly.
	Prepare func(*bbolt.Tx) (changed bool, err error)
}

// Open opens a state file, or creates it when it is absent. One process at a time
// may have it open.
func Open(path string, o Options) (*File, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		// Waiting for a lock that nobody gives up helps no operator.
		Timeout: time.Second, ReadOnly: o.ReadOnly, FreelistType: o.Freelist,
	})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, fmt.Errorf("opening the state file %s: another process has it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the state file %s: %w", path, err)
	}
	f := &File{db: db, failed: make(chan struct{})}
	if o.ReadOnly {
		return f, nil
	}
	// What a killed process wrote may be readable without being on the disk; and
	// bbolt syncs the file, not the name of a file that it has just created.
	err = db.Sync()
	if err == nil {
		err = f.Update(o.Prepare)
	}
	if err == nil {
		err = durable.SyncFolder(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return f, nil
}

// Update runs fn in the only write transaction there is, and commits when fn
// says so. When it returns nil, what fn wrote is on the disk (fsync). An error
// that wraps ErrCommit means that the outcome is unknown; then every later call
// fails, because after a failed fsync the kernel may have dropped the pages
// while reads still see them. Only opening the file again tells what is there.
func (f *File) Update(fn func(*bbolt.Tx) (commit bool, err error)) (err error) {
	if err := f.Err(); err != nil {
		return err
	}
	tx, err := f.db.Begin(true)
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	// After a commit this does nothing; it is for the other ways out.
	defer func() { _ = tx.Rollback() }()
	// Asked again, because another transaction may have failed meanwhile.
	if err := f.Err(); err != nil {
		return err
	}
	commit, err := fn(tx)
	if err != nil || !commit {
		return err
	}
	f.commits.Lock()
	defer f.commits.Unlock()
	// A panic in the middle of a commit is an unknown outcome too, and a server
	// lives on after one.
	err = errPanicked
	defer func() {
		if err != nil {
			err = f.fail(err)
		}
	}()
	err = f.commit(tx)
	return err
}

func (f *File) commit(tx *bbolt.Tx) error {
	if err := f.at(BeforeCommit); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return f.at(AfterCommit)
}

func (f *File) at(point string) error {
	if f.Hook == nil {
		return nil
	}
	return f.Hook(point)
}

func (f *File) fail(cause error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken == nil {
		f.broken = fmt.Errorf("%w: %w", ErrCommit, cause)
		close(f.failed)
	}
	return f.broken
}

// Err is the commit error after which the file is not used any more, or nil.
func (f *File) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broken
}

// Failed is closed when Err is not nil any more.
func (f *File) Failed() <-chan struct{} { return f.failed }

// View runs fn in a read transaction that sees durable data only.
func (f *File) View(fn func(*bbolt.Tx) error) error {
	f.commits.RLock()
	defer f.commits.RUnlock()
	if err := f.Err(); err != nil {
		return err
	}
	return f.db.View(fn)
}

// Close closes the file after the transactions under way.
func (f *File) Close() error {
	if err := f.db.Close(); err != nil {
		return fmt.Errorf("closing the state file: %w", err)
	}
	return nil
}
