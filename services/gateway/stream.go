package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt/parts"
)

const (
	maxStreamItems = 256 // of one message of a stream
	// streamWindow and streamWindowBytes are how much of a stream may be
	// unanswered before no more of it is read.
	streamWindow      = 2048
	streamWindowBytes = 4 << 20
)

// SubmitStream implements SubmissionServiceServer. It has no deadline: a stream
// ends when its caller ends it, when nothing moves for Limits.StreamIdle, and when
// the gateway or the sequencer stops.
func (d door) SubmitStream(down trialogv1.SubmissionService_SubmitStreamServer) (err error) {
	const call = trialogv1.SubmissionService_SubmitStream_FullMethodName
	ctx, g := down.Context(), d.g
	defer func() { err = g.end(ctx, call, err, recover()) }()
	who, err := g.enter(ctx, call)
	if err != nil {
		return err
	}
	leave, err := g.streams.enter(who.party(ctx))
	if err != nil {
		return err
	}
	defer leave()
	return g.relay(down, who)
}

// relay joins a caller's stream to one of the sequencer's.
//
// One goroutine reads what the caller sends, admits it and passes it on; another
// reads what the sequencer answers, verifies it and passes it back; this one
// decides when the stream ends. Only the first sends to the sequencer; to the
// caller both do, one at a time.
func (g *Gateway) relay(down trialogv1.SubmissionService_SubmitStreamServer, who *caller) error {
	ctx, cancel := context.WithCancel(down.Context())
	defer cancel()
	up, err := g.sequencer.AddStream(ctx, grpc.MaxCallRecvMsgSize(maxAnswers))
	if err != nil {
		return sequencerFault(err, submitted)
	}
	r := &relay{
		g: g, ctx: ctx, who: who, down: down, up: up, checker: parts.NewChecker(g.policy),
		waiting: map[uint64]*relayed{}, moved: g.cfg.Now(), room: make(chan struct{}, 1), settled: make(chan struct{}, 1),
	}
	asked, answered := make(chan error, 1), make(chan error, 1)
	g.relays.Go(func() { asked <- r.guard("asking", r.ask) })
	g.relays.Go(func() { answered <- r.guard("answering", r.answer) })
	return r.supervise(asked, answered)
}

// guard runs one side of a relay. A panic ends the stream, not the process.
func (r *relay) guard(side string, f func() error) (err error) {
	defer func() {
		if recover() != nil {
			r.g.cfg.Log.LogAttrs(r.ctx, slog.LevelError, "stream panicked",
				slog.String("side", side), slog.String("stack", string(debug.Stack())))
			err = internal()
		}
	}()
	return f()
}

// supervise waits for an end and brings it about in good order: whatever was sent
// and has no answer gets one, if the caller still reads.
func (r *relay) supervise(asked, answered <-chan error) error {
	idle := time.NewTicker(max(r.g.limits.StreamIdle/4, time.Millisecond))
	defer idle.Stop()
	stopping := r.g.stopping
	var patience <-chan time.Time // with answers, when the stream has to end
	var end error                 // what the caller gets when all is answered
	reading := true
	for {
		if !reading && r.isSettled() {
			return end
		}
		select {
		case end = <-asked:
			asked, reading = nil, false
			if stopping == nil {
				end = leaving()
			} else if end != nil {
				patience = time.After(r.g.limits.BodyTimeout)
			}
			_ = r.up.CloseSend() // its end says if that failed
		case err := <-answered:
			// Nothing more will be answered. That the sequencer's stream ended well
			// says nothing about what is open.
			if r.isSettled() && asked == nil {
				return end
			}
			return r.abandon(r.upstreamEnd(err))
		case <-r.settled:
		case <-stopping:
			stopping, reading, end = nil, false, leaving()
			r.stopReading()
			patience = time.After(r.g.limits.DrainTimeout / 2)
		case <-patience:
			_ = r.abandon(leaving())
			return end
		case <-idle.C:
			if r.stillFor() > r.g.limits.StreamIdle {
				return r.abandon(unavailable("nothing moved for too long; open the stream again"))
			}
		case <-r.ctx.Done():
			return status.FromContextError(r.ctx.Err()).Err()
		}
	}
}

// leaving is what callers get when the gateway stops.
func leaving() *fault { return unavailable("the gateway stops; open the stream again") }

// upstreamEnd is what the end of the sequencer's stream means for the caller.
func (r *relay) upstreamEnd(err error) *fault {
	var f *fault
	switch {
	case errors.As(err, &f): // ours
		return f
	case errors.Is(err, errUnproven):
		return unavailable("the log gave no receipt that verifies; its operator has been told")
	}
	r.g.cfg.Log.LogAttrs(r.ctx, slog.LevelWarn, "sequencer's stream ended",
		slog.String("code", status.Code(err).String()))
	return lostStream(err)
}

// abandon answers what is open with an error, and returns it. A caller who does
// not read is not waited for.
func (r *relay) abandon(f *fault) error {
	r.stopReading()
	said := make(chan struct{})
	r.g.relays.Go(func() {
		defer close(said)
		for _, m := range r.leftOver(f) {
			if r.send(m) != nil {
				return
			}
		}
	})
	timer := time.NewTimer(r.g.limits.BodyTimeout)
	defer timer.Stop()
	select {
	case <-said:
	case <-timer.C:
	case <-r.ctx.Done():
	}
	return f
}

// ask reads the caller's side. It returns nil at its end, and an error for what
// no answer to a single statement could say.
func (r *relay) ask() error {
	for {
		if !r.awaitRoom() {
			return nil
		}
		req, err := r.down.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		taken, refused, err := r.admit(req)
		if len(refused) > 0 {
			if r.send(&trialogv1.SubmitStreamResponse{Answers: refused}) != nil {
				return nil //nolint:nilerr // the caller is gone, which the other side finds out too
			}
			r.settle(len(refused))
		}
		for _, m := range groups(taken) {
			if r.up.Send(&trialogv1.AddStreamRequest{Submit: m}) != nil {
				return nil //nolint:nilerr // the other side finds out why
			}
		}
		if err != nil {
			return err
		}
	}
}

// groups splits submissions into messages that the sequencer takes.
func groups(list []*trialogv1.StreamSubmission) []*trialogv1.SubmitStreamRequest {
	var out []*trialogv1.SubmitStreamRequest
	from, size := 0, 0
	for i, s := range list {
		if n := submissionSize(s); i > from && size+n > maxGroup {
			out = append(out, &trialogv1.SubmitStreamRequest{Submissions: list[from:i]})
			from, size = i, n
		} else {
			size += n
		}
	}
	if from < len(list) {
		out = append(out, &trialogv1.SubmitStreamRequest{Submissions: list[from:]})
	}
	return out
}

// streamFields is knownFields for what comes by the thousand: its messages hold
// no others but submissions.
func streamFields(req *trialogv1.SubmitStreamRequest) error {
	if len(req.ProtoReflect().GetUnknown()) > 0 {
		return knownFields(req.ProtoReflect(), "")
	}
	for i, s := range req.GetSubmissions() {
		if len(s.ProtoReflect().GetUnknown()) > 0 {
			return knownFields(s.ProtoReflect(), fmt.Sprintf("submissions[%d]", i))
		}
	}
	if n := len(req.GetSubmissions()); n < 1 || n > maxStreamItems {
		return invalid("submissions", fmt.Sprintf("expected 1 to %d, found %d", maxStreamItems, n))
	}
	return nil
}
