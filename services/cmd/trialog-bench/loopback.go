package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/services/proofs"
)

// loopback is a gRPC server and a client of it, over TCP, in one process.
type loopback struct {
	conn   *grpc.ClientConn
	server *grpc.Server
	ended  chan error
}

func newLoopback(ctx context.Context, register func(grpc.ServiceRegistrar), options ...grpc.ServerOption) (*loopback, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &loopback{server: grpc.NewServer(append(options, grpc.MaxConcurrentStreams(1<<16))...), ended: make(chan error, 1)}
	register(l.server)
	go func() { l.ended <- l.server.Serve(listener) }()
	l.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *loopback) close() error {
	var err error
	if l.conn != nil {
		err = l.conn.Close()
	}
	l.server.Stop()
	return errors.Join(err, <-l.ended)
}

// empty answers Head with nothing.
type empty struct {
	trialogv1.UnimplementedSequencerServiceServer
}

// Head implements trialogv1.SequencerServiceServer.
func (empty) Head(context.Context, *trialogv1.HeadRequest) (*trialogv1.HeadResponse, error) {
	return &trialogv1.HeadResponse{}, nil
}

// limitCall measures calls that carry nothing.
func (p *program) limitCall(ctx context.Context, clients int) (*report, error) {
	l, err := newLoopback(ctx, func(r grpc.ServiceRegistrar) {
		trialogv1.RegisterSequencerServiceServer(r, empty{})
	}, proofs.ServerOptions()...)
	if err != nil {
		return nil, err
	}
	client := trialogv1.NewSequencerServiceClient(l.conn)
	r, err := p.closed(ctx, clients, func(ctx context.Context, _ int) error {
		_, err := client.Head(ctx, &trialogv1.HeadRequest{})
		return err
	})
	if err := errors.Join(err, l.close()); err != nil {
		return nil, err
	}
	r.Notes = []string{fmt.Sprintf("empty unary gRPC calls over TCP, %d clients, client and server in one process", clients)}
	return r, nil
}
