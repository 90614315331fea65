package postgresstore

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// pruning deletes old roots beside the writing of new ones.
type pruning struct {
	written atomic.Int64 // roots since the store was opened
	busy    atomic.Bool
	wg      sync.WaitGroup
}

func (p *pruning) wait() { p.wg.Wait() }

// pruneSometimes deletes old roots after each KeepHeads new ones.
func (s *Store) pruneSometimes(ctx context.Context, treeID int64) {
	if s.pruning.written.Add(1)%int64(s.opts.KeepHeads) != 0 || s.pruning.busy.Swap(true) {
		return
	}
	ctx = context.WithoutCancel(ctx) // the caller does not wait for it
	s.pruning.wg.Go(func() {
		defer s.pruning.busy.Store(false)
		if err := s.PruneHeads(ctx, treeID); err != nil {
			s.log.Warn("deleting old roots failed", "tree_id", treeID, "error", err)
		}
	})
}

// PruneHeads deletes all roots of a tree but the newest KeepHeads ones.
func (s *Store) PruneHeads(ctx context.Context, treeID int64) error {
	return s.write(ctx, "deleting old roots", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM TreeHead WHERE TreeId = $1 AND TreeHeadTimestamp < (
			SELECT min(TreeHeadTimestamp) FROM (
				SELECT TreeHeadTimestamp FROM TreeHead WHERE TreeId = $1 ORDER BY TreeHeadTimestamp DESC LIMIT $2
			) AS newest)`, treeID, s.opts.KeepHeads)
		return err
	})
}
