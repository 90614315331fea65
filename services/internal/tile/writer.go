package tile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/trialog/trialog/services/internal/blob"
)

// Writer keeps the tiles of one log in a store. A log has one writer at a time;
// who that is, is not the Writer's business.
//
// The objects are: full bundles and hash tiles under the paths of C2SP
// tlog-tiles, written once and never changed; the growing ones at the right
// edge, under tail/, from which partial tiles are served as prefixes; and
// tail/head, which says how much of all that counts.
//
// Append makes them durable in this order:
//
//  1. full bundles and tiles
//  2. tails: a new one is put, a known one grows in place, so that a quiet log
//     writes what it was given and not the bundle so far
//  3. tail/head
//  4. tails that have become full are removed
//
// A crash before 3 leaves the old head. Everything that it counts is still
// there: full objects are only added, a tail keeps its first bytes, and an old
// tail goes only after 3. A crash after 3 leaves tails that nobody needs, which
// OpenWriter removes.
type Writer struct {
	store blob.Store
	grow  blob.Extender // the store, if its objects can grow

	mu   sync.RWMutex
	edge *edge
	root Hash
	// settled is true when the durable head and tails are known to be those of
	// edge. It is false at first, and after an error, when nobody knows what
	// the store has kept.
	settled bool
	garbage []string // tails of full tiles, not removed yet
}

// Size returns how many entries are durable.
func (w *Writer) Size() uint64 {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.edge.size
}

// Root returns the root at Size.
func (w *Writer) Root() [32]byte {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.root
}

// Append adds entries behind the last one and returns the new root. They are
// durable when it returns nil. With no entries it writes nothing.
//
// After an error Size and Root are what they were before; the same entries may
// be appended again, to this Writer or to one opened anew, which may then find
// them in place: see its Size. Other entries than those of the failed call are
// refused with ErrMismatch as far as the failed call had filled full objects.
func (w *Writer) Append(ctx context.Context, entries [][]byte) (root [32]byte, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(entries) == 0 {
		return w.root, nil
	}
	for i, e := range entries {
		if len(e) > MaxEntry {
			return w.root, fmt.Errorf("append: entry %d of %d: %w: %d bytes, want at most %d",
				i, len(entries), ErrTooLong, len(e), MaxEntry)
		}
	}
	next, full := w.edge.extend(entries)
	if err := w.checkFull(ctx, full); err != nil {
		return w.root, fmt.Errorf("append: %w", err)
	}
	newRoot := next.root()
	if err := w.persist(ctx, next, newRoot, full); err != nil {
		w.settled = false
		return w.root, fmt.Errorf("append: %w", err)
	}
	for _, key := range w.edge.tailKeys() {
		if !next.hasTail(key) {
			w.garbage = append(w.garbage, key)
		}
	}
	w.edge, w.root, w.settled = next, newRoot, true
	w.collect(ctx)
	return w.root, nil
}

// checkFull returns ErrMismatch if a full object that is about to be written
// exists with another content. One that is equal was left by a crash; it is
// written again all the same, because nobody knows whether it is durable.
func (w *Writer) checkFull(ctx context.Context, full []blob.Object) error {
	for _, o := range full {
		got, err := w.store.Get(ctx, o.Key)
		if errors.Is(err, blob.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for %s: %w", o.Key, err)
		}
		if !bytes.Equal(got, o.Data) {
			return fmt.Errorf("%s: %w", o.Key, ErrMismatch)
		}
	}
	return nil
}

// persist writes in the order that the comment on Writer gives.
func (w *Writer) persist(ctx context.Context, next *edge, root Hash, full []blob.Object) error {
	if !w.settled {
		// An earlier Append may have failed and yet left its head. Take that
		// back before the tails under it change: else a crash in between could
		// leave a head whose tails are gone.
		old := head{w.edge.size, w.root}
		if err := w.store.Put(ctx, blob.Object{Key: headKey, Data: old.format()}); err != nil {
			return fmt.Errorf("restore the head: %w", err)
		}
	}
	if len(full) > 0 {
		if err := w.store.Put(ctx, full...); err != nil {
			return fmt.Errorf("write full tiles: %w", err)
		}
	}
	if err := w.writeTails(ctx, next); err != nil {
		return fmt.Errorf("write tails: %w", err)
	}
	h := head{next.size, root}
	if err := w.store.Put(ctx, blob.Object{Key: headKey, Data: h.format()}); err != nil {
		return fmt.Errorf("write the head: %w", err)
	}
	return nil
}

// writeTails makes the tails of next durable. A tail grows in place only if this
// Writer wrote its first bytes itself and nothing has failed since; otherwise
// what the object holds is not known well enough, and it is replaced as a whole.
func (w *Writer) writeTails(ctx context.Context, next *edge) error {
	var put []blob.Object
	var grow []blob.Extension
	for _, t := range next.tails(w.edge) {
		if t.from > 0 && w.settled && w.grow != nil {
			grow = append(grow, blob.Extension{Key: t.key, Offset: int64(t.from), Data: t.data()})
			continue
		}
		t.from = 0
		put = append(put, blob.Object{Key: t.key, Data: t.data()})
	}
	if len(put) > 0 {
		if err := w.store.Put(ctx, put...); err != nil {
			return err
		}
	}
	if len(grow) > 0 {
		return w.grow.Extend(ctx, grow...)
	}
	return nil
}

// collect removes tails that have become full. What cannot be removed now is
// tried again with the next Append, or by the next OpenWriter.
func (w *Writer) collect(ctx context.Context) {
	if len(w.garbage) > 0 && w.store.Delete(ctx, w.garbage...) == nil {
		w.garbage = nil
	}
}
