package sequencer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/trialog/trialog/api/entry"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
)

const (
	// maxSubmissions is how many submissions a message may carry.
	maxSubmissions = 256
	// chunkSize is how many submissions are prepared in one turn.
	chunkSize = 16
	// maxNotes is how many of the beacons that came in a stream are remembered
	// for later statements that name them.
	maxNotes = 16
)

// ServeStream serves one stream of submissions: recv gives the next message, or
// io.EOF after the last one; send takes the next answers. It returns nil when
// all that was received is answered. recv must fail soon after ServeStream has
// returned, as that of a gRPC stream does.
//
// Statements are taken in the order in which they came, although they are
// verified in parallel. At most Limits.Window of them are not answered; beyond
// that recv is not called. When there is no room in the log the stream waits, at
// most Limits.FinalWait, before a submission is answered with ErrBusy.
func (s *Sequencer) ServeStream(
	ctx context.Context, recv func() (*trialogv1.AddStreamRequest, error), send func(*trialogv1.AddStreamResponse) error,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st := &stream{
		s: s, ctx: ctx, order: make(chan *chunk, 4), notes: notes{by: map[statement.Digest][]byte{}},
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
	go st.forward()
	go st.receive(recv)
	return (&answerer{stream: st, send: send, parts: newParts(s)}).run()
}

// stream is the receiving half of a stream of submissions.
type stream struct {
	s     *Sequencer
	ctx   context.Context //nolint:containedctx // it lives as long as the stream
	order chan *chunk     // in the order of the stream
	notes notes
	wake  chan struct{} // tells the answerer that something has arrived
	room  chan struct{} // tells the receiver that the window has moved

	mu      sync.Mutex
	window  load    // what is not answered
	arrived []*item // whose outcome is known
	ended   bool    // nothing more will be received
	err     error   // why
}

// item is one submission of a stream.
type item struct {
	tag     uint64
	req     Request
	ticket  ticket
	shut    error // nothing new is taken in
	sub     *submission
	known   bool // out is that of an entry that is there already
	out     outcome
	stmt    *statement.Statement
	signers string // see signersOf
	id      statement.Identity
	cost    int64
	// asSent tells that the logged envelope is the one that was sent.
	asSent bool
	age    int // ticks that it has waited for FINAL
}

// chunk is some consecutive submissions that are prepared together.
type chunk struct {
	items []*item
	done  chan struct{}
}

// receive reads messages while the window has room.
func (st *stream) receive(recv func() (*trialogv1.AddStreamRequest, error)) {
	err := func() error {
		for {
			if err := st.waitRoom(); err != nil {
				return err
			}
			req, err := recv()
			if err != nil {
				return err
			}
			if err := st.message(req); err != nil {
				return err
			}
		}
	}()
	if errors.Is(err, io.EOF) {
		err = nil
	}
	close(st.order)
	st.mu.Lock()
	st.ended, st.err = true, err
	st.mu.Unlock()
	st.signal()
}

// waitRoom waits until the window has room for another message.
func (st *stream) waitRoom() error {
	limits := st.s.c.Limits
	for {
		st.mu.Lock()
		free := st.window.items < limits.Window && st.window.bytes < limits.WindowBytes
		st.mu.Unlock()
		if free {
			return nil
		}
		select {
		case <-st.room:
		case <-st.ctx.Done():
			return st.ctx.Err()
		}
	}
}

// message takes the submissions of one message.
func (st *stream) message(m *trialogv1.AddStreamRequest) error {
	list := m.GetSubmit().GetSubmissions()
	if len(list) < 1 || len(list) > maxSubmissions {
		return fieldStatus(codes.InvalidArgument, "submissions", fmt.Sprintf("expected 1 to %d, found %d", maxSubmissions, len(list)))
	}
	var granted []statement.Role
	for _, role := range m.GetGrantedRoles() {
		granted = append(granted, statement.Role(role))
	}
	items := make([]*item, len(list))
	var bytes int64
	for i, sub := range list {
		it := &item{tag: sub.GetTag(), req: Request{
			Envelope: sub.GetEnvelope(), Granted: granted, Pending: sub.GetWait() == trialogv1.Wait_WAIT_PENDING,
			notes: &st.notes,
		}}
		if note := sub.GetBeacon(); note != "" {
			it.req.Beacon = []byte(note)
			st.notes.add(it.req.Beacon)
		}
		it.cost = it.req.cost()
		it.ticket = ticket{hint(it.req.Envelope), it.cost}
		bytes += it.cost
		items[i] = it
	}
	st.mu.Lock()
	st.window.items += len(items)
	st.window.bytes += bytes
	st.mu.Unlock()
	return st.takeIn(items)
}

// notes are the beacons that came with earlier submissions of a stream: the log
// may not hold them yet when a later one names them.
type notes struct {
	mu   sync.Mutex
	by   map[statement.Digest][]byte
	ring []statement.Digest // oldest first
}

func (n *notes) add(note []byte) {
	if len(note) > maxBeacon {
		return
	}
	digest := statement.Digest(sha256.Sum256(note))
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.by[digest]; ok {
		return
	}
	if len(n.ring) == maxNotes {
		delete(n.by, n.ring[0])
		n.ring = n.ring[1:]
	}
	n.by[digest], n.ring = note, append(n.ring, digest)
}

// get returns the note; nil if it did not come, or long ago.
func (n *notes) get(digest statement.Digest) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.by[digest]
}

