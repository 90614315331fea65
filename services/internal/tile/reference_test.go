package tile_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	apitile "github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// entryAt returns the entry that every test stores at index: its length and
// content depend on the index alone, some are empty.
func entryAt(index uint64) []byte {
	rng := rand.New(rand.NewPCG(index, 1))
	e := make([]byte, rng.IntN(40))
	for i := range e {
		e[i] = byte(rng.Uint32())
	}
	if len(e) >= 8 {
		binary.BigEndian.PutUint64(e, index)
	}
	return e
}

func entriesFrom(first uint64, n int) [][]byte {
	entries := make([][]byte, n)
	for i := range entries {
		entries[i] = entryAt(first + uint64(i))
	}
	return entries
}

// bundleOf returns entries as the bytes of a bundle.
func bundleOf(t testing.TB, entries [][]byte) []byte {
	t.Helper()
	var data []byte
	for _, e := range entries {
		var err error
		if data, err = apitile.AppendEntry(data, e); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// reference is the log as golang.org/x/mod/sumdb/tlog sees it, which shares no
// code with the package under test.
type reference struct{ hashes []tlog.Hash }

func newReference(t testing.TB, size uint64) *reference {
	t.Helper()
	r := &reference{}
	for i := range size {
		stored, err := tlog.StoredHashes(int64(i), entryAt(i), r)
		if err != nil {
			t.Fatalf("reference: %v", err)
		}
		r.hashes = append(r.hashes, stored...)
	}
	return r
}

// ReadHashes implements tlog.HashReader.
func (r *reference) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x >= int64(len(r.hashes)) {
			return nil, fmt.Errorf("no stored hash %d", x)
		}
		out[i] = r.hashes[x]
	}
	return out, nil
}

func (r *reference) root(t testing.TB, size uint64) [32]byte {
	t.Helper()
	if size == 0 {
		return tile.EmptyRoot() // tlog has no empty tree
	}
	h, err := tlog.TreeHash(int64(size), r)
	if err != nil {
		t.Fatalf("reference: %v", err)
	}
	return h
}

func (r *reference) inclusion(t testing.TB, index, size uint64) [][32]byte {
	t.Helper()
	p, err := tlog.ProveRecord(int64(size), int64(index), r)
	if err != nil {
		t.Fatalf("reference: %v", err)
	}
	return plain(p)
}

func (r *reference) consistency(t testing.TB, m, n uint64) [][32]byte {
	t.Helper()
	p, err := tlog.ProveTree(int64(n), int64(m), r)
	if err != nil {
		t.Fatalf("reference: %v", err)
	}
	return plain(p)
}

func plain(hashes []tlog.Hash) [][32]byte {
	out := make([][32]byte, len(hashes))
	for i, h := range hashes {
		out[i] = h
	}
	return out
}

// build stores a log of the given size in batches of irregular length.
func build(t testing.TB, store blob.Store, size uint64) *tile.Writer {
	t.Helper()
	w := open(t, store)
	rng := rand.New(rand.NewPCG(size, 2))
	for w.Size() < size {
		n := min(size-w.Size(), uint64(1+rng.IntN(700)))
		if _, err := w.Append(t.Context(), entriesFrom(w.Size(), int(n))); err != nil {
			t.Fatalf("append: %v", err)
		}
	}
	return w
}

func open(t testing.TB, store blob.Store) *tile.Writer {
	t.Helper()
	w, err := tile.OpenWriter(t.Context(), store)
	if err != nil {
		t.Fatalf("open writer: %v", err)
	}
	return w
}
