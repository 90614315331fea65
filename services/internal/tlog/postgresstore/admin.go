package postgresstore

import (
	"context"
	"errors"

	"github.com/google/trillian/storage"
	"github.com/jackc/pgx/v5/pgconn"
)

// adminStorage is Trillian's, with errors that give nothing away.
type adminStorage struct{ storage.AdminStorage }

// Snapshot implements storage.AdminStorage.
func (a adminStorage) Snapshot(ctx context.Context) (storage.ReadOnlyAdminTX, error) {
	tx, err := a.AdminStorage.Snapshot(ctx)
	return tx, classifyAdmin(err)
}

// ReadWriteTransaction implements storage.AdminStorage.
func (a adminStorage) ReadWriteTransaction(ctx context.Context, f storage.AdminTXFunc) error {
	var own error
	err := a.AdminStorage.ReadWriteTransaction(ctx, func(ctx context.Context, tx storage.AdminTX) error {
		own = f(ctx, tx)
		return own
	})
	var pg *pgconn.PgError
	if own != nil && !errors.As(own, &pg) {
		return own
	}
	return classifyAdmin(err)
}

// CheckDatabaseAccessible implements storage.AdminStorage.
func (a adminStorage) CheckDatabaseAccessible(ctx context.Context) error {
	return classifyAdmin(a.AdminStorage.CheckDatabaseAccessible(ctx))
}

func classifyAdmin(err error) error { return classify("administering trees", err) }
