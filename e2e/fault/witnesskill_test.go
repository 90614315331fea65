package fault

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/e2e/harness"
)

// cosignature is one that a witness has given out.
type cosignature struct {
	time uint64
	size uint64
	root checkpoint.Hash
	key  uint32
}

// cosignatures are all that one witness has given out, wherever they were seen.
type cosignatures struct {
	t    *testing.T
	keys []*checkpoint.SigningKey

	mu   sync.Mutex
	seen map[cosignature]bool
}

func newCosignatures(t *testing.T, w *harness.Witness) *cosignatures {
	t.Helper()
	return &cosignatures{t: t, keys: w.Keys(), seen: map[cosignature]bool{}}
}

// add notes the witness's lines among some on a checkpoint. One that is not
// genuine is an error: nobody lies here.
func (c *cosignatures) add(n *checkpoint.Note, lines []checkpoint.Signature) {
	for _, line := range lines {
		for _, k := range c.keys {
			v := k.Verifier()
			if line.Name != v.Name() || line.KeyID != v.ID() {
				continue
			}
			at, err := v.VerifyCheckpoint(n, line)
			if err != nil {
				c.t.Error(err)
				continue
			}
			of := n.Checkpoint()
			c.mu.Lock()
			c.seen[cosignature{at, of.Size, of.Root, line.KeyID}] = true
			c.mu.Unlock()
		}
	}
}

// watch looks at the witness's read interface and at the published checkpoint
// until ctx ends.
func (c *cosignatures) watch(ctx context.Context, l *harness.Log, w *harness.Witness) {
	origin := l.Origin()
	for ctx.Err() == nil {
		// Of a process that was killed there is no answer.
		if n, err := w.Newest(ctx, origin); err == nil && n != nil {
			c.add(n, n.Signatures())
		}
		if n, err := l.Published(ctx); err == nil {
			c.add(n, n.Signatures())
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond): // between two looks
		}
	}
}

// check holds them against each other: never two roots at one size, and never a
// smaller size at a later time.
func (c *cosignatures) check() {
	t := c.t
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]cosignature, 0, len(c.seen))
	for s := range c.seen {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b cosignature) int {
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.size, b.size))
	})
	roots := map[uint64]checkpoint.Hash{}
	var greatest cosignature // of all earlier times
	var now cosignature      // the greatest so far
	for _, s := range all {
		if s.time > now.time {
			greatest = now
		}
		if s.size < greatest.size {
			t.Errorf("size %d was cosigned at %d, and size %d at %d", greatest.size, greatest.time, s.size, s.time)
		}
		if s.size >= now.size {
			now = s
		}
		now.time = s.time
		if root, ok := roots[s.size]; ok && root != s.root {
			t.Errorf("two roots were cosigned at size %d: %s and %s", s.size, root, s.root)
		}
		roots[s.size] = s.root
	}
	if len(roots) < 2 {
		t.Errorf("hardly a cosignature was seen: %d at %d sizes", len(all), len(roots))
	}
	t.Logf("%d cosignatures at %d sizes seen", len(all), len(roots))
}

// TestWitnessKilled kills a witness 50 times at random moments of its work, and
// offers it another history behind what it has answered when it comes back. It
// holds all cosignatures that it gave out against each other: those that it
// answered with, and those that its read interface and the log show. 20 s.
func TestWitnessKilled(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	l := harness.NewLog(t).With("--witnesses-elsewhere")
	l.Init()
	witnesses := l.RunWitnesses()
	victim := witnesses[0]
	victim.Kill()
	victim.Follow(l, nil) // its state file is all it has to go by
	victim.Start()
	between := l.StandBetween(victim.URL())
	// Without the one that is killed there is no quorum: the log has to come back
	// to it each time.
	l.SetQuorum("all witness-1 witness-2")
	l.Start()
	given := newCosignatures(t, victim)
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() { given.watch(ctx, l, victim) })
	ld := startLoad(t, l, 4)
	const kills = 50
	unanswered := 0
	for range kills {
		ld.await(random.IntN(8))
		// At a random moment of what the witness does when it is asked, which lasts
		// about as long as the last time.
		last := between.Record()
		select {
		case <-between.Asking():
		case <-time.After(time.Minute):
			t.Fatal("the log does not come back to the witness")
		}
		timer := time.NewTimer(time.Duration(random.Int64N(int64(last[len(last)-1].Took) * 3 / 2)))
		<-timer.C
		victim.Kill()
		answers := between.Record()
		answered := answers[len(answers)-1].Note.Checkpoint().Size
		published, err := l.Published(ctx)
		if err != nil {
			t.Fatal(err)
		}
		size := published.Checkpoint().Size
		// Nothing but its state file keeps it from this, before the log comes back.
		rogue := l.Fork(size-1, size+1)
		victim.Start()
		for _, to := range []uint64{size, size + 1} {
			if status, body, err := rogue.Offer(ctx, victim, size-1, to); err != nil || status == http.StatusOK {
				t.Fatalf("another history was offered, from size %d to %d: status %d, %v: %s", size-1, to, status, err, body)
			}
		}
		n, err := victim.Newest(ctx, l.Origin())
		if err != nil {
			t.Fatal(err)
		}
		if n.Checkpoint().Size > answered {
			unanswered++
		}
	}
	t.Logf("killed %d times, %d of them between storing and answering", kills, unanswered)
	ld.await(20)
	ld.end()
	ld.settle(l)
	for _, a := range between.Record() {
		given.add(a.Note, a.Lines)
	}
	checkOrder(t, between.Record())
	cancel()
	watching.Wait()
	given.check()
	ld.check(l)
}

// checkOrder checks that the answers of a witness, in the order in which they
// came, never go back.
func checkOrder(t *testing.T, answers []harness.Asked) {
	t.Helper()
	size := uint64(0)
	for _, a := range answers {
		c := a.Note.Checkpoint()
		if c.Size < size {
			t.Errorf("behind size %d the witness answered with a cosignature of size %d", size, c.Size)
		}
		size = c.Size
	}
	t.Logf("%d answers with cosignatures, up to size %d", len(answers), size)
}
