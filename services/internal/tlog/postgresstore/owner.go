package postgresstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trialog/trialog/services/internal/tlog"
)

// owner makes this process the only one that writes, in two ways.
//
// An advisory lock, held by a connection of its own, tells another process at
// once that the log is in use. It is no fence: when the connection breaks, the
// server gives the lock away while this process may still have writes to send.
//
// The fence is the epoch, a random number in the database that each new owner
// replaces. It does not count: a database that is restored, or a standby that was
// behind, would give a number out twice. Every writing transaction names its own; a trigger compares the two and locks
// the row until the transaction ends. So an owner that was stopped, and went on
// after another took over, cannot write; nor can anybody who knows nothing of
// epochs, such as Trillian's own signer.
type owner struct {
	address  address
	patience time.Duration
	log      *slog.Logger
	epoch    int64

	cancel context.CancelFunc
	done   sync.WaitGroup
	taken  atomic.Bool // by somebody else
}

// lockKey is the advisory lock's. Such locks are a database's own.
const lockKey = 0x7472_6961_6c6f_67 // "trialog"

// lockPause is how long an owner whose connection broke waits between attempts to
// get a new one, and takeOver for how long the next owner waits for transactions
// of the last, in milliseconds.
const (
	lockPause = 500 * time.Millisecond
	takeOver  = "5000"
)

// takeOverTime bounds taking over, beside the patience.
const takeOverTime = 10 * time.Second

// lockWait is how long an opener asks for the lock: the server may take a moment
// to notice that the last owner is gone.
const lockWait = time.Second

// own connects, checks the server, makes the tables if asked to, and takes
// the lock and a new epoch.
func own(ctx context.Context, a address, opts Options, create bool) (*owner, error) {
	o := &owner{address: a, patience: opts.Patience, log: opts.Logger}
	var conn *pgx.Conn
	err := retry(ctx, opts.Patience, "connecting to the database", func(ctx context.Context) error {
		var err error
		conn, err = o.connect(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	// Making the tables and waiting for the last owner take their time.
	err = attempt(ctx, opts.Patience+takeOverTime, "taking over the log", func(ctx context.Context) error {
		if err := o.lockSoon(ctx, conn); err != nil {
			return err
		}
		return o.takeOver(ctx, conn, create)
	})
	if err != nil {
		return nil, errors.Join(err, closeConn(ctx, conn))
	}
	keeping, cancel := context.WithCancel(context.WithoutCancel(ctx))
	o.cancel = cancel
	o.done.Go(func() { o.keep(keeping, conn) })
	return o, nil
}

// connect returns a connection to a server that keeps what it commits.
func (o *owner) connect(ctx context.Context) (*pgx.Conn, error) {
	session := ownerSession()
	conn, err := pgx.ConnectConfig(ctx, o.address.connConfig(session))
	if err != nil {
		return nil, classify("connecting to the database", err)
	}
	if err := checkSettings(ctx, conn, session); err != nil {
		return nil, errors.Join(err, closeConn(ctx, conn))
	}
	return conn, nil
}

// lock makes a connection hold the lock. tlog.ErrLocked: another one does.
func lock(ctx context.Context, conn *pgx.Conn) error {
	var got bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, lockKey).Scan(&got); err != nil {
		return classify("locking the database", err)
	}
	if !got {
		return fmt.Errorf("locking the database: %w", tlog.ErrLocked)
	}
	return nil
}

func (o *owner) lockSoon(ctx context.Context, conn *pgx.Conn) error {
	end := time.NewTimer(lockWait)
	defer end.Stop()
	for {
		err := lock(ctx, conn)
		if !errors.Is(err, tlog.ErrLocked) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-end.C:
			return err
		case <-time.After(lockWait / 20):
		}
	}
}

// takeOver replaces the epoch. It waits for a transaction of the last owner that is
// in the middle of writing.
func (o *owner) takeOver(ctx context.Context, conn *pgx.Conn, create bool) error {
	if err := migrate(ctx, conn, create); err != nil {
		return err
	}
	if err := checkFence(ctx, conn); err != nil {
		return err
	}
	settings, err := readSettings(ctx, conn)
	if err != nil {
		return classify("checking the server's settings", err)
	}
	if settings["data_checksums"] != "on" {
		o.log.Warn("the database has no data checksums: damage on disk is found only when the log is verified")
	}
	if o.epoch, err = drawEpoch(); err != nil {
		return err
	}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = `+takeOver); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE TrialogOwner SET Epoch = $1`, o.epoch)
		if err == nil && tag.RowsAffected() != 1 {
			err = fmt.Errorf("%w: the row of the owner is missing", tlog.ErrCorrupt)
		}
		return err
	})
	if err = classify("taking over the log", err); isState(err, stateLockTimeout) {
		return fmt.Errorf("taking over the log: %w: the last owner is in the middle of a write", tlog.ErrLocked)
	}
	return err
}

