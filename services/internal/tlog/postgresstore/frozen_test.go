package postgresstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/testonly"
	"github.com/transparency-dev/merkle/compact"

	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/postgresstore"
	"github.com/trialog/trialog/services/internal/tlog/tlogtest"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
)

const (
	frozenPatience = 500 * time.Millisecond
	// hung is when a call counts as one that never returns.
	hung = 30 * time.Second
)

// returns calls all functions at once, with a context that never ends, and fails
// unless each returns the error that is wanted.
func returns(t *testing.T, want error, calls map[string]func(context.Context) error) {
	t.Helper()
	type result struct {
		name string
		err  error
	}
	results := make(chan result, len(calls))
	for name, call := range calls {
		go func() { results <- result{name, call(context.Background())} }()
	}
	timeout := time.After(hung)
	for range calls {
		select {
		case r := <-results:
			if !errors.Is(r.err, want) || errors.Is(r.err, tlog.ErrUnknownOutcome) != errors.Is(want, tlog.ErrUnknownOutcome) ||
				errors.Is(r.err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want %v", r.name, r.err, want)
			}
		case <-timeout:
			t.Fatalf("a call does not return, %v and more behind the end of its patience", hung)
		}
	}
}

// TestFrozen: a server or network that takes everything and answers nothing ends
// each call when patience is at its end, with nothing stored.
func TestFrozen(t *testing.T) {
	ctx := context.Background()
	server := shared.Server(t)
	url := server.Database(t)
	p, through := startProxy(t, server, url)
	s := openStore(t, through, postgresstore.Options{Patience: frozenPatience})
	log, err := trillian.Open(ctx, trillian.Config{Storage: s, Admin: s.Admin(), Origin: origin, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{log: log}
	l.add(t, 10)
	l.integrate(t)
	trees, err := storage.ListTrees(ctx, s.Admin(), false)
	if err != nil || len(trees) != 1 {
		t.Fatalf("%d trees, %v", len(trees), err)
	}
	open := func() storage.ReadOnlyLogTreeTX {
		tx, err := s.SnapshotForTree(ctx, trees[0])
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	leaves, nodes, ending := open(), open(), open()
	defer leaves.Close()
	defer nodes.Close()
	defer ending.Close()
	p.freeze()
	calls := map[string]func(context.Context) error{
		"Append":           func(ctx context.Context) error { return log.Append(ctx, 10, tlogtest.Leaves(10, 10)) },
		"Find":             func(ctx context.Context) error { _, _, err := log.Find(ctx, [32]byte{1}); return err },
		"Leaves":           func(ctx context.Context) error { _, err := log.Leaves(ctx, 0, 5); return err },
		"Ping":             s.CheckDatabaseAccessible,
		"CheckSoleTree":    func(ctx context.Context) error { return s.CheckSoleTree(ctx, origin) },
		"PruneHeads":       func(ctx context.Context) error { return s.PruneHeads(ctx, trees[0].TreeId) },
		"GetLeavesByRange": func(ctx context.Context) error { _, err := leaves.GetLeavesByRange(ctx, 0, 5); return err },
		"GetMerkleNodes": func(ctx context.Context) error {
			_, err := nodes.GetMerkleNodes(ctx, []compact.NodeID{compact.NewNodeID(0, 0)})
			return err
		},
		"Commit": ending.Commit,
		"CreateTree": func(ctx context.Context) error {
			_, err := storage.CreateTree(ctx, s.Admin(), testonly.PreorderedLogTree)
			return err
		},
		"Snapshot": func(ctx context.Context) error { _, err := s.Admin().Snapshot(ctx); return err },
		"Open": func(ctx context.Context) error {
			_, err := postgresstore.Open(ctx, through, postgresstore.Options{Patience: frozenPatience})
			return err
		},
	}
	returns(t, tlog.ErrUnavailable, calls)
	// A second time there are no connections, and none can be made.
	for _, name := range []string{"GetLeavesByRange", "GetMerkleNodes", "Commit"} {
		delete(calls, name)
	}
	returns(t, tlog.ErrUnavailable, calls)
	p.thaw()
	l.add(t, 10)
	l.integrate(t)
	if l.refused > 0 || l.unknown > 0 {
		t.Fatalf("%d refused, %d unknown outcomes behind the thaw", l.refused, l.unknown)
	}
	if got, err := log.Leaves(ctx, 0, 100); err != nil || len(got) != 20 {
		t.Fatalf("%d leaves, want 20: %v", len(got), err)
	}
}

// TestFrozenCommit: whether a commit was stored whose answer never came is not
// known, and not before it has ended is anything read.
func TestFrozenCommit(t *testing.T) {
	ctx := context.Background()
	server := shared.Server(t)
	url := server.Database(t)
	p, through := startProxy(t, server, url)
	s := openStore(t, through, postgresstore.Options{Patience: frozenPatience})
	log, err := trillian.Open(ctx, trillian.Config{Storage: s, Admin: s.Admin(), Origin: origin, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Append(ctx, 0, tlogtest.Leaves(0, 10)); err != nil {
		t.Fatal(err)
	}
	p.set(freeze, 0)
	returns(t, tlog.ErrUnknownOutcome, map[string]func(context.Context) error{
		"Append": func(ctx context.Context) error { return log.Append(ctx, 10, tlogtest.Leaves(10, 10)) },
	})
	many := map[string]func(context.Context) error{}
	for _, name := range []string{"Find 1", "Find 2", "Find 3", "Find 4", "Find 5", "Find 6"} {
		many[name] = func(ctx context.Context) error { _, _, err := log.Find(ctx, [32]byte{1}); return err }
	}
	many["Append"] = func(ctx context.Context) error { return log.Append(ctx, 20, tlogtest.Leaves(20, 1)) }
	returns(t, tlog.ErrUnavailable, many)
	p.thaw()
	first, err := log.Leaves(ctx, 0, 100)
	if err != nil || len(first) != 10 && len(first) != 20 {
		t.Fatalf("%d leaves, want 10 or 20: %v", len(first), err)
	}
	if again, err := log.Leaves(ctx, 0, 100); err != nil || len(again) != len(first) {
		t.Fatalf("%d leaves, then %d: %v", len(first), len(again), err)
	}
	if _, err := log.Integrate(ctx); err != nil {
		t.Fatal(err)
	}
}
