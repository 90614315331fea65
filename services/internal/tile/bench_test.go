package tile_test

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// BenchmarkAppend appends what the sequencer does: entries of 300 bytes, durable
// when Append returns.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name  string
		batch int
	}{{"batch=2048", 2048}, {"batch=2000", 2000}, {"batch=16", 16}, {"batch=1", 1}} {
		b.Run(c.name, func(b *testing.B) {
			dir, err := blob.OpenDir(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer dir.Close()
			w := open(b, dir)
			entries := make([][]byte, c.batch)
			var n uint64
			for i := range entries {
				entries[i] = make([]byte, 300)
				h := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
				for j := 0; j < len(entries[i]); j += copy(entries[i][j:], h[:]) {
				}
			}
			for b.Loop() {
				for _, e := range entries {
					n++
					binary.BigEndian.PutUint64(e, n)
				}
				if _, err := w.Append(b.Context(), entries); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*c.batch)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkInclusion proves random-looking leaves of a tree with three levels.
func BenchmarkInclusion(b *testing.B) {
	store := blob.NewMemory()
	w := build(b, store, 70_000)
	tree, err := tile.NewReader(store).Tree(b.Context(), w.Size(), w.Root())
	if err != nil {
		b.Fatal(err)
	}
	var i uint64
	for b.Loop() {
		i = (i + 7919) % w.Size()
		if _, err := tree.Inclusion(b.Context(), i, w.Size()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBundle verifies and returns a full bundle.
func BenchmarkBundle(b *testing.B) {
	store := blob.NewMemory()
	w := build(b, store, 1024)
	tree, err := tile.NewReader(store).Tree(b.Context(), w.Size(), w.Root())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := tree.BundleBytes(b.Context(), tile.Path{Entries: true, Index: 1, Width: tile.FullWidth}); err != nil {
			b.Fatal(err)
		}
	}
}
