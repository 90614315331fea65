package sequencer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
)

func TestQuorumLostAndHealed(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	w.seq.c.Limits.FinalWait = 30 * time.Millisecond // from now on
	const before = 2
	if _, err := w.seq.waitPublished(t.Context(), before-1); err != nil {
		t.Fatal(err)
	}
	w.witness.setDown(true, true, false)
	var promises []*receipt.Pending
	var requests []Request
	for i := range 3 {
		r := w.newTrial(fmt.Sprint("Q", i))
		requests = append(requests, r)
		a, err := w.seq.Add(t.Context(), r) // asks for FINAL
		if err != nil || a.Receipt != nil || a.Promise == nil || a.Duplicate {
			t.Fatalf("answer %+v, %v; expected a promise", a, err)
		}
		p, err := receipt.ParsePending(a.Promise, w.pending.Public())
		if err != nil {
			t.Fatal(err)
		}
		if p.Index != a.Index || p.Index != before+uint64(i) || p.Identity != a.Identity || p.Origin != testOrigin ||
			p.Log != testLog || p.Deadline.Sub(p.Received) != time.Minute {
			t.Errorf("promise %+v for index %d", p, a.Index)
		}
		again, err := w.seq.Add(t.Context(), r)
		if err != nil || again.Receipt != nil || again.Index != a.Index || !again.Duplicate {
			t.Errorf("again: %+v, %v; expected the same index and no receipt", again, err)
		}
		if _, _, err := w.seq.Find(t.Context(), a.Identity); !errors.Is(err, ErrNotFound) {
			t.Errorf("found without a quorum: %v", err)
		}
		promises = append(promises, p)
	}
	if size := w.seq.Checkpoint().Checkpoint().Size; size != before {
		t.Errorf("size %d was published without a quorum", size)
	}
	w.witness.setDown(false, false, false)
	if _, err := w.seq.waitPublished(t.Context(), before+2); err != nil {
		t.Fatal(err)
	}
	for i, r := range requests {
		a, err := w.seq.Add(t.Context(), r)
		if err != nil || a.Receipt == nil || !a.Duplicate {
			t.Fatalf("after healing: %+v, %v", a, err)
		}
		w.check(a.Receipt, "")
		got, err := receipt.Parse(a.Receipt)
		if err != nil {
			t.Fatal(err)
		}
		if a.Index != promises[i].Index || entry.LeafHash(got.Entry) != promises[i].LeafHash {
			t.Errorf("promised index %d and another leaf than the final ones, index %d", promises[i].Index, a.Index)
		}
	}
}

