package gateway

import (
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

// turns lets every caller do one thing at a time.
type turns struct {
	mu   sync.Mutex
	open map[string]struct{}
}

// enter begins the turn of a party, if its last one has ended.
func (t *turns) enter(party string) (leave func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, open := t.open[party]; open {
		return nil, &fault{
			code: codes.ResourceExhausted, retry: time.Second,
			detail: "another document of yours is on its way; send one after the other",
		}
	}
	t.open[party] = struct{}{}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.open, party)
	}, nil
}

// pacedReader reads a body whose sender must keep up a rate from the first byte
// on. Whoever announces much and sends little is not waited for longer than
// whoever announces little.
type pacedReader struct {
	body  io.Reader
	now   func() time.Time
	until func(time.Time) error // sets the deadline of reading
	begun time.Time
	pause time.Duration // the longest
	rate  int64         // bytes a second, not counting one pause
	read  int64         // bytes so far
}

// Read implements io.Reader.
func (p *pacedReader) Read(b []byte) (int, error) {
	_ = p.until(p.deadline())
	n, err := p.body.Read(b)
	p.read += int64(n)
	return n, err
}

// deadline is when the next byte must be there: in time for the rate, and in no
// case after more than a pause, however fast it went before.
func (p *pacedReader) deadline() time.Time {
	due := p.begun.Add(p.pause + time.Duration(float64(p.read)/float64(p.rate)*float64(time.Second)))
	if latest := p.now().Add(p.pause); latest.Before(due) {
		return latest
	}
	return due
}
