package gateway

import (
	"context"
	"errors"
	"fmt"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt/parts"
	"github.com/trialog/trialog/api/statement"
)

const (
	maxBatch = 128
	// maxGroup bounds what goes to the sequencer in one message, in bytes of
	// envelopes and beacons: far below what gRPC takes by default.
	maxGroup = 1 << 20
	// maxAnswers bounds a message of the sequencer's: 256 answers with entries of
	// their own, and as many enrolments.
	maxAnswers = 40 << 20
)

// batch is one call of SubmitBatch.
type batch struct {
	g       *Gateway
	ctx     context.Context //nolint:containedctx // of the one call that it is
	who     *caller
	results []*trialogv1.SubmitResult
	items   []*batchItem // what goes to the sequencer, in the order of the request
	open    map[uint64]*batchItem
	parts   *parts.Assembler
}

// batchItem is a submission that went to the sequencer.
type batchItem struct {
	*admission

	at    int    // place in the request
	tag   uint64 // at + 1
	lacks error  // what the caller lacks to bring it in as a new one
	undo  func() // gives the organisation's quota back
}

// submitBatch takes several statements in, each for itself. They go to the
// sequencer over one stream, so that those of a chain keep their order and none
// waits for the checkpoint of another.
//
// Over REST the errors of single statements are google.rpc.Status in ProtoJSON:
// "code" is the number of the google.rpc.Code, "message" is for people, and
// "details" are objects that say what they are in "@type": google.rpc.BadRequest
// with "fieldViolations", whose "field" is spelt as Submit's problems spell it and
// begins at the one submission; trialog.v1.ChainHead; google.rpc.RetryInfo with
// "retryDelay", such as "1s". The call as a whole is a problem only if it was not
// understood, or if no statement could be taken in for the same passing reason:
// 429 or 503, with Retry-After.
func (g *Gateway) submitBatch(
	ctx context.Context, who *caller, req *trialogv1.SubmitBatchRequest,
) (*trialogv1.SubmitBatchResponse, error) {
	n := len(req.GetSubmissions())
	if n < 1 || n > maxBatch {
		return nil, invalid("submissions", fmt.Sprintf("expected 1 to %d, found %d", maxBatch, n))
	}
	// As in submit: who hangs up has not decided how the statements end.
	peer := ctx
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.limits.CallTimeout)
	defer cancel()
	b := &batch{
		g: g, ctx: ctx, who: who, results: make([]*trialogv1.SubmitResult, n),
		open: map[uint64]*batchItem{}, parts: parts.NewAssembler(g.policy),
	}
	for i, s := range req.GetSubmissions() {
		item, err := b.admit(peer, i, s)
		if err != nil {
			b.refuse(i, err)
			continue
		}
		b.items = append(b.items, item)
		b.open[item.tag] = item
	}
	if len(b.items) > 0 {
		err := b.exchange(ctx)
		for _, item := range b.items {
			if b.results[item.at] == nil {
				b.refuse(item.at, err)
			}
		}
	}
	if err := b.whole(); err != nil {
		return nil, err
	}
	return &trialogv1.SubmitBatchResponse{Results: b.results}, nil
}

// admit is what Submit does before it calls the sequencer. The first statement
// was counted with the call.
func (b *batch) admit(ctx context.Context, i int, s *trialogv1.SubmitRequest) (*batchItem, error) {
	if i > 0 {
		if err := b.g.quota.call(ctx, b.who); err != nil {
			return nil, err
		}
	}
	a, err := b.g.admit(s)
	if err != nil {
		return nil, err
	}
	item := &batchItem{admission: a, at: i, tag: uint64(i) + 1, undo: func() {}}
	if item.lacks = mayEnrol(b.who, a.statement); item.lacks != nil {
		return item, nil //nolint:nilerr // the sequencer may know the statement: see take
	}
	if item.undo, err = b.g.quota.statement(a.statement.Organisation); err != nil {
		return nil, err
	}
	return item, nil
}

// refuse answers a submission with an error.
func (b *batch) refuse(at int, err error) {
	b.results[at] = &trialogv1.SubmitResult{Result: &trialogv1.SubmitResult_Error{Error: wireError(err)}}
}

// wireError is an error as it goes out: nothing of what is inside.
func wireError(err error) *spb.Status {
	s, ok := status.FromError(err)
	if !ok {
		s = internal().GRPCStatus()
	}
	return s.Proto()
}

// exchange sends the admitted submissions and takes the answers. Its error is
// that of what has none.
func (b *batch) exchange(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	up, err := b.g.sequencer.AddStream(ctx, grpc.MaxCallRecvMsgSize(maxAnswers))
	if err != nil {
		return sequencerFault(err, submitted)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for _, m := range b.groups() {
			if up.Send(m) != nil {
				return // Recv says why
			}
		}
		_ = up.CloseSend() // as above
	}()
	defer func() { cancel(); <-sent }()
	for len(b.open) > 0 {
		resp, err := up.Recv()
		if err != nil {
			return lostStream(err)
		}
		for _, p := range resp.GetSubmitted().GetParts() {
			if err := addPart(b.parts, p); err != nil {
				return sequencerFault(b.g.unproven(ctx, statement.Identity{}, "part"), submitted)
			}
		}
		for _, a := range resp.GetSubmitted().GetAnswers() {
			item := b.open[a.GetTag()]
			if item == nil {
				return sequencerFault(b.g.unproven(ctx, statement.Identity{}, "tag"), submitted)
			}
			delete(b.open, a.GetTag())
			b.take(item, a)
		}
	}
	return nil
}

