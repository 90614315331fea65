// Package postgresstore keeps a Trillian log in a PostgreSQL database of its own,
// in the tables of Trillian's provider storage/postgresql.
//
// That provider is embedded for trees of type LOG and for the administration of
// trees. The transactions on a PREORDERED_LOG tree are this package's: the
// provider's lose what kind of error occurred, take a failed read of the root
// for an empty log, lock whole tables, and make a temporary table for each
// integration.
//
// The database is trusted for durability only, and refused if it is set up to
// lose what it has acknowledged. A log has one owner: see owner.go.
package postgresstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/postgresql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/semaphore"

	"github.com/trialog/trialog/services/internal/tlog"
)

// Options are the choices that Open leaves open. The zero value is useful.
type Options struct {
	// Patience is for how long a call begins again what failed or was rolled back,
	// and how long each such attempt, and then the answer to its commit, may take;
	// 0 means 15 seconds.
	Patience time.Duration
	// KeepHeads is how many roots are kept; older ones are deleted from time to
	// time. 0 means 256.
	KeepHeads int
	// ReadConns bounds the connections for reading; 0 means 8. Three more are used
	// for writing and one for being the owner.
	ReadConns int32
	// WholeDequeue makes DequeueLeaves return whole leaves. Integration needs their
	// hashes only, which is much less to read.
	WholeDequeue bool
	// Logger takes the store's messages; nil means none. They name neither host nor
	// user.
	Logger *slog.Logger
}

const (
	defaultPatience  = 15 * time.Second
	defaultKeepHeads = 256
	defaultReadConns = 8
	writeConns       = 3
	gateShut         = 1 << 30
)

// Store is an open database. It implements storage.LogStorage; Admin returns its
// storage.AdminStorage.
type Store struct {
	opts   Options
	log    *slog.Logger
	owner  *owner
	reads  *pgxpool.Pool
	writes *pgxpool.Pool
	// provider is Trillian's, for trees of type LOG.
	provider storage.LogStorage

	// gate is held with a weight of 1 by a write to the database, and with gateShut
	// while nobody may write. To wait for it ends with the caller's context.
	gate *semaphore.Weighted
	// doubt is set while a commit may still be under way whose outcome was lost.
	doubt atomic.Bool

	initialised sync.Map // ids of trees that were seen to have a root
	pruning     pruning
	closing     sync.Once
}

// Open opens the database at a URL postgres://… and makes this process its owner.
//
// tlog.ErrNotFound: it holds no tables of a log. tlog.ErrLocked: somebody else
// is the owner. tlog.ErrUnsafe: its settings put what it acknowledges at risk.
// tlog.ErrInvalid: the URL or the version is wrong. tlog.ErrUnavailable: it does
// not answer.
func Open(ctx context.Context, url string, opts Options) (*Store, error) {
	return open(ctx, url, opts, false)
}

// Create is Open, but makes the tables first if the database has none.
func Create(ctx context.Context, url string, opts Options) (*Store, error) {
	return open(ctx, url, opts, true)
}

func open(ctx context.Context, url string, opts Options, create bool) (*Store, error) {
	if opts.Patience == 0 {
		opts.Patience = defaultPatience
	}
	if opts.KeepHeads == 0 {
		opts.KeepHeads = defaultKeepHeads
	}
	if opts.ReadConns == 0 {
		opts.ReadConns = defaultReadConns
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.KeepHeads < 0 || opts.ReadConns < 0 || opts.Patience < 0 {
		return nil, fmt.Errorf("opening the database: %w: an option is negative", tlog.ErrInvalid)
	}
	address, err := parseURL(url, opts.Patience)
	if err != nil {
		return nil, err
	}
	s := &Store{opts: opts, log: opts.Logger, gate: semaphore.NewWeighted(gateShut)}
	s.owner, err = own(ctx, address, opts, create)
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	if err := s.connect(ctx, address); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the database: %w", err), s.Close())
	}
	return s, nil
}

