package proofs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// checkpointKey names the object under which the sequencer publishes.
const checkpointKey = "checkpoint"

var (
	errNoCheckpoint = errors.New("no checkpoint has been published yet")
	errWithdrawn    = errors.New("the published checkpoint has been removed")
)

// shard is one shard with what was verified of it.
type shard struct {
	cfg    *Config
	origin string
	name   string
	store  blob.Store
	reader *tile.Reader

	held    atomic.Pointer[published] // nil until a checkpoint has verified
	looking atomic.Bool               // somebody looks whether held is still what is published
	mu      sync.Mutex                // serialises changes of held
	// refused is the note that was refused last, and why, so that a bad note
	// costs its signature checks, and its log line, once. Guarded by mu.
	refused    [32]byte
	refusedErr error

	anchor atomic.Pointer[anchor] // the anchored checkpoint that was read last
}

// published is a checkpoint that has been verified, and its tree.
type published struct {
	raw  []byte
	note *checkpoint.Note
	tree *tile.Tree
	seen time.Time // when the store was last seen to hold it
}

// checkpointError says why the stored checkpoint was refused.
type checkpointError struct{ err error }

func (e *checkpointError) Error() string { return "stored checkpoint: " + e.err.Error() }
func (e *checkpointError) Unwrap() error { return e.err }

// current returns a verified checkpoint that is at most Refresh old. If the
// store's is bad or cannot be read, and an earlier one has been verified, it
// returns that: what it covers still verifies.
func (s *shard) current(ctx context.Context) (*published, error) {
	held := s.held.Load()
	if held == nil || s.cfg.Refresh == 0 {
		return s.anyVerified(ctx)
	}
	if s.cfg.Now().Sub(held.seen) < s.cfg.Refresh || !s.looking.CompareAndSwap(false, true) {
		return held, nil // one request looks, the others need not wait for it
	}
	defer s.looking.Store(false)
	return s.anyVerified(ctx)
}

// covering returns a verified checkpoint, and looks for a newer one before it
// returns one that is too small for the caller.
func (s *shard) covering(ctx context.Context, covers func(*tile.Tree) bool) (*published, error) {
	held, err := s.current(ctx)
	if err != nil || s.cfg.Refresh == 0 || covers(held.tree) {
		return held, err
	}
	return s.anyVerified(ctx)
}

// anyVerified is current without regard to Refresh.
func (s *shard) anyVerified(ctx context.Context) (*published, error) {
	latest, err := s.latest(ctx)
	if err != nil {
		if held := s.held.Load(); held != nil {
			return held, nil
		}
	}
	return latest, err
}

// latest returns the checkpoint that the store holds now, verified.
func (s *shard) latest(ctx context.Context) (*published, error) {
	raw, err := s.store.Get(ctx, checkpointKey)
	held := s.held.Load()
	if err == nil && held != nil && bytes.Equal(raw, held.raw) {
		if s.cfg.Refresh > 0 {
			again := *held
			again.seen = s.cfg.Now()
			s.held.CompareAndSwap(held, &again)
		}
		return held, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// What was read before the lock may be older than what is held by now, and
	// would look like a rollback.
	raw, err = s.store.Get(ctx, checkpointKey)
	held = s.held.Load()
	switch {
	case errors.Is(err, blob.ErrNotFound) && held == nil:
		return nil, errNoCheckpoint
	case errors.Is(err, blob.ErrNotFound):
		err = &checkpointError{errWithdrawn}
		s.report(ctx, err)
		return nil, err
	case err != nil:
		s.report(ctx, err)
		return nil, err
	case held != nil && bytes.Equal(raw, held.raw):
		return held, nil
	}
	return s.adopt(ctx, held, raw)
}

// adopt verifies a note that the store holds and makes it the one that is held.
// The caller holds the lock.
func (s *shard) adopt(ctx context.Context, held *published, raw []byte) (*published, error) {
	digest := sha256.Sum256(raw)
	if s.refusedErr != nil && digest == s.refused {
		return nil, s.refusedErr
	}
	c, err := s.checkNote(held, raw)
	if err != nil {
		s.refused, s.refusedErr = digest, &checkpointError{err}
		s.report(ctx, s.refusedErr)
		return nil, s.refusedErr
	}
	// What fails from here on may be repaired in the store, so it is tried again
	// with the next request.
	tree, err := s.checkTree(ctx, held, c)
	if err != nil {
		s.report(ctx, err)
		return nil, err
	}
	note, err := checkpoint.Parse(raw)
	if err != nil {
		return nil, &checkpointError{err} // it was parsed before
	}
	next := &published{raw: raw, note: note, tree: tree, seen: s.cfg.Now()}
	s.held.Store(next)
	return next, nil
}

// checkNote checks a note by the policy and against the one that is held.
func (s *shard) checkNote(held *published, raw []byte) (checkpoint.Checkpoint, error) {
	cosigned, err := s.cfg.Policy.CheckNote(raw)
	if err != nil {
		return checkpoint.Checkpoint{}, err
	}
	c := cosigned.Checkpoint
	if c.Origin != s.origin {
		return c, fmt.Errorf("origin %q, want %q", c.Origin, s.origin)
	}
	if held == nil {
		return c, nil
	}
	// SPEC (C2SP tlog-checkpoint): "A log MUST not sign any checkpoint which is
	// inconsistent with any checkpoint it previously signed."
	if c.Size < held.tree.Size() {
		return c, fmt.Errorf("rollback: size %d after size %d", c.Size, held.tree.Size())
	}
	if c.Size == held.tree.Size() && c.Root != held.tree.Root() {
		return c, fmt.Errorf("fork: another root at size %d", c.Size)
	}
	return c, nil
}

// checkTree checks the tiles against a note that has verified, and the growth
// since the one that is held.
func (s *shard) checkTree(ctx context.Context, held *published, c checkpoint.Checkpoint) (*tile.Tree, error) {
	tree, err := s.reader.Tree(ctx, c.Size, c.Root)
	if err != nil || held == nil {
		return tree, err
	}
	before, err := tree.RootAt(ctx, held.tree.Size())
	if err != nil {
		return nil, err
	}
	if before != held.tree.Root() {
		return nil, &checkpointError{fmt.Errorf("fork: the tree of size %d does not extend that of size %d", c.Size, held.tree.Size())}
	}
	return tree, nil
}
