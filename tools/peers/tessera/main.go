// Command tessera adds entries to a Tessera log on a POSIX file system, in
// process, and prints how many became durable and integrated.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"github.com/trialog/trialog/tools/peers/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "tessera: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir := flag.String("dir", "", "folder of the log; it should be empty")
	clients := flag.Int("clients", 2048, "adds under way at a time")
	batch := flag.Uint("batch", 1024, "entries of a batch")
	age := flag.Duration("age", 20*time.Millisecond, "how long a batch waits")
	interval := flag.Duration("checkpoint", 100*time.Millisecond, "between checkpoints; Tessera's least is 100 ms")
	dedupe := flag.Bool("dedupe", false, "with the in-memory deduplication, of the recommended size")
	size := flag.Int("bytes", 300, "bytes of an entry")
	warm := flag.Duration("warm", 2*time.Second, "time before anything is counted")
	window := flag.Duration("window", 5*time.Second, "time that is counted")
	flag.Parse()
	if *dir == "" {
		return errors.New("-dir is required")
	}
	private, _, err := note.GenerateKey(rand.Reader, "peer.bench/tessera")
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		return err
	}
	driver, err := posix.New(ctx, posix.Config{Path: *dir})
	if err != nil {
		return err
	}
	options := tessera.NewAppendOptions().WithCheckpointSigner(signer).
		WithCheckpointInterval(*interval).WithBatching(*batch, *age)
	if *dedupe {
		options = options.WithAntispam(tessera.DefaultAntispamInMemorySize, nil)
	}
	appender, shutdown, _, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return err
	}
	sources := make([]*mathrand.ChaCha8, *clients)
	for i := range sources {
		var seed [32]byte
		if _, err := rand.Read(seed[:]); err != nil {
			return err
		}
		sources[i] = mathrand.NewChaCha8(seed)
	}
	report, err := load.Run(ctx, load.Plan{Clients: *clients, Warm: *warm, Window: *window},
		func(ctx context.Context, client int) error {
			entry := make([]byte, *size)
			_, _ = sources[client].Read(entry) // never fails
			for {
				// The future is ready when the entry is durable and integrated.
				_, err := appender.Add(ctx, tessera.NewEntry(entry))()
				if !errors.Is(err, tessera.ErrPushback) {
					return err
				}
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(time.Millisecond):
				}
			}
		})
	if err != nil {
		return err
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := shutdown(end); err != nil {
		return err
	}
	report.Notes = []string{fmt.Sprintf("tessera v1.0.4 posix, %d clients in process, batch %d, %s, checkpoints every %s, dedupe %t",
		*clients, *batch, *age, *interval, *dedupe)}
	return report.Print(os.Stdout)
}
