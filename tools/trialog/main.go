// Command trialog is what a person at a sponsor, a site or an authority uses:
// it submits documents to a log, keeps the receipts, and verifies them offline.
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
	p := &program{
		out: os.Stdout, errs: os.Stderr, in: os.Stdin, now: time.Now, random: rand.Reader,
		dir: ".", getenv: os.Getenv,
	}
	return p.main(ctx, os.Args[1:])
}
