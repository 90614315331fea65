package fsck

import (
	"crypto/sha256"
	"encoding/hex"
	"math/bits"

	"github.com/trialog/trialog/api/tile"
)

type hash = [tile.HashSize]byte

func leafHash(buf, entry []byte) (hash, []byte) {
	// SPEC (RFC 6962, 2.1): "MTH({d(0)}) = SHA-256(0x00 || d(0))".
	buf = append(append(buf[:0], 0), entry...)
	return sha256.Sum256(buf), buf
}

func nodeHash(left, right *hash) hash {
	// SPEC (RFC 6962, 2.1): "SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n]))".
	var buf [1 + 2*tile.HashSize]byte
	buf[0] = 1
	copy(buf[1:], left[:])
	copy(buf[1+tile.HashSize:], right[:])
	return sha256.Sum256(buf[:])
}

// rootOf returns the root over the hashes of a full tile.
func rootOf(hashes []hash) hash {
	var level [tile.FullWidth]hash
	n := copy(level[:], hashes)
	for ; n > 1; n /= 2 {
		for i := range n / 2 {
			level[i] = nodeHash(&level[2*i], &level[2*i+1])
		}
	}
	return level[0]
}

// foldEdge returns the root of the tree whose growing tiles are edge, by level.
// Splitting at powers of two as RFC 6962 does, each complete subtree is the left
// sibling of everything to the right of it.
func foldEdge(edge [][]hash) hash {
	var right *hash
	for _, hashes := range edge {
		for rest := len(hashes); rest > 0; {
			height := bits.TrailingZeros(uint(rest))
			peak := subtree(hashes[rest-1<<height : rest])
			if right != nil {
				peak = nodeHash(&peak, right)
			}
			right = &peak
			rest -= 1 << height
		}
	}
	if right == nil {
		return sha256.Sum256(nil)
	}
	return *right
}

// subtree returns the root over hashes, whose number is a power of two.
func subtree(hashes []hash) hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	left, right := subtree(hashes[:len(hashes)/2]), subtree(hashes[len(hashes)/2:])
	return nodeHash(&left, &right)
}

// hashesOf reads whole hashes, at most n.
func hashesOf(data []byte, n int) []hash {
	n = min(n, len(data)/tile.HashSize)
	list := make([]hash, n)
	for i := range list {
		list[i] = hash(data[i*tile.HashSize:])
	}
	return list
}

func hexOf(h hash) string { return hex.EncodeToString(h[:]) }
