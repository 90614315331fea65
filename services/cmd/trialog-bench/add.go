package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// rawOptions are what the measurements with raw values share.
type rawOptions struct {
	dir   string
	bytes int
	batch int
	delay time.Duration
}

func (o *rawOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.dir, "dir", "", "folder of the log; it should be empty")
	cmd.Flags().IntVar(&o.bytes, "bytes", 300, "random bytes of an entry")
	cmd.Flags().IntVar(&o.batch, "batch", 1024, "entries of a batch")
	cmd.Flags().DurationVar(&o.delay, "delay", 5*time.Millisecond, "how long a batch waits for company")
	_ = cmd.MarkFlagRequired("dir") // it was just defined
}

func (p *program) newAdd() *cobra.Command {
	var o rawOptions
	var clients int
	cmd := &cobra.Command{
		Use:   "add",
		Short: "Add raw entries in process: durable and integrated in store and tiles",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := p.add(cmd.Context(), o, clients)
			if err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	o.flags(cmd)
	cmd.Flags().IntVar(&clients, "clients", 2048, "adds under way at a time")
	return cmd
}

func (p *program) add(ctx context.Context, o rawOptions, clients int) (*report, error) {
	log, err := openRawLog(ctx, o.dir, o.batch, o.delay, p.now)
	if err != nil {
		return nil, err
	}
	sources, err := newNoises(clients)
	if err != nil {
		return nil, errors.Join(err, log.close())
	}
	sinks := make([]chan outcome, clients)
	for i := range sinks {
		sinks[i] = make(chan outcome, 1)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() {
		err := log.run(context.WithoutCancel(ctx))
		cancel(err)
		ended <- err
	}()
	r, err := p.closed(ctx, clients, func(ctx context.Context, client int) error {
		if err := log.enqueue(ctx, item{value: sources[client].bytes(o.bytes), sink: sinks[client]}); err != nil {
			return err
		}
		select {
		case out := <-sinks[client]:
			return out.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(log.queue)
	if err := errors.Join(err, <-ended, log.close()); err != nil {
		return nil, err
	}
	r.Notes = []string{fmt.Sprintf("Pebble and a folder of tiles, identity index persistent, %d clients in process, batch %d, %s",
		clients, o.batch, o.delay)}
	return r, nil
}
