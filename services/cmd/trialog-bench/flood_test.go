package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

// fakeLog is a log of two entries, the first two envelopes that are sent to it.
type fakeLog struct {
	trialogv1.UnimplementedSubmissionServiceServer

	signers  *signers
	lie      bool                        // about the path
	result   func(tag uint64) answerKind // FINAL if nil
	received [][]byte
	beacons  int
}

type answerKind int

const (
	final answerKind = iota
	pendingAnswer
	busyAnswer
	errorAnswer
)

const fakeMillis = 1_700_000_000_000

func (l *fakeLog) SubmitStream(
	stream grpc.BidiStreamingServer[trialogv1.SubmitStreamRequest, trialogv1.SubmitStreamResponse],
) error {
	var all []*trialogv1.StreamSubmission
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		for _, s := range req.GetSubmissions() {
			if s.GetBeacon() != "" {
				l.beacons++
			}
		}
		all = append(all, req.GetSubmissions()...)
	}
	var hashes [][32]byte
	for _, s := range all {
		l.received = append(l.received, s.GetEnvelope())
		raw, err := entry.Encode(time.UnixMilli(fakeMillis), s.GetEnvelope())
		if err != nil {
			return err
		}
		hashes = append(hashes, entry.LeafHash(raw))
	}
	root := sha256.Sum256(append(append([]byte{1}, hashes[0][:]...), hashes[1][:]...))
	note, err := checkpoint.SignLog(checkpoint.Checkpoint{Origin: publishedLog + "/1", Size: 2, Root: root}, fakeMillis/1000, l.signers.log...)
	if err != nil {
		return err
	}
	sig, err := l.signers.witness.SignCheckpoint(note.Text(), fakeMillis/1000)
	if err != nil {
		return err
	}
	if note, err = note.With(sig); err != nil {
		return err
	}
	resp := &trialogv1.SubmitStreamResponse{Parts: []*trialogv1.ReceiptPart{
		{Number: 1, Part: &trialogv1.ReceiptPart_Checkpoint{Checkpoint: string(note.Bytes())}},
	}}
	for i, s := range all {
		a := &trialogv1.StreamAnswer{Tag: s.GetTag()}
		kind := final
		if l.result != nil {
			kind = l.result(s.GetTag())
		}
		switch kind {
		case pendingAnswer:
			a.Result = &trialogv1.StreamAnswer_Pending{Pending: &trialogv1.StreamPending{}}
		case busyAnswer:
			a.Result = &trialogv1.StreamAnswer_Error{Error: &status.Status{Code: int32(codes.ResourceExhausted)}}
		case errorAnswer:
			a.Result = &trialogv1.StreamAnswer_Error{Error: &status.Status{Code: int32(codes.InvalidArgument), Message: "no such kind"}}
		case final:
			path := hashes[(i+1)%2]
			if l.lie {
				path[0] ^= 1
			}
			a.Result = &trialogv1.StreamAnswer_Final{Final: &trialogv1.StreamFinal{
				Proof: &trialogv1.StreamProof{Checkpoint: 1, Index: uint64(i), Path: path[:]}, ReceivedMs: fakeMillis,
			}}
		}
		resp.Answers = append(resp.Answers, a)
	}
	return stream.Send(resp)
}

// newFlood makes a flood of n envelopes on a fake log.
func newFlood(t *testing.T, log *fakeLog, n int, o floodOptions) *flood {
	t.Helper()
	var err error
	if log.signers, err = newSigners(publishedLog + "/1"); err != nil {
		t.Fatal(err)
	}
	policy, err := log.signers.policy()
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoopback(t.Context(), func(r grpc.ServiceRegistrar) { trialogv1.RegisterSubmissionServiceServer(r, log) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.close() })
	f := &flood{
		o: o, now: time.Now,
		cast: &cast{client: trialogv1.NewSubmissionServiceClient(l.conn), policy: policy, note: "a note"},
	}
	for i := range n {
		f.envelopes = append(f.envelopes, fmt.Appendf(nil, "envelope %d", i))
	}
	f.meter.counting.Store(true)
	return f
}

