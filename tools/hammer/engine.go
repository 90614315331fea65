package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/trialog/trialog/api/client"
)

// op is one thing to do at its time.
type op struct {
	n    int
	kind kind
	at   time.Time
}

// flight is a statement on its way.
type flight struct {
	op    op
	sub   *client.Submission
	chain *chain // of a valid one
	want  uint64 // index of a duplicate
}

// acked is a statement that was acknowledged.
type acked struct {
	sub   client.Submission
	index uint64
}

// engine does what is due.
type engine struct {
	plan    *plan
	author  *author
	tally   *tally
	journal *journal
	now     func() time.Time
	due     chan op

	mu     sync.Mutex
	recent []acked // some that were acknowledged
	seen   int
}

// keptAcks is how many acknowledged statements duplicates and readers choose from.
const keptAcks = 4096

// maxDue bounds what is due and not begun; a schedule that is further behind than
// that waits, with the times that it had.
const maxDue = 1 << 20

// schedule makes ops due, each at its time, whatever became of those before. It
// closes due at the end.
func (e *engine) schedule(ctx context.Context, start time.Time) {
	defer close(e.due)
	step := float64(time.Second) / e.plan.perSecond
	total := int(e.plan.duration.Seconds() * e.plan.perSecond)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := range total {
		at := start.Add(time.Duration(float64(n) * step))
		if wait := at.Sub(e.now()); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		e.tally.schedule()
		select {
		case e.due <- op{n: n, kind: e.plan.at(n), at: at}:
		case <-ctx.Done():
			e.tally.add(unattempted, 0, nil)
			return
		}
	}
}

// fly prepares what an op sends. It waits for a chain that is free.
func (e *engine) fly(ctx context.Context, o op) (*flight, error) {
	if o.kind == duplicate {
		if a, ok := e.pick(); ok {
			again := a.sub
			return &flight{op: o, sub: &again, want: a.index}, nil
		}
		o.kind = valid // there is none yet
	}
	if o.kind == invalid {
		x, err := e.author.spoil(o.n)
		if err != nil {
			return nil, err
		}
		return &flight{op: o, sub: &x.Submission}, nil
	}
	c, err := e.author.take(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.author.prepare(c); err != nil {
		return nil, err
	}
	return &flight{op: o, chain: c, sub: &c.next.Submission}, nil
}

// next waits for the next op and prepares it; false at the end.
func (e *engine) next(ctx context.Context) (*flight, bool) {
	for o := range e.due {
		f, err := e.fly(ctx, o)
		if err == nil {
			return f, true
		}
		if !errors.Is(err, errStopped) {
			e.tally.add(unexpected, 0, err)
			continue
		}
		e.tally.add(unattempted, 0, nil)
	}
	return nil, false
}

// landed counts a result.
func (e *engine) landed(f *flight, r client.Result) {
	what := judge(f.op.kind, r)
	err := r.Err
	if what == known && r.Acknowledgement.Index != f.want {
		what, err = unexpected, errors.New("a duplicate was answered with another index than before")
	}
	late := e.now().Sub(f.op.at)
	if what == final || what == pending {
		if failed := e.journal.add(r.Acknowledgement); failed != nil {
			what, err = unexpected, failed
		}
		e.remember(acked{sub: *f.sub, index: r.Acknowledgement.Index})
	}
	e.tally.add(what, late, err)
	if f.chain == nil {
		return
	}
	switch what { //nolint:exhaustive // a chain of which the log thinks otherwise is left alone
	case final, pending:
		e.author.settle(f.chain, true)
	case busy, unknown:
		e.author.settle(f.chain, false)
	}
}

// remember keeps an acknowledged statement, each with the same chance.
func (e *engine) remember(a acked) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen++
	if len(e.recent) < keptAcks {
		e.recent = append(e.recent, a)
	} else if at := below(e.seen); at < keptAcks {
		e.recent[at] = a
	}
}

// pick returns one that was acknowledged.
func (e *engine) pick() (acked, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.recent) == 0 {
		return acked{}, false
	}
	return e.recent[below(len(e.recent))], true
}

// below is a random number from 0 to n-1; of so few, the remainder's bias does no
// harm.
func below(n int) int {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return int(binary.BigEndian.Uint32(b[:])) % n
}

// unary sends one statement at a time.
func (e *engine) unary(ctx context.Context) {
	for {
		f, ok := e.next(ctx)
		if !ok {
			return
		}
		a, err := e.author.rest.Submit(ctx, f.sub.Envelope, f.sub.Beacon, f.sub.Wait)
		e.landed(f, client.Result{Acknowledgement: a, Err: err})
	}
}

// batches sends what is due, as much as fits, in one call after the other.
func (e *engine) batches(ctx context.Context) {
	for {
		first, ok := e.next(ctx)
		if !ok {
			return
		}
		flights := []*flight{first}
		for len(flights) < client.MaxBatch && len(e.due) > 0 && len(e.author.free) > 0 {
			f, ok := e.next(ctx)
			if !ok {
				break
			}
			flights = append(flights, f)
		}
		subs := make([]*client.Submission, len(flights))
		for i, f := range flights {
			subs[i] = f.sub
		}
		results, err := e.author.rest.SubmitBatch(ctx, subs)
		for i, f := range flights {
			r := client.Result{Err: err}
			if err == nil {
				r = results[i]
			}
			e.landed(f, r)
		}
	}
}

// stream sends over a stream, without waiting for answers.
func (e *engine) stream(ctx context.Context) error {
	check := client.InclusionOnly
	if e.plan.full {
		check = client.Full
	}
	s, err := client.NewStream(ctx, client.StreamConfig{
		Address: e.plan.grpc, Policy: e.plan.believed, Check: check, Now: e.now, Window: e.plan.window,
		Retry: client.Retry{For: e.plan.drain, Max: time.Second}, UserAgent: "trialog-hammer",
	})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	open := map[*client.Submission]*flight{}
	received := make(chan struct{})
	ended := context.WithoutCancel(ctx)
	go func() {
		defer close(received)
		for {
			r, err := s.Recv(ended) // with the stream
			if err != nil {
				return
			}
			mu.Lock()
			f := open[r.Submission]
			delete(open, r.Submission)
			mu.Unlock()
			e.landed(f, *r)
		}
	}()
	for {
		f, ok := e.next(ctx)
		if !ok {
			break
		}
		mu.Lock()
		open[f.sub] = f
		mu.Unlock()
		if err := s.Send(ctx, f.sub); err != nil {
			mu.Lock()
			delete(open, f.sub)
			mu.Unlock()
			e.tally.add(unattempted, 0, nil)
		}
	}
	s.CloseSend()
	<-received
	return s.Close()
}
