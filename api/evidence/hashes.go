package evidence

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// Node returns the hash of the perfect subtree over the 2^level leaves from
// index·2^level on.
type Node func(level uint, index uint64) ([32]byte, error)

// Hashes makes the hashes of NewInconsistent out of the newer tree, which has n
// leaves: SUBPROOF(m, D[n], false). It wants 0 < m < n and asks for at most 128
// nodes.
func Hashes(m, n uint64, node Node) ([][32]byte, error) {
	if m == 0 || m >= n {
		return nil, fmt.Errorf("make a proof: expected 0 < %d < %d", m, n)
	}
	wanted, err := proof.Consistency(m, n)
	if err != nil {
		return nil, fmt.Errorf("make a proof: %w", err)
	}
	raw := make([][]byte, 0, len(wanted.IDs))
	for _, id := range wanted.IDs {
		h, err := node(id.Level, id.Index)
		if err != nil {
			return nil, err
		}
		raw = append(raw, h[:])
	}
	if raw, err = wanted.Rehash(raw, rfc6962.DefaultHasher.HashChildren); err != nil {
		return nil, fmt.Errorf("make a proof: %w", err)
	}
	var hashes [][32]byte
	if whole(m) {
		first, err := node(uint(bits.TrailingZeros64(m)), 0)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, first)
	}
	for _, h := range raw {
		hashes = append(hashes, [32]byte(h))
	}
	return hashes, nil
}

// Leaves is the Node of a tree whose leaf hashes are at hand, all n of them.
func Leaves(leaves [][32]byte) Node {
	return func(level uint, index uint64) ([32]byte, error) {
		n := uint64(len(leaves))
		if level >= 64 || index > n>>level || (index+1)<<level > n {
			return [32]byte{}, errors.New("make a proof: the tree has no such node")
		}
		tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
		for _, leaf := range leaves[index<<level : (index+1)<<level] {
			if err := tree.Append(leaf[:], nil); err != nil {
				return [32]byte{}, fmt.Errorf("make a proof: %w", err)
			}
		}
		root, err := tree.GetRootHash(nil)
		if err != nil {
			return [32]byte{}, fmt.Errorf("make a proof: %w", err)
		}
		return [32]byte(root), nil
	}
}

// FromConsistency turns a standard consistency proof, PROOF(m, D[n]), into the
// hashes of NewInconsistent. root is what the tree of n leaves has for its first m
// ones, which is the first hash where m is a power of two: the standard proof leaves
// it out, since whoever asks for one is expected to know it.
func FromConsistency(m uint64, root [32]byte, consistency [][32]byte) [][32]byte {
	if !whole(m) {
		return consistency
	}
	return append([][32]byte{root}, consistency...)
}

// whole tells whether a tree of m leaves is one perfect subtree.
func whole(m uint64) bool { return m != 0 && m&(m-1) == 0 }

// Roots returns the roots that hashes, SUBPROOF(m, D[n], false), lead to: of
// the first m leaves, and of all n. It wants 0 < m < n; ok is false if the hashes
// have not the length that such a proof has.
//
// SPEC (RFC 9162, section 2.1.4.2): the steps are those of "Verifying Consistency
// between Two Tree Heads" behind step 2, which prepends the first hash where m is a
// power of two; here it is there already.
func Roots(m, n uint64, hashes [][32]byte) (first, all [32]byte, ok bool) {
	if m == 0 || m >= n || len(hashes) == 0 {
		return first, all, false
	}
	fn, sn := m-1, n-1
	for fn&1 == 1 {
		fn, sn = fn>>1, sn>>1
	}
	first, all = hashes[0], hashes[0]
	for _, h := range hashes[1:] {
		if sn == 0 {
			return first, all, false
		}
		if fn&1 == 1 || fn == sn {
			first, all = join(h, first), join(h, all)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			all = join(all, h)
		}
		fn, sn = fn>>1, sn>>1
	}
	return first, all, sn == 0
}

func join(left, right [32]byte) [32]byte {
	return [32]byte(rfc6962.DefaultHasher.HashChildren(left[:], right[:]))
}
