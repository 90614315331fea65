package tlogtest

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"

	"github.com/trialog/trialog/services/internal/tlog"
)

func testEmpty(t *testing.T, open Opener) {
	ctx := context.Background()
	l := openFor(t, open)
	if got := mustRoot(t, l); got != tlog.EmptyRoot() {
		t.Errorf("Root() = %v, want that of the empty log", got)
	}
	mustIntegrate(t, l, 0)
	if h, err := l.RootAt(ctx, 0); err != nil || h != tlog.EmptyRoot().Hash {
		t.Errorf("RootAt(0) = %x, %v", h, err)
	}
	if ls, err := l.Leaves(ctx, 0, 10); err != nil || len(ls) != 0 {
		t.Errorf("Leaves(0, 10) = %v, %v", ls, err)
	}
	if _, found, err := l.Find(ctx, [32]byte{1}); err != nil || found {
		t.Errorf("Find = %v, %v", found, err)
	}
	if err := l.Append(ctx, 7, nil); err != nil {
		t.Errorf("appending nothing: %v", err)
	}
	mustIntegrate(t, l, 0)
}

// testGrowth appends batches of all kinds of sizes, across the widths of tiles,
// and compares every root with the second implementation.
func testGrowth(t *testing.T, open Opener) {
	ctx := context.Background()
	l := openFor(t, open)
	var m Tree
	var size uint64
	for _, n := range []int{1, 1, 2, 3, 120, 128, 1, 255, 256, 257, 511, 1, 300} {
		leaves := Leaves(size, n)
		mustAppend(t, l, size, leaves)
		if got := mustRoot(t, l); got.Size != size {
			t.Fatalf("size %d before Integrate, want %d", got.Size, size)
		}
		m.Add(t, leaves...)
		size += uint64(n)
		if got, want := mustIntegrate(t, l, size), m.Root(t, size); got != want {
			t.Fatalf("Integrate() = %d %x, want %x", got.Size, got.Hash, want.Hash)
		}
	}
	for s := uint64(0); s <= size; s++ {
		h, err := l.RootAt(ctx, s)
		if err != nil || h != m.Root(t, s).Hash {
			t.Fatalf("RootAt(%d) = %x, %v; want %x", s, h, err, m.Root(t, s).Hash)
		}
	}
	_, err := l.RootAt(ctx, size+1)
	wantErr(t, "RootAt beyond the size", err, tlog.ErrRange)
	CheckWhole(t, l, Leaves(0, int(size)))
}

func testLeaves(t *testing.T, open Opener) {
	ctx := context.Background()
	l := openFor(t, open)
	const stored, integrated = 700, 520
	all := Leaves(0, stored)
	mustAppend(t, l, 0, all[:integrated])
	mustIntegrate(t, l, integrated)
	mustAppend(t, l, integrated, all[integrated:])
	for _, c := range []struct{ first, n, want int }{
		{0, 0, 0},
		{0, 1, 1},
		{0, 256, 256},
		{1, 255, 255},
		{255, 2, 2},
		{256, 1, 1},
		{511, 9, 9},
		{519, 1, 1},
		{519, 2, 2},
		{520, 1, 1},
		{0, 700, 700},
		{0, 5000, 700},
		{699, 5, 1},
		{700, 5, 0},
		{9000, 5, 0},
	} {
		got, err := l.Leaves(ctx, uint64(c.first), c.n)
		if err != nil || len(got) != c.want {
			t.Fatalf("Leaves(%d, %d): %d leaves, %v; want %d", c.first, c.n, len(got), err, c.want)
		}
		for i := range got {
			checkLeaf(t, uint64(c.first+i), got[i], all[c.first+i])
		}
	}
	if got, err := l.Leaves(ctx, tlog.MaxSize, 3); err != nil || len(got) != 0 {
		t.Errorf("Leaves at the greatest size: %v, %v", got, err)
	}
}

