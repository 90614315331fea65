package filing

import "github.com/transparency-dev/merkle/rfc6962"

// paths holds the nodes of a batch's tree (RFC 6962 section 2.1), by level from
// the leaves up, so that the receipts of many records cost one pass.
type paths [][][]byte

func newPaths(records [][]byte) paths {
	level := make([][]byte, len(records))
	for i, raw := range records {
		level[i] = rfc6962.DefaultHasher.HashLeaf(raw)
	}
	all := paths{level}
	for len(level) > 1 {
		next := make([][]byte, 0, (len(level)+1)/2)
		for i := 0; i+1 < len(level); i += 2 {
			next = append(next, rfc6962.DefaultHasher.HashChildren(level[i], level[i+1]))
		}
		if len(level)%2 == 1 { // the last one goes up as it is
			next = append(next, level[len(level)-1])
		}
		all, level = append(all, next), next
	}
	return all
}

// of returns the inclusion path of a record, leaf to root.
func (p paths) of(index int) [][32]byte {
	var path [][32]byte
	for _, level := range p {
		if sibling := index ^ 1; sibling < len(level) {
			path = append(path, [32]byte(level[sibling]))
		}
		index /= 2
	}
	return path
}
