package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/client"
	"github.com/google/trillian/extension"
	"github.com/google/trillian/log"
	"github.com/google/trillian/monitoring"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/server"
	"github.com/google/trillian/server/admin"
	"github.com/google/trillian/storage/postgresql"
	"github.com/google/trillian/util/clock"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"
)

// stock is a Trillian log server and signer with its client.
type stock struct {
	log     trillian.TrillianLogClient
	admin   trillian.TrillianAdminClient
	server  *grpc.Server
	conn    *grpc.ClientConn
	cancel  context.CancelFunc
	stopped chan struct{}
}

// serve runs what trillian_log_server and trillian_log_signer run, in this
// process, behind TCP or a connection in memory.
func serve(ctx context.Context, pool *pgxpool.Pool, tcp bool) (*stock, error) {
	metrics := monitoring.InertMetricFactory{}
	registry := extension.Registry{
		AdminStorage: postgresql.NewAdminStorage(pool), LogStorage: postgresql.NewLogStorage(pool, metrics),
		QuotaManager: quota.Noop(), MetricFactory: metrics,
	}
	s := &stock{stopped: make(chan struct{})}
	s.server = grpc.NewServer(grpc.MaxConcurrentStreams(1 << 16))
	trillian.RegisterTrillianLogServer(s.server, server.NewTrillianLogRPCServer(registry, clock.System))
	trillian.RegisterTrillianAdminServer(s.server, admin.New(registry, nil))
	listener, dial, err := listen(tcp)
	if err != nil {
		return nil, err
	}
	go func() { _ = s.server.Serve(listener) }() // ends with Stop
	s.conn, err = grpc.NewClient(dial.target, append(dial.options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, err
	}
	s.log, s.admin = trillian.NewTrillianLogClient(s.conn), trillian.NewTrillianAdminClient(s.conn)
	manager := log.NewOperationManager(log.OperationInfo{
		Registry: registry, BatchSize: 4096, NumWorkers: 1, RunInterval: 20 * time.Millisecond, TimeSource: clock.System,
	}, log.NewSequencerManager(registry, 0))
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	go func() {
		defer close(s.stopped)
		manager.OperationLoop(work)
	}()
	return s, nil
}

// dialing is how a client reaches a listener.
type dialing struct {
	target  string
	options []grpc.DialOption
}

func listen(tcp bool) (net.Listener, dialing, error) {
	if tcp {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, dialing{}, err
		}
		return l, dialing{target: l.Addr().String()}, nil
	}
	l := bufconn.Listen(1 << 20)
	return l, dialing{target: "passthrough:///memory", options: []grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
	}}, nil
}

// tree returns a tree of this type, a new one unless there is one already.
func (s *stock) tree(ctx context.Context, kind trillian.TreeType) (*trillian.Tree, error) {
	known, err := s.admin.ListTrees(ctx, &trillian.ListTreesRequest{})
	if err != nil {
		return nil, err
	}
	for _, t := range known.Tree {
		if t.TreeType == kind {
			return t, nil
		}
	}
	t, err := client.CreateAndInitTree(ctx, &trillian.CreateTreeRequest{Tree: &trillian.Tree{
		TreeState: trillian.TreeState_ACTIVE, TreeType: kind, MaxRootDuration: durationpb.New(0),
	}}, s.admin, s.log)
	if err != nil {
		return nil, fmt.Errorf("create a tree: %w", err)
	}
	return t, nil
}

func (s *stock) close() {
	s.cancel()
	<-s.stopped
	_ = s.conn.Close() // nothing is under way
	s.server.Stop()
}
