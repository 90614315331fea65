// Package checkpoint reads, writes, signs and judges tree heads: C2SP signed
// notes whose text is a checkpoint, cosignatures on them, and the policy that
// says whose signatures are enough.
//
// Everything here is pure: bytes in, values or evidence out. Nothing reads a
// clock, a file or the network.
//
// Formats, with the revision they were written from:
//
//   - https://c2sp.org/signed-note@v1.0.0
//   - https://c2sp.org/tlog-checkpoint@v1.0.0
//   - https://c2sp.org/tlog-cosignature@v1.1.0-rc.1
//   - https://c2sp.org/tlog-policy (untagged, 2026-06-22)
//
// Parsers are strict: a note or key that parses has exactly one spelling, so
// formatting the value gives back the same bytes. (A policy may be spaced and
// commented at will; it is kept as it was read.) Where this is stricter than
// the specification, the comment at the function says so.
package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
)

// Hash is a SHA-256 digest: a Merkle tree root, or the digest of a note.
type Hash [sha256.Size]byte

// ErrEmptyRoot says that a checkpoint of size 0 has a root other than SHA-256
// of nothing. See [Checkpoint.CheckRoot] for where this is enforced.
var ErrEmptyRoot = errors.New("size is 0 but the root is not the empty tree's")

// Checkpoint is a tree head: what a log says about itself.
type Checkpoint struct {
	// Origin names the log; one line, not empty. A log key is used only on
	// checkpoints whose origin is the key's name.
	Origin string
	// Size is the number of leaves.
	Size uint64
	// Root is the RFC 6962 Merkle tree hash over the leaves.
	Root Hash
}

// Body returns the note text of the checkpoint: three lines, no extension
// lines, final newline included.
//
// It does not judge the origin: a text made from an origin with a newline in it
// reads back as something else, which [SignLog] refuses.
func (c Checkpoint) Body() []byte {
	b := make([]byte, 0, len(c.Origin)+1+20+1+base64.StdEncoding.EncodedLen(len(c.Root))+1)
	b = append(b, c.Origin...)
	b = append(b, '\n')
	b = strconv.AppendUint(b, c.Size, 10)
	b = append(b, '\n')
	b = base64.StdEncoding.AppendEncode(b, c.Root[:])
	return append(b, '\n')
}

// CheckRoot returns [ErrEmptyRoot] if the size is 0 and the root is not
// SHA-256 of nothing (RFC 6962, section 2.1), else nil.
//
// It is not a rule of syntax, so [Parse] leaves it alone: a witness has to tell
// such a checkpoint (422) from one that cannot be read (400). It is enforced
// where a checkpoint is vouched for or relied on: [SigningKey.SignCheckpoint]
// does not sign such a checkpoint and [Policy.Check] does not accept it.
func (c Checkpoint) CheckRoot() error {
	if c.Size == 0 && c.Root != sha256.Sum256(nil) {
		return ErrEmptyRoot
	}
	return nil
}

// parseText reads a checkpoint from a note text, with any extension lines.
//
// SPEC (tlog-checkpoint): The note text is a sequence of at least three
// non-empty lines, separated by newlines (U+000A).
func parseText(text []byte) (Checkpoint, []string, error) {
	fail := func(line int, reason string) (Checkpoint, []string, error) {
		return Checkpoint{}, nil, &FormatError{Object: "checkpoint", Line: line, Reason: reason}
	}
	if err := checkCharacters(text); err != nil {
		return Checkpoint{}, nil, err
	}
	// SPEC (signed-note): a text ending in newline (U+000A)
	if !bytes.HasSuffix(text, []byte("\n")) {
		return fail(0, "text does not end in a newline")
	}
	lines := bytes.Split(text[:len(text)-1], []byte("\n"))
	for i, l := range lines {
		if len(l) == 0 {
			return fail(i+1, "empty line")
		}
	}
	if len(lines) < 3 {
		return fail(0, "fewer than three lines")
	}
	size, ok := parseDecimal(string(lines[1]))
	if !ok {
		return fail(2, "tree size is not a decimal number below 2^64 without leading zeros")
	}
	root, ok := decodeBase64(string(lines[2]))
	if !ok {
		return fail(3, "root hash is not canonical base64")
	}
	c := Checkpoint{Origin: string(lines[0]), Size: size}
	if copy(c.Root[:], root) != len(root) || len(root) != len(c.Root) {
		return fail(3, "root hash is not 32 bytes")
	}
	var extensions []string
	for _, l := range lines[3:] {
		extensions = append(extensions, string(l))
	}
	return c, extensions, nil
}

// parseDecimal reads a number that has no second spelling: digits only, no
// leading zero.
//
// SPEC (tlog-checkpoint): the ASCII decimal representation of the number of
// leaves in the tree, with no leading zeroes (unless the tree is empty, in
// which case the tree size is `0`)
func parseDecimal(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	// Formatting again catches leading zeros; a sign is no digit to ParseUint.
	return n, err == nil && strconv.FormatUint(n, 10) == s
}

// decodeBase64 reads standard base64 (RFC 4648, section 4) in its one canonical
// form: padded, unused bits zero, no line breaks.
func decodeBase64(s string) ([]byte, bool) {
	b, err := base64.StdEncoding.DecodeString(s)
	// Encoding again catches unused bits that are set and line breaks that
	// DecodeString skips; base64.Encoding.Strict would miss the latter.
	return b, err == nil && base64.StdEncoding.EncodeToString(b) == s
}
