package witness

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
)

// signedByHand signs whatever it is given with the trusted log key of the tests,
// as a log that lies would.
func signedByHand(t *testing.T, c checkpoint.Checkpoint) []byte {
	t.Helper()
	text := c.Body()
	key := logKey(t).Verifier()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	if !bytes.Equal(private.Public().(ed25519.PublicKey), key.PublicKey()) {
		t.Fatal("the seed is not that of the log key")
	}
	sig := checkpoint.Signature{Name: key.Name(), KeyID: key.ID(), Bytes: ed25519.Sign(private, text)}
	return append(append(text, '\n'), sig.String()+"\n"...)
}
