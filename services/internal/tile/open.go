package tile

import (
	"context"
	"errors"
	"fmt"

	"github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/services/internal/blob"
)

// OpenWriter opens the tiles in store for writing, wherever the last writer
// stopped, and checks their right edge: the entries of the growing bundle
// against their leaf hashes, the growing tiles against the root of the head, and
// on every level the last full tile, and the last full bundle, against the hash
// above. It does not read the rest. Errors match ErrCorrupt when an object is
// missing or wrong.
//
// In an empty store it writes the head of the empty log. So a head that is
// missing later is a loss, and not taken for a new log.
func OpenWriter(ctx context.Context, store blob.Store) (*Writer, error) {
	h, err := readHead(ctx, store)
	if err != nil {
		return nil, fmt.Errorf("open tiles: %w", err)
	}
	e, err := loadEdge(ctx, store, h)
	if err != nil {
		return nil, fmt.Errorf("open tiles at size %d: %w", h.Size, err)
	}
	w := &Writer{store: store, edge: e, root: h.Root}
	w.grow, _ = store.(blob.Extender)
	if err := w.sweep(ctx); err != nil {
		return nil, fmt.Errorf("open tiles at size %d: remove old tails: %w", h.Size, err)
	}
	return w, nil
}

// readHead reads the head, or writes the first one if the store has no tiles.
func readHead(ctx context.Context, store blob.Store) (Head, error) {
	data, err := store.Get(ctx, HeadKey)
	if errors.Is(err, blob.ErrNotFound) {
		for _, prefix := range []string{"tile/", TailPrefix} {
			for key, err := range store.List(ctx, prefix) {
				if err != nil {
					return Head{}, err
				}
				return Head{}, &CorruptError{Object: HeadKey, Reason: "missing, although there is " + key}
			}
		}
		h := Head{Root: EmptyRoot()}
		return h, store.Put(ctx, blob.Object{Key: HeadKey, Data: h.Encode()})
	}
	if err != nil {
		return Head{}, err
	}
	h, err := ParseHead(data)
	if err != nil {
		return Head{}, &CorruptError{Object: HeadKey, Reason: err.Error()}
	}
	return h, nil
}

// loadEdge reads and checks the right edge of the tree of h.
func loadEdge(ctx context.Context, store blob.Store, h Head) (*edge, error) {
	r := NewReader(store)
	// The reader checks the growing tiles against the root.
	t, err := r.Tree(ctx, h.Size, h.Root)
	if err != nil {
		return nil, err
	}
	e := &edge{size: h.Size, tiles: make([]*nodes, len(t.edge))}
	for level := range t.edge {
		e.tiles[level] = new(nodes)
		if t.edge[level] != nil {
			e.tiles[level] = t.edge[level]
		}
		// … and the last full tile of each level against the hash above it.
		if index, _ := tile.Edge(h.Size, level); index > 0 {
			if _, err := t.finder().tile(ctx, level, index-1); err != nil {
				return nil, err
			}
		}
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	index, width := tile.Edge(h.Size, 0)
	if index > 0 {
		last := Path{Entries: true, Index: index - 1, Width: FullWidth}
		if _, err := t.BundleBytes(ctx, last); err != nil {
			return nil, err
		}
	}
	if width > 0 {
		last := Path{Entries: true, Index: index, Width: width}
		if e.bundle, err = t.BundleBytes(ctx, last); err != nil {
			return nil, err
		}
	}
	return e, nil
}
