package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt/parts"
)

// Limits of a message.
const (
	maxStreamItems  = 256
	maxStreamBytes  = 512 << 10
	maxStreamAnswer = 32 << 20 // 256 answers with entries of their own
)

// run opens connections until all is answered, or nothing more can be.
func (s *Stream) run(ctx context.Context) {
	defer close(s.ended)
	defer close(s.out)
	defer func() { _ = s.conn.Close() }() // nothing more is sent over it
	defer s.cancel()
	for attempt := 1; ; attempt++ {
		if !s.awaitWork(ctx) {
			break
		}
		c := &connection{Stream: s, assembler: parts.NewAssembler(s.policy), known: map[string]bool{}}
		err := c.serve(ctx)
		if c.answered {
			attempt = 1
		}
		if final := endOf(ctx, err); final != nil {
			s.fail(final)
			return
		}
		if s.done() {
			break
		}
		wait := max(s.cfg.Retry.backoff(attempt), retryDelay(err))
		s.expire(attempt, err, wait)
		if s.cfg.Retry.Pause(ctx, wait) != nil {
			break
		}
	}
	s.fail(cmp.Or(ctx.Err(), ErrClosed))
}

// awaitWork waits until there is something to send. It returns false if there
// never will be.
func (s *Stream) awaitWork(ctx context.Context) bool {
	for {
		s.mu.Lock()
		work, closed := len(s.pending) > 0, s.closed
		s.mu.Unlock()
		if work {
			return ctx.Err() == nil
		}
		if closed {
			return false
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return false
		}
	}
}

