package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/internal/signing"
	"github.com/trialog/trialog/services/witness"
)

func (p *program) newWitness() *cobra.Command {
	var path string
	var lifeline bool
	cmd := &cobra.Command{
		Use:   "witness",
		Short: "Cosign the checkpoints of logs that keep to one history",
		Long: `Cosign the checkpoints of logs that keep to one history: each one is signed once
it is proved to grow out of the last one that this witness has signed. What it
has signed is in its state file, which must never be put back to an older copy.

"trialogd witness init" makes a witness of your own; "trialogd init" makes a
configuration for each of its three witnesses.`,
		Example: `  trialogd witness --config witness/witness.json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tuneWitness(os.Getenv("GOGC"), os.Getenv("GOMEMLIMIT"), debug.SetGCPercent, debug.SetMemoryLimit)
			dropPages()
			ctx := cmd.Context()
			if lifeline {
				var cancel context.CancelFunc
				ctx, cancel = context.WithCancel(ctx)
				defer cancel()
				go func() {
					_, _ = io.Copy(io.Discard, os.Stdin)
					cancel()
				}()
			}
			return runWitness(ctx, path, p.now, p.logger())
		},
	}
	// The subcommands look at the same witness.
	cmd.PersistentFlags().StringVar(&path, "config", "witness.json", "configuration file; paths in it are relative to it")
	cmd.Flags().BoolVar(&lifeline, "end-with-stdin", false, "end when standard input ends, so as not to outlive a parent process")
	cmd.AddCommand(newWitnessInit(&path), newWitnessKeys(&path), newWitnessStatus(&path), newWitnessEvidence(&path))
	return cmd
}

// tuneWitness keeps the heap of a witness small, which is the point of one,
// unless the user says otherwise. Its work is signing, not collecting.
func tuneWitness(gogc, limit string, percent func(int) int, memory func(int64) int64) {
	const growth, most = 25, 32 << 20
	if gogc == "" {
		percent(growth)
	}
	if limit == "" {
		memory(most)
	}
}

// readWitness reads a witness's configuration. Paths in the file are relative to
// it; they come back as this process can use them.
func readWitness(path string) (*config.Witness, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := config.ParseWitness(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	dir := filepath.Dir(path)
	c.StateFile = absolute(dir, c.StateFile)
	for i, ref := range c.KeyFiles {
		c.KeyFiles[i] = signing.Under(dir, ref)
	}
	for i := range c.LogLists {
		if l := &c.LogLists[i]; l.File != "" {
			// Whole, whatever folder this is started in: it names the list for good.
			if l.File, err = filepath.Abs(absolute(dir, l.File)); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// witnessSocket is where a running witness is asked how it stands.
func witnessSocket(c *config.Witness) string { return filepath.Join(c.StateFile+".admin", "socket") }

// runWitness serves one witness until ctx ends.
func runWitness(ctx context.Context, path string, now func() time.Time, logger *slog.Logger) error {
	c, err := readWitness(path)
	if err != nil {
		return err
	}
	logger = logger.With("witness", c.Name)
	w, err := witness.Open(ctx, c, now, logger)
	if err != nil {
		return err
	}
	c.Logs = nil // megabytes of text, which are keys now
	debug.FreeOSMemory()
	dropPages()
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return errors.Join(err, w.Close())
	}
	admin, err := listenAdmin(ctx, witnessSocket(c))
	if err != nil {
		return errors.Join(err, listener.Close(), w.Close())
	}
	logger.Info("witness listens", "name", c.Name, "address", listener.Addr().String())
	err = run.All(ctx,
		run.Part{Name: "witness", Run: w.Run},
		run.Part{Name: "admin", Run: func(ctx context.Context) error {
			err := run.HTTP(ctx, admin, run.Server(w.Inspect(), logger))
			return errors.Join(err, os.Remove(witnessSocket(c)))
		}},
		run.Part{Name: "http", Run: func(ctx context.Context) error {
			return run.HTTP(ctx, listener, run.Server(w.Handler(), logger))
		}})
	return errors.Join(err, w.Close())
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// restartPause is how long a witness that ended is left alone.
const restartPause = time.Second

// superviseWitness runs a witness as a process of its own and starts it again
// when it ends.
func superviseWitness(ctx context.Context, program, configPath string, logger *slog.Logger) error {
	for {
		err := witnessProcess(ctx, program, configPath)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		logger.Error("a witness process has ended, starting it again", "config", configPath, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(restartPause):
		}
	}
}

func witnessProcess(ctx context.Context, program, configPath string) error {
	cmd := exec.CommandContext(ctx, program, "witness", //nolint:gosec // our own program
		"--end-with-stdin", "--config", configPath, "--log-level", "warn")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	// The pipe is never written to. It ends with this process, however it ends.
	if _, err := cmd.StdinPipe(); err != nil {
		return err
	}
	return cmd.Run()
}
