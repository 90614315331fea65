package gateway

import (
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

// gate bounds how many of something are under way at once, in all and of one
// party. Whoever finds it full is told so at once: a queue would only make all
// answers late.
type gate struct {
	all, each int    // each 0: one party may have all
	detail    string // for who is turned away

	mu    sync.Mutex
	total int
	of    map[string]int // by party; only with each
}

func newGate(all, each int, detail string) *gate {
	return &gate{all: all, each: each, detail: detail, of: map[string]int{}}
}

// enter lets one of a party's in; leave is called when it has ended.
func (g *gate) enter(party string) (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total >= g.all || g.each > 0 && g.of[party] >= g.each {
		return nil, &fault{code: codes.ResourceExhausted, detail: g.detail, retry: time.Second}
	}
	g.total++
	if g.each > 0 {
		g.of[party]++
	}
	return func() { g.leave(party) }, nil
}

func (g *gate) leave(party string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	if g.each == 0 {
		return
	}
	g.of[party]--
	if g.of[party] == 0 {
		delete(g.of, party)
	}
}
