package postgresstore

import (
	"encoding/binary"

	"github.com/google/trillian"
)

// copyRows builds the data of COPY … FROM STDIN BINARY (PostgreSQL documentation,
// COPY, "Binary Format"): a header, for each row the number of its fields and for
// each field its length and bytes, all numbers big-endian, and a trailer.
type copyRows struct{ data []byte }

const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // signature, flags, no extension
	copyTrailer = 0xffff
	copyField   = 4 // bytes of a field's length
)

func newCopyRows(size int) copyRows {
	return copyRows{append(make([]byte, 0, len(copyHeader)+size+2), copyHeader...)}
}

func (c *copyRows) row(fields uint16) { c.data = binary.BigEndian.AppendUint16(c.data, fields) }

func (c *copyRows) bigint(v int64) {
	c.data = binary.BigEndian.AppendUint32(c.data, 8)
	c.data = binary.BigEndian.AppendUint64(c.data, uint64(v))
}

// bytea adds bytes, of which there are less than 2^31.
func (c *copyRows) bytea(v []byte) {
	c.data = binary.BigEndian.AppendUint32(c.data, uint32(len(v)))
	c.data = append(c.data, v...)
}

func (c *copyRows) null() { c.data = binary.BigEndian.AppendUint32(c.data, 1<<32-1) }

func (c *copyRows) end() []byte { return binary.BigEndian.AppendUint16(c.data, copyTrailer) }

// encodeLeaves returns the rows of LeafData and of SequencedLeafData.
func encodeLeaves(treeID int64, leaves []*trillian.LogLeaf, queued int64) (data, places []byte) {
	const ints = 3*(copyField+8) + 2
	size := 0
	for _, l := range leaves {
		size += ints + 3*copyField + hashSize + len(l.LeafValue) + len(l.ExtraData)
	}
	d, p := newCopyRows(size), newCopyRows(len(leaves)*(ints+2*(copyField+hashSize)))
	for _, l := range leaves {
		d.row(6)
		d.bigint(treeID)
		d.bytea(l.LeafIdentityHash)
		d.bytea(l.LeafValue)
		if l.ExtraData == nil {
			d.null()
		} else {
			d.bytea(l.ExtraData)
		}
		d.bigint(queued)
		d.bigint(l.LeafIndex)

		p.row(5)
		p.bigint(treeID)
		p.bigint(l.LeafIndex)
		p.bytea(l.LeafIdentityHash)
		p.bytea(l.MerkleLeafHash)
		p.bigint(0)
	}
	return d.end(), p.end()
}