// connect makes the pools. Each write is made in a session that names the
// owner's epoch.
func (s *Store) connect(ctx context.Context, a address) (err error) {
	if s.reads, err = pgxpool.NewWithConfig(ctx, a.pool(readSession(s.owner.epoch), s.opts.ReadConns)); err != nil {
		return classify("making a pool of connections", err)
	}
	if s.writes, err = pgxpool.NewWithConfig(ctx, a.pool(writeSession(s.owner.epoch), writeConns)); err != nil {
		return classify("making a pool of connections", err)
	}
	s.provider = postgresql.NewLogStorage(s.writes, nil)
	return nil
}

// Admin returns the administration of the database's trees.
func (s *Store) Admin() storage.AdminStorage {
	return adminStorage{postgresql.NewAdminStorage(s.writes), s.opts.Patience}
}

// Close waits for the calls under way and gives up the ownership. A second Close
// does nothing.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		s.pruning.wait()
		if s.reads != nil {
			s.reads.Close()
		}
		if s.writes != nil {
			s.writes.Close()
		}
		err = s.owner.close()
	})
	return err
}

// Err returns why this handle may not write any more, or nil.
func (s *Store) Err() error { return s.owner.lost() }

// CheckDatabaseAccessible returns an error if the database does not answer or is
// somebody else's.
func (s *Store) CheckDatabaseAccessible(ctx context.Context) error {
	if err := s.owner.lost(); err != nil {
		return err
	}
	const doing = "asking the database for an answer"
	return attempt(ctx, s.opts.Patience, doing, func(ctx context.Context) error {
		return s.poolError(doing, s.reads.Ping(ctx))
	})
}

// GetActiveLogIDs returns the trees whose leaves are to be integrated.
func (s *Store) GetActiveLogIDs(ctx context.Context) ([]int64, error) {
	const doing = "listing trees"
	var ids []int64
	err := attempt(ctx, s.opts.Patience, doing, func(ctx context.Context) (err error) {
		ids, err = s.provider.GetActiveLogIDs(ctx)
		return classify(doing, err)
	})
	return ids, err
}

// QueueLeaves puts leaves into the queue of a LOG tree.
func (s *Store) QueueLeaves(
	ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, at time.Time,
) ([]*trillian.QueuedLogLeaf, error) {
	return s.provider.QueueLeaves(ctx, tree, leaves, at)
}

// CheckSoleTree returns tlog.ErrInvalid if the database holds a tree, or held
// one, that is not of this origin: a log has a database of its own, because what
// keeps out a second owner is the database's.
func (s *Store) CheckSoleTree(ctx context.Context, origin string) error {
	var others int
	err := s.read(ctx, "listing trees", func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM Trees WHERE Description IS DISTINCT FROM $1`, origin).Scan(&others)
	})
	if err != nil {
		return err
	}
	if others > 0 {
		return fmt.Errorf("%w: the database holds another log, expected one of its own for %q", tlog.ErrInvalid, origin)
	}
	return nil
}

// FindIndex returns the index of the sequenced leaf with this identity.
func (s *Store) FindIndex(ctx context.Context, tree *trillian.Tree, identity []byte) (index int64, found bool, err error) {
	const doing = "reading the identity index"
	err = retry(ctx, s.opts.Patience, doing, func(ctx context.Context) error {
		if err := s.settle(ctx); err != nil {
			return err
		}
		// One statement is a snapshot of its own, and one round trip.
		err := s.reads.QueryRow(ctx, `SELECT SequenceNumber FROM LeafData
			WHERE TreeId = $1 AND LeafIdentityHash = $2 AND SequenceNumber IS NOT NULL`, tree.TreeId, identity).Scan(&index)
		found = err == nil
		if err == nil || errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return s.poolError(doing, err)
	})
	return index, found, err
}

var _ storage.LogStorage = (*Store)(nil)
