package proofs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trialog/trialog/services/internal/anchored"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/problem"
	"github.com/trialog/trialog/services/internal/tile"
)

// problemBase is the prefix of problem types; they are names, not addresses.
const problemBase = "https://trialog.dev/problems/proofs/"

// fault is why a request is not answered, for either surface.
type fault struct {
	status int // of HTTP
	kind   string
	field  string // of the request: "path", "index"
	detail string

	allow      string        // with a 405; GET, HEAD if empty
	retryAfter time.Duration // with what will pass by itself
	// code is what gRPC says; codes.OK, the zero value, if it follows from status.
	code codes.Code
}

// Error implements error.
func (f *fault) Error() string { return f.detail }

// refuse is the fault of a request that is wrong in the field.
func refuse(code int, kind, field, format string, args ...any) *fault {
	return &fault{status: code, kind: kind, field: field, detail: fmt.Sprintf(format, args...)}
}

// problem is the fault as HTTP sends it.
func (f *fault) problem() *problem.Problem {
	p := problem.New(problemBase+f.kind, f.status, f.field, f.detail)
	p.RetryAfter = f.retryAfter
	if f.status == http.StatusMethodNotAllowed {
		if p.Allow = f.allow; p.Allow == "" {
			p.Allow = "GET, HEAD"
		}
	}
	return p
}

// rpc is the fault as gRPC sends it: with the kind as the reason of an ErrorInfo,
// and the field as a BadRequest.
func (f *fault) rpc() error {
	code := codes.Unavailable
	switch f.status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		code = codes.InvalidArgument
	case http.StatusNotFound:
		code = codes.NotFound
	}
	if f.code != codes.OK {
		code = f.code
	}
	message := f.detail
	if f.field != "" {
		message = f.field + ": " + message
	}
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: f.kind, Domain: "trialog.dev/proofs"}}
	if f.field != "" {
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: f.field, Description: f.detail},
		}})
	}
	if f.retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.retryAfter)})
	}
	s := status.New(code, message)
	if with, err := s.WithDetails(details...); err == nil {
		s = with
	}
	return s.Err()
}

// fail reports an error that is no fault of the request, and is its answer.
func (s *shard) fail(ctx context.Context, err error) *fault {
	s.report(ctx, err)
	return unavailable(err)
}

// unavailable is the fault for a request that an error has ended which has been
// reported. It tells the client the kind of the error and nothing else.
func unavailable(err error) *fault {
	var note *checkpointError
	var anchor *anchorError
	switch {
	case errors.Is(err, errNoCheckpoint):
		return refuse(http.StatusNotFound, "no-checkpoint", "", "%v", errNoCheckpoint)
	case errors.As(err, &note):
		return refuse(http.StatusServiceUnavailable, "unverifiable", "", "the stored checkpoint does not verify")
	case errors.As(err, &anchor):
		return refuse(http.StatusServiceUnavailable, "unverifiable", "", "the stored anchored checkpoint does not verify")
	case errors.Is(err, tile.ErrCorrupt):
		return refuse(http.StatusServiceUnavailable, "unverifiable", "", "what is stored does not verify against the checkpoint")
	default:
		return refuse(http.StatusServiceUnavailable, "unavailable", "", "the store cannot be read")
	}
}

// report logs where something does not verify or cannot be read. No error of
// checkpoint, blob and tile carries an entry's content.
func (s *shard) report(ctx context.Context, err error) {
	log := s.cfg.Logger.With("origin", s.origin)
	var object *tile.CorruptError
	var note *checkpointError
	var root *tile.RootError
	var anchor *anchorError
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		// The client has gone, which says nothing about the store.
	case errors.As(err, &object):
		log.ErrorContext(ctx, "read does not verify", "object", object.Object, "reason", object.Reason)
	case errors.As(err, &root):
		log.ErrorContext(ctx, "read does not verify", "object", "right edge", "reason", root.Error())
	case errors.As(err, &note):
		log.ErrorContext(ctx, "read does not verify", "object", checkpointKey, "reason", note.err.Error())
	case errors.As(err, &anchor):
		log.ErrorContext(ctx, "read does not verify", "object", anchored.Key, "reason", anchor.err.Error())
	case errors.Is(err, tile.ErrCorrupt):
		log.ErrorContext(ctx, "read does not verify", "object", "proof", "reason", err.Error())
	case errors.Is(err, blob.ErrNotFound), errors.Is(err, errNoCheckpoint):
	default:
		log.ErrorContext(ctx, "store cannot be read", "reason", err.Error())
	}
}
