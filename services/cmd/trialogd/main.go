// Command trialogd is every server of Trialog: one service by name, or all of
// them on one machine.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	tuneCollector(os.Getenv("GOGC"), debug.SetGCPercent)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// execute runs the command line and returns the exit code: 0 after an orderly
// end, 1 after a failure, 2 for a command line that cannot be understood.
func execute(ctx context.Context, args []string) int {
	root := newRoot(&program{now: time.Now}) //nolint:contextcheck // cobra hands the context on
	root.SetArgs(args)
	root.SetOut(os.Stdout)
	ran := false
	root.PersistentPreRun = func(*cobra.Command, []string) { ran = true }
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case !ran:
		fmt.Fprintf(os.Stderr, "trialogd: %v\nTry: trialogd --help\n", err)
		return 2
	}
	fmt.Fprintf(os.Stderr, "trialogd: %v\n", err)
	return 1
}

// program is what all commands share.
type program struct {
	level slog.Level
	now   func() time.Time
}

func (p *program) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: p.level}))
}

func newRoot(p *program) *cobra.Command {
	root := &cobra.Command{
		Use:   "trialogd",
		Short: "Servers of Trialog, a transparency log for clinical trials",
		Long: `Servers of Trialog, a transparency log for clinical trials.

"trialogd all" runs a whole log on this machine: sequencer, gateway, proofs and
three witnesses. All witnesses are then under one operator: good to try things
out and to demonstrate, no assurance for anybody else.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().TextVar(&p.level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	root.AddCommand(p.newAll(), p.newInit(), p.newWitness(), p.newShard(), newRollover(), p.newRecover(), p.newMirror(), p.newFsck(),
		p.newPolicy(), p.newTrust(), p.newTimestamp(), newKey())
	return root
}
