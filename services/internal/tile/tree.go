package tile

import (
	"context"
	"fmt"
	"math/bits"
	"slices"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/tile"
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
	// rights are the roots over the last 2, 3, … peaks; see rightEdge.
	rights []Hash
}

// loadTree reads the growing tiles of the tree of size leaves and computes the
// root.
func (r *Reader) loadTree(ctx context.Context, size uint64) (*Tree, error) {
	t := &Tree{r: r, size: size, edge: make([]*nodes, tile.Levels(size))}
	for level := range t.edge {
		index, width := tile.Edge(size, level)
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
	t.rights = t.rightEdge()
	return t, nil
}

// Size returns the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Has reports whether the tree has all of what path names.
func (t *Tree) Has(path Path) bool { return path.In(t.size) }

// Root returns the root.
func (t *Tree) Root() [32]byte { return t.root }

// RootAt returns the root that the log had at an earlier size.
func (t *Tree) RootAt(ctx context.Context, size uint64) ([32]byte, error) {
	if size > t.size {
		return Hash{}, fmt.Errorf("root at size %d of %d: %w", size, t.size, ErrRange)
	}
	if size == t.size {
		return t.root, nil
	}
	return t.finder().subtree(ctx, 0, size)
}

// LeafHash returns the hash of the leaf at index.
func (t *Tree) LeafHash(ctx context.Context, index uint64) ([32]byte, error) {
	if index >= t.size {
		return Hash{}, fmt.Errorf("leaf %d of %d: %w", index, t.size, ErrRange)
	}
	return t.finder().node(ctx, 0, index)
}

// Inclusion returns the proof that the leaf at index is in the tree of size
// leaves, which may be an earlier one, from the leaf's sibling up.
//
// SPEC (RFC 6962, 2.1.1): "PATH(m, D[n]) = PATH(m, D[0:k]) : MTH(D[k:n]) for
// m < k; and PATH(m - k, D[k:n]) : MTH(D[0:k]) for m >= k".
func (t *Tree) Inclusion(ctx context.Context, index, size uint64) ([][32]byte, error) {
	_, _, path, err := t.Prove(ctx, index, size)
	return path, err
}

// Prove returns what Inclusion returns, and the leaf's hash and the root at size,
// which the proof leads from and to.
func (t *Tree) Prove(ctx context.Context, index, size uint64) (leaf, root [32]byte, path [][32]byte, err error) {
	if size > t.size || index >= size {
		return leaf, root, nil, fmt.Errorf("inclusion of leaf %d at size %d of %d: %w", index, size, t.size, ErrRange)
	}
	f := t.finder()
	if leaf, err = f.node(ctx, 0, index); err != nil {
		return leaf, root, nil, err
	}
	root = t.root
	if size < t.size {
		if root, err = f.subtree(ctx, 0, size); err != nil {
			return leaf, root, nil, err
		}
	}
	path = make([]Hash, 0, bits.Len64(size))
	for from, to := uint64(0), size; to-from > 1; {
		mid := from + split(to-from)
		var sibling Hash
		if index < mid {
			sibling, err = f.subtree(ctx, mid, to)
			to = mid
		} else {
			sibling, err = f.subtree(ctx, from, mid)
			from = mid
		}
		if err != nil {
			return leaf, root, nil, err
		}
		path = append(path, sibling)
	}
	slices.Reverse(path)
	check := pathCheck{size: size, root: root}
	if err := check.verify(index, leaf, path); err != nil {
		return leaf, root, nil, err
	}
	return leaf, root, path, nil
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
	f := t.finder()
	path := make([]Hash, 0, bits.Len64(n)+1)
	from, to := uint64(0), n
	for to != m {
		mid := from + split(to-from)
		var sibling Hash
		var err error
		if m <= mid {
			sibling, err = f.subtree(ctx, mid, to)
			to = mid
		} else {
			sibling, err = f.subtree(ctx, from, mid)
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
		seed, err := f.subtree(ctx, from, m)
		if err != nil {
			return nil, err
		}
		path = append(path, seed)
	}
	slices.Reverse(path)
	return path, t.verifyConsistency(ctx, m, n, path)
}

// verifyConsistency checks a proof with code that shares nothing with what made
// it: a fault of ours, or of the memory, must not leave the house as a proof.
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
