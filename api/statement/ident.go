package statement

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"slices"
)

// Digest is a SHA-256 value. Its text form is lower-case hexadecimal.
type Digest [sha256.Size]byte

// String returns 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero tells whether d is unset.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; see ParseDigest.
func (d *Digest) UnmarshalText(text []byte) error {
	got, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = got
	return nil
}

// ParseDigest reads 64 lower-case hexadecimal digits, and nothing else.
func ParseDigest(s string) (Digest, error) {
	if d, ok := parseHex(s); ok {
		return d, nil
	}
	return Digest{}, fieldErrorf("", "expected %d lower-case hexadecimal digits", 2*len(Digest{}))
}

// parseHex reads lower-case hexadecimal digits; package hex takes both cases,
// which would give a digest several spellings.
func parseHex(s string) (d Digest, ok bool) {
	if len(s) != 2*len(d) {
		return Digest{}, false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		default:
			return Digest{}, false
		}
		d[i/2] = d[i/2]<<4 | c
	}
	return d, true
}

// Identity names a statement independently of how its envelope is written and
// of the signatures' values: SHA-256 over the parts "trialog/identity/v1", the
// DSSE pre-authentication encoding, and the sorted ids of the signers' keys. It
// is what makes a repeated submission the same submission.
type Identity = Digest

// Identify computes the identity of the payload bytes with these signers.
func Identify(payload []byte, signers []KeyID) Identity {
	sorted := append(make([]KeyID, 0, MaxSigners), signers...)
	slices.SortFunc(sorted, func(a, b KeyID) int { return bytes.Compare(a[:], b[:]) })
	h := sha256.New()
	writePart(h, []byte("trialog/identity/v1"))
	writePart(h, appendPAE(make([]byte, 0, 64), PayloadType, len(payload)), payload)
	for i := range sorted {
		writePart(h, sorted[i][:])
	}
	var d Digest
	h.Sum(d[:0])
	return d
}

// hashParts is the one way in which Trialog hashes several values together:
// SHA-256 over each part preceded by its length as a 32-bit big-endian integer.
// No two lists of parts have the same encoding.
func hashParts(parts ...[]byte) Digest {
	h := sha256.New()
	for _, p := range parts {
		writePart(h, p)
	}
	var d Digest
	h.Sum(d[:0])
	return d
}

// writePart writes one part, which may be given in pieces.
func writePart(h hash.Hash, pieces ...[]byte) {
	var length [4]byte
	total := 0
	for _, p := range pieces {
		total += len(p)
	}
	binary.BigEndian.PutUint32(length[:], uint32(total)) // parts are far below 4 GiB
	h.Write(length[:])
	for _, p := range pieces {
		h.Write(p)
	}
}

// textParts is hashParts for text.
func textParts(parts ...string) Digest {
	raw := make([][]byte, len(parts))
	for i, p := range parts {
		raw[i] = []byte(p)
	}
	return hashParts(raw...)
}

// TrialDigest is the subject of the first statement of a trial, which has no
// document and no earlier statement to point to: SHA-256 over the parts
// "trialog/trial/v1", log, organisation, trial.
func TrialDigest(log, organisation, trial string) Digest {
	return textParts("trialog/trial/v1", log, organisation, trial)
}

// RequestDigest names a principal's request to a gateway: SHA-256 over the parts
// "trialog/request/v1", principal, request id.
func RequestDigest(principal, requestID string) Digest {
	return textParts("trialog/request/v1", principal, requestID)
}

// LogDigest is the subject of statements about the log itself: SHA-256 over the
// parts "trialog/log/v1", log.
func LogDigest(log string) Digest {
	return textParts("trialog/log/v1", log)
}
