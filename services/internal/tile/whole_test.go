package tile_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// TestWhole: seen as a whole, a store in segments holds what one whose objects
// grow does.
func TestWhole(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 15, 16, 17, 32, 255, 256, 257, 600} {
		grown, pieces := blob.NewMemory(), blob.NewMemory()
		for _, w := range []*tile.Writer{open(t, grown), open(t, hidden{pieces})} {
			if _, err := w.Append(t.Context(), entriesFrom(0, size)); err != nil {
				t.Fatal(err)
			}
		}
		for _, key := range keysOf(t, grown) {
			want, err := grown.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			for name, s := range map[string]blob.Store{"segments": hidden{pieces}, "segments in a folder": pieces, "one object": grown} {
				if got, err := (tile.Whole{Store: s}).Get(t.Context(), key); err != nil || !bytes.Equal(got, want) {
					t.Errorf("size %d, %s: %s: %d bytes, %v; want %d", size, name, key, len(got), err, len(want))
				}
			}
		}
		for _, key := range []string{fmt.Sprintf("tail/entries-%d", size/256+1), "tail/entries-00", "tail/entries-", "none"} {
			if got, err := (tile.Whole{Store: hidden{pieces}}).Get(t.Context(), key); !errors.Is(err, blob.ErrNotFound) {
				t.Errorf("size %d: %s: %d bytes, %v", size, key, len(got), err)
			}
		}
	}
	// What a crash left behind a full segment is no entry of the next one.
	pieces := blob.NewMemory()
	if _, err := open(t, hidden{pieces}).Append(t.Context(), entriesFrom(0, 40)); err != nil {
		t.Fatal(err)
	}
	s := tile.Whole{Store: hidden{pieces}}
	want, err := s.Get(t.Context(), "tail/entries-0")
	if err != nil {
		t.Fatal(err)
	}
	first, err := pieces.Get(t.Context(), "tail/entries-0-0")
	if err != nil {
		t.Fatal(err)
	}
	if err := pieces.Put(t.Context(), blob.Object{Key: "tail/entries-0-0", Data: append(first, 0, 1, 'x')}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), "tail/entries-0"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(want))
	}
}
