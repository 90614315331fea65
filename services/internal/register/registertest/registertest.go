// Package registertest is the suite that every back end of a register passes, and
// servers to pass it on.
package registertest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/trialog/trialog/services/internal/register"
)

// Origin is that of the suite's records.
const Origin = "log.test/trials/1"

// Record returns an open record of a size; its root depends on the size.
func Record(size uint64) register.Record {
	return register.Record{Origin: Origin, Size: size, Root: [32]byte{byte(size), byte(size >> 8), 0xab}}
}

func changed(r register.Record, change func(*register.Record)) register.Record {
	change(&r)
	return r
}

// Opener opens the register of one shard, each time the same one, in which the
// suite has not written yet. Back ends with an owner's lock return one handle
// each time.
type Opener func(t *testing.T) register.Register

// Run runs the suite. fresh makes a place for a register of its own.
func Run(t *testing.T, fresh func(t *testing.T) Opener) {
	t.Run("Life", func(t *testing.T) { testLife(t, fresh(t)) })
	t.Run("SwapRefused", func(t *testing.T) { testSwapRefused(t, fresh(t)) })
	t.Run("Sealed", func(t *testing.T) { testSealed(t, fresh(t)) })
	t.Run("OneCreates", func(t *testing.T) { testOneCreates(t, fresh(t)) })
	t.Run("OneSwaps", func(t *testing.T) { testOneSwaps(t, fresh(t)) })
	t.Run("Cancelled", func(t *testing.T) { testCancelled(t, fresh(t)) })
}

// Holds checks what a register holds.
func Holds(t *testing.T, r register.Register, want register.Record) {
	t.Helper()
	if got, err := r.Read(context.Background()); err != nil || got != want {
		t.Errorf("the register holds %+v, %v; expected %+v", got, err, want)
	}
}

func testLife(t *testing.T, open Opener) {
	ctx, r := context.Background(), open(t)
	if _, err := r.Read(ctx); !errors.Is(err, register.ErrMissing) {
		t.Errorf("read before it was made: %v", err)
	}
	if err := r.Swap(ctx, Record(0), Record(1)); !errors.Is(err, register.ErrMissing) {
		t.Errorf("swap before it was made: %v", err)
	}
	if _, err := r.Read(ctx); !errors.Is(err, register.ErrMissing) {
		t.Errorf("a swap made it: %v", err)
	}
	if err := r.Create(ctx, Record(0)); err != nil {
		t.Fatal(err)
	}
	if err := r.Create(ctx, Record(9)); !errors.Is(err, register.ErrExists) {
		t.Errorf("made twice: %v", err)
	}
	if err := r.Create(ctx, Record(0)); !errors.Is(err, register.ErrExists) {
		t.Errorf("made twice with the same record: %v", err)
	}
	Holds(t, r, Record(0))
	for _, to := range []register.Record{Record(5), Record(5), Record(300)} {
		old, err := r.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Swap(ctx, old, to); err != nil {
			t.Errorf("swap for size %d: %v", to.Size, err)
		}
		Holds(t, r, to)
		Holds(t, open(t), to)
	}
}

func testSwapRefused(t *testing.T, open Opener) {
	ctx, r := context.Background(), open(t)
	now := Record(5)
	if err := r.Create(ctx, now); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name      string
		old, next register.Record
		want      error
	}{
		{"another size", Record(4), Record(6), register.ErrConflict},
		{"another root", changed(now, func(r *register.Record) { r.Root[9]++ }), Record(6), register.ErrConflict},
		{"another origin", changed(now, func(r *register.Record) { r.Origin += "0" }), Record(6), register.ErrConflict},
		{"not sealed", changed(now, func(r *register.Record) { r.Sealed = true }), Record(6), register.ErrConflict},
		{"what should come next", Record(6), Record(6), register.ErrConflict},
		{"back", now, Record(4), register.ErrBackwards},
		{"other root, same size", now, changed(now, func(r *register.Record) { r.Root[9]++ }), register.ErrBackwards},
		{"to another origin", now, changed(Record(6), func(r *register.Record) { r.Origin += "0" }), register.ErrBackwards},
		{"unreadable origin", now, changed(now, func(r *register.Record) { r.Origin = "a\nb" }), register.ErrBackwards},
		{"too large", now, changed(now, func(r *register.Record) { r.Size = 1 << 63 }), register.ErrCorrupt},
	} {
		if err := r.Swap(ctx, tt.old, tt.next); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, expected %v", tt.name, err, tt.want)
		}
		Holds(t, r, now)
	}
	if err := r.Swap(ctx, now, Record(6)); err != nil {
		t.Errorf("after refusals: %v", err)
	}
}

