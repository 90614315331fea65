package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

// short is a program that measures for no longer than it takes to see that it
// does.
func short() *program {
	return &program{now: time.Now, plan: plan{warm: 10 * time.Millisecond, window: 200 * time.Millisecond}}
}

// execute runs a command line and returns what it prints.
func execute(t *testing.T, args ...string) (*report, error) {
	t.Helper()
	root := newRoot(&program{now: time.Now})
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(io.Discard)
	root.SetArgs(append(args, "--warm", "20ms", "--window", "300ms"))
	if err := root.ExecuteContext(t.Context()); err != nil {
		return nil, err
	}
	var r report
	dec := json.NewDecoder(&out)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil || dec.More() {
		t.Fatalf("not one JSON object: %v", err)
	}
	return &r, nil
}

// TestCommands runs every command that needs nothing but a folder.
func TestCommands(t *testing.T) {
	for _, line := range []string{
		"limit fdatasync --dir DIR", "limit sha256", "limit ed25519", "limit grpc --clients 4",
		"add --dir DIR --clients 64 --batch 32", "stream --dir DIR --streams 2 --pack 16 --ahead 2 --batch 32",
		"proof --dir DIR --leaves 600 --clients 4",
	} {
		t.Run(strings.ReplaceAll(line, " ", "_"), func(t *testing.T) {
			r, err := execute(t, strings.Fields(strings.Replace(line, "DIR", t.TempDir(), 1))...)
			if err != nil {
				t.Fatal(err)
			}
			if r.Figures["per_second"] <= 0 || r.Figures["cpu_cores"] < 0 || r.Figures["seconds"] < 0.3 || len(r.Notes) == 0 {
				t.Errorf("it says %+v", r)
			}
		})
	}
	for _, line := range []string{"limit speed", "limit", "add", "flood", "fill", "prove", "proof", "nothing"} {
		if r, err := execute(t, strings.Fields(line)...); err == nil {
			t.Errorf("%s: no error but %+v", line, r)
		}
	}
}

// TestRawLogAnswersWithPlaces holds each answer against what the log has stored
// at the index that it names.
func TestRawLogAnswersWithPlaces(t *testing.T) {
	log, err := openRawLog(t.Context(), t.TempDir(), 16, time.Millisecond, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- log.run(context.WithoutCancel(t.Context())) }()
	const n = 200
	sink := make(chan outcome, n)
	for i := range n {
		if err := log.enqueue(t.Context(), item{value: fmt.Appendf(nil, "value %d", i), tag: uint64(i), sink: sink}); err != nil {
			t.Fatal(err)
		}
	}
	close(log.queue)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	close(sink)
	seen := map[uint64]bool{}
	for out := range sink {
		leaves, err := log.tree.Leaves(t.Context(), out.index, 1)
		if err != nil || len(leaves) != 1 || string(leaves[0].Value) != fmt.Sprintf("value %d", out.tag) {
			t.Fatalf("value %d is said to be at %d: %v, %v", out.tag, out.index, leaves, err)
		}
		seen[out.tag] = true
	}
	root, err := log.tree.Root(t.Context())
	if err != nil || len(seen) != n || root.Size != n || log.tiles.Size() != n || root.Hash != log.tiles.Root() {
		t.Errorf("%d answers, store %+v, tiles %d, %v", len(seen), root, log.tiles.Size(), err)
	}
	if err := log.close(); err != nil {
		t.Error(err)
	}
}

