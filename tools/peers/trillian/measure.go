package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/types"
	"google.golang.org/grpc/codes"

	"github.com/trialog/trialog/tools/peers/load"
)

// queue measures QueueLeaf, which answers when the leaf is queued durably; it is
// integrated later.
func queue(ctx context.Context, s *stock, o options) error {
	tree, err := s.tree(ctx, trillian.TreeType_LOG)
	if err != nil {
		return err
	}
	report, err := load.Run(ctx, load.Plan{Clients: o.clients, Warm: o.warm, Window: o.window},
		func(ctx context.Context, _ int) error {
			value := make([]byte, o.bytes)
			if _, err := rand.Read(value); err != nil {
				return err
			}
			_, err := s.log.QueueLeaf(ctx, &trillian.QueueLeafRequest{
				LogId: tree.TreeId, Leaf: &trillian.LogLeaf{LeafValue: value},
			})
			return err
		})
	if err != nil {
		return err
	}
	report.Notes = []string{fmt.Sprintf("trillian v1.8.0 on PostgreSQL, QueueLeaf, %d clients, unary over a connection in memory", o.clients)}
	return report.Print(os.Stdout)
}

// proofs measures GetInclusionProof for random leaves.
func proofs(ctx context.Context, s *stock, o options) error {
	tree, err := s.tree(ctx, trillian.TreeType_PREORDERED_LOG)
	if err != nil {
		return err
	}
	size, err := fill(ctx, s, tree.TreeId, o)
	if err != nil {
		return err
	}
	report, err := load.Run(ctx, load.Plan{Clients: o.clients, Warm: o.warm, Window: o.window},
		func(ctx context.Context, _ int) error {
			_, err := s.log.GetInclusionProof(ctx, &trillian.GetInclusionProofRequest{
				LogId: tree.TreeId, LeafIndex: mathrand.Int64N(size), TreeSize: size,
			})
			return err
		})
	if err != nil {
		return err
	}
	report.Notes = []string{fmt.Sprintf("trillian v1.8.0 on PostgreSQL, GetInclusionProof, %d leaves, %d clients, unary over TCP", size, o.clients)}
	return report.Print(os.Stdout)
}

// fill brings the tree to the wanted size and returns it.
func fill(ctx context.Context, s *stock, id int64, o options) (int64, error) {
	next, err := s.size(ctx, id)
	if err != nil {
		return 0, err
	}
	const batch = 1000
	for next < o.leaves {
		req := &trillian.AddSequencedLeavesRequest{LogId: id}
		for ; next < o.leaves && len(req.Leaves) < batch; next++ {
			value := make([]byte, o.bytes)
			binary.BigEndian.PutUint64(value, uint64(next))
			if _, err := rand.Read(value[8:]); err != nil {
				return 0, err
			}
			req.Leaves = append(req.Leaves, &trillian.LogLeaf{LeafValue: value, LeafIndex: next})
		}
		resp, err := s.log.AddSequencedLeaves(ctx, req)
		if err != nil {
			return 0, err
		}
		for _, r := range resp.Results {
			if r.GetStatus().GetCode() != int32(codes.OK) {
				return 0, fmt.Errorf("add leaf %d: %s", r.GetLeaf().GetLeafIndex(), r.GetStatus().GetMessage())
			}
		}
	}
	for {
		size, err := s.size(ctx, id)
		if err != nil || size >= o.leaves {
			return size, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// size returns the size of the newest root.
func (s *stock) size(ctx context.Context, id int64) (int64, error) {
	resp, err := s.log.GetLatestSignedLogRoot(ctx, &trillian.GetLatestSignedLogRootRequest{LogId: id})
	if err != nil {
		return 0, err
	}
	var root types.LogRootV1
	if err := root.UnmarshalBinary(resp.SignedLogRoot.LogRoot); err != nil {
		return 0, err
	}
	return int64(root.TreeSize), nil
}
