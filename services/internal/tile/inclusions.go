package tile

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// Inclusions returns the proofs that the leaves first, first+1, … first+n-1 are
// in the tree, each as Inclusion returns it for the tree's own size. It costs
// far less than n calls of Inclusion: neighbours share most of their paths.
//
// The paths are slices of one array, so that whoever keeps one of them for long
// clones it.
func (t *Tree) Inclusions(ctx context.Context, first uint64, n int) ([][][32]byte, error) {
	if n < 0 || first > t.size || uint64(n) > t.size-first {
		return nil, fmt.Errorf("inclusion of %d leaves from %d of %d: %w", n, first, t.size, ErrRange)
	}
	paths := make([][]Hash, 0, n)
	longest := 0
	if t.size > 1 {
		longest = bits.Len64(t.size - 1)
	}
	all := make([]Hash, 0, n*longest)
	check := pathCheck{size: t.size, root: t.root, seen: make([]progress, longest+1)}
	d := descent{f: t.finder(), nodes: []span{{0, t.size}}}
	for index := first; len(paths) < n; index++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := d.to(ctx, index); err != nil {
			return nil, err
		}
		start := len(all)
		for _, h := range slices.Backward(d.siblings) {
			all = append(all, h)
		}
		path := all[start:len(all):len(all)]
		leaf, err := d.f.node(ctx, 0, index)
		if err != nil {
			return nil, err
		}
		if err := check.verify(index, leaf, path); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// span is the subtree of the leaves from ≤ i < to.
type span struct{ from, to uint64 }

// descent is the way from the root down to a leaf.
type descent struct {
	f        *finder
	nodes    []span // from the root down; each but the first has a sibling
	siblings []Hash // siblings[i] is that of nodes[i+1]
}

// to changes the way to one that ends at another leaf, to the right of the
// present one. What the two have in common stays.
//
// SPEC (RFC 6962, 2.1.1): "PATH(m, D[n]) = PATH(m, D[0:k]) : MTH(D[k:n]) for
// m < k; and PATH(m - k, D[k:n]) : MTH(D[0:k]) for m >= k".
func (d *descent) to(ctx context.Context, index uint64) error {
	for d.nodes[len(d.nodes)-1].to <= index {
		d.nodes = d.nodes[:len(d.nodes)-1]
	}
	d.siblings = d.siblings[:len(d.nodes)-1]
	for at := d.nodes[len(d.nodes)-1]; at.to-at.from > 1; {
		mid := at.from + split(at.to-at.from)
		next, other := span{at.from, mid}, span{mid, at.to}
		if index >= mid {
			next, other = other, next
		}
		sibling, err := d.f.subtree(ctx, other.from, other.to)
		if err != nil {
			return err
		}
		d.nodes, d.siblings, at = append(d.nodes, next), append(d.siblings, sibling), next
	}
	return nil
}

var errPath = errors.New("the path does not lead to the root")

// pathCheck checks inclusion paths of one tree with code that shares nothing
// with what made them: a fault of ours, or of the memory, must not leave the
// house as a proof. Once the upper part of a path was seen to lead to the root,
// it is not hashed again for the next one that passes there.
type pathCheck struct {
	size uint64
	root Hash

	last []Hash // the path checked last
	// seen[k] is where the check of last, or of a path with the same k last
	// hashes, stood with k hashes to go. It is nil for a single path.
	seen []progress
}

// progress is the state of RFC 9162's algorithm between two hashes of a path.
type progress struct {
	fn, sn uint64
	r      Hash
}

// verify checks the path of the leaf at index.
func (c *pathCheck) verify(index uint64, leaf Hash, path []Hash) error {
	if err := c.follow(index, leaf, path); err != nil {
		return fmt.Errorf("%w: inclusion of leaf %d at size %d: %w", ErrCorrupt, index, c.size, err)
	}
	return nil
}

// follow computes the root from a leaf and its path.
//
// SPEC (RFC 9162, 2.1.3.2): "Set fn to leaf_index and sn to tree_size - 1. Set r
// to hash. For each value p in the inclusion_path array: If sn is 0, then stop
// the iteration and fail the proof verification. […] Compare sn to 0. Compare r
// against the root_hash."
func (c *pathCheck) follow(index uint64, leaf Hash, path []Hash) error {
	at, last := progress{index, c.size - 1, leaf}, c.last
	c.last = nil // seen no longer fits it, and counts again only if path is right
	for i := range path {
		if at.sn == 0 {
			return errPath
		}
		if rest := len(path) - i; rest < len(c.seen) {
			if rest <= len(last) && c.seen[rest] == at && slices.Equal(last[len(last)-rest:], path[i:]) {
				c.last = path
				return nil
			}
			c.seen[rest] = at
		}
		at.step(&path[i])
	}
	if at.sn != 0 || at.r != c.root {
		return errPath
	}
	c.last = path
	return nil
}

// step takes the next hash of a path.
//
// SPEC (RFC 9162, 2.1.3.2): "If LSB(fn) is set, or if fn is equal to sn, then: Set
// r to HASH(0x01 || p || r). If LSB(fn) is not set, then right-shift both fn and
// sn equally until either LSB(fn) is set or fn is 0. Otherwise: Set r to
// HASH(0x01 || r || p). Finally, right-shift both fn and sn one time."
func (at *progress) step(p *Hash) {
	if at.fn&1 == 1 || at.fn == at.sn {
		at.r = nodeHash(p, &at.r)
		for at.fn&1 == 0 && at.fn != 0 {
			at.fn, at.sn = at.fn>>1, at.sn>>1
		}
	} else {
		at.r = nodeHash(&at.r, p)
	}
	at.fn, at.sn = at.fn>>1, at.sn>>1
}