// TestRawLogFails: who waits learns it when the log has failed.
func TestRawLogFails(t *testing.T) {
	log, err := openRawLog(t.Context(), t.TempDir(), 4, time.Millisecond, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { cancel(log.run(context.WithoutCancel(t.Context()))) }()
	for err == nil {
		err = log.enqueue(ctx, item{value: []byte("x"), sink: make(chan outcome, 1)})
	}
	if errors.Is(err, context.Canceled) {
		t.Errorf("the reason is lost: %v", err)
	}
}

// TestRawStreamAnswersEachOnce sends on one stream and closes it.
func TestRawStreamAnswersEachOnce(t *testing.T) {
	log, err := openRawLog(t.Context(), t.TempDir(), 16, time.Millisecond, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- log.run(context.WithoutCancel(t.Context())) }()
	l, err := newLoopback(t.Context(), func(r grpc.ServiceRegistrar) {
		trialogv1.RegisterSequencerServiceServer(r, &rawServer{log: log, room: 8})
	})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := trialogv1.NewSequencerServiceClient(l.conn).AddStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const messages, pack = 30, 5
	go func() {
		for m := range uint64(messages) {
			req := &trialogv1.SubmitStreamRequest{}
			for i := range uint64(pack) {
				req.Submissions = append(req.Submissions, &trialogv1.StreamSubmission{Tag: m*pack + i, Envelope: fmt.Append(nil, m*pack+i)})
			}
			if stream.Send(&trialogv1.AddStreamRequest{Submit: req}) != nil {
				return // Recv says why
			}
		}
		_ = stream.CloseSend()
	}()
	tags, places := map[uint64]bool{}, map[uint64]bool{}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range resp.GetSubmitted().GetAnswers() {
			if tags[a.GetTag()] || places[a.GetPending().GetIndex()] {
				t.Errorf("answered twice: %v", a)
			}
			tags[a.GetTag()], places[a.GetPending().GetIndex()] = true, true
		}
	}
	if len(tags) != messages*pack {
		t.Errorf("%d answers", len(tags))
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
	close(log.queue)
	if err := errors.Join(<-ended, log.close()); err != nil {
		t.Error(err)
	}
}

// TestClosedCountsTheWindow: what is done before and after it does not count.
func TestClosedCountsTheWindow(t *testing.T) {
	p := short()
	var mu sync.Mutex
	calls := 0
	r, err := p.closed(t.Context(), 3, func(ctx context.Context, client int) error {
		mu.Lock()
		calls++
		mu.Unlock()
		return pass(ctx, time.Millisecond)
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Figures["per_second"] * r.Figures["seconds"]; n < 1 || n >= float64(calls) {
		t.Errorf("%v of %d calls are counted", n, calls)
	}
	if r.Figures["p50_ms"] < 1 || r.Figures["p99_ms"] < r.Figures["p50_ms"] {
		t.Errorf("times: %v", r.Figures)
	}
	broken := errors.New("broken")
	if _, err := p.closed(t.Context(), 3, func(context.Context, int) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestQuantile(t *testing.T) {
	times := make([]time.Duration, 0, 101)
	for i := range 101 {
		times = append(times, time.Duration(i)*time.Millisecond)
	}
	for q, want := range map[float64]float64{0: 0, 0.5: 50, 0.99: 99, 1: 100} {
		if got := quantile(times, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

func TestUsage(t *testing.T) {
	if u, err := usage(0); err != nil || len(u) != 0 {
		t.Errorf("without a process: %v, %v", u, err)
	}
	u, err := usage(os.Getpid())
	if err != nil || u["machine_cores"] < u["server_cores"] {
		t.Errorf("of this process: %v, %v", u, err)
	}
	if _, err := usage(1 << 30); err == nil {
		t.Error("no error for a process that is not there")
	}
	if v, err := sum([]string{"a", "1", "2.5"}, 1, 2); v != 3.5 || err != nil {
		t.Errorf("sum %v, %v", v, err)
	}
	for _, which := range []int{0, 3} {
		if _, err := sum([]string{"a", "1", "2.5"}, which); err == nil {
			t.Errorf("no error for field %d", which)
		}
	}
}

func TestNoise(t *testing.T) {
	a, err := newNoise()
	if err != nil {
		t.Fatal(err)
	}
	b, err := newNoise()
	if err != nil {
		t.Fatal(err)
	}
	if x, y := a.bytes(32), a.bytes(32); bytes.Equal(x, y) || bytes.Equal(x, b.bytes(32)) {
		t.Error("bytes repeat")
	}
	var seen []uint64
	for range 200 {
		v := a.below(3)
		if v > 2 {
			t.Fatalf("%d is not below 3", v)
		}
		seen = append(seen, v)
	}
	slices.Sort(seen)
	if got := slices.Compact(seen); len(got) != 3 {
		t.Errorf("only %v", got)
	}
}

// TestLimitSyncLeavesNothing behind in the folder.
func TestLimitSyncLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := short().limitSync(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := short().limitSync(t.Context(), filepath.Join(dir, "none")); err == nil {
		t.Error("no error without a folder")
	}
}
