package postgresstore

import (
	"context"
	"errors"
	"time"

	"github.com/google/trillian/storage"
	"github.com/jackc/pgx/v5/pgconn"
)

// adminStorage is Trillian's, with errors that give nothing away.
type adminStorage struct {
	storage.AdminStorage
	patience time.Duration
}

const administering = "administering trees"

// Snapshot implements storage.AdminStorage.
func (a adminStorage) Snapshot(ctx context.Context) (storage.ReadOnlyAdminTX, error) {
	var tx storage.ReadOnlyAdminTX
	err := attempt(ctx, a.patience, administering, func(ctx context.Context) (err error) {
		tx, err = a.AdminStorage.Snapshot(ctx)
		return classify(administering, err)
	})
	return tx, err
}

// ReadWriteTransaction implements storage.AdminStorage.
func (a adminStorage) ReadWriteTransaction(ctx context.Context, f storage.AdminTXFunc) error {
	var own error
	return attempt(ctx, a.patience, administering, func(ctx context.Context) error {
		called := false
		err := a.AdminStorage.ReadWriteTransaction(ctx, func(ctx context.Context, tx storage.AdminTX) error {
			called = true
			own = f(ctx, tx)
			return own
		})
		var pg *pgconn.PgError
		switch {
		case called && own == nil:
			return classifyCommit(administering, err)
		case own != nil && !errors.As(own, &pg) && ctx.Err() == nil:
			return own
		}
		return classify(administering, err)
	})
}

// CheckDatabaseAccessible implements storage.AdminStorage.
func (a adminStorage) CheckDatabaseAccessible(ctx context.Context) error {
	return attempt(ctx, a.patience, administering, func(ctx context.Context) error {
		return classify(administering, a.AdminStorage.CheckDatabaseAccessible(ctx))
	})
}
