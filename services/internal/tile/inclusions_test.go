package tile_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// TestInclusionsAgree compares the proofs of ranges with the reference, for every
// range of small trees and for ranges over tile borders of larger ones.
func TestInclusionsAgree(t *testing.T) {
	t.Parallel()
	const limit = 66_000
	ref := newReference(t, limit)
	for _, size := range []uint64{1, 2, 3, 7, 8, 21, 255, 256, 257, 600, 65_536, limit} {
		store := blob.NewMemory()
		build(t, store, size)
		tree, err := tile.NewReader(store, tile.WithCache(2)).Tree(t.Context(), size, ref.root(t, size))
		if err != nil {
			t.Fatal(err)
		}
		if size <= 21 {
			for first := range size + 1 {
				for n := range int(size-first) + 1 {
					checkInclusions(t, tree, ref, first, n)
				}
			}
			continue
		}
		rng := rand.New(rand.NewPCG(size, 5))
		for range 20 {
			first := rng.Uint64N(size)
			checkInclusions(t, tree, ref, first, int(min(size-first, rng.Uint64N(400))))
		}
		checkInclusions(t, tree, ref, size-min(size, 300), int(min(size, 300)))
		checkInclusions(t, tree, ref, size, 0)
	}
}

func checkInclusions(t *testing.T, tree *tile.Tree, ref *reference, first uint64, n int) {
	t.Helper()
	paths, err := tree.Inclusions(t.Context(), first, n)
	if err != nil || len(paths) != n {
		t.Fatalf("%d from %d of %d: %d paths, %v", n, first, tree.Size(), len(paths), err)
	}
	for i, path := range paths {
		if want := ref.inclusion(t, first+uint64(i), tree.Size()); !slices.Equal(path, want) {
			t.Fatalf("%d from %d of %d: path %d differs from the reference's", n, first, tree.Size(), i)
		}
		if cap(path) != len(path) {
			t.Fatalf("appending to path %d would write into the next one", i)
		}
	}
}

func TestInclusionsRange(t *testing.T) {
	t.Parallel()
	store := blob.NewMemory()
	w := build(t, store, 300)
	tree, err := tile.NewReader(store).Tree(t.Context(), 300, w.Root())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		first uint64
		n     int
	}{{0, 301}, {300, 1}, {301, 0}, {299, 2}, {math.MaxUint64, 1}, {1, -1}, {0, math.MinInt}, {1, math.MaxInt}} {
		if _, err := tree.Inclusions(t.Context(), c.first, c.n); !errors.Is(err, tile.ErrRange) {
			t.Errorf("%d from %d: %v, want ErrRange", c.n, c.first, err)
		}
	}
}

// BenchmarkInclusions proves the leaves of a batch as the sequencer does.
func BenchmarkInclusions(b *testing.B) {
	store := blob.NewMemory()
	w := build(b, store, 70_000)
	tree, err := tile.NewReader(store).Tree(b.Context(), w.Size(), w.Root())
	if err != nil {
		b.Fatal(err)
	}
	const n = 2048
	var first uint64
	for b.Loop() {
		first = (first + 7919) % (w.Size() - n)
		if _, err := tree.Inclusions(b.Context(), first, n); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "paths/s")
}
