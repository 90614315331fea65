package main

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/services/witness/command"
)

func (p *program) newWitness() *cobra.Command {
	return command.New("trialogd witness", command.Program{Now: p.now, Logger: p.logger})
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
