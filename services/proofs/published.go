package proofs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
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

// published is a checkpoint that has been verified, and its tree.
type published struct {
	raw  []byte
	tree *tile.Tree
	seen time.Time // when the store was last seen to hold it
}

// checkpointError says why the stored checkpoint was refused.
type checkpointError struct{ err error }

func (e *checkpointError) Error() string { return "stored checkpoint: " + e.err.Error() }
func (e *checkpointError) Unwrap() error { return e.err }

// Ready returns nil if the store holds a checkpoint that verifies, and the right
// edge of the tiles has its root.
func (p *Proofs) Ready(ctx context.Context) error {
	_, err := p.latest(ctx)
	return err
}

// current returns a verified checkpoint that is at most Refresh old. If the
// store's is bad or cannot be read, and an earlier one has been verified, it
// returns that: what it covers still verifies.
func (p *Proofs) current(ctx context.Context) (*published, error) {
	held := p.held.Load()
	if held != nil && p.cfg.Refresh > 0 && p.cfg.Now().Sub(held.seen) < p.cfg.Refresh {
		return held, nil
	}
	return p.anyVerified(ctx)
}

// anyVerified is current without regard to Refresh.
func (p *Proofs) anyVerified(ctx context.Context) (*published, error) {
	latest, err := p.latest(ctx)
	if err != nil {
		if held := p.held.Load(); held != nil {
			return held, nil
		}
	}
	return latest, err
}

// latest returns the checkpoint that the store holds now, verified.
func (p *Proofs) latest(ctx context.Context) (*published, error) {
	raw, err := p.cfg.Store.Get(ctx, checkpointKey)
	held := p.held.Load()
	if err == nil && held != nil && bytes.Equal(raw, held.raw) {
		if p.cfg.Refresh > 0 {
			again := *held
			again.seen = p.cfg.Now()
			p.held.CompareAndSwap(held, &again)
		}
		return held, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// What was read before the lock may be older than what is held by now, and
	// would look like a rollback.
	raw, err = p.cfg.Store.Get(ctx, checkpointKey)
	held = p.held.Load()
	switch {
	case errors.Is(err, blob.ErrNotFound) && held == nil:
		return nil, errNoCheckpoint
	case errors.Is(err, blob.ErrNotFound):
		err = &checkpointError{errWithdrawn}
		p.report(ctx, err)
		return nil, err
	case err != nil:
		p.report(ctx, err)
		return nil, err
	case held != nil && bytes.Equal(raw, held.raw):
		return held, nil
	}
	return p.adopt(ctx, held, raw)
}

// adopt verifies a note that the store holds and makes it the one that is held.
// The caller holds the lock.
func (p *Proofs) adopt(ctx context.Context, held *published, raw []byte) (*published, error) {
	digest := sha256.Sum256(raw)
	if p.refusedErr != nil && digest == p.refused {
		return nil, p.refusedErr
	}
	c, err := p.checkNote(held, raw)
	if err != nil {
		p.refused, p.refusedErr = digest, &checkpointError{err}
		p.report(ctx, p.refusedErr)
		return nil, p.refusedErr
	}
	// What fails from here on may be repaired in the store, so it is tried again
	// with the next request.
	tree, err := p.checkTree(ctx, held, c)
	if err != nil {
		p.report(ctx, err)
		return nil, err
	}
	next := &published{raw: raw, tree: tree, seen: p.cfg.Now()}
	p.held.Store(next)
	return next, nil
}

// checkNote checks a note by the policy and against the one that is held.
func (p *Proofs) checkNote(held *published, raw []byte) (checkpoint.Checkpoint, error) {
	cosigned, err := p.cfg.Policy.CheckNote(raw)
	if err != nil {
		return checkpoint.Checkpoint{}, err
	}
	c := cosigned.Checkpoint
	if c.Origin != p.cfg.Origin {
		return c, fmt.Errorf("origin %q, want %q", c.Origin, p.cfg.Origin)
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
func (p *Proofs) checkTree(ctx context.Context, held *published, c checkpoint.Checkpoint) (*tile.Tree, error) {
	tree, err := p.reader.Tree(ctx, c.Size, c.Root)
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
