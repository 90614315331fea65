package gateway

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/trialog/trialog/api/checkpoint"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

// lie changes what the sequencer says about the statement with tag 2; honest is
// what it said about the one with tag 1, and that one's parts.
type lie struct {
	name  string
	about string // "answer": one statement is lost; "stream": all of it
	tell  func(w *world, honest, m *trialogv1.SubmitStreamResponse)
}

func final(m *trialogv1.SubmitStreamResponse) *trialogv1.StreamFinal {
	for _, a := range m.GetAnswers() {
		if f := a.GetFinal(); f != nil {
			return f
		}
	}
	return &trialogv1.StreamFinal{Proof: &trialogv1.StreamProof{}}
}

func lies() []lie {
	answer := func(name string, tell func(f, other *trialogv1.StreamFinal)) lie {
		return lie{name, "answer", func(_ *world, honest, m *trialogv1.SubmitStreamResponse) { tell(final(m), final(honest)) }}
	}
	stream := func(name string, tell func(w *world, m *trialogv1.SubmitStreamResponse)) lie {
		return lie{name, "stream", func(w *world, _, m *trialogv1.SubmitStreamResponse) { tell(w, m) }}
	}
	return []lie{
		answer("wrong path", func(f, _ *trialogv1.StreamFinal) { f.Proof.Path[5] ^= 1 }),
		answer("short path", func(f, _ *trialogv1.StreamFinal) { f.Proof.Path = f.GetProof().GetPath()[:0] }),
		answer("long path", func(f, _ *trialogv1.StreamFinal) { f.Proof.Path = append(f.Proof.Path, make([]byte, 32)...) }),
		answer("ragged path", func(f, _ *trialogv1.StreamFinal) { f.Proof.Path = f.GetProof().GetPath()[:31] }),
		answer("no proof", func(f, _ *trialogv1.StreamFinal) { f.Proof = nil }),
		answer("other index", func(f, _ *trialogv1.StreamFinal) { f.Proof.Index-- }),
		answer("index outside", func(f, _ *trialogv1.StreamFinal) { f.Proof.Index += 100 }),
		answer("another's answer", func(f, other *trialogv1.StreamFinal) { f.Proof, f.ReceivedMs = other.GetProof(), other.GetReceivedMs() }),
		answer("other receive time", func(f, _ *trialogv1.StreamFinal) { f.ReceivedMs++ }),
		answer("receive time before 1970", func(f, _ *trialogv1.StreamFinal) { f.ReceivedMs = -1 }),
		answer("older root", func(f, other *trialogv1.StreamFinal) { f.Proof.Checkpoint = other.GetProof().GetCheckpoint() }),
		answer("root that is no root", func(f, _ *trialogv1.StreamFinal) { f.Proof.Checkpoint = f.GetBeacon() }),
		answer("missing checkpoint", func(f, _ *trialogv1.StreamFinal) { f.Proof.Checkpoint = 99 }),
		answer("missing beacon", func(f, _ *trialogv1.StreamFinal) { f.Beacon = 99 }),
		answer("beacon that is none", func(f, _ *trialogv1.StreamFinal) { f.Beacon = f.GetProof().GetCheckpoint() }),
		answer("missing enrolment", func(f, _ *trialogv1.StreamFinal) { f.Enrolments = []uint64{99} }),
		answer("enrolment twice", func(f, _ *trialogv1.StreamFinal) { f.Enrolments = append(f.Enrolments, f.GetEnrolments()...) }),
		{"another entry", "answer", func(w *world, honest, m *trialogv1.SubmitStreamResponse) {
			f, other := final(m), final(honest)
			f.Entry, f.Proof, f.ReceivedMs, f.Duplicate = w.entries[3], other.GetProof(), other.GetReceivedMs(), true
		}},
		{"its entry, needlessly", "answer", func(w *world, _, m *trialogv1.SubmitStreamResponse) {
			f := final(m)
			f.Entry, f.Duplicate = w.entries[f.GetProof().GetIndex()], true
		}},
		{"OK as an error", "answer", func(_ *world, _, m *trialogv1.SubmitStreamResponse) {
			m.Answers[0].Result = &trialogv1.StreamAnswer_Error{}
		}},
		{"nothing", "answer", func(_ *world, _, m *trialogv1.SubmitStreamResponse) { m.Answers[0].Result = nil }},
		{"a promise of nobody's", "answer", func(w *world, _, m *trialogv1.SubmitStreamResponse) {
			m.Answers[0].Result = &trialogv1.StreamAnswer_Pending{Pending: &trialogv1.StreamPending{Promise: []byte("{}")}}
		}},

		stream("part number wrong", func(_ *world, m *trialogv1.SubmitStreamResponse) { m.Parts[0].Number++ }),
		stream("empty part", func(_ *world, m *trialogv1.SubmitStreamResponse) { m.Parts[0].Part = nil }),
		stream("unknown tag", func(_ *world, m *trialogv1.SubmitStreamResponse) { m.Answers[0].Tag = 77 }),
		stream("tag answered twice", func(_ *world, m *trialogv1.SubmitStreamResponse) { m.Answers = append(m.Answers, m.GetAnswers()[0]) }),
		stream("tag answered before", func(_ *world, m *trialogv1.SubmitStreamResponse) { m.Answers[0].Tag = 1 }),
		stream("note without quorum", func(w *world, m *trialogv1.SubmitStreamResponse) {
			c := w.note.Checkpoint()
			note, err := checkpoint.SignLog(c, uint64(w.now().Unix()), w.logKeys...)
			if err != nil {
				w.t.Fatal(err)
			}
			m.Parts[0].Part = &trialogv1.ReceiptPart_Checkpoint{Checkpoint: string(note.Bytes())}
		}),
		stream("beacon that is no note", func(_ *world, m *trialogv1.SubmitStreamResponse) {
			m.Parts[0].Part = &trialogv1.ReceiptPart_Beacon{Beacon: "x"}
		}),
		stream("enrolment elsewhere", func(w *world, m *trialogv1.SubmitStreamResponse) {
			for _, p := range m.GetParts() {
				if e := p.GetEnrolment(); e != nil {
					e.Proof.Index ^= 1
					return
				}
			}
			w.t.Error("no enrolment among the parts")
		}),
		stream("enrolment that is no entry", func(_ *world, m *trialogv1.SubmitStreamResponse) {
			m.Parts[0].Part = &trialogv1.ReceiptPart_Enrolment{Enrolment: &trialogv1.EnrolmentPart{Entry: []byte("x")}}
		}),
	}
}

