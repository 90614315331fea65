package witness

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/trialog/trialog/api/checkpoint"
)

// EvidenceKind says what a refused checkpoint shows.
type EvidenceKind string

const (
	// Fork is conclusive by itself: the log signed two roots at one size, or a
	// root that no empty tree has at size 0.
	Fork EvidenceKind = "fork"
	// Unproven is a checkpoint that the log signed and whose proof from the
	// recorded one fails. Whoever sends a genuine checkpoint with a wrong proof
	// can make one; with a log that cannot prove consistency later, it is
	// evidence too.
	Unproven EvidenceKind = "unproven"
	// Inconsistent is conclusive by itself: the hashes show that the tree of one
	// signed checkpoint does not begin with that of the other.
	Inconsistent EvidenceKind = "inconsistent"
	// Double is two roots at one size that the witness's own key signed. Its state
	// was lost or put back, or its key is in other hands too.
	Double EvidenceKind = "double"
)

// maxEvidence bounds the journal for each log and kind. When it is full, the
// first entries stay: unproven entries can be made by anybody, and must not push
// out older ones; forks have room of their own.
const maxEvidence = 16

// Evidence is a checkpoint that carries a trusted log signature and was refused
// as inconsistent, with what it was held against.
//
// SPEC (tlog-witness): "If the origin is known, and the signature is valid, the
// witness MAY log the request even if the checkpoint fails one of the
// consistency checks above […], as it might be proof of log misbehavior."
type Evidence struct {
	Kind EvidenceKind `json:"kind"`
	// Seen is when it was refused, by the witness's clock, in Unix seconds.
	Seen int64 `json:"seen"`
	// Old and Proof are the request's; each hash has 32 bytes. With Inconsistent
	// the proof is what leads from the smaller to the larger tree, as
	// evidence.NewInconsistent wants it.
	Old   uint64   `json:"old,string"`
	Proof [][]byte `json:"proof,omitempty"`
	// Refused is the refused checkpoint: a note with the log's signatures.
	Refused []byte `json:"refused"`
	// Recorded is what it was held against: the newest checkpoint that was
	// cosigned before, a note with the log's and the witness's signatures, or one
	// that a source showed. Empty if there was none.
	Recorded []byte `json:"recorded,omitempty"`
}

// journal writes e unless it, or too much, is there already. It says whether it
// wrote, and so whether the transaction needs a commit.
func journal(tx *bbolt.Tx, c checkpoint.Checkpoint, e *Evidence) (wrote bool, err error) {
	b, err := tx.Bucket([]byte(evidenceBucket)).CreateBucketIfNotExists([]byte(c.Origin))
	if err != nil {
		return false, fmt.Errorf("opening the journal of %q: %w", c.Origin, err)
	}
	prefix := append([]byte(e.Kind), 0)
	key := append(binary.BigEndian.AppendUint64(bytes.Clone(prefix), c.Size), c.Root[:]...)
	if b.Get(key) != nil {
		return false, nil
	}
	n := 0
	cursor := b.Cursor()
	for k, _ := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = cursor.Next() {
		n++
	}
	if n >= maxEvidence {
		return false, nil
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return false, fmt.Errorf("encoding evidence about %q: %w", c.Origin, err)
	}
	if err := b.Put(key, raw); err != nil {
		return false, fmt.Errorf("writing evidence about %q: %w", c.Origin, err)
	}
	return true, nil
}
