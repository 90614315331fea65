package gateway

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

// TestSameOverBoth sends the same requests over REST and gRPC: the same code,
// the same fields, the same answer.
func TestSameOverBoth(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	good := w.protocol([]byte("p"))
	ctx := withToken(tokenReceive)
	token := bearer(tokenReceive)
	n := 0
	compare := func(path string, req, resp proto.Message, call func() (proto.Message, error)) {
		t.Helper()
		n++
		body, err := protojson.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		over, err := call()
		got := h.post(path, string(body), token)
		if err == nil {
			if got.status != 200 {
				t.Errorf("%d: gRPC accepted what REST answered %d to: %.300s", n, got.status, got.body)
				return
			}
			if err := protojson.Unmarshal(got.body, resp); err != nil {
				t.Errorf("%d: %v", n, err)
			}
			// The second call of two meets what the first has done.
			for _, m := range []proto.Message{over, resp} {
				switch m := m.(type) {
				case *trialogv1.SubmitResponse:
					m.Duplicate, m.Receipt, m.Pending = false, nil, nil
				case *trialogv1.ReceiveResponse:
					m.Submitted.Duplicate, m.Submitted.Receipt, m.Submitted.Pending = false, nil, nil
				}
			}
			if !proto.Equal(over, resp) {
				t.Errorf("%d: gRPC gave %v, REST %v", n, over, resp)
			}
			return
		}
		s := status.Convert(err)
		if httpStatus(s.Code()) != got.status {
			t.Errorf("%d: gRPC %v, REST %d: %.300s", n, err, got.status, got.body)
		}
		var fields []string
		for _, d := range s.Details() {
			if b, ok := d.(*errdetails.BadRequest); ok {
				for _, v := range b.GetFieldViolations() {
					fields = append(fields, jsonPath(v.GetField())+": "+v.GetDescription())
				}
			}
		}
		for i, e := range got.problem.Errors {
			if len(fields) != len(got.problem.Errors) || fields[i] != e.Field+": "+e.Reason {
				t.Errorf("%d: gRPC names %q, REST %q", n, fields, got.problem.Errors)
				break
			}
		}
	}
	submit := func(req *trialogv1.SubmitRequest) {
		t.Helper()
		compare("/v1/statements", req, &trialogv1.SubmitResponse{}, func() (proto.Message, error) { return h.rpc.Submit(ctx, req) })
	}
	submit(good)
	submit(&trialogv1.SubmitRequest{})
	submit(&trialogv1.SubmitRequest{Envelope: []byte("{}")})
	submit(&trialogv1.SubmitRequest{Envelope: []byte("\xff")})
	submit(&trialogv1.SubmitRequest{Envelope: []byte(strings.Repeat(" ", 70_000))})
	submit(&trialogv1.SubmitRequest{Envelope: good.GetEnvelope(), Beacon: "x"})
	submit(&trialogv1.SubmitRequest{Envelope: good.GetEnvelope(), Beacon: good.GetBeacon(), Wait: trialogv1.Wait_WAIT_PENDING})
	submit(&trialogv1.SubmitRequest{Envelope: w.enrolment("o", testKey(t, "a"), testKey(t, "b"), "sponsor").GetEnvelope()})

	draft := func() *trialogv1.Draft {
		return &trialogv1.Draft{
			Organisation: testOrg, Trial: testTrial, Kind: "protocol", MediaType: "application/pdf", DocumentSha256: hashed("p"),
		}
	}
	attributes := func(members map[string]any) *structpb.Struct {
		s, err := structpb.NewStruct(members)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	signers := []*trialogv1.Signer{{Key: w.sponsor.ID().String(), Meaning: "approval", At: "2026-01-01T00:00:00Z"}}
	for i, change := range []func(d *trialogv1.Draft){
		func(*trialogv1.Draft) {},
		func(d *trialogv1.Draft) {
			d.Attributes = attributes(map[string]any{"reason": "why", "amendment": "a1"})
		},
		func(d *trialogv1.Draft) { d.Attributes = attributes(map[string]any{"reason": 5}) },
		func(d *trialogv1.Draft) { d.Attributes = attributes(map[string]any{"nobody_knows": "x"}) },
		func(d *trialogv1.Draft) { d.Attributes = attributes(map[string]any{"reason": []any{[]any{"x"}}}) },
		func(d *trialogv1.Draft) { d.Attributes = attributes(map[string]any{"reason": nil}) },
		func(d *trialogv1.Draft) { d.Dates = map[string]string{"b": "2026", "a": "2025-05"} },
		func(d *trialogv1.Draft) { d.Dates = map[string]string{"my_day": "x"} },
		func(d *trialogv1.Draft) { d.DocumentCommitment = hashed("x") },
		func(d *trialogv1.Draft) { d.Kind = "milestone" },
		func(d *trialogv1.Draft) { d.Kind, d.Trial = "key", "" },
		func(d *trialogv1.Draft) { d.Trial = "T-77" },
		func(d *trialogv1.Draft) { d.Organisation = "other" },
		func(d *trialogv1.Draft) { d.Amends = "x" },
		func(d *trialogv1.Draft) { d.Version = "ä" },
		func(d *trialogv1.Draft) { proto.Reset(d) },
	} {
		d := draft()
		change(d)
		prepare := &trialogv1.PrepareRequest{Draft: d, Signers: signers}
		compare("/v1/statements:prepare", prepare, &trialogv1.PrepareResponse{},
			func() (proto.Message, error) { return h.rpc.Prepare(ctx, prepare) })
		receive := &trialogv1.ReceiveRequest{Draft: d, RequestId: "r" + string(rune('a'+i))}
		compare("/v1/statements:receive", receive, &trialogv1.ReceiveResponse{},
			func() (proto.Message, error) { return h.rpc.Receive(ctx, receive) })
	}
	compare("/v1/statements:prepare", &trialogv1.PrepareRequest{Draft: draft()}, &trialogv1.PrepareResponse{},
		func() (proto.Message, error) { return h.rpc.Prepare(ctx, &trialogv1.PrepareRequest{Draft: draft()}) })
	compare("/v1/statements:receive", &trialogv1.ReceiveRequest{Draft: draft()}, &trialogv1.ReceiveResponse{},
		func() (proto.Message, error) { return h.rpc.Receive(ctx, &trialogv1.ReceiveRequest{Draft: draft()}) })
}

// TestNumbersOverGRPC: a Struct's numbers are floating point; only what is
// exactly an integer passes.
func TestNumbersOverGRPC(t *testing.T) {
	for _, tc := range []struct {
		n  float64
		ok bool
	}{
		{0, true},
		{7, true},
		{-7, true},
		{maxExact, true},
		{-maxExact, true},
		{1.5, false},
		{maxExact + 1, false},
		{1e300, false},
		{math.Copysign(0, -1), false},
		{math.Inf(1), false},
		{math.Inf(-1), false},
		{math.NaN(), false},
	} {
		_, err := attributesOf(&structpb.Struct{Fields: map[string]*structpb.Value{"n": structpb.NewNumberValue(tc.n)}})
		if (err == nil) != tc.ok {
			t.Errorf("%v: %v", tc.n, err)
		}
	}
	for name, v := range map[string]*structpb.Value{"nil": nil, "no kind": {}, "null": structpb.NewNullValue()} {
		if _, err := attributesOf(&structpb.Struct{Fields: map[string]*structpb.Value{"n": v}}); err == nil {
			t.Errorf("%s passed", name)
		}
	}
}

// rawCodec sends bytes as they are.
type rawCodec struct{ encoding.CodecV2 }

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (rawCodec) Unmarshal(mem.BufferSlice, any) error { return nil }

// TestBadProtobuf: bytes that are no request are the caller's fault.
func TestBadProtobuf(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	cfg := h.g.cfg.GRPC.Addr().String()
	conn, err := grpc.NewClient(cfg, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	field := func(n protowire.Number, text string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), text)
	}
	for name, tc := range map[string]struct {
		raw   []byte
		code  codes.Code
		field string
	}{
		"cut off":                 {[]byte{0x0a, 0xff}, codes.InvalidArgument, "body"},
		"not UTF-8":               {field(2, "\xff"), codes.InvalidArgument, "body"},
		"unknown field":           {field(99, "x"), codes.InvalidArgument, "?"},
		"unknown enum":            {protowire.AppendVarint(protowire.AppendTag(nil, 3, protowire.VarintType), 9), codes.InvalidArgument, "wait"},
		"too large":               {field(1, strings.Repeat("x", maxMessage)), codes.ResourceExhausted, ""},
		"a group that never ends": {protowire.AppendTag(nil, 1, protowire.StartGroupType), codes.InvalidArgument, "body"},
	} {
		err := conn.Invoke(context.Background(), trialogv1.SubmissionService_Submit_FullMethodName, tc.raw, nil)
		s := status.Convert(err)
		got := ""
		for _, d := range s.Details() {
			if b, ok := d.(*errdetails.BadRequest); ok {
				got = b.GetFieldViolations()[0].GetField()
			}
		}
		if s.Code() != tc.code || got != tc.field || strings.Contains(s.Message(), "proto:") {
			t.Errorf("%s: %v, field %q", name, err, got)
		}
	}
	nested := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), field(99, "x"))
	err = conn.Invoke(context.Background(), trialogv1.SubmissionService_Prepare_FullMethodName, nested, nil)
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "draft.?") {
		t.Errorf("an unknown field of a draft: %v", err)
	}
	for _, method := range []string{
		"/trialog.v1.SubmissionService/Nothing", "/trialog.v1.SequencerService/Add",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
	} {
		if err := conn.Invoke(context.Background(), method, []byte{}, nil); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// TestNoPersonalData: whatever callers send, the log says nothing of it.
func TestNoPersonalData(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	const canary = "canary"
	draft := protocolDraft("canary document")
	draft["attributes"] = map[string]any{"reason": "canary reason"}
	h.post("/v1/statements:receive", map[string]any{"requestId": "canary-id", "draft": draft}, bearer(tokenReceive)).want(t, 200, nil)
	h.post("/v1/statements:receive", map[string]any{"requestId": "canary-id", "draft": protocolDraft("x")}, bearer(tokenReceive)).want(t, 409, nil)
	h.post("/v1/statements:receive", map[string]any{"requestId": "canary id"}, bearer(tokenReceive))
	h.post("/v1/statements", `{"canary":"canary"}`)
	h.post("/v1/statements", `{"envelope":"canary"}`)
	h.request("GET", "/canary.pdf", nil)
	h.request("GET", "/v1/chains/canary?trial=canary", nil)
	h.request("GET", "/v1/log?canary=canary", nil, "Authorization: Bearer canary", "User-Agent: canary", "Referer: canary")
	h.request("PUT", "/v1/documents/"+hashed("canary document"), strings.NewReader("canary document"), pdf, bearer(tokenUpload)).want(t, 200, nil)
	h.request("PUT", "/v1/documents/"+hashed("x"), strings.NewReader("canary"), pdf, bearer(tokenUpload), "Content-Disposition: attachment; filename=canary.pdf")
	id := h.logged([]byte("canary document"))
	h.request("GET", "/v1/documents/"+hashed("canary document")+"?statement="+id, nil).want(t, 200, nil)
	w.after = func(_ string, resp any) error {
		if add, ok := resp.(*trialogv1.AddResponse); ok {
			add.Submitted.Receipt, add.Submitted.Pending = []byte("canary"), []byte("canary")
		}
		return nil
	}
	body := receiveBody("r2", "canary")
	h.post("/v1/statements:receive", body, bearer(tokenReceive)).want(t, 503, nil)
	w.before = func(string, any) error { return status.Error(codes.Unknown, "canary") }
	h.post("/v1/statements:receive", body, bearer(tokenReceive)).want(t, 500, nil)
	w.before = func(string, any) error { panic("canary") }
	h.post("/v1/statements:receive", body, bearer(tokenReceive)).want(t, 500, nil)
	logs := h.logs.String()
	for _, word := range []string{canary, "jane.doe", "second-desk", testOrg, testTrial, "127.0.0.1", tokenReceive, hashed("canary document")} {
		if i := strings.Index(logs, word); i >= 0 {
			t.Errorf("the log holds %q: %s", word, logs[max(0, i-200):min(len(logs), i+200)])
		}
	}
	for _, word := range []string{"call panicked", "call refused", "request refused", "does not verify", "call done"} {
		if !strings.Contains(logs, word) {
			t.Errorf("the log does not say %q", word)
		}
	}
	for line := range strings.Lines(logs) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
}

// TestHeaders are on every answer.
func TestHeaders(t *testing.T) {
	h := newHouse(t, newWorld(t))
	for _, path := range []string{"/v1/log", "/nothing", "/v1/chains/x"} {
		got := h.request("GET", path, nil)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy": "default-src 'none'; sandbox",
		} {
			if got.header.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, got.header.Get(name))
			}
		}
		for name := range got.header {
			if strings.HasPrefix(name, "Grpc") || name == "Server" {
				t.Errorf("%s: header %s", path, name)
			}
		}
	}
}
