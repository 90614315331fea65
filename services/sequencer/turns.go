package sequencer

import (
	"container/heap"
	"context"
	"sync"
)

// turns lets a bounded number of goroutines at the processors, for the work that
// takes most of their time. While there are more, organisations take turns in
// proportion to what they cost and not to how many goroutines they send
// (start-time fair queueing).
type turns struct {
	mu      sync.Mutex
	free    int
	virtual float64 // start of the turn that was given last
	waiting turnHeap
	// finish is, by organisation, where its next turn starts at the earliest.
	finish map[string]float64
	seq    uint64
}

type turn struct {
	start float64
	seq   uint64 // among equals the first one is served first
	index int    // in the heap; -1 outside
	ready chan struct{}
}

// maxTurns is of how many organisations it is remembered what they had.
const maxTurns = 4096

func newTurns(n int) *turns { return &turns{free: n, finish: map[string]float64{}} }

// take waits for a turn of the given cost. Who got one calls done.
func (t *turns) take(ctx context.Context, organisation string, cost int) error {
	t.mu.Lock()
	if len(t.finish) >= maxTurns {
		t.forget()
	}
	start := max(t.virtual, t.finish[organisation])
	t.finish[organisation] = start + float64(cost)
	if t.free > 0 {
		t.free--
		t.virtual = max(t.virtual, start)
		t.mu.Unlock()
		return nil
	}
	t.seq++
	mine := &turn{start: start, seq: t.seq, ready: make(chan struct{})}
	heap.Push(&t.waiting, mine)
	t.mu.Unlock()
	select {
	case <-mine.ready:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.index < 0 { // it was given at the same moment: hand it on
		t.next()
		return ctx.Err()
	}
	heap.Remove(&t.waiting, mine.index)
	return ctx.Err()
}

func (t *turns) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next()
}

func (t *turns) next() {
	if len(t.waiting) == 0 {
		t.free++
		return
	}
	mine, _ := heap.Pop(&t.waiting).(*turn)
	t.virtual = max(t.virtual, mine.start)
	close(mine.ready)
}

// forget drops what organisations have had that others have caught up with and,
// if that is not enough, lets all begin anew behind those that wait.
func (t *turns) forget() {
	latest := t.virtual
	for organisation, finish := range t.finish {
		if latest = max(latest, finish); finish <= t.virtual {
			delete(t.finish, organisation)
		}
	}
	if len(t.finish) > maxTurns/2 {
		clear(t.finish)
		t.virtual = latest
	}
}

// turnHeap is a heap.Interface.
type turnHeap []*turn

// Len implements heap.Interface.
func (h *turnHeap) Len() int { return len(*h) }

// Less implements heap.Interface.
func (h *turnHeap) Less(i, j int) bool {
	a, b := (*h)[i], (*h)[j]
	return a.start < b.start || a.start == b.start && a.seq < b.seq
}

// Swap implements heap.Interface.
func (h *turnHeap) Swap(i, j int) {
	list := *h
	list[i], list[j] = list[j], list[i]
	list[i].index, list[j].index = i, j
}

// Push implements heap.Interface.
func (h *turnHeap) Push(x any) {
	t, _ := x.(*turn)
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *turnHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h, t.index = old[:len(old)-1], -1
	return t
}
