// Command gotest runs `go test` and makes sure that tests ran. It prints what go test
// prints, then each test that was left out with its reason, then one closing line with
// the counts. It fails if a test fails, if no test ran, and, with -complete, if one was
// left out: a suite that quietly skips itself would look like one that passed.
//
//	go run ./tools/gotest [-complete] -- ARGUMENTS OF GO TEST
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
}

// run starts go test with the arguments after "--" and reads it to its end.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("gotest", flag.ContinueOnError)
	complete := flags.Bool("complete", false, "fail if a test is skipped")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("parsing arguments: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, flags.Args()...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("connecting to go test: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting go test: %w", err)
	}
	summary, readErr := Read(events, stdout)
	waitErr := cmd.Wait()
	if err := errors.Join(readErr, waitErr); err != nil {
		summary.Print(stdout)
		return fmt.Errorf("running go test: %w", err)
	}
	summary.Print(stdout)
	return summary.Verdict(*complete)
}
