package checkpoint

import (
	"fmt"
	"strings"
)

// FormatError says that bytes are not in the format they should be in, and
// where. It never carries the input, which may be a private key.
type FormatError struct {
	// Object is what was being read: "note", "checkpoint", "signature line",
	// "verifier key", "signing key" or "policy".
	Object string
	// Line is the number of the offending line from 1, or 0 if the fault is
	// not that of a line.
	Line int
	// Reason says what is wrong.
	Reason string
}

// Error says what was being parsed, where it failed and why.
func (e *FormatError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("parsing %s: line %d: %s", e.Object, e.Line, e.Reason)
	}
	return fmt.Sprintf("parsing %s: %s", e.Object, e.Reason)
}

// SignatureError says that a signature line which names a known key was not
// made by that key over this note.
type SignatureError struct {
	// Key is the known key that the line names.
	Key *VerifierKey
	// Signature is the line.
	Signature Signature
	// Note is the note whose checkpoint the signature should be on.
	Note *Note
	// Err is one of the Err… values of this package, perhaps wrapped.
	Err error
}

// Error names the key and the first bytes of the note's digest.
func (e *SignatureError) Error() string {
	digest := e.Note.Digest()
	return fmt.Sprintf("verifying signature of %s key %s on note %x: %v", e.Key.alg, e.Key.label(), digest[:8], e.Err)
}

// Unwrap returns why the signature was not accepted.
func (e *SignatureError) Unwrap() error { return e.Err }

// OriginError says that no log of the policy vouches for the note's origin:
// none of the keys that signed it is listed as a log with that name.
type OriginError struct {
	// Note is the note that was judged.
	Note *Note
	// Listed are the policy's log keys named like the origin, none of which
	// signed; empty if the policy does not know the log at all.
	Listed []*VerifierKey
}

// Error names the origin and the keys that should have signed.
func (e *OriginError) Error() string {
	origin := e.Note.checkpoint.Origin
	if len(e.Listed) == 0 {
		return fmt.Sprintf("checking note: policy lists no log %q", origin)
	}
	labels := make([]string, len(e.Listed))
	for i, k := range e.Listed {
		labels[i] = k.label()
	}
	return fmt.Sprintf("checking note: not signed by log %q: no signature by %s", origin, strings.Join(labels, " or "))
}

// QuorumError says that valid cosignatures are there, but not enough for the
// policy.
type QuorumError struct {
	// Note is the note that was judged.
	Note *Note
	// Signed are the valid cosignatures, with their times.
	Signed []Cosignature
	// Missing are the policy names of witnesses that did not sign and whose
	// signature would count towards the quorum.
	Missing []string
	// Quorum is what the policy wants, for a person to read, for example
	// "2 of (any of (a1, a2), any of (b1, b2), c)".
	Quorum string
}

// Error says what the policy wants and who signed when.
func (e *QuorumError) Error() string {
	signed := "nobody"
	if len(e.Signed) > 0 {
		names := make([]string, len(e.Signed))
		for i, c := range e.Signed {
			names[i] = fmt.Sprintf("%s at %d", c.Witness, c.Time)
		}
		signed = strings.Join(names, ", ")
	}
	return fmt.Sprintf("checking note: quorum not met: want %s, signed by %s", e.Quorum, signed)
}
