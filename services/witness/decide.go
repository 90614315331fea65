package witness

import (
	"errors"
	"fmt"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
)

// verdict is what the rules say about a checkpoint, given what was cosigned
// before. It is decided without any I/O.
type verdict struct {
	kind   verdictKind
	reason error // why it is not cosigned; nil for accept
	// evidence says what the refused checkpoint shows; empty for nothing.
	evidence EvidenceKind
}

type verdictKind int

const (
	accept        verdictKind = iota // 200
	badOld                           // 400
	conflict                         // 409
	unprocessable                    // 422
)

// decide judges a checkpoint that carries a trusted signature against the
// newest one cosigned for the same origin; the zero Checkpoint if there is none.
// The checks are made in the order of the specification.
func decide(recorded checkpoint.Checkpoint, known bool, old uint64, hashes [][]byte, c checkpoint.Checkpoint) verdict {
	// SPEC: "The old size MUST be equal to or lower than the checkpoint size.
	// Otherwise, the witness MUST respond with a 400 Bad Request."
	if old > c.Size {
		return verdict{kind: badOld, reason: fmt.Errorf("old size %d is above the checkpoint's size %d", old, c.Size)}
	}
	fork := known && c.Size == recorded.Size && c.Root != recorded.Root
	// SPEC: "The witness MUST check that the old size matches the size of the
	// latest checkpoint it cosigned for the checkpoint's origin (or zero if it
	// never cosigned a checkpoint for that origin). If it doesn't match, the
	// witness MUST respond with a 409 Conflict."
	if old != recorded.Size {
		v := verdict{kind: conflict, reason: fmt.Errorf("old size %d is not the latest cosigned size %d", old, recorded.Size)}
		if fork {
			v.evidence = Fork
		}
		return v
	}
	// SPEC: "A checkpoint of size zero MUST have the root hash of the empty
	// tree […]. Otherwise, the witness MUST respond with a 422."
	if err := c.CheckRoot(); err != nil {
		return verdict{unprocessable, err, Fork}
	}
	// SPEC: "If the proof is not empty when the old size is zero, or if a Merkle
	// Consistency Proof doesn't verify, the witness MUST respond with a 422."
	if old == 0 && len(hashes) > 0 {
		return verdict{unprocessable, errors.New("the proof from size 0 is not empty"), ""}
	}
	// SPEC: "If the old size matches the checkpoint size, the witness MUST check
	// that the root hashes are also identical. If they don't match, the witness
	// MUST respond with a 422."
	if fork {
		return verdict{unprocessable, fmt.Errorf("another root was cosigned at size %d", c.Size), Fork}
	}
	if old == c.Size && len(hashes) > 0 {
		return verdict{unprocessable, errors.New("the proof between equal sizes is not empty"), ""}
	}
	// SPEC: "If the old size is zero, the consistency proof MUST be empty,
	// because the empty tree is consistent with any tree." And so is each tree
	// with itself.
	if old == 0 || old == c.Size {
		return verdict{kind: accept}
	}
	err := proof.VerifyConsistency(rfc6962.DefaultHasher, old, c.Size, hashes, recorded.Root[:], c.Root[:])
	if err != nil {
		return verdict{unprocessable, fmt.Errorf("the consistency proof does not verify: %w", err), Unproven}
	}
	return verdict{kind: accept}
}
