package trillian

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/trillian/log"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/storage"
	"github.com/transparency-dev/merkle/compact"

	"github.com/trialog/trialog/services/internal/tlog"
)

// Integrate implements tlog.Log.
func (l *Log) Integrate(ctx context.Context) (tlog.Root, error) {
	if err := l.enter(ctx); err != nil {
		return tlog.Root{}, fmt.Errorf("integrating: %w", err)
	}
	defer l.exit()
	l.integrating.Lock()
	defer l.integrating.Unlock()
	if err := l.mayWrite(ctx); err != nil {
		return tlog.Root{}, fmt.Errorf("integrating: %w", err)
	}
	if err := l.integrate(ctx); err != nil {
		return tlog.Root{}, fmt.Errorf("integrating after %d leaves: %w", l.head.Load().Size, err)
	}
	return *l.head.Load(), nil
}

// maxLost bounds how many answers one integration may lose.
const maxLost = 3

func (l *Log) integrate(ctx context.Context) error {
	if l.behind { // the last try may have been written after all
		if err := l.adopt(ctx); err != nil {
			return err
		}
	}
	for lost := 0; ; {
		// No guard window and no quota: the sequencer decides what is integrated
		// when. A maximal root duration of 0 writes no root without new leaves.
		l.behind = true
		n, err := log.IntegrateBatch(l.context(ctx), l.tree, l.batchLimit, 0, 0, l.clock, l.storage, quota.Noop())
		if errors.Is(err, tlog.ErrUnknownOutcome) && !errors.Is(err, tlog.ErrFailed) && lost < maxLost {
			// The storage can still be asked what became of it.
			if aerr := l.adopt(ctx); aerr != nil {
				return errors.Join(err, aerr)
			}
			lost++
			continue
		}
		if err != nil {
			// Trillian does not wrap the errors that it passes on.
			return outcome(errors.Join(err, ctx.Err()))
		}
		if n == 0 {
			l.behind = false
			return nil
		}
		before := l.head.Load().Size
		if err := l.adopt(ctx); err != nil {
			return err
		}
		switch after := l.head.Load().Size; {
		case after > before+uint64(n):
			// The root is right, adopt has recomputed it: somebody else integrates too.
			return fmt.Errorf("%w: %d leaves were integrated after size %d, but the size is %d", tlog.ErrOwned, n, before, after)
		case after < before+uint64(n):
			return l.caught(fmt.Errorf("%d leaves were integrated after size %d, but the size is %d", n, before, after))
		}
		if n < l.batchLimit {
			return nil
		}
	}
}

// adopt reads the stored root, recomputes it from the leaves since the last
// checked root, and takes it if they agree.
func (l *Log) adopt(ctx context.Context) error {
	tx, err := l.storage.SnapshotForTree(l.context(ctx), l.tree)
	if tx != nil {
		defer l.closeTX(tx)
	}
	if err != nil {
		return fmt.Errorf("reading the new root: %w", err)
	}
	root, nanos, err := latestRoot(ctx, tx)
	if err != nil {
		return err
	}
	head := *l.head.Load()
	if root.Size < head.Size || root.Size == head.Size && root.Hash != head.Hash {
		return l.caught(fmt.Errorf("the root of size %d and hash %x went to size %d and hash %x", head.Size, head.Hash, root.Size, root.Hash))
	}
	// A copy, because what was read counts only once the transaction is committed.
	edge, err := ranges().NewRange(0, l.edge.End(), slices.Clone(l.edge.Hashes()))
	if err != nil {
		return fmt.Errorf("hashing the right edge: %w", err)
	}
	if err := l.extend(ctx, tx, edge, root.Size); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("reading the new root: %w", err)
	}
	hash, err := rangeRoot(edge)
	if err != nil {
		return fmt.Errorf("hashing the right edge: %w", err)
	}
	if hash != root.Hash {
		return l.caught(fmt.Errorf("the leaves up to size %d have root %x, the stored root is %x", root.Size, hash, root.Hash))
	}
	l.clock.floor.Store(max(nanos, l.clock.floor.Load()))
	l.edge, l.behind = edge, false
	l.head.Store(&root)
	l.pending.forget(root.Size)
	return nil
}

// readBack is how many leaves are read at once that this process did not append.
const readBack = 256

// extend brings a right edge to size. It uses the hashes of what was appended
// and reads leaves only where this process did not append them.
func (l *Log) extend(ctx context.Context, tx storage.ReadOnlyLogTreeTX, edge *compact.Range, size uint64) error {
	for edge.End() < size {
		hashes := l.pending.run(edge.End(), size-edge.End())
		if len(hashes) == 0 {
			leaves, err := readLeaves(ctx, tx, edge.End(), int(min(readBack, size-edge.End())))
			if err != nil {
				return err
			}
			if len(leaves) == 0 {
				return l.caught(fmt.Errorf("leaf %d is integrated, but it is not stored", edge.End()))
			}
			for i := range leaves {
				hashes = append(hashes, leaves[i].Hash())
			}
		}
		for i := range hashes {
			if err := edge.Append(hashes[i][:], nil); err != nil {
				return fmt.Errorf("hashing the right edge: %w", err)
			}
		}
	}
	return nil
}
