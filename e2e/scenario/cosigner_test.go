package scenario

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"

	"github.com/trialog/trialog/api/checkpoint"
)

// cosigner is a note.Verifier for C2SP cosignature/v1 with Ed25519, apart from
// the one under test.
type cosigner struct{ key *checkpoint.VerifierKey }

// Name is the cosigner's name.
func (c cosigner) Name() string { return c.key.Name() }

// KeyHash is the key id.
func (c cosigner) KeyHash() uint32 { return c.key.ID() }

// Verify checks a timestamped signature: eight bytes of time, then Ed25519 over
// the version, the time and the note's text (c2sp.org/tlog-cosignature).
func (c cosigner) Verify(msg, sig []byte) bool {
	const timeSize = 8
	if c.key.Algorithm() != checkpoint.AlgEd25519Cosignature || len(sig) != timeSize+ed25519.SignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	signed := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, msg)
	return ed25519.Verify(c.key.PublicKey(), signed, sig[timeSize:])
}
