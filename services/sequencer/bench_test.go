package sequencer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

// submitters is how many clients a benchmark has; each waits for its answer.
const submitters = 1000

func BenchmarkAddPending(b *testing.B) { benchmarkAdd(b, true) }
func BenchmarkAddFinal(b *testing.B)   { benchmarkAdd(b, false) }

// benchmarkAdd submits statements that were signed before: what is measured is
// the log's work, verification included.
func benchmarkAdd(b *testing.B, pending bool) {
	w, requests := benchmarkWorld(b)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	begin := time.Now()
	for range min(submitters, b.N) {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(requests)) {
					return
				}
				r := requests[i]
				r.Pending = pending
				a, err := w.seq.Add(context.Background(), r)
				if err != nil || pending != (a.Receipt == nil) {
					b.Errorf("answer %+v, %v", a, err)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "entries/s")
}

// benchmarkWorld is a shard at work, with b.N signed statements to be said.
func benchmarkWorld(b *testing.B) (*world, []Request) {
	w := newWorld(b)
	w.limits = Limits{RetryQuorum: time.Second} // otherwise the defaults
	if err := w.start(); err != nil {
		b.Fatal(err)
	}
	w.enrol()
	requests := make([]Request, b.N)
	for i := range requests {
		requests[i] = w.newTrial(fmt.Sprint("B", i))
	}
	runtime.GC()
	return w, requests
}

// BenchmarkStreamFinal has signed statements logged over gRPC streams, each
// answered FINAL. "of_verify" is the rate beside what verifying the signatures
// alone would allow on the same processors at the same time.
func BenchmarkStreamFinal(b *testing.B)   { benchmarkStream(b, trialogv1.Wait_WAIT_FINAL) }
func BenchmarkStreamPending(b *testing.B) { benchmarkStream(b, trialogv1.Wait_WAIT_PENDING) }

func benchmarkStream(b *testing.B, wait trialogv1.Wait) {
	w, requests := benchmarkWorld(b)
	dial := serveGRPC(b, w.seq)
	const streams = 2
	b.ReportAllocs()
	b.ResetTimer()
	begin, cpu := time.Now(), cpuTime(b)
	var wg sync.WaitGroup
	for n := range streams {
		part := requests[n*len(requests)/streams : (n+1)*len(requests)/streams]
		stream, err := dial.AddStream(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		wg.Go(func() {
			for from := 0; from < len(part); from += 64 {
				m := &trialogv1.SubmitStreamRequest{}
				for i, r := range part[from:min(from+64, len(part))] {
					sub := &trialogv1.StreamSubmission{Tag: uint64(from + i), Envelope: r.Envelope, Wait: wait}
					if from+i == 0 {
						sub.Beacon = string(r.Beacon)
					}
					m.Submissions = append(m.Submissions, sub)
				}
				if err := stream.Send(&trialogv1.AddStreamRequest{Submit: m}); err != nil {
					b.Error(err)
					return
				}
			}
			if err := stream.CloseSend(); err != nil {
				b.Error(err)
			}
		})
		wg.Go(func() {
			for got := 0; got < len(part); {
				m, err := stream.Recv()
				if err != nil {
					b.Error(err)
					return
				}
				for _, a := range m.GetSubmitted().GetAnswers() {
					if wait == trialogv1.Wait_WAIT_FINAL && a.GetFinal() == nil || a.GetError() != nil {
						b.Errorf("answer %v", a)
						return
					}
				}
				got += len(m.GetSubmitted().GetAnswers())
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	rate := float64(b.N) / time.Since(begin).Seconds()
	each := (cpuTime(b) - cpu).Seconds() / float64(b.N)
	b.ReportMetric(rate, "entries/s")
	b.ReportMetric(each*1e6, "cpu-µs/entry")
	perSecond, verify := verifyRate(b, time.Second)
	b.ReportMetric(verify*1e6, "cpu-µs/verify")
	b.ReportMetric(rate/perSecond, "of_verify")
}

// cpuTime is the processor time that the process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// verifyRate is how many signatures all processors verify per second now, and
// how much processor time one takes.
func verifyRate(b *testing.B, span time.Duration) (perSecond, seconds float64) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	message := make([]byte, 1024)
	sig := ed25519.Sign(private, message)
	var n atomic.Int64
	var wg sync.WaitGroup
	begin, cpu := time.Now(), cpuTime(b)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for time.Since(begin) < span {
				if !ed25519.Verify(public, message, sig) {
					b.Error("the signature does not verify")
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	count := float64(n.Load())
	return count / time.Since(begin).Seconds(), (cpuTime(b) - cpu).Seconds() / count
}

// serveGRPC serves seq on the loopback and returns a client of it.
func serveGRPC(tb testing.TB, seq *Sequencer) trialogv1.SequencerServiceClient {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer(ServerOptions()...)
	seq.Register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := conn.Close(); err != nil {
			tb.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			tb.Error(err)
		}
	})
	return trialogv1.NewSequencerServiceClient(conn)
}
