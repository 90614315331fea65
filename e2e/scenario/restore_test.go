package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/e2e/harness"
)

// refusalLimit is how long a log that was put back may take to say so.
const refusalLimit = 5 * time.Second

// TestRestoredFromOldCopy puts parts of a log back to an old copy: each is
// refused with the named reason, and nothing is signed.
func TestRestoredFromOldCopy(t *testing.T) {
	for _, c := range []struct {
		name   string
		parts  []string // of the data folder, put back
		remove string
		mirror bool // to recover from a copy of the tiles
		reason string
	}{
		{name: "store", parts: []string{"shards/1/store"}, reason: "rollback"},
		{name: "store and ledger", parts: []string{"shards/1/store", "shards/1/ledger"}, reason: "rollback"},
		{name: "store and tiles", parts: []string{"shards/1"}, mirror: true, reason: "rollback"},
		{name: "register", parts: []string{"registers"}, reason: "rollback"},
		{name: "everything but the witnesses", parts: []string{"shards/1", "registers"}, mirror: true, reason: "rollback"},
		{name: "register deleted", remove: "registers/1", reason: "register-missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := context.Background()
			l := harness.NewLog(t)
			l.Start()
			sub := harness.NewSubmitter(t, l, "acme")
			if err := sub.Enrol(ctx, l.Token("enrol")); err != nil {
				t.Fatal(err)
			}
			l.Stop()
			old := filepath.Join(t.TempDir(), "old")
			harness.CopyDir(t, l.Dir, old)
			l.Start()
			fill(ctx, t, sub, 3)
			l.Stop()
			size, root := readRegister(t, l)
			if c.mirror {
				harness.CopyDir(t, l.Part("tiles"), filepath.Join(l.Dir, "mirror"))
			}
			for _, part := range c.parts {
				harness.CopyDir(t, filepath.Join(old, part), filepath.Join(l.Dir, part))
			}
			if c.remove != "" {
				if err := os.Remove(filepath.Join(l.Dir, c.remove)); err != nil {
					t.Fatal(err)
				}
			}
			candidate := readCandidate(t, l)
			l.Launch()
			got := l.Await(refusalLimit, func(s harness.State) bool { return s.Reason == c.reason })
			if got.Reason != c.reason {
				t.Fatalf("state %+v, expected the reason %q within %s", got, c.reason, refusalLimit)
			}
			if size := readCandidate(t, l); size > candidate {
				t.Errorf("a checkpoint of size %d was signed, the last one before was of size %d", size, candidate)
			}
			x, err := sub.Say("trial", "after", harness.OpenTrial)
			if err != nil {
				t.Fatal(err)
			}
			if a, err := sub.Send(ctx, x, "WAIT_PENDING", ""); err == nil {
				t.Errorf("the log took a statement in: %+v", a)
			}
			l.Stop()
			recovered(t, l, c.remove != "", size, root)
			if a, err := sub.Send(ctx, x, "WAIT_FINAL", ""); err != nil || a.Index != size {
				t.Errorf("after the recovery: %+v, %v; expected entry %d", a, err, size)
			}
		})
	}
}

// recovered brings the log back to what its register held, and starts it.
func recovered(t *testing.T, l *harness.Log, noRegister bool, size uint64, root string) {
	t.Helper()
	args := []string{"recover", "--data", l.Dir}
	if noRegister {
		if out, err := l.Run(args...); err == nil {
			t.Errorf("a register was made without being asked for:\n%s", out)
		}
		args = append(args, "--recreate-register")
	}
	if copied, err := os.Stat(filepath.Join(l.Dir, "mirror")); err == nil && copied.IsDir() {
		args = append(args, "--from", filepath.Join(l.Dir, "mirror"))
	}
	out, err := l.Run(args...)
	if want := fmt.Sprintf("the store now has %d, root %s\n", size, root); err != nil || !strings.Contains(out, want) {
		t.Fatalf("recover: %v, expected %q in\n%s", err, want, out)
	}
	if gotSize, gotRoot := readRegister(t, l); gotSize != size || gotRoot != root {
		t.Errorf("the register is at size %d, root %s; it was at %d, %s", gotSize, gotRoot, size, root)
	}
	l.Start()
}

// readRegister returns size and root of the register.
func readRegister(t *testing.T, l *harness.Log) (size uint64, root string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(l.Dir, "registers", "1"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(raw), "\n")
	const sizeLine, rootLine = 2, 3
	if size, err = strconv.ParseUint(lines[sizeLine], 10, 64); err != nil {
		t.Fatal(err)
	}
	return size, lines[rootLine]
}

// readCandidate returns the size of the newest note that the log has signed.
func readCandidate(t *testing.T, l *harness.Log) uint64 {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(l.Dir, "shards", "1", "tiles", "candidate"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := checkpoint.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return n.Checkpoint().Size
}
