package recovery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
)

// fetchBeacons brings back the notes that statements name. Their digests vouch for
// them. If tiles were lost, so may be any note; otherwise only the imported
// entries' are looked for.
func (r *recovery) fetchBeacons(ctx context.Context) error {
	if r.damaged || r.c.RewriteTiles || r.report.TilesSize < r.report.Size {
		for next := uint64(0); next < r.report.Size; {
			leaves, err := r.c.Log.Leaves(ctx, next, batch)
			if err != nil {
				return storeError("the store", err)
			}
			if len(leaves) == 0 {
				return refuse(Corrupt, "the store has no entry %d below its size %d", next, r.report.Size)
			}
			for _, l := range leaves {
				if _, err := r.leaf(next, l.Value); err != nil {
					return refuse(Corrupt, "the store: %w", err)
				}
				next++
			}
		}
	}
	byDigest := func(a, b [32]byte) int { return slices.Compare(a[:], b[:]) }
	for _, digest := range slices.SortedFunc(maps.Keys(r.beaconsNeeded), byDigest) {
		if err := r.fetchBeacon(ctx, digest); err != nil {
			return err
		}
	}
	if n := len(r.report.MissingBeacons); n > 0 {
		r.problemf("%d beacon notes are nowhere: receipts that need them cannot be made", n)
	}
	return nil
}

func (r *recovery) fetchBeacon(ctx context.Context, digest [32]byte) error {
	key := beaconPrefix + hex.EncodeToString(digest[:])
	got, err := r.c.Tiles.Get(ctx, key)
	switch {
	case err == nil && sha256.Sum256(got) == digest:
		return nil
	case err != nil && !errors.Is(err, blob.ErrNotFound):
		return err
	}
	if r.c.Source == nil {
		r.report.MissingBeacons = append(r.report.MissingBeacons, hex.EncodeToString(digest[:]))
		return nil
	}
	got, err = r.c.Source.Get(ctx, key)
	switch {
	case errors.Is(err, blob.ErrNotFound) || err == nil && !isNote(got, digest):
		r.report.MissingBeacons = append(r.report.MissingBeacons, hex.EncodeToString(digest[:]))
		return nil
	case err != nil:
		return err
	}
	if err := r.c.Tiles.Put(ctx, blob.Object{Key: key, Data: got}); err != nil {
		return fmt.Errorf("keep a beacon: %w", err)
	}
	r.report.Beacons++
	return nil
}

func isNote(raw []byte, digest [32]byte) bool {
	_, err := checkpoint.Parse(raw)
	return err == nil && sha256.Sum256(raw) == digest
}

// settleRegister moves the register forward to the newest signed checkpoint, never
// back. checkStore has found the store's root to be that of all evidence.
func (r *recovery) settleRegister(ctx context.Context) error {
	newest := evidence{kind: held}
	for _, e := range r.evidence {
		if e.kind >= signed && (newest.kind == held || e.size > newest.size || e.size == newest.size && e.kind > newest.kind) {
			newest = e
		}
	}
	next := register.Record{Origin: r.c.Origin, Size: newest.size, Root: newest.root}
	if newest.kind == cosigned {
		ended, err := r.endsAt(ctx, newest.size)
		if err != nil {
			return err
		}
		next.Sealed = ended
	}
	if r.registered == nil {
		return r.createRegister(ctx, newest, next)
	}
	old := *r.registered
	r.report.Registered = old
	if newest.kind == held || newest.size <= old.Size {
		return nil
	}
	r.problemf("the register was at size %d, behind %s at %d: it was put back", old.Size, newest.what, newest.size)
	if err := swap(ctx, r.c.Register, old, next); err != nil {
		return err
	}
	r.report.Registered, r.report.RegisterMoved = next, true
	return nil
}

// createRegister makes a register where there is none.
func (r *recovery) createRegister(ctx context.Context, newest evidence, first register.Record) error {
	if newest.kind == held {
		return refuse(RegisterMissing, "no checkpoint is left that says where the register was")
	}
	err := r.c.Register.Create(ctx, first)
	if err != nil {
		got, readErr := r.c.Register.Read(ctx)
		if readErr != nil || got != first {
			return fmt.Errorf("make a register: %w", errors.Join(err, readErr))
		}
		// That it also survives a crash only a write that succeeds can tell.
		if err := r.c.Register.Swap(ctx, first, first); err != nil {
			return fmt.Errorf("make the new register durable: %w", err)
		}
	}
	r.report.Registered, r.report.RegisterCreated = first, true
	r.problemf("THE REGISTER WAS MADE ANEW at size %d, from %s: nothing here can tell whether the log has signed anything newer, "+
		"only the witnesses can", first.Size, newest.what)
	return nil
}

// swap moves the register. After an error its outcome is unknown, so it is read.
func swap(ctx context.Context, reg register.Register, old, next register.Record) error {
	err := reg.Swap(ctx, old, next)
	if err == nil {
		return nil
	}
	got, readErr := reg.Read(ctx)
	if readErr != nil || got != next {
		return fmt.Errorf("move the register to size %d: %w", next.Size, errors.Join(err, readErr))
	}
	if err := reg.Swap(ctx, next, next); err != nil {
		return fmt.Errorf("make the register's size %d durable: %w", next.Size, err)
	}
	return nil
}

// endsAt tells whether the log of this size ends with the statement that ends a
// shard. A register from before the end must not lose that it was sealed.
func (r *recovery) endsAt(ctx context.Context, size uint64) (bool, error) {
	if size == 0 {
		return false, nil
	}
	leaves, err := r.c.Log.Leaves(ctx, size-1, 1)
	if err != nil {
		return false, storeError("the store", err)
	}
	if len(leaves) == 0 {
		return false, refuse(Corrupt, "the store has no entry %d", size-1)
	}
	e, err := entry.Parse(leaves[0].Value)
	if err != nil {
		return false, refuse(Corrupt, "entry %d: %w", size-1, err)
	}
	_, stmt, err := statement.Parse(e.Envelope)
	if err != nil {
		return false, refuse(Corrupt, "entry %d: %w", size-1, err)
	}
	return stmt.Kind == statement.KindShardEnd, nil
}

// restorePublished puts the source's cosigned note in the place of one that is
// missing, damaged or older. It comes last: what is published must be registered.
func (r *recovery) restorePublished(ctx context.Context) error {
	if r.offered == nil || r.hasPublished && r.published >= r.offeredSize {
		return nil
	}
	if err := r.c.Tiles.Put(ctx, blob.Object{Key: checkpointKey, Data: r.offered}); err != nil {
		return err
	}
	r.report.CheckpointRestored = true
	return nil
}
