package client

import (
	"net/http"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
)

// statusProblem makes a Problem of an error that came as google.rpc.Status: the
// same that the log would have answered over REST.
func statusProblem(s *spb.Status) *Problem {
	st := status.FromProto(s)
	p := &Problem{Status: httpStatus(st.Code()), Title: st.Code().String(), Detail: clean(st.Message())}
	if text := http.StatusText(p.Status); text != "" {
		p.Title = text
	}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.BadRequest:
			if v := d.GetFieldViolations(); len(v) > 0 && p.Field == "" {
				p.Field = clean(v[0].GetField())
			}
		case *trialogv1.ChainHead:
			id, err := statement.ParseDigest(d.GetIdentity())
			if d.GetNumber() == 0 && d.GetIdentity() == "" || err == nil && d.GetNumber() > 0 {
				p.Head = &Head{Number: d.GetNumber(), Identity: id}
			}
		case *errdetails.RetryInfo:
			p.RetryAfter = max(0, d.GetRetryDelay().AsDuration())
		}
	}
	return p
}

// httpStatus maps codes as the log's REST interface does: as google.rpc.Code
// says, but for what a statement builds on, which is a conflict.
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
		return statusCanceled
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

// statusCanceled is what servers use for a call that its caller gave up.
const statusCanceled = 499

// refusal is the error of a single statement. A success is none.
func refusal(s *spb.Status) error {
	if codes.Code(s.GetCode()) == codes.OK { //nolint:gosec // a number of the wire; unknown ones stay unknown
		return untrue("answer", nil, "an error that says OK")
	}
	return statusProblem(s)
}
