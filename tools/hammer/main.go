// Command hammer loads a log with statements at a pace that does not depend on
// its answers, verifies every answer, and says what came of it.
package main

import (
	"context"
	"crypto/rand"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	os.Exit(run())
}

// run wires the program to its process.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := &program{out: os.Stdout, errs: os.Stderr, now: time.Now, random: rand.Reader}
	return p.main(ctx, os.Args[1:])
}
