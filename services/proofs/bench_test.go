package proofs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/services/proofs"
)

// emptyMethod is an RPC that does nothing: what gRPC itself costs.
const emptyMethod = "/bench.Empty/Call"

func emptyService() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "bench.Empty", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Call",
			Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				in := new(emptypb.Empty)
				return in, dec(in)
			},
		}},
	}
}

// listen serves over loopback TCP and returns connections to it.
func listen(tb testing.TB, p *proofs.Proofs, conns int) []*grpc.ClientConn {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer(proofs.ServerOptions()...)
	p.Register(server)
	server.RegisterService(emptyService(), struct{}{})
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	tb.Cleanup(func() { server.Stop(); <-done })
	list := make([]*grpc.ClientConn, conns)
	for i := range list {
		list[i], err = grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = list[i].Close() })
	}
	return list
}

// cpuTime is what the process has used of all cores.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkGRPC has 64 clients ask for inclusion proofs over loopback TCP, and
// beside it for nothing: the second bounds the first.
func BenchmarkGRPC(b *testing.B) {
	const size, clients = 70_000, 64 // three levels of tiles
	l := newLog(b).grow(b, size)
	l.publish(b)
	s := l.serve(b, func(c *proofs.Config) { c.Refresh = time.Second })
	for _, conns := range []int{2, clients} {
		list := listen(b, s.Proofs, conns)
		for name, call := range map[string]func(ctx context.Context, c *grpc.ClientConn, rng *rand.Rand) error{
			"empty": func(ctx context.Context, c *grpc.ClientConn, _ *rand.Rand) error {
				return c.Invoke(ctx, emptyMethod, new(emptypb.Empty), new(emptypb.Empty))
			},
			"inclusion": func(ctx context.Context, c *grpc.ClientConn, rng *rand.Rand) error {
				_, err := trialogv1.NewProofServiceClient(c).GetInclusionProof(ctx,
					&trialogv1.GetInclusionProofRequest{Index: rng.Uint64N(size)})
				return err
			},
		} {
			b.Run(fmt.Sprintf("%s/connections=%d", name, conns), func(b *testing.B) {
				before := cpuTime(b)
				var left atomic.Int64
				left.Store(int64(b.N))
				var work sync.WaitGroup
				for i := range clients {
					work.Go(func() {
						rng := rand.New(rand.NewPCG(uint64(i), 1))
						for left.Add(-1) >= 0 {
							if err := call(b.Context(), list[i%conns], rng); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				work.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
				// Of clients and server together; it depends less on what else the
				// machine does.
				b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-us/call")
			})
		}
	}
}