// drawEpoch returns a random number of 63 bits that is not 0, which a new database
// holds.
func drawEpoch() (int64, error) {
	for {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return 0, fmt.Errorf("drawing an epoch: %w", err)
		}
		if epoch := int64(binary.BigEndian.Uint64(b[:]) >> 1); epoch != 0 {
			return epoch, nil
		}
	}
}

// keep holds the lock until ctx ends. If the connection breaks it gets the lock
// again, unless somebody else was the owner in between.
func (o *owner) keep(ctx context.Context, conn *pgx.Conn) {
	for conn != nil {
		// Nobody notifies; this returns when the connection breaks.
		_, err := conn.WaitForNotification(ctx)
		if ctx.Err() != nil {
			unlock(ctx, conn)
			return
		}
		if err == nil {
			continue
		}
		_ = closeConn(ctx, conn) // it is broken
		o.log.Warn("the connection that holds the log's lock broke", "error", classify("holding the lock", err))
		conn = o.regain(ctx)
	}
}

// regain returns a connection that holds the lock again, or nil if the owner is
// another one or ctx ended.
func (o *owner) regain(ctx context.Context) *pgx.Conn {
	said := false
	for {
		var conn *pgx.Conn
		err := attempt(ctx, o.patience, "holding the lock", func(ctx context.Context) (err error) {
			conn, err = o.tryRegain(ctx)
			return err
		})
		switch {
		case err == nil:
			o.log.Info("the log's lock is held again", "epoch", o.epoch)
			return conn
		case errors.Is(err, tlog.ErrOwned) && !errors.Is(err, tlog.ErrLocked):
			o.lose()
			return nil
		case !said && ctx.Err() == nil && permanent(err) && !errors.Is(err, tlog.ErrLocked):
			said = true
			o.log.Error("the log's lock cannot be held again until somebody acts", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lockPause):
		}
	}
}

// tryRegain looks at the epoch first: while another owner is alive it has the
// lock, and that it has replaced the epoch is what counts.
func (o *owner) tryRegain(ctx context.Context) (*pgx.Conn, error) {
	conn, err := o.connect(ctx)
	if err != nil {
		return nil, err
	}
	locked := lock(ctx, conn)
	var epoch int64
	err = classify("reading the epoch", conn.QueryRow(ctx, `SELECT Epoch FROM TrialogOwner`).Scan(&epoch))
	if err == nil && epoch != o.epoch {
		err = errLost(o.epoch)
	}
	if err == nil {
		err = locked
	}
	if err != nil {
		return nil, errors.Join(err, closeConn(ctx, conn))
	}
	return conn, nil
}

// unlock gives the lock up before it returns, which closing alone does later.
func unlock(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, lockKey) // closing frees it too
	_ = closeConn(ctx, conn)                                        // the server notices by itself
}

// lose notes that somebody else has taken over.
func (o *owner) lose() {
	if !o.taken.Swap(true) {
		o.log.Error("the log was taken over by another owner", "epoch", o.epoch)
	}
}

func (o *owner) lost() error {
	if o.taken.Load() {
		return errLost(o.epoch)
	}
	return nil
}

func (o *owner) close() error {
	o.cancel()
	o.done.Wait()
	return nil
}

// closeConn tells the server that the session ends, which frees its locks.
func closeConn(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return classify("closing a connection", conn.Close(ctx))
}
