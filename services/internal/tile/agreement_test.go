package tile_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// TestSmallTreesAgree grows a log one entry at a time and compares every root,
// every inclusion proof and every consistency proof with the reference.
func TestSmallTreesAgree(t *testing.T) {
	t.Parallel()
	const limit = 600
	ref := newReference(t, limit)
	store := blob.NewMemory()
	w := open(t, store)
	for size := uint64(1); size <= limit; size++ {
		root, err := w.Append(t.Context(), entriesFrom(size-1, 1))
		if err != nil {
			t.Fatalf("append entry %d: %v", size-1, err)
		}
		if want := ref.root(t, size); root != want || w.Root() != want || w.Size() != size {
			t.Fatalf("size %d: root %x, Root %x, Size %d; want %x", size, root, w.Root(), w.Size(), want)
		}
		// A new reader sees the tails as they are now.
		r := tile.NewReader(store)
		tree, err := r.Tree(t.Context(), size, ref.root(t, size))
		if err != nil {
			t.Fatalf("tree of size %d: %v", size, err)
		}
		// All pairs for the sizes at which something changes its shape; a few
		// for the others, as the cost grows with the cube.
		all := size <= 40 || size%256 <= 1 || size == limit
		for i := range size {
			if all || i%61 == size%61 || i == size-1 {
				checkInclusion(t, tree, ref, i, size)
				checkConsistency(t, tree, ref, i+1, size)
			}
		}
	}
	// Earlier trees, proven from the latest tiles.
	r := tile.NewReader(store)
	tree, err := r.Tree(t.Context(), limit, ref.root(t, limit))
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(1); n < limit; n += 7 {
		for m := uint64(1); m <= n; m += 5 {
			checkInclusion(t, tree, ref, m-1, n)
			checkConsistency(t, tree, ref, m, n)
		}
	}
}

// TestLargeTreesAgree does the same, by sample, where a third level of tiles
// begins, and beyond.
func TestLargeTreesAgree(t *testing.T) {
	t.Parallel()
	const limit = 70_000
	ref := newReference(t, limit)
	for _, size := range []uint64{65_279, 65_280, 65_535, 65_536, 65_537, 65_792, limit} {
		store := blob.NewMemory()
		if got, want := build(t, store, size).Root(), ref.root(t, size); got != want {
			t.Fatalf("size %d: root %x, want %x", size, got, want)
		}
		r := tile.NewReader(store, tile.WithCache(3)) // evicts all the time
		tree, err := r.Tree(t.Context(), size, ref.root(t, size))
		if err != nil {
			t.Fatalf("tree of size %d: %v", size, err)
		}
		rng := rand.New(rand.NewPCG(size, 3))
		for range 300 {
			n := 1 + rng.Uint64N(size)
			checkInclusion(t, tree, ref, rng.Uint64N(n), n)
			checkInclusion(t, tree, ref, rng.Uint64N(size), size)
			checkConsistency(t, tree, ref, 1+rng.Uint64N(n), n)
		}
		for _, i := range []uint64{0, 255, 256, 65_279, size - 1} {
			checkEntry(t, tree, min(i, size-1))
		}
		checkEntries(t, tree, size-300, 300)
	}
}

func checkInclusion(t *testing.T, tree *tile.Tree, ref *reference, index, size uint64) {
	t.Helper()
	got, err := tree.Inclusion(t.Context(), index, size)
	if err != nil {
		t.Fatalf("inclusion of %d at %d: %v", index, size, err)
	}
	if want := ref.inclusion(t, index, size); !slices.Equal(got, want) {
		t.Fatalf("inclusion of %d at %d: %d hashes differ from the reference's %d", index, size, len(got), len(want))
	}
	proof := make(tlog.RecordProof, len(got))
	for i, h := range got {
		proof[i] = h
	}
	leaf := tlog.RecordHash(entryAt(index))
	if err := tlog.CheckRecord(proof, int64(size), ref.root(t, size), int64(index), leaf); err != nil {
		t.Fatalf("inclusion of %d at %d: %v", index, size, err)
	}
}

func checkConsistency(t *testing.T, tree *tile.Tree, ref *reference, m, n uint64) {
	t.Helper()
	got, err := tree.Consistency(t.Context(), m, n)
	if err != nil {
		t.Fatalf("consistency of %d and %d: %v", m, n, err)
	}
	if want := ref.consistency(t, m, n); !slices.Equal(got, want) {
		t.Fatalf("consistency of %d and %d: %d hashes differ from the reference's %d", m, n, len(got), len(want))
	}
	at, err := tree.RootAt(t.Context(), m)
	if err != nil || at != ref.root(t, m) {
		t.Fatalf("root at %d: %x, %v", m, at, err)
	}
}

func checkEntry(t *testing.T, tree *tile.Tree, index uint64) {
	t.Helper()
	got, err := tree.Entry(t.Context(), index)
	if err != nil || !bytes.Equal(got, entryAt(index)) {
		t.Fatalf("entry %d: %x, %v", index, got, err)
	}
}

func checkEntries(t *testing.T, tree *tile.Tree, first uint64, n int) {
	t.Helper()
	got, err := tree.Entries(t.Context(), first, n)
	if err != nil || !slices.EqualFunc(got, entriesFrom(first, n), bytes.Equal) {
		t.Fatalf("%d entries from %d: got %d, %v", n, first, len(got), err)
	}
}

