package postgresstore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/trialog/trialog/services/internal/tlog"
)

// migrations are the steps to the newest schema. One that was ever released does
// not change.
func migrations() []string { return []string{schema1} }

//go:embed schema/0001.sql
var schema1 string

// migrate brings the tables to the newest version. Without create it refuses
// a database that has none. The lock is held, so that nobody else does the same.
func migrate(ctx context.Context, conn *pgx.Conn, create bool) error {
	version, err := schemaVersion(ctx, conn)
	if err != nil {
		return classify("reading the version of the tables", err)
	}
	steps := migrations()
	switch {
	case version == 0 && !create:
		return fmt.Errorf("%w: the database has no tables of a log", tlog.ErrNotFound)
	case version > len(steps):
		return fmt.Errorf("%w: the tables have version %d, this program knows %d", tlog.ErrInvalid, version, len(steps))
	case version == len(steps):
		return nil
	}
	return classify("making the tables", pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if version == 0 {
			if _, err := tx.Exec(ctx, `CREATE TABLE TrialogSchema (Version INTEGER PRIMARY KEY)`); err != nil {
				return err
			}
		}
		for i, step := range steps[version:] {
			if _, err := tx.Exec(ctx, step, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO TrialogSchema (Version) VALUES ($1)`, version+i+1); err != nil {
				return err
			}
		}
		return nil
	}))
}

// schemaVersion is 0 if there are no tables.
func schemaVersion(ctx context.Context, conn *pgx.Conn) (int, error) {
	var there bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('trialogschema') IS NOT NULL`).Scan(&there); err != nil || !there {
		return 0, err
	}
	var version int
	err := conn.QueryRow(ctx, `SELECT Version FROM TrialogSchema ORDER BY Version DESC LIMIT 1`).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("%w: the version of the tables is missing", tlog.ErrCorrupt)
	}
	return version, err
}
