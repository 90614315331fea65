package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/trialog/trialog/api/entry"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

// worldStream is one AddStream of a world: every submission is judged as Add
// does, and its receipt taken apart. It never makes the caller of Send wait.
type worldStream struct {
	grpc.ClientStream // nil: nothing else is called

	w   *world
	ctx context.Context

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when queue or end changes
	queue   []*trialogv1.AddStreamResponse
	ended   error
	last    uint64 // number of the newest part
	numbers map[string]uint64
}

// AddStream implements trialogv1.SequencerServiceClient. The hook after may
// change each response; an error of it, or of before, ends the stream.
func (w *world) AddStream(
	ctx context.Context, _ ...grpc.CallOption,
) (grpc.BidiStreamingClient[trialogv1.AddStreamRequest, trialogv1.AddStreamResponse], error) {
	if err := w.enter("AddStream", nil); err != nil {
		return nil, err
	}
	return &worldStream{w: w, ctx: ctx, changed: make(chan struct{}), numbers: map[string]uint64{}}, nil
}

func (s *worldStream) Send(m *trialogv1.AddStreamRequest) error {
	if s.end() != nil {
		return io.EOF
	}
	if err := s.w.enter("AddStream message", m); err != nil {
		s.push(nil, err)
		return nil
	}
	out := &trialogv1.SubmitStreamResponse{}
	for _, sub := range m.GetSubmit().GetSubmissions() {
		s.w.mu.Lock()
		s.w.sent = append(s.w.sent, sub.GetEnvelope())
		s.w.mu.Unlock()
		s.answer(out, sub, m.GetGrantedRoles())
	}
	resp := &trialogv1.AddStreamResponse{Submitted: out}
	err := s.w.leave("AddStream", resp)
	if s.w.hold() {
		return nil // it never answers
	}
	s.push(resp, err)
	return nil
}

// hold tells whether answers are kept back.
func (w *world) hold() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.holding
}

func (s *worldStream) answer(out *trialogv1.SubmitStreamResponse, sub *trialogv1.StreamSubmission, granted []string) {
	resp, err := s.w.add(&trialogv1.AddRequest{
		Submit:       &trialogv1.SubmitRequest{Envelope: sub.GetEnvelope(), Beacon: sub.GetBeacon(), Wait: sub.GetWait()},
		GrantedRoles: granted,
	})
	a := &trialogv1.StreamAnswer{Tag: sub.GetTag()}
	switch {
	case err != nil:
		a.Result = &trialogv1.StreamAnswer_Error{Error: status.Convert(err).Proto()}
	case resp.GetState() == trialogv1.State_STATE_PENDING:
		a.Result = &trialogv1.StreamAnswer_Pending{Pending: &trialogv1.StreamPending{
			Index: resp.GetIndex(), Promise: resp.GetPending(), Duplicate: resp.GetDuplicate(),
		}}
	default:
		a.Result = &trialogv1.StreamAnswer_Final{Final: s.takeApart(out, resp, sub.GetEnvelope())}
	}
	out.Answers = append(out.Answers, a)
}

// takeApart makes the parts of a receipt that were not sent yet, and refers to
// all of them.
func (s *worldStream) takeApart(out *trialogv1.SubmitStreamResponse, resp *trialogv1.SubmitResponse, sent []byte) *trialogv1.StreamFinal {
	r := parseReceipt(s.w.t, resp.GetReceipt())
	e, err := entry.Parse(r.Entry)
	if err != nil {
		s.w.t.Fatal(err)
	}
	f := &trialogv1.StreamFinal{Proof: s.proof(out, r.Proof), ReceivedMs: e.Received.UnixMilli(), Duplicate: resp.GetDuplicate()}
	if !bytes.Equal(e.Envelope, sent) {
		f.Entry = r.Entry
	}
	if len(r.Beacon) > 0 {
		f.Beacon = s.part(out, "beacon "+string(r.Beacon), &trialogv1.ReceiptPart{
			Part: &trialogv1.ReceiptPart_Beacon{Beacon: string(r.Beacon)},
		})
	}
	for _, en := range r.Enrolments {
		p := s.proof(out, en.Proof)
		f.Enrolments = append(f.Enrolments, s.part(out, "enrolment "+string(en.Entry)+string(en.Proof.Encode()), &trialogv1.ReceiptPart{
			Part: &trialogv1.ReceiptPart_Enrolment{Enrolment: &trialogv1.EnrolmentPart{Entry: en.Entry, Proof: p}},
		}))
	}
	return f
}

