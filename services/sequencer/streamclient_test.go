package sequencer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

// clientParts is how many of the newest parts a client keeps.
const clientParts = 1024

// streamClient is the other end of a stream, in process. It forgets parts as a
// client may, and puts receipts together from the rest.
type streamClient struct {
	seq    *Sequencer
	cancel context.CancelFunc
	in     chan *trialogv1.AddStreamRequest
	broken chan error // makes the next recv fail
	done   chan struct{}
	err    error // what ServeStream returned

	mu       sync.Mutex
	sent     map[uint64][]byte // envelopes by tag
	parts    map[uint64]*trialogv1.ReceiptPart
	newest   uint64
	answers  map[uint64]*clientAnswer
	order    []uint64 // tags in the order of the answers
	received int      // messages that the log has read
	problems []error
	blocked  chan struct{} // send waits for it; may be nil
}

// clientAnswer is what a client makes of an answer.
type clientAnswer struct {
	*trialogv1.StreamAnswer
	receipt *receipt.Receipt
	raw     []byte
}

func openStream(ctx context.Context, seq *Sequencer) *streamClient {
	ctx, cancel := context.WithCancel(ctx)
	c := &streamClient{
		seq: seq, cancel: cancel, in: make(chan *trialogv1.AddStreamRequest, 1000), broken: make(chan error, 1),
		done: make(chan struct{}), sent: map[uint64][]byte{}, parts: map[uint64]*trialogv1.ReceiptPart{},
		answers: map[uint64]*clientAnswer{},
	}
	// Like that of gRPC, the context ends when the service has returned.
	go func() {
		defer close(c.done)
		defer cancel()
		c.err = seq.ServeStream(ctx, func() (*trialogv1.AddStreamRequest, error) { return c.recv(ctx) }, c.take)
	}()
	return c
}

func (c *streamClient) recv(ctx context.Context) (*trialogv1.AddStreamRequest, error) {
	select {
	case err := <-c.broken:
		return nil, err
	default:
	}
	select {
	case err := <-c.broken:
		return nil, err
	case m, ok := <-c.in:
		if !ok {
			return nil, io.EOF
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.received++
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// submit sends one message.
func (c *streamClient) submit(subs ...*trialogv1.StreamSubmission) {
	c.mu.Lock()
	for _, s := range subs {
		c.sent[s.GetTag()] = s.GetEnvelope()
	}
	c.mu.Unlock()
	var granted []string
	for _, role := range statement.Roles() {
		granted = append(granted, string(role))
	}
	c.in <- &trialogv1.AddStreamRequest{Submit: &trialogv1.SubmitStreamRequest{Submissions: subs}, GrantedRoles: granted}
}

// take is what the log sends answers to.
func (c *streamClient) take(m *trialogv1.AddStreamResponse) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if blocked := c.blocked; blocked != nil {
		c.mu.Unlock()
		<-blocked
		c.mu.Lock()
	}
	for _, p := range m.GetSubmitted().GetParts() {
		if p.GetNumber() != c.newest+1 {
			c.problems = append(c.problems, fmt.Errorf("part %d after %d", p.GetNumber(), c.newest))
		}
		c.newest = p.GetNumber()
		c.parts[c.newest] = p
		delete(c.parts, c.newest-clientParts)
	}
	for _, a := range m.GetSubmitted().GetAnswers() {
		if c.answers[a.GetTag()] != nil {
			c.problems = append(c.problems, fmt.Errorf("tag %d is answered twice", a.GetTag()))
		}
		got := &clientAnswer{StreamAnswer: a}
		if f := a.GetFinal(); f != nil {
			var err error
			if got.receipt, err = c.assemble(f, c.sent[a.GetTag()]); err == nil {
				got.raw, err = got.receipt.Encode()
			}
			if err != nil {
				c.problems = append(c.problems, fmt.Errorf("tag %d: %w", a.GetTag(), err))
			}
		}
		c.answers[a.GetTag()] = got
		c.order = append(c.order, a.GetTag())
	}
	return nil
}

// assemble makes a receipt of an answer, from the parts that a client still has.
func (c *streamClient) assemble(f *trialogv1.StreamFinal, envelope []byte) (*receipt.Receipt, error) {
	r := &receipt.Receipt{Entry: f.GetEntry()}
	var err error
	if len(r.Entry) == 0 {
		if r.Entry, err = entry.Encode(time.UnixMilli(f.GetReceivedMs()), envelope); err != nil {
			return nil, err
		}
	}
	if r.Proof, err = c.proof(f.GetProof()); err != nil {
		return nil, err
	}
	if n := f.GetBeacon(); n > 0 {
		if r.Beacon = []byte(c.parts[n].GetBeacon()); len(r.Beacon) == 0 {
			return nil, fmt.Errorf("part %d is no beacon that a client has", n)
		}
	}
	for _, n := range f.GetEnrolments() {
		e := c.parts[n].GetEnrolment()
		if e == nil {
			return nil, fmt.Errorf("part %d is no enrolment that a client has", n)
		}
		p, err := c.proof(e.GetProof())
		if err != nil {
			return nil, err
		}
		r.Enrolments = append(r.Enrolments, receipt.Enrolment{Entry: e.GetEntry(), Proof: p})
	}
	return r, nil
}

func (c *streamClient) proof(p *trialogv1.StreamProof) (*receipt.Proof, error) {
	note, err := checkpoint.Parse([]byte(c.parts[p.GetCheckpoint()].GetCheckpoint()))
	if err != nil {
		return nil, fmt.Errorf("part %d is no checkpoint that a client has: %w", p.GetCheckpoint(), err)
	}
	out := &receipt.Proof{Index: p.GetIndex(), Note: note}
	path := p.GetPath()
	for ; len(path) >= 32; path = path[32:] {
		out.Path = append(out.Path, [32]byte(path))
	}
	if len(path) > 0 {
		return nil, errors.New("a path of no whole hashes")
	}
	return out, nil
}

// answered returns how many answers there are.
func (c *streamClient) answered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.answers)
}

