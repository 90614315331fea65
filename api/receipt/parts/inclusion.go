package parts

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/trialog/trialog/api/entry"
)

const hashSize = sha256.Size

// rootOf computes the root that an inclusion path leads to (RFC 9162 section
// 2.1.3.2), and whether the path has the length that the place in the tree asks
// for. It is what transparency-dev/merkle does, without an allocation for each
// hash: a gateway does it for every receipt of a stream.
func rootOf(leaf [hashSize]byte, index, size uint64, path []byte) (root [hashSize]byte, ok bool) {
	if index >= size || len(path)%hashSize != 0 {
		return root, false
	}
	var node [1 + 2*hashSize]byte
	node[0] = 1 // RFC 6962 section 2.1: what an interior node's hash begins with
	fn, sn := index, size-1
	root = leaf
	for ; len(path) > 0; path = path[hashSize:] {
		if sn == 0 {
			return root, false
		}
		left := fn&1 == 1 || fn == sn // the sibling is on the left
		if left {
			copy(node[1:], path[:hashSize])
			copy(node[1+hashSize:], root[:])
		} else {
			copy(node[1:], root[:])
			copy(node[1+hashSize:], path[:hashSize])
		}
		root = sha256.Sum256(node[:])
		if left {
			for fn&1 == 0 && fn != 0 {
				fn >>= 1
				sn >>= 1
			}
		}
		fn >>= 1
		sn >>= 1
	}
	return root, sn == 0
}

// leafOf is entry.LeafHash of the frame around an envelope, written into a
// buffer that is used again; it returns the buffer, whose bytes behind the first
// are the entry.
func leafOf(buffer []byte, receivedMillis int64, envelope []byte) ([hashSize]byte, []byte) {
	buffer = append(buffer[:0], 0, entry.Version)
	buffer = binary.BigEndian.AppendUint64(buffer, uint64(receivedMillis)) //nolint:gosec // checked before
	buffer = append(buffer, envelope...)
	return sha256.Sum256(buffer), buffer
}
