package sequencer

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

// TestAddStreamByGRPC takes a chain through a real connection: what is answered
// is what a stream in process answers, and each end of the stream has its code.
func TestAddStreamByGRPC(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	client := serveGRPC(t, w.seq)
	requests := w.chained(300)
	stream, err := client.AddStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept := &streamClient{parts: map[uint64]*trialogv1.ReceiptPart{}, answers: map[uint64]*clientAnswer{}, sent: map[uint64][]byte{}}
	for from := 0; from < len(requests); from += 100 {
		m := &trialogv1.SubmitStreamRequest{}
		for i, r := range requests[from : from+100] {
			kept.sent[uint64(from+i)] = r.Envelope
			m.Submissions = append(m.Submissions, streamed(uint64(from+i), r))
		}
		if err := stream.Send(&trialogv1.AddStreamRequest{Submit: m}); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = kept.take(m)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(kept.problems...); err != nil {
		t.Fatal(err)
	}
	for i := range requests {
		if f := kept.answer(uint64(i)).GetFinal(); f.GetProof().GetIndex() != uint64(i)+2 {
			t.Fatalf("statement %d: %v", i, kept.answer(uint64(i)))
		}
	}
	w.check(kept.answer(299).raw, "299")
	w.nothingUnderWay()
}

// TestAddStreamEnds: each way in which a stream ends too early has its code.
func TestAddStreamEnds(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	client := serveGRPC(t, w.seq)
	good := streamed(1, w.newTrial("G1"))
	for name, tt := range map[string]struct {
		send *trialogv1.SubmitStreamRequest
		end  func(cancel context.CancelFunc)
		want codes.Code
	}{
		"empty message": {send: &trialogv1.SubmitStreamRequest{}, want: codes.InvalidArgument},
		"no message":    {send: nil, want: codes.InvalidArgument},
		"too many": {
			send: &trialogv1.SubmitStreamRequest{Submissions: make([]*trialogv1.StreamSubmission, maxSubmissions+1)},
			want: codes.InvalidArgument,
		},
		"client gone": {
			send: &trialogv1.SubmitStreamRequest{Submissions: []*trialogv1.StreamSubmission{good}},
			end:  func(cancel context.CancelFunc) { cancel() }, want: codes.Canceled,
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := client.AddStream(ctx)
		if err == nil {
			err = stream.Send(&trialogv1.AddStreamRequest{Submit: tt.send})
		}
		if err != nil {
			t.Fatal(err)
		}
		if tt.end != nil {
			tt.end(cancel)
		}
		for err == nil {
			_, err = stream.Recv()
		}
		if code := status.Code(err); code != tt.want {
			t.Errorf("%s: %v, expected %s", name, err, tt.want)
		}
		cancel()
	}
	open, err := client.AddStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.halt(); err != nil {
		t.Fatal(err)
	}
	_, err = open.Recv()
	if told := read(err); told.code != codes.Unavailable || told.retry != retryAfter {
		t.Errorf("when Run has ended: %v", err)
	}
	_, err = client.Add(t.Context(), &trialogv1.AddRequest{Submit: &trialogv1.SubmitRequest{Envelope: []byte("x")}})
	if read(err).code != codes.Unavailable {
		t.Errorf("add when Run has ended: %v", err)
	}
}
