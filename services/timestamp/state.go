package timestamp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// stateFormat is the format of the state file. A file of another one is refused.
const stateFormat = 1

// Buckets of the state file.
const (
	metaBucket   = "meta"   // "format", "life"
	tokensBucket = "tokens" // serial → record.value, of the tokens not yet logged
	batchBucket  = "batch"  // the batch that is under way; see batch.put
)

// errCommit is a transaction whose outcome is unknown: it may or may not be found
// when the file is opened again.
var errCommit = errors.New("committing the state file")

// Points at which a commit can be made to fail by tests.
const (
	beforeCommit = "before commit" // failing here: nothing was stored
	afterCommit  = "after commit"  // failing here: stored, but reported as failed
)

// state is the one file that the authority keeps. It is trusted to give back what
// was committed.
type state struct {
	db *bbolt.DB
	// hook is called before and after a commit by tests only; an error that it
	// returns stands for the disk's.
	hook func(point string) error
	// records is how many are not logged yet.
	records atomic.Int64

	mu      sync.Mutex
	queue   []*waiting // records that wait for the next commit
	writing bool       // somebody takes them from the queue
	broken  error      // the commit error after which nothing is used any more
	failed  chan struct{}
	writers sync.WaitGroup
}

// waiting is a record that somebody wants durable.
type waiting struct {
	record *record
	done   chan error
}

// openState opens the state file, or creates it when it is absent.
func openState(path string) (*state, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open the state file %s: another process has it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the state file %s: %w", path, err)
	}
	s := &state{db: db, failed: make(chan struct{})}
	// What a killed process wrote may be readable without being on the disk.
	if err := errors.Join(db.Sync(), s.prepare(path)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// prepare creates the buckets of a new file and checks the format of an old one.
func (s *state) prepare(path string) error {
	err := s.update(func(tx *bbolt.Tx) error {
		want := []byte(strconv.Itoa(stateFormat))
		if meta := tx.Bucket([]byte(metaBucket)); meta != nil {
			if got := meta.Get([]byte("format")); !bytes.Equal(got, want) {
				return fmt.Errorf("the state file has format %q, expected %q", got, want)
			}
			for _, name := range []string{tokensBucket, batchBucket} {
				if tx.Bucket([]byte(name)) == nil {
					return errors.New("the state file is that of another program")
				}
			}
			s.records.Store(int64(tx.Bucket([]byte(tokensBucket)).Stats().KeyN))
			return nil
		}
		for _, name := range []string{metaBucket, tokensBucket, batchBucket} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return fmt.Errorf("create bucket %s of the state file: %w", name, err)
			}
		}
		return tx.Bucket([]byte(metaBucket)).Put([]byte("format"), want)
	})
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path)) // bbolt syncs the file, not its name
}

// update runs fn in the one write transaction there is and commits. When it
// returns nil, what fn wrote is on the disk (fsync). An error that wraps
// errCommit means that the outcome is unknown; then every later call fails,
// because after a failed fsync the kernel may have dropped the pages while reads
// still see them.
func (s *state) update(fn func(*bbolt.Tx) error) error {
	if err := s.err(); err != nil {
		return err
	}
	tx, err := s.db.Begin(true)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	// After a commit this does nothing; it is for the other ways out.
	defer func() { _ = tx.Rollback() }()
	// Asked again, because another transaction may have failed meanwhile.
	if err := s.err(); err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return err
	}
	if err := s.at(beforeCommit); err != nil {
		return s.fail(err)
	}
	if err := tx.Commit(); err != nil {
		return s.fail(err)
	}
	if err := s.at(afterCommit); err != nil {
		return s.fail(err)
	}
	return nil
}

func (s *state) at(point string) error {
	if s.hook == nil {
		return nil
	}
	return s.hook(point)
}

func (s *state) fail(cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = fmt.Errorf("%w: %w", errCommit, cause)
		close(s.failed)
	}
	return s.broken
}

// err is the commit error that broke the state, or nil.
func (s *state) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// view runs fn in a read transaction.
func (s *state) view(fn func(*bbolt.Tx) error) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.db.View(fn)
}

// beginLife makes a life durable and returns its time: the one that is given, or
// one later than all lives before, if the clock was put back.
func (s *state) beginLife(ms uint64) (uint64, error) {
	err := s.update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte(metaBucket))
		if last := meta.Get([]byte("life")); len(last) == 8 {
			ms = max(ms, binary.BigEndian.Uint64(last)+1)
		} else if last != nil {
			return errors.New("the state file: expected a life of 8 bytes")
		}
		return meta.Put([]byte("life"), binary.BigEndian.AppendUint64(nil, ms))
	})
	return ms, err
}

// add makes a record durable. Records of several callers go into one commit: each
// commit takes all that came while the one before was under way.
func (s *state) add(r *record) error {
	w := &waiting{record: r, done: make(chan error, 1)}
	s.mu.Lock()
	if s.broken != nil {
		defer s.mu.Unlock()
		return s.broken
	}
	s.queue = append(s.queue, w)
	if !s.writing {
		s.writing = true
		s.writers.Go(s.write)
	}
	s.mu.Unlock()
	return <-w.done
}

// write commits what is in the queue until it is empty.
func (s *state) write() {
	for {
		s.mu.Lock()
		batch := s.queue
		s.queue = nil
		if len(batch) == 0 {
			s.writing = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		err := s.update(func(tx *bbolt.Tx) error {
			tokens := tx.Bucket([]byte(tokensBucket))
			tokens.FillPercent = 0.9 // keys grow
			for _, w := range batch {
				key := w.record.serial[:]
				if tokens.Get(key) != nil {
					return fmt.Errorf("token %x was recorded before", key)
				}
				if err := tokens.Put(key, w.record.value()); err != nil {
					return fmt.Errorf("record token %x: %w", key, err)
				}
			}
			return nil
		})
		if err == nil {
			s.records.Add(int64(len(batch)))
		}
		for _, w := range batch {
			w.done <- err
		}
	}
}

// oldest returns the records that are not logged yet, at most limit of them, the
// smallest serial number first.
func (s *state) oldest(limit int) ([]*record, error) {
	var list []*record
	err := s.view(func(tx *bbolt.Tx) error {
		c := tx.Bucket([]byte(tokensBucket)).Cursor()
		for k, v := c.First(); k != nil && len(list) < limit; k, v = c.Next() {
			r, err := parseRecord(k, v)
			if err != nil {
				return err
			}
			list = append(list, r)
		}
		return nil
	})
	return list, err
}

// close waits for what is being written and closes the file.
func (s *state) close() error {
	s.writers.Wait()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close the state file: %w", err)
	}
	return nil
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the folder of the state: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync the folder of the state: %w", err)
	}
	return nil
}
