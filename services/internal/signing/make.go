package signing

import (
	"crypto/rand"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/durable"
)

// MakeNoteKey makes a key that signs checkpoints in a new file for its owner only,
// and returns its public half. A file that is there stays (fs.ErrExist).
func MakeNoteKey(path, name string, alg checkpoint.Algorithm) (*checkpoint.VerifierKey, error) {
	k, err := checkpoint.GenerateKey(rand.Reader, name, alg)
	if err != nil {
		return nil, err
	}
	return k.Verifier(), durable.WriteNew(path, []byte(k.Encode()+"\n"), 0o600)
}
