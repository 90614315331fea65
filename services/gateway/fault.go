package gateway

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
)

// fault is an error as a caller may see it. Its one wire form is the gRPC
// status; the problem of REST is derived from that.
type fault struct {
	code   codes.Code
	detail string // for a person; a sentence without internal names
	// violations name the offending fields by the names of the .proto files.
	violations []violation
	head       *trialogv1.ChainHead // what to build on
	retry      time.Duration        // when to ask again
}

type violation struct{ field, reason string }

// Error implements error.
func (f *fault) Error() string { return f.code.String() + ": " + f.text() }

// text is the detail, or else the violations as a sentence.
func (f *fault) text() string {
	if f.detail != "" {
		return f.detail
	}
	parts := make([]string, len(f.violations))
	for i, v := range f.violations {
		parts[i] = v.field + ": " + v.reason
	}
	return strings.Join(parts, "; ")
}

// GRPCStatus makes the fault what gRPC sends.
func (f *fault) GRPCStatus() *status.Status {
	s := status.New(f.code, f.text())
	var details []protoadapt.MessageV1
	if len(f.violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range f.violations {
			bad.FieldViolations = append(bad.FieldViolations,
				&errdetails.BadRequest_FieldViolation{Field: v.field, Description: v.reason})
		}
		details = append(details, protoadapt.MessageV1Of(bad))
	}
	if f.head != nil {
		details = append(details, protoadapt.MessageV1Of(f.head))
	}
	if f.retry > 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(f.retry)}))
	}
	with, err := s.WithDetails(details...)
	if err != nil {
		return s // the details are what it loses; they are all of known types
	}
	return with
}

// invalid says that a field is wrong.
func invalid(field, reason string) *fault {
	return &fault{code: codes.InvalidArgument, violations: []violation{{field, reason}}}
}

// forbidden says that the caller may not say this in a field.
func forbidden(field, reason string) *fault {
	return &fault{code: codes.PermissionDenied, violations: []violation{{field, reason}}}
}

// unavailable says that something behind the gateway is not as it should be,
// and that asking again with the same bytes is right.
func unavailable(detail string) *fault {
	return &fault{code: codes.Unavailable, detail: detail, retry: time.Second}
}

// internal is what remains of an error that nobody foresaw.
func internal() *fault {
	return &fault{code: codes.Internal, detail: "an internal error; the operator's log tells more"}
}

// invalidField makes a fault of a *statement.FieldError, its path rewritten.
func invalidField(err error, path func(string) string) *fault {
	var fe *statement.FieldError
	if !errors.As(err, &fe) {
		return invalid(path(""), err.Error())
	}
	return invalid(path(fe.Field), fe.Reason)
}

// under returns a rewriting of paths that puts them below prefix.
func under(prefix string) func(string) string {
	return func(path string) string {
		if path == "" {
			return prefix
		}
		return prefix + "." + path
	}
}

// fromSequencer makes a fault of what the sequencer answered. Codes that a
// caller can act on are kept with their details; whatever else it says stays
// inside.
func fromSequencer(err error, path func(string) string) *fault {
	if errors.Is(err, context.Canceled) {
		return &fault{code: codes.Canceled, detail: "the caller went away"}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return late()
	}
	s := status.Convert(err)
	switch s.Code() {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.NotFound, codes.AlreadyExists,
		codes.PermissionDenied, codes.ResourceExhausted, codes.OutOfRange, codes.Aborted:
		return keep(s, path)
	case codes.Canceled:
		return &fault{code: codes.Canceled, detail: "the caller went away"}
	case codes.DeadlineExceeded:
		return late()
	case codes.Unavailable:
		f := unavailable("the log takes nothing in at the moment; send the same request again")
		f.retry = max(f.retry, keep(s, path).retry)
		return f
	case codes.OK, codes.Unknown, codes.Unimplemented, codes.Internal, codes.DataLoss, codes.Unauthenticated:
	}
	return internal()
}

// late says that the outcome is not known.
func late() *fault {
	return &fault{
		code: codes.DeadlineExceeded, retry: time.Second,
		detail: "the outcome is not known yet; send the same request again",
	}
}

// keep takes over a status with the details that callers may see.
func keep(s *status.Status, path func(string) string) *fault {
	f := &fault{code: s.Code(), detail: s.Message()}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				reason := strings.TrimPrefix(v.GetDescription(), v.GetField()+": ")
				f.violations = append(f.violations, violation{path(v.GetField()), reason})
			}
		case *trialogv1.ChainHead:
			f.head = d
		case *errdetails.RetryInfo:
			f.retry = d.GetRetryDelay().AsDuration()
		}
	}
	if len(f.violations) > 0 {
		f.detail = "" // the same in the caller's own names
	}
	if f.code == codes.ResourceExhausted && f.retry <= 0 {
		f.retry = time.Second
	}
	return f
}

// submitted rewrites the sequencer's paths, which begin at its own request or
// at the statement, to those of a SubmitRequest.
func submitted(path string) string {
	path = strings.TrimPrefix(path, "submit.")
	path = strings.TrimPrefix(path, "envelope.")
	name, _, _ := strings.Cut(path, ".")
	name, _, _ = strings.Cut(name, "[")
	switch name {
	case "predicate", "_type", "predicateType", "subject":
		return "envelope.payload." + path
	case "payload", "payloadType", "signatures":
		return "envelope." + path
	}
	return path
}
