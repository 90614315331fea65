package trillian_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/tlogtest"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
)

// faultyFS is a memory file system whose write-ahead log fails when armed.
type faultyFS struct {
	mem   *vfs.MemFS
	armed atomic.Pointer[errorfs.OpKind]
}

func newFaultyFS() *faultyFS { return &faultyFS{mem: vfs.NewCrashableMem()} }

func (f *faultyFS) fs() vfs.FS {
	return errorfs.Wrap(f.mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if kind := f.armed.Load(); kind != nil && op.Kind == *kind && strings.HasSuffix(op.Path, ".log") {
			return errorfs.ErrInjected
		}
		return nil
	}))
}

// crash returns what is on the disk: only what was synced, or all that was written.
func (f *faultyFS) crash(persisted bool) vfs.FS {
	cfg := vfs.CrashCloneCfg{}
	if persisted {
		cfg = vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))}
	}
	return f.mem.CrashClone(cfg)
}

// TestWriteFails fails each durable write of the log, once so that it is not on
// the disk afterwards and once so that it is.
func TestWriteFails(t *testing.T) {
	ctx := context.Background()
	all := tlogtest.Leaves(0, 600)
	prepare := func(t *testing.T, l *trillian.Log) {
		t.Helper()
		if err := l.Append(ctx, 0, all[:300]); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Integrate(ctx); err != nil {
			t.Fatal(err)
		}
		if err := l.Append(ctx, 300, all[300:350]); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range []struct {
		name                         string
		write                        func(*trillian.Log) error
		leaves, size                 int // when the write is lost
		persistedLeaves, persistedAt int // when it is not
	}{
		{"Append", func(l *trillian.Log) error { return l.Append(ctx, 350, all[350:]) }, 350, 300, 600, 300},
		{"Integrate", func(l *trillian.Log) error { _, err := l.Integrate(ctx); return err }, 350, 300, 350, 350},
	} {
		for _, op := range []errorfs.OpKind{errorfs.OpFileSyncData, errorfs.OpFileWrite} {
			for _, persisted := range []bool{false, true} {
				if persisted && op == errorfs.OpFileWrite {
					continue // what was not written cannot persist
				}
				name := w.name + "/" + map[errorfs.OpKind]string{
					errorfs.OpFileSyncData: "Sync", errorfs.OpFileWrite: "Write",
				}[op] + map[bool]string{false: "Failed", true: "FailedButPersisted"}[persisted]
				t.Run(name, func(t *testing.T) {
					f := newFaultyFS()
					l := mustOpen(t, f.fs(), "store", nil)
					prepare(t, l)
					f.armed.Store(&op)
					err := w.write(l)
					if !errors.Is(err, tlog.ErrUnknownOutcome) || !errors.Is(err, tlog.ErrFailed) {
						t.Fatalf("error %v, want ErrUnknownOutcome and ErrFailed", err)
					}
					checkRefusesAll(t, l, all)
					disk := f.crash(persisted)
					f.armed.Store(nil)
					l.Close() // it has failed, and may say so again

					leaves, size := w.leaves, w.size
					if persisted {
						leaves, size = w.persistedLeaves, w.persistedAt
					}
					checkReopened(t, disk, all, leaves, size)
				})
			}
		}
	}
}

// checkRefusesAll: what a failed store would show may not be durable.
func checkRefusesAll(t *testing.T, l *trillian.Log, all []tlog.Leaf) {
	t.Helper()
	ctx := context.Background()
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, tlog.ErrFailed) {
			t.Errorf("%s after the failure: %v, want ErrFailed", what, err)
		}
	}
	check("Append", l.Append(ctx, 350, all[350:]))
	_, err := l.Integrate(ctx)
	check("Integrate", err)
	_, err = l.Leaves(ctx, 0, 10)
	check("Leaves", err)
	_, _, err = l.Find(ctx, all[400].Identity)
	check("Find", err)
}

func checkReopened(t *testing.T, disk vfs.FS, all []tlog.Leaf, leaves, size int) {
	t.Helper()
	ctx := context.Background()
	// Create is off: the tree must be there.
	l := mustOpen(t, disk, "store", func(c *trillian.Config) { c.Create = false })
	root, err := l.Root(ctx)
	if err != nil || root.Size != uint64(size) {
		t.Fatalf("size %d after opening again, %v; want %d", root.Size, err, size)
	}
	tlogtest.CheckWhole(t, l, all[:leaves])
	// The same append again, whatever became of the first.
	if err := l.Append(ctx, 350, all[350:]); err != nil {
		t.Fatal(err)
	}
	if root, err = l.Integrate(ctx); err != nil || root.Size != 600 {
		t.Fatalf("Integrate: size %d, %v", root.Size, err)
	}
	tlogtest.CheckWhole(t, l, all)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPowerLoss cuts the power after acknowledged writes: what was not synced is
// lost, or lost in part.
func TestPowerLoss(t *testing.T) {
	ctx := context.Background()
	f := newFaultyFS()
	l := mustOpen(t, f.fs(), "a/b/store", nil)
	defer l.Close() // its disk is of no more use
	all := tlogtest.Leaves(0, 1000)
	rng := rand.New(rand.NewPCG(3, 4))
	for n := 0; n < len(all); n += 100 {
		if err := l.Append(ctx, uint64(n), all[n:n+100]); err != nil {
			t.Fatal(err)
		}
		want, err := l.Root(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n%300 == 0 {
			if want, err = l.Integrate(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for _, percent := range []int{0, 50} {
			disk := f.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
			after := mustOpen(t, disk, "a/b/store", func(c *trillian.Config) { c.Create = false })
			if got, err := after.Root(ctx); err != nil || got != want {
				t.Fatalf("Root() after the power was cut: %v, %v; want %v", got, err, want)
			}
			tlogtest.CheckWhole(t, after, all[:n+100])
			if err := after.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
