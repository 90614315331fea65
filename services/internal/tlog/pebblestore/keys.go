package pebblestore

import (
	"encoding/binary"
	"fmt"

	"github.com/google/trillian/storage/tree"
)

// Every key but the format mark starts with a kind and a tree id; numbers are
// big-endian, so that pebble's order is the order of indexes and times.
//
//	F                          → format mark
//	A tree                     → trillian.Tree
//	r tree                     → latest LogRootV1, one row, overwritten
//	t tree level index         → Merkle tile: 1 to 256 hashes of 32 bytes
//	l tree index               → leaf record
//	i tree identity            → identity row: sequenced at, or queued at
//	q tree time identity       → leaf record, waiting (LOG trees only)
//	x tree                     → empty: the identity rows are to be made again
const (
	kindFormat   = 'F'
	kindTree     = 'A'
	kindRoot     = 'r'
	kindTile     = 't'
	kindLeaf     = 'l'
	kindIdentity = 'i'
	kindQueue    = 'q'
	kindRebuild  = 'x'
)

// treeKinds are the kinds whose rows go when a tree is deleted for good.
const treeKinds = "Artliqx"

const (
	hashSize       = 32
	treePrefixSize = 1 + 8
	leafKeySize    = treePrefixSize + 8
	idKeySize      = treePrefixSize + hashSize
)

func treeKey(kind byte, treeID int64) []byte {
	return appendTreeKey(make([]byte, 0, idKeySize+8), kind, treeID)
}

func appendTreeKey(dst []byte, kind byte, treeID int64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, kind), uint64(treeID))
}

func leafKey(treeID, index int64) []byte {
	return binary.BigEndian.AppendUint64(treeKey(kindLeaf, treeID), uint64(index))
}

func identityKey(treeID int64, identity []byte) []byte {
	return append(treeKey(kindIdentity, treeID), identity...)
}

func queueKey(treeID, queueNanos int64, identity []byte) []byte {
	return append(binary.BigEndian.AppendUint64(treeKey(kindQueue, treeID), uint64(queueNanos)), identity...)
}

// prefixEnd is the least key that is greater than all keys with this prefix.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// tileID names a tile: its hashes are those of the tree nodes of level 8·level
// with the indexes 256·index to 256·index+255.
type tileID struct {
	level byte
	index uint64
}

func (id tileID) key(treeID int64) []byte {
	k := append(treeKey(kindTile, treeID), id.level)
	return binary.BigEndian.AppendUint64(k, id.index)
}

// tileOf returns the tile that holds, or determines, a node; where in the tile
// the node's leftmost hash is; and how many of the tile's hashes it spans.
func tileOf(n tree.Node) (id tileID, pos, span int, err error) {
	if n.ID.Level > 63 {
		return tileID{}, 0, 0, fmt.Errorf("no node has level %d", n.ID.Level)
	}
	within := n.ID.Level % 8
	id = tileID{level: byte(n.ID.Level / 8), index: n.ID.Index >> (8 - within)}
	return id, int(n.ID.Index<<within) & 0xff, 1 << within, nil
}