func testGap(t *testing.T, open Opener) {
	ctx := context.Background()
	l := openFor(t, open)
	all := Leaves(0, 60)
	mustAppend(t, l, 0, all[:10])
	mustAppend(t, l, 40, all[40:]) // behind a gap of 30
	mustIntegrate(t, l, 10)
	if got, err := l.Leaves(ctx, 0, 100); err != nil || len(got) != 10 {
		t.Fatalf("Leaves before the gap: %d, %v; want 10", len(got), err)
	}
	if got, err := l.Leaves(ctx, 40, 100); err != nil || len(got) != 20 {
		t.Fatalf("Leaves behind the gap: %d, %v; want 20", len(got), err)
	}
	mustAppend(t, l, 20, all[20:40])
	mustIntegrate(t, l, 10)
	mustAppend(t, l, 10, all[10:20])
	var m Tree
	m.Add(t, all...)
	if got := mustIntegrate(t, l, 60); got != m.Root(t, 60) {
		t.Fatalf("root after the gap was filled: %x, want %x", got.Hash, m.Root(t, 60).Hash)
	}
	CheckWhole(t, l, all)
}

// testRepeat repeats appends in whole, in part and overlapping.
func testRepeat(t *testing.T, open Opener) {
	l := openFor(t, open)
	all := Leaves(0, 50)
	mustAppend(t, l, 0, all[:20])
	mustAppend(t, l, 0, all[:20])
	mustIntegrate(t, l, 20)
	mustAppend(t, l, 0, all[:20])
	mustAppend(t, l, 5, all[5:7])
	mustAppend(t, l, 10, all[10:30]) // half old, half new
	mustAppend(t, l, 40, all[40:])
	mustAppend(t, l, 25, all[25:45]) // old, new, old
	mustAppend(t, l, 0, all)
	mustIntegrate(t, l, 50)
	CheckWhole(t, l, all)
}

// testLargeBatches appends more at once than is integrated at once, and values of
// the greatest length, and repeats the whole but for one leaf.
func testLargeBatches(t *testing.T, open Opener) {
	l := openFor(t, open)
	all := Leaves(0, 9000)
	for i := range 20 {
		all[i*100].Value = bytes.Repeat([]byte{byte(i)}, tlog.MaxValue)
	}
	mustAppend(t, l, 0, all[:8999])
	mustAppend(t, l, 0, all)
	mustIntegrate(t, l, 9000)
	CheckWhole(t, l, all)
}

func testConflicts(t *testing.T, open Opener) {
	ctx := context.Background()
	l := openFor(t, open)
	all := Leaves(0, 10)
	mustAppend(t, l, 0, all)
	check := func(what string, first uint64, leaves []tlog.Leaf, want tlog.ConflictError) {
		t.Helper()
		err := l.Append(ctx, first, leaves)
		wantErr(t, what, err, tlog.ErrConflict)
		var c *tlog.ConflictError
		if !errors.As(err, &c) || *c != want {
			t.Fatalf("%s: %+v, want %+v", what, c, want)
		}
		if errors.Is(err, tlog.ErrUnknownOutcome) {
			t.Fatalf("%s: the outcome is known: %v", what, err)
		}
	}
	for _, state := range []string{"stored", "integrated"} {
		other, otherValue, otherIdentity := Leaf(100), all[3], all[3]
		otherValue.Value = []byte("other")
		otherIdentity.Identity = [32]byte{9}
		check(state+": another leaf", 3, []tlog.Leaf{other}, tlog.ConflictError{Index: 3, Identity: other.Identity})
		check(state+": another value", 3, []tlog.Leaf{otherValue}, tlog.ConflictError{Index: 3, Identity: all[3].Identity})
		check(state+": another identity", 3, []tlog.Leaf{otherIdentity}, tlog.ConflictError{Index: 3, Identity: otherIdentity.Identity})
		check(state+": identity elsewhere", 10, []tlog.Leaf{all[3]},
			tlog.ConflictError{Index: 10, Identity: all[3].Identity, IdentityHeld: true, HeldAt: 3})
		check(state+": identity elsewhere, behind a gap", 90, []tlog.Leaf{other, all[4]},
			tlog.ConflictError{Index: 91, Identity: all[4].Identity, IdentityHeld: true, HeldAt: 4})
		check(state+": within the batch", 10, []tlog.Leaf{other, Leaf(101), other},
			tlog.ConflictError{Index: 12, Identity: other.Identity, IdentityHeld: true, HeldAt: 10})
		check(state+": shifted by one", 1, all[:9],
			tlog.ConflictError{Index: 1, Identity: all[0].Identity, IdentityHeld: true, HeldAt: 0})
		mustIntegrate(t, l, 10)
	}
	CheckWhole(t, l, all)
}

