package blob_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/blob/blobtest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	blobtest.Run(t, func(*testing.T) blob.Store { return blob.NewMemory() })
}

func TestCheckKey(t *testing.T) {
	t.Parallel()
	for _, key := range []string{
		"a", "0", "checkpoint", "tile/0/x001/x234/067", "tile/entries/000.p/17", "a_b-c.d", "A/b", "beacon/00ff",
		strings.Repeat("a", 200), strings.Repeat("a/", 511) + "aa",
	} {
		if err := blob.CheckKey(key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	for _, key := range blobtest.BadKeys() {
		if err := blob.CheckKey(key); !errors.Is(err, blob.ErrKey) {
			t.Errorf("%q: %v, want ErrKey", key, err)
		}
	}
}
