package sequencer

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// clockwork is a clock that tests move.
type clockwork struct{ at time.Time }

func (c *clockwork) now() time.Time { return c.at }

func TestIntakeShares(t *testing.T) {
	clock := &clockwork{time.Unix(1000, 0)}
	fill := func(in *intake, organisation string, bytes int64) (n int) {
		for in.take(ticket{organisation, bytes}) == nil {
			n++
		}
		return n
	}
	for name, tt := range map[string]struct {
		items int
		bytes int64
		each  int64
		want  []int // how many the organisations get, one after the other
	}{
		"by number":   {items: 300, bytes: 1 << 30, each: 1, want: []int{200, 67, 22, 8, 2, 1}},
		"by bytes":    {items: 1 << 20, bytes: 3000, each: 10, want: []int{200, 67, 22, 8, 2, 1}},
		"one too big": {items: 10, bytes: 100, each: 1000, want: []int{1, 0}},
		"one place":   {items: 1, bytes: 100, each: 1, want: []int{1, 0}},
	} {
		in := newIntake(tt.items, tt.bytes, clock.now)
		for i, want := range tt.want {
			if got := fill(in, fmt.Sprint("o", i), tt.each); got != want {
				t.Errorf("%s: organisation %d gets %d places, expected %d", name, i, got, want)
			}
		}
		if used := in.load(); used.items > tt.items || used.items > 1 && used.bytes > tt.bytes {
			t.Errorf("%s: %+v is in use", name, used)
		}
	}
}

// TestIntakeBooks: whatever is taken, moved and given back, the books are right
// and the bounds are kept.
func TestIntakeBooks(t *testing.T) {
	clock := &clockwork{time.Unix(1000, 0)}
	in := newIntake(50, 5000, clock.now)
	rng := rand.New(rand.NewPCG(5, 6))
	var held []ticket
	refused := 0
	for range 20000 {
		clock.at = clock.at.Add(time.Millisecond)
		switch what := rng.IntN(10); {
		case what < 7:
			tk := ticket{fmt.Sprint("o", rng.IntN(4)), int64(1 + rng.IntN(300))}
			if err := in.take(tk); err == nil {
				held = append(held, tk)
			} else if !errors.Is(err, ErrBusy) {
				t.Fatal(err)
			} else {
				refused++
			}
		case what < 8 && len(held) > 0:
			i := rng.IntN(len(held))
			held[i] = in.move(held[i], fmt.Sprint("o", rng.IntN(4)))
		case len(held) > 0:
			n := 1 + rng.IntN(min(3, len(held)))
			in.release(held[:n]...)
			held = held[n:]
		}
		want := load{items: len(held)}
		by := map[string]load{}
		for _, tk := range held {
			want.bytes += tk.bytes
			l := by[tk.organisation]
			by[tk.organisation] = load{l.items + 1, l.bytes + tk.bytes}
		}
		if in.used != want || in.used.items > 50 || in.used.bytes > 5000 {
			t.Fatalf("%+v is in use, expected %+v", in.used, want)
		}
		if len(by) != len(in.held) {
			t.Fatalf("%d organisations are in the books, expected %d", len(in.held), len(by))
		}
		for o, l := range by {
			if in.held[o] != l {
				t.Fatalf("%s holds %+v, expected %+v", o, in.held[o], l)
			}
		}
	}
	if refused == 0 {
		t.Error("nobody was refused")
	}
}

