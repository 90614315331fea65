package tile

import (
	"crypto/sha256"
	"encoding/hex"
	"math/bits"
)

// Hash is a node of the RFC 6962 Merkle tree.
type Hash = [HashSize]byte

// LeafHash returns the hash of an entry.
//
// SPEC (RFC 6962, 2.1): "MTH({d(0)}) = SHA-256(0x00 || d(0))".
func LeafHash(entry []byte) Hash {
	return new(hasher).leaf(entry)
}

// EmptyRoot returns the root of a tree without leaves.
//
// SPEC (RFC 6962, 2.1): "MTH({}) = SHA-256()".
func EmptyRoot() Hash { return sha256.Sum256(nil) }

// hasher hashes leaves through one buffer: crypto/sha256 is quickest on a single
// slice, and the writer hashes every entry of the log.
type hasher struct{ buf []byte }

func (h *hasher) leaf(entry []byte) Hash {
	h.buf = append(append(h.buf[:0], 0x00), entry...)
	return sha256.Sum256(h.buf)
}

// nodeHash returns the hash of an inner node.
//
// SPEC (RFC 6962, 2.1): "SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n]))".
func nodeHash(left, right *Hash) Hash {
	var buf [1 + 2*HashSize]byte
	buf[0] = 0x01
	copy(buf[1:], left[:])
	copy(buf[1+HashSize:], right[:])
	return sha256.Sum256(buf[:])
}

// nodes holds the hashes of a tile and every inner node that they complete, so
// that no proof hashes a tile again. It takes 16 KiB.
type nodes struct {
	width int
	// heap[1] is the tile's root, the children of i are 2i and 2i+1, and the
	// tile's own hashes are heap[256:]. Nodes that are not complete are unset.
	heap [2 * FullWidth]Hash
}

// push adds the next hash and completes the nodes above it. The tile must not be
// full.
func (t *nodes) push(h Hash) {
	i := FullWidth + t.width
	t.heap[i] = h
	t.width++
	for ; i > 1 && i%2 == 1; i /= 2 {
		t.heap[i/2] = nodeHash(&t.heap[i-1], &t.heap[i])
	}
}

// parseNodes builds the tile whose hashes are the bytes of raw, at most 256.
func parseNodes(raw []byte) *nodes {
	t := new(nodes)
	for ; len(raw) >= HashSize; raw = raw[HashSize:] {
		t.push(Hash(raw[:HashSize]))
	}
	return t
}

// full reports whether the tile holds 256 hashes.
func (t *nodes) full() bool { return t.width == FullWidth }

// root returns the root of a full tile.
func (t *nodes) root() Hash { return t.heap[1] }

// node returns the root of the i-th complete subtree of 2^height hashes.
func (t *nodes) node(height int, i uint64) Hash {
	return t.heap[FullWidth>>height+int(i)]
}

// bytes returns the first width hashes as they are served.
func (t *nodes) bytes(width int) []byte {
	return t.appendRange(make([]byte, 0, width*HashSize), 0, width)
}

func (t *nodes) appendRange(to []byte, from, width int) []byte {
	for i := range t.heap[FullWidth+from : FullWidth+width] {
		to = append(to, t.heap[FullWidth+from+i][:]...)
	}
	return to
}

// fold returns the root over the tile's hashes and, if it is not nil, right: the
// root of what lies to the right of them, which is less than one more hash.
// Splitting at powers of two as RFC 6962 does, each peak is the left sibling of
// everything to the right of it. The tile must hold a hash.
func (t *nodes) fold(right *Hash) Hash {
	var acc Hash
	rest := t.width
	for rest > 0 {
		height := bits.TrailingZeros(uint(rest))
		rest -= 1 << height
		peak := &t.heap[(FullWidth+rest)>>height]
		if right == nil {
			acc = *peak
		} else {
			acc = nodeHash(peak, right)
		}
		right = &acc
	}
	return acc
}

// foldRoot returns the root of the tree whose right edge is edge, by level; a
// level at which the tree ends with a full tile is nil or empty.
func foldRoot(edge []*nodes) Hash {
	var acc *Hash
	for _, t := range edge {
		if t == nil || t.width == 0 {
			continue
		}
		h := t.fold(acc)
		acc = &h
	}
	if acc == nil {
		return EmptyRoot()
	}
	return *acc
}

func hexHash(h Hash) string { return hex.EncodeToString(h[:]) }
