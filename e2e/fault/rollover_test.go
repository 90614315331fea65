package fault

import (
	"context"
	"testing"

	"github.com/trialog/trialog/e2e/harness"
)

// TestRolloverUnderLoad ends a shard twice while submitters work. Nobody sees an
// error, nothing acknowledged is lost, and a statement of an earlier shard that
// is sent again is found where it is.
func TestRolloverUnderLoad(t *testing.T) {
	const submitters = 6
	l := harness.NewLog(t)
	l.Init()
	l.Announce("2")
	l.Announce("3")
	l.Start()
	ld := startLoad(t, l, submitters)
	var acks []ack // one or more of each shard but the last
	for range 2 {
		ld.await(20 * submitters)
		acks = append(acks, ld.some(submitters)...)
		if out, err := l.Run("rollover", "--force", "--data", l.Dir); err != nil {
			t.Fatalf("rollover: %v\n%s", err, out)
		}
	}
	if out, err := l.Run("rollover", "--force", "--data", l.Dir); err == nil {
		t.Errorf("a log without an announced shard rolled over: %s", out)
	}
	ld.await(20 * submitters)
	l.Kill()
	l.Start()
	ld.await(5 * submitters)
	ld.end()
	sub := harness.NewSubmitter(t, l, "afterwards")
	policy := l.Policy()
	for _, a := range acks {
		again, err := sub.SendUntil(context.Background(), a.signed, "WAIT_FINAL", "")
		if err != nil {
			t.Fatal(err)
		}
		before, _ := where(t, policy, a)
		after, _ := checkFinal(t, policy, ack{a.signed, again})
		if !again.Duplicate || after != before {
			t.Errorf("sent again, a statement of %+v is at %+v, duplicate %t", before, after, again.Duplicate)
		}
	}
	ld.settle(l)
	ld.check(l)
	shards := map[string]int{}
	for _, a := range ld.acks {
		at, _ := where(t, policy, a)
		shards[at.shard()]++
	}
	if len(shards) != 3 {
		t.Errorf("acknowledgements by shard: %v, expected some in each of three", shards)
	}
	t.Logf("acknowledgements by shard: %v", shards)
}
