package sequencer

import (
	"context"
	"fmt"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// TestBlockPaths holds every path of trees of many sizes against the public
// verifier, and what is spoilt against the check.
func TestBlockPaths(t *testing.T) {
	ctx := context.Background()
	store, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	w, err := tile.OpenWriter(ctx, store)
	if err != nil {
		t.Fatal(err)
	}
	var leaves [][32]byte
	for _, size := range []int{1, 2, 3, 7, 8, 255, 256, 257, 300, 511, 512, 513, 1100} {
		var values [][]byte
		for i := len(leaves); i < size; i++ {
			values = append(values, []byte(fmt.Sprint("entry ", i)))
			leaves = append(leaves, entry.LeafHash(values[len(values)-1]))
		}
		root, err := w.Append(ctx, values)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := tile.NewReader(store).Tree(ctx, uint64(size), root)
		if err != nil {
			t.Fatal(err)
		}
		p := &published{tree: tree}
		for i := range leaves {
			b, err := p.block(ctx, uint64(i))
			if err != nil {
				t.Fatal(err)
			}
			path, err := b.path(uint64(i), leaves[i])
			if err != nil {
				t.Fatalf("entry %d of %d: %v", i, size, err)
			}
			slices := make([][]byte, len(path))
			for j := range path {
				slices[j] = path[j][:]
			}
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(i), uint64(size), leaves[i][:], slices, root[:]); err != nil {
				t.Fatalf("entry %d of %d: %v", i, size, err)
			}
			other := leaves[i]
			other[0] ^= 1
			if _, err := b.path(uint64(i), other); err == nil {
				t.Fatalf("entry %d of %d: another leaf has a path", i, size)
			}
		}
		if _, err := p.block(ctx, uint64(size+blockSize)); err == nil {
			t.Errorf("size %d: entries that are not there have a block", size)
		}
		b, err := p.block(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.path(uint64(min(size, blockSize)), leaves[0]); err == nil {
			t.Errorf("size %d: an entry behind the block has a path in it", size)
		}
		spoilEachNode(t, b, leaves)
	}
}

// spoilEachNode flips a bit of every remembered hash: no path that holds it is
// handed out.
func spoilEachNode(t *testing.T, b *block, leaves [][32]byte) {
	t.Helper()
	width := len(b.levels[0])
	for height, level := range b.levels {
		for at := range level {
			level[at][7] ^= 4
			// A leaf whose sibling on this level is the spoilt node.
			i := min((at^1)<<height, width-1)
			used := width > 1 && at^1 < len(level) && i>>height == at^1
			if _, err := b.path(b.first+uint64(i), leaves[i]); used && err == nil {
				t.Fatalf("width %d: the path of %d has a spoilt node of height %d", width, i, height)
			}
			level[at][7] ^= 4
		}
	}
}
