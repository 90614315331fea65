package witness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/trialog/trialog/api/checkpoint"
)

// formatVersion is the format of the state file and of each record in it. A
// file of another format is refused: guessing what was cosigned is forking.
const formatVersion = 1

// Buckets of the state file.
const (
	metaBucket     = "meta"     // "format" → formatVersion in decimal
	logsBucket     = "logs"     // origin → record
	evidenceBucket = "evidence" // origin → bucket: kind, size, root → Evidence
	heldBucket     = "held"     // origin → why nothing of it is cosigned any more
	listsBucket    = "lists"    // log → storedList
	namesBucket    = "names"    // name of a list in the configuration → the log whose list it is
	disputedBucket = "disputed" // log → bucket: SHA-256 → ListsApart
)

// record is the newest checkpoint cosigned for one origin.
type record struct {
	Format int             `json:"format"`
	Size   uint64          `json:"size,string"`
	Root   checkpoint.Hash `json:"-"`
	RootB  []byte          `json:"root"`
	// Time is the cosignatures' time in Unix seconds; it never decreases.
	Time uint64 `json:"time,string"`
	// Note is the checkpoint with the log signatures that were verified and the
	// witness's own, as the read interface serves it.
	Note []byte `json:"note"`
}

func (r *record) encode() ([]byte, error) {
	r.Format, r.RootB = formatVersion, r.Root[:]
	return json.Marshal(r)
}

// decodeRecord reads a record and holds it against the note inside it, so that
// a damaged file is noticed rather than believed.
func decodeRecord(origin string, raw []byte) (*record, *checkpoint.Note, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var r record
	if err := dec.Decode(&r); err != nil {
		return nil, nil, fmt.Errorf("decoding the record of %q: %w", origin, err)
	}
	if r.Format != formatVersion {
		return nil, nil, fmt.Errorf("the record of %q has format %d, expected %d", origin, r.Format, formatVersion)
	}
	if len(r.RootB) != len(r.Root) {
		return nil, nil, fmt.Errorf("the record of %q has a root of %d bytes", origin, len(r.RootB))
	}
	r.Root = checkpoint.Hash(r.RootB)
	note, err := checkpoint.Parse(r.Note)
	if err != nil {
		return nil, nil, fmt.Errorf("parsing the recorded note of %q: %w", origin, err)
	}
	if got, want := note.Checkpoint(), (checkpoint.Checkpoint{Origin: origin, Size: r.Size, Root: r.Root}); got != want {
		return nil, nil, fmt.Errorf("the record of %q says size %d, its note says %q size %d, or the roots differ",
			origin, r.Size, got.Origin, got.Size)
	}
	return &r, note, nil
}

// errCommit is a transaction whose outcome is unknown: it may or may not be
// found when the file is opened again.
var errCommit = errors.New("committing the state file")

// state is the one file that a witness's promise rests on. It is trusted to
// give back what was committed; if an older copy is put in its place, the
// witness can be made to cosign a fork.
type state struct {
	db *bbolt.DB

	// hook is called before and after a commit by tests only; an error it
	// returns stands for the disk's.
	hook func(point string) error

	// commits is held for writing while a commit is under way: bbolt's readers
	// see a new page table before it is synced, and a cosignature that may yet
	// be lost must not get out through the read interface.
	commits sync.RWMutex

	mu     sync.Mutex
	broken error         // the commit error after which nothing is used any more
	failed chan struct{} // closed when broken is set
}

const (
	beforeCommit = "before commit" // failing here: nothing was stored
	afterCommit  = "after commit"  // failing here: stored, but reported as failed
)

