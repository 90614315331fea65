package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/blob/bucket"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/backend"
)

// checkPlaces says whether tiles and register can be where the shard has them, as
// far as that can be told without opening anything. Asked before the first file is
// made, so that a misspelt address leaves nothing behind.
func checkPlaces(c config.Shard) error {
	if err := bucket.Check(c.Tiles); err != nil {
		return fmt.Errorf("tiles: %w", err)
	}
	return register.Check(c.Register)
}

// makeShard makes the empty store of a shard and, last, its register. What is
// there already is left as it is, so that a call that was cut off can be
// repeated.
func makeShard(ctx context.Context, c config.Shard) error {
	for _, place := range []string{c.Store, c.Tiles} {
		if path, ok := localFolder(place); ok {
			if err := makeFolder(path); err != nil {
				return err
			}
		}
	}
	log, err := createTree(ctx, c)
	if err != nil {
		return err
	}
	root, err := log.Root(ctx)
	if err := errors.Join(err, log.Close()); err != nil {
		return err
	}
	r, err := openRegister(ctx, c)
	if err != nil {
		return err
	}
	if root.Size != 0 {
		return errors.Join(fmt.Errorf("the store holds %d entries, expected an empty one", root.Size), r.Close())
	}
	return errors.Join(createRegister(ctx, r, register.Record{Origin: c.Origin, Root: root.Hash}), r.Close())
}

// createRegister makes the first record of a shard, unless it is there. Another
// record is of another shard, or of this one with entries.
func createRegister(ctx context.Context, r register.Register, first register.Record) error {
	err := r.Create(ctx, first)
	if !errors.Is(err, register.ErrExists) {
		return err
	}
	known, err := r.Read(ctx)
	if err != nil {
		return err
	}
	if known != first {
		return fmt.Errorf("the register is in use: it is of %s, at %d entries", known.Origin, known.Size)
	}
	return nil
}

// localFolder returns the folder that a place on this machine names.
func localFolder(place string) (string, bool) {
	for _, scheme := range []string{"file:", "pebble:"} {
		if path, ok := strings.CutPrefix(place, scheme); ok {
			return path, true
		}
	}
	return "", false
}

func createTree(ctx context.Context, c config.Shard) (tlog.Log, error) {
	return backend.Create(ctx, c.Store, backend.Config{Origin: c.Origin})
}

// openTree opens the store of a shard. tlog.ErrNotFound says that it holds no
// log of this origin.
func openTree(ctx context.Context, c config.Shard, now func() time.Time, logger *slog.Logger) (tlog.Log, error) {
	return backend.Open(ctx, c.Store, backend.Config{Origin: c.Origin, Now: now, Logger: logger})
}

// openRegister opens the register of a shard; one in a file is locked for as long
// as it is open.
func openRegister(ctx context.Context, c config.Shard) (register.Backend, error) {
	if path, ok := localFolder(c.Register); ok {
		if err := makeFolder(filepath.Dir(path)); err != nil {
			return nil, err
		}
	}
	return register.Open(ctx, c.Register)
}
