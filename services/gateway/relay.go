package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trialog/trialog/api/entry"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt/parts"
	"github.com/trialog/trialog/api/statement"
)

// relay is one stream.
type relay struct {
	g       *Gateway
	ctx     context.Context //nolint:containedctx // of the one stream that it is
	who     *caller
	down    trialogv1.SubmissionService_SubmitStreamServer
	up      trialogv1.SequencerService_AddStreamClient
	checker *parts.Checker // of answer alone

	sending sync.Mutex // one at a time sends to the caller

	room    chan struct{} // signalled when something was answered
	settled chan struct{} // signalled when nothing is open

	mu      sync.Mutex
	waiting map[uint64]*relayed // by tag; what the sequencer has to answer
	open    int                 // what the caller has no answer of yet
	bytes   int                 // of waiting's envelopes
	closed  bool                // nothing more is admitted
	moved   time.Time           // when something was admitted or answered last
}

// relayed is a submission that went to the sequencer.
type relayed struct {
	envelope []byte
	undo     func() // gives the organisation's quota back; nil for none
}

// admit looks at a message of the caller's and says what goes on to the
// sequencer and what is refused here, in order. An error is one of the whole
// stream: an answer could not be told apart from another's.
func (r *relay) admit(
	req *trialogv1.SubmitStreamRequest,
) (taken []*trialogv1.StreamSubmission, refused []*trialogv1.StreamAnswer, err error) {
	if err := streamFields(req); err != nil {
		return nil, nil, err
	}
	seen := make(map[uint64]bool, len(req.GetSubmissions()))
	for i, s := range req.GetSubmissions() {
		if seen[s.GetTag()] || r.isWaiting(s.GetTag()) {
			return taken, refused, invalid(fmt.Sprintf("submissions[%d].tag", i), "is that of a submission that is not answered yet")
		}
		seen[s.GetTag()] = true
		x, err := r.admitOne(s)
		if !r.register(s.GetTag(), x, err) {
			err = leaving()
			r.opened()
		}
		if err != nil {
			refused = append(refused, errorAnswer(s.GetTag(), err))
			continue
		}
		taken = append(taken, s)
	}
	return taken, refused, nil
}

// admitOne is what Submit does before it calls the sequencer, without reading the
// statement, which the sequencer does. Only a limit for organisations needs it
// read here.
func (r *relay) admitOne(s *trialogv1.StreamSubmission) (*relayed, error) {
	if err := r.g.quota.call(r.ctx, r.who); err != nil {
		return nil, err
	}
	if err := checkSubmission(s); err != nil {
		return nil, err
	}
	if len(s.GetEnvelope()) > statement.MaxEnvelope {
		return nil, invalid("envelope", fmt.Sprintf("expected at most %d bytes, found %d", statement.MaxEnvelope, len(s.GetEnvelope())))
	}
	x := &relayed{envelope: s.GetEnvelope()}
	if r.g.quota.organisations == nil {
		return x, nil
	}
	_, st, err := parseEnvelope(s.GetEnvelope())
	if err != nil {
		return nil, err
	}
	if x.undo, err = r.g.quota.statement(st.Organisation); err != nil {
		return nil, err
	}
	return x, nil
}

// register counts a submission, and remembers it unless it was refused. It
// returns false if the stream takes nothing in any more.
func (r *relay) register(tag uint64, x *relayed, refused error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.open++
	r.moved = r.g.cfg.Now()
	if refused == nil {
		r.waiting[tag] = x
		r.bytes += len(x.envelope)
	}
	return true
}

// opened counts a submission that register did not.
func (r *relay) opened() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open++
}

func (r *relay) isWaiting(tag uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting[tag] != nil
}

// pop takes a submission out of those that wait; nil if it does not.
func (r *relay) pop(tag uint64) *relayed {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.waiting[tag]
	if x != nil {
		delete(r.waiting, tag)
		r.bytes -= len(x.envelope)
	}
	return x
}

// settle says that n submissions were answered.
func (r *relay) settle(n int) {
	r.mu.Lock()
	r.open -= n
	r.moved = r.g.cfg.Now()
	none := r.open == 0
	r.mu.Unlock()
	signal(r.room)
	if none {
		signal(r.settled)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// isSettled tells whether nothing is open.
func (r *relay) isSettled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open == 0
}

// stillFor is how long nothing has moved.
func (r *relay) stillFor() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.g.cfg.Now().Sub(r.moved)
}

// stopReading lets nothing more in.
func (r *relay) stopReading() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	signal(r.room)
}

// awaitRoom waits until another message may be read. It returns false if none
// will be.
func (r *relay) awaitRoom() bool {
	for {
		r.mu.Lock()
		full, closed := r.open >= streamWindow || r.bytes >= streamWindowBytes, r.closed
		r.mu.Unlock()
		if closed || !full {
			return !closed
		}
		select {
		case <-r.room:
		case <-r.ctx.Done():
			return false
		}
	}
}