func (s *worldStream) proof(out *trialogv1.SubmitStreamResponse, p *receipt.Proof) *trialogv1.StreamProof {
	m := &trialogv1.StreamProof{Index: p.Index}
	for _, h := range p.Path {
		m.Path = append(m.Path, h[:]...)
	}
	note := string(p.Note.Bytes())
	m.Checkpoint = s.part(out, "checkpoint "+note, &trialogv1.ReceiptPart{
		Part: &trialogv1.ReceiptPart_Checkpoint{Checkpoint: note},
	})
	return m
}

func (s *worldStream) part(out *trialogv1.SubmitStreamResponse, name string, p *trialogv1.ReceiptPart) uint64 {
	if n := s.numbers[name]; n > 0 {
		return n
	}
	s.last++
	p.Number = s.last
	s.numbers[name] = s.last
	out.Parts = append(out.Parts, p)
	return s.last
}

// push queues a response, or ends the stream.
func (s *worldStream) push(resp *trialogv1.AddStreamResponse, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if resp != nil && err == nil {
		s.queue = append(s.queue, resp)
	}
	if err != nil && s.ended == nil {
		s.ended = err
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *worldStream) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

func (s *worldStream) CloseSend() error {
	if !s.w.hold() {
		s.push(nil, io.EOF)
	}
	return nil
}

func (s *worldStream) Recv() (*trialogv1.AddStreamResponse, error) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			resp := s.queue[0]
			s.queue = s.queue[1:]
			s.mu.Unlock()
			return resp, nil
		}
		ended, changed := s.ended, s.changed
		s.mu.Unlock()
		if ended != nil {
			return nil, ended
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			return nil, status.FromContextError(s.ctx.Err()).Err()
		}
	}
}

// resigned is the same statement in an envelope with other bytes.
func (w *world) resigned(req *trialogv1.SubmitRequest) *trialogv1.SubmitRequest {
	w.t.Helper()
	env, err := statement.ParseEnvelope(req.GetEnvelope())
	if err != nil {
		w.t.Fatal(err)
	}
	sigs := append([]statement.Signature{}, env.Signatures...)
	for i := range sigs {
		sigs[i].KeyHint = "another hint"
	}
	return &trialogv1.SubmitRequest{
		Envelope: statement.EncodeDSSE(statement.PayloadType, env.Payload, sigs), Beacon: req.GetBeacon(), Wait: req.GetWait(),
	}
}

// series is n signed statements that continue each other.
func (w *world) series(n int) []*trialogv1.SubmitRequest {
	w.t.Helper()
	w.mu.Lock()
	link := statement.Link{Number: 1}
	if head := w.chains[testTrial+" "+w.sponsor.ID().String()]; head != nil {
		link.Number = head.GetNumber() + 1
		link.Previous, _ = statement.ParseDigest(head.GetIdentity())
	}
	c, note := w.note.Checkpoint(), w.note
	w.mu.Unlock()
	list := make([]*trialogv1.SubmitRequest, n)
	for i := range list {
		s := &statement.Statement{
			Log: testLog, Organisation: testOrg, Trial: testTrial, Kind: statement.KindProtocol, MediaType: "application/pdf",
			Subject: statement.SubjectSHA256, Digest: sha256.Sum256(fmt.Appendf(nil, "%d of %d", i, n)), Chain: link,
			Beacon:  &statement.Beacon{Origin: c.Origin, Size: c.Size, Note: statement.Digest(note.Digest())},
			Signers: []statement.Signer{{Key: w.sponsor.ID(), Meaning: statement.Authorship, At: "2026-01-02T03:04:05Z"}},
		}
		payload, err := statement.Build(s)
		if err != nil {
			w.t.Fatal(err)
		}
		env, err := statement.Sign(payload, w.sponsor)
		if err != nil {
			w.t.Fatal(err)
		}
		link = statement.Link{Number: link.Number + 1, Previous: s.Identity(payload)}
		list[i] = &trialogv1.SubmitRequest{Envelope: env.Bytes(), Beacon: string(note.Bytes())}
	}
	return list
}

// arrivals receives once for each message of a stream that the world has taken.
func (w *world) arrivals() <-chan struct{} {
	arrived := make(chan struct{}, 16)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.after = func(rpc string, _ any) error {
		if rpc == "AddStream" {
			arrived <- struct{}{}
		}
		return nil
	}
	return arrived
}
