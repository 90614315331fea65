// Command trialog-witness is a witness of transparency logs and nothing else. It
// does what "trialogd witness" does, in a fifth of its size.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/services/witness/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute runs the command line and returns the exit code: 0 after an orderly
// end, 1 after a failure, 2 for a command line that cannot be understood.
func execute(ctx context.Context, args []string, out, errs io.Writer) int {
	var level slog.Level
	//nolint:contextcheck // cobra hands the context on
	root := command.New("trialog-witness", command.Program{Now: time.Now, Logger: func() *slog.Logger {
		return slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: level}))
	}})
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentFlags().TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	root.SetArgs(args)
	root.SetOut(out)
	ran := false
	root.PersistentPreRun = func(*cobra.Command, []string) { ran = true }
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case !ran:
		fmt.Fprintf(errs, "trialog-witness: %v\nTry: trialog-witness --help\n", err)
		return 2
	}
	fmt.Fprintf(errs, "trialog-witness: %v\n", err)
	return 1
}
