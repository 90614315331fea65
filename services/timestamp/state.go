package timestamp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"github.com/trialog/trialog/services/internal/statefile"
)

// stateFormat is the format of the state file. A file of another one is refused.
const stateFormat = 1

// Buckets of the state file.
const (
	metaBucket   = "meta"   // "format", "life"
	tokensBucket = "tokens" // serial → record.value, of the tokens not yet logged
	batchBucket  = "batch"  // the batch that is under way; see batch.put
)

// state is the one file that the authority keeps. It is trusted to give back what
// was committed.
type state struct {
	*statefile.File
	// records is how many are not logged yet.
	records atomic.Int64

	mu      sync.Mutex
	queue   []*waiting // records that wait for the next commit
	writing bool       // somebody takes them from the queue
	writers sync.WaitGroup
}

// waiting is a record that somebody wants durable.
type waiting struct {
	record *record
	done   chan error
}

// openState opens the state file, or creates it when it is absent.
func openState(path string) (*state, error) {
	s := &state{}
	f, err := statefile.Open(path, statefile.Options{Freelist: bbolt.FreelistMapType, Prepare: s.prepare})
	if err != nil {
		return nil, err
	}
	s.File = f
	return s, nil
}

// prepare creates the buckets of a new file and checks the format of an old one.
func (s *state) prepare(tx *bbolt.Tx) (changed bool, err error) {
	want := []byte(strconv.Itoa(stateFormat))
	if meta := tx.Bucket([]byte(metaBucket)); meta != nil {
		if got := meta.Get([]byte("format")); !bytes.Equal(got, want) {
			return false, fmt.Errorf("the state file has format %q, expected %q", got, want)
		}
		for _, name := range []string{tokensBucket, batchBucket} {
			if tx.Bucket([]byte(name)) == nil {
				return false, errors.New("the state file is that of another program")
			}
		}
		s.records.Store(int64(tx.Bucket([]byte(tokensBucket)).Stats().KeyN))
		return false, nil
	}
	for _, name := range []string{metaBucket, tokensBucket, batchBucket} {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return false, fmt.Errorf("create bucket %s of the state file: %w", name, err)
		}
	}
	return true, tx.Bucket([]byte(metaBucket)).Put([]byte("format"), want)
}

// update runs fn in a transaction that is committed unless fn fails.
func (s *state) update(fn func(*bbolt.Tx) error) error {
	return s.Update(func(tx *bbolt.Tx) (commit bool, err error) { return true, fn(tx) })
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
	if err := s.Err(); err != nil {
		return err
	}
	s.mu.Lock()
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
	err := s.View(func(tx *bbolt.Tx) error {
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
	return s.Close()
}
