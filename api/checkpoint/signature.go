package checkpoint

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"unicode"
	"unicode/utf8"
)

// signaturePrefix starts each signature line: em dash (U+2014), space.
const signaturePrefix = "— "

// Signature is one signature line of a note.
type Signature struct {
	// Name and KeyID say, together, which key signed.
	Name string
	// KeyID is the first four bytes of the decoded line, big endian.
	KeyID uint32
	// Bytes is what follows the key id: for 0x01 the 64-byte signature; for
	// 0x04 and 0x06 a big-endian 64-bit time and then the signature.
	Bytes []byte
}

// String returns the signature line without its newline.
func (s Signature) String() string {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(s.Bytes)), s.KeyID)
	return signaturePrefix + s.Name + " " + base64.StdEncoding.EncodeToString(append(b, s.Bytes...))
}

// ParseSignatureLines reads one or more signature lines, each ended by a
// newline, and nothing else: what a witness answers to add-checkpoint
// (c2sp.org/tlog-witness). The error is a [*FormatError].
func ParseSignatureLines(raw []byte) ([]Signature, error) {
	if err := checkCharacters(raw); err != nil {
		return nil, err
	}
	return parseLines(raw, 1)
}

// parseLines reads signature lines; first is the number of the first line in
// the whole input, for errors.
func parseLines(raw []byte, first int) ([]Signature, error) {
	if len(raw) == 0 {
		return nil, &FormatError{Object: "note", Line: first, Reason: "no signature line"}
	}
	if !bytes.HasSuffix(raw, []byte("\n")) {
		return nil, &FormatError{Object: "note", Reason: "last line does not end in a newline"}
	}
	// SPEC (signed-note): Verifiers SHOULD apply a maximum limit to the number
	// of signatures in a note […], but MUST accept at least up to 16
	// signatures.
	if bytes.Count(raw, []byte("\n")) > MaxSignatures {
		return nil, &FormatError{Object: "note", Line: first + MaxSignatures, Reason: "more than 100 signature lines"}
	}
	var out []Signature
	for line := range strings.Lines(string(raw)) {
		s, reason := parseLine(strings.TrimSuffix(line, "\n"))
		if reason != "" {
			return nil, &FormatError{Object: "signature line", Line: first + len(out), Reason: reason}
		}
		out = append(out, s)
	}
	return out, nil
}

// parseLine reads one signature line without its newline; reason is empty if
// the line is good.
//
// SPEC (signed-note): em dash (U+2014), space (U+0020), key name, space,
// base64-encoded signature, newline. […] Signatures are the base64 encoding of
// 4+n bytes.
func parseLine(line string) (_ Signature, reason string) {
	rest, ok := strings.CutPrefix(line, signaturePrefix)
	if !ok {
		return Signature{}, "does not start with an em dash and a space"
	}
	name, encoded, ok := strings.Cut(rest, " ")
	if !ok {
		return Signature{}, "no space behind the key name"
	}
	if !validName(name) {
		return Signature{}, badName
	}
	b, ok := decodeBase64(encoded)
	if !ok {
		return Signature{}, "signature is not canonical base64"
	}
	if len(b) <= 4 {
		return Signature{}, "signature has no bytes behind the key id"
	}
	return Signature{Name: name, KeyID: binary.BigEndian.Uint32(b), Bytes: b[4:]}, ""
}

const badName = "key name is empty, not UTF-8, or has a space, a control character or a plus in it"

// validName reports whether s can name a key.
//
// SPEC (signed-note): Key names MUST be non-empty and MUST NOT contain any
// Unicode spaces or plus (U+002B) characters.
//
// ASCII control characters are refused with them, as no note can carry such a
// name.
func validName(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r == '+' || r < 0x20 || unicode.IsSpace(r)
	})
}
