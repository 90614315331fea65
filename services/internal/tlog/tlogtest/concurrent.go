package tlogtest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/trialog/trialog/services/internal/tlog"
)

// testRacingAppends lets writers fight for each index; one of them must win it.
func testRacingAppends(t *testing.T, open Opener) {
	ctx := context.Background()
	l := openFor(t, open)
	const writers, rounds, width = 6, 20, 5
	var all []tlog.Leaf
	for round := range uint64(rounds) {
		first := round * width
		var wg sync.WaitGroup
		var mu sync.Mutex
		var winners [][]tlog.Leaf
		for w := range uint64(writers) {
			wg.Go(func() {
				leaves := Leaves(1000*(round*writers+w), width)
				err := l.Append(ctx, first, leaves)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					winners = append(winners, leaves)
				case !errors.Is(err, tlog.ErrConflict):
					t.Errorf("Append: %v", err)
				}
			})
		}
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("round %d: %d of %d writers were told that they hold index %d", round, len(winners), writers, first)
		}
		all = append(all, winners[0]...)
	}
	mustIntegrate(t, l, rounds*width)
	CheckWhole(t, l, all)
}

// testRacingIdentities lets writers store the same identity at different indexes.
func testRacingIdentities(t *testing.T, open Opener) {
	ctx := context.Background()
	l := openFor(t, open)
	for round := range uint64(20) {
		leaf := Leaf(round)
		var won atomic.Int64
		var wg sync.WaitGroup
		for w := range uint64(6) {
			wg.Go(func() {
				err := l.Append(ctx, 1000*w+round, []tlog.Leaf{leaf})
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, tlog.ErrConflict) {
					t.Errorf("Append: %v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("round %d: %d writers stored one identity", round, won.Load())
		}
	}
}

// testRacingRepeats lets writers store the same leaves at the same indexes: all of
// them succeed, and the leaves are there once.
func testRacingRepeats(t *testing.T, open Opener) {
	ctx := context.Background()
	l := openFor(t, open)
	const rounds, width = 10, 20
	all := Leaves(0, rounds*width)
	for round := range uint64(rounds) {
		var wg sync.WaitGroup
		for w := range uint64(4) {
			wg.Go(func() {
				// Each begins a little earlier than the one before.
				first := max(round*width, 3*w) - 3*w
				if err := l.Append(ctx, first, all[first:(round+1)*width]); err != nil {
					t.Errorf("Append: %v", err)
				}
			})
		}
		wg.Wait()
		mustIntegrate(t, l, (round+1)*width)
	}
	CheckWhole(t, l, all)
}

// testRacingReaders reads, looks up and proves while the log grows.
func testRacingReaders(t *testing.T, open Opener) {
	ctx := context.Background()
	l := openFor(t, open)
	const batches, width = 40, 37
	all := Leaves(0, batches*width)
	var m Tree
	m.Add(t, all...)
	var appended atomic.Uint64
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	writers.Go(func() {
		for b := range uint64(batches) {
			if err := l.Append(ctx, b*width, all[b*width:(b+1)*width]); err != nil {
				t.Errorf("Append: %v", err)
				return
			}
			appended.Store((b + 1) * width)
		}
	})
	for range 2 {
		writers.Go(func() {
			for before := uint64(0); before < batches*width && !t.Failed(); {
				least := appended.Load()
				root, err := l.Integrate(ctx)
				if err != nil || root.Size < max(least, before) || root != m.Root(t, root.Size) {
					t.Errorf("Integrate: %v, %v; at least size %d", root, err, max(least, before))
				}
				before = root.Size
			}
		})
	}
	for r := range uint64(3) {
		readers.Go(func() {
			for i := r; ; i += 7 {
				select {
				case <-done:
					return
				default:
				}
				readSome(t, l, all, &m, i)
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	CheckWhole(t, l, all)
}

func readSome(t *testing.T, l tlog.Log, all []tlog.Leaf, m *Tree, i uint64) {
	ctx := context.Background()
	size := mustRootOf(t, l)
	if size == 0 {
		return
	}
	at := i % size
	got, err := l.Leaves(ctx, at, 50)
	if err != nil || len(got) == 0 {
		t.Errorf("Leaves(%d, 50) = %d leaves, %v", at, len(got), err)
		return
	}
	if got[0].Identity != all[at].Identity {
		t.Errorf("leaf %d is another one", at)
	}
	if h, err := l.RootAt(ctx, at); err != nil || h != m.Root(t, at).Hash {
		t.Errorf("RootAt(%d) = %x, %v", at, h, err)
	}
	if index, found, err := l.Find(ctx, all[at].Identity); err != nil || !found || index != at {
		t.Errorf("Find(identity of leaf %d) = %d, %v, %v", at, index, found, err)
	}
}

func mustRootOf(t *testing.T, l tlog.Log) uint64 {
	root, err := l.Root(context.Background())
	if err != nil {
		t.Errorf("Root: %v", err)
	}
	return root.Size
}

// testCloseWhileBusy closes in the middle of work. What was acknowledged must be
// there when the log is opened again, and no call may fail with another error
// than ErrClosed.
func testCloseWhileBusy(t *testing.T, open Opener) {
	ctx := context.Background()
	l := open(t)
	const width = 10
	var acked, reads atomic.Uint64
	var wg sync.WaitGroup
	busy := make(chan struct{})
	wg.Go(func() {
		for n := uint64(0); ; n += width {
			if err := l.Append(ctx, n, Leaves(n, width)); err != nil {
				wantClosed(t, "Append", err)
				return
			}
			if acked.Add(width) == 10*width {
				close(busy)
			}
		}
	})
	wg.Go(func() {
		for {
			if _, err := l.Integrate(ctx); err != nil {
				wantClosed(t, "Integrate", err)
				return
			}
		}
	})
	wg.Go(func() {
		for {
			if _, err := l.Leaves(ctx, 0, 100); err != nil {
				wantClosed(t, "Leaves", err)
				return
			}
			reads.Add(1)
		}
	})
	<-busy
	mustClose(t, l)
	wg.Wait()

	l = openFor(t, open)
	size := acked.Load()
	mustIntegrate(t, l, size)
	CheckWhole(t, l, Leaves(0, int(size)))
}

func wantClosed(t *testing.T, what string, err error) {
	if !errors.Is(err, tlog.ErrClosed) {
		t.Errorf("%s while closing: %v", what, err)
	}
}
