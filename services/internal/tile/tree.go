package tile

import (
	"context"
	"fmt"
	"math/bits"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// Tree is the log at one size and root. Everything that it returns has been
// checked against the root: the growing tiles when it was made, every full tile
// against the hash above it, every entry against its leaf hash. It may be used
// concurrently, and stays valid while the log grows.
type Tree struct {
	r    *Reader
	size uint64
	root Hash
	edge []*nodes // by level; nil where the tree ends with a full tile
}

// loadTree reads the growing tiles of the tree of size leaves and computes the
// root.
func (r *Reader) loadTree(ctx context.Context, size uint64) (*Tree, error) {
	t := &Tree{r: r, size: size, edge: make([]*nodes, levels(size))}
	for level := range t.edge {
		index, width := edgeWidth(size, level)
		if width == 0 {
			continue
		}
		_, raw, err := r.rawTile(ctx, Path{Level: level, Index: index, Width: width})
		if err != nil {
			return nil, err
		}
		t.edge[level] = parseNodes(raw)
	}
	t.root = foldRoot(t.edge)
	return t, nil
}

// Size returns the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Has reports whether the tree has all of what path names.
func (t *Tree) Has(path Path) bool { return path.available(t.size) }

// Root returns the root.
func (t *Tree) Root() [32]byte { return t.root }

// fullTile returns a full tile that the tree has, checked against the hash above.
func (t *Tree) fullTile(ctx context.Context, level int, index uint64) (*nodes, error) {
	want, err := t.node(ctx, heightBits*(level+1), index)
	if err != nil {
		return nil, err
	}
	id := tileID{level, index}
	// A cached tile may come from a tree that has been given up since, so it is
	// compared like one that was just read.
	if cached := t.r.cache.get(id); cached != nil && cached.root() == want {
		return cached, nil
	}
	key, raw, err := t.r.rawTile(ctx, Path{Level: level, Index: index, Width: FullWidth})
	if err != nil {
		return nil, err
	}
	read := parseNodes(raw)
	if read.root() != want {
		return nil, &CorruptError{Object: key, Reason: "its root differs from the hash above it"}
	}
	t.r.cache.put(id, read)
	return read, nil
}

// tile returns the tile at the place, full or growing. The tree must have it.
func (t *Tree) tile(ctx context.Context, level int, index uint64) (*nodes, error) {
	if last, _ := edgeWidth(t.size, level); index == last {
		return t.edge[level], nil
	}
	return t.fullTile(ctx, level, index)
}

// node returns the root of the index-th complete subtree of 2^height leaves. The
// tree must have it.
func (t *Tree) node(ctx context.Context, height int, index uint64) (Hash, error) {
	level, within := height/heightBits, height%heightBits
	first := index << within // the first of the tile hashes below the node
	n, err := t.tile(ctx, level, first/FullWidth)
	if err != nil {
		return Hash{}, err
	}
	return n.node(within, first%FullWidth>>within), nil
}

// subtree returns MTH(D[from:to]) (RFC 6962, 2.1). from must be a multiple of
// the least power of two that is not below to-from, as in every split of a tree.
func (t *Tree) subtree(ctx context.Context, from, to uint64) (Hash, error) {
	n := to - from
	if n == 0 {
		return EmptyRoot(), nil
	}
	if n&(n-1) == 0 {
		height := bits.TrailingZeros64(n)
		return t.node(ctx, height, from>>height)
	}
	mid := from + split(n)
	left, err := t.subtree(ctx, from, mid)
	if err != nil {
		return Hash{}, err
	}
	right, err := t.subtree(ctx, mid, to)
	if err != nil {
		return Hash{}, err
	}
	return nodeHash(&left, &right), nil
}

// split returns the largest power of two smaller than n, which is at least 2.
func split(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

// RootAt returns the root that the log had at an earlier size.
func (t *Tree) RootAt(ctx context.Context, size uint64) ([32]byte, error) {
	if size > t.size {
		return Hash{}, fmt.Errorf("root at size %d of %d: %w", size, t.size, ErrRange)
	}
	if size == t.size {
		return t.root, nil
	}
	return t.subtree(ctx, 0, size)
}

// LeafHash returns the hash of the leaf at index.
func (t *Tree) LeafHash(ctx context.Context, index uint64) ([32]byte, error) {
	if index >= t.size {
		return Hash{}, fmt.Errorf("leaf %d of %d: %w", index, t.size, ErrRange)
	}
	return t.node(ctx, 0, index)
}

// Inclusion returns the proof that the leaf at index is in the tree of size
// leaves, which may be an earlier one, from the leaf's sibling up.
//
// SPEC (RFC 6962, 2.1.1): "PATH(m, D[n]) = PATH(m, D[0:k]) : MTH(D[k:n]) for
// m < k; and PATH(m - k, D[k:n]) : MTH(D[0:k]) for m >= k".
func (t *Tree) Inclusion(ctx context.Context, index, size uint64) ([][32]byte, error) {
	if size > t.size || index >= size {
		return nil, fmt.Errorf("inclusion of leaf %d at size %d of %d: %w", index, size, t.size, ErrRange)
	}
	path := make([]Hash, 0, bits.Len64(size))
	for from, to := uint64(0), size; to-from > 1; {
		mid := from + split(to-from)
		var sibling Hash
		var err error
		if index < mid {
			sibling, err = t.subtree(ctx, mid, to)
			to = mid
		} else {
			sibling, err = t.subtree(ctx, from, mid)
			from = mid
		}
		if err != nil {
			return nil, err
		}
		path = append(path, sibling)
	}
	reverse(path)
	return path, t.verifyInclusion(ctx, index, size, path)
}

// verifyInclusion checks a proof with code that shares nothing with what made
// it: a fault of ours, or of the memory, must not leave the house as a proof.
func (t *Tree) verifyInclusion(ctx context.Context, index, size uint64, path []Hash) error {
	leaf, err := t.LeafHash(ctx, index)
	if err != nil {
		return err
	}
	root, err := t.RootAt(ctx, size)
	if err != nil {
		return err
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, leaf[:], slicesOf(path), root[:]); err != nil {
		return fmt.Errorf("%w: inclusion of leaf %d at size %d: %w", ErrCorrupt, index, size, err)
	}
	return nil
}

// Consistency returns the proof that the tree of n leaves, which may be an
// earlier one, extends that of m leaves. It is empty if m is 0 or n.
//
// SPEC (RFC 6962, 2.1.2): "PROOF(m, D[n]) = SUBPROOF(m, D[n], true)".
func (t *Tree) Consistency(ctx context.Context, m, n uint64) ([][32]byte, error) {
	if n > t.size || m > n {
		return nil, fmt.Errorf("consistency of sizes %d and %d of %d: %w", m, n, t.size, ErrRange)
	}
	if m == 0 || m == n {
		return []Hash{}, nil
	}
	path := make([]Hash, 0, bits.Len64(n)+1)
	from, to := uint64(0), n
	for to != m {
		mid := from + split(to-from)
		var sibling Hash
		var err error
		if m <= mid {
			sibling, err = t.subtree(ctx, mid, to)
			to = mid
		} else {
			sibling, err = t.subtree(ctx, from, mid)
			from = mid
		}
		if err != nil {
			return nil, err
		}
		path = append(path, sibling)
	}
	if from > 0 {
		// The old tree's last subtree is not the whole old tree, whose root the
		// verifier knows: it has to be told.
		seed, err := t.subtree(ctx, from, m)
		if err != nil {
			return nil, err
		}
		path = append(path, seed)
	}
	reverse(path)
	return path, t.verifyConsistency(ctx, m, n, path)
}

func (t *Tree) verifyConsistency(ctx context.Context, m, n uint64, path []Hash) error {
	first, err := t.RootAt(ctx, m)
	if err != nil {
		return err
	}
	second, err := t.RootAt(ctx, n)
	if err != nil {
		return err
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, m, n, slicesOf(path), first[:], second[:]); err != nil {
		return fmt.Errorf("%w: consistency of sizes %d and %d: %w", ErrCorrupt, m, n, err)
	}
	return nil
}

func slicesOf(hashes []Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}

func reverse(hashes []Hash) {
	for i, j := 0, len(hashes)-1; i < j; i, j = i+1, j-1 {
		hashes[i], hashes[j] = hashes[j], hashes[i]
	}
}
