package gateway

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
)

// TestEveryCallHasARule: a new RPC without a row in the table fails here, and
// until then at run time.
func TestEveryCallHasARule(t *testing.T) {
	table := rules()
	service := trialogv1.File_trialog_v1_submission_proto.Services().ByName("SubmissionService")
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		name := "/" + string(service.FullName()) + "/" + string(m.Name())
		if _, ok := table[name]; !ok {
			t.Errorf("%s has no row", name)
		}
		delete(table, name)
	}
	delete(table, putDocument)
	delete(table, getDocument)
	for name := range table {
		t.Errorf("%s is no call", name)
	}
	a, err := newAccess(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.admit(context.Background(), "/trialog.v1.SubmissionService/New"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a call without a row ended with %v", err)
	}
}

// who is a column of the matrix.
type who struct {
	name, token string
	permissions []permission
}

func everybody() []who {
	return []who{
		{"stranger", "", nil},
		{"enrol", tokenEnrol, []permission{enrol}},
		{"enrol for an organisation", tokenNewOrg, []permission{enrol}},
		{"receive", tokenReceive, []permission{receive}},
		{"upload", tokenUpload, []permission{upload}},
	}
}

// TestAccessMatrix makes every call as everybody, over both interfaces.
func TestAccessMatrix(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	digest := hashed("p")
	for _, row := range []struct {
		call, method, path string
		body               any
		needs              permission
		rpc                func(ctx context.Context) error
	}{
		{
			trialogv1.SubmissionService_GetLog_FullMethodName, "GET", "/v1/log", nil, nobody,
			func(ctx context.Context) error { _, err := h.rpc.GetLog(ctx, &trialogv1.GetLogRequest{}); return err },
		},
		{
			trialogv1.SubmissionService_Prepare_FullMethodName, "POST", "/v1/statements:prepare",
			map[string]any{},
			nobody,
			func(ctx context.Context) error { _, err := h.rpc.Prepare(ctx, &trialogv1.PrepareRequest{}); return err },
		},
		{
			trialogv1.SubmissionService_Submit_FullMethodName, "POST", "/v1/statements",
			map[string]any{},
			nobody,
			func(ctx context.Context) error { _, err := h.rpc.Submit(ctx, &trialogv1.SubmitRequest{}); return err },
		},
		{
			trialogv1.SubmissionService_Submit_FullMethodName + " a first enrolment", "POST", "/v1/statements",
			submitBody(w.enrolment("new-org", testKey(t, "new"), testKey(t, "other"), statement.Auditor)), enrol,
			func(ctx context.Context) error {
				_, err := h.rpc.Submit(ctx, w.enrolment("new-org", testKey(t, "new"), testKey(t, "other"), statement.Auditor))
				return err
			},
		},
		{
			trialogv1.SubmissionService_SubmitBatch_FullMethodName, "POST", "/v1/statements:batch",
			map[string]any{},
			nobody,
			func(ctx context.Context) error {
				_, err := h.rpc.SubmitBatch(ctx, &trialogv1.SubmitBatchRequest{})
				return err
			},
		},
		{
			trialogv1.SubmissionService_Receive_FullMethodName, "POST", "/v1/statements:receive",
			map[string]any{},
			receive,
			func(ctx context.Context) error { _, err := h.rpc.Receive(ctx, &trialogv1.ReceiveRequest{}); return err },
		},
		{
			trialogv1.SubmissionService_GetReceipt_FullMethodName, "GET", "/v1/statements/" + digest + "/receipt", nil, nobody,
			func(ctx context.Context) error {
				_, err := h.rpc.GetReceipt(ctx, &trialogv1.GetReceiptRequest{Identity: digest})
				return err
			},
		},
		{
			trialogv1.SubmissionService_GetChain_FullMethodName, "GET", "/v1/chains/" + digest, nil, nobody,
			func(ctx context.Context) error {
				_, err := h.rpc.GetChain(ctx, &trialogv1.GetChainRequest{Key: digest})
				return err
			},
		},
		{putDocument, "PUT", "/v1/documents/" + digest, "p", upload, nil},
		{getDocument, "GET", "/v1/documents/" + digest, nil, nobody, nil},
	} {
		for _, col := range everybody() {
			t.Run(row.call+" as "+col.name, func(t *testing.T) {
				h.t = t
				want := 0 // neither 401 nor 403 for the lack of a permission
				switch {
				case row.needs == nobody || slices.Contains(col.permissions, row.needs):
				case col.token == "":
					want = http.StatusUnauthorized
				default:
					want = http.StatusForbidden
				}
				var headers []string
				if col.token != "" {
					headers = append(headers, bearer(col.token))
				}
				var got *answer
				switch {
				case row.method == "POST":
					got = h.post(row.path, row.body, headers...)
				case row.method == "PUT":
					got = h.request("PUT", row.path, strings.NewReader("p"), append(headers, "Content-Type: application/pdf")...)
				default:
					got = h.request(row.method, row.path, nil, headers...)
				}
				lacks := got.status == 401 || got.status == 403 && got.problem.Field == ""
				if lacks != (want != 0) || want != 0 && got.status != want {
					t.Errorf("REST: status %d, want %d (0: let in): %.200s", got.status, want, got.body)
				}
				if (got.header.Get("WWW-Authenticate") != "") != (got.status == 401) {
					t.Errorf("REST: %d with WWW-Authenticate %q", got.status, got.header.Get("WWW-Authenticate"))
				}
				if row.rpc == nil {
					return
				}
				if code := status.Code(row.rpc(withToken(col.token))); httpStatus(code) != got.status {
					t.Errorf("gRPC answered %v, REST %d", code, got.status)
				}
			})
		}
	}
	h.t = t
	if w.size() != 3 {
		t.Errorf("%d entries", w.size())
	}
}

