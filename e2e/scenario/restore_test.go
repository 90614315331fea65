package scenario

import (
	"context"
	"os"
	"path/filepath"
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
		reason string
	}{
		{name: "store", parts: []string{"store"}, reason: "rollback"},
		{name: "store and ledger", parts: []string{"store", "ledger"}, reason: "rollback"},
		{name: "store and tiles", parts: []string{"store", "ledger", "tiles"}, reason: "rollback"},
		{name: "register", parts: []string{"register"}, reason: "rollback"},
		{name: "everything but the witnesses", parts: []string{"store", "ledger", "tiles", "register"}, reason: "rollback"},
		{name: "register deleted", remove: "register/register", reason: "register-missing"},
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
		})
	}
}

// readCandidate returns the size of the newest note that the log has signed.
func readCandidate(t *testing.T, l *harness.Log) uint64 {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(l.Dir, "tiles", "candidate"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := checkpoint.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return n.Checkpoint().Size
}