// TestReaderBySize asks the methods that take a size, while the log grows.
func TestReaderBySize(t *testing.T) {
	t.Parallel()
	ctx, ref, store := t.Context(), newReference(t, 700), blob.NewMemory()
	w := open(t, store)
	r := tile.NewReader(store)
	for _, size := range []uint64{1, 200, 256, 300, 511, 512, 700} {
		if _, err := w.Append(ctx, entriesFrom(w.Size(), int(size-w.Size()))); err != nil {
			t.Fatal(err)
		}
		if root, err := r.Root(ctx, size); err != nil || root != ref.root(t, size) {
			t.Fatalf("root at %d: %x, %v", size, root, err)
		}
		if p, err := r.Inclusion(ctx, size/2, size); err != nil || !slices.Equal(p, ref.inclusion(t, size/2, size)) {
			t.Fatalf("inclusion at %d: %v", size, err)
		}
		if p, err := r.Consistency(ctx, 1, size); err != nil || !slices.Equal(p, ref.consistency(t, 1, size)) {
			t.Fatalf("consistency at %d: %v", size, err)
		}
		if e, err := r.Entry(ctx, size-1, size); err != nil || !bytes.Equal(e, entryAt(size-1)) {
			t.Fatalf("entry %d: %v", size-1, err)
		}
		if e, err := r.Entries(ctx, 0, int(size), size); err != nil || len(e) != int(size) {
			t.Fatalf("entries at %d: %d, %v", size, len(e), err)
		}
	}
}

// TestReaderAtOldSizes reads the trees of sizes that have been passed, for which
// the writer has removed the tails: partial tiles are prefixes of full ones.
func TestReaderAtOldSizes(t *testing.T) {
	t.Parallel()
	ref, store := newReference(t, 1100), blob.NewMemory()
	build(t, store, 1100)
	for size := uint64(1); size <= 1100; size++ {
		tree, err := tile.NewReader(store).Tree(t.Context(), size, ref.root(t, size))
		if err != nil {
			t.Fatalf("tree of size %d: %v", size, err)
		}
		checkEntry(t, tree, size-1)
	}
}

func TestOutsideOfTheTree(t *testing.T) {
	t.Parallel()
	ctx, store := t.Context(), blob.NewMemory()
	tree, err := tile.NewReader(store).Tree(ctx, build(t, store, 300).Size(), newReference(t, 300).root(t, 300))
	if err != nil {
		t.Fatal(err)
	}
	last := func(_ any, err error) error { return err }
	for name, err := range map[string]error{
		"index at the size":         last(tree.Inclusion(ctx, 300, 300)),
		"index at an earlier size":  last(tree.Inclusion(ctx, 100, 100)),
		"size beyond the tree":      last(tree.Inclusion(ctx, 0, 301)),
		"index at the maximum":      last(tree.Inclusion(ctx, 1<<64-1, 300)),
		"old size above the new":    last(tree.Consistency(ctx, 200, 199)),
		"new size beyond the tree":  last(tree.Consistency(ctx, 200, 301)),
		"root beyond the tree":      last(tree.RootAt(ctx, 301)),
		"leaf beyond the tree":      last(tree.LeafHash(ctx, 300)),
		"entry beyond the tree":     last(tree.Entry(ctx, 300)),
		"entries beyond the tree":   last(tree.Entries(ctx, 299, 2)),
		"entries that wrap around":  last(tree.Entries(ctx, 1<<64-1, 2)),
		"fewer than no entries":     last(tree.Entries(ctx, 0, -1)),
		"tile beyond the tree":      last(tree.TileBytes(ctx, tile.Path{Index: 1, Width: 45})),
		"full tile of a partial":    last(tree.TileBytes(ctx, tile.Path{Index: 1, Width: 256})),
		"tile level above the tree": last(tree.TileBytes(ctx, tile.Path{Level: 2, Width: 1})),
		"tile level 63":             last(tree.TileBytes(ctx, tile.Path{Level: 63, Width: 1})),
		"bundle asked as a tile":    last(tree.TileBytes(ctx, tile.Path{Entries: true, Width: 1})),
		"tile asked as a bundle":    last(tree.BundleBytes(ctx, tile.Path{Width: 1})),
		"bundle beyond the tree":    last(tree.BundleBytes(ctx, tile.Path{Entries: true, Index: 1, Width: 45})),
	} {
		if !errors.Is(err, tile.ErrRange) {
			t.Errorf("%s: %v, want ErrRange", name, err)
		}
	}
}

func TestEmptyLog(t *testing.T) {
	t.Parallel()
	store := blob.NewMemory()
	w := open(t, store)
	if w.Size() != 0 || w.Root() != tile.EmptyRoot() {
		t.Errorf("empty log: size %d, root %x", w.Size(), w.Root())
	}
	if root, err := w.Append(t.Context(), nil); err != nil || root != tile.EmptyRoot() {
		t.Errorf("append nothing: %x, %v", root, err)
	}
	tree, err := tile.NewReader(store).Tree(t.Context(), 0, tile.EmptyRoot())
	if err != nil {
		t.Fatal(err)
	}
	if p, err := tree.Consistency(t.Context(), 0, 0); err != nil || len(p) != 0 {
		t.Errorf("consistency of empty trees: %v, %v", p, err)
	}
}
