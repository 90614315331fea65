package pebblestore

import (
	"bytes"
	"fmt"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
)

const tileWidth = 256

// tile is a run of up to 256 node hashes of one level. Nodes of the seven
// levels between tiles are not stored: they are functions of these.
type tile struct {
	hashes []byte // 32 bytes each, from the left without a gap
	set    [tileWidth / 64]uint64
	dirty  bool
}

func parseTile(b []byte) (*tile, error) {
	n := len(b) / hashSize
	if len(b)%hashSize != 0 || n < 1 || n > tileWidth {
		return nil, fmt.Errorf("tile of %d bytes is not 1 to %d hashes", len(b), tileWidth)
	}
	t := &tile{hashes: make([]byte, len(b), tileWidth*hashSize)}
	copy(t.hashes, b)
	for i := range n {
		t.mark(i)
	}
	return t, nil
}

func newTile() *tile { return &tile{hashes: make([]byte, 0, tileWidth*hashSize)} }

func (t *tile) mark(pos int)     { t.set[pos/64] |= 1 << (pos % 64) }
func (t *tile) has(pos int) bool { return t.set[pos/64]&(1<<(pos%64)) != 0 }
func (t *tile) width() int       { return len(t.hashes) / hashSize }

func (t *tile) at(pos int) []byte { return t.hashes[pos*hashSize : (pos+1)*hashSize] }

// put adds a hash. Nodes of a log are written once: another hash at the same
// place comes from a writer that works on an old root, or from a wrong store.
func (t *tile) put(pos int, hash []byte) error {
	if t.has(pos) {
		if !bytes.Equal(t.at(pos), hash) {
			return fmt.Errorf("hash %d is already stored with another value", pos)
		}
		return nil
	}
	if end := (pos + 1) * hashSize; end > len(t.hashes) {
		t.hashes = t.hashes[:end]
	}
	copy(t.at(pos), hash)
	t.mark(pos)
	t.dirty = true
	return nil
}

// whole says whether the hashes are a run from the left without a gap.
func (t *tile) whole() bool {
	for i := range t.width() {
		if !t.has(i) {
			return false
		}
	}
	return true
}

// node returns the hash of the subtree over span hashes from pos on; span is a
// power of two.
func (t *tile) node(pos, span int) ([]byte, error) {
	if pos+span > t.width() {
		return nil, fmt.Errorf("tile has %d hashes, %d are needed", t.width(), pos+span)
	}
	if span == 1 {
		return bytes.Clone(t.at(pos)), nil
	}
	cr := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for i := range span {
		if err := cr.Append(t.at(pos+i), nil); err != nil {
			return nil, fmt.Errorf("hashing a tile: %w", err)
		}
	}
	return cr.GetRootHash(nil)
}
