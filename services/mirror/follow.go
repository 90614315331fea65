package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// batchBundles is how many bundles are fetched at once and appended together. A
// bundle has up to 16 MiB, and mostly less than one.
const batchBundles = 8

// extends returns the source's tree of next, checked against next's root, if that
// tree extends everything that the mirror knows. The source's hash tiles are used
// to find that out, and to say where an entry is wrong; they are checked against
// the root, and none is kept.
func (m *Mirror) extends(ctx context.Context, next *head) (*tile.Tree, error) {
	if m.known != nil && next.Size <= m.known.Size {
		if err := m.notNewer(ctx, next); err != nil {
			return nil, err
		}
	}
	// A reader of its own: what one tree has cached is of no use to the next, but
	// for the few tiles at the edge.
	tree, err := tile.NewReader(m.c.Source.At(next.Size), tile.WithCache(2*batchBundles)).Tree(ctx, next.Size, next.Root)
	if err != nil {
		return nil, sourceError(err)
	}
	for _, had := range m.has() {
		if had.size > next.Size {
			continue // an older checkpoint's entries, and the same tree
		}
		root, err := tree.RootAt(ctx, had.size)
		if err != nil {
			return nil, sourceError(err)
		}
		if root != had.root {
			return nil, m.fork(ctx, next)
		}
	}
	return tree, nil
}

// place is a tree that the mirror has, or is copying.
type place struct {
	size uint64
	root [32]byte
}

// has returns the trees that the log's later ones must extend.
func (m *Mirror) has() []place {
	list := []place{{m.writer.Size(), m.writer.Root()}}
	if m.known != nil {
		list = append(list, place{m.known.Size, m.known.Root})
	}
	return list
}

// notNewer judges a checkpoint that is not larger than the one that is known. It
// returns nil for the same tree, perhaps with other signatures.
func (m *Mirror) notNewer(ctx context.Context, next *head) error {
	if next.Size == m.known.Size {
		if next.Root != m.known.Root {
			return m.fork(ctx, next)
		}
		return nil
	}
	if next.Size <= m.writer.Size() {
		tree, err := m.own.Tree(ctx, m.writer.Size(), m.writer.Root())
		if err != nil {
			return fmt.Errorf("read the mirror's store: %w", err)
		}
		root, err := tree.RootAt(ctx, next.Size)
		if err != nil {
			return fmt.Errorf("read the mirror's store: %w", err)
		}
		if root != next.Root {
			return m.fork(ctx, next)
		}
	}
	return m.rollback(ctx, next)
}

// follow brings the copy to next, whose tree is the source's. In this order, each
// durable before the next: the note, as the target; entries, with the hash tiles
// that follow from them; beacons; the note, as the checkpoint. So whatever is
// stored belongs to a note that is stored, and what is published is complete.
func (m *Mirror) follow(ctx context.Context, next *head, tree *tile.Tree) error {
	if m.known == nil || next.Size > m.known.Size {
		if err := m.c.Store.Put(ctx, blob.Object{Key: targetKey, Data: next.raw}); err != nil {
			m.writer = nil // whether it was written decides what is known: read it
			return fmt.Errorf("write the target: %w", err)
		}
		m.known = next
	}
	for m.writer.Size() < next.Size {
		batch, err := m.fetch(ctx, tree)
		if err != nil {
			return err
		}
		if err := m.fetchBeacons(ctx, batch); err != nil {
			return err
		}
		if _, err := m.writer.Append(ctx, batch); err != nil {
			return m.appendError(err)
		}
	}
	if err := m.fetchMissing(ctx); err != nil {
		return err
	}
	// The writer has hashed every entry itself, from the first one on.
	if m.writer.Root() != next.Root {
		return fmt.Errorf("%w: root at size %d", errOwnStore, next.Size)
	}
	if err := m.c.Store.Put(ctx, blob.Object{Key: checkpointKey, Data: next.raw}); err != nil {
		return fmt.Errorf("publish the checkpoint: %w", err)
	}
	m.placed = next
	return nil
}

func (m *Mirror) appendError(err error) error {
	if errors.Is(err, tile.ErrMismatch) {
		return fmt.Errorf("%w: %w", errOwnStore, err)
	}
	return fmt.Errorf("write entries: %w", err)
}

// fetch returns the next entries of the tree, from where the copy ends to the end
// of a bundle, each checked against its leaf hash in the tree.
func (m *Mirror) fetch(ctx context.Context, tree *tile.Tree) ([][]byte, error) {
	first, end := m.writer.Size(), tree.Size()
	var parts [batchBundles][][]byte
	var errs [batchBundles]error
	var work sync.WaitGroup
	for i := range parts {
		from := first
		if i > 0 {
			from = (first/tile.FullWidth + uint64(i)) * tile.FullWidth
		}
		if from >= end {
			break
		}
		n := min(tile.FullWidth-from%tile.FullWidth, end-from)
		work.Go(func() { parts[i], errs[i] = tree.Entries(ctx, from, int(n)) })
	}
	work.Wait()
	var batch [][]byte
	for i, err := range errs {
		if err != nil && len(batch) > 0 {
			return batch, nil // what was read before it counts
		}
		if err != nil {
			return nil, sourceError(err)
		}
		batch = append(batch, parts[i]...)
	}
	return batch, nil
}