// endOf returns the error after which no further connection is opened; nil if
// one is.
func endOf(ctx context.Context, err error) error {
	if untrue, ok := errors.AsType[*UntrueError](err); ok {
		return untrue
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	if p := statusProblem(status.Convert(err).Proto()); !p.Temporary() {
		return p
	}
	return nil
}

// retryDelay is when the server wants to be asked again.
func retryDelay(err error) time.Duration {
	if err == nil {
		return 0
	}
	return statusProblem(status.Convert(err).Proto()).RetryAfter
}

// fail answers all that has no answer, and ends Send.
func (s *Stream) fail(err error) {
	s.mu.Lock()
	s.closed = true
	if s.failed == nil {
		s.failed = err
	}
	s.mu.Unlock()
	for _, x := range s.unanswered() {
		s.answer(x, reply{result: Result{Err: s.lost(x, err)}})
	}
}

// lost is the error of a submission whose outcome stays unknown because of err.
func (s *Stream) lost(x *sending, err error) error {
	if _, ok := errors.AsType[*UntrueError](err); ok {
		return err
	}
	if p, ok := errors.AsType[*Problem](err); ok && !p.Temporary() {
		return p
	}
	return &UnreachableError{Attempts: x.attempts, Err: err}
}

// expire answers what has been tried for as long as Retry says; wait is the pause
// before the next attempt.
func (s *Stream) expire(attempt int, err error, wait time.Duration) {
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	for _, x := range s.unanswered() {
		// What is yet to have its first attempt gets one, unless nobody is there.
		if x.attempts == 0 && attempt == 1 {
			continue
		}
		if s.cfg.Now().Add(wait).After(x.first.Add(s.cfg.Retry.For)) {
			s.answer(x, reply{result: Result{Err: s.lost(x, err)}})
		}
	}
}

// connection is one RPC of a Stream.
type connection struct {
	*Stream

	assembler *parts.Assembler
	known     map[string]bool // beacons that the log has taken from this connection
	answered  bool            // something was
}

// serve sends what has no answer and whatever comes, until the RPC ends. A nil
// error means that all was answered.
func (c *connection) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.cfg.Token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.cfg.Token)
	}
	rpc, err := c.client.SubmitStream(ctx)
	if err != nil {
		return err
	}
	c.begin()
	sender := make(chan struct{})
	go func() {
		defer close(sender)
		c.sendAll(ctx, rpc)
	}()
	defer func() { cancel(); <-sender }()
	for {
		resp, err := rpc.Recv()
		if err == nil {
			err = c.take(resp)
		}
		if errors.Is(err, io.EOF) && c.done() {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// begin queues all that has no answer.
func (c *connection) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = c.sorted()
	for _, x := range c.queue {
		x.queued, x.flying = true, false
	}
}

// sendAll sends what is queued, and half-closes when all is answered.
func (c *connection) sendAll(ctx context.Context, rpc trialogv1.SubmissionService_SubmitStreamClient) {
	for {
		list := c.next()
		if len(list) == 0 {
			if c.done() {
				_ = rpc.CloseSend() // an error is Recv's too
				return
			}
			select {
			case <-c.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		req := &trialogv1.SubmitStreamRequest{Submissions: make([]*trialogv1.StreamSubmission, len(list))}
		for i, x := range list {
			m := &trialogv1.StreamSubmission{Tag: x.tag, Envelope: x.submission.Envelope, Wait: x.submission.Wait.wire()}
			if x.carried {
				m.Beacon = x.beacon
			}
			req.Submissions[i] = m
		}
		if rpc.Send(req) != nil {
			return // Recv says why
		}
	}
}

// next takes from the queue what goes into one message.
func (c *connection) next() []*sending {
	c.mu.Lock()
	defer c.mu.Unlock()
	size, n := 0, 0
	for n < len(c.queue) && n < maxStreamItems {
		x := c.queue[n]
		// The beacon goes along until the log has it for certain: until a
		// submission that carried it was taken in.
		x.carried = x.beacon != "" && !c.known[x.beacon]
		size += len(x.submission.Envelope)
		if x.carried {
			size += len(x.beacon)
		}
		if n > 0 && size > maxStreamBytes {
			break
		}
		x.attempts++
		x.queued, x.flying = false, true
		n++
	}
	list := slices.Clone(c.queue[:n])
	clear(c.queue[:n])
	c.queue = c.queue[n:]
	return list
}

// take reads one message of the log's. An *UntrueError ends the stream.
func (c *connection) take(resp *trialogv1.SubmitStreamResponse) error {
	for _, p := range resp.GetParts() {
		if err := c.takePart(p); err != nil {
			return &UntrueError{What: "part of a receipt", Err: err}
		}
	}
	for _, a := range resp.GetAnswers() {
		c.mu.Lock()
		x := c.pending[a.GetTag()]
		waits := x != nil && x.flying
		c.mu.Unlock()
		if !waits {
			return untrue("answer", nil, "it has the tag %d, which is of nothing that waits for an answer", a.GetTag())
		}
		c.takeAnswer(x, a)
	}
	return nil
}

func (c *connection) takePart(p *trialogv1.ReceiptPart) error {
	switch v := p.GetPart().(type) {
	case *trialogv1.ReceiptPart_Checkpoint:
		return c.assembler.AddCheckpoint(p.GetNumber(), v.Checkpoint)
	case *trialogv1.ReceiptPart_Beacon:
		return c.assembler.AddBeacon(p.GetNumber(), v.Beacon)
	case *trialogv1.ReceiptPart_Enrolment:
		return c.assembler.AddEnrolment(p.GetNumber(), v.Enrolment.GetEntry(), proofOf(v.Enrolment.GetProof()))
	}
	return fmt.Errorf("part %d is empty", p.GetNumber())
}

func proofOf(p *trialogv1.StreamProof) parts.Proof {
	return parts.Proof{Checkpoint: p.GetCheckpoint(), Index: p.GetIndex(), Path: p.GetPath()}
}

// takeAnswer gives one answer out, or leaves the submission to be sent again.
func (c *connection) takeAnswer(x *sending, a *trialogv1.StreamAnswer) {
	switch v := a.GetResult().(type) {
	case *trialogv1.StreamAnswer_Error:
		err := refusal(v.Error)
		if p, ok := errors.AsType[*Problem](err); ok && unknownOutcome(v.Error.GetCode()) {
			if c.again(x, p) {
				return
			}
		}
		c.answer(x, reply{result: Result{Err: err}})
	case *trialogv1.StreamAnswer_Final:
		c.took(x)
		c.answer(x, c.final(x, v.Final))
	case *trialogv1.StreamAnswer_Pending:
		c.took(x)
		c.answer(x, c.promised(x, v.Pending))
	default:
		c.answer(x, reply{result: Result{Err: untrue("answer", nil, "it is empty")}})
	}
}

// took remembers that the log has the beacon of a submission.
func (c *connection) took(x *sending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered = true
	if x.carried {
		c.known[x.beacon] = true
	}
}

// unknownOutcome tells whether the statement of an error may have been taken in.
func unknownOutcome(code int32) bool {
	switch codes.Code(code) { //nolint:exhaustive,gosec // all others say that it was not, or never will be
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown:
		return true
	}
	return false
}

// again sends a submission again after a pause, if there is time for that.
func (c *connection) again(x *sending, p *Problem) bool {
	wait := max(c.cfg.Retry.backoff(x.attempts), p.RetryAfter)
	if c.cfg.Now().Add(wait).After(x.first.Add(c.cfg.Retry.For)) {
		p.Uncertain = true
		return false
	}
	c.mu.Lock()
	x.flying = false
	c.mu.Unlock()
	time.AfterFunc(wait, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.pending[x.tag] == x && !x.queued && !x.flying {
			at, _ := slices.BinarySearchFunc(c.queue, x, byTag)
			c.queue = slices.Insert(c.queue, at, x)
			x.queued = true
		}
		c.wakeUp()
	})
	return true
}

// final checks a receipt in parts. What takes long is left for Recv to do, in
// the caller's goroutine.
func (c *connection) final(x *sending, f *trialogv1.StreamFinal) reply {
	final := parts.Final{
		Proof: proofOf(f.GetProof()), ReceivedMillis: f.GetReceivedMs(), Entry: f.GetEntry(), Beacon: f.GetBeacon(),
		Enrolments: f.GetEnrolments(), Duplicate: f.GetDuplicate(),
	}
	a := &Acknowledgement{Identity: x.submission.Identity, Index: f.GetProof().GetIndex(), Duplicate: f.GetDuplicate()}
	if c.cfg.Check == InclusionOnly {
		in, err := c.assembler.Check(x.submission.Envelope, final)
		if err != nil {
			return reply{result: Result{Err: &UntrueError{What: "receipt", Err: err}}}
		}
		a.Leaf, a.TreeSize = in.Leaf, in.Size
		return reply{result: Result{Acknowledgement: a}}
	}
	r, in, err := c.assembler.Receipt(x.submission.Envelope, final)
	if err != nil {
		return reply{result: Result{Err: &UntrueError{What: "receipt", Err: err}}}
	}
	a.Leaf, a.TreeSize = in.Leaf, in.Size
	return reply{result: Result{Acknowledgement: a}, check: func(a *Acknowledgement) (err error) {
		if a.Identity, err = x.submission.identity(); err != nil {
			return err
		}
		if a.Receipt, err = r.Encode(); err != nil {
			return &UntrueError{What: "receipt", Err: err}
		}
		if a.Verdict, err = checkReceipt(c.policy, a.Receipt, a.Identity, a.Index, c.cfg.Now()); err != nil {
			return err
		}
		return c.heads.meet(r.Proof.Note)
	}}
}

// promised checks a promise.
func (c *connection) promised(x *sending, p *trialogv1.StreamPending) reply {
	a := &Acknowledgement{Index: p.GetIndex(), Pending: p.GetPromise(), Duplicate: p.GetDuplicate()}
	return reply{result: Result{Acknowledgement: a}, check: func(a *Acknowledgement) (err error) {
		if a.Identity, err = x.submission.identity(); err != nil {
			return err
		}
		a.Promise, err = checkPromise(c.policy, a, x.submission.Envelope)
		return err
	}}
}
