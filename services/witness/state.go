package witness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"go.etcd.io/bbolt"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/statefile"
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

// state is the one file that a witness's promise rests on. If an older copy is
// put in its place, the witness can be made to cosign a fork.
type state struct{ *statefile.File }

// openState opens the state file, or creates it when it is absent.
func openState(path string, readOnly bool) (*state, error) {
	f, err := statefile.Open(path, statefile.Options{ReadOnly: readOnly, Prepare: prepare})
	if err != nil {
		return nil, err
	}
	return &state{f}, nil
}

// prepare creates the buckets of a new file and checks the format of an old one.
func prepare(tx *bbolt.Tx) (changed bool, err error) {
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

// empty tells whether the file holds no checkpoint of any log.
func (s *state) empty() (empty bool, err error) {
	err = s.View(func(tx *bbolt.Tx) error {
		first, _ := tx.Bucket([]byte(logsBucket)).Cursor().First()
		empty = first == nil
		return nil
	})
	return empty, err
}

// note returns the recorded note of an origin, nil if there is none.
func (s *state) note(origin string) (raw []byte, err error) {
	err = s.View(func(tx *bbolt.Tx) error {
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
