package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/trillian"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// recordVersion is the first byte of a leaf record.
const recordVersion = 1

// recordHead is the length of a leaf record before the extra data's length.
const recordHead = 1 + 8 + 8 + hashSize + hashSize

// record is a stored leaf:
//
//	version[1] queue-ns[8] integrate-ns[8] identity[32] merkle[32] uvarint(len extra) extra value
type record struct {
	queueNanos, integrateNanos int64
	identity, merkle           []byte
	extra, value               []byte
}

func newRecord(l *trillian.LogLeaf, queued time.Time) record {
	return record{
		queueNanos: queued.UnixNano(),
		identity:   l.LeafIdentityHash,
		merkle:     l.MerkleLeafHash,
		extra:      l.ExtraData,
		value:      l.LeafValue,
	}
}

func (r *record) size() int {
	return recordHead + uvarintSize(uint64(len(r.extra))) + len(r.extra) + len(r.value)
}

// appendTo appends the record's bytes to dst.
func (r *record) appendTo(dst []byte) []byte {
	dst = append(dst, recordVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.queueNanos))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.integrateNanos))
	dst = append(dst, r.identity...)
	dst = append(dst, r.merkle...)
	dst = binary.AppendUvarint(dst, uint64(len(r.extra)))
	dst = append(dst, r.extra...)
	return append(dst, r.value...)
}

// parseRecord reads a record; its slices are parts of b.
func parseRecord(b []byte) (record, error) {
	if len(b) <= recordHead {
		return record{}, fmt.Errorf("leaf record has %d bytes, at least %d are needed", len(b), recordHead+1)
	}
	if b[0] != recordVersion {
		return record{}, fmt.Errorf("leaf record has version %d, expected %d", b[0], recordVersion)
	}
	r := record{
		queueNanos:     int64(binary.BigEndian.Uint64(b[1:])),
		integrateNanos: int64(binary.BigEndian.Uint64(b[9:])),
		identity:       b[17 : 17+hashSize],
		merkle:         b[17+hashSize : recordHead],
	}
	rest := b[recordHead:]
	n, w := binary.Uvarint(rest)
	if w <= 0 || w != uvarintSize(n) {
		return record{}, errors.New("leaf record: malformed length of extra data")
	}
	rest = rest[w:]
	if n > uint64(len(rest)) {
		return record{}, fmt.Errorf("leaf record: %d bytes of extra data announced, %d left", n, len(rest))
	}
	r.extra, r.value = rest[:n], rest[n:]
	return r, nil
}

// leaf copies the record into a Trillian leaf.
func (r *record) leaf(index int64) *trillian.LogLeaf {
	// One allocation for all byte fields: a batch has thousands of leaves.
	buf := make([]byte, 0, 2*hashSize+len(r.extra)+len(r.value))
	buf = append(append(append(append(buf, r.identity...), r.merkle...), r.extra...), r.value...)
	valueAt := 2*hashSize + len(r.extra)
	l := &trillian.LogLeaf{
		LeafIdentityHash:   buf[:hashSize:hashSize],
		MerkleLeafHash:     buf[hashSize : 2*hashSize : 2*hashSize],
		LeafValue:          buf[valueAt:],
		LeafIndex:          index,
		QueueTimestamp:     timestamppb.New(time.Unix(0, r.queueNanos)),
		IntegrateTimestamp: timestamppb.New(time.Unix(0, r.integrateNanos)),
	}
	if len(r.extra) > 0 {
		l.ExtraData = buf[2*hashSize : valueAt : valueAt]
	}
	return l
}

// same says whether two records are of the same leaf, whenever it was queued.
func (r *record) same(o *record) bool {
	return bytes.Equal(r.identity, o.identity) && bytes.Equal(r.merkle, o.merkle) &&
		bytes.Equal(r.value, o.value) && bytes.Equal(r.extra, o.extra)
}

func uvarintSize(n uint64) int {
	var b [binary.MaxVarintLen64]byte
	return binary.PutUvarint(b[:], n)
}

// identityRow is what the identity index holds: a state and a number.
type identityRow struct {
	// sequenced: number is the leaf's index. Otherwise the leaf waits in the
	// queue and number is its queue time in Unix nanoseconds.
	sequenced bool
	number    int64
}

const identityRowSize = 9

func (r identityRow) appendTo(dst []byte) []byte {
	state := byte('Q')
	if r.sequenced {
		state = 'S'
	}
	return binary.BigEndian.AppendUint64(append(dst, state), uint64(r.number))
}

func parseIdentityRow(b []byte) (identityRow, error) {
	if len(b) != identityRowSize || (b[0] != 'S' && b[0] != 'Q') {
		return identityRow{}, fmt.Errorf("malformed identity row of %d bytes", len(b))
	}
	r := identityRow{sequenced: b[0] == 'S', number: int64(binary.BigEndian.Uint64(b[1:]))}
	if r.sequenced && r.number < 0 {
		return identityRow{}, fmt.Errorf("identity row with negative index %d", r.number)
	}
	return r, nil
}
