package fault

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/e2e/harness"
)

// TestObjectStores runs a log whose tiles and register are on a real S3 server:
// it is killed under load and goes on, it refuses a register that was put back to
// an older copy, and recover brings that forward again.
func TestObjectStores(t *testing.T) {
	const submitters, limit = 4, 5 * time.Second
	store := harness.NewS3(t)
	l := harness.NewLog(t).With("--tiles", store.Tiles(), "--register", store.Register())
	l.Init()
	l.Start()
	ld := startLoad(t, l, submitters)
	for range rounds(5) {
		ld.await(10 * submitters)
		l.Kill()
		l.Start()
	}
	ld.await(submitters)
	old := store.Object(harness.S3Register)
	ld.await(10 * submitters)
	ld.end()
	ld.settle(l)
	ld.check(l)
	l.Stop()

	newest := store.Object(harness.S3Register)
	if bytes.Equal(old, newest) {
		t.Fatal("the register did not move")
	}
	store.Put(harness.S3Register, old)
	if out, err := l.Run("fsck", "--data", l.Dir); err == nil || !strings.Contains(out, "register") {
		t.Errorf("fsck of a log whose register was put back: %v\n%s", err, out)
	}
	l.Launch()
	if s := l.Await(limit, func(s harness.State) bool { return s.Reason == "rollback" }); s.Reason != "rollback" {
		t.Fatalf("state %+v, expected the reason rollback within %s", s, limit)
	}
	l.Stop()
	if got := store.Object(harness.S3Register); !bytes.Equal(got, old) {
		t.Errorf("the log that refuses has moved the register:\n%s", got)
	}
	if out, err := l.Run("recover", "--data", l.Dir); err != nil {
		t.Fatalf("recover: %v\n%s", err, out)
	}
	if got := store.Object(harness.S3Register); !bytes.Equal(got, newest) {
		t.Errorf("recover brought the register to\n%s\nit was\n%s", got, newest)
	}
	if out, err := l.Run("fsck", "--data", l.Dir); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	l.Start()
	sub := harness.NewSubmitter(t, l, "afterwards")
	if err := sub.Enrol(context.Background(), l.Token("enrol")); err != nil {
		t.Fatal(err)
	}
	for k := range 3 {
		ld.say(context.Background(), sub, statement.KindTrial, fmt.Sprintf("afterwards-%d", k), "WAIT_FINAL", harness.OpenTrial)
	}
	ld.check(l)
}
