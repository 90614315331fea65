package tile_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

func TestParseHead(t *testing.T) {
	store := blob.NewMemory()
	w, err := tile.OpenWriter(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Append(t.Context(), [][]byte{{1}, {2}, {3}}); err != nil {
		t.Fatal(err)
	}
	raw, err := store.Get(t.Context(), tile.HeadKey)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := tile.ParseHead(raw); err != nil || h.Size != 3 || h.Root != w.Root() {
		t.Errorf("%q: %+v, %v", raw, h, err)
	}
	good := string(raw)
	magic, _, _ := strings.Cut(good, "\n")
	for _, bad := range []string{
		"", magic, good + "x", good + "\n", good[:len(good)-1], strings.Replace(good, "\n3\n", "\n03\n", 1),
		strings.Replace(good, "\n3\n", "\n-3\n", 1), strings.Replace(good, "/v1", "/v2", 1), strings.Replace(good, "=\n", "\n", 1),
		strings.ReplaceAll(good, "\n", "\r\n"),
	} {
		if h, err := tile.ParseHead([]byte(bad)); err == nil {
			t.Errorf("%q was understood as %+v", bad, h)
		}
	}
}

// FuzzParseHead: what parses formats back to the same bytes.
func FuzzParseHead(f *testing.F) {
	f.Add(tile.Head{Size: 3}.Encode())
	f.Add([]byte("trialog-tiles/v1\n\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if h, err := tile.ParseHead(raw); err == nil && !bytes.Equal(h.Encode(), raw) {
			t.Errorf("%q formats as %q", raw, h.Encode())
		}
	})
}

// FuzzParseTail: a key that is understood has one spelling.
func FuzzParseTail(f *testing.F) {
	for _, name := range []string{"entries-0", "0-0", "7-72057594037927935", "entries-1-0", "8-0", "00-0", "0-00", "head", ""} {
		f.Add(tile.TailPrefix + name)
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, key string) {
		p, ok := tile.ParseTail(key)
		if ok && tile.TailKey(p) != key {
			t.Errorf("%q is understood as %+v, %q", key, p, tile.TailKey(p))
		}
		if ok && p.Width != 0 {
			t.Errorf("%q: width %d", key, p.Width)
		}
	})
}