// TestBadTokens: a token that is wrong is never the same as none.
func TestBadTokens(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	for name, headers := range map[string][]string{
		"unknown":        {bearer("token-that-nobody-gave")},
		"prefix":         {bearer(tokenReceive[:len(tokenReceive)-1])},
		"with an end":    {bearer(tokenReceive + "x")},
		"its hash":       {bearer(hashed(tokenReceive))},
		"no token":       {"Authorization: Bearer"},
		"empty token":    {"Authorization: Bearer "},
		"other scheme":   {"Authorization: Basic " + tokenReceive},
		"no scheme":      {"Authorization: " + tokenReceive},
		"empty":          {"Authorization: "},
		"two":            {bearer(tokenReceive), bearer(tokenReceive)},
		"two, one wrong": {bearer(tokenReceive), bearer("x")},
	} {
		got := h.request("GET", "/v1/log", nil, headers...)
		if got.status != 401 || got.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: status %d", name, got.status)
		}
		md := metadata.MD{}
		for _, line := range headers {
			md.Append("authorization", strings.TrimPrefix(line, "Authorization: "))
		}
		ctx := metadata.NewOutgoingContext(context.Background(), md)
		if _, err := h.rpc.GetLog(ctx, &trialogv1.GetLogRequest{}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s over gRPC: %v", name, err)
		}
	}
	for _, headers := range [][]string{
		{"Authorization: bearer " + tokenReceive}, // RFC 9110 section 11.1: schemes are case-insensitive
		{bearer(tokenReceive)},
	} {
		if got := h.request("GET", "/v1/log", nil, headers...); got.status != 200 {
			t.Errorf("%v: status %d", headers, got.status)
		}
	}
	// No other header is a token in disguise.
	for _, header := range []string{
		"Grpc-Metadata-Authorization: Bearer " + tokenReceive, "Grpcgateway-Authorization: Bearer " + tokenReceive,
		"X-Authorization: Bearer " + tokenReceive, "Cookie: authorization=" + tokenReceive,
	} {
		if got := h.post("/v1/statements:receive", map[string]any{}, header); got.status != 401 {
			t.Errorf("%s: status %d", header, got.status)
		}
	}
	// A header of grpc-gateway's own is not listened to.
	if got := h.request("GET", "/v1/log", nil, "Grpc-Timeout: nonsense"); got.status != 200 {
		t.Errorf("Grpc-Timeout: status %d", got.status)
	}
}

func TestReceiveForOthers(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	draft := protocolDraft("p")
	draft["organisation"] = "operator"
	got := h.post("/v1/statements:receive", map[string]any{"requestId": "r", "draft": draft}, bearer(tokenReceive)).want(t, 403, nil)
	if got.problem.Field != "draft.organisation" {
		t.Errorf("field %q", got.problem.Field)
	}
}

func TestNewAccessRejects(t *testing.T) {
	if _, err := newAccess([]config.GatewayToken{{SHA256: "x"}}); err == nil || strings.Contains(err.Error(), "x\"") {
		t.Errorf("got %v", err)
	}
}
