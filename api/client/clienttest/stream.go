package clienttest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/protoadapt"

	"github.com/trialog/trialog/api/entry"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

// StreamHook sees each answer of a stream before it is sent, and may change it.
// An error of it ends the stream instead: the statements are stored.
type StreamHook func(request *trialogv1.SubmitStreamRequest, answer *trialogv1.SubmitStreamResponse) error

// OnStream sets the hook of all streams; nil for none.
func (l *Log) OnStream(hook StreamHook) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onStream = hook
}

// ServeStreams serves the log's streams over gRPC until stop is called.
func (l *Log) ServeStreams(listener net.Listener) (stop func()) {
	s := grpc.NewServer(grpc.MaxRecvMsgSize(8 << 20))
	trialogv1.RegisterSubmissionServiceServer(s, &streams{log: l})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(listener) // ends by stop
	}()
	return func() { s.Stop(); <-done }
}

type streams struct {
	trialogv1.UnimplementedSubmissionServiceServer
	log *Log
}

// SubmitStream implements trialogv1.SubmissionServiceServer.
func (v *streams) SubmitStream(rpc trialogv1.SubmissionService_SubmitStreamServer) error {
	l := v.log
	md, _ := metadata.FromIncomingContext(rpc.Context())
	token := strings.TrimPrefix(strings.Join(md.Get("authorization"), ""), "Bearer ")
	l.mu.Lock()
	l.calls = append(l.calls, "STREAM "+token)
	l.mu.Unlock()
	p := &partner{log: l, numbers: map[string]uint64{}}
	for {
		req, err := rpc.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		l.mu.Lock()
		out, hook := p.answer(req, token), l.onStream
		l.mu.Unlock()
		if hook != nil {
			if err := hook(req, out); err != nil {
				return err
			}
		}
		if err := rpc.Send(out); err != nil {
			return err
		}
	}
}

// partner is one stream with the parts that it has sent.
type partner struct {
	log     *Log
	last    uint64
	numbers map[string]uint64
}

func (p *partner) answer(req *trialogv1.SubmitStreamRequest, token string) *trialogv1.SubmitStreamResponse {
	out := &trialogv1.SubmitStreamResponse{}
	for _, s := range req.GetSubmissions() {
		a := &trialogv1.StreamAnswer{Tag: s.GetTag()}
		e, duplicate, problem := p.log.take(s.GetEnvelope(), s.GetBeacon(), token)
		switch {
		case problem != nil:
			a.Result = &trialogv1.StreamAnswer_Error{Error: problem.status()}
		case s.GetWait() == trialogv1.Wait_WAIT_PENDING && !duplicate:
			a.Result = &trialogv1.StreamAnswer_Pending{Pending: &trialogv1.StreamPending{
				Index: e.Index, Promise: p.log.promise(e.Statement.Identity(e.Envelope.Payload), e),
			}}
		default:
			a.Result = &trialogv1.StreamAnswer_Final{Final: p.final(out, e, s.GetEnvelope(), duplicate)}
		}
		out.Answers = append(out.Answers, a)
	}
	return out
}

// take reads a statement and appends it.
func (l *Log) take(envelope []byte, beacon, token string) (*testlog.Logged, bool, *problem) {
	env, s, err := statement.Parse(envelope)
	if err != nil {
		field := "envelope"
		if fe, ok := errors.AsType[*statement.FieldError](err); ok {
			field = "envelope.payload." + fe.Field
		}
		return nil, false, refuse(http.StatusBadRequest, field, err.Error())
	}
	note := []byte(beacon)
	if beacon == "" && s.Beacon != nil && l.taken[s.Beacon.Note] {
		note = l.notes[s.Beacon.Note]
	}
	e, duplicate, p := l.add(env, s, note, token)
	if p == nil && s.Beacon != nil {
		l.taken[s.Beacon.Note] = true
	}
	return e, duplicate, p
}

