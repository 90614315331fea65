package tile_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

const killEnv = "TRIALOG_TEST_TILE_CHILD"

// TestKill kills a child process that appends, again and again, at moments that
// nobody chooses, and looks at what is on the disk.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	t.Parallel()
	const rounds = 15
	path := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 5))
	var size uint64
	ref := newReference(t, 0)
	for round := range rounds {
		acked := killOne(t, path, 1+rng.IntN(12))
		dir, err := blob.OpenDir(path)
		if err != nil {
			t.Fatal(err)
		}
		w := open(t, dir)
		if w.Size() < acked || acked <= size {
			t.Fatalf("round %d: reopened at size %d; %d were acknowledged, %d before", round, w.Size(), acked, size)
		}
		size = w.Size()
		ref.grow(t, size)
		if w.Root() != ref.root(t, size) {
			t.Fatalf("round %d: wrong root at size %d", round, size)
		}
		if err := dir.Close(); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := blob.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	// The last kill may have left what the head does not count: objects of an
	// Append that was not acknowledged. Appending the same entries, and more
	// than a child appends at once, must leave what a run without kills leaves.
	w := open(t, dir)
	if _, err := w.Append(t.Context(), entriesFrom(size, 600)); err != nil {
		t.Fatal(err)
	}
	size += 600
	clean := blob.NewMemory()
	if _, err := open(t, clean).Append(t.Context(), entriesFrom(0, int(size))); err != nil {
		t.Fatal(err)
	}
	sameObjects(t, "after the last kill", dir, clean)
}

// grow adds entries to the reference up to the size.
func (r *reference) grow(t testing.TB, size uint64) {
	t.Helper()
	*r = *newReference(t, size)
}

// killOne starts a child that appends to path, kills it after it has
// acknowledged a number of appends, and returns the size it acknowledged last.
func killOne(t *testing.T, path string, appends int) (acked uint64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKillChild$")
	cmd.Env = append(os.Environ(), killEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		n, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			t.Fatalf("child says %q", lines.Text())
		}
		acked = n
		appends--
		if appends == 0 {
			// What it still says before it dies counts as well.
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || appends > 0 {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return acked
}

// TestKillChild appends without end and says the size after each Append.
func TestKillChild(t *testing.T) {
	path := os.Getenv(killEnv)
	if path == "" {
		t.Skip("run by TestKill")
	}
	dir, err := blob.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := tile.OpenWriter(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(w.Size(), 6))
	for {
		n := 1 + rng.IntN(300)
		if _, err := w.Append(t.Context(), entriesFrom(w.Size(), n)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(os.Stdout, w.Size()); err != nil {
			return
		}
	}
}
