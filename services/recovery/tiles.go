package recovery

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"

	apitile "github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
)

// writeTiles brings the log's own tiles to the store's size: by going on where
// they end, or from the first entry if they are damaged.
func (r *recovery) writeTiles(ctx context.Context) error {
	if !r.damaged && !r.c.RewriteTiles {
		w, err := tile.OpenWriter(ctx, r.c.Tiles)
		if err == nil {
			err = r.fill(ctx, w)
		}
		if !errors.Is(err, tile.ErrCorrupt) && !errors.Is(err, tile.ErrMismatch) {
			return err
		}
		r.ownDamaged(err)
	}
	if err := r.removeBehind(ctx); err != nil {
		return err
	}
	// The new tiles are written over the old ones. A crash leaves a head of fewer
	// entries, which are right, and old objects behind it; the next run finds
	// them equal, or comes here again.
	over := &overwrite{Store: r.c.Tiles, written: map[string]struct{}{}}
	w, err := tile.OpenWriter(ctx, over.store())
	if err != nil {
		return err
	}
	r.report.TilesWritten, r.report.TilesRewritten = 0, true
	return r.fill(ctx, w)
}

// fill adds the store's entries to the tiles.
func (r *recovery) fill(ctx context.Context, w *tile.Writer) error {
	for w.Size() < r.report.Size {
		leaves, err := r.c.Log.Leaves(ctx, w.Size(), batch)
		if err != nil {
			return storeError("the store", err)
		}
		leaves = leaves[:min(uint64(len(leaves)), r.report.Size-w.Size())]
		if len(leaves) == 0 {
			return refuse(Corrupt, "the store has no entry %d below its size %d", w.Size(), r.report.Size)
		}
		if _, err := w.Append(ctx, values(leaves)); err != nil {
			return err
		}
		r.report.TilesWritten += uint64(len(leaves))
	}
	if w.Root() != r.report.Root {
		return refuse(Fork, "the log's own tiles have another root than the store at size %d", w.Size())
	}
	return nil
}

func values(leaves []tlog.Leaf) [][]byte {
	list := make([][]byte, len(leaves))
	for i := range leaves {
		list[i] = leaves[i].Value
	}
	return list
}

// removeBehind removes full tiles that the log of this size does not have: they
// would be in the way of its growth.
func (r *recovery) removeBehind(ctx context.Context) error {
	var garbage []string
	for key, err := range r.c.Tiles.List(ctx, "tile/") {
		if err != nil {
			return fmt.Errorf("list tiles: %w", err)
		}
		p, err := apitile.ParsePath(key)
		if err == nil && !p.In(r.report.Size) {
			garbage = append(garbage, key)
		}
	}
	if len(garbage) == 0 {
		return nil
	}
	return r.c.Tiles.Delete(ctx, garbage...)
}

// overwrite is a store that seems to have no tiles until they are written through
// it.
type overwrite struct {
	blob.Store

	mu      sync.Mutex
	written map[string]struct{}
}

// store returns o as a store whose objects grow if those of the one below do, so
// that the same layout is written.
func (o *overwrite) store() blob.Store {
	if e, ok := o.Store.(blob.Extender); ok {
		return &overwriteGrowing{o, e}
	}
	return o
}

type overwriteGrowing struct {
	*overwrite
	blob.Extender
}

func (o *overwrite) hidden(key string) bool {
	if !strings.HasPrefix(key, "tile/") && !strings.HasPrefix(key, "tail/") {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.written[key]
	return !ok
}

// Get implements blob.Store.
func (o *overwrite) Get(ctx context.Context, key string) ([]byte, error) {
	if o.hidden(key) {
		return nil, blob.ErrNotFound
	}
	return o.Store.Get(ctx, key)
}

// Put implements blob.Store.
func (o *overwrite) Put(ctx context.Context, objects ...blob.Object) error {
	if err := o.Store.Put(ctx, objects...); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, object := range objects {
		o.written[object.Key] = struct{}{}
	}
	return nil
}

// List implements blob.Store.
func (o *overwrite) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for key, err := range o.Store.List(ctx, prefix) {
			if err == nil && o.hidden(key) {
				continue
			}
			if !yield(key, err) {
				return
			}
		}
	}
}
