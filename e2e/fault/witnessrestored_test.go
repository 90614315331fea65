package fault

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/trialog/trialog/e2e/harness"
)

// TestWitnessRestored puts a witness's state file back to an old copy while
// somebody with the log's keys offers it another history behind that copy. With
// sources it finds out what it has promised, and refuses; without any it is
// deceived, which is the limit that docs/witness.md states. 3 s each.
func TestWitnessRestored(t *testing.T) {
	for _, c := range []struct {
		name     string
		sources  func(log, config map[string]any, url string, peers []string)
		deceived bool
	}{
		{name: "it asks the log", sources: func(log, _ map[string]any, url string, _ []string) { log["url"] = url }},
		{name: "it asks the log and its peers", sources: func(log, config map[string]any, url string, peers []string) {
			log["url"], config["peers"] = url, peers
		}},
		{name: "it asks nobody", sources: func(_, _ map[string]any, _ string, _ []string) {}, deceived: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := harness.NewLog(t).With("--witnesses-elsewhere")
			l.Init()
			witnesses := l.RunWitnesses()
			victim := witnesses[0]
			victim.Kill()
			victim.Follow(l, func(log, config map[string]any) {
				c.sources(log, config, l.URL+"/shards/1", []string{witnesses[1].URL(), witnesses[2].URL()})
			})
			victim.Start()
			between := l.StandBetween(victim.URL())
			// Nothing is final without the one that is put back.
			l.SetQuorum("all witness-1 witness-2")
			l.Start()
			ld := startLoad(t, l, 2)
			ld.await(10)
			between.Lie(says(http.StatusServiceUnavailable, "", ""))
			between.AwaitLie() // and it is asked for nothing else
			old, from := stopAndCopy(t, l, victim)
			victim.Start()
			between.Lie(nil)
			ld.await(10)
			ld.end()
			ld.settle(l)
			_, now := stopAndCopy(t, l, victim)
			if now <= from {
				t.Fatalf("the witness went from size %d to %d", from, now)
			}
			if err := os.WriteFile(victim.StateFile(), old, 0o600); err != nil {
				t.Fatal(err)
			}
			rogue := l.Fork(from, now+2)
			victim.Start()
			if deceived := deceive(t, rogue, victim, from, now); deceived != c.deceived {
				t.Fatalf("the witness has cosigned another history: %t, expected %t", deceived, c.deceived)
			}
			if c.deceived {
				return
			}
			// The log itself may have gone on with it by now; the other history has not.
			shown, err := victim.Newest(t.Context(), l.Origin())
			if err != nil || shown == nil {
				t.Fatalf("the witness shows %v, %v", shown, err)
			}
			got := shown.Checkpoint()
			if got.Size < now || got.Size <= now+2 && got.Root == rogue.Sign(got.Size).Checkpoint().Root {
				t.Errorf("the witness shows size %d, root %x; it had cosigned size %d", got.Size, got.Root, now)
			}
			// And the log goes on with it.
			after := harness.NewSubmitter(t, l, "after")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := after.Enrol(ctx, l.Token("enrol")); err != nil {
				t.Error(err)
			}
		})
	}
}

// stopAndCopy kills a witness that is asked for nothing, and returns its state file, and the size that it
// had cosigned.
func stopAndCopy(t *testing.T, l *harness.Log, w *harness.Witness) (state []byte, size uint64) {
	t.Helper()
	size = newest(t, l, w)
	w.Kill()
	state, err := os.ReadFile(w.StateFile())
	if err != nil {
		t.Fatal(err)
	}
	return state, size
}

// newest is the size that a witness shows.
func newest(t *testing.T, l *harness.Log, w *harness.Witness) uint64 {
	t.Helper()
	n, err := w.Newest(t.Context(), l.Origin())
	if err != nil || n == nil {
		t.Fatalf("the witness shows %v, %v", n, err)
	}
	return n.Checkpoint().Size
}

// deceive offers a witness another history behind the size from, until it has
// judged it, and then all else that might be taken. It tells whether any of it
// was.
func deceive(t *testing.T, rogue *harness.Rogue, w *harness.Witness, from, now uint64) bool {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		status, body, err := rogue.Offer(t.Context(), w, from, from+1)
		t.Logf("growth from %d to %d: %d %s %v", from, from+1, status, bytes.TrimSpace(body), err)
		if status == http.StatusOK {
			return true
		}
		if err == nil && status != http.StatusServiceUnavailable {
			break
		}
		select {
		case <-deadline:
			t.Fatal("the witness judges nothing")
		case <-time.After(100 * time.Millisecond): // it has not heard its sources
		}
	}
	for _, offer := range []struct{ old, size uint64 }{
		{0, from + 1}, {from, now}, {from, now + 2}, {now, now}, {now, now + 1}, {now, now + 2}, {now + 1, now + 2},
	} {
		status, body, err := rogue.Offer(t.Context(), w, offer.old, offer.size)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("growth from %d to %d: %d %s", offer.old, offer.size, status, bytes.TrimSpace(body))
		if status == http.StatusOK {
			return true
		}
	}
	return false
}
