package trillian_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/trialog/trialog/services/internal/tlog/tlogtest"
)

const crashDirEnv = "TRIALOG_CRASH_DIR"

// TestMain lets the test binary be the child that TestKilled kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirEnv); dir != "" {
		fmt.Fprintln(os.Stderr, crashChild(dir))
		os.Exit(1) //nolint:forbidigo // this is the main of the child
	}
	m.Run()
}

// crashChild appends and integrates without end and says on standard output what
// has been acknowledged: "a N" for N stored leaves, "i N HASH" for a root.
func crashChild(dir string) error {
	ctx := context.Background()
	l, err := openLog(&testing.T{}, vfs.Default, dir, nil)
	if err != nil {
		return err
	}
	root, err := l.Integrate(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("i %d %x\n", root.Size, root.Hash)
	size := root.Size
	failed := make(chan error)
	stored := make(chan struct{}, 1)
	go func() {
		for range stored {
			root, err := l.Integrate(ctx)
			if err != nil {
				failed <- err
			}
			fmt.Printf("i %d %x\n", root.Size, root.Hash)
		}
	}()
	for {
		n := 1 + rand.IntN(300)
		if err := l.Append(ctx, size, tlogtest.Leaves(size, n)); err != nil {
			return err
		}
		size += uint64(n)
		fmt.Printf("a %d\n", size)
		select {
		case stored <- struct{}{}:
		case err := <-failed:
			return err
		default:
		}
	}
}

// TestKilled kills a process under load at random moments. Each time, all that
// it acknowledged must be there, and the root must be that of the leaves.
func TestKilled(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	var acked uint64
	for round := range rounds {
		stored, roots := runAndKill(t, dir, 1+rand.IntN(120))
		acked = max(acked, stored)
		acked = max(acked, checkAfterCrash(t, dir, acked, roots))
		t.Logf("round %d: %d leaves", round, acked)
	}
}

// runAndKill kills the child after so many lines of acknowledgement, and then up
// to a few milliseconds.
func runAndKill(t *testing.T, dir string, lines int) (stored uint64, roots map[uint64]string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), crashDirEnv+"="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	roots = map[uint64]string{}
	s := bufio.NewScanner(out)
	for n := 0; s.Scan(); n++ {
		f := strings.Fields(s.Text())
		if size, err := strconv.ParseUint(f[1], 10, 64); err != nil {
			t.Fatalf("child said %q", s.Text())
		} else if f[0] == "i" {
			roots[size] = f[2]
		} else {
			stored = max(stored, size)
		}
		if n == lines {
			// In the middle of whatever it does then; the pipe is read to its end, for
			// what was said before the kill counts.
			time.AfterFunc(time.Duration(rand.IntN(5000))*time.Microsecond, func() { cmd.Process.Kill() }) // it may be gone
		}
	}
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("child ended by itself: %v, %s", err, stderr.String())
	}
	return stored, roots
}

func checkAfterCrash(t *testing.T, dir string, acked uint64, roots map[uint64]string) uint64 {
	t.Helper()
	l := mustOpen(t, vfs.Default, dir, nil)
	root, err := l.Integrate(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if root.Size < acked {
		t.Fatalf("%d leaves after the crash, %d were acknowledged", root.Size, acked)
	}
	for size, want := range roots {
		got, err := l.RootAt(context.Background(), size)
		if err != nil || hex.EncodeToString(got[:]) != want {
			t.Fatalf("RootAt(%d) = %x, %v; before the crash it was %s", size, got, err, want)
		}
	}
	tlogtest.CheckWhole(t, l, tlogtest.Leaves(0, int(root.Size)))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return root.Size
}
