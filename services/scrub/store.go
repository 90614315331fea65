package scrub

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/trialog/trialog/api/fsck"
	"github.com/trialog/trialog/services/internal/tlog"
)

// compare holds the store's leaves against a bundle. An error is one of the
// store's that is no damage.
func (s *Scrubber) compare(ctx context.Context, b fsck.Bundle) ([]fsck.Finding, error) {
	if s.c.Log == nil {
		return nil, nil
	}
	var found []fsck.Finding
	for i := 0; i < len(b.Leaves); {
		first := b.First + uint64(i)
		leaves, err := s.c.Log.Leaves(ctx, first, len(b.Leaves)-i)
		if errors.Is(err, tlog.ErrCorrupt) || err == nil && len(leaves) == 0 {
			// Together they do not verify: one by one they say which.
			f, leaf, err := s.alone(ctx, first)
			if err != nil {
				return nil, err
			}
			if f != nil {
				found = append(found, *f)
				i++
				continue
			}
			leaves = []tlog.Leaf{*leaf}
		} else if err != nil {
			return nil, fmt.Errorf("read the store's leaves from %d: %w", first, err)
		}
		for _, leaf := range leaves[:min(len(leaves), len(b.Leaves)-i)] {
			f, err := s.leaf(ctx, b.First+uint64(i), leaf, b.Leaves[i], b.Entries[i])
			if err != nil {
				return nil, err
			}
			found = append(found, f...)
			i++
		}
	}
	return found, nil
}

// alone reads one leaf; the finding says that the store does not give it.
func (s *Scrubber) alone(ctx context.Context, index uint64) (*fsck.Finding, *tlog.Leaf, error) {
	leaves, err := s.c.Log.Leaves(ctx, index, 1)
	f := &fsck.Finding{
		Kind: KindStore, Object: fmt.Sprintf("store: leaf %d", index), Entry: new(index), Entries: 1, Supports: fsck.SupportsAbove,
	}
	switch {
	case errors.Is(err, tlog.ErrCorrupt):
		f.Detail = err.Error()
		return f, nil, nil
	case err != nil:
		return nil, nil, fmt.Errorf("read the store's leaf %d: %w", index, err)
	case len(leaves) == 0:
		f.Detail = "the store has no such leaf"
		return f, nil, nil
	}
	return nil, &leaves[0], nil
}

// leaf holds a leaf of the store against its trusted hash and the tiles' entry.
func (s *Scrubber) leaf(ctx context.Context, index uint64, leaf tlog.Leaf, want fsck.Trusted, value []byte) ([]fsck.Finding, error) {
	f := fsck.Finding{
		Object: fmt.Sprintf("store: leaf %d", index), Entry: new(index), Entries: 1, Supports: fsck.SupportsAbove,
	}
	if want.Known && leaf.Hash() != want.Hash {
		f.Kind, f.Detail = KindStore, "its value is not the one that the signed root supports"
		for at := range min(len(value), len(leaf.Value)) {
			if value[at] != leaf.Value[at] {
				f.Offset, f.Exact = int64(at), true
				break
			}
		}
		return []fsck.Finding{f}, nil
	}
	if s.c.Identity == nil {
		return nil, nil
	}
	id, ok := s.c.Identity(leaf.Value)
	if !ok {
		return nil, nil
	}
	f.Kind = KindIdentity
	if !bytes.Equal(id[:], leaf.Identity[:]) {
		f.Detail = "the identity beside its value is not that of the value"
		return []fsck.Finding{f}, nil
	}
	at, found, err := s.c.Log.Find(ctx, id)
	switch {
	case errors.Is(err, tlog.ErrCorrupt):
		f.Detail = err.Error()
	case err != nil:
		return nil, fmt.Errorf("look up the identity of leaf %d: %w", index, err)
	case !found:
		f.Detail = "the identity index does not have the leaf"
	case at != index:
		f.Detail = fmt.Sprintf("the identity index has the leaf at %d", at)
	default:
		return nil, nil
	}
	return []fsck.Finding{f}, nil
}