// takeIn finds room for items, and has them prepared in chunks. Who has room
// never waits for those who have none.
func (st *stream) takeIn(items []*item) error {
	s := st.s
	shut := s.Ready()
	next := &chunk{done: make(chan struct{})}
	flush := func() error {
		if len(next.items) == 0 {
			return nil
		}
		c := next
		next = &chunk{done: make(chan struct{})}
		return st.start(c)
	}
	for _, it := range items {
		it.shut = shut
		err := s.intake.take(it.ticket)
		if err != nil {
			if err := flush(); err != nil {
				return err
			}
			if err = st.waitIntake(it.ticket); err != nil && !errors.Is(err, ErrBusy) {
				return err
			}
			shut = s.Ready() // it may have been long
			it.shut = shut
		}
		if err != nil {
			it.out.err, it.ticket = err, ticket{}
		}
		next.items = append(next.items, it)
		if len(next.items) == chunkSize {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func (st *stream) waitIntake(t ticket) error {
	patience := time.NewTimer(st.s.c.Limits.FinalWait)
	defer patience.Stop()
	return st.s.intake.wait(st.ctx, t, patience.C)
}

// start has a chunk prepared and puts it in its place. A chunk that is not
// started gives its room back.
func (st *stream) start(c *chunk) error {
	if err := st.s.turns.take(st.ctx, c.items[0].ticket.organisation, len(c.items)); err != nil {
		for _, it := range c.items {
			st.drop(it)
		}
		return err
	}
	go func() {
		defer close(c.done)
		defer st.s.turns.done()
		for _, it := range c.items {
			if it.out.err == nil {
				st.prepare(it)
			}
		}
	}()
	st.order <- c // who takes it out never waits for this goroutine
	return nil
}

// prepare is what needs no order.
func (st *stream) prepare(it *item) {
	s := st.s
	var sub *submission
	var err error
	switch {
	case it.shut == nil:
		sub, it.out, it.known, err = s.prepare(st.ctx, it.req)
	case takesLookups(it.shut):
		if sub, it.out, it.known, err = s.known(st.ctx, it.req); err == nil && !it.known {
			err = it.shut
		}
	default:
		err = errors.Join(ErrNotReady, it.shut)
	}
	if err != nil {
		it.out = outcome{err: err}
		return
	}
	it.sub, it.stmt, it.id, it.signers = sub, sub.stmt, sub.identity, signersOf(sub.stmt)
}

// forward hands what is prepared to the writer, in the order of the stream.
// When the stream has ended nothing more is: whatever was handed over comes to
// its end, and the client learns of it by sending it again.
func (st *stream) forward() {
	for c := range st.order {
		<-c.done
		for _, it := range c.items {
			switch {
			case st.ctx.Err() != nil:
				st.drop(it)
			case it.out.err != nil || it.known:
				st.drop(it)
				st.deliver(it, it.out)
			default:
				sub := it.sub
				it.sub = nil
				sub.ticket = st.s.booked(it.ticket, sub.stmt)
				sub.done = func(out outcome) { st.deliver(it, out) }
				st.s.enqueue(sub)
			}
		}
	}
}

// deliver hands an item's outcome to the answerer.
func (st *stream) deliver(it *item, out outcome) {
	if out.err == nil {
		it.asSent = !out.duplicate || isLogged(it.req.Envelope, out)
	}
	out.entry = nil
	it.out, it.sub, it.req.Envelope, it.req.Beacon = out, nil, nil, nil
	st.mu.Lock()
	st.arrived = append(st.arrived, it)
	first := len(st.arrived) == 1
	st.mu.Unlock()
	if first {
		st.signal()
	}
}

// isLogged tells whether the entry holds exactly this envelope.
func isLogged(envelope []byte, out outcome) bool {
	raw, err := entry.Encode(out.received, envelope)
	return err == nil && entry.LeafHash(raw) == out.leaf
}

func (st *stream) signal() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// drop gives the room of an item back that will not be handed to the writer.
func (st *stream) drop(it *item) {
	if it.ticket.bytes > 0 {
		st.s.intake.release(it.ticket)
	}
}
