// Package mirror follows a log from its tiles, verifies all of it, and keeps a
// copy of its own that can be served, and recovered from.
//
// Whoever the mirror reads from is trusted for nothing: not for the entries, not
// for the hashes, not for what the newest checkpoint is. The mirror's own store is
// trusted for durability. A mirror that serves an entry has seen it in a tree that
// the policy's quorum has cosigned, and every later tree extends that one.
package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/internal/tile"
)

// Config is what New needs. Source, Store, Policy, Origin, Now and Logger must be
// set.
type Config struct {
	// Source is where the log is read: its own server, another mirror, or a store.
	// What it gives is checked here.
	Source tile.Source
	// Store is the mirror's own. It then holds what a log's store does: tiles, the
	// published note under "checkpoint", beacons under "beacon/", and beside them
	// "mirror/target" and "evidence/…".
	Store blob.Store
	// Policy is what a checkpoint must satisfy, both halves.
	Policy *verify.Policy
	// Origin is the shard's. The policy must list it.
	Origin string
	// Interval is between two looks for a new checkpoint; 5 s. After an error the
	// pauses grow up to 16 times that.
	Interval time.Duration
	// Now is the clock; it only dates what State tells.
	Now func() time.Time
	// Logger gets a line for every change of state.
	Logger *slog.Logger
	// Pause waits; another one in tests only.
	Pause func(context.Context, time.Duration) error
}

const (
	defaultInterval = 5 * time.Second
	// maxDoublings bounds how often a pause doubles.
	maxDoublings = 4
	// maxNote bounds a note in bytes, whatever the source's own limit is.
	maxNote = 128 << 10

	checkpointKey = "checkpoint"
	targetKey     = "mirror/target"
	beaconPrefix  = "beacon/"
)

// Mirror is the mirror of one shard.
type Mirror struct {
	c Config

	// Of Run alone.
	writer *tile.Writer
	own    *tile.Reader
	known  *head // the newest checkpoint that was verified; nil before the first
	placed *head // the published one
	// accused is the head for which evidence of a rollback was kept.
	accused *head
	seen    beacons

	mu    sync.Mutex
	state State
}

// head is a checkpoint note that satisfies the policy.
type head struct {
	checkpoint.Checkpoint

	raw []byte
}

// New checks the configuration. It reads nothing yet.
func New(c Config) (*Mirror, error) {
	switch {
	case c.Source == nil:
		return nil, errors.New("mirror: no source")
	case c.Store == nil:
		return nil, errors.New("mirror: no store")
	case c.Policy == nil:
		return nil, errors.New("mirror: no policy: nothing could be verified")
	case !slices.ContainsFunc(c.Policy.Notes().Logs(), func(l checkpoint.LogEntry) bool { return l.Key.Name() == c.Origin }):
		return nil, fmt.Errorf("mirror: the policy has no key of the log %q", c.Origin)
	case c.Now == nil:
		return nil, errors.New("mirror: no clock")
	case c.Logger == nil:
		return nil, errors.New("mirror: no logger")
	case c.Interval < 0:
		return nil, errors.New("mirror: the interval must not be negative")
	}
	if c.Interval == 0 {
		c.Interval = defaultInterval
	}
	if c.Pause == nil {
		c.Pause = run.Pause
	}
	return &Mirror{c: c, own: tile.NewReader(c.Store), state: State{Reason: Starting}}, nil
}

// Run follows the log until ctx ends, and then returns nil. What it cannot read
// or verify it tries again. After a fork it follows no more: the mirror goes on
// to serve what it has, and a person decides. It returns an error only if the
// mirror's own store is not what this mirror has written. It must not be called
// twice at a time, and nobody else may write to the store.
func (m *Mirror) Run(ctx context.Context) error {
	failures := 0
	for {
		err := m.Step(ctx)
		var forked *ForkError
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was told to stop, and the error says so
		case errors.As(err, &forked):
			<-ctx.Done()
			return nil // State has told it, and what is there is served
		case errors.Is(err, errOwnStore):
			return err
		case err != nil:
			failures++
		default:
			failures = 0
		}
		if err := m.c.Pause(ctx, m.c.Interval<<min(failures, maxDoublings)); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// Step looks for a new checkpoint once and follows the log to it. It returns nil
// if the mirror then has what the source has published. See State for the kinds
// of errors. It must not be called concurrently with itself or Run.
func (m *Mirror) Step(ctx context.Context) error {
	err := m.step(ctx)
	if ctx.Err() == nil {
		m.tell(ctx, err)
	}
	return err
}

func (m *Mirror) step(ctx context.Context) error {
	if m.writer == nil {
		if err := m.open(ctx); err != nil {
			return err
		}
	}
	raw, err := m.c.Source.Get(ctx, checkpointKey)
	if err != nil {
		return fmt.Errorf("read the source's checkpoint: %w", err)
	}
	if m.placed != nil && bytes.Equal(raw, m.placed.raw) {
		return m.fetchMissing(ctx)
	}
	next, err := m.judge(raw)
	if err != nil {
		return &SourceError{Object: checkpointKey, Err: err}
	}
	tree, err := m.extends(ctx, next)
	if err != nil {
		return err
	}
	return m.follow(ctx, next, tree)
}

// judge parses and verifies a note.
func (m *Mirror) judge(raw []byte) (*head, error) {
	if len(raw) > maxNote {
		return nil, fmt.Errorf("%d bytes, expected at most %d", len(raw), maxNote)
	}
	cosigned, err := m.c.Policy.CheckNote(raw)
	if err != nil {
		return nil, err
	}
	if cosigned.Checkpoint.Origin != m.c.Origin {
		return nil, fmt.Errorf("origin %q, expected %q", cosigned.Checkpoint.Origin, m.c.Origin)
	}
	return &head{Checkpoint: cosigned.Checkpoint, raw: raw}, nil
}

// open reads what the mirror had when it stopped.
func (m *Mirror) open(ctx context.Context) error {
	placed, err := m.load(ctx, checkpointKey)
	if err != nil {
		return err
	}
	m.placed = placed // what is served, whatever comes next
	if err := m.standing(ctx); err != nil {
		return err
	}
	known, err := m.load(ctx, targetKey)
	if err != nil {
		return err
	}
	if known == nil || placed != nil && placed.Size > known.Size {
		known = placed
	}
	writer, err := tile.OpenWriter(ctx, m.c.Store)
	switch {
	case errors.Is(err, tile.ErrCorrupt):
		return fmt.Errorf("%w: %w", errOwnStore, err)
	case err != nil:
		return fmt.Errorf("open the mirror's store: %w", err)
	case placed != nil && writer.Size() < placed.Size, known == nil && writer.Size() > 0, known != nil && writer.Size() > known.Size:
		return fmt.Errorf("%w: it holds %d entries, which do not fit its checkpoints", errOwnStore, writer.Size())
	}
	if placed != nil {
		if _, err := m.own.Tree(ctx, placed.Size, placed.Root); errors.Is(err, tile.ErrCorrupt) {
			return fmt.Errorf("%w: %w", errOwnStore, err)
		} else if err != nil {
			return fmt.Errorf("open the mirror's store: %w", err)
		}
	}
	m.known, m.writer = known, writer
	return nil
}

// load reads a note of the mirror's own; nil if there is none.
func (m *Mirror) load(ctx context.Context, key string) (*head, error) {
	raw, err := m.c.Store.Get(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, nil //nolint:nilnil // there is none yet
	}
	if err != nil {
		return nil, fmt.Errorf("open the mirror's store: %w", err)
	}
	h, err := m.judge(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errOwnStore, key, err)
	}
	return h, nil
}
