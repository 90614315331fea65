package trillian

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/types"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trialog/trialog/services/internal/tlog"
)

func createTree(ctx context.Context, cfg Config) (*trillian.Tree, error) {
	tree, err := storage.CreateTree(ctx, cfg.Admin, &trillian.Tree{
		TreeState:   trillian.TreeState_ACTIVE,
		TreeType:    trillian.TreeType_PREORDERED_LOG,
		DisplayName: treeName,
		Description: cfg.Origin,
		// No new root without new leaves: a stale writer has nothing to write then.
		MaxRootDuration: durationpb.New(0),
	})
	if err != nil {
		return nil, fmt.Errorf("creating the tree: %w", err)
	}
	cfg.Logger.Info("created a log tree", "origin", cfg.Origin, "tree_id", tree.TreeId)
	return tree, nil
}

// initTree gives a tree without a root that of the empty log. A crash between
// createTree and initTree leaves such a tree behind; so does a lost root row,
// and therefore it takes Create to go on.
func initTree(ctx context.Context, cfg Config, tree *trillian.Tree, clock *rootClock) error {
	err := cfg.Storage.ReadWriteTransaction(ctx, tree, func(ctx context.Context, tx storage.LogTreeTX) error {
		slr, err := tx.LatestSignedLogRoot(ctx)
		if err == nil && len(slr.GetLogRoot()) > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, storage.ErrTreeNeedsInit) {
			return err
		}
		if !cfg.Create {
			return fmt.Errorf("%w: tree %d has no root", tlog.ErrNotFound, tree.TreeId)
		}
		empty := tlog.EmptyRoot()
		root, err := (&types.LogRootV1{
			RootHash:       empty.Hash[:],
			TimestampNanos: uint64(clock.Now().UnixNano()),
		}).MarshalBinary()
		if err != nil {
			return fmt.Errorf("encoding the empty root: %w", err)
		}
		return tx.StoreSignedLogRoot(ctx, &trillian.SignedLogRoot{LogRoot: root})
	})
	if err != nil {
		return fmt.Errorf("initialising the tree: %w", err)
	}
	return nil
}

// latestRoot reads the root that a transaction sees and its time in Unix
// nanoseconds.
func latestRoot(ctx context.Context, tx storage.ReadOnlyLogTreeTX) (root tlog.Root, nanos int64, err error) {
	slr, err := tx.LatestSignedLogRoot(ctx)
	if err != nil {
		return tlog.Root{}, 0, fmt.Errorf("reading the root: %w", err)
	}
	var v1 types.LogRootV1
	if err := v1.UnmarshalBinary(slr.GetLogRoot()); err != nil {
		return tlog.Root{}, 0, fmt.Errorf("%w: reading the root: %w", tlog.ErrCorrupt, err)
	}
	if len(v1.RootHash) != 32 || v1.TreeSize > tlog.MaxSize || v1.TimestampNanos >= math.MaxInt64 {
		return tlog.Root{}, 0, fmt.Errorf("%w: root of size %d, time %d and a hash of %d bytes",
			tlog.ErrCorrupt, v1.TreeSize, v1.TimestampNanos, len(v1.RootHash))
	}
	return tlog.Root{Size: v1.TreeSize, Hash: [32]byte(v1.RootHash)}, int64(v1.TimestampNanos), nil
}