func TestPumpVerifiesAndCounts(t *testing.T) {
	log := &fakeLog{}
	f := newFlood(t, log, 2, floodOptions{pack: 1, ahead: 2, verify: 1})
	if err := f.pump(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.meter.n.Load() != 2 || f.failed.Load() != 0 || log.beacons != 1 {
		t.Errorf("%d final, %d failed (%s), the beacon was sent %d times", f.meter.n.Load(), f.failed.Load(), f.cause, log.beacons)
	}
	for i, e := range log.received {
		if !bytes.Equal(e, f.envelopes[i]) {
			t.Errorf("sent %q as number %d", e, i)
		}
	}
	r, err := f.report(&report{Figures: map[string]float64{"per_second": 100, "cpu_cores": 0.5, "server_cores": 1}})
	if err != nil || r.Figures["server_cpu_us"] != 10_000 || r.Figures["client_cpu_us"] != 5_000 || r.Figures["bytes_per_statement"] != 10 {
		t.Errorf("%+v, %v", r, err)
	}
	if len(r.Notes) != 2 || !strings.Contains(r.Notes[0], "too low") {
		t.Errorf("nothing was left to send, and the notes are %q", r.Notes)
	}
}

// TestPumpTellsAnswersApart: only FINAL counts, and what is no answer at all
// makes the figure worthless.
func TestPumpTellsAnswersApart(t *testing.T) {
	kinds := []answerKind{final, pendingAnswer, busyAnswer, final}
	f := newFlood(t, &fakeLog{result: func(tag uint64) answerKind { return kinds[tag] }}, 4, floodOptions{pack: 4, ahead: 4, verify: 1 << 20})
	if err := f.pump(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.meter.n.Load() != 2 || f.pending.Load() != 1 || f.busy.Load() != 1 || f.failed.Load() != 0 {
		t.Errorf("final %d, pending %d, busy %d, failed %d (%s)", f.meter.n.Load(), f.pending.Load(), f.busy.Load(), f.failed.Load(), f.cause)
	}
	for name, log := range map[string]*fakeLog{
		"a refusal":  {result: func(tag uint64) answerKind { return []answerKind{final, errorAnswer}[tag] }},
		"a bad path": {lie: true},
	} {
		f := newFlood(t, log, 2, floodOptions{pack: 2, ahead: 2, verify: 1})
		if err := f.pump(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f.failed.Load() == 0 || f.cause == "" {
			t.Errorf("%s: nothing failed", name)
		}
		if r, err := f.report(&report{Figures: map[string]float64{"per_second": 1}}); err == nil {
			t.Errorf("%s: a figure: %+v", name, r)
		}
	}
}

// TestPumpInAnOpenLoop counts times from when each was due.
func TestPumpInAnOpenLoop(t *testing.T) {
	f := newFlood(t, &fakeLog{}, 2, floodOptions{pack: 1, ahead: 8, verify: 1, rate: 1})
	begin := time.Now()
	f.due = []time.Time{begin.Add(-time.Hour), begin.Add(20 * time.Millisecond)}
	if err := f.pump(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.meter.times) != 2 || f.meter.times[0] < time.Hour || f.meter.times[1] > time.Hour {
		t.Errorf("times %v", f.meter.times)
	}
	if time.Since(begin) < 20*time.Millisecond {
		t.Error("a statement was sent before it was due")
	}
}

func TestTakeEnds(t *testing.T) {
	f := &flood{o: floodOptions{pack: 3}, envelopes: make([][]byte, 5)}
	for _, want := range [][2]int{{0, 3}, {3, 5}, {5, 5}, {5, 5}} {
		if first, end := f.take(); first != want[0] || end != want[1] {
			t.Errorf("took %d to %d, want %v", first, end, want)
		}
	}
	f.next.Store(0)
	f.meter.ended.Store(true)
	if first, end := f.take(); first != end {
		t.Errorf("took %d to %d after the end", first, end)
	}
}
