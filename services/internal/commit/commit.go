// Package commit takes leaves into a log, all the way: durable in the store,
// integrated, and in the tiles, whose root must be the store's.
//
// It is the steps 2 to 4 of a shard's pipeline, and knows nothing of what the
// leaves mean. Store and Integrate may run at the same time, on different
// leaves, so that the disk's waiting times overlap; Follow is the loop that
// makes use of that.
//
// Trust: neither store nor tiles for being right. Each computes the root for
// itself, and nobody is told that a leaf is in before the two agree.
package commit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/trialog/trialog/services/internal/fault"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
)

// The errors of a Log that a caller tells apart. After any other error, too, the
// outcome is unknown, and only opening the stores again resolves it.
var (
	// ErrNotStored: nothing was stored, and the next Store may be tried.
	ErrNotStored = errors.New("nothing was stored")
	// ErrDisagree: tiles and store give different trees for the same leaves.
	ErrDisagree = errors.New("tiles and store disagree")
)

// Log is the write side of a log. Make it with New.
type Log struct {
	tree  tlog.Log
	tiles *tile.Writer

	mu    sync.Mutex
	next  uint64 // index of the next leaf to be stored
	tiled uint64 // leaves that are past step 4
	// values are those of the leaves from tiled on. They come in before they are
	// stored, because an integration may meet them as soon as they are.
	values [][]byte
}

// New returns the write side of the log in tree. The tiles must be those of all
// leaves that the tree holds, and nobody else may write to either.
func New(tree tlog.Log, tiles *tile.Writer) *Log {
	return &Log{tree: tree, tiles: tiles, next: tiles.Size(), tiled: tiles.Size()}
}

// Next returns the index that the next stored leaf will have.
func (l *Log) Next() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Store is step 2: it appends leaves at Next, all of them or none, durably. It
// must not be called by two goroutines at the same time. An unknown outcome is
// resolved by reading back; ErrNotStored leaves everything as it was.
func (l *Log) Store(ctx context.Context, leaves []tlog.Leaf) error {
	if err := fault.Hit("append.before"); err != nil {
		return fmt.Errorf("append: %w", err)
	}
	first := l.offer(leaves)
	err := l.store(ctx, first, leaves)
	if errors.Is(err, ErrNotStored) {
		l.withdraw(len(leaves))
	}
	return err
}

// offer notes leaves that are about to be stored.
func (l *Log) offer(leaves []tlog.Leaf) (first uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range leaves {
		l.values = append(l.values, leaves[i].Value)
	}
	first = l.next
	l.next += uint64(len(leaves))
	return first
}

// withdraw forgets the last n leaves, which were not stored: no integration can
// have met them.
func (l *Log) withdraw(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next -= uint64(n)
	l.values = l.values[:len(l.values)-n]
}

func (l *Log) store(ctx context.Context, first uint64, leaves []tlog.Leaf) error {
	err := l.tree.Append(ctx, first, leaves)
	if err == nil {
		if err = fault.Hit("append.after"); err == nil {
			return nil
		}
		err = fmt.Errorf("%w: %w", tlog.ErrUnknownOutcome, err)
	}
	switch {
	case errors.Is(err, tlog.ErrFailed) || errors.Is(err, tlog.ErrClosed) || errors.Is(err, tlog.ErrCorrupt) ||
		errors.Is(err, tlog.ErrConflict) || errors.Is(err, tlog.ErrOwned):
		return fmt.Errorf("append %d entries: %w", len(leaves), err)
	case !errors.Is(err, tlog.ErrUnknownOutcome):
		return fmt.Errorf("append %d entries: %w: %w", len(leaves), ErrNotStored, err)
	}
	return l.readBack(ctx, first, leaves, err)
}

// readBack resolves an unknown outcome: what is stored is adopted, all or none.
func (l *Log) readBack(ctx context.Context, first uint64, want []tlog.Leaf, cause error) error {
	got, err := l.tree.Leaves(ctx, first, len(want))
	if err != nil {
		return fmt.Errorf("read back after %w: %w", cause, err)
	}
	same := func(a, b tlog.Leaf) bool { return a.Identity == b.Identity && slices.Equal(a.Value, b.Value) }
	switch {
	case len(got) == 0:
		return fmt.Errorf("%w: %w", ErrNotStored, cause)
	case slices.EqualFunc(got, want, same):
		return nil
	}
	return fmt.Errorf("%d of %d entries are there after %w", len(got), len(want), cause)
}

// Integrate is steps 3 and 4: it brings everything that was stored before the
// call, and perhaps more, into the tree and into the tiles, and compares the two
// roots. What it returns is durable in both. It must not be called by two
// goroutines at the same time.
func (l *Log) Integrate(ctx context.Context) (tlog.Root, error) {
	if err := fault.Hit("integrate.before"); err != nil {
		return tlog.Root{}, fmt.Errorf("integrate: %w", err)
	}
	root, err := l.tree.Integrate(ctx)
	if err != nil {
		return tlog.Root{}, fmt.Errorf("integrate: %w", err)
	}
	if err := fault.Hit("integrate.after"); err != nil {
		return tlog.Root{}, fmt.Errorf("integrate: %w", err)
	}
	values := l.until(root.Size)
	if err := fault.Hit("tiles.before"); err != nil {
		return tlog.Root{}, fmt.Errorf("write tiles: %w", err)
	}
	hash, err := l.tiles.Append(ctx, values)
	if err != nil {
		return tlog.Root{}, fmt.Errorf("write tiles: %w", err)
	}
	if hash != root.Hash || l.tiles.Size() != root.Size {
		return tlog.Root{}, fmt.Errorf("%w at size %d", ErrDisagree, root.Size)
	}
	if err := fault.Hit("tiles.after"); err != nil {
		return tlog.Root{}, fmt.Errorf("write tiles: %w", err)
	}
	l.done(root.Size)
	return root, nil
}

// until returns the values of the leaves below size that are not in the tiles.
// If the tree has more than was ever offered, the tiles will not reach its size.
func (l *Log) until(size uint64) [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(size-l.tiled, uint64(len(l.values)))
	return l.values[:n:n]
}

// done forgets the values that are in the tiles.
func (l *Log) done(size uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := l.values[size-l.tiled:]
	// A new array: the old one would keep every value that was ever in it.
	l.values, l.tiled = append(make([][]byte, 0, len(rest)), rest...), size
}
