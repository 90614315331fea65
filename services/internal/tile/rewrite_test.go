package tile_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/blob/blobtest"
	"github.com/trialog/trialog/services/internal/tile"
)

// TestRewrite: whatever a writer that was replaced puts over the newest objects,
// or removes, they are afterwards those of a store that nobody has touched.
func TestRewrite(t *testing.T) {
	t.Parallel()
	for _, grows := range []bool{true, false} {
		for _, sizes := range [][2]int{{3, 3}, {250, 3}, {250, 20}, {512, 1}, {65536 - 1, 40}} {
			store, old, clean := blob.NewMemory(), blob.NewMemory(), blob.NewMemory()
			w := open(t, view(store, grows))
			for i, first := range []uint64{0, uint64(sizes[0])} {
				copyAll(t, old, store) // the second time it is the state between the two
				if _, err := w.Append(t.Context(), entriesFrom(first, sizes[i])); err != nil {
					t.Fatal(err)
				}
			}
			copyAll(t, clean, store)
			for _, key := range keysOf(t, store) {
				if strings.HasPrefix(key, tile.TailPrefix) && key != tile.HeadKey {
					if err := store.Delete(t.Context(), key); err != nil {
						t.Fatal(err)
					}
				}
			}
			copyAll(t, store, old)
			if err := w.Rewrite(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, key := range keysOf(t, clean) {
				want, wantErr := clean.Get(t.Context(), key)
				got, err := store.Get(t.Context(), key)
				if errors.Join(err, wantErr) != nil || !slices.Equal(got, want) {
					t.Errorf("%v, grows=%v: %s has %d bytes, want %d: %v", sizes, grows, key, len(got), len(want), errors.Join(err, wantErr))
				}
			}
			if _, err := tile.NewReader(store).Tree(t.Context(), w.Size(), w.Root()); err != nil {
				t.Error(err)
			}
			size := w.Size()
			if _, err := w.Append(t.Context(), entriesFrom(size, 9)); err != nil {
				t.Errorf("%v, grows=%v: going on: %v", sizes, grows, err)
			}
			if again := open(t, view(store, grows)); again.Size() != size+9 || again.Root() != w.Root() {
				t.Errorf("%v, grows=%v: opened anew at size %d, want %d", sizes, grows, again.Size(), size+9)
			}
		}
	}
}

// TestRewriteFails: after a rewrite whose writes fail, or are only said to have
// failed, the next Append puts everything right.
func TestRewriteFails(t *testing.T) {
	t.Parallel()
	for _, fault := range []blobtest.Fault{blobtest.Lost, blobtest.Persisted} {
		for at := range 2 {
			store := blob.NewMemory()
			faulty := blobtest.NewFaulty(store, 0, fault, false)
			w := open(t, faulty)
			if _, err := w.Append(t.Context(), entriesFrom(0, 300)); err != nil {
				t.Fatal(err)
			}
			faulty.Rearm(at+1, fault, false)
			if err := w.Rewrite(t.Context()); !errors.Is(err, blobtest.ErrInjected) {
				t.Fatalf("%v, want a fault", err)
			}
			if _, err := w.Append(t.Context(), entriesFrom(300, 5)); err != nil {
				t.Fatal(err)
			}
			if again := open(t, store); again.Size() != 305 || again.Root() != w.Root() {
				t.Errorf("write %d, %v: opened anew at size %d", at+1, fault, again.Size())
			}
		}
	}
}
