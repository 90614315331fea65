package fault

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/e2e/harness"
)

// healLimit is only how long the test waits before it gives up. The log promises
// 15 s, and the measured time is printed.
const healLimit = time.Minute

// TestTwoOfThreeOperatorsDown kills two of three witnesses under load. Nothing
// becomes final without them, while statements go on to be taken in; when they
// are back, everything that was taken in becomes final by itself. 15 s.
func TestTwoOfThreeOperatorsDown(t *testing.T) {
	l := harness.NewLog(t).With("--witnesses-elsewhere")
	l.Init()
	witnesses := l.RunWitnesses()
	left := l.StandBetween(witnesses[0].URL())
	l.Start()
	ld := startLoad(t, l, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pending := newTaking(t, l)
	ld.await(30)
	for _, w := range witnesses[1:] {
		w.Kill()
	}
	// Whatever has an index from here on was signed by the log without a quorum.
	first := pending.say(ctx)
	last := first
	// When a candidate's time is over the log takes the next one to the witness that
	// is left, several times.
	const candidates = 3
	for range candidates - 1 {
		left.AwaitCosigned(first + 1)
		asked := left.Record()
		size := asked[len(asked)-1].Note.Checkpoint().Size
		for range 50 {
			last = pending.say(ctx)
		}
		left.AwaitCosigned(size + 1)
	}
	t.Logf("%d statements were taken in without a quorum", pending.taken)
	n, err := l.Published(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if c := n.Checkpoint(); c.Size > first {
		t.Errorf("a checkpoint of size %d is published, and entry %d had no quorum", c.Size, first)
	}
	for _, a := range ld.some(ld.count()) {
		if a.answer.State == "STATE_FINAL" && a.answer.Index >= first {
			t.Errorf("entry %d became final without a quorum", a.answer.Index)
		}
	}
	if s := l.Await(time.Second, func(s harness.State) bool { return s.State == "ready" }); s.State != "ready" {
		t.Errorf("without a quorum the log is not ready: %+v", s)
	}

	healed := time.Now()
	for _, w := range witnesses[1:] {
		w.Start()
	}
	awaitPublished(t, l, last+1)
	t.Logf("caught up with %d entries %s after the witnesses were started (15 s are promised)",
		last+1-n.Checkpoint().Size, time.Since(healed).Round(time.Millisecond))
	ld.await(30)
	ld.end()
	ld.acks = append(ld.acks, pending.acks...)
	ld.settle(l)
	ld.check(l)
}

// taking is a submitter that waits for nothing but the promise.
type taking struct {
	*load

	sub   *harness.Submitter
	taken int
}

func newTaking(t *testing.T, l *harness.Log) *taking {
	t.Helper()
	p := &taking{load: &load{t: t}, sub: harness.NewSubmitter(t, l, "pending")}
	if err := p.sub.Enrol(t.Context(), l.Token("enrol")); err != nil {
		t.Fatal(err)
	}
	return p
}

// say submits a statement and returns its index.
func (p *taking) say(ctx context.Context) uint64 {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	p.taken++
	p.load.say(ctx, p.sub, statement.KindTrial, fmt.Sprintf("taken-%d", p.taken), "WAIT_PENDING", harness.OpenTrial)
	if len(p.acks) < p.taken {
		p.t.Fatal("the log takes nothing in")
	}
	a := p.acks[len(p.acks)-1].answer
	if a.State != "STATE_PENDING" && a.State != "STATE_FINAL" {
		p.t.Fatalf("state %s", a.State)
	}
	return a.Index
}

// awaitPublished waits until a checkpoint of at least that size is published.
func awaitPublished(t *testing.T, l *harness.Log, size uint64) {
	t.Helper()
	deadline := time.After(healLimit)
	for {
		n, err := l.Published(t.Context())
		if err == nil && n.Checkpoint().Size >= size {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("after %s no checkpoint of size %d is published: %v", healLimit, size, err)
		case <-time.After(5 * time.Millisecond): // between two looks
		}
	}
}
