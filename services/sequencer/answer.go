package sequencer

import (
	"errors"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

const (
	// waitTicks is in how many steps the wait for FINAL is counted.
	waitTicks = 8
	// Bounds of a message of answers. A client accepts 4 MiB.
	maxAnswers     = 256
	maxAnswerParts = 128
	maxAnswerBytes = 512 << 10
)

// answerer is the sending half of a stream of submissions.
type answerer struct {
	*stream
	send  func(*trialogv1.AddStreamResponse) error
	parts *parts

	final []*item    // that wait for a checkpoint
	seen  *published // the one that they were held against last
	next  []*trialogv1.StreamAnswer
	bytes int  // of next, about
	freed load // of the window, by next
	over  bool // something was refused because the shard has ended
}

// run answers until the stream has ended and all is answered.
func (a *answerer) run() error {
	defer a.giveUp()
	tick := time.NewTicker(max(a.s.c.Limits.FinalWait/waitTicks, time.Millisecond))
	defer tick.Stop()
	ticked := false
	for {
		head, changed, stopped := a.s.watch()
		arrived, ended, err := a.collect()
		if err != nil {
			return err // the client is gone, or has sent what nobody may
		}
		for _, it := range arrived {
			if err := a.arrive(it, head); err != nil {
				return err
			}
		}
		if err := a.settle(head, ticked, stopped != nil); err != nil {
			return err
		}
		open, err := a.flush()
		switch {
		case err != nil:
			return err
		case open == 0 && ended:
			return nil
		case open == 0 && stopped != nil:
			return errors.Join(ErrNotReady, stopped)
		case open == 0 && a.over:
			return ErrEnded // the next stream goes to the successor
		}
		ticked = false
		select {
		case <-a.wake:
		case <-changed:
		case <-tick.C:
			ticked = true
		case <-a.ctx.Done():
			return a.ctx.Err()
		}
	}
}

// giveUp releases what waits when nobody will answer it.
func (a *answerer) giveUp() {
	for range a.final {
		a.s.waiting.release(waiterBytes)
	}
}

// collect takes what has arrived. ended tells that nothing more will.
func (a *answerer) collect() (arrived []*item, ended bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	arrived, a.arrived = a.arrived, nil
	return arrived, a.ended, a.err
}

// arrive answers an item whose outcome is known, or has it wait for FINAL.
func (a *answerer) arrive(it *item, head *published) error {
	switch {
	case it.out.err != nil:
		return a.refuse(it, it.out.err)
	case it.out.final != nil: // it is in an earlier shard
		return a.finish(it, it.out.final)
	case it.req.Pending:
		return a.promise(it)
	case head.covers(it.out.index):
		return a.finish(it, head)
	case !a.s.waiting.take(waiterBytes):
		return a.promise(it)
	}
	a.final = append(a.final, it)
	return nil
}

// settle answers those that the newest checkpoint holds, and those that have
// waited for long enough, or in vain.
func (a *answerer) settle(head *published, ticked, stopped bool) error {
	if len(a.final) == 0 || head == a.seen && !ticked && !stopped {
		return nil
	}
	a.seen = head
	waiting := a.final
	a.final = waiting[:0]
	for i, it := range waiting {
		if ticked {
			it.age++
		}
		answer := a.promise
		switch {
		case head.covers(it.out.index):
			answer = func(it *item) error { return a.finish(it, head) }
		case !stopped && it.age <= waitTicks:
			a.final = append(a.final, it)
			continue
		}
		a.s.waiting.release(waiterBytes)
		if err := answer(it); err != nil {
			a.final = append(a.final, waiting[i+1:]...)
			return err
		}
	}
	clear(waiting[len(a.final):])
	return nil
}

// finish answers with a receipt in parts.
func (a *answerer) finish(it *item, head *published) error {
	f, err := a.parts.final(a.ctx, head, it)
	if a.ctx.Err() != nil {
		return a.ctx.Err()
	}
	if err != nil {
		if !errors.Is(err, errOutdated) {
			a.s.log.Error("no receipt of a published entry", "index", it.out.index, "error", err)
		}
		if it.out.final != nil { // another shard's place is not ours to promise
			return a.refuse(it, err)
		}
		return a.promise(it)
	}
	return a.put(it, &trialogv1.StreamAnswer{Tag: it.tag, Result: &trialogv1.StreamAnswer_Final{Final: f}},
		len(f.GetProof().GetPath())+len(f.GetEntry()))
}

func (a *answerer) promise(it *item) error {
	raw, err := a.s.promise(it.id, it.out)
	if err != nil {
		return a.refuse(it, err)
	}
	return a.put(it, &trialogv1.StreamAnswer{Tag: it.tag, Result: &trialogv1.StreamAnswer_Pending{
		Pending: &trialogv1.StreamPending{Index: it.out.index, Promise: raw, Duplicate: it.out.duplicate},
	}}, len(raw))
}

func (a *answerer) refuse(it *item, err error) error {
	a.over = a.over || errors.Is(err, ErrEnded)
	st := status.Convert(a.s.status(a.ctx, "add", err)).Proto()
	return a.put(it, &trialogv1.StreamAnswer{Tag: it.tag, Result: &trialogv1.StreamAnswer_Error{Error: st}}, proto.Size(st))
}

// put adds an answer to the next message, and sends that if it is full.
func (a *answerer) put(it *item, answer *trialogv1.StreamAnswer, size int) error {
	a.next = append(a.next, answer)
	a.bytes += size + 64
	a.freed.items++
	a.freed.bytes += it.cost
	if len(a.next) < maxAnswers && len(a.parts.unsent) < maxAnswerParts && a.bytes+a.parts.bytes < maxAnswerBytes {
		return nil
	}
	_, err := a.flush()
	return err
}

// flush sends what is ready, and returns how much of the window is still open.
func (a *answerer) flush() (open int, err error) {
	if len(a.next) > 0 {
		m := &trialogv1.SubmitStreamResponse{Parts: a.parts.take(), Answers: a.next}
		if err := a.send(&trialogv1.AddStreamResponse{Submitted: m}); err != nil {
			return 0, err
		}
	}
	a.mu.Lock()
	a.window.items -= a.freed.items
	a.window.bytes -= a.freed.bytes
	open = a.window.items
	a.mu.Unlock()
	if a.freed.items > 0 {
		select {
		case a.room <- struct{}{}:
		default:
		}
	}
	a.next, a.bytes, a.freed = nil, 0, load{}
	return open, nil
}
