package backend_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/trialog/trialog/internal/pgtest"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/backend"
	"github.com/trialog/trialog/services/internal/tlog/tlogtest"
)

const origin = "log.example/2026"

var shared pgtest.Shared

func TestMain(m *testing.M) {
	defer shared.Close()
	m.Run()
}

// TestOpen makes a log, opens it, and is refused where it must be, on each back
// end.
func TestOpen(t *testing.T) {
	for _, c := range []struct {
		name string
		url  func(t *testing.T) string
	}{
		{"Pebble", func(t *testing.T) string { return "pebble:" + t.TempDir() }},
		{"Postgres", func(t *testing.T) string { return shared.Server(t).Database(t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := context.Background()
			url := c.url(t)
			cfg := backend.Config{Origin: origin}
			if l, err := backend.Open(ctx, url, cfg); !errors.Is(err, tlog.ErrNotFound) {
				t.Fatalf("opening what was not made: %v, %v", l, err)
			}
			l, err := backend.Create(ctx, url, cfg)
			if err != nil {
				t.Fatal(err)
			}
			all := tlogtest.Leaves(0, 300)
			if err := l.Append(ctx, 0, all); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Integrate(ctx); err != nil {
				t.Fatal(err)
			}
			if second, err := backend.Open(ctx, url, cfg); !errors.Is(err, tlog.ErrOwned) || !errors.Is(err, tlog.ErrLocked) {
				t.Fatalf("a second owner: %v, %v", second, err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if l, err := backend.Open(ctx, url, backend.Config{Origin: "other.example/2026"}); err == nil {
				t.Fatalf("opened under another origin: %v", l)
			}
			for _, open := range []func(context.Context, string, backend.Config) (tlog.Log, error){backend.Open, backend.Create} {
				l, err := open(ctx, url, cfg)
				if err != nil {
					t.Fatal(err)
				}
				tlogtest.CheckWhole(t, l, all)
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestURLs refuses what names no place, and repeats none of it.
func TestURLs(t *testing.T) {
	for _, url := range []string{
		"", "pebble", "pebble:", "secret", "mysql://secret@secret/secret", "Postgres://secret@/secret",
		"postgres://secret:secret@[secret/secret", "postgres://u:secret@localhost:99999/secret",
		"postgres://u:secret@localhost/secret?sslmode=secret",
	} {
		l, err := backend.Open(context.Background(), url, backend.Config{Origin: origin})
		if !errors.Is(err, tlog.ErrInvalid) {
			t.Errorf("Open(%q) = %v, %v", url, l, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error gives the URL away: %v", err)
		}
	}
}
