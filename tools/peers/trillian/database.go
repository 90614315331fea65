package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// openDatabase connects to the log's database, which it makes, with Trillian's
// schema, if it is not there.
func openDatabase(ctx context.Context, o options) (*pgxpool.Pool, error) {
	if o.server == "" || o.schema == "" {
		return nil, errors.New("-server and -schema are required")
	}
	made, err := createDatabase(ctx, o)
	if err != nil {
		return nil, err
	}
	uri, err := url.Parse(o.server)
	if err != nil {
		return nil, err
	}
	uri.Path = "/" + o.database
	q := uri.Query()
	// Without it a new tree integrates some 500 leaves a second until the planner
	// has statistics: the peer is measured at its best.
	q.Set("plan_cache_mode", "force_generic_plan")
	q.Set("pool_max_conns", "90")
	uri.RawQuery = q.Encode()
	pool, err := pgxpool.New(ctx, uri.String())
	if err != nil {
		return nil, err
	}
	if made {
		text, err := os.ReadFile(o.schema)
		if err != nil {
			return nil, err
		}
		if _, err := pool.Exec(ctx, string(text)); err != nil {
			return nil, fmt.Errorf("load Trillian's schema: %w", err)
		}
	}
	return pool, nil
}

func createDatabase(ctx context.Context, o options) (made bool, err error) {
	conn, err := pgx.Connect(ctx, o.server)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var there bool
	const ask = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)"
	if err := conn.QueryRow(ctx, ask, o.database).Scan(&there); err != nil || there {
		return false, err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{o.database}.Sanitize())
	return err == nil, err
}
