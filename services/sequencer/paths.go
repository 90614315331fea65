package sequencer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/trialog/trialog/services/internal/tile"
)

const (
	// blockSize is how many neighbours share what their proofs have in common.
	// Every subtree of at least so many leaves begins at a multiple of it, so the
	// leaves of a block are one subtree of any RFC 6962 tree.
	blockSize = tile.FullWidth
	// maxBlocks bounds the remembered blocks of a checkpoint, 16 KiB each.
	maxBlocks = 128
)

// block proves up to 256 neighbouring entries in one published tree.
type block struct {
	first uint64
	// levels[0] are the leaf hashes, each further level pairs the one before; a
	// node without a sibling goes up as it is.
	levels [][][sha256.Size]byte
	outer  [][sha256.Size]byte // path of the block's root
}

// blocks are those of one published checkpoint that somebody has asked for.
type blocks struct {
	mu sync.Mutex
	by map[uint64]*block
}

// block returns the block that holds index, verified against the root.
func (p *published) block(ctx context.Context, index uint64) (*block, error) {
	number := index / blockSize
	p.blocks.mu.Lock()
	b := p.blocks.by[number]
	p.blocks.mu.Unlock()
	if b != nil {
		return b, nil
	}
	b, err := newBlock(ctx, p.tree, number)
	if err != nil {
		return nil, storeError(fmt.Sprintf("prove entries from %d on", number*blockSize), err)
	}
	p.blocks.mu.Lock()
	defer p.blocks.mu.Unlock()
	if p.blocks.by == nil || len(p.blocks.by) >= maxBlocks {
		p.blocks.by = map[uint64]*block{}
	}
	p.blocks.by[number] = b
	return b, nil
}

func newBlock(ctx context.Context, tree *tile.Tree, number uint64) (*block, error) {
	first := number * blockSize
	if first >= tree.Size() {
		return nil, fmt.Errorf("entry %d of %d: %w", first, tree.Size(), tile.ErrRange)
	}
	width := int(min(tree.Size()-first, blockSize))
	raw, err := tree.TileBytes(ctx, tile.Path{Index: number, Width: width})
	if err != nil {
		return nil, err
	}
	leaves := make([][sha256.Size]byte, width)
	for i := range leaves {
		leaves[i] = [sha256.Size]byte(raw[i*sha256.Size:])
	}
	b := &block{first: first, levels: pairUp(leaves)}
	// The proof of the first leaf is checked against the root, and the block's
	// root follows from its lower part.
	path, err := tree.Inclusion(ctx, first, tree.Size())
	if err != nil {
		return nil, err
	}
	inner := b.inner(0, nil)
	if len(path) < len(inner) || width > 1 && path[len(inner)-1] != inner[len(inner)-1] {
		return nil, fmt.Errorf("%w: entries from %d on have another root than their tile", tile.ErrCorrupt, first)
	}
	b.outer = path[len(inner):]
	return b, nil
}

// pairUp returns the levels of the RFC 6962 tree over leaves, which are the
// first of them.
func pairUp(leaves [][sha256.Size]byte) [][][sha256.Size]byte {
	levels := [][][sha256.Size]byte{leaves}
	for len(leaves) > 1 {
		above := make([][sha256.Size]byte, (len(leaves)+1)/2)
		for i := range above {
			if 2*i+1 == len(leaves) {
				above[i] = leaves[2*i]
				continue
			}
			above[i] = hashNode(&leaves[2*i], &leaves[2*i+1])
		}
		levels = append(levels, above)
		leaves = above
	}
	return levels
}

// hashNode is the hash of an inner node (RFC 6962, 2.1).
func hashNode(left, right *[sha256.Size]byte) [sha256.Size]byte {
	var node [1 + 2*sha256.Size]byte
	node[0] = 1
	copy(node[1:], left[:])
	copy(node[1+sha256.Size:], right[:])
	return sha256.Sum256(node[:])
}

// inner appends to path the path of the block's i-th leaf within the block.
func (b *block) inner(i int, path [][sha256.Size]byte) [][sha256.Size]byte {
	for _, level := range b.levels {
		if sibling := i ^ 1; sibling < len(level) {
			path = append(path, level[sibling])
		}
		i /= 2
	}
	return path
}

// path returns the inclusion path of an entry whose leaf hash the caller knows,
// after checking it the way that a verifier does (RFC 9162, 2.1.3.2), which is
// not how it was made: what a fault of ours or of the memory has spoilt must not
// leave the house as a proof.
func (b *block) path(index uint64, leaf [sha256.Size]byte) ([][sha256.Size]byte, error) {
	i := index - b.first
	if i >= uint64(len(b.levels[0])) || b.levels[0][i] != leaf {
		return nil, fmt.Errorf("%w: entry %d has another leaf hash than was promised", tile.ErrCorrupt, index)
	}
	path := b.inner(int(i), make([][sha256.Size]byte, 0, len(b.levels)-1+len(b.outer)))
	if fold(leaf, i, uint64(len(b.levels[0])), path) != b.levels[len(b.levels)-1][0] {
		return nil, fmt.Errorf("%w: the proof of entry %d does not hold", tile.ErrCorrupt, index)
	}
	return append(path, b.outer...), nil
}

// fold returns the root that a path leads to from the leaf at index of size.
func fold(hash [sha256.Size]byte, index, size uint64, path [][sha256.Size]byte) [sha256.Size]byte {
	last := size - 1
	for i := range path {
		if index%2 == 1 || index == last {
			hash = hashNode(&path[i], &hash)
			for index%2 == 0 && index > 0 {
				index, last = index/2, last/2
			}
		} else {
			hash = hashNode(&hash, &path[i])
		}
		index, last = index/2, last/2
	}
	return hash
}
