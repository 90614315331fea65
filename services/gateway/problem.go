package gateway

import (
	"net/http"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/services/internal/problem"
)

// restProblem is the body of every error over REST: a problem (RFC 9457) with all
// offending fields and with the head of a chain.
type restProblem struct {
	problem.Problem
	// Errors are all offending fields; Field is the first.
	Errors []problemField `json:"errors,omitempty"`
	// Head is what to build on, if the statement does not continue its chain.
	Head *problemHead `json:"head,omitempty"`
}

type problemField struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

type problemHead struct {
	Number   uint64 `json:"number"`
	Identity string `json:"identity,omitempty"`
}

// problemTypes is what stands before the name of a type of problems.
const problemTypes = "https://trialog.dev/problems/"

// newProblem makes a problem that only HTTP knows.
func newProblem(code int, detail string) *restProblem {
	kind := problemTypes + strings.ToLower(strings.ReplaceAll(http.StatusText(code), " ", "-"))
	return &restProblem{Problem: *problem.New(kind, code, "", detail)}
}

// Error implements error. The detail names the field already.
func (p *restProblem) Error() string { return p.Detail }

// withField names the offending field, spelt as the caller would.
func (p *restProblem) withField(field, reason string) *restProblem {
	p.Errors = append(p.Errors, problemField{Field: field, Reason: reason})
	if p.Field == "" {
		p.Field = field
	}
	if p.Detail == "" {
		p.Detail = strings.TrimPrefix(field+": "+reason, ": ")
	}
	return p
}

// httpStatus maps codes as google.rpc.Code says, but for FailedPrecondition:
// what a statement builds on is not what it says, a conflict.
func httpStatus(c codes.Code) int {
	switch c {
	case codes.OK:
		return http.StatusOK
	case codes.InvalidArgument, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.Aborted, codes.FailedPrecondition:
		return http.StatusConflict
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Canceled:
		return 499 // as others do; nobody reads it
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	case codes.Unknown, codes.Internal, codes.DataLoss:
	}
	return http.StatusInternalServerError
}

// restProblemOf makes a problem of an error as gRPC would send it.
func restProblemOf(err error) *restProblem {
	s := status.Convert(err)
	code := httpStatus(s.Code())
	p := newProblem(code, s.Message())
	if p.Title == "" {
		p.Title, p.Type = "Canceled", problemTypes+"canceled"
	}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				p = p.withField(jsonPath(v.GetField()), v.GetDescription())
			}
			p.Detail = ""
			for _, e := range p.Errors {
				p.Detail = strings.TrimPrefix(p.Detail+"; "+e.Field+": "+e.Reason, "; ")
			}
		case *trialogv1.ChainHead:
			p.Head = &problemHead{Number: d.GetNumber(), Identity: d.GetIdentity()}
		case *errdetails.RetryInfo:
			p.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	return p
}

// jsonPath spells a path of .proto names as JSON does. What is below the
// attributes, dates and the envelope are the submitter's own names.
func jsonPath(path string) string {
	parts := strings.Split(path, ".")
	for i, part := range parts {
		words := strings.Split(part, "_")
		for j := 1; j < len(words); j++ {
			if words[j] != "" {
				words[j] = strings.ToUpper(words[j][:1]) + words[j][1:]
			}
		}
		parts[i] = strings.Join(words, "")
		if part == "attributes" || part == "dates" || part == "envelope" {
			break
		}
	}
	return strings.Join(parts, ".")
}

// write answers with the problem.
func (p *restProblem) write(w http.ResponseWriter) {
	if p.Status == http.StatusUnauthorized {
		// SPEC: RFC 9110 section 11.6.1, a 401 MUST have it.
		w.Header().Set("WWW-Authenticate", `Bearer realm="trialog"`)
	}
	if p.Status == http.StatusServiceUnavailable {
		p.RetryAfter = max(p.RetryAfter, time.Second)
	}
	p.WriteAs(w, p)
}
