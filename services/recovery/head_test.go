package recovery

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// TestParseHead: it is what package tile writes.
func TestParseHead(t *testing.T) {
	store := blob.NewMemory()
	w, err := tile.OpenWriter(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Append(t.Context(), [][]byte{{1}, {2}, {3}}); err != nil {
		t.Fatal(err)
	}
	raw, err := store.Get(t.Context(), headKey)
	if err != nil {
		t.Fatal(err)
	}
	if size, root, ok := parseHead(raw); !ok || size != 3 || root != w.Root() {
		t.Errorf("%q: %d, %x, %v", raw, size, root, ok)
	}
	good := string(raw)
	for _, bad := range []string{
		"", headHeader, good + "x", good + "\n", good[:len(good)-1], strings.Replace(good, "\n3\n", "\n03\n", 1),
		strings.Replace(good, "\n3\n", "\n-3\n", 1), strings.Replace(good, "/v1", "/v2", 1), strings.Replace(good, "=\n", "\n", 1),
		strings.ReplaceAll(good, "\n", "\r\n"),
	} {
		if _, _, ok := parseHead([]byte(bad)); ok {
			t.Errorf("%q was understood", bad)
		}
	}
}

// FuzzParseHead: what parses formats back to the same bytes.
func FuzzParseHead(f *testing.F) {
	f.Add([]byte(headHeader + "\n3\n" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"))
	f.Add([]byte(headHeader + "\n\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		size, root, ok := parseHead(raw)
		if again := fmt.Sprintf("%s\n%d\n%s\n", headHeader, size, base64.StdEncoding.EncodeToString(root[:])); ok && again != string(raw) {
			t.Errorf("%q formats as %q", raw, again)
		}
	})
}
