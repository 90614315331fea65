package fault

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/e2e/harness"
)

// clockLimit is how long a log may take to notice that its clock is wrong, or
// right again.
const clockLimit = 5 * time.Second

// clocked starts a log whose clock the test sets, with some sources of time, and
// submitters that work.
func clocked(t *testing.T, sources int) (*harness.Log, *harness.Clock, *load) {
	t.Helper()
	l := harness.NewLog(t)
	var urls []string
	for range sources {
		urls = append(urls, harness.NewTimeServer(t).URL())
	}
	if len(urls) > 0 {
		l.With("--clock-source", strings.Join(urls, ","))
	}
	l.Init()
	clock := l.ShiftClock()
	l.RunWitnesses()
	l.Start()
	ld := startLoad(t, l, 3)
	ld.await(15)
	return l, clock, ld
}

// TestClockIsWrong sets the sequencer's clock by an hour, and back, while three
// sources of time have the right one: nothing is taken in meanwhile, reads go on,
// and afterwards the log goes on by itself.
func TestClockIsWrong(t *testing.T) {
	l, clock, ld := clocked(t, 3)
	for _, offset := range []time.Duration{time.Hour, -time.Hour} {
		clock.Set(offset)
		if s := l.Await(clockLimit, func(s harness.State) bool { return s.Reason == "clock" }); s.Reason != "clock" {
			t.Fatalf("clock set by %s: state %+v, expected the reason clock", offset, s)
		}
		if status, body, err := l.Get("/checkpoint"); err != nil || status != http.StatusOK {
			t.Errorf("checkpoint: status %d, %v: %s", status, err, body)
		}
		clock.Set(0)
		ld.awaitWithin(clockLimit, 3)
		ld.await(15)
	}
	ld.end()
	ld.settle(l)
	ld.check(l)
}

// TestClockIsWrongUnnoticed does the same to a log without sources. Statements
// are still taken in. Witnesses contradict the clock, so nothing becomes final,
// but as soon as the clock is right again: no root of the future stands in the
// way.
func TestClockIsWrongUnnoticed(t *testing.T) {
	l, clock, ld := clocked(t, 0)
	sub := harness.NewSubmitter(t, l, "pending")
	if err := sub.Enrol(t.Context(), l.Token("enrol")); err != nil {
		t.Fatal(err)
	}
	ld.say(t.Context(), sub, statement.KindTrial, "trial-pending", "WAIT_FINAL", harness.OpenTrial)
	for _, offset := range []time.Duration{time.Hour, -time.Hour} {
		clock.Set(offset)
		for k := range 5 {
			ld.say(t.Context(), sub, statement.KindProtocol, "trial-pending", "WAIT_PENDING",
				harness.Document(fmt.Appendf(nil, "%s %d", offset, k), "text/plain"))
		}
		clock.Set(0)
		ld.awaitWithin(clockLimit, 3)
		ld.await(15)
	}
	ld.end()
	ld.settle(l)
	ld.check(l)
}
