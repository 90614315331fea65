package sequencer

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
)

// retryAfter is what an unready log asks a client to wait.
const retryAfter = time.Second

// Server serves a Sequencer over gRPC, to gateways only.
type Server struct {
	trialogv1.UnimplementedSequencerServiceServer
	sequencer *Sequencer
}

// Register adds the service to a gRPC server.
func (s *Sequencer) Register(r grpc.ServiceRegistrar) {
	trialogv1.RegisterSequencerServiceServer(r, &Server{sequencer: s})
}

// ServerOptions are the settings that suit the service: streams of large
// messages, over few connections.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.WriteBufferSize(128 << 10), grpc.ReadBufferSize(128 << 10),
		grpc.InitialWindowSize(1 << 20), grpc.InitialConnWindowSize(4 << 20),
	}
}

// Add implements trialogv1.SequencerServiceServer.
func (v *Server) Add(ctx context.Context, req *trialogv1.AddRequest) (*trialogv1.AddResponse, error) {
	submit := req.GetSubmit()
	r := Request{
		Envelope: submit.GetEnvelope(),
		Beacon:   []byte(submit.GetBeacon()),
		Pending:  submit.GetWait() == trialogv1.Wait_WAIT_PENDING,
	}
	for _, role := range req.GetGrantedRoles() {
		r.Granted = append(r.Granted, statement.Role(role))
	}
	a, err := v.sequencer.Add(ctx, r)
	if err != nil {
		return nil, v.sequencer.status(ctx, "add", err)
	}
	state := trialogv1.State_STATE_FINAL
	if a.Receipt == nil {
		state = trialogv1.State_STATE_PENDING
	}
	return &trialogv1.AddResponse{Submitted: &trialogv1.SubmitResponse{
		State: state, Identity: a.Identity.String(), Index: a.Index, Receipt: a.Receipt, Pending: a.Promise,
		Duplicate: a.Duplicate,
	}}, nil
}

// AddStream implements trialogv1.SequencerServiceServer.
func (v *Server) AddStream(stream grpc.BidiStreamingServer[trialogv1.AddStreamRequest, trialogv1.AddStreamResponse]) error {
	ctx := stream.Context()
	err := v.sequencer.ServeStream(ctx, stream.Recv, stream.Send)
	if _, ok := status.FromError(err); ok { // nil, or what a client may be told
		return err
	}
	return v.sequencer.status(ctx, "add stream", err)
}

// Find implements trialogv1.SequencerServiceServer.
func (v *Server) Find(ctx context.Context, req *trialogv1.FindRequest) (*trialogv1.FindResponse, error) {
	id, err := statement.ParseDigest(req.GetIdentity())
	if err != nil {
		return nil, fieldStatus(codes.InvalidArgument, "identity", err.Error())
	}
	raw, index, err := v.sequencer.Find(ctx, id)
	if err != nil {
		return nil, v.sequencer.status(ctx, "find", err)
	}
	return &trialogv1.FindResponse{Found: &trialogv1.GetReceiptResponse{Receipt: raw, Index: index}}, nil
}

// Chain implements trialogv1.SequencerServiceServer.
func (v *Server) Chain(ctx context.Context, req *trialogv1.ChainRequest) (*trialogv1.ChainResponse, error) {
	id, err := statement.ParseDigest(req.GetChain().GetKey())
	if err != nil {
		return nil, fieldStatus(codes.InvalidArgument, "key", err.Error())
	}
	view, trial := v.sequencer.Ledger(), req.GetChain().GetTrial()
	if trial != "" {
		if err := statement.CheckToken("trial", trial); err != nil {
			return nil, v.sequencer.status(ctx, "chain", err)
		}
	}
	head, err := view.Chain(trial, id)
	if err != nil {
		return nil, v.sequencer.status(ctx, "chain", err)
	}
	out := &trialogv1.GetChainResponse{Number: head.Number}
	if head.Number > 0 {
		out.Identity, out.Received = head.Identity.String(), timestamppb.New(time.UnixMilli(head.Received))
	}
	key, err := view.Key(id)
	if err != nil {
		return nil, v.sequencer.status(ctx, "chain", err)
	}
	if key != nil {
		out.Organisation = key.Organisation
	}
	t, err := view.Trial(trial)
	if err != nil {
		return nil, v.sequencer.status(ctx, "chain", err)
	}
	if t != nil {
		out.TrialIdentity = t.First.String()
	}
	return &trialogv1.ChainResponse{Head: out}, nil
}

// Head implements trialogv1.SequencerServiceServer.
func (v *Server) Head(context.Context, *trialogv1.HeadRequest) (*trialogv1.HeadResponse, error) {
	out := &trialogv1.HeadResponse{Origin: v.sequencer.c.Origin, Clock: "unverified"}
	if verified, err := v.sequencer.clock(); err == nil && verified {
		out.Clock = "verified"
	}
	if note := v.sequencer.Checkpoint(); note != nil {
		out.Checkpoint = string(note.Bytes())
	}
	return out, nil
}

// status turns an error into what a gateway may hand on: a code, the field, and
// nothing of what is inside.
func (s *Sequencer) status(ctx context.Context, doing string, err error) error {
	var (
		field     *statement.FieldError
		forbidden *ForbiddenError
		chain     *ChainError
		missing   *MissingError
		refused   *RefusedError
		busy      *BusyError
	)
	switch {
	case errors.As(err, &field):
		return fieldStatus(codes.InvalidArgument, field.Field, field.Reason)
	case errors.As(err, &forbidden):
		return fieldStatus(codes.PermissionDenied, forbidden.Field, forbidden.Reason)
	case errors.As(err, &missing):
		return fieldStatus(codes.FailedPrecondition, missing.Field, missing.Reason)
	case errors.As(err, &chain):
		head := &trialogv1.ChainHead{Number: chain.Number}
		if chain.Number > 0 {
			head.Identity = chain.Identity.String()
		}
		return detailed(codes.Aborted, chain.Error(), violation("predicate.chain", chain.Error()), head)
	case errors.As(err, &busy):
		return detailed(codes.ResourceExhausted, busy.Error(), retryInfo(busy.After))
	case errors.As(err, &refused):
		return unavailable(string(refused.Reason))
	case errors.Is(err, ErrEnded):
		return unavailable("ended")
	case errors.Is(err, ErrNotReady):
		return detailed(codes.Unavailable, ErrNotReady.Error(), retryInfo(retryAfter))
	case errors.Is(err, ErrNotFound):
		return status.Error(codes.NotFound, ErrNotFound.Error())
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	}
	s.log.Error("request failed", "rpc", doing, "error", err)
	return status.Error(codes.Internal, "the log could not answer; the reason is in its own log")
}

func violation(field, reason string) *errdetails.BadRequest {
	return &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: field, Description: reason},
	}}
}

// unavailable says in a word, also for programs, why nothing is taken in.
func unavailable(reason string) error {
	return detailed(codes.Unavailable, ErrNotReady.Error()+": "+reason, retryInfo(retryAfter),
		&errdetails.ErrorInfo{Reason: reason, Domain: "trialog.dev"})
}

func retryInfo(after time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(after)}
}

func fieldStatus(code codes.Code, field, reason string) error {
	message := reason
	if field != "" {
		message = field + ": " + reason
	}
	return detailed(code, message, violation(field, reason))
}

func detailed(code codes.Code, message string, details ...protoadapt.MessageV1) error {
	st, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		return status.Error(code, message)
	}
	return st.Err()
}