// testConflictStoresNothing checks that a refused batch leaves neither leaves nor
// claimed identities behind.
func testConflictStoresNothing(t *testing.T, open Opener) {
	ctx := context.Background()
	l := openFor(t, open)
	all := Leaves(0, 10)
	mustAppend(t, l, 0, all[:5])
	bad := append(Leaves(5, 4), all[2]) // the last is held at 2
	wantErr(t, "batch with one conflict", l.Append(ctx, 5, bad), tlog.ErrConflict)
	wantErr(t, "batch that starts with a conflict", l.Append(ctx, 4, append([]tlog.Leaf{Leaf(77)}, all[5:]...)), tlog.ErrConflict)
	if got, err := l.Leaves(ctx, 5, 10); err != nil || len(got) != 0 {
		t.Fatalf("after refused batches: %d leaves, %v; want none", len(got), err)
	}
	for _, leaf := range append(Leaves(5, 5), Leaf(77)) {
		if at, found, err := l.Find(ctx, leaf.Identity); err != nil || found {
			t.Fatalf("after refused batches: identity found at %d, %v", at, err)
		}
	}
	mustIntegrate(t, l, 5)
	mustAppend(t, l, 5, all[5:])
	mustIntegrate(t, l, 10)
	CheckWhole(t, l, all)
}

func testInvalid(t *testing.T, open Opener) {
	ctx := context.Background()
	l := openFor(t, open)
	big := Leaf(0)
	big.Value = make([]byte, tlog.MaxValue+1)
	wantErr(t, "too long a value", l.Append(ctx, 0, []tlog.Leaf{big}), tlog.ErrInvalid)
	wantErr(t, "index too great", l.Append(ctx, math.MaxUint64, Leaves(0, 1)), tlog.ErrInvalid)
	wantErr(t, "last index too great", l.Append(ctx, tlog.MaxSize-1, Leaves(0, 2)), tlog.ErrInvalid)
	_, err := l.Leaves(ctx, 0, -1)
	wantErr(t, "negative count", err, tlog.ErrInvalid)
	_, err = l.Leaves(ctx, math.MaxUint64, 1)
	wantErr(t, "first index too great", err, tlog.ErrInvalid)

	big.Value = make([]byte, tlog.MaxValue)
	empty := tlog.Leaf{Identity: [32]byte{1}}
	mustAppend(t, l, 0, []tlog.Leaf{big, empty})
	mustIntegrate(t, l, 2)
	CheckWhole(t, l, []tlog.Leaf{big, empty})
}

func testFind(t *testing.T, open Opener) {
	ctx := context.Background()
	l := openFor(t, open)
	all := Leaves(0, 600)
	mustAppend(t, l, 0, all[:300])
	mustAppend(t, l, 400, all[400:])
	mustIntegrate(t, l, 300)
	for i := range all {
		at, found, err := l.Find(ctx, all[i].Identity)
		stored := i < 300 || i >= 400
		if err != nil || found != stored || found && at != uint64(i) {
			t.Fatalf("Find(identity of leaf %d) = %d, %v, %v", i, at, found, err)
		}
	}
	near := all[0].Identity
	near[31] ^= 1
	if _, found, err := l.Find(ctx, near); err != nil || found {
		t.Fatalf("Find of an identity that differs in its last bit: %v, %v", found, err)
	}
}

