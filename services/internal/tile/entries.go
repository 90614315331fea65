package tile

import (
	"bytes"
	"context"
	"fmt"
)

// TileBytes returns the hash tile that path names as it is served: Width hashes
// of 32 bytes. A path of an entry bundle, or of more than the tree has, is
// refused with ErrRange.
func (t *Tree) TileBytes(ctx context.Context, path Path) ([]byte, error) {
	if path.Entries || !path.In(t.size) {
		return nil, fmt.Errorf("tile %s at size %d: %w", path, t.size, ErrRange)
	}
	n, err := t.finder().tile(ctx, path.Level, path.Index)
	if err != nil {
		return nil, err
	}
	return n.bytes(path.Width), nil
}

// BundleBytes returns the entry bundle that path names as it is served: Width
// entries, each after its length in two bytes. A path of a hash tile, or of more
// than the tree has, is refused with ErrRange.
func (t *Tree) BundleBytes(ctx context.Context, path Path) ([]byte, error) {
	if !path.Entries || !path.In(t.size) {
		return nil, fmt.Errorf("bundle %s at size %d: %w", path, t.size, ErrRange)
	}
	b, err := t.bundle(ctx, path.Index, path.Width)
	if err != nil {
		return nil, err
	}
	if err := t.verify(ctx, b, 0, len(b.entries)); err != nil {
		return nil, err
	}
	return b.raw, nil
}

// Entry returns the entry at index.
func (t *Tree) Entry(ctx context.Context, index uint64) ([]byte, error) {
	entries, err := t.Entries(ctx, index, 1)
	if err != nil {
		return nil, err
	}
	return entries[0], nil
}

// Entries returns n entries from first on. All must be in the tree, else the
// error matches ErrRange.
func (t *Tree) Entries(ctx context.Context, first uint64, n int) ([][]byte, error) {
	if n < 0 || first > t.size || uint64(n) > t.size-first {
		return nil, fmt.Errorf("%d entries from %d of %d: %w", n, first, t.size, ErrRange)
	}
	var entries [][]byte
	for n > 0 {
		index, from := first/FullWidth, int(first%FullWidth)
		take := min(n, FullWidth-from)
		b, err := t.bundle(ctx, index, from+take)
		if err != nil {
			return nil, err
		}
		if err := t.verify(ctx, b, from, from+take); err != nil {
			return nil, err
		}
		for _, e := range b.entries[from:] {
			// A copy, so that an entry kept for long does not keep its bundle.
			entries = append(entries, bytes.Clone(e))
		}
		first += uint64(take)
		n -= take
	}
	return entries, nil
}

// verify compares the entries from ≤ i < to of a bundle with their leaf hashes.
func (t *Tree) verify(ctx context.Context, b *bundle, from, to int) error {
	n, err := t.finder().tile(ctx, 0, b.index)
	if err != nil {
		return err
	}
	var h hasher
	for i := from; i < to; i++ {
		if h.leaf(b.entries[i]) != n.node(0, uint64(i)) {
			return &CorruptError{Object: b.keyOf(i), Reason: fmt.Sprintf("entry %d of the bundle differs from its leaf hash", i)}
		}
	}
	return nil
}