// TestCrowd: many clients with retries, duplicates and no patience.
func TestCrowd(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	first := w.seq.Checkpoint().Checkpoint().Size
	const statements = 160
	var requests []Request
	for i := range statements {
		requests = append(requests, w.newTrial(fmt.Sprint("C", i)))
	}
	var mu sync.Mutex
	indexes, fresh := map[statement.Identity][]uint64{}, map[statement.Identity]int{}
	var wg sync.WaitGroup
	for n := range 64 {
		rng := rand.New(rand.NewPCG(7, uint64(n)))
		wg.Go(func() {
			for _, i := range rng.Perm(statements)[:20] {
				r := requests[i]
				r.Pending = rng.IntN(2) == 0
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(4000))*time.Microsecond)
				a, err := w.seq.Add(ctx, r)
				cancel()
				if errors.Is(err, context.DeadlineExceeded) {
					a, err = w.seq.Add(context.Background(), r) // the outcome is unknown: again
				}
				if err != nil {
					t.Errorf("add: %v", err)
					return
				}
				mu.Lock()
				indexes[a.Identity] = append(indexes[a.Identity], a.Index)
				if !a.Duplicate {
					fresh[a.Identity]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	taken := map[uint64]bool{}
	for id, list := range indexes {
		if slices.Min(list) != slices.Max(list) || taken[list[0]] || fresh[id] > 1 {
			t.Errorf("indexes %v of one statement, %d times new", list, fresh[id])
		}
		taken[list[0]] = true
	}
	p, err := w.seq.waitPublished(t.Context(), first+uint64(len(indexes))-1)
	if err != nil || p.size() != first+uint64(len(indexes)) {
		t.Errorf("size %d for %d statements after %d entries: %v", p.size(), len(indexes), first, err)
	}
	if err := w.halt(); err != nil {
		t.Error(err)
	}
}

// TestStopUnderLoad: whoever waits when the sequencer stops is answered, and
// what was acknowledged is there afterwards.
func TestStopUnderLoad(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	var requests []Request
	for i := range 300 {
		requests = append(requests, w.newTrial(fmt.Sprint("S", i)))
	}
	var mu sync.Mutex
	acked := map[uint64]statement.Identity{}
	some := make(chan struct{})
	var wg sync.WaitGroup
	for _, r := range requests {
		wg.Go(func() {
			a, err := w.seq.Add(context.Background(), r)
			if err != nil {
				if !errors.Is(err, ErrNotReady) {
					t.Errorf("error %v, expected ErrNotReady", err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if acked[a.Index] = a.Identity; len(acked) == 20 {
				close(some)
			}
		})
	}
	<-some
	w.stop()
	wg.Wait()
	if err := w.halt(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	for index, id := range acked {
		if _, err := w.seq.waitPublished(t.Context(), index); err != nil {
			t.Fatal(err)
		}
		raw, at, err := w.seq.Find(t.Context(), id)
		if err != nil || at != index {
			t.Fatalf("acknowledged at %d, found at %d: %v", index, at, err)
		}
		w.check(raw, "")
	}
	if err := w.halt(); err != nil {
		t.Error(err)
	}
}

// gate holds up integrations while it is shut.
type gate struct {
	tlog.Log
	mu      sync.Mutex
	reached chan struct{} // told when one is held up
	open    chan error    // what becomes of it
}

func (g *gate) shut() (reached <-chan struct{}, open chan<- error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reached, g.open = make(chan struct{}), make(chan error)
	return g.reached, g.open
}

func (g *gate) Integrate(ctx context.Context) (tlog.Root, error) {
	g.mu.Lock()
	reached, open := g.reached, g.open
	g.reached, g.open = nil, nil
	g.mu.Unlock()
	if reached != nil {
		close(reached)
		if err := <-open; err != nil {
			return tlog.Root{}, err
		}
	}
	return g.Log.Integrate(ctx)
}

// TestNothingIsPromisedEarly: an entry that is stored, but whose tiles are not
// written, is not acknowledged, neither to its submitter nor to a second one.
func TestNothingIsPromisedEarly(t *testing.T) {
	for _, fails := range []error{nil, errSabotage} {
		t.Run(fmt.Sprint(fails), func(t *testing.T) {
			w := newWorld(t)
			var g *gate
			w.wrap = func(c *Config) { g = &gate{Log: c.Tree}; c.Tree = g }
			if err := w.start(); err != nil {
				t.Fatal(err)
			}
			w.enrol()
			r := w.newTrial("E1")
			r.Pending = true
			reached, open := g.shut()
			type result struct {
				a   *Answer
				err error
			}
			results := make(chan result, 4)
			submit := func() {
				a, err := w.seq.Add(context.Background(), r)
				results <- result{a, err}
			}
			go submit()
			<-reached // the entry is in the store now
			for range 3 {
				go submit()
			}
			await(func() bool { // all are under way, and none waits for the writer
				return w.seq.intake.load().items == 4 && len(w.seq.queue) == 0 || len(results) > 0
			})
			if len(results) != 0 {
				t.Fatalf("answered before step 4: %+v", <-results)
			}
			open <- fails
			fresh := 0
			for range 4 {
				res := <-results
				switch {
				case fails != nil && (res.a != nil || !errors.Is(res.err, ErrNotReady)):
					t.Errorf("answer %+v, %v; expected ErrNotReady", res.a, res.err)
				case fails == nil && (res.err != nil || res.a.Promise == nil || res.a.Index != 2):
					t.Errorf("answer %+v, %v; expected a promise of index 2", res.a, res.err)
				case fails == nil && !res.a.Duplicate:
					fresh++
				}
			}
			if fails == nil && fresh != 1 {
				t.Errorf("%d answers say that they stored the entry", fresh)
			}
		})
	}
}

// TestPipelined: statements may refer to others that are on their way into the
// log, while the batch before them is held up.
func TestPipelined(t *testing.T) {
	c := newCast(t)
	var g *gate
	if err := c.halt(); err != nil {
		t.Fatal(err)
	}
	c.wrap = func(c *Config) { g = &gate{Log: c.Tree}; c.Tree = g }
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	s1 := c.world.protocol("T1", "version 2")
	s1.Amends = c.protocol
	env1 := c.sign(s1, c.admin)
	id1 := s1.Identity(env1.Payload)
	c.advance(s1, id1)
	s2 := c.world.protocol("T1", "version 3")
	s2.Amends, s2.Supersedes = id1, id1
	blocker := c.newTrial("P1")
	reached, open := g.shut()
	stored := c.seq.stored.Load() + 1
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.seq.Add(context.Background(), blocker); err != nil {
			t.Error(err)
		}
	})
	<-reached
	for i, env := range []*statement.Envelope{env1, c.sign(s2, c.admin)} {
		wg.Go(func() {
			a, err := c.seq.Add(context.Background(), Request{Envelope: env.Bytes(), Beacon: c.beacon()})
			if err != nil {
				t.Errorf("statement %d: %v", i+1, err)
				return
			}
			c.check(a.Receipt, fmt.Sprint("version ", i+2))
		})
		await(func() bool { return c.seq.stored.Load() > stored+uint64(i) })
	}
	open <- nil
	wg.Wait()
}

func TestBusy(t *testing.T) {
	for name, limits := range map[string]Limits{"places": {Queue: 2}, "bytes": {QueueBytes: 60000}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.limits.Queue, w.limits.QueueBytes = limits.Queue, limits.QueueBytes
			var g *gate
			w.wrap = func(c *Config) { g = &gate{Log: c.Tree}; c.Tree = g }
			if err := w.start(); err != nil {
				t.Fatal(err)
			}
			w.enrol()
			reached, open := g.shut()
			var requests []Request
			for i := range 10 {
				requests = append(requests, w.newTrial(fmt.Sprint("B", i)))
			}
			var wg sync.WaitGroup
			var mu sync.Mutex
			busy := 0
			for i, r := range requests {
				wg.Go(func() {
					_, err := w.seq.Add(context.Background(), r)
					mu.Lock()
					defer mu.Unlock()
					if errors.Is(err, ErrBusy) {
						busy++
					} else if err != nil {
						t.Error(err)
					}
				})
				if i == 0 {
					<-reached
				}
			}
			await(func() bool { // whoever got in waits, and all others were sent away
				mu.Lock()
				defer mu.Unlock()
				inside := w.seq.intake.load().items
				return inside > 1 && busy+inside == 10
			})
			open <- nil
			wg.Wait()
			if left := w.seq.intake.load(); busy == 0 || busy > 8 || left != (load{}) {
				t.Errorf("%d of 9 were told that the log is busy, %+v is left under way", busy, left)
			}
			for _, r := range requests {
				if _, err := w.seq.Add(context.Background(), r); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			}
		})
	}
}

// TestReceiptFails: an entry that is published, but whose receipt cannot be built
// at the moment, is still promised.
func TestReceiptFails(t *testing.T) {
	w := newWorld(t)
	broken := &brokenReads{}
	w.wrap = func(c *Config) { broken.Store = c.Tiles; c.Tiles = broken }
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	r := w.newTrial("F1")
	if _, err := w.seq.Add(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	clear(w.seq.beacons.by)
	broken.set(true)
	a, err := w.seq.Add(t.Context(), r)
	if err != nil || a.Receipt != nil || a.Promise == nil {
		t.Errorf("answer %+v, %v; expected a promise", a, err)
	}
	broken.set(false)
	a, err = w.seq.Add(t.Context(), r)
	if err != nil || a.Receipt == nil {
		t.Fatalf("answer %+v, %v; expected a receipt", a, err)
	}
	w.check(a.Receipt, "")
}

// brokenReads is a store of which reads fail.
type brokenReads struct {
	blob.Store
	mu     sync.Mutex
	broken bool
}

func (b *brokenReads) set(broken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = broken
}

func (b *brokenReads) Get(ctx context.Context, key string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken {
		return nil, errSabotage
	}
	return b.Store.Get(ctx, key)
}

func TestRecent(t *testing.T) {
	r := newRecent()
	const n = recentSize + 1000
	id := func(i int) statement.Identity { return sum(strconv.Itoa(i)) }
	for i := range n {
		if want := min(i, recentSize); r.reach() != uint64(want) {
			t.Fatalf("reach %d after %d entries, expected %d", r.reach(), i, want)
		}
		r.add(id(i), outcome{index: uint64(i)})
	}
	for i := range n {
		out, ok := r.get(id(i))
		if ok != (i >= n-recentSize) || ok && out.index != uint64(i) {
			t.Fatalf("entry %d of %d: %v, %+v", i, n, ok, out)
		}
	}
}

func TestMemo(t *testing.T) {
	m := memo[int, string]{limit: 10}
	for i := range 30 {
		if got := m.put(i, strconv.Itoa(i)); got != strconv.Itoa(i) {
			t.Fatalf("put %d: %q", i, got)
		}
		if got := m.put(i, "another"); got != strconv.Itoa(i) {
			t.Fatalf("a value has changed to %q", got)
		}
		if got, ok := m.get(i); !ok || got != strconv.Itoa(i) {
			t.Fatalf("get %d: %q, %v", i, got, ok)
		}
	}
	if len(m.by) != 10 {
		t.Errorf("%d values are remembered, expected 10", len(m.by))
	}
	var none memo[int, string]
	none.put(1, "x")
	if _, ok := none.get(1); ok {
		t.Error("a memo without a limit remembers")
	}
}

// TestQueueIsAnswered: who waits in the queue when Run ends is answered, also
// when it never took anything in.
func TestQueueIsAnswered(t *testing.T) {
	w := newWorld(t)
	w.open()
	defer w.close()
	if err := os.Remove(filepath.Join(w.dir, "register")); err != nil {
		t.Fatal(err)
	}
	answers := make(chan outcome, 1)
	submit := func() {
		sub := &submission{ticket: ticket{"acme", 100}, done: func(out outcome) { answers <- out }}
		if err := w.seq.intake.take(sub.ticket); err != nil {
			t.Fatal(err)
		}
		w.seq.enqueue(sub)
	}
	submit()
	var no *RefusedError
	if err := w.seq.Run(t.Context()); !errors.As(err, &no) || no.Reason != RegisterMissing {
		t.Errorf("it ended with %v", err)
	}
	if out := <-answers; !errors.Is(out.err, ErrNotReady) {
		t.Errorf("answer %+v", out)
	}
	// One that slips in afterwards takes care of itself.
	submit()
	if out := <-answers; !errors.Is(out.err, ErrNotReady) {
		t.Errorf("afterwards: %+v", out)
	}
	if left := w.seq.intake.load(); left != (load{}) {
		t.Errorf("%+v is under way in an empty queue", left)
	}
}

func TestReasons(t *testing.T) {
	cause := errors.New("cause")
	for name, tt := range map[string]struct {
		err           error
		store, writer Reason // "" for none
	}{
		"damaged log":       {fmt.Errorf("%w: %w", tlog.ErrCorrupt, cause), Corrupt, Corrupt},
		"damaged tile":      {errors.Join(&tile.CorruptError{Object: "x"}, cause), Corrupt, Corrupt},
		"other tile":        {fmt.Errorf("%w: %w", tile.ErrMismatch, cause), Fork, Fork},
		"anything":          {cause, "", Failed},
		"unknown outcome":   {fmt.Errorf("%w: %w", tlog.ErrUnknownOutcome, cause), "", Failed},
		"named before":      {refuse(Owned, "%w", cause), Owned, Owned},
		"failed for good":   {fmt.Errorf("%w: %w", tlog.ErrFailed, cause), "", Failed},
		"outside the range": {fmt.Errorf("%w: %w", tlog.ErrRange, cause), "", Failed},
	} {
		for i, got := range []error{storeError("read", tt.err), stopped("read", tt.err)} {
			var no *RefusedError
			want := []Reason{tt.store, tt.writer}[i]
			if errors.As(got, &no) != (want != "") || no != nil && no.Reason != want || !errors.Is(got, cause) {
				t.Errorf("%s: %v, expected reason %q", name, got, want)
			}
		}
	}
}
