package recovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
)

// compare holds everything against everything else before anything is written,
// and decides how far the store is to go.
func (r *recovery) compare(ctx context.Context) error {
	if err := r.compareEvidence(); err != nil {
		return err
	}
	for _, p := range r.places() {
		if err := r.comparePlace(ctx, p); err != nil {
			return storeError(p.name, err)
		}
	}
	if err := r.compareStore(ctx); err != nil {
		return err
	}
	return r.decide()
}

// compareEvidence refuses two roots at one size: somebody holds proof of a fork.
func (r *recovery) compareEvidence() error {
	seen := map[uint64]evidence{}
	for _, e := range r.evidence {
		if o, ok := seen[e.size]; ok && o.root != e.root {
			return refuse(Fork, "at size %d, %s has root %s, %s has %s", e.size, o.what, hexRoot(o.root), e.what, hexRoot(e.root))
		}
		seen[e.size] = e
	}
	return nil
}

func (r *recovery) ownDamaged(err error) {
	r.damaged = true
	r.problemf("the log's own tiles: %v", err)
}

// comparePlace holds everything that is known of the log's roots against a copy
// of its tiles.
func (r *recovery) comparePlace(ctx context.Context, p *place) error {
	for _, e := range r.evidence {
		if e.size > p.size {
			continue
		}
		got, err := p.tree.RootAt(ctx, e.size)
		switch {
		case p == r.own && errors.Is(err, tile.ErrCorrupt):
			// To mend that is what recovery is for. What is still whole can be
			// used: all roots are compared again when the store is complete.
			r.ownDamaged(err)
		case err != nil:
			return err
		case got != e.root:
			return refuse(Fork, "at size %d, %s has root %s, %s has %s", e.size, e.what, hexRoot(e.root), p.name, hexRoot(got))
		}
	}
	return nil
}

// compareStore makes sure that what the store holds is the beginning of the log.
func (r *recovery) compareStore(ctx context.Context) error {
	root, err := r.c.Log.Root(ctx)
	if err != nil {
		return storeError("the store", err)
	}
	for _, p := range r.places() {
		err := r.comparePrefix(ctx, p, min(p.size, root.Size))
		if p == r.own && errors.Is(err, tile.ErrCorrupt) {
			r.ownDamaged(err)
		} else if err != nil {
			return err
		}
	}
	for _, e := range r.evidence {
		if e.size > root.Size {
			continue
		}
		got, err := r.c.Log.RootAt(ctx, e.size)
		if err != nil {
			return storeError("the store", err)
		}
		if got != e.root {
			return refuse(Fork, "at size %d, %s has root %s, the store has %s; "+
				"recover into an empty store", e.size, e.what, hexRoot(e.root), hexRoot(got))
		}
	}
	return r.compareTail(ctx, root.Size)
}

// comparePrefix compares the first size entries by their roots, and looks for the
// first that differs.
func (r *recovery) comparePrefix(ctx context.Context, p *place, size uint64) error {
	same := func(size uint64) (bool, error) {
		want, err := p.tree.RootAt(ctx, size)
		if err != nil {
			return false, storeError(p.name, err)
		}
		got, err := r.c.Log.RootAt(ctx, size)
		if err != nil {
			return false, storeError("the store", err)
		}
		return got == want, nil
	}
	if ok, err := same(size); err != nil || ok {
		return err
	}
	equal, differ := uint64(0), size
	for differ-equal > 1 {
		middle := equal + (differ-equal)/2
		ok, err := same(middle)
		if err != nil {
			return err
		}
		if ok {
			equal = middle
		} else {
			differ = middle
		}
	}
	return mismatch(p, equal)
}

func mismatch(p *place, index uint64) error {
	return refuse(Fork, "entry %d of the store is not that of %s; recover into an empty store", index, p.name)
}

