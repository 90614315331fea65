package recovery

import (
	"context"
	"errors"
	"slices"

	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
)

// appendTries is how often a batch is stored whose outcome was left open. What is
// there already counts as stored, so trying again is safe.
const appendTries = 3

// importEntries stores what is missing up to the target, and brings it into the
// tree.
func (r *recovery) importEntries(ctx context.Context) error {
	total := uint64(0)
	if r.target.size > r.stored {
		total = r.target.size - r.stored
	}
	for next := r.stored; next < r.target.size; {
		// Whole batches begin at multiples of their size, so that no bundle is read
		// twice.
		n := min(batch-next%batch, r.target.size-next)
		entries, err := r.read(ctx, next, int(n))
		if err != nil {
			return err
		}
		leaves := make([]tlog.Leaf, len(entries))
		for i, raw := range entries {
			if leaves[i], err = r.leaf(next+uint64(i), raw); err != nil {
				return refuse(Corrupt, "what was signed cannot be parsed: %w", err)
			}
		}
		if err := r.append(ctx, next, leaves); err != nil {
			return err
		}
		next += n
		r.report.Imported += n
		if r.c.Progress != nil {
			r.c.Progress(r.report.Imported, total)
		}
	}
	root, err := r.c.Log.Integrate(ctx)
	if err != nil {
		return storeError("the store", err)
	}
	r.report.Size, r.report.Root = root.Size, root.Hash
	return nil
}

// read returns verified entries from the first place that has them whole.
func (r *recovery) read(ctx context.Context, first uint64, n int) ([][]byte, error) {
	var failed error
	for _, p := range r.places() {
		if first+uint64(n) > p.size {
			continue
		}
		entries, err := p.tree.Entries(ctx, first, n)
		if err == nil {
			return entries, nil
		}
		if !errors.Is(err, tile.ErrCorrupt) {
			return nil, storeError(p.name, err)
		}
		if p == r.own {
			r.ownDamaged(err)
		} else {
			r.problemf("%s: %v", p.name, err)
		}
		failed = errors.Join(failed, storeError(p.name, err))
	}
	last := first + uint64(n) - 1
	if cut := r.cut(first, last); cut > first {
		head, err := r.read(ctx, first, int(cut-first))
		if err != nil {
			return nil, err
		}
		rest, err := r.read(ctx, cut, int(last-cut)+1)
		return append(head, rest...), err
	}
	if failed != nil {
		return nil, refuse(Corrupt, "entries %d to %d cannot be read: %w", first, last, failed)
	}
	return nil, refuse(Incomplete, "entries %d to %d are nowhere", first, last)
}

// cut returns the first index behind first, up to last, at which a bundle begins or
// a place ends; 0 if there is none. On either side, another place may have what
// the one lacks.
func (r *recovery) cut(first, last uint64) uint64 {
	next := (first/tile.FullWidth + 1) * tile.FullWidth
	for _, p := range r.places() {
		if p.size > first {
			next = min(next, p.size)
		}
	}
	if next > last {
		return 0
	}
	return next
}

func (r *recovery) append(ctx context.Context, first uint64, leaves []tlog.Leaf) error {
	for try := 1; ; try++ {
		err := r.c.Log.Append(ctx, first, leaves)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, tlog.ErrConflict):
			return refuse(Fork, "the store holds another entry: %w; recover into an empty store", err)
		case !errors.Is(err, tlog.ErrUnknownOutcome) || errors.Is(err, tlog.ErrFailed) || try == appendTries:
			return storeError("the store", err)
		}
	}
}

// checkStore holds everything that is known of the log's roots against the store
// as it is now. Behind this the register may be moved.
func (r *recovery) checkStore(ctx context.Context) error {
	for _, e := range slices.Concat(r.evidence, []evidence{r.target}) {
		if e.size > r.report.Size {
			if e.kind == held && r.c.SignedOnly {
				continue
			}
			return refuse(Incomplete, "%s is at size %d, the store at %d", e.what, e.size, r.report.Size)
		}
		got, err := r.c.Log.RootAt(ctx, e.size)
		if err != nil {
			return storeError("the store", err)
		}
		if got != e.root {
			return refuse(Fork, "at size %d, %s has root %s, the store has %s", e.size, e.what, hexRoot(e.root), hexRoot(got))
		}
	}
	return nil
}
