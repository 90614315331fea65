package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"unicode/utf8"
)

// MaxSignatures is the greatest number of signature lines in a note. The
// specification wants at least 16 accepted.
const MaxSignatures = 100

// Note is a checkpoint and the signatures on it, as read. It cannot be changed
// and may be used concurrently. Having parsed says nothing about who signed:
// use [Policy.Check] or [VerifierKey.VerifyCheckpoint].
type Note struct {
	raw        []byte
	text       []byte // prefix of raw
	checkpoint Checkpoint
	extensions []string
	signatures []Signature
}

// Parse reads a signed note whose text is a checkpoint (c2sp.org/signed-note,
// c2sp.org/tlog-checkpoint). The error is a [*FormatError].
//
// Refused: bytes that are not UTF-8; control characters, so also CRLF line
// ends; anything before, between or after the lines of the format; more than
// [MaxSignatures] lines; base64 in another than the canonical form, even in
// lines of unknown keys (stricter than the specification, which does not say).
// Several lines by one key are accepted here, as the specification has no rule
// against them: [Policy.Check] verifies every one.
func Parse(raw []byte) (*Note, error) {
	raw = bytes.Clone(raw)
	text, signatures, err := splitNote(raw)
	if err != nil {
		return nil, err
	}
	c, extensions, err := parseText(text)
	if err != nil {
		return nil, err
	}
	return &Note{raw: raw, text: text, checkpoint: c, extensions: extensions, signatures: signatures}, nil
}

// splitNote separates the text of a signed note, whatever it says, from the
// signatures.
func splitNote(raw []byte) (text []byte, _ []Signature, _ error) {
	if err := checkCharacters(raw); err != nil {
		return nil, nil, err
	}
	// SPEC (signed-note): The note text MAY contain empty lines; the text is
	// separated from the signatures by the last empty line in the note. The
	// note text includes the final newline but not the separating blank line.
	i := bytes.LastIndex(raw, []byte("\n\n"))
	if i < 0 {
		return nil, nil, &FormatError{Object: "note", Reason: "no empty line before the signatures"}
	}
	text = raw[: i+1 : i+1]
	signatures, err := parseLines(raw[i+2:], 1+bytes.Count(raw[:i+2], []byte("\n")))
	if err != nil {
		return nil, nil, err
	}
	return text, signatures, nil
}

// NewNote puts signatures under a text and reads the result back as [Parse]
// does. It needs at least one signature; a line that is already there is not
// added again.
func NewNote(text []byte, signatures ...Signature) (*Note, error) {
	// Judged alone first: an empty line in the text would move the border
	// between text and signatures.
	if _, _, err := parseText(text); err != nil {
		return nil, err
	}
	return assemble(text, signatures)
}

// With returns a note with further signatures under the same text, behind those
// already there. A line that is already there is not added again; a different
// signature by the same key is, as cosignatures of different times are
// different statements.
func (n *Note) With(signatures ...Signature) (*Note, error) {
	return assemble(n.text, slices.Concat(n.signatures, signatures))
}

func assemble(text []byte, signatures []Signature) (*Note, error) {
	raw := append(bytes.Clone(text), '\n')
	seen := make(map[string]bool, len(signatures))
	for _, s := range signatures {
		line := s.String()
		// Alone first, so that no name can smuggle in a second line.
		if _, reason := parseLine(line); reason != "" {
			return nil, &FormatError{Object: "signature line", Reason: reason}
		}
		if !seen[line] {
			seen[line] = true
			raw = append(append(raw, line...), '\n')
		}
	}
	return Parse(raw)
}

// Checkpoint returns what the note says.
func (n *Note) Checkpoint() Checkpoint { return n.checkpoint }

// Text returns the signed text: everything before the empty line that precedes
// the signatures, with its final newline and any extension lines.
func (n *Note) Text() []byte { return bytes.Clone(n.text) }

// Extensions returns the lines of the text behind the third, without newlines.
// ML-DSA-44 signatures do not cover them.
func (n *Note) Extensions() []string { return slices.Clone(n.extensions) }

// Signatures returns the signatures in the order of their lines, verified or
// not.
func (n *Note) Signatures() []Signature {
	out := slices.Clone(n.signatures)
	for i := range out {
		out[i].Bytes = bytes.Clone(out[i].Bytes)
	}
	return out
}

// Bytes returns the note exactly as it was read.
func (n *Note) Bytes() []byte { return bytes.Clone(n.raw) }

// Digest returns SHA-256 over the whole note, signatures included.
func (n *Note) Digest() Hash { return sha256.Sum256(n.raw) }

// checkCharacters holds the character rules of a note.
//
// SPEC (signed-note): Signed notes MUST be valid UTF-8 and MUST NOT contain any
// ASCII control characters (those below U+0020) other than newline.
func checkCharacters(b []byte) error {
	if !utf8.Valid(b) {
		return &FormatError{Object: "note", Reason: "not valid UTF-8"}
	}
	for i, c := range b {
		if c < 0x20 && c != '\n' {
			return &FormatError{Object: "note", Line: 1 + bytes.Count(b[:i], []byte("\n")), Reason: "control character"}
		}
	}
	return nil
}
