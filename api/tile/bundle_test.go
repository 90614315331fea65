package tile_test

import (
	"bytes"
	"testing"

	"github.com/trialog/trialog/api/tile"
)

func format(t testing.TB, entries [][]byte) []byte {
	t.Helper()
	var data []byte
	for _, e := range entries {
		var err error
		if data, err = tile.AppendEntry(data, e); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// entriesFrom returns n entries, some of them empty, that differ from index to index.
func entriesFrom(first uint64, n int) [][]byte {
	entries := make([][]byte, n)
	for i := range entries {
		entries[i] = bytes.Repeat([]byte{byte(first) + byte(i)}, i%7)
	}
	return entries
}

func TestBundle(t *testing.T) {
	t.Parallel()
	longest := bytes.Repeat([]byte{7}, tile.MaxEntry)
	for name, entries := range map[string][][]byte{
		"one":     {[]byte("a")},
		"empty":   {{}, {}, {}},
		"longest": {longest, {1}, longest},
		"full":    entriesFrom(0, 256),
	} {
		data := format(t, entries)
		got, err := tile.ParseBundle(data)
		if err != nil || len(got) != len(entries) || !bytes.Equal(format(t, got), data) {
			t.Errorf("%s: %d entries, %v; want %d", name, len(got), err, len(entries))
		}
	}
	if got, err := tile.AppendEntry(nil, append(longest, 0)); err == nil {
		t.Errorf("an entry of %d bytes: %d bytes, no error", tile.MaxEntry+1, len(got))
	}
}

func TestBundleRefused(t *testing.T) {
	t.Parallel()
	full := format(t, entriesFrom(0, 256))
	for name, data := range map[string][]byte{
		"nothing":             {},
		"half a length":       {0},
		"length, no entry":    {0, 1},
		"entry cut short":     {0, 2, 'a'},
		"second half length":  {0, 1, 'a', 0},
		"second cut short":    {0, 1, 'a', 0, 3, 'b', 'c'},
		"longest, missing":    {0xff, 0xff},
		"a 257th entry":       append(bytes.Clone(full), 0, 0),
		"a byte after 256":    append(bytes.Clone(full), 0),
		"full, last byte off": append(bytes.Clone(full[:len(full)-1]), 0, 0, 0)[:len(full)-1],
	} {
		if got, err := tile.ParseBundle(data); err == nil {
			t.Errorf("%s: %d entries, no error", name, len(got))
		}
	}
}

// FuzzBundle: what is taken is written the same way.
func FuzzBundle(f *testing.F) {
	f.Add(format(f, entriesFrom(0, 3)))
	f.Add(format(f, entriesFrom(0, 256)))
	f.Add([]byte{0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := tile.ParseBundle(data)
		if err != nil {
			return
		}
		if len(entries) < 1 || len(entries) > tile.FullWidth || !bytes.Equal(format(t, entries), data) {
			t.Errorf("%d entries, written as other bytes", len(entries))
		}
	})
}
