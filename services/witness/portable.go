package witness

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/evidence"
)

// Journal is what a witness keeps about one log that contradicts itself, or about
// the list of a log, whose name is then in the origin's place.
type Journal struct {
	Entries []Evidence   `json:"entries,omitempty"`
	Lists   []ListsApart `json:"lists,omitempty"`
}

// journal reads what there is about a log.
func (s *state) journal(origin string) (*Journal, error) {
	j := &Journal{}
	err := s.View(func(tx *bbolt.Tx) error {
		return errors.Join(
			decodeAll(tx, evidenceBucket, origin, &j.Entries),
			decodeAll(tx, disputedBucket, origin, &j.Lists),
		)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the journal of %q: %w", origin, err)
	}
	return j, nil
}

// decodeAll appends what the bucket of an origin holds.
func decodeAll[T any](tx *bbolt.Tx, bucket, origin string, out *[]T) error {
	all := tx.Bucket([]byte(bucket))
	if all == nil || origin == "" || all.Bucket([]byte(origin)) == nil {
		return nil
	}
	return all.Bucket([]byte(origin)).ForEach(func(_, raw []byte) error {
		var e T
		if err := json.Unmarshal(raw, &e); err != nil {
			return fmt.Errorf("decoding: %w", err)
		}
		*out = append(*out, e)
		return nil
	})
}

// Portable returns the journal as evidence that others can check offline, signed
// by nobody: what it shows is in the notes. by is who says so.
func (j *Journal) Portable(by string) ([]*evidence.Evidence, error) {
	var out []*evidence.Evidence
	for i := range j.Entries {
		more, err := j.Entries[i].portable()
		if err != nil {
			return nil, fmt.Errorf("entry %d of the journal: %w", i, err)
		}
		for _, e := range more {
			e.By, e.At = by, time.Unix(j.Entries[i].Seen, 0).UTC()
		}
		out = append(out, more...)
	}
	for i := range j.Lists {
		e := evidence.NewLogList(j.Lists[i].InForce, j.Lists[i].Refused)
		e.By, e.At = by, time.Unix(j.Lists[i].Seen, 0).UTC()
		out = append(out, e)
	}
	return out, nil
}

func (e *Evidence) portable() ([]*evidence.Evidence, error) {
	refused, err := checkpoint.Parse(e.Refused)
	if err != nil {
		return nil, fmt.Errorf("parsing the refused note: %w", err)
	}
	var recorded *checkpoint.Note
	if len(e.Recorded) > 0 {
		if recorded, err = checkpoint.Parse(e.Recorded); err != nil {
			return nil, fmt.Errorf("parsing the recorded note: %w", err)
		}
	}
	hashes := make([][32]byte, len(e.Proof))
	for i, h := range e.Proof {
		if len(h) != len(hashes[i]) {
			return nil, fmt.Errorf("hash %d of the proof has %d bytes", i, len(h))
		}
		hashes[i] = [32]byte(h)
	}
	falselyEmpty := errors.Is(refused.Checkpoint().CheckRoot(), checkpoint.ErrEmptyRoot)
	switch {
	case e.Kind == Double:
		// The log signed both too, and answers for it by itself.
		return []*evidence.Evidence{evidence.NewWitnessFork(recorded, refused), evidence.NewFork(recorded, refused)}, nil
	case e.Kind == Inconsistent:
		return []*evidence.Evidence{evidence.NewInconsistent(recorded, refused, hashes)}, nil
	case e.Kind == Fork && falselyEmpty:
		return []*evidence.Evidence{evidence.NewFork(refused, nil)}, nil
	case e.Kind == Fork && recorded != nil:
		return []*evidence.Evidence{evidence.NewFork(recorded, refused)}, nil
	case e.Kind == Unproven && recorded != nil:
		// It may show more than was clear in a hurry.
		if found := evidence.Refused(recorded, refused, hashes); found != nil {
			return []*evidence.Evidence{found}, nil
		}
		return []*evidence.Evidence{evidence.NewUnproven(recorded, refused, hashes)}, nil
	}
	return nil, fmt.Errorf("unknown kind %q", e.Kind)
}
