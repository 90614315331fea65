package gateway

import (
	"bytes"
	"context"
	"log/slog"
	"runtime/debug"
	"strings"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

// door is the SubmissionService as both gRPC and REST call it: every method
// goes through pass.
type door struct {
	trialogv1.UnsafeSubmissionServiceServer

	g *Gateway
}

// GetLog implements SubmissionServiceServer.
func (d door) GetLog(ctx context.Context, req *trialogv1.GetLogRequest) (*trialogv1.GetLogResponse, error) {
	return pass(ctx, d.g, trialogv1.SubmissionService_GetLog_FullMethodName, req, d.g.getLog)
}

// Prepare implements SubmissionServiceServer.
func (d door) Prepare(ctx context.Context, req *trialogv1.PrepareRequest) (*trialogv1.PrepareResponse, error) {
	return pass(ctx, d.g, trialogv1.SubmissionService_Prepare_FullMethodName, req, d.g.prepare)
}

// Submit implements SubmissionServiceServer.
func (d door) Submit(ctx context.Context, req *trialogv1.SubmitRequest) (*trialogv1.SubmitResponse, error) {
	return pass(ctx, d.g, trialogv1.SubmissionService_Submit_FullMethodName, req, d.g.submit)
}

// SubmitBatch implements SubmissionServiceServer.
func (d door) SubmitBatch(ctx context.Context, req *trialogv1.SubmitBatchRequest) (*trialogv1.SubmitBatchResponse, error) {
	return pass(ctx, d.g, trialogv1.SubmissionService_SubmitBatch_FullMethodName, req, d.g.submitBatch)
}

// Receive implements SubmissionServiceServer.
func (d door) Receive(ctx context.Context, req *trialogv1.ReceiveRequest) (*trialogv1.ReceiveResponse, error) {
	return pass(ctx, d.g, trialogv1.SubmissionService_Receive_FullMethodName, req, d.g.receive)
}

// GetReceipt implements SubmissionServiceServer.
func (d door) GetReceipt(ctx context.Context, req *trialogv1.GetReceiptRequest) (*trialogv1.GetReceiptResponse, error) {
	return pass(ctx, d.g, trialogv1.SubmissionService_GetReceipt_FullMethodName, req, d.g.getReceipt)
}

// GetChain implements SubmissionServiceServer.
func (d door) GetChain(ctx context.Context, req *trialogv1.GetChainRequest) (*trialogv1.GetChainResponse, error) {
	return pass(ctx, d.g, trialogv1.SubmissionService_GetChain_FullMethodName, req, d.g.getChain)
}

// pass lets a call through: who calls, how often, with what; then the work.
func pass[Req, Resp proto.Message](
	ctx context.Context, g *Gateway, call string, req Req, work func(context.Context, *caller, Req) (Resp, error),
) (resp Resp, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.limits.CallTimeout)
	defer cancel()
	// Nothing that a caller sent is in what ends here; see record.
	defer func() { err = g.end(ctx, call, err, recover()) }()
	leave, err := g.calls.enter("")
	if err != nil {
		return resp, err
	}
	defer leave()
	who, err := g.enter(ctx, call)
	if err != nil {
		return resp, err
	}
	if err := knownFields(req.ProtoReflect(), ""); err != nil {
		return resp, err
	}
	return work(ctx, who, req)
}

// enter identifies the caller and counts the call. A wrong token costs the
// address from which it came.
func (g *Gateway) enter(ctx context.Context, call string) (*caller, error) {
	who, err := g.access.admit(ctx, call)
	if err != nil {
		if tooMany := g.quota.call(ctx, &caller{}); tooMany != nil {
			return nil, tooMany
		}
		return nil, err
	}
	return who, g.quota.call(ctx, who)
}

// end turns a call's end into what the caller may see, and records it. The
// stack of a panic names functions of ours, no values.
func (g *Gateway) end(ctx context.Context, call string, err error, panicked any) error {
	if panicked != nil {
		g.cfg.Log.LogAttrs(ctx, slog.LevelError, "call panicked",
			slog.String("call", call), slog.String("stack", string(debug.Stack())))
		err = internal()
	}
	if err == nil {
		g.cfg.Log.LogAttrs(ctx, slog.LevelDebug, "call done", slog.String("call", call))
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		g.cfg.Log.LogAttrs(ctx, slog.LevelError, "call failed", slog.String("call", call))
		s = internal().GRPCStatus()
	}
	g.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "call refused", slog.String("call", call), slog.String("code", s.Code().String()))
	return s.Err()
}

// knownFields refuses what REST refuses too: fields that nobody here reads. A
// caller that sent one meant something by it.
func knownFields(m protoreflect.Message, path string) error {
	if unknown := m.GetUnknown(); bytes.Equal(unknown, undecodable()) {
		return invalid("body", "expected the protobuf encoding of the request")
	} else if len(unknown) > 0 {
		return invalid(strings.TrimPrefix(path+".?", "."), "unknown field")
	}
	var err error
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := string(f.Name())
		if path != "" {
			at = path + "." + at
		}
		switch {
		case f.Message() == nil || f.IsMap():
			// Maps hold strings; a Struct is read member by member later.
		case f.IsList():
			for i := range v.List().Len() {
				if err = knownFields(v.List().Get(i).Message(), at); err != nil {
					break
				}
			}
		default:
			err = knownFields(v.Message(), at)
		}
		return err == nil
	})
	return err
}
