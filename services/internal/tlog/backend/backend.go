// Package backend opens the log that a URL names, whatever keeps it.
//
//	pebble:PATH            a folder on this machine
//	postgres://USER@HOST/DATABASE   a PostgreSQL database of the log's own
package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/trillian/storage"

	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/pebblestore"
	"github.com/trialog/trialog/services/internal/tlog/postgresstore"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
)

// Config says which log of a place is meant. Origin is required.
type Config struct {
	// Origin is the name of the log, 1 to 200 bytes.
	Origin string
	// BatchLimit is the greatest number of leaves that are integrated in one
	// transaction; 0 means 8,192.
	BatchLimit int
	// Patience is for how long a call waits for a database that does not answer; 0
	// means 15 seconds.
	Patience time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger takes messages; nil means none.
	Logger *slog.Logger
}

// Open opens a log that was created before.
//
// tlog.ErrNotFound: there is none of this origin. tlog.ErrOwned: somebody else
// writes to it. tlog.ErrUnsafe: the storage may lose what it acknowledges.
// tlog.ErrCorrupt: its root is not that of its nodes, or its last leaf is not in
// it. tlog.ErrInvalid: the URL or the origin is wrong, or the database holds
// another log. tlog.ErrUnavailable: the database does not answer.
func Open(ctx context.Context, url string, cfg Config) (tlog.Log, error) {
	return open(ctx, url, cfg, false)
}

// Create is Open, but makes the log if there is none. Only the making of a log
// calls it: elsewhere it would hide that a log was lost.
func Create(ctx context.Context, url string, cfg Config) (tlog.Log, error) {
	return open(ctx, url, cfg, true)
}

// IsPostgres reports whether a URL names a PostgreSQL database.
func IsPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

const pebbleScheme = "pebble:"

// store is what both back ends have.
type store interface {
	trillian.Storage
	Admin() storage.AdminStorage
	Close() error
}

func open(ctx context.Context, url string, cfg Config, create bool) (tlog.Log, error) {
	s, err := openStore(ctx, url, cfg, create)
	if err != nil {
		return nil, err
	}
	l, err := trillian.Open(ctx, trillian.Config{
		Storage: s, Admin: s.Admin(), Origin: cfg.Origin, Create: create, BatchLimit: cfg.BatchLimit,
		Now: cfg.Now, Logger: cfg.Logger, CloseStorage: s.Close,
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return l, nil
}

func openStore(ctx context.Context, url string, cfg Config, create bool) (store, error) {
	if path, ok := strings.CutPrefix(url, pebbleScheme); ok && path != "" {
		return pebblestore.Open(path, pebblestore.Options{Now: cfg.Now, Logger: cfg.Logger})
	}
	if !IsPostgres(url) {
		// The URL is not repeated: it may hold a password.
		return nil, fmt.Errorf("%w: the log's storage, expected pebble:PATH or postgres://USER@HOST/DATABASE", tlog.ErrInvalid)
	}
	opts := postgresstore.Options{Patience: cfg.Patience, Logger: cfg.Logger}
	openDatabase := postgresstore.Open
	if create {
		openDatabase = postgresstore.Create
	}
	s, err := openDatabase(ctx, url, opts)
	if err != nil {
		return nil, err
	}
	if err := s.CheckSoleTree(ctx, cfg.Origin); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}
