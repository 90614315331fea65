package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt/parts"
)

// maxAnswer is what one message of answers may weigh.
const maxAnswer = 64 << 20

// pump sends on one stream until the flood has ended, and waits for what is not
// answered.
func (f *flood) pump(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.cast.client.SubmitStream(ctx, grpc.MaxCallRecvMsgSize(maxAnswer))
	if err != nil {
		return err
	}
	credits := make(chan struct{}, max(f.o.ahead, f.o.pack))
	sent := make(chan error, 1)
	go func() { sent <- f.send(ctx, stream, credits) }()
	checker := parts.NewChecker(f.cast.policy)
	var times []time.Duration
	defer func() { f.meter.keep(times) }()
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return <-sent
		}
		if err != nil {
			return err
		}
		if err := addParts(checker, resp.GetParts()); err != nil {
			return err
		}
		for _, a := range resp.GetAnswers() {
			<-credits
			if !f.judge(checker, a) {
				continue
			}
			f.meter.add(1)
			if f.due != nil && f.meter.counting.Load() {
				times = append(times, f.now().Sub(f.due[a.GetTag()]))
			}
		}
	}
}

// send sends while there is room, in an open loop when it is due.
func (f *flood) send(
	ctx context.Context, stream grpc.BidiStreamingClient[trialogv1.SubmitStreamRequest, trialogv1.SubmitStreamResponse],
	credits chan<- struct{},
) error {
	for begun := false; ; begun = true {
		first, end := f.take()
		if first == end {
			return stream.CloseSend()
		}
		if f.due != nil {
			if err := pass(ctx, f.due[first].Sub(f.now())); err != nil {
				return err
			}
		}
		for range end - first {
			select {
			case credits <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		m := f.message(first, end)
		if !begun {
			m.Submissions[0].Beacon = f.cast.note
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}

// judge tells whether an answer is FINAL, and verifies some.
func (f *flood) judge(checker *parts.Checker, a *trialogv1.StreamAnswer) bool {
	switch r := a.GetResult().(type) {
	case *trialogv1.StreamAnswer_Final:
		if a.GetTag()%uint64(f.o.verify) != 0 {
			return len(r.Final.GetProof().GetPath()) > 0
		}
		_, err := checker.Check(f.envelopes[a.GetTag()], parts.Final{
			Proof: proofOf(r.Final.GetProof()), ReceivedMillis: r.Final.GetReceivedMs(), Entry: r.Final.GetEntry(),
			Beacon: r.Final.GetBeacon(), Enrolments: r.Final.GetEnrolments(), Duplicate: r.Final.GetDuplicate(),
		})
		if err != nil {
			f.fail(err.Error())
		}
		return err == nil
	case *trialogv1.StreamAnswer_Pending:
		f.pending.Add(1)
	case *trialogv1.StreamAnswer_Error:
		if codes.Code(r.Error.GetCode()) == codes.ResourceExhausted {
			f.busy.Add(1)
			return false
		}
		f.fail(r.Error.GetMessage())
	default:
		f.fail(fmt.Sprintf("an answer of type %T", r))
	}
	return false
}

func addParts(checker *parts.Checker, list []*trialogv1.ReceiptPart) error {
	for _, p := range list {
		var err error
		switch v := p.GetPart().(type) {
		case *trialogv1.ReceiptPart_Checkpoint:
			err = checker.AddCheckpoint(p.GetNumber(), v.Checkpoint)
		case *trialogv1.ReceiptPart_Beacon:
			err = checker.AddBeacon(p.GetNumber(), v.Beacon)
		case *trialogv1.ReceiptPart_Enrolment:
			err = checker.AddEnrolment(p.GetNumber(), v.Enrolment.GetEntry(), proofOf(v.Enrolment.GetProof()))
		default:
			err = fmt.Errorf("a part of type %T", v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func proofOf(p *trialogv1.StreamProof) parts.Proof {
	return parts.Proof{Checkpoint: p.GetCheckpoint(), Index: p.GetIndex(), Path: p.GetPath()}
}
