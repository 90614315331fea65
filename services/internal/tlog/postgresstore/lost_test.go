package postgresstore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/trialog/trialog/internal/pgtest"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/tlogtest"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
)

// ledger is a log with what it must hold.
type ledger struct {
	log      tlog.Log
	model    tlogtest.Tree
	size     uint64
	unknown  int // appends with an unknown outcome
	stored   int // those of them that were stored
	refused  int // appends that failed and stored nothing
	variants uint64
}

// add appends n leaves; if the outcome is unknown it reads back what became of
// them, as the sequencer does: all or none.
func (l *ledger) add(t *testing.T, n int) {
	t.Helper()
	ctx := context.Background()
	// What was not stored is never tried again: its index must be free for others.
	l.variants += uint64(n)
	leaves := tlogtest.Leaves(l.variants<<20, n)
	err := l.log.Append(ctx, l.size, leaves)
	if err == nil {
		l.model.Add(t, leaves...)
		l.size += uint64(n)
		return
	}
	if !errors.Is(err, tlog.ErrUnknownOutcome) && !errors.Is(err, tlog.ErrUnavailable) {
		t.Fatalf("Append: %v", err)
	}
	got, rerr := l.log.Leaves(ctx, l.size, n+10)
	if rerr != nil {
		t.Fatalf("reading back after %v: %v", err, rerr)
	}
	switch {
	case len(got) == 0:
	case len(got) != n || got[0].Identity != leaves[0].Identity:
		t.Fatalf("%d of %d leaves are there after %v", len(got), n, err)
	case !errors.Is(err, tlog.ErrUnknownOutcome):
		t.Fatalf("leaves are stored after %v", err)
	default:
		l.model.Add(t, leaves...)
		l.size += uint64(n)
		l.stored++
	}
	if errors.Is(err, tlog.ErrUnknownOutcome) {
		l.unknown++
	} else {
		l.refused++
	}
}

// integrate checks that the root is that of all leaves.
func (l *ledger) integrate(t *testing.T) {
	t.Helper()
	root, err := l.log.Integrate(context.Background())
	if err != nil {
		t.Fatalf("Integrate: %v", err)
	}
	if want := l.model.Root(t, l.size); root != want {
		t.Fatalf("root %d %x, want %d %x", root.Size, root.Hash, want.Size, want.Hash)
	}
}

// TestLostCommits breaks connections at the COMMIT of appends and integrations,
// also so that the server gets it only after the client was told that the
// connection is gone. What is read back must stay as it is.
func TestLostCommits(t *testing.T) {
	server := shared.Server(t)
	url := server.Database(t)
	p, through := startProxy(t, server, url)
	l := &ledger{log: mustOpen(t, through, nil)}
	l.add(t, 10)
	l.integrate(t)
	for round := range 30 {
		f := fate(round)%(fates-1) + 1
		before := p.fatesMet()
		p.set(f, 0)
		if round%2 == 0 {
			l.add(t, 1+rand.IntN(300))
		} else {
			l.add(t, 7)
			p.set(f, 0)
		}
		l.integrate(t)
		l.add(t, 3)
		l.integrate(t)
		if p.fatesMet() == before {
			t.Fatalf("round %d: no commit was lost", round)
		}
	}
	t.Logf("%d unknown outcomes, %d of them stored", l.unknown, l.stored)
	if l.unknown < 20 || l.stored == 0 || l.stored == l.unknown {
		t.Fatalf("%d unknown outcomes, %d of them stored: not all cases were met", l.unknown, l.stored)
	}
	finish(t, l, url)
}

// TestCutAnywhere breaks connections after a random number of bytes.
func TestCutAnywhere(t *testing.T) {
	server := shared.Server(t)
	url := server.Database(t)
	p, through := startProxy(t, server, url)
	l := &ledger{log: mustOpen(t, through, nil)}
	for range 30 {
		p.cutAll()
		p.set(pass, 200+rand.IntN(20_000))
		for range 3 {
			l.add(t, 1+rand.IntN(200))
		}
		p.set(pass, 0)
		l.integrate(t)
	}
	t.Logf("%d cuts, %d unknown outcomes, %d of them stored; %d refused", p.fatesMet(), l.unknown, l.stored, l.refused)
	if p.fatesMet() < 20 {
		t.Fatalf("%d connections were cut, expected 20", p.fatesMet())
	}
	finish(t, l, url)
}

// finish opens the log anew and compares all of it.
func finish(t *testing.T, l *ledger, url string) {
	t.Helper()
	l.integrate(t)
	if err := l.log.Close(); err != nil {
		t.Fatal(err)
	}
	l.log = mustOpen(t, url, nil)
	l.integrate(t)
	if err := l.log.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestServerKilled ends the server while it commits: three times of four by
// killing the postmaster, else so that all its processes end at once. The same
// handle goes on with the server that is started next.
func TestServerKilled(t *testing.T) {
	rounds := 30
	if testing.Short() || underRace {
		rounds = 8
	}
	server := pgtest.New(t)
	url := server.Database(t)
	p, through := startProxy(t, server, url)
	l := &ledger{log: mustOpen(t, through, func(c *trillian.Config) { c.BatchLimit = 500 })}
	for round := range rounds {
		end := server.Kill
		if round%4 == 3 {
			end = server.StopImmediately
		}
		restarted := make(chan error, 1)
		p.onCommit(1+rand.IntN(40), func() {
			end()
			restarted <- server.Start()
		})
		stop, integrated := make(chan struct{}), make(chan error, 1)
		go func() { integrated <- integrateUntil(l.log, stop) }()
		for alive := true; alive; {
			l.add(t, 1+rand.IntN(400))
			select {
			case err := <-restarted:
				if err != nil {
					t.Fatal(err)
				}
				alive = false
			default:
			}
		}
		close(stop)
		if err := <-integrated; err != nil {
			t.Fatalf("round %d: Integrate: %v", round, err)
		}
		l.integrate(t)
	}
	t.Logf("%d leaves, %d unknown outcomes, %d of them stored; %d refused", l.size, l.unknown, l.stored, l.refused)
	finish(t, l, url)
}

// integrateUntil integrates without pause; not to reach the server is no error.
func integrateUntil(l tlog.Log, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		_, err := l.Integrate(context.Background())
		if err != nil && !errors.Is(err, tlog.ErrUnknownOutcome) && !errors.Is(err, tlog.ErrUnavailable) {
			return err
		}
	}
}