// openState opens the state file, or creates it when it is absent.
func openState(path string, readOnly bool) (*state, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		// Two witnesses on one file would still agree, one after the other, but
		// waiting for a lock that nobody gives up helps no operator.
		Timeout:  time.Second,
		ReadOnly: readOnly,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the state file: %w", err)
	}
	s := &state{db: db, failed: make(chan struct{})}
	if readOnly {
		return s, nil
	}
	// What a killed process wrote may be readable without being on the disk.
	if err := errors.Join(db.Sync(), s.prepare(path)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// prepare creates the buckets of a new file and checks the format of an old one.
func (s *state) prepare(path string) error {
	err := s.update(func(tx *bbolt.Tx) (bool, error) {
		want := []byte(strconv.Itoa(formatVersion))
		if meta := tx.Bucket([]byte(metaBucket)); meta != nil {
			if got := meta.Get([]byte("format")); !bytes.Equal(got, want) {
				return false, fmt.Errorf("the state file has format %q, expected %q", got, want)
			}
			return createBuckets(tx)
		}
		if _, err := createBuckets(tx); err != nil {
			return false, err
		}
		if _, err := tx.CreateBucket([]byte(metaBucket)); err != nil {
			return false, fmt.Errorf("creating bucket %s of the state file: %w", metaBucket, err)
		}
		return true, tx.Bucket([]byte(metaBucket)).Put([]byte("format"), want)
	})
	if err != nil {
		return err
	}
	// bbolt syncs the file, not the name of a file it has just created.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("opening the state file's directory: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("syncing the state file's directory: %w", err)
	}
	return nil
}

// createBuckets creates those that are missing, and says whether any was: files of
// the first witnesses have fewer.
func createBuckets(tx *bbolt.Tx) (created bool, err error) {
	for _, name := range []string{logsBucket, evidenceBucket, heldBucket, listsBucket, namesBucket, disputedBucket} {
		if tx.Bucket([]byte(name)) != nil {
			continue
		}
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return false, fmt.Errorf("creating bucket %s of the state file: %w", name, err)
		}
		created = true
	}
	return created, nil
}

// update runs fn in the only write transaction there is, and commits when fn
// says so. When it returns nil, what fn wrote is on the disk (fsync). An error
// that wraps errCommit means that the outcome is unknown; then every later call
// fails, because after a failed fsync the kernel may have dropped the pages
// while reads still see them. Only opening the file again tells what is there.
func (s *state) update(fn func(*bbolt.Tx) (commit bool, err error)) (err error) {
	if err := s.err(); err != nil {
		return err
	}
	tx, err := s.db.Begin(true)
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	// After a commit this does nothing; it is for the other ways out.
	defer func() { _ = tx.Rollback() }()
	// Asked again, because another transaction may have failed meanwhile.
	if err := s.err(); err != nil {
		return err
	}
	commit, err := fn(tx)
	if err != nil || !commit {
		return err
	}
	s.commits.Lock()
	defer s.commits.Unlock()
	// A panic in the middle of a commit is an unknown outcome too, and the server
	// lives on after one.
	err = errPanicked
	defer func() {
		if err != nil {
			err = s.fail(err)
		}
	}()
	err = s.commit(tx)
	return err
}

var errPanicked = errors.New("the commit panicked")

func (s *state) commit(tx *bbolt.Tx) error {
	if err := s.at(beforeCommit); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return s.at(afterCommit)
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

// view runs fn in a read transaction that sees durable data only.
func (s *state) view(fn func(*bbolt.Tx) error) error {
	s.commits.RLock()
	defer s.commits.RUnlock()
	if err := s.err(); err != nil {
		return err
	}
	return s.db.View(fn)
}

// empty tells whether the file holds no checkpoint of any log.
func (s *state) empty() (empty bool, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		first, _ := tx.Bucket([]byte(logsBucket)).Cursor().First()
		empty = first == nil
		return nil
	})
	return empty, err
}

// note returns the recorded note of an origin, nil if there is none.
func (s *state) note(origin string) (raw []byte, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		r, _, err := readRecord(tx, origin)
		if r != nil {
			raw = r.Note
		}
		return err
	})
	return raw, err
}

// readRecord returns the record of an origin and its note, nil if there is none.
func readRecord(tx *bbolt.Tx, origin string) (*record, *checkpoint.Note, error) {
	logs := tx.Bucket([]byte(logsBucket))
	if logs == nil {
		return nil, nil, errors.New("the state file has no logs bucket")
	}
	raw := logs.Get([]byte(origin))
	if raw == nil {
		return nil, nil, nil
	}
	return decodeRecord(origin, raw)
}

func writeRecord(tx *bbolt.Tx, origin string, r *record) error {
	raw, err := r.encode()
	if err != nil {
		return fmt.Errorf("encoding the record of %q: %w", origin, err)
	}
	if err := tx.Bucket([]byte(logsBucket)).Put([]byte(origin), raw); err != nil {
		return fmt.Errorf("writing the record of %q: %w", origin, err)
	}
	return nil
}

func (s *state) close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("closing the state file: %w", err)
	}
	return nil
}
