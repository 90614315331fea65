package pebblestore

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/trillian/storage/tree"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
)

func testRecord(extra, value string) record {
	return record{
		queueNanos: 12, integrateNanos: -34,
		identity: bytes.Repeat([]byte{5}, hashSize), merkle: bytes.Repeat([]byte{6}, hashSize),
		extra: []byte(extra), value: []byte(value),
	}
}

func TestRecordRoundTrip(t *testing.T) {
	for _, r := range []record{testRecord("", ""), testRecord("", "v"), testRecord("e", ""), testRecord(strings.Repeat("e", 128), strings.Repeat("v", 65535))} {
		b := r.appendTo(nil)
		if len(b) != r.size() {
			t.Errorf("size() = %d, the record has %d bytes", r.size(), len(b))
		}
		got, err := parseRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		if !got.same(&r) || got.queueNanos != r.queueNanos || got.integrateNanos != r.integrateNanos {
			t.Errorf("got %+v, want %+v", got, r)
		}
	}
}

func TestRecordRejects(t *testing.T) {
	r := testRecord("extra", "value")
	good := r.appendTo(nil)
	with := func(at int, b ...byte) []byte {
		return append(append(bytes.Clone(good[:at]), b...), good[at+1:]...)
	}
	for name, b := range map[string][]byte{
		"empty":              nil,
		"head only":          good[:recordHead],
		"short":              good[:20],
		"version 0":          with(0, 0),
		"version 2":          with(0, 2),
		"extra too long":     with(recordHead, 11),
		"length not minimal": with(recordHead, 0x85, 0x00),
		"length unfinished":  append(bytes.Clone(good[:recordHead]), 0x80),
		"length too great":   append(bytes.Clone(good[:recordHead]), bytes.Repeat([]byte{0xff}, 10)...),
	} {
		if _, err := parseRecord(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestIdentityRow(t *testing.T) {
	for _, r := range []identityRow{{}, {sequenced: true}, {sequenced: true, number: 1 << 62}, {number: -5}} {
		if got, err := parseIdentityRow(r.appendTo(nil)); err != nil || got != r {
			t.Errorf("got %+v, %v; want %+v", got, err, r)
		}
	}
	for name, b := range map[string]string{
		"empty": "", "short": "S1234567", "long": "S123456789", "state": "X\x00\x00\x00\x00\x00\x00\x00\x00", "negative": "S\xff\x00\x00\x00\x00\x00\x00\x00",
	} {
		if _, err := parseIdentityRow([]byte(b)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzRecord(f *testing.F) {
	for _, r := range []record{testRecord("", ""), testRecord("e", "v")} {
		f.Add(r.appendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err == nil && !bytes.Equal(r.appendTo(nil), b) {
			t.Errorf("%x parses, but formats to %x", b, r.appendTo(nil))
		}
	})
}

func FuzzIdentityRow(f *testing.F) {
	f.Add(identityRow{sequenced: true, number: 7}.appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseIdentityRow(b)
		if err == nil && !bytes.Equal(r.appendTo(nil), b) {
			t.Errorf("%x parses, but formats to %x", b, r.appendTo(nil))
		}
	})
}

func FuzzTile(f *testing.F) {
	f.Add(make([]byte, 3*hashSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		tl, err := parseTile(b)
		if err == nil && (!bytes.Equal(tl.hashes, b) || !tl.whole()) {
			t.Errorf("%x parses to %x", b, tl.hashes)
		}
	})
}

func TestTileRejects(t *testing.T) {
	for _, n := range []int{0, 1, 31, 33, 257 * hashSize} {
		if _, err := parseTile(make([]byte, n)); err == nil {
			t.Errorf("tile of %d bytes accepted", n)
		}
	}
	tl := newTile()
	h := bytes.Repeat([]byte{1}, hashSize)
	for _, pos := range []int{0, 2} {
		if err := tl.put(pos, h); err != nil {
			t.Fatal(err)
		}
	}
	if tl.whole() {
		t.Error("a tile with a gap is whole")
	}
	if err := tl.put(2, h); err != nil {
		t.Errorf("the same hash again: %v", err)
	}
	if err := tl.put(2, make([]byte, hashSize)); err == nil {
		t.Error("a hash was replaced")
	}
	if _, err := tl.node(2, 2); err == nil {
		t.Error("a node over a missing hash")
	}
}

// TestTileNodes compares every node of a tree with those that tiles give back.
func TestTileNodes(t *testing.T) {
	tiles := map[tileID]*tile{}
	all := map[compact.NodeID][]byte{}
	cr := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for i := range 1000 {
		leaf := rfc6962.DefaultHasher.HashLeaf([]byte{byte(i), byte(i >> 8)})
		if err := cr.Append(leaf, func(id compact.NodeID, h []byte) { all[id] = h }); err != nil {
			t.Fatal(err)
		}
	}
	for id, h := range all {
		if id.Level%8 != 0 {
			continue
		}
		tid, pos, span, err := tileOf(tree.Node{ID: id})
		if err != nil || span != 1 {
			t.Fatalf("tileOf(%v): span %d, %v", id, span, err)
		}
		if tiles[tid] == nil {
			tiles[tid] = newTile()
		}
		if err := tiles[tid].put(pos, h); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range all {
		tid, pos, span, err := tileOf(tree.Node{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tiles[tid].node(pos, span); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("node %v = %x, %v; want %x", id, got, err, want)
		}
	}
	if _, _, _, err := tileOf(tree.Node{ID: compact.NodeID{Level: 64}}); err == nil {
		t.Error("a node of level 64")
	}
}

// TestFilter: the filter never denies what was added, and mostly denies the rest.
func TestFilter(t *testing.T) {
	f := newFilter()
	rng := rand.NewChaCha8([32]byte{7})
	id := func(n uint64) []byte {
		b := make([]byte, hashSize)
		rng.Read(b)
		binary.BigEndian.PutUint64(b[24:], n)
		return b
	}
	fresh := id(0)
	if !f.mayHold(1, fresh) {
		t.Fatal("a filter that is not loaded denied something")
	}
	f.ready.Store(true)
	if f.mayHold(1, fresh) {
		t.Fatal("an empty filter holds something")
	}
	const n = 20000
	var ids [][]byte
	for i := range uint64(n) {
		ids = append(ids, id(i))
		f.add(1, ids[i])
	}
	wrong := 0
	for _, x := range ids {
		if !f.mayHold(1, x) {
			t.Fatal("the filter denies an identity that was added")
		}
		if f.mayHold(1, id(0)) {
			wrong++
		}
	}
	if wrong > n/100 {
		t.Errorf("%d of %d strangers pass the filter", wrong, n)
	}
}

func TestPrefixEnd(t *testing.T) {
	for _, c := range []struct{ in, want string }{{"a", "b"}, {"a\xff", "b"}, {"l\x00\xff\xff", "l\x01"}, {"\xff\xff", ""}} {
		if got := prefixEnd([]byte(c.in)); string(got) != c.want {
			t.Errorf("prefixEnd(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}