func (p *partner) final(out *trialogv1.SubmitStreamResponse, e *testlog.Logged, sent []byte, duplicate bool) *trialogv1.StreamFinal {
	r := testlog.Must(receipt.Parse(p.log.receipt(e)))
	framed := testlog.Must(entry.Parse(r.Entry))
	f := &trialogv1.StreamFinal{Proof: p.proof(out, r.Proof), ReceivedMs: framed.Received.UnixMilli(), Duplicate: duplicate}
	if !bytes.Equal(framed.Envelope, sent) {
		f.Entry = r.Entry
	}
	if len(r.Beacon) > 0 {
		f.Beacon = p.part(out, "beacon "+string(r.Beacon), &trialogv1.ReceiptPart{
			Part: &trialogv1.ReceiptPart_Beacon{Beacon: string(r.Beacon)},
		})
	}
	for _, en := range r.Enrolments {
		proof := p.proof(out, en.Proof)
		f.Enrolments = append(f.Enrolments, p.part(out, "enrolment "+string(en.Proof.Encode()), &trialogv1.ReceiptPart{
			Part: &trialogv1.ReceiptPart_Enrolment{Enrolment: &trialogv1.EnrolmentPart{Entry: en.Entry, Proof: proof}},
		}))
	}
	return f
}

func (p *partner) proof(out *trialogv1.SubmitStreamResponse, proof *receipt.Proof) *trialogv1.StreamProof {
	note := string(proof.Note.Bytes())
	m := &trialogv1.StreamProof{Index: proof.Index, Checkpoint: p.part(out, "checkpoint "+note, &trialogv1.ReceiptPart{
		Part: &trialogv1.ReceiptPart_Checkpoint{Checkpoint: note},
	})}
	for _, h := range proof.Path {
		m.Path = append(m.Path, h[:]...)
	}
	return m
}

// part sends a part unless it was sent before.
func (p *partner) part(out *trialogv1.SubmitStreamResponse, name string, part *trialogv1.ReceiptPart) uint64 {
	if p.numbers[name] == 0 {
		p.last++
		p.numbers[name], part.Number = p.last, p.last
		out.Parts = append(out.Parts, part)
	}
	return p.numbers[name]
}

// status is the problem as gRPC and batches say it.
func (p *problem) status() *spb.Status {
	code, ok := map[int]codes.Code{
		http.StatusBadRequest: codes.InvalidArgument, http.StatusUnauthorized: codes.Unauthenticated,
		http.StatusForbidden: codes.PermissionDenied, http.StatusConflict: codes.Aborted,
	}[p.Status]
	if !ok {
		code = codes.Internal
	}
	details := []protoadapt.MessageV1{&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: p.Field, Description: p.Detail},
	}}}
	if p.Head != nil {
		head := &trialogv1.ChainHead{Number: p.Head.Number}
		if p.Head.Number > 0 {
			head.Identity = p.Head.Identity.String()
		}
		details = append(details, head)
	}
	return testlog.Must(status.New(code, p.Detail).WithDetails(details...)).Proto()
}

// serveBatch answers a batch as its statements would be answered one by one.
func (l *Log) serveBatch(w http.ResponseWriter, r *http.Request, body []byte) {
	req := &trialogv1.SubmitBatchRequest{}
	if err := protojson.Unmarshal(body, req); err != nil {
		refuse(http.StatusBadRequest, "body", "expected the JSON of SubmitBatchRequest").write(w)
		return
	}
	out := &trialogv1.SubmitBatchResponse{}
	for _, s := range req.GetSubmissions() {
		f := l.next()
		e, duplicate, p := l.take(s.GetEnvelope(), s.GetBeacon(), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if p != nil {
			out.Results = append(out.Results, &trialogv1.SubmitResult{Result: &trialogv1.SubmitResult_Error{Error: p.status()}})
			continue
		}
		id := e.Statement.Identity(e.Envelope.Payload)
		resp := &trialogv1.SubmitResponse{State: trialogv1.State_STATE_FINAL, Identity: id.String(), Index: e.Index, Duplicate: duplicate}
		if s.GetWait() == trialogv1.Wait_WAIT_PENDING && !duplicate {
			resp.State, resp.Pending = trialogv1.State_STATE_PENDING, l.promise(id, e)
		} else {
			resp.Receipt = l.receipt(e)
		}
		l.lie(f, resp)
		out.Results = append(out.Results, &trialogv1.SubmitResult{Result: &trialogv1.SubmitResult_Submitted{Submitted: resp}})
	}
	message(w, out)
}
