package signing_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/signing"
)

// TestMakeNoteKey: what is made can be opened, by its owner only, and is never
// written over.
func TestMakeNoteKey(t *testing.T) {
	for _, alg := range []checkpoint.Algorithm{checkpoint.AlgEd25519Cosignature, checkpoint.AlgMLDSA44} {
		path := filepath.Join(t.TempDir(), "new", "a.key")
		made, err := signing.MakeNoteKey(path, "witness.test", alg)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", alg, info, err)
		}
		if _, err := signing.MakeNoteKey(path, "witness.test", alg); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: once more: %v", alg, err)
		}
		key, closer, err := signing.OpenCosignerKey(t.Context(), path, "witness.test")
		if err != nil || key.Verifier().String() != made.String() {
			t.Fatalf("%s: %v", alg, err)
		}
		if err := closer.Close(); err != nil {
			t.Error(err)
		}
	}
}