// TestStreamLies: whatever a sequencer says that is not so, none of it leaves the
// gateway, neither in a stream nor in a batch. (What leaves it is checked by talk,
// which fails on anything wrong.)
func TestStreamLies(t *testing.T) {
	for _, l := range lies() {
		t.Run(l.name, func(t *testing.T) {
			w := newWorld(t)
			h := newHouse(t, w)
			w.startTrial()
			list := w.series(2)
			var honest *trialogv1.SubmitStreamResponse
			w.after = func(_ string, resp any) error {
				m, ok := resp.(*trialogv1.AddStreamResponse)
				if !ok {
					return nil
				}
				if honest == nil {
					honest = proto.CloneOf(m.GetSubmitted())
				} else {
					l.tell(w, honest, m.GetSubmitted())
				}
				return nil
			}
			c := h.talk(t, context.Background())
			c.say(1, list[0])
			if got := c.hear(1); got[1].GetFinal() == nil {
				t.Fatalf("the honest answer: %v", got)
			}
			c.say(2, list[1])
			var a *trialogv1.StreamAnswer
			if l.name == "tag answered twice" {
				// The first answer was right.
				a = &trialogv1.StreamAnswer{Result: errorAnswer(2, leaving()).GetResult()}
				c.hear(1)
			} else {
				a = c.hear(1)[2]
			}
			if codeOf(a) != codes.Unavailable {
				t.Errorf("answer %v", a)
			}
			if !strings.Contains(h.logs.String(), "sequencer's answer does not verify") {
				t.Error("the operator was not told")
			}
			if l.about == "stream" {
				if _, err := c.rpc.Recv(); err == nil {
					t.Error("the stream went on")
				}
			} else {
				w.after = nil
				c.say(3, w.series(1)[0])
				if got := c.hear(1); got[3].GetFinal() == nil {
					t.Errorf("the stream did not go on: %v", got)
				}
				c.end()
			}
		})
	}
}

// TestBatchLies is TestStreamLies for batches.
func TestBatchLies(t *testing.T) {
	// A batch gives whole receipts out, so that what they lack is seen too.
	incomplete := []lie{
		{"no beacon", "answer", func(_ *world, _, m *trialogv1.SubmitStreamResponse) { final(m).Beacon = 0 }},
		{"no enrolments", "answer", func(_ *world, _, m *trialogv1.SubmitStreamResponse) { final(m).Enrolments = nil }},
	}
	for _, l := range append(lies(), incomplete...) {
		t.Run(l.name, func(t *testing.T) {
			w := newWorld(t)
			h := newHouse(t, w)
			w.startTrial()
			first := w.series(2)
			var honest *trialogv1.SubmitStreamResponse
			w.after = func(_ string, resp any) error {
				if m, ok := resp.(*trialogv1.AddStreamResponse); ok {
					honest = m.GetSubmitted()
				}
				return nil
			}
			if _, err := h.rpc.SubmitBatch(context.Background(), &trialogv1.SubmitBatchRequest{Submissions: first[:1]}); err != nil {
				t.Fatal(err)
			}
			w.after = func(_ string, resp any) error {
				if m, ok := resp.(*trialogv1.AddStreamResponse); ok {
					l.tell(w, honest, m.GetSubmitted())
				}
				return nil
			}
			got, err := h.rpc.SubmitBatch(context.Background(), &trialogv1.SubmitBatchRequest{Submissions: first[1:]})
			switch {
			case l.name == "older root":
				// In a stream of its own, the number is that of the right one.
			case l.name == "tag answered before" || l.name == "tag answered twice":
				// A batch of one has no other tags, and is done with its first answer.
			case err == nil:
				t.Errorf("results %v", got.GetResults()[0].GetError())
			}
			if r := got.GetResults(); len(r) > 0 && r[0].GetSubmitted() != nil {
				if _, err := h.g.check(context.Background(), idOf(t, first[1]), r[0].GetSubmitted().GetReceipt(), r[0].GetSubmitted().GetIndex()); err != nil {
					t.Errorf("a receipt came out that does not verify: %v", err)
				}
			}
		})
	}
}

func idOf(t *testing.T, s *trialogv1.SubmitRequest) (id [32]byte) {
	t.Helper()
	return identityOf(s.GetEnvelope())
}