// answer returns the answer to a tag; an empty one if there is none.
func (c *streamClient) answer(tag uint64) *clientAnswer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.answers[tag]; a != nil {
		return a
	}
	return &clientAnswer{}
}

// finish ends the stream, waits for the log to end its side, and returns what is
// wrong with what it sent.
func (c *streamClient) finish() error {
	close(c.in)
	<-c.done
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(append(c.problems, c.err)...)
}

// addByStream is Add through a stream of its own.
func addByStream(ctx context.Context, seq *Sequencer, r Request) (*Answer, error) {
	c := openStream(ctx, seq)
	sub := &trialogv1.StreamSubmission{Tag: 7, Envelope: r.Envelope, Beacon: string(r.Beacon)}
	if r.Pending {
		sub.Wait = trialogv1.Wait_WAIT_PENDING
	}
	c.submit(sub)
	err := c.finish()
	a := c.answer(7)
	if a.StreamAnswer == nil {
		return nil, errors.Join(ErrNotReady, err) // nobody knows
	}
	if st := a.GetError(); st != nil {
		if st.GetCode() == int32(codes.Unavailable) {
			return nil, errors.Join(ErrNotReady, status.FromProto(st).Err())
		}
		return nil, status.FromProto(st).Err()
	}
	_, stmt, perr := statement.Parse(r.Envelope)
	env, eerr := statement.ParseEnvelope(r.Envelope)
	if err := errors.Join(err, perr, eerr); err != nil && !errors.Is(err, ErrNotReady) {
		return nil, err
	}
	out := &Answer{Identity: stmt.Identity(env.Payload)}
	if f := a.GetFinal(); f != nil {
		out.Index, out.Duplicate, out.Receipt = f.GetProof().GetIndex(), f.GetDuplicate(), a.raw
	} else {
		p := a.GetPending()
		out.Index, out.Duplicate, out.Promise = p.GetIndex(), p.GetDuplicate(), p.GetPromise()
	}
	return out, nil
}
