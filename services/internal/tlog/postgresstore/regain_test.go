package postgresstore_test

import (
	"context"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/services/internal/tlog/postgresstore"
)

// told passes on what is logged as an error.
type told struct {
	slog.Handler
	errors chan string
}

func (h told) Enabled(context.Context, slog.Level) bool { return true }

func (h told) Handle(_ context.Context, r slog.Record) error {
	if r.Level == slog.LevelError {
		h.errors <- r.Message
	}
	return nil
}

// TestLockNotRegained: what keeps the owner from its lock until somebody acts is
// said, once.
func TestLockNotRegained(t *testing.T) {
	server := shared.Server(t)
	database := server.Database(t)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	h := told{slog.DiscardHandler, make(chan string, 100)}
	p, through := startProxy(t, server, database)
	openStore(t, through, postgresstore.Options{Logger: slog.New(h)})
	server.Exec(t, database, "ALTER DATABASE "+strings.TrimPrefix(u.Path, "/")+" SET synchronous_commit = off",
		`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'trialog owner'`)
	select {
	case said := <-h.errors:
		if !strings.Contains(said, "until somebody acts") {
			t.Fatalf("the log says %q", said)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the log says nothing")
	}
	p.awaitConns(t, 3) // attempts that come after it
	if n := len(h.errors); n != 0 {
		t.Fatalf("said %d times more", n)
	}
}
