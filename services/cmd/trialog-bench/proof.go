package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/services/proofs"
)

// proofOptions say what is proven to whom.
type proofOptions struct {
	dir     string
	leaves  int
	bytes   int
	clients int
	refresh time.Duration
}

func (p *program) newProof() *cobra.Command {
	var o proofOptions
	cmd := &cobra.Command{
		Use:   "proof",
		Short: "Ask the proof service for inclusion proofs, unary gRPC over TCP",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := p.proof(cmd.Context(), o)
			if err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", "", "folder for the tiles; it should be empty")
	f.IntVar(&o.leaves, "leaves", 100_000, "entries of the log")
	f.IntVar(&o.bytes, "bytes", 300, "random bytes of an entry")
	f.IntVar(&o.clients, "clients", 64, "calls under way at a time")
	f.DurationVar(&o.refresh, "refresh", 100*time.Millisecond, "for how long a published checkpoint is taken to be the newest")
	_ = cmd.MarkFlagRequired("dir") // it was just defined
	return cmd
}

func (p *program) proof(ctx context.Context, o proofOptions) (*report, error) {
	log, err := publishLog(ctx, o.dir, o.leaves, o.bytes, p.now)
	if err != nil {
		return nil, err
	}
	service, err := proofs.New(proofs.Config{
		Origin: log.origin, Store: log.store, Policy: log.policy, Refresh: o.refresh, Now: p.now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	sources, err := newNoises(o.clients)
	if err != nil {
		return nil, err
	}
	l, err := newLoopback(ctx, func(r grpc.ServiceRegistrar) { service.Register(r) }, proofs.ServerOptions()...)
	if err != nil {
		return nil, err
	}
	client := trialogv1.NewProofServiceClient(l.conn)
	r, err := p.closed(ctx, o.clients, func(ctx context.Context, i int) error {
		resp, err := client.GetInclusionProof(ctx, &trialogv1.GetInclusionProofRequest{Index: sources[i].below(log.size), Size: log.size})
		if err == nil && (resp.GetSize() != log.size || len(resp.GetPath()) == 0) {
			err = errors.New("the answer is not the proof that was asked for")
		}
		return err
	})
	if err := errors.Join(err, l.close()); err != nil {
		return nil, err
	}
	const note = "GetInclusionProof, %d entries, %d clients, unary over TCP, client and server in one process, checkpoint read every %s"
	r.Notes = []string{fmt.Sprintf(note, o.leaves, o.clients, o.refresh)}
	return r, nil
}
