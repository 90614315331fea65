package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/sequencer"
	"github.com/trialog/trialog/services/witness/command"
)

// patience bounds a wait that ends at once when all is well.
const patience = 30 * time.Second

// newData makes a log whose witnesses listen on free ports.
func newData(t *testing.T) (layout, *config.Log) {
	t.Helper()
	l := layout{t.TempDir()}
	free := net.JoinHostPort("127.0.0.1", "0")
	err := initialise(t.Context(), l, initOptions{
		log: "trialog.localhost/demo", shard: "1", operator: "Demo operator", listen: "127.0.0.1:8080",
		witnesses: []string{free, free, free},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.readSettings()
	if err != nil {
		t.Fatal(err)
	}
	return l, s
}

// startWitnesses runs the witnesses in this process until the test ends.
func startWitnesses(t *testing.T, l layout, s *config.Log) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for n := range s.Witnesses {
		running.Go(func() {
			if err := command.Serve(ctx, l.witness(n+1, "witness.json"), command.Program{Now: time.Now, Logger: quiet}); err != nil {
				t.Errorf("witness %d: %v", n+1, err)
			}
		})
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// await waits until the condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		case <-time.After(time.Millisecond): // between two looks
		}
	}
}

// TestShardStartsAndStops runs a log twice on the same data: everything that
// uses the stores has ended when run returns, so that they can be closed.
func TestShardStartsAndStops(t *testing.T) {
	l, s := newData(t)
	startWitnesses(t, l, s)
	for range 2 {
		e, err := openEngine(t.Context(), l, s, time.Now, quiet())
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(s.Shards[0].Under(l.dir).Ledger); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("ledger folder: %v, %v", info.Mode(), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.run(ctx) }()
		await(t, "the shard is ready", func() bool { return e.ready() == nil })
		cancel()
		if err := <-done; err != nil {
			t.Errorf("an orderly end gives %v", err)
		}
		e.close()
		// A log that goes on needs no second enrolment.
		if err := os.RemoveAll(s.Shards[0].Under(l.dir).Ledger); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEnrolmentIsWaitedFor stops a shard while the enrolment of the gateway's
// key is under way.
func TestEnrolmentIsWaitedFor(t *testing.T) {
	l, s := newData(t)
	for range 2 {
		var lines bytes.Buffer
		e, err := openEngine(t.Context(), l, s, time.Now, slog.New(slog.NewTextHandler(&lines, nil)))
		if err != nil {
			t.Fatal(err)
		}
		under, release := make(chan struct{}), make(chan struct{})
		e.now = sync.OnceValue(func() time.Time { close(under); <-release; return time.Now() })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.run(ctx) }()
		<-under
		cancel()
		await(t, "the sequencer has stopped", func() bool {
			err := e.active().seq.Ready()
			return err != nil && !errors.Is(err, sequencer.ErrNotReady)
		})
		select {
		case <-done:
			close(release)
			t.Fatal("the shard has ended before the enrolment has")
		case <-time.After(100 * time.Millisecond): // for what must not happen
		}
		close(release)
		if err := <-done; err != nil {
			t.Errorf("an orderly end gives %v", err)
		}
		e.close()
	}
}

func TestEnrolmentPause(t *testing.T) {
	for failures, want := range []int64{100, 200, 400, 800, 1600, 3200, 5000, 5000} {
		if got := enrolmentPause(failures); got.Milliseconds() != want {
			t.Errorf("after %d failures: %s, want %d ms", failures, got, want)
		}
	}
	if got := enrolmentPause(1 << 40); got != 5*time.Second {
		t.Errorf("after very many: %s", got)
	}
}
