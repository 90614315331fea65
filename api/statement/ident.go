package statement

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
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
	// The parts before and behind the payload, each in one piece: what goes into a
	// hash.Hash is allocated.
	const name = "trialog/identity/v1"
	b := make([]byte, 0, 4+len(name)+4+64+MaxSigners*(4+len(Digest{})))
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(name))), name...)
	length := len(b)
	b = appendPAE(append(b, 0, 0, 0, 0), PayloadType, len(payload))
	binary.BigEndian.PutUint32(b[length:], uint32(len(b)-length-4+len(payload))) //nolint:gosec // parts are far below 4 GiB
	h := sha256.New()
	h.Write(b)
	h.Write(payload)
	b = b[:0]
	for i := range sorted {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(sorted[i]))), sorted[i][:]...)
	}
	h.Write(b)
	return Digest(h.Sum(b[:0]))
}

// hashParts is the one way in which Trialog hashes several values together:
// SHA-256 over each part preceded by its length as a 32-bit big-endian integer.
// No two lists of parts have the same encoding.
func hashParts[T string | []byte](parts ...T) Digest {
	buf := make([]byte, 0, 256) // of many parts, on the stack
	for _, p := range parts {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(p))) //nolint:gosec // parts are far below 4 GiB
		buf = append(buf, p...)
	}
	return sha256.Sum256(buf)
}

// TrialDigest is the subject of the first statement of a trial, which has no
// document and no earlier statement to point to: SHA-256 over the parts
// "trialog/trial/v1", log, organisation, trial.
func TrialDigest(log, organisation, trial string) Digest {
	return hashParts("trialog/trial/v1", log, organisation, trial)
}

// RequestDigest names a principal's request to a gateway: SHA-256 over the parts
// "trialog/request/v1", principal, request id.
func RequestDigest(principal, requestID string) Digest {
	return hashParts("trialog/request/v1", principal, requestID)
}

// LogDigest is the subject of statements about the log itself: SHA-256 over the
// parts "trialog/log/v1", log.
func LogDigest(log string) Digest {
	return hashParts("trialog/log/v1", log)
}
