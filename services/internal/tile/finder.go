package tile

import (
	"context"
	"math/bits"

	"github.com/trialog/trialog/api/tile"
)

// maxLevels is how many levels of tiles a tree can have: indexes have 64 bits.
const maxLevels = 64 / heightBits

// finder looks up nodes of a Tree for one call. It remembers the tile that it
// used last on each level, so that the nodes of a proof, which lie in few tiles,
// cost few looks into the shared cache. It is not for concurrent use.
type finder struct {
	t     *Tree
	tiles [maxLevels]*nodes
	index [maxLevels]uint64 // of tiles
}

func (t *Tree) finder() *finder { return &finder{t: t} }

// tile returns the tile at the place, full or growing. The tree must have it.
func (f *finder) tile(ctx context.Context, level int, index uint64) (*nodes, error) {
	if n := f.tiles[level]; n != nil && f.index[level] == index {
		return n, nil
	}
	n := f.t.edge[level]
	if last, _ := tile.Edge(f.t.size, level); index != last {
		want, err := f.node(ctx, heightBits*(level+1), index)
		if err != nil {
			return nil, err
		}
		if n, err = f.t.r.fullTile(ctx, level, index, &want); err != nil {
			return nil, err
		}
	}
	f.tiles[level], f.index[level] = n, index
	return n, nil
}

// node returns the root of the index-th complete subtree of 2^height leaves. The
// tree must have it.
func (f *finder) node(ctx context.Context, height int, index uint64) (Hash, error) {
	level, within := height/heightBits, height%heightBits
	first := index << within // the first of the tile hashes below the node
	n, err := f.tile(ctx, level, first/FullWidth)
	if err != nil {
		return Hash{}, err
	}
	return n.node(within, first%FullWidth>>within), nil
}

// subtree returns MTH(D[from:to]) (RFC 6962, 2.1). from must be a multiple of
// the least power of two that is not below to-from, as in every split of a tree.
func (f *finder) subtree(ctx context.Context, from, to uint64) (Hash, error) {
	n := to - from
	if n == 0 {
		return EmptyRoot(), nil
	}
	if n&(n-1) == 0 {
		height := bits.TrailingZeros64(n)
		return f.node(ctx, height, from>>height)
	}
	if to == f.t.size {
		// A subtree of several peaks that reaches the right edge.
		return f.t.rights[bits.OnesCount64(n)-2], nil
	}
	mid := from + split(n)
	left, err := f.subtree(ctx, from, mid)
	if err != nil {
		return Hash{}, err
	}
	right, err := f.subtree(ctx, mid, to)
	if err != nil {
		return Hash{}, err
	}
	return nodeHash(&left, &right), nil
}

// split returns the largest power of two smaller than n, which is at least 2.
func split(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

// rightEdge returns the roots of the subtrees that reach the tree's right edge
// and are not complete: those over its last 2, 3, … peaks. Half of all proofs
// holds one of them.
func (t *Tree) rightEdge() []Hash {
	rights := make([]Hash, 0, bits.OnesCount64(t.size))
	var acc Hash
	for rest, first := t.size, true; rest > 0; first = false {
		height := bits.TrailingZeros64(rest)
		rest -= 1 << height
		level, within := height/heightBits, height%heightBits
		peak := t.edge[level].node(within, rest>>(heightBits*level)%FullWidth>>within)
		if first {
			acc = peak
			continue
		}
		acc = nodeHash(&peak, &acc)
		rights = append(rights, acc)
	}
	return rights
}
