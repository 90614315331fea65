package postgresstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/puddle/v2"

	"github.com/trialog/trialog/services/internal/tlog"
)

// read runs f in a snapshot, again if the database went away. f must not keep
// what it has read unless read returns nil.
func (s *Store) read(ctx context.Context, doing string, f func(context.Context, pgx.Tx) error) error {
	return retry(ctx, s.opts.Patience, doing, func(ctx context.Context) error {
		tx, err := s.beginRead(ctx, doing)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx) //nolint:errcheck // nothing happens if it is committed
		if err := f(ctx, tx); err != nil {
			return classify(doing, err)
		}
		return classify(doing, tx.Commit(ctx))
	})
}

func (s *Store) beginRead(ctx context.Context, doing string) (pgx.Tx, error) {
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	tx, err := s.reads.Begin(ctx)
	if err != nil {
		return nil, s.poolError(doing, err)
	}
	return tx, nil
}

// write runs f in a transaction and commits it. What was rolled back for a
// reason that passes is begun again. tlog.ErrUnknownOutcome: the answer to the
// commit was lost; with every other error nothing was stored.
func (s *Store) write(ctx context.Context, doing string, f func(context.Context, pgx.Tx) error) error {
	err := retry(ctx, s.opts.Patience, doing, func(ctx context.Context) error {
		if err := s.owner.lost(); err != nil {
			return err
		}
		if err := s.settle(ctx); err != nil {
			return err
		}
		if err := s.gate.Acquire(ctx, 1); err != nil {
			return classify(doing, err)
		}
		defer s.gate.Release(1)
		return s.writeOnce(ctx, doing, f)
	})
	if errors.Is(err, tlog.ErrOwned) {
		s.owner.lose()
	}
	return err
}

func (s *Store) writeOnce(ctx context.Context, doing string, f func(context.Context, pgx.Tx) error) error {
	tx, err := s.writes.Begin(ctx)
	if err != nil {
		return s.poolError(doing, err)
	}
	if err := f(ctx, tx); err != nil {
		s.rollback(ctx, tx)
		return classify(doing, err)
	}
	// A caller that gives up now would leave open whether this was stored.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Patience)
	defer cancel()
	err = classifyCommit(doing, tx.Commit(ctx))
	if errors.Is(err, tlog.ErrUnknownOutcome) {
		s.doubt.Store(true)
	}
	return err
}

func (s *Store) rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = tx.Rollback(ctx) // a connection on which it fails is thrown away
}

// poolError is for an error of getting a connection or beginning a transaction.
func (s *Store) poolError(doing string, err error) error {
	if errors.Is(err, puddle.ErrClosedPool) {
		return fmt.Errorf("%s: %w", doing, tlog.ErrClosed)
	}
	return classify(doing, err)
}

// settle makes sure that no commit is under way whose outcome was lost, so that
// what is read next is what came of it. The server may go on with a commit for
// some time after its client was cut off.
//
// It ends the owner's other writing sessions, of which none has work to do while
// the gate is shut, and then waits for the epoch's row, which every writing
// transaction holds until it has ended. It is tried once: callers try again.
func (s *Store) settle(ctx context.Context) error {
	if !s.doubt.Load() {
		return nil
	}
	const doing = "waiting for the end of a lost commit"
	if err := s.gate.Acquire(ctx, gateShut); err != nil {
		return classify(doing, err)
	}
	defer s.gate.Release(gateShut)
	if !s.doubt.Load() {
		return nil
	}
	s.writes.Reset()
	s.reads.Reset() // behind the address there may be another server by now
	conn, err := s.owner.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn) //nolint:errcheck // it was only read
	var others int
	if err := conn.QueryRow(ctx, `SELECT count(pg_terminate_backend(pid, 1000)) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = $1`, writeName(s.owner.epoch)).Scan(&others); err != nil {
		return classify(doing, err)
	}
	if others > 0 {
		return &dbError{doing: doing, kind: tlog.ErrUnavailable, what: "the server has not ended it yet"}
	}
	if err := s.barrier(ctx, conn); err != nil {
		return classify(doing, err)
	}
	s.doubt.Store(false)
	return nil
}

func (s *Store) barrier(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = `+takeOver); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `SELECT FROM TrialogOwner FOR UPDATE`)
		return err
	})
}
