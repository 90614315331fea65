package postgresstore_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	trillianapi "github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/testonly"
	"github.com/google/trillian/types"

	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/postgresstore"
	"github.com/trialog/trialog/services/internal/tlog/tlogtest"
)

// writeRoot stores a root and calls meanwhile before and behind it.
func writeRoot(s *postgresstore.Store, tree *trillianapi.Tree, size uint64, before, behind func()) error {
	root, err := (&types.LogRootV1{TreeSize: size, TimestampNanos: 1000 + size, RootHash: make([]byte, 32)}).MarshalBinary()
	if err != nil {
		return err
	}
	return s.ReadWriteTransaction(context.Background(), tree, func(ctx context.Context, tx storage.LogTreeTX) error {
		before()
		err := tx.StoreSignedLogRoot(ctx, &trillianapi.SignedLogRoot{LogRoot: root})
		behind()
		return err
	})
}

// TestTakenOver lets an owner that does not notice that it lost the lock write
// before, during and after somebody else takes over.
func TestTakenOver(t *testing.T) {
	ctx := context.Background()
	nothing := func() {}
	url := shared.Server(t).Database(t)
	for round := range 20 {
		stale := openStore(t, url, postgresstore.Options{})
		tree, err := storage.CreateTree(ctx, stale.Admin(), testonly.PreorderedLogTree)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeRoot(stale, tree, 0, nothing, nothing); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			if s, err := postgresstore.Open(ctx, url, postgresstore.Options{}); !errors.Is(err, tlog.ErrLocked) {
				t.Fatalf("a second owner beside the first: %v, %v", s, err)
			}
		}
		if err := stale.LoseLock(); err != nil {
			t.Fatal(err)
		}
		var fresh *postgresstore.Store
		takeOver := func() {
			if fresh == nil { // the transaction runs again when it was rolled back
				fresh = openStore(t, url, postgresstore.Options{})
			}
		}
		if round%2 == 0 {
			takeOver()
			err = writeRoot(stale, tree, 1, nothing, nothing)
		} else {
			err = writeRoot(stale, tree, 1, takeOver, nothing)
		}
		if !errors.Is(err, tlog.ErrOwned) || errors.Is(err, tlog.ErrUnknownOutcome) {
			t.Fatalf("round %d: the stale owner's root: %v", round, err)
		}
		leaves := []*trillianapi.LogLeaf{{LeafIdentityHash: make([]byte, 32), MerkleLeafHash: make([]byte, 32)}}
		if _, err := stale.AddSequencedLeavesAtomic(ctx, tree, leaves, time.Unix(1, 0)); !errors.Is(err, tlog.ErrOwned) {
			t.Fatalf("round %d: the stale owner's leaf: %v", round, err)
		}
		if err := stale.Err(); !errors.Is(err, tlog.ErrOwned) {
			t.Fatalf("Err() = %v", err)
		}
		if _, err := fresh.AddSequencedLeavesAtomic(ctx, tree, leaves, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if err := writeRoot(fresh, tree, 1, nothing, nothing); err != nil {
			t.Fatal(err)
		}
		if err := fresh.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEpochsDoNotCount: a database that was set back to an earlier state, as by a
// failover to a standby that was behind, does not give out an epoch again.
func TestEpochsDoNotCount(t *testing.T) {
	ctx := context.Background()
	nothing := func() {}
	server := shared.Server(t)
	url := server.Database(t)
	before := openStore(t, url, postgresstore.Options{})
	earlier := before.Epoch()
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	stale := openStore(t, url, postgresstore.Options{})
	if stale.Epoch() <= 0 || earlier <= 0 || stale.Epoch() == earlier {
		t.Fatalf("epochs %d and %d", earlier, stale.Epoch())
	}
	tree, err := storage.CreateTree(ctx, stale.Admin(), testonly.PreorderedLogTree)
	if err != nil {
		t.Fatal(err)
	}
	if err := stale.LoseLock(); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, url, "UPDATE TrialogOwner SET Epoch = "+strconv.FormatInt(earlier, 10))
	fresh := openStore(t, url, postgresstore.Options{})
	if err := writeRoot(fresh, tree, 5, nothing, nothing); err != nil {
		t.Fatal(err)
	}
	if err := writeRoot(stale, tree, 7, nothing, nothing); !errors.Is(err, tlog.ErrOwned) {
		t.Fatalf("the stale owner's root: %v", err)
	}
}

// TestTakeOverWaits: while the last owner is in the middle of a write, nobody
// takes over.
func TestTakeOverWaits(t *testing.T) {
	ctx := context.Background()
	url := shared.Server(t).Database(t)
	stale := openStore(t, url, postgresstore.Options{})
	tree, err := storage.CreateTree(ctx, stale.Admin(), testonly.PreorderedLogTree)
	if err != nil {
		t.Fatal(err)
	}
	if err := stale.LoseLock(); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	err = writeRoot(stale, tree, 0, func() {}, func() {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		s, err := postgresstore.Open(short, url, postgresstore.Options{})
		if err == nil {
			s.Close()
		}
		opened <- err
	})
	if err != nil {
		t.Fatalf("the write that was under way: %v", err)
	}
	if err := <-opened; err == nil {
		t.Fatal("somebody took over in the middle of a write")
	}
	openStore(t, url, postgresstore.Options{})
}

// TestLockRegained: an owner whose lock's connection is ended, and whom nobody
// followed, goes on.
func TestLockRegained(t *testing.T) {
	server := shared.Server(t)
	url := server.Database(t)
	l := &ledger{log: mustOpen(t, url, nil)}
	for range 5 {
		server.Exec(t, url, `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'trialog owner'`)
		l.add(t, 5)
		l.integrate(t)
	}
	// In the end it holds the lock again.
	for {
		s, err := postgresstore.Open(context.Background(), url, postgresstore.Options{})
		if errors.Is(err, tlog.ErrLocked) {
			break
		}
		if err == nil {
			s.Close()
			return // somebody else was quicker than the owner, which is allowed
		}
		t.Fatal(err)
	}
	finish(t, l, url)
}

const childEnv = "TRIALOG_POSTGRES_URL"

// child appends and integrates until it may not any more, and says on standard
// output "i SIZE HASH" for each root.
func child(url string) error {
	ctx := context.Background()
	l, err := openLog(&testing.T{}, url, nil)
	if err != nil {
		return err
	}
	root, err := l.Root(ctx)
	if err != nil {
		return err
	}
	for {
		leaves := tlogtest.Leaves(uint64(time.Now().UnixNano()), 50)
		if err := l.Append(ctx, root.Size, leaves); errors.Is(err, tlog.ErrUnknownOutcome) {
			// As whoever appends has to: reading back resolves it.
			if _, err := l.Leaves(ctx, root.Size, len(leaves)); err != nil {
				return err
			}
			continue
		} else if err != nil {
			return err
		}
		if root, err = l.Integrate(ctx); err != nil {
			return err
		}
		fmt.Printf("i %d %x\n", root.Size, root.Hash)
	}
}

// TestStopped stops a process that owns the log with SIGSTOP, takes over, lets
// it go on, and expects it to end because it is not the owner any more.
func TestStopped(t *testing.T) {
	rounds := 20
	if testing.Short() || underRace {
		rounds = 4
	}
	server := shared.Server(t)
	url := server.Database(t)
	roots := map[uint64]string{}
	for round := range rounds {
		cmd, lines, stderr := startChild(t, url)
		for range 3 + round%5 {
			if !lines.Scan() {
				t.Fatalf("round %d: the child ended: %s", round, stderr)
			}
			keepRoot(t, roots, lines.Text())
		}
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		l := takeOverFrom(t, url, round%2 == 0)
		root, err := l.Root(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		go func() { cmd.Process.Signal(syscall.SIGCONT) }() // it may write at any moment from here on
		for i := range uint64(5) {
			leaves := tlogtest.Leaves(uint64(round)<<32+i*100, 100)
			if err := l.Append(context.Background(), root.Size, leaves); err != nil {
				// What the stopped one had already stored comes first.
				t.Fatalf("round %d: the new owner's append: %v", round, err)
			}
			if root, err = l.Integrate(context.Background()); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			roots[root.Size] = hex.EncodeToString(root.Hash[:])
		}
		for lines.Scan() { // what it had acknowledged before it was stopped
			keepRoot(t, roots, lines.Text())
		}
		err = cmd.Wait()
		if err == nil || !strings.Contains(stderr.String(), tlog.ErrOwned.Error()) {
			t.Fatalf("round %d: the stale owner ended with %v: %s", round, err, stderr)
		}
		checkRoots(t, l, roots)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func startChild(t *testing.T, url string) (*exec.Cmd, *bufio.Scanner, *strings.Builder) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+url)
	stderr := &strings.Builder{}
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd, bufio.NewScanner(out), stderr
}

// takeOverFrom ends the stopped owner's lock, and, if all is set or if it was
// stopped in the middle of a write, its other sessions.
func takeOverFrom(t *testing.T, url string, all bool) tlog.Log {
	t.Helper()
	for {
		what := "application_name = 'trialog owner'"
		if all {
			what = "application_name LIKE 'trialog %'"
		}
		shared.Server(t).Exec(t, url, `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
			WHERE datname = current_database() AND `+what)
		l, err := openLog(t, url, nil)
		if err == nil {
			if _, err := l.Integrate(context.Background()); err != nil {
				t.Fatal(err)
			}
			return l
		}
		if !errors.Is(err, tlog.ErrLocked) {
			t.Fatal(err)
		}
		all = true
	}
}

func keepRoot(t *testing.T, roots map[uint64]string, line string) {
	t.Helper()
	f := strings.Fields(line)
	size, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil || f[0] != "i" {
		t.Fatalf("the child said %q", line)
	}
	if other, ok := roots[size]; ok && other != f[2] {
		t.Fatalf("two roots at size %d: %s and %s", size, other, f[2])
	}
	roots[size] = f[2]
}

// checkRoots recomputes the tree from its leaves: every root that was ever
// acknowledged must be one of its own.
func checkRoots(t *testing.T, l tlog.Log, roots map[uint64]string) {
	t.Helper()
	var m tlogtest.Tree
	size := uint64(0)
	for {
		part, err := l.Leaves(context.Background(), size, 5000)
		if err != nil {
			t.Fatal(err)
		}
		if len(part) == 0 {
			break
		}
		m.Add(t, part...)
		size += uint64(len(part))
	}
	for at, want := range roots {
		if at > size {
			t.Fatalf("a root of size %d was acknowledged, the log has %d leaves", at, size)
		}
		if got := m.Root(t, at); hex.EncodeToString(got.Hash[:]) != want {
			t.Fatalf("the root of size %d was %s, the leaves give %x", at, want, got.Hash)
		}
	}
}
