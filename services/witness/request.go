package witness

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"github.com/trialog/trialog/api/checkpoint"
)

// Limits of one add-checkpoint request; checkpoint.MaxSignatures is another. The
// body has room for 16 ML-DSA signature lines, the number that signed-note wants
// read, and keeps an anonymous sender from costing memory.
const (
	maxBody       = 64 << 10
	maxProofLines = 63
)

// addRequest is the body of an add-checkpoint request, in the shape of the
// specification but not yet judged.
type addRequest struct {
	old   uint64
	proof [][]byte // 32 bytes each
	note  *checkpoint.Note
}

// requestError is a body that is not in the shape of the specification.
type requestError struct {
	field string // "old", "proof[3]" or "checkpoint"
	err   error
}

func (e *requestError) Error() string { return e.field + ": " + e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

// parseAddRequest reads the body of an add-checkpoint request, strictly: what it
// accepts is formatted back to the same bytes by addRequest.bytes. Errors are
// *requestError.
//
// SPEC (tlog-witness, add-checkpoint): "The request body MUST be a sequence of
// an old size line, zero or more consistency proof lines, and an empty line,
// followed by a checkpoint. Each line MUST terminate in a newline character."
func parseAddRequest(body []byte) (*addRequest, error) {
	line, rest, ok := bytes.Cut(body, []byte("\n"))
	if !ok {
		return nil, &requestError{"old", errors.New("expected a line that ends in a newline")}
	}
	old, err := parseOldLine(line)
	if err != nil {
		return nil, &requestError{"old", err}
	}
	req := &addRequest{old: old}
	for {
		line, rest, ok = bytes.Cut(rest, []byte("\n"))
		if !ok {
			return nil, &requestError{"proof", errors.New("expected an empty line before the checkpoint")}
		}
		if len(line) == 0 {
			break
		}
		field := fmt.Sprintf("proof[%d]", len(req.proof))
		// SPEC: "The client MUST NOT send more than 63 consistency proof lines."
		if len(req.proof) == maxProofLines {
			return nil, &requestError{field, fmt.Errorf("expected at most %d proof lines", maxProofLines)}
		}
		hash, err := parseHashLine(line)
		if err != nil {
			return nil, &requestError{field, err}
		}
		req.proof = append(req.proof, hash)
	}
	if req.note, err = checkpoint.Parse(rest); err != nil {
		return nil, &requestError{"checkpoint", err}
	}
	return req, nil
}

// parseOldLine reads the old size line, without its newline.
//
// SPEC: "The old size line MUST consist of the string old, a single space
// (0x20), and the tree size of the previous checkpoint encoded as an ASCII
// decimal with no leading zeroes (unless the size is zero, in which case the
// encoding MUST be 0)."
func parseOldLine(line []byte) (uint64, error) {
	digits, ok := bytes.CutPrefix(line, []byte("old "))
	if !ok {
		return 0, errors.New(`expected "old <size>"`)
	}
	old, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil || strconv.FormatUint(old, 10) != string(digits) {
		return 0, errors.New("expected a decimal size without sign or leading zeroes, below 2^64")
	}
	return old, nil
}

// parseHashLine reads one proof line, without its newline.
//
// SPEC: "Each consistency proof line MUST encode a single hash in base64."
func parseHashLine(line []byte) ([]byte, error) {
	hash, err := base64.StdEncoding.Strict().DecodeString(string(line))
	// The second comparison refuses the '\r' that the decoder skips.
	if err != nil || len(hash) != 32 || base64.StdEncoding.EncodeToString(hash) != string(line) {
		return nil, errors.New("expected the base64 of 32 bytes")
	}
	return hash, nil
}

// bytes is the request as it is sent.
func (r *addRequest) bytes() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "old %d\n", r.old)
	for _, hash := range r.proof {
		b.WriteString(base64.StdEncoding.EncodeToString(hash))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	b.Write(r.note.Bytes())
	return b.Bytes()
}