// compareTail compares the entries that are stored behind the root, which the next
// integration would adopt for good.
func (r *recovery) compareTail(ctx context.Context, from uint64) error {
	r.stored = from
	for {
		leaves, err := r.c.Log.Leaves(ctx, r.stored, batch)
		if err != nil {
			return storeError("the store", err)
		}
		if len(leaves) == 0 {
			r.report.StoreSize = r.stored
			return nil
		}
		for _, leaf := range leaves {
			if err := r.compareEntry(ctx, r.stored, leaf.Value); err != nil {
				return err
			}
			if _, err := r.leaf(r.stored, leaf.Value); err != nil {
				return refuse(Corrupt, "the store: %w", err)
			}
			r.stored++
		}
	}
}

// compareEntry compares one stored entry with every copy of it.
func (r *recovery) compareEntry(ctx context.Context, index uint64, stored []byte) error {
	for _, p := range r.places() {
		if index >= p.size {
			continue
		}
		want, err := p.tree.Entry(ctx, index)
		switch {
		case p == r.own && errors.Is(err, tile.ErrCorrupt):
			r.ownDamaged(err)
		case err != nil:
			return storeError(p.name, err)
		case !bytes.Equal(want, stored):
			return mismatch(p, index)
		}
	}
	return nil
}

// places are the copies that can be used.
func (r *recovery) places() []*place {
	var list []*place
	for _, p := range []*place{r.own, r.other} {
		if p != nil {
			list = append(list, p)
		}
	}
	return list
}

// decide chooses the size up to which the store must go: to the greatest for
// which there is evidence.
func (r *recovery) decide() error {
	most, newest := evidence{root: tlog.EmptyRoot().Hash}, evidence{}
	for _, e := range r.evidence {
		if e.kind >= registered && e.size > newest.size {
			newest = e
		}
		if e.size > most.size && (e.kind > held || !r.c.SignedOnly) {
			most = e
		}
	}
	r.target = most
	reach := r.stored
	for _, p := range r.places() {
		reach = max(reach, p.size)
	}
	if r.target.size > reach {
		return refuse(Incomplete, "%s is at size %d, but the store, the log's own tiles and the source go to %d; a newer copy is needed",
			r.target.what, r.target.size, reach)
	}
	if r.promised > max(r.target.size, r.stored) && !r.c.SignedOnly {
		return refuse(Incomplete, "%d entries were in the log's own tiles, and promises may exist for them, but only %d are left",
			r.promised, max(r.target.size, r.stored))
	}
	if r.registered != nil && r.registered.Sealed && max(r.target.size, r.stored) > r.registered.Size {
		return refuse(Fork, "the register was sealed at size %d, %s is at %d, and the store holds %d entries",
			r.registered.Size, r.target.what, r.target.size, r.stored)
	}
	if r.own != nil && r.own.size > r.target.size {
		r.damaged = true // what is behind the target has to go
		r.problemf("%d entries behind size %d are given up", r.own.size-r.target.size, r.target.size)
	}
	r.report.Unsigned = max(r.target.size, r.stored) - newest.size
	if r.report.Unsigned > 0 {
		r.problemf("%d entries lie behind the newest signed size %d", r.report.Unsigned, newest.size)
	}
	return nil
}

// leaf makes a leaf of an entry's bytes. The identity is not covered by the root,
// so it is computed from the statement.
func (r *recovery) leaf(index uint64, raw []byte) (tlog.Leaf, error) {
	e, err := entry.Parse(raw)
	if err != nil {
		return tlog.Leaf{}, fmt.Errorf("entry %d: %w", index, err)
	}
	env, stmt, err := statement.Parse(e.Envelope)
	if err != nil {
		return tlog.Leaf{}, fmt.Errorf("entry %d: %w", index, err)
	}
	if stmt.Beacon != nil {
		r.beaconsNeeded[stmt.Beacon.Note] = struct{}{}
	}
	return tlog.Leaf{Identity: stmt.Identity(env.Payload), Value: raw}, nil
}

// storeError names damage and hands on everything else.
func storeError(place string, err error) error {
	if _, ok := errors.AsType[*RefusedError](err); ok {
		return err
	}
	if errors.Is(err, tlog.ErrCorrupt) || errors.Is(err, tile.ErrCorrupt) {
		return refuse(Corrupt, "%s: %w", place, err)
	}
	return fmt.Errorf("%s: %w", place, err)
}