func testReopen(t *testing.T, open Opener) {
	ctx := context.Background()
	l := open(t)
	all := Leaves(0, 700)
	mustAppend(t, l, 0, all[:300])
	root := mustIntegrate(t, l, 300)
	mustAppend(t, l, 300, all[300:600])
	mustAppend(t, l, 650, all[650:])
	mustClose(t, l)

	l = openFor(t, open)
	if got := mustRoot(t, l); got != root {
		t.Fatalf("Root() after opening again = %v, want %v", got, root)
	}
	CheckWhole(t, l, all[:600])
	if at, found, err := l.Find(ctx, all[699].Identity); err != nil || !found || at != 699 {
		t.Fatalf("Find behind the gap after opening again = %d, %v, %v", at, found, err)
	}
	mustIntegrate(t, l, 600)
	mustAppend(t, l, 550, all[550:650])
	mustIntegrate(t, l, 700)
	CheckWhole(t, l, all)
}

// testReopenRepeated opens again after every step of a growing log.
func testReopenRepeated(t *testing.T, open Opener) {
	var size uint64
	for _, n := range []int{1, 254, 1, 1, 255, 3} {
		l := open(t)
		if got := mustRoot(t, l).Size; got != size {
			t.Fatalf("size %d after opening again, want %d", got, size)
		}
		mustAppend(t, l, size, Leaves(size, n))
		size += uint64(n)
		mustIntegrate(t, l, size)
		mustClose(t, l)
	}
	CheckWhole(t, openFor(t, open), Leaves(0, int(size)))
}

// testBuffers checks that neither side keeps the other's memory.
func testBuffers(t *testing.T, open Opener) {
	ctx := context.Background()
	l := openFor(t, open)
	all := Leaves(0, 3)
	mine := Leaves(0, 3)
	mustAppend(t, l, 0, mine)
	for i := range mine {
		clear(mine[i].Value)
		mine[i].Identity = [32]byte{}
	}
	mustIntegrate(t, l, 3)
	got, err := l.Leaves(ctx, 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		checkLeaf(t, uint64(i), got[i], all[i])
		clear(got[i].Value)
	}
	CheckWhole(t, l, all)
}

func testClosed(t *testing.T, open Opener) {
	ctx := context.Background()
	l := open(t)
	mustAppend(t, l, 0, Leaves(0, 2))
	mustClose(t, l)
	mustClose(t, l)
	wantErr(t, "Append", l.Append(ctx, 2, Leaves(2, 1)), tlog.ErrClosed)
	_, err := l.Integrate(ctx)
	wantErr(t, "Integrate", err, tlog.ErrClosed)
	_, err = l.Root(ctx)
	wantErr(t, "Root", err, tlog.ErrClosed)
	_, err = l.RootAt(ctx, 0)
	wantErr(t, "RootAt", err, tlog.ErrClosed)
	_, err = l.Leaves(ctx, 0, 1)
	wantErr(t, "Leaves", err, tlog.ErrClosed)
	_, _, err = l.Find(ctx, [32]byte{})
	wantErr(t, "Find", err, tlog.ErrClosed)
}

func testCancelled(t *testing.T, open Opener) {
	l := openFor(t, open)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	wantErr(t, "Append", l.Append(ctx, 0, Leaves(0, 2)), context.Canceled)
	_, err := l.Integrate(ctx)
	wantErr(t, "Integrate", err, context.Canceled)
	_, err = l.Leaves(ctx, 0, 1)
	wantErr(t, "Leaves", err, context.Canceled)
	mustIntegrate(t, l, 0)
	CheckWhole(t, l, nil)
}
