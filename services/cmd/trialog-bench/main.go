// Command trialog-bench measures parts of Trialog from inside: each command does
// one thing for a fixed time and prints one JSON object. tools/bench runs it,
// beside the programs that it is compared with.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root := newRoot(&program{now: time.Now})
	err := root.ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "trialog-bench: %v\n", err)
		os.Exit(1)
	}
}

// program is what all commands share.
type program struct {
	now  func() time.Time
	plan plan
}

func newRoot(p *program) *cobra.Command {
	root := &cobra.Command{
		Use:           "trialog-bench",
		Short:         "Measure parts of Trialog; each command prints one JSON object",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().DurationVar(&p.plan.warm, "warm", 2*time.Second, "time before anything is counted")
	root.PersistentFlags().DurationVar(&p.plan.window, "window", 5*time.Second, "time that is counted")
	root.AddCommand(p.newAdd(), p.newStream(), p.newLimit(), p.newFlood(), p.newFill(), p.newProve(), p.newProof())
	return root
}