// leftOver takes all that waits and makes answers of it.
func (r *relay) leftOver(f *fault) []*trialogv1.SubmitStreamResponse {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*trialogv1.SubmitStreamResponse
	for tag := range r.waiting {
		if n := len(list); n == 0 || len(list[n-1].GetAnswers()) == maxStreamItems {
			list = append(list, &trialogv1.SubmitStreamResponse{})
		}
		last := list[len(list)-1]
		last.Answers = append(last.GetAnswers(), errorAnswer(tag, passing(f)))
	}
	clear(r.waiting)
	r.bytes = 0
	return list
}

// send sends to the caller.
func (r *relay) send(m *trialogv1.SubmitStreamResponse) error {
	r.sending.Lock()
	defer r.sending.Unlock()
	return r.down.Send(m)
}

func errorAnswer(tag uint64, err error) *trialogv1.StreamAnswer {
	return &trialogv1.StreamAnswer{Tag: tag, Result: &trialogv1.StreamAnswer_Error{Error: wireError(err)}}
}

// answer reads the sequencer's side, verifies it and passes it on. It returns
// when that side ends, or answers what could never be told from the truth.
func (r *relay) answer() error {
	for {
		resp, err := r.up.Recv()
		if err != nil {
			return err
		}
		got := resp.GetSubmitted()
		for _, p := range got.GetParts() {
			if err := addPart(r.checker, p); err != nil {
				// The parts behind it would have other numbers: nothing of this stream
				// can be passed on any more.
				return r.g.unproven(r.ctx, statement.Identity{}, "part")
			}
		}
		var answers []*trialogv1.StreamAnswer
		lied := false
		for _, a := range got.GetAnswers() {
			x := r.pop(a.GetTag())
			if x == nil {
				lied = true
				break
			}
			answers = append(answers, r.verified(x, a))
		}
		if len(answers)+len(got.GetParts()) > 0 {
			if err := r.send(&trialogv1.SubmitStreamResponse{Parts: got.GetParts(), Answers: answers}); err != nil {
				return err
			}
		}
		r.settle(len(answers))
		if lied {
			return r.g.unproven(r.ctx, statement.Identity{}, "tag")
		}
	}
}

// verified returns an answer that may be passed on: the sequencer's, or an error
// in its place.
func (r *relay) verified(x *relayed, a *trialogv1.StreamAnswer) *trialogv1.StreamAnswer {
	duplicate, err := r.check(x, a)
	if x.undo != nil && (err == nil && duplicate || err != nil && (rejected(err) || busy(err))) {
		x.undo()
	}
	if err == nil {
		return a
	}
	if status.Code(err) == codes.PermissionDenied && firstEnrolment(x.envelope) {
		return errorAnswer(a.GetTag(), forbidden("envelope.payload.predicate.attributes.recovery",
			"the first enrolment of an organisation is not taken in over a stream, expected a call of Submit"))
	}
	return errorAnswer(a.GetTag(), sequencerFault(err, submitted))
}

// check verifies one answer as far as that is to be had without reading the
// statement: see package parts. Its errors are those of the sequencer, or wrap
// errUnproven.
func (r *relay) check(x *relayed, a *trialogv1.StreamAnswer) (duplicate bool, err error) {
	switch v := a.GetResult().(type) {
	case *trialogv1.StreamAnswer_Error:
		if err := answeredError(v.Error); err != errUnproven { //nolint:errorlint // as it is given
			return false, err
		}
	case *trialogv1.StreamAnswer_Final:
		if _, err := r.checker.Check(x.envelope, finalOf(v.Final)); err == nil {
			return v.Final.GetDuplicate(), nil
		}
		return false, r.g.unproven(r.ctx, identityOf(x.envelope), "inclusion")
	case *trialogv1.StreamAnswer_Pending:
		if err := r.checkPromise(x, v.Pending); err == nil {
			return v.Pending.GetDuplicate(), nil
		}
		return false, r.g.unproven(r.ctx, identityOf(x.envelope), "promise")
	}
	return false, r.g.unproven(r.ctx, identityOf(x.envelope), "state")
}

// checkPromise verifies a promise, which binds the log to what it names: so it
// has to name what was sent.
func (r *relay) checkPromise(x *relayed, p *trialogv1.StreamPending) error {
	env, s, err := statement.Parse(x.envelope)
	if err != nil {
		return err
	}
	promise, err := r.g.readPromise(r.ctx, s.Identity(env.Payload), p.GetPromise(), p.GetIndex())
	if err != nil || p.GetDuplicate() {
		return err // a duplicate's entry may hold the signatures in another order
	}
	framed, err := entry.Encode(promise.Received, x.envelope)
	if err != nil {
		return err
	}
	if promise.LeafHash != statement.Digest(entry.LeafHash(framed)) {
		return errUnproven
	}
	return nil
}

// identityOf names a statement for the operator's log; all zeros if it cannot be
// read.
func identityOf(envelope []byte) statement.Identity {
	env, s, err := statement.Parse(envelope)
	if err != nil {
		return statement.Identity{}
	}
	return s.Identity(env.Payload)
}

// firstEnrolment tells whether an envelope holds the first enrolment of an
// organisation.
func firstEnrolment(envelope []byte) bool {
	_, s, err := statement.Parse(envelope)
	if err != nil {
		return false
	}
	_, first := s.RecoveryKey()
	return first
}
