package tile

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/services/internal/blob"
)

// bundle is the first entries of a bundle, parsed and not yet verified.
type bundle struct {
	index     uint64
	key       string // of the object, unless segmented
	segmented bool
	raw       []byte
	entries   [][]byte
}

// keyOf returns the key of the object that holds an entry of the bundle.
func (b *bundle) keyOf(entry int) string {
	if b.segmented {
		return segmentKey(b.index, entry/segmentWidth)
	}
	return b.key
}

// bundle reads the first width entries of a bundle that the tree has.
func (t *Tree) bundle(ctx context.Context, index uint64, width int) (*bundle, error) {
	full := Path{Entries: true, Index: index, Width: FullWidth}
	// What matters for where to look is whether the bundle is full in this
	// tree, not how much of it is asked for.
	last, have := tile.Edge(t.size, 0)
	if index != last {
		return t.r.wholeBundle(ctx, index, width, full.String())
	}
	whole := func() (*bundle, error) {
		return t.r.wholeBundle(ctx, index, width, TailKey(Path{Entries: true, Index: index, Width: have}))
	}
	pieces := func() (*bundle, error) { return t.r.segmentedBundle(ctx, index, width) }
	forms := []func() (*bundle, error){whole, pieces}
	if t.r.segmented {
		forms = []func() (*bundle, error){pieces, whole}
	}
	var first error
	for _, read := range forms {
		b, err := read()
		switch {
		case err == nil || !errors.Is(err, ErrCorrupt):
			return b, err
		case first == nil || errors.Is(first, blob.ErrNotFound) && !errors.Is(err, blob.ErrNotFound):
			// If it is there and damaged, it may be what a writer of the other kind
			// of store has left, and what counts is in the other form.
			first = err
		}
	}
	// The writer removes a tail only after the full bundle is in place, so what
	// was full before its tails were looked for is found now.
	b, err := t.r.wholeBundle(ctx, index, width, full.String())
	if err != nil {
		return nil, first
	}
	return b, nil
}

// wholeBundle reads the first width entries of the first of the objects that is
// there.
func (r *Reader) wholeBundle(ctx context.Context, index uint64, width int, keys ...string) (*bundle, error) {
	key, data, err := r.rawObject(ctx, keys...)
	if err != nil {
		return nil, err
	}
	entries, length, err := tile.ParsePrefix(data, width)
	if err != nil {
		return nil, &CorruptError{Object: key, Reason: err.Error()}
	}
	if width == FullWidth && length < len(data) {
		return nil, &CorruptError{Object: key, Reason: fmt.Sprintf("%d bytes after the last entry", len(data)-length)}
	}
	return &bundle{index: index, key: key, raw: data[:length:length], entries: entries}, nil
}

// segmentedBundle reads the first width entries of a growing bundle that is kept
// in segments. Its error matches blob.ErrNotFound if one of them is missing.
func (r *Reader) segmentedBundle(ctx context.Context, index uint64, width int) (*bundle, error) {
	pieces := make([][]byte, segments(width))
	errs := make([]error, len(pieces))
	var wg sync.WaitGroup
	for n := range pieces {
		wg.Go(func() {
			want := min(segmentWidth, width-n*segmentWidth)
			pieces[n], errs[n] = r.segment(ctx, segmentKey(index, n), want)
		})
	}
	wg.Wait()
	// A missing one matters more than one that is corrupt: then the bundle has
	// just become full, or is kept otherwise.
	for _, err := range errs {
		if errors.Is(err, blob.ErrNotFound) {
			return nil, err
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	b := &bundle{index: index, segmented: true}
	for _, piece := range pieces {
		b.raw = append(b.raw, piece...)
	}
	var err error
	b.entries, _, err = tile.ParsePrefix(b.raw, width)
	return b, err
}

// segment returns the bytes of the first width entries of a segment.
func (r *Reader) segment(ctx context.Context, key string, width int) ([]byte, error) {
	_, data, err := r.rawObject(ctx, key)
	if err != nil {
		return nil, err
	}
	_, length, err := tile.ParsePrefix(data, width)
	if err != nil {
		return nil, &CorruptError{Object: key, Reason: err.Error()}
	}
	return data[:length], nil
}