func testSealed(t *testing.T, open Opener) {
	ctx, r := context.Background(), open(t)
	now := Record(5)
	if err := r.Create(ctx, now); err != nil {
		t.Fatal(err)
	}
	sealed := changed(now, func(r *register.Record) { r.Sealed = true })
	if err := r.Swap(ctx, now, sealed); err != nil {
		t.Fatal(err)
	}
	for _, next := range []register.Record{now, Record(6), changed(sealed, func(r *register.Record) { r.Size++ })} {
		if err := r.Swap(ctx, sealed, next); !errors.Is(err, register.ErrBackwards) {
			t.Errorf("a sealed register goes on to %+v: %v", next, err)
		}
	}
	if err := r.Swap(ctx, sealed, sealed); err != nil {
		t.Errorf("a sealed register swapped for itself: %v", err)
	}
	Holds(t, r, sealed)
}

const (
	racers = 20
	rounds = 25
)

func openMany(t *testing.T, open Opener) []register.Register {
	t.Helper()
	handles := make([]register.Register, racers)
	for i := range handles {
		handles[i] = open(t)
	}
	return handles
}

// race lets many act at once and returns who got no error. lost is the only
// error that the others may get.
func race(t *testing.T, handles []register.Register, lost error, act func(r register.Register, who int) error) []int {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var won []int
	start := make(chan struct{})
	for who, r := range handles {
		wg.Go(func() {
			<-start
			err := act(r, who)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won = append(won, who)
			case !errors.Is(err, lost):
				t.Errorf("racer %d: %v, expected %v", who, err, lost)
			}
		})
	}
	close(start)
	wg.Wait()
	return won
}

func testOneCreates(t *testing.T, open Opener) {
	won := race(t, openMany(t, open), register.ErrExists, func(r register.Register, who int) error {
		return r.Create(context.Background(), Record(uint64(who)))
	})
	if len(won) != 1 {
		t.Fatalf("%d of %d made the register", len(won), racers)
	}
	Holds(t, open(t), Record(uint64(won[0])))
}

// testOneSwaps: of many swaps of one record exactly one takes effect, and it is
// the one that was told so.
func testOneSwaps(t *testing.T, open Opener) {
	now := Record(0)
	if err := open(t).Create(context.Background(), now); err != nil {
		t.Fatal(err)
	}
	handles := openMany(t, open)
	for round := range rounds {
		next := func(who int) register.Record { return Record(now.Size + uint64(who) + 1) }
		won := race(t, handles, register.ErrConflict, func(r register.Register, who int) error {
			return r.Swap(context.Background(), now, next(who))
		})
		if len(won) != 1 {
			t.Fatalf("round %d: %d of %d swaps of one record succeeded", round, len(won), racers)
		}
		Holds(t, handles[0], next(won[0]))
		now = next(won[0])
	}
}

// testCancelled: a call whose context has ended leaves the old record or the new
// one, and a read tells which.
func testCancelled(t *testing.T, open Opener) {
	ctx, cancel := context.WithCancel(context.Background())
	r := open(t)
	if err := r.Create(ctx, Record(1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = r.Swap(ctx, Record(1), Record(2))
	got, err := r.Read(context.Background())
	if err != nil || got != Record(1) && got != Record(2) {
		t.Errorf("a swap that was given up left %+v, %v", got, err)
	}
	if err := r.Swap(context.Background(), got, Record(3)); err != nil {
		t.Errorf("the next swap: %v", err)
	}
}
