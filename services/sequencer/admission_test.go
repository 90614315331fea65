package sequencer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

// gated starts a shard whose integrations can be held up.
func gated(t *testing.T, limits Limits) (*cast, *gate) {
	t.Helper()
	c := newCast(t)
	if err := c.halt(); err != nil {
		t.Fatal(err)
	}
	var g *gate
	c.wrap = func(cfg *Config) { g = &gate{Log: cfg.Tree}; cfg.Tree = g }
	limits.Interval, limits.RetryQuorum, limits.BatchDelay = c.limits.Interval, c.limits.RetryQuorum, c.limits.BatchDelay
	c.limits = limits
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	return c, g
}

// trials makes requests of an organisation that open trials.
func (c *cast) trials(organisation string, n int) []Request {
	c.t.Helper()
	key := c.admin
	if organisation == "rival" {
		key = c.rival
	}
	requests := make([]Request, n)
	for i := range requests {
		s := c.trial(organisation, fmt.Sprint(organisation, ".", len(c.chain), ".", i), key)
		requests[i] = c.request(s, key)
	}
	return requests
}

// TestOneOrganisationLeavesRoom: an organisation that submits ten times what the
// log bears keeps nobody else out.
func TestOneOrganisationLeavesRoom(t *testing.T) {
	c, g := gated(t, Limits{Queue: 30})
	greedy, modest := c.trials("rival", 300), c.trials("acme", 6)
	reached, open := g.shut()
	var sentAway, taken atomic.Int64
	var wg sync.WaitGroup
	submit := func(r Request, busy *atomic.Int64) {
		wg.Go(func() {
			r.Pending = true
			_, err := c.seq.Add(context.Background(), r)
			switch {
			case err == nil:
				taken.Add(1)
			case errors.Is(err, ErrBusy):
				busy.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	for _, r := range greedy {
		submit(r, &sentAway)
	}
	<-reached
	await(func() bool { return int(sentAway.Load())+c.seq.intake.load().items == len(greedy) })
	held := c.seq.intake.load().items
	if held < 15 || held > 20 {
		t.Errorf("one organisation alone holds %d of 30 places", held)
	}
	var refusedModest atomic.Int64
	for _, r := range modest {
		submit(r, &refusedModest)
	}
	await(func() bool { return int(refusedModest.Load())+c.seq.intake.load().items == held+len(modest) })
	if n := refusedModest.Load(); n > 0 {
		t.Errorf("%d of %d submissions of another organisation were sent away", n, len(modest))
	}
	open <- nil
	wg.Wait()
	if taken.Load() != int64(held+len(modest)) {
		t.Errorf("%d were taken in, expected all %d that had room", taken.Load(), held+len(modest))
	}
}

// TestGoodputUnderOverload: three times what the log bears at once, again and
// again: as much is taken in each time, and in the end all of it.
func TestGoodputUnderOverload(t *testing.T) {
	c, g := gated(t, Limits{Queue: 24})
	const share = 16 // of one organisation alone
	todo := c.trials("acme", 3*share)
	for round := 0; len(todo) > 0; round++ {
		reached, open := g.shut()
		var mu sync.Mutex
		var left []Request
		var wg sync.WaitGroup
		for _, r := range todo {
			wg.Go(func() {
				r.Pending = true
				_, err := c.seq.Add(context.Background(), r)
				if err == nil {
					return
				}
				var busy *BusyError
				if !errors.As(err, &busy) || busy.After < minRetry || busy.After > maxRetry {
					t.Errorf("error %v, expected one that says when to try again", err)
				}
				mu.Lock()
				defer mu.Unlock()
				left = append(left, r)
			})
		}
		<-reached
		await(func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(left)+c.seq.intake.load().items == len(todo)
		})
		open <- nil
		wg.Wait()
		if want := max(0, len(todo)-share); len(left) != want {
			t.Fatalf("round %d: %d of %d were sent away, expected %d", round, len(left), len(todo), want)
		}
		todo = left
	}
}

// TestKnownInTheCrowd: what is in the log is found, at times, also when there is
// no room; by Find always.
func TestKnownInTheCrowd(t *testing.T) {
	c, g := gated(t, Limits{Queue: 3})
	known := c.trials("acme", 1)[0]
	a, err := c.seq.Add(t.Context(), known)
	if err != nil {
		t.Fatal(err)
	}
	reached, open := g.shut()
	var wg sync.WaitGroup
	for _, r := range c.trials("rival", 2) {
		wg.Go(func() {
			if _, err := c.seq.Add(context.Background(), r); err != nil {
				t.Error(err)
			}
		})
	}
	<-reached
	await(func() bool { return c.seq.intake.load().items == 2 })
	if err := c.seq.intake.take(ticket{"blocker", 1}); err != nil {
		t.Fatal(err)
	}
	found := 0
	for range 4 * lookupEvery {
		again, err := c.seq.Add(t.Context(), known)
		switch {
		case err == nil && again.Index == a.Index && again.Duplicate && again.Receipt != nil:
			found++
		case !errors.Is(err, ErrBusy):
			t.Fatalf("answer %+v, %v", again, err)
		}
		if _, at, err := c.seq.Find(t.Context(), a.Identity); err != nil || at != a.Index {
			t.Fatal(at, err)
		}
	}
	if found != 4 {
		t.Errorf("found %d times in %d tries, expected 4", found, 4*lookupEvery)
	}
	forged := known
	forged.Envelope = flip(known.Envelope)
	for range lookupEvery {
		if a, err := c.seq.Add(t.Context(), forged); err == nil {
			t.Errorf("a forged signature got %+v", a)
		}
	}
	c.seq.intake.release(ticket{"blocker", 1})
	open <- nil
	wg.Wait()
}

// flip changes the last signature of an envelope.
func flip(envelope []byte) []byte {
	out := append([]byte{}, envelope...)
	at := len(out) - 20
	if out[at] == 'A' {
		out[at] = 'B'
	} else {
		out[at] = 'A'
	}
	return out
}

// TestClock: while the clock is wrong nothing new is taken in; what is there is
// published, found and answered; and it goes on when the clock is right again.
func TestClock(t *testing.T) {
	w := newWorld(t)
	var verified atomic.Bool
	var wrong atomic.Pointer[error]
	w.wrap = func(c *Config) {
		c.Clock = func() (bool, error) {
			if err := wrong.Load(); err != nil {
				return true, *err
			}
			return verified.Load(), nil
		}
	}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	v := &Server{sequencer: w.seq}
	clock := func() string {
		head, err := v.Head(t.Context(), &trialogv1.HeadRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return head.GetClock()
	}
	if got := clock(); got != "unverified" {
		t.Errorf("without sources the clock is %q", got)
	}
	verified.Store(true)
	if clock() != "verified" {
		t.Errorf("with sources that agree the clock is %q", clock())
	}
	known, fresh := w.newTrial("C1"), w.newTrial("C2")
	a, err := w.seq.Add(t.Context(), known)
	if err != nil {
		t.Fatal(err)
	}
	w.witness.setDown(true, true, true)
	hanging := w.newTrial("C3")
	hanging.Pending = true
	b, err := w.seq.Add(t.Context(), hanging)
	if err != nil {
		t.Fatal(err)
	}
	off := errors.New("an hour ahead of 2 of 3 sources")
	wrong.Store(&off)
	var refused *RefusedError
	if err := w.seq.Ready(); !errors.As(err, &refused) || refused.Reason != Clock || !errors.Is(err, off) {
		t.Errorf("ready: %v", err)
	}
	if got := clock(); got != "unverified" {
		t.Errorf("with sources that disagree the clock is %q", got)
	}
	size := w.seq.stored.Load()
	for name, add := range map[string]func(Request) (*Answer, error){
		"add":    func(r Request) (*Answer, error) { return w.seq.Add(t.Context(), r) },
		"stream": func(r Request) (*Answer, error) { return addByStream(t.Context(), w.seq, r) },
	} {
		if a, err := add(fresh); a != nil || name == "add" && (!errors.As(err, &refused) || refused.Reason != Clock) ||
			name == "stream" && !errors.Is(err, ErrNotReady) {
			t.Errorf("%s: answer %+v, %v while the clock is wrong", name, a, err)
		}
		again, err := add(known)
		if err != nil || again.Index != a.Index || !again.Duplicate || again.Receipt == nil {
			t.Errorf("%s: a known statement got %+v, %v while the clock is wrong", name, again, err)
		}
	}
	_, err = v.Add(t.Context(), &trialogv1.AddRequest{Submit: &trialogv1.SubmitRequest{Envelope: fresh.Envelope}})
	if told := read(err); told.reason != "clock" || told.retry != retryAfter {
		t.Errorf("by RPC: %+v", told)
	}
	if now := w.seq.stored.Load(); now != size {
		t.Errorf("%d entries were stored while the clock is wrong", now-size)
	}
	w.witness.setDown(false, false, false)
	if _, err := w.seq.waitPublished(t.Context(), b.Index); err != nil {
		t.Errorf("nothing is published while the clock is wrong: %v", err)
	}
	wrong.Store(nil)
	for _, r := range []Request{fresh, w.newTrial("C4")} {
		if got, err := w.seq.Add(t.Context(), r); err != nil || got.Duplicate || got.Receipt == nil {
			t.Errorf("answer %+v, %v when the clock is right again", got, err)
		}
	}
}

// TestClockInTheQueue: a clock that goes wrong between the door and the writer
// gives nobody a time.
func TestClockInTheQueue(t *testing.T) {
	w := newWorld(t)
	var calls atomic.Int64
	off := errors.New("off")
	var armed atomic.Bool
	w.wrap = func(c *Config) {
		c.Clock = func() (bool, error) {
			if armed.Load() && calls.Add(1) > 1 {
				return false, off
			}
			return true, nil
		}
	}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	r := w.newTrial("Q1")
	armed.Store(true)
	a, err := w.seq.Add(t.Context(), r)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Reason != Clock {
		t.Errorf("answer %+v, %v", a, err)
	}
	if w.seq.stored.Load() != 2 {
		t.Errorf("%d entries are stored", w.seq.stored.Load())
	}
}

// TestWaitersAreBounded: who finds too many waiting for FINAL gets the promise.
func TestWaitersAreBounded(t *testing.T) {
	w := newWorld(t)
	w.limits.Waiting = 3
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	w.witness.setDown(true, true, true)
	var wg sync.WaitGroup
	var receipts, promises atomic.Int64
	const n = 12
	for i := range n {
		r := w.newTrial(fmt.Sprint("W", i))
		add := w.seq.Add
		if i%2 == 0 {
			add = func(ctx context.Context, r Request) (*Answer, error) { return addByStream(ctx, w.seq, r) }
		}
		wg.Go(func() {
			a, err := add(context.Background(), r)
			switch {
			case err != nil:
				t.Error(err)
			case a.Receipt != nil:
				receipts.Add(1)
			default:
				promises.Add(1)
			}
		})
	}
	await(func() bool { return promises.Load() == n-3 })
	w.witness.setDown(false, false, false)
	wg.Wait()
	if receipts.Load() != 3 {
		t.Errorf("%d receipts, %d promises, expected 3 receipts", receipts.Load(), promises.Load())
	}
	w.nothingUnderWay()
}
