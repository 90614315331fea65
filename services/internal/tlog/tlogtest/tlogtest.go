// Package tlogtest is the suite that every implementation of tlog.Log runs.
//
// It compares roots with those of golang.org/x/mod/sumdb/tlog, a Merkle tree
// implementation that shares no code with the ones under test.
package tlogtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	sumdb "golang.org/x/mod/sumdb/tlog"

	"github.com/trialog/trialog/services/internal/tlog"
)

// Opener opens the log of one place, created by its first call. Called again
// after Close it opens the same log.
type Opener func(t *testing.T) tlog.Log

// Run runs the suite. newPlace returns the opener of a new, empty place.
func Run(t *testing.T, newPlace func(t *testing.T) Opener) {
	for _, c := range []struct {
		name string
		f    func(*testing.T, Opener)
	}{
		{"Empty", testEmpty},
		{"Growth", testGrowth},
		{"Leaves", testLeaves},
		{"Gap", testGap},
		{"Repeat", testRepeat},
		{"LargeBatches", testLargeBatches},
		{"Conflicts", testConflicts},
		{"ConflictStoresNothing", testConflictStoresNothing},
		{"Invalid", testInvalid},
		{"Find", testFind},
		{"Reopen", testReopen},
		{"ReopenRepeated", testReopenRepeated},
		{"Buffers", testBuffers},
		{"Closed", testClosed},
		{"Cancelled", testCancelled},
		{"RacingAppends", testRacingAppends},
		{"RacingIdentities", testRacingIdentities},
		{"RacingRepeats", testRacingRepeats},
		{"RacingReaders", testRacingReaders},
		{"CloseWhileBusy", testCloseWhileBusy},
	} {
		t.Run(c.name, func(t *testing.T) { c.f(t, newPlace(t)) })
	}
}

// Leaf makes the leaf number n of a test. Its length varies.
func Leaf(n uint64) tlog.Leaf {
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], n)
	value := sha256.Sum256(seed[:])
	return tlog.Leaf{
		Identity: sha256.Sum256(append([]byte("identity"), seed[:]...)),
		Value:    append(seed[:], value[:n%33]...),
	}
}

// Leaves makes the leaves number first to first+n-1.
func Leaves(first uint64, n int) []tlog.Leaf {
	out := make([]tlog.Leaf, n)
	for i := range out {
		out[i] = Leaf(first + uint64(i))
	}
	return out
}

// Tree computes the roots that a log of these leaves must have.
type Tree struct {
	hashes []sumdb.Hash
	size   int64
}

// ReadHashes implements sumdb.HashReader.
func (m *Tree) ReadHashes(indexes []int64) ([]sumdb.Hash, error) {
	out := make([]sumdb.Hash, len(indexes))
	for i, x := range indexes {
		if x >= int64(len(m.hashes)) {
			return nil, fmt.Errorf("hash %d is not there", x)
		}
		out[i] = m.hashes[x]
	}
	return out, nil
}

// Add adds leaves.
func (m *Tree) Add(t testing.TB, leaves ...tlog.Leaf) {
	t.Helper()
	for _, l := range leaves {
		hs, err := sumdb.StoredHashes(m.size, l.Value, m)
		if err != nil {
			t.Fatalf("second tree: %v", err)
		}
		m.hashes = append(m.hashes, hs...)
		m.size++
	}
}

// Root returns the root at a size.
func (m *Tree) Root(t testing.TB, size uint64) tlog.Root {
	t.Helper()
	h, err := sumdb.TreeHash(int64(size), m)
	if err != nil {
		t.Fatalf("second tree: %v", err)
	}
	return tlog.Root{Size: size, Hash: h}
}

// CheckWhole reads every leaf that l holds, computes the root over the integrated
// ones anew, compares all with want, and looks identities up: about a thousand,
// and all of the last hundred.
func CheckWhole(t testing.TB, l tlog.Log, want []tlog.Leaf) {
	t.Helper()
	ctx := context.Background()
	var got []tlog.Leaf
	for {
		part, err := l.Leaves(ctx, uint64(len(got)), 1000)
		if err != nil {
			t.Fatalf("Leaves(%d, 1000): %v", len(got), err)
		}
		if len(part) == 0 {
			break
		}
		got = append(got, part...)
	}
	if len(got) != len(want) {
		t.Fatalf("the log holds %d leaves, want %d", len(got), len(want))
	}
	var m Tree
	for i, leaf := range want {
		checkLeaf(t, uint64(i), got[i], leaf)
		m.Add(t, got[i])
		if i%(len(got)/1000+1) != 0 && i < len(got)-100 {
			continue
		}
		index, found, err := l.Find(ctx, got[i].Identity)
		if err != nil || !found || index != uint64(i) {
			t.Fatalf("Find(identity of leaf %d) = %d, %v, %v", i, index, found, err)
		}
	}
	root := mustRoot(t, l)
	if root.Size > uint64(len(got)) {
		t.Fatalf("root of size %d over %d stored leaves", root.Size, len(got))
	}
	if want := m.Root(t, root.Size); root != want {
		t.Fatalf("Root() = %d %x, the leaves give %x", root.Size, root.Hash, want.Hash)
	}
}

func checkLeaf(t testing.TB, index uint64, got, want tlog.Leaf) {
	t.Helper()
	if got.Identity != want.Identity || !bytes.Equal(got.Value, want.Value) {
		t.Fatalf("leaf %d is {%x, %x}, want {%x, %x}", index, got.Identity, got.Value, want.Identity, want.Value)
	}
}

func mustRoot(t testing.TB, l tlog.Log) tlog.Root {
	t.Helper()
	root, err := l.Root(context.Background())
	if err != nil {
		t.Fatalf("Root: %v", err)
	}
	return root
}

func mustAppend(t testing.TB, l tlog.Log, first uint64, leaves []tlog.Leaf) {
	t.Helper()
	if err := l.Append(context.Background(), first, leaves); err != nil {
		t.Fatalf("Append(%d, %d leaves): %v", first, len(leaves), err)
	}
}

func mustIntegrate(t testing.TB, l tlog.Log, wantSize uint64) tlog.Root {
	t.Helper()
	root, err := l.Integrate(context.Background())
	if err != nil {
		t.Fatalf("Integrate: %v", err)
	}
	if root.Size != wantSize {
		t.Fatalf("Integrate: size %d, want %d", root.Size, wantSize)
	}
	if got := mustRoot(t, l); got != root {
		t.Fatalf("Root() = %v after Integrate() = %v", got, root)
	}
	return root
}

func mustClose(t testing.TB, l tlog.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// openFor opens the log for the length of the test.
func openFor(t *testing.T, open Opener) tlog.Log {
	t.Helper()
	l := open(t)
	t.Cleanup(func() { mustClose(t, l) })
	return l
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: error %v, want %v", what, err, want)
	}
}
