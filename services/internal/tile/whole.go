package tile

import (
	"context"
	"errors"

	"github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/services/internal/blob"
)

// Whole is a store as those see it who know the growing bundle as one object,
// tail/entries-<index>: where it is kept in segments, they are joined. It is for
// readers that check a store object by object; a Reader needs it not.
type Whole struct{ blob.Store }

// Get implements blob.Store.
func (w Whole) Get(ctx context.Context, key string) ([]byte, error) {
	p, ok := ParseTail(key)
	if !ok || !p.Entries {
		return w.Store.Get(ctx, key)
	}
	if _, grows := w.Store.(blob.Extender); grows {
		if data, err := w.Store.Get(ctx, key); !errors.Is(err, blob.ErrNotFound) {
			return data, err
		}
	}
	data, err := w.join(ctx, p.Index)
	if len(data) > 0 || err != nil {
		return data, err
	}
	return w.Store.Get(ctx, key)
}

// join returns the segments one after the other, up to the first that is missing
// or not full. What a crash left behind the entries of a full one is cut off.
func (w Whole) join(ctx context.Context, index uint64) ([]byte, error) {
	var all []byte
	for n := range segments(FullWidth) {
		data, err := w.Store.Get(ctx, segmentKey(index, n))
		if errors.Is(err, blob.ErrNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		_, length, notFull := tile.ParsePrefix(data, segmentWidth)
		if notFull != nil {
			all = append(all, data...) // the last one, or a damaged one: the reader judges
			break
		}
		all = append(all, data[:length]...)
	}
	return all, nil
}
