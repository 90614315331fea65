// Command trillian runs a stock Trillian log on PostgreSQL in process and prints
// how fast it queues leaves, or proves inclusion, over gRPC.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/klog/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "trillian: %v\n", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	server, database, schema string
	mode                     string
	clients                  int
	leaves                   int64
	bytes                    int
	warm, window             time.Duration
}

func run(ctx context.Context) error {
	var o options
	flag.StringVar(&o.server, "server", "", "URI of the PostgreSQL server, its maintenance database")
	flag.StringVar(&o.database, "database", "peer", "database of the log; made if it is not there")
	flag.StringVar(&o.schema, "schema", "", "Trillian's schema for PostgreSQL, storage.sql")
	flag.StringVar(&o.mode, "mode", "queue", "queue or proof")
	flag.IntVar(&o.clients, "clients", 64, "calls under way at a time")
	flag.Int64Var(&o.leaves, "leaves", 100_000, "mode proof: leaves of the tree")
	flag.IntVar(&o.bytes, "bytes", 300, "bytes of a leaf")
	flag.DurationVar(&o.warm, "warm", 2*time.Second, "time before anything is counted")
	flag.DurationVar(&o.window, "window", 5*time.Second, "time that is counted")
	flag.Parse()
	klog.SetSlogLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	// Trillian's operations log at each batch; what fails reaches us as an error.
	pool, err := openDatabase(ctx, o)
	if err != nil {
		return err
	}
	defer pool.Close()
	s, err := serve(ctx, pool, o.mode == "proof")
	if err != nil {
		return err
	}
	defer s.close()
	switch o.mode {
	case "queue":
		return queue(ctx, s, o)
	case "proof":
		return proofs(ctx, s, o)
	}
	return errors.New("-mode is queue or proof")
}
