package trillian_test

import (
	"context"
	"sync"
	"time"

	"github.com/google/trillian"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adapter "github.com/trialog/trialog/services/internal/tlog/trillian"
)

// steppingClock moves by step each time it is read.
func steppingClock(start time.Time, step time.Duration) func() time.Time {
	var mu sync.Mutex
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		start = start.Add(step)
		return start
	}
}

// pickyStorage answers as Trillian's SQL storages do: a leaf that is stored
// already is a conflict, also if it is the same, and is not returned.
type pickyStorage struct{ adapter.Storage }

func (p pickyStorage) AddSequencedLeavesAtomic(ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, at time.Time) ([]*trillian.QueuedLogLeaf, error) {
	tx, err := p.SnapshotForTree(ctx, tree)
	if err != nil {
		return nil, err
	}
	defer tx.Close()
	res := make([]*trillian.QueuedLogLeaf, len(leaves))
	refused := false
	for i, l := range leaves {
		res[i] = &trillian.QueuedLogLeaf{}
		held, err := tx.GetLeavesByRange(ctx, l.LeafIndex, 1)
		if err != nil {
			return nil, err
		}
		_, known, err := p.FindIndex(ctx, tree, l.LeafIdentityHash)
		if err != nil {
			return nil, err
		}
		if len(held) > 0 || known {
			refused = true
			res[i].Status = status.New(codes.FailedPrecondition, "conflicting LeafIdentityHash").Proto()
		}
	}
	if refused {
		return res, nil
	}
	return p.Storage.AddSequencedLeavesAtomic(ctx, tree, leaves, at)
}
