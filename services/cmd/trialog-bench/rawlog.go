package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/commit"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/backend"
)

// rawLog is the product's write path, steps 2 to 4, for values that nobody
// judges. A value is answered for when it is durable in store and tiles and both
// have integrated it.
type rawLog struct {
	tree  tlog.Log
	log   *commit.Log
	tiles *tile.Writer
	store blob.Store
	queue chan item
	batch int
	delay time.Duration
}

// item is a value on its way. sink must have room for its outcome.
type item struct {
	value []byte
	tag   uint64
	sink  chan<- outcome
}

// outcome answers an item.
type outcome struct {
	tag   uint64
	index uint64
	err   error
}

const rawOrigin = "bench.trialog.localhost/raw"

// openRawLog opens the log in dir, on Pebble and a folder of tiles, and makes it
// if there is none.
func openRawLog(ctx context.Context, dir string, batch int, delay time.Duration, now func() time.Time) (*rawLog, error) {
	if err := os.MkdirAll(filepath.Join(dir, "tiles"), 0o700); err != nil {
		return nil, err
	}
	tree, err := backend.Create(ctx, "pebble:"+filepath.Join(dir, "store"), backend.Config{Origin: rawOrigin, Now: now})
	if err != nil {
		return nil, err
	}
	r := &rawLog{tree: tree, queue: make(chan item, 4*batch), batch: batch, delay: delay}
	folder, err := blob.OpenDir(filepath.Join(dir, "tiles"))
	if err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	r.store = folder
	if r.tiles, err = tile.OpenWriter(ctx, folder); err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	r.log = commit.New(tree, r.tiles)
	return r, nil
}

// run stores what is queued until the queue is closed.
func (r *rawLog) run(ctx context.Context) error {
	stored := make(chan commit.Stored, 2)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.log.Follow(ctx, stored, func(tlog.Root) {}) })
	group.Go(func() error {
		defer close(stored)
		for {
			items := r.collect(ctx)
			if len(items) == 0 {
				return ctx.Err()
			}
			first := r.log.Next()
			leaves := make([]tlog.Leaf, len(items))
			for i := range items {
				leaves[i] = tlog.Leaf{Identity: sha256.Sum256(items[i].value), Value: items[i].value}
			}
			if err := r.log.Store(ctx, leaves); err != nil {
				return err
			}
			done := func(tlog.Root) {
				for i := range items {
					items[i].sink <- outcome{tag: items[i].tag, index: first + uint64(i)}
				}
			}
			select {
			case stored <- commit.Stored{Size: first + uint64(len(items)), Done: done}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return group.Wait()
}

// collect waits for a value and gives it company; nothing if the end has come.
func (r *rawLog) collect(ctx context.Context) []item {
	items := make([]item, 0, r.batch)
	select {
	case it, open := <-r.queue:
		if !open {
			return nil
		}
		items = append(items, it)
	case <-ctx.Done():
		return nil
	}
	late := time.NewTimer(r.delay)
	defer late.Stop()
	for len(items) < r.batch {
		select {
		case it, open := <-r.queue:
			if !open {
				return items
			}
			items = append(items, it)
		case <-late.C:
			return items
		case <-ctx.Done():
			return nil
		}
	}
	return items
}

// enqueue hands a value in.
func (r *rawLog) enqueue(ctx context.Context, it item) error {
	select {
	case r.queue <- it:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *rawLog) close() error { return r.tree.Close() }
