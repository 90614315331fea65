package tile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/trialog/trialog/services/internal/blob"
)

// lookers bounds the looks for full objects at a time: each may be a round trip.
const lookers = 16

// Writer keeps the tiles of one log in a store. A log has one writer at a time;
// who that is, is not the Writer's business.
//
// The objects are: full bundles and hash tiles under the paths of C2SP
// tlog-tiles, written once and never changed; the growing ones at the right
// edge, under tail/, from which partial tiles are served as prefixes; and
// tail/head, which says how much of all that counts. Where objects do not grow in
// place, the growing bundle is kept in segments of 16 entries, so that a quiet
// log rewrites the last segment with each entry, and not up to 255 entries.
//
// Append makes them durable in this order:
//
//  1. full bundles and tiles, and new tails, in one call
//  2. tails that grow in place, so that a quiet log writes what it was given and
//     not the bundle so far
//  3. tail/head
//  4. tails that have become full are removed
//
// A crash before 3 leaves the old head. Everything that it counts is still
// there: full objects are only added, a tail keeps its first bytes, and an old
// tail goes only after 3. A crash after 3 leaves tails that nobody needs, which
// OpenWriter removes.
type Writer struct {
	store blob.Store
	grow  blob.Extender // the store, if its objects can grow; else bundles grow in segments

	mu   sync.RWMutex
	edge *edge
	root Hash
	// settled is true when the durable head and tails are known to be those of
	// edge. It is false at first, and after an error, when nobody knows what
	// the store has kept.
	settled bool
	garbage []string // tails of full tiles, not removed yet
	// foreign are the keys of the growing bundle as a writer of the other kind
	// of store has left it. They count until this one has written it its way.
	foreign []string
	// stray says that a failed Append may have left tails that nobody knows of.
	stray bool
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
		w.settled, w.stray = false, true
		return w.root, fmt.Errorf("append: %w", err)
	}
	current := next.tailKeys(w.segmented())
	for _, key := range append(w.edge.tailKeys(w.segmented()), w.foreign...) {
		if !slices.Contains(current, key) {
			w.garbage = append(w.garbage, key)
		}
	}
	w.foreign = nil
	w.edge, w.root, w.settled = next, newRoot, true
	w.collect(ctx)
	return w.root, nil
}

// checkFull returns ErrMismatch if a full object that is about to be written
// exists with another content. One that is equal was left by a crash; it is
// written again all the same, because nobody knows whether it is durable.
func (w *Writer) checkFull(ctx context.Context, full []blob.Object) error {
	errs := make([]error, len(full))
	slots := make(chan struct{}, lookers)
	var looks sync.WaitGroup
	for i, o := range full {
		slots <- struct{}{}
		looks.Go(func() {
			defer func() { <-slots }()
			got, err := w.store.Get(ctx, o.Key)
			switch {
			case errors.Is(err, blob.ErrNotFound):
			case err != nil:
				errs[i] = fmt.Errorf("look for %s: %w", o.Key, err)
			case !bytes.Equal(got, o.Data):
				errs[i] = fmt.Errorf("%s: %w", o.Key, ErrMismatch)
			}
		})
	}
	looks.Wait()
	return errors.Join(errs...)
}

// persist writes in the order that the comment on Writer gives.
func (w *Writer) persist(ctx context.Context, next *edge, root Hash, full []blob.Object) error {
	if !w.settled {
		// An earlier Append may have failed and yet left its head. Take that
		// back before the tails under it change: else a crash in between could
		// leave a head whose tails are gone.
		old := Head{w.edge.size, w.root}
		if err := w.store.Put(ctx, blob.Object{Key: HeadKey, Data: old.Encode()}); err != nil {
			return fmt.Errorf("restore the head: %w", err)
		}
	}
	whole, grown := w.tails(next)
	if objects := slices.Concat(full, whole); len(objects) > 0 {
		if err := w.store.Put(ctx, objects...); err != nil {
			return fmt.Errorf("write tiles: %w", err)
		}
	}
	if len(grown) > 0 {
		if err := w.grow.Extend(ctx, grown...); err != nil {
			return fmt.Errorf("write tails: %w", err)
		}
	}
	h := Head{next.size, root}
	if err := w.store.Put(ctx, blob.Object{Key: HeadKey, Data: h.Encode()}); err != nil {
		return fmt.Errorf("write the head: %w", err)
	}
	return nil
}

// tails returns the tails of next that are put, and those that grow. A tail grows
// in place only if this Writer wrote its first bytes itself and nothing has failed
// since; otherwise what the object holds is not known well enough, and it is
// replaced as a whole.
func (w *Writer) tails(next *edge) (whole []blob.Object, grown []blob.Extension) {
	for _, t := range next.tails(w.edge, w.segmented(), w.settled) {
		if t.from > 0 && w.settled && w.grow != nil {
			grown = append(grown, blob.Extension{Key: t.key, Offset: int64(t.from), Data: t.data()})
			continue
		}
		t.from = 0
		whole = append(whole, blob.Object{Key: t.key, Data: t.data()})
	}
	return whole, grown
}

func (w *Writer) segmented() bool { return w.grow == nil }

// collect removes tails that have become full, and after an error whatever else
// nobody needs. What cannot be removed now is tried again with the next Append,
// or by the next OpenWriter.
func (w *Writer) collect(ctx context.Context) {
	if w.stray && w.sweep(ctx) == nil {
		w.stray, w.garbage = false, nil
	}
	if len(w.garbage) > 0 && w.store.Delete(ctx, w.garbage...) == nil {
		w.garbage = nil
	}
}

// sweep removes tails that no longer, or do not yet, count. The growing bundle in
// the form in which another kind of store keeps it is left until this Writer has
// written it.
func (w *Writer) sweep(ctx context.Context) error {
	current := w.edge.tailKeys(w.segmented())
	foreign := w.edge.bundleKeys(!w.segmented())
	var garbage []string
	for key, err := range w.store.List(ctx, TailPrefix) {
		switch {
		case err != nil:
			return err
		case key == HeadKey || slices.Contains(current, key):
		case !w.settled && slices.Contains(foreign, key):
			w.foreign = append(w.foreign, key)
		default:
			garbage = append(garbage, key)
		}
	}
	if len(garbage) == 0 {
		return nil
	}
	return w.store.Delete(ctx, garbage...)
}