// TestRetryFollowsTheRate: who is sent away is told how long what is under way
// takes, as fast as it went of late.
func TestRetryFollowsTheRate(t *testing.T) {
	clock := &clockwork{time.Unix(1000, 0)}
	in := newIntake(1000, 1<<30, clock.now)
	tk := ticket{"o", 1}
	drain := func(perSecond int) {
		for range 40 { // in steps of 100 ms
			clock.at = clock.at.Add(rateSpan)
			for range perSecond / 10 {
				in.release(tk)
				if err := in.take(tk); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	told := func() time.Duration {
		for in.take(tk) == nil {
			continue
		}
		var busy *BusyError
		if err := in.take(tk); !errors.As(err, &busy) {
			t.Fatal(err)
		}
		return busy.After
	}
	fill := func(n int) {
		for range n {
			if err := in.take(tk); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := told(); got != defaultRetry {
		t.Errorf("before anything was done: %s", got)
	}
	in.release(slicesOf(tk, in.used.items)...)
	fill(100)
	for _, tt := range []struct {
		rate int
		want time.Duration // for 667 under way
	}{{1000, 667 * time.Millisecond}, {200, 3335 * time.Millisecond}, {100000, minRetry}, {10, maxRetry}} {
		drain(tt.rate)
		got := told()
		if got < tt.want*9/10 || got > tt.want*11/10 {
			t.Errorf("at %d per second: %s, expected about %s", tt.rate, got, tt.want)
		}
		in.release(slicesOf(tk, in.used.items-100)...)
	}
	// Time in which there is nothing to do is no time in which little is done.
	in.release(slicesOf(tk, in.used.items)...)
	fill(100)
	drain(1000)
	in.release(slicesOf(tk, in.used.items)...)
	clock.at = clock.at.Add(time.Hour)
	fill(100)
	drain(1000)
	if got := told(); got > time.Second {
		t.Errorf("after an idle hour: %s", got)
	}
}

func slicesOf(tk ticket, n int) []ticket {
	list := make([]ticket, n)
	for i := range list {
		list[i] = tk
	}
	return list
}

func TestIntakeWait(t *testing.T) {
	in := newIntake(1, 100, time.Now)
	tk := ticket{"o", 1}
	if err := in.take(tk); err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	for range 2 {
		go func() { got <- in.wait(t.Context(), tk, nil) }()
	}
	for range 2 {
		await(func() bool { in.mu.Lock(); defer in.mu.Unlock(); return in.room != nil })
		in.release(tk)
		if err := <-got; err != nil {
			t.Fatal(err)
		}
	}
	fired := make(chan time.Time, 1)
	fired <- time.Time{}
	if err := in.wait(t.Context(), tk, fired); !errors.Is(err, ErrBusy) {
		t.Errorf("out of patience: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := in.wait(gone, tk, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("client gone: %v", err)
	}
	if in.load() != (load{1, 1}) {
		t.Errorf("%+v is in use", in.load())
	}
}

func TestBudget(t *testing.T) {
	b := budget{limit: load{3, 100}}
	for i, tt := range []struct {
		bytes int64
		ok    bool
	}{{60, true}, {50, false}, {40, true}, {1, false}, {0, true}, {0, false}} {
		if b.take(tt.bytes) != tt.ok {
			t.Fatalf("step %d: expected %v", i, tt.ok)
		}
	}
	b.release(60)
	if !b.take(60) || b.take(1) {
		t.Error("what was given back is not there, or more")
	}
}

func TestHint(t *testing.T) {
	w := newWorld(t)
	w.open()
	defer w.close()
	s, keys := enrolment{org: "acme", key: w.admin, roles: []string{"sponsor"}, recovery: w.recovery}.draft(w)
	good := w.sign(s, keys...).Bytes()
	envelope := func(payload string) string {
		return `{"payload":"` + base64.StdEncoding.EncodeToString([]byte(payload)) + `"}`
	}
	for name, tt := range map[string]struct{ envelope, want string }{
		"as this library writes it": {string(good), "acme"},
		"nothing":                   {"", ""},
		"no payload":                {`{"x":"y"}`, ""},
		"no base64":                 {`{"payload":"!!!!"}`, ""},
		"cut short":                 {string(good[:60]), ""},
		"no organisation":           {envelope(`{"a":"b"}`), ""},
		"unfinished":                {envelope(`{"organisation":"acm`), ""},
		"too long":                  {envelope(`{"organisation":"` + fmt.Sprintf("%065d", 0) + `"}`), ""},
		"minimal":                   {envelope(`{"organisation":"x"}`), "x"},
	} {
		if got := hint([]byte(tt.envelope)); got != tt.want {
			t.Errorf("%s: %q, expected %q", name, got, tt.want)
		}
	}
}

// TestTurnsAreFair: an organisation with ten times the goroutines and larger
// turns does not keep another one waiting.
func TestTurnsAreFair(t *testing.T) {
	turns := newTurns(1)
	if err := turns.take(t.Context(), "first", 1); err != nil {
		t.Fatal(err)
	}
	granted := make(chan string, 100)
	queue := func(organisation string, cost int) {
		turns.mu.Lock()
		before := len(turns.waiting)
		turns.mu.Unlock()
		go func() {
			if err := turns.take(context.Background(), organisation, cost); err != nil {
				t.Error(err)
			}
			granted <- organisation
		}()
		await(func() bool { turns.mu.Lock(); defer turns.mu.Unlock(); return len(turns.waiting) > before })
	}
	for range 40 {
		queue("greedy", 16)
	}
	for range 32 {
		queue("modest", 1)
	}
	greedy, modest := 0, 0
	for modest < 32 {
		turns.done()
		if <-granted == "greedy" {
			greedy++
		} else {
			modest++
		}
	}
	// 32 turns of cost 1 are worth two turns of cost 16.
	if greedy > 3 {
		t.Errorf("%d turns of cost 16 came before 32 of cost 1", greedy)
	}
	for greedy < 40 {
		turns.done()
		<-granted
		greedy++
	}
	turns.done()
	if turns.free != 1 || len(turns.waiting) != 0 {
		t.Errorf("%d turns are free, %d wait", turns.free, len(turns.waiting))
	}
}

// TestTurnsCancelled: who leaves takes no turn along.
func TestTurnsCancelled(t *testing.T) {
	turns := newTurns(2)
	rng := rand.New(rand.NewPCG(1, 9))
	done := make(chan bool)
	const n = 300
	for i := range n {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(2000))*time.Microsecond)
		go func() {
			defer cancel()
			err := turns.take(ctx, fmt.Sprint("o", i%7), 1+i%5)
			if err == nil {
				<-ctx.Done() // holds it for a while
				turns.done()
			}
			done <- err == nil
		}()
	}
	took := 0
	for range n {
		if <-done {
			took++
		}
	}
	if turns.free != 2 || len(turns.waiting) != 0 || took == 0 || took == n {
		t.Errorf("%d turns are free, %d wait, %d of %d got one", turns.free, len(turns.waiting), took, n)
	}
}

// TestTurnsForget: organisations that are gone take no memory.
func TestTurnsForget(t *testing.T) {
	turns := newTurns(1)
	for i := range 100000 {
		if err := turns.take(t.Context(), fmt.Sprint("o", i), 1+i%3); err != nil {
			t.Fatal(err)
		}
		turns.done()
	}
	if len(turns.finish) > maxTurns {
		t.Errorf("%d organisations are remembered", len(turns.finish))
	}
}