// groups are the messages to the sequencer, in order. Roles are granted to a
// message as a whole, so that a first enrolment has one to itself.
func (b *batch) groups() []*trialogv1.AddStreamRequest {
	var list []*trialogv1.AddStreamRequest
	var last *trialogv1.AddStreamRequest
	size := 0
	for _, item := range b.items {
		s := &trialogv1.StreamSubmission{
			Tag: item.tag, Envelope: item.request.GetEnvelope(), Beacon: item.request.GetBeacon(), Wait: item.request.GetWait(),
		}
		_, first := item.statement.RecoveryKey()
		grants := first && item.lacks == nil
		if last == nil || grants || len(last.GetGrantedRoles()) > 0 || size+submissionSize(s) > maxGroup {
			last, size = &trialogv1.AddStreamRequest{Submit: &trialogv1.SubmitStreamRequest{}}, 0
			if grants {
				last.GrantedRoles = b.who.roles
			}
			list = append(list, last)
		}
		last.Submit.Submissions = append(last.Submit.Submissions, s)
		size += submissionSize(s)
	}
	return list
}

func submissionSize(s *trialogv1.StreamSubmission) int {
	return len(s.GetEnvelope()) + len(s.GetBeacon()) + 32
}

// lostStream is the error of what the sequencer has not answered when its stream
// ends. That the stream ended well is no answer either.
func lostStream(err error) *fault {
	if status.Code(err) == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded) {
		return late()
	}
	return passing(fromSequencer(err, submitted))
}

// passing makes a fault one of those after which the same bytes are sent again:
// what ends a stream says nothing about a statement in it.
func passing(f *fault) *fault {
	if f.code == codes.Unavailable || f.code == codes.DeadlineExceeded {
		return f
	}
	out := unavailable("the log takes nothing in at the moment; send the same request again")
	out.retry = max(out.retry, f.retry)
	return out
}

// take verifies one answer and makes it the result.
func (b *batch) take(item *batchItem, a *trialogv1.StreamAnswer) {
	resp, err := b.verified(item, a)
	if !maybeNew(resp, err) {
		item.undo()
	}
	if item.lacks != nil {
		// As in again.
		switch {
		case status.Code(err) == codes.PermissionDenied:
			err = item.lacks
		case err == nil && !resp.GetDuplicate():
			b.g.logUngranted(b.ctx, item.id)
			err = item.lacks
		}
	}
	if err != nil {
		b.refuse(item.at, sequencerFault(err, submitted))
		return
	}
	b.results[item.at] = &trialogv1.SubmitResult{Result: &trialogv1.SubmitResult_Submitted{Submitted: resp}}
}

// verified makes a SubmitResponse of an answer, verified as that of Submit is. Its
// errors are those of the sequencer, or wrap errUnproven.
func (b *batch) verified(item *batchItem, a *trialogv1.StreamAnswer) (*trialogv1.SubmitResponse, error) {
	resp := &trialogv1.SubmitResponse{Identity: item.id.String()}
	switch v := a.GetResult().(type) {
	case *trialogv1.StreamAnswer_Error:
		return nil, answeredError(v.Error)
	case *trialogv1.StreamAnswer_Final:
		final := finalOf(v.Final)
		r, in, err := b.parts.Receipt(item.request.GetEnvelope(), final)
		if err != nil {
			return nil, b.g.unproven(b.ctx, item.id, "inclusion")
		}
		resp.State, resp.Index, resp.Duplicate = trialogv1.State_STATE_FINAL, in.Index, final.Duplicate
		if resp.Receipt, err = r.Encode(); err != nil {
			return nil, b.g.unproven(b.ctx, item.id, "receipt")
		}
		if _, err := b.g.check(b.ctx, item.id, resp.GetReceipt(), in.Index); err != nil {
			return nil, err
		}
		return resp, nil
	case *trialogv1.StreamAnswer_Pending:
		resp.State, resp.Index, resp.Duplicate = trialogv1.State_STATE_PENDING, v.Pending.GetIndex(), v.Pending.GetDuplicate()
		resp.Pending = v.Pending.GetPromise()
		if err := b.g.checkPromise(b.ctx, item.id, resp); err != nil {
			return nil, b.g.unproven(b.ctx, item.id, "promise")
		}
		return resp, nil
	}
	return nil, b.g.unproven(b.ctx, item.id, "state")
}

// whole is the error of the call as a whole, if no statement was taken in and all
// for the same reason, which passes: then the caller's HTTP library should know.
func (b *batch) whole() error {
	worst := &fault{}
	for _, r := range b.results {
		s := r.GetError()
		code := codes.Code(s.GetCode())
		if code != codes.ResourceExhausted && code != codes.Unavailable || worst.code != codes.OK && worst.code != code {
			return nil
		}
		f := keep(status.FromProto(s), submitted)
		f.retry = max(f.retry, worst.retry)
		worst = f
	}
	return worst
}
