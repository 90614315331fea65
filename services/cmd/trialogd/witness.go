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
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/run"
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

"trialogd init" makes a configuration for each of its three witnesses.`,
		Example: `  trialogd witness --config data/witness-1/witness.json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
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
	cmd.Flags().StringVar(&path, "config", "witness.json", "configuration file; paths in it are relative to it")
	cmd.Flags().BoolVar(&lifeline, "end-with-stdin", false, "end when standard input ends, so as not to outlive a parent process")
	return cmd
}

// runWitness serves one witness until ctx ends.
func runWitness(ctx context.Context, path string, now func() time.Time, logger *slog.Logger) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	c, err := config.ParseWitness(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	// Paths in the file are relative to it.
	dir := filepath.Dir(path)
	c.StateFile = absolute(dir, c.StateFile)
	for i, file := range c.KeyFiles {
		c.KeyFiles[i] = absolute(dir, file)
	}
	w, err := witness.Open(c, now, logger.With("witness", c.Name))
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return errors.Join(err, w.Close())
	}
	logger.Info("witness listens", "name", c.Name, "address", listener.Addr().String())
	err = run.All(ctx,
		run.Part{Name: "witness", Run: w.Run},
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
