package postgresstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/trillian"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trialog/trialog/services/internal/tlog"
)

// maxRange bounds what one call reads, whatever count it is given.
const maxRange = 1 << 16

// GetLeavesByRange returns leaves from start on, at most count, without a gap.
// A gap below the tree's size is an error; beyond it, it ends the answer.
func (t *logTX) GetLeavesByRange(ctx context.Context, start, count int64) ([]*trillian.LogLeaf, error) {
	if count <= 0 {
		return nil, status.Errorf(codes.InvalidArgument, "invalid count %d, want > 0", count)
	}
	if start < 0 {
		return nil, status.Errorf(codes.InvalidArgument, "invalid start %d, want >= 0", start)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.leaves(ctx, start, min(count, maxRange))
}

// leaves reads whole leaves. One whose data is missing counts as a gap.
func (t *logTX) leaves(ctx context.Context, start, count int64) ([]*trillian.LogLeaf, error) {
	return t.run(ctx, start, count, `SELECT s.SequenceNumber, s.LeafIdentityHash, s.MerkleLeafHash,
			s.IntegrateTimestampNanos, l.LeafValue, l.ExtraData, l.QueueTimestampNanos
		FROM SequencedLeafData s
		JOIN LeafData l ON l.TreeId = s.TreeId AND l.LeafIdentityHash = s.LeafIdentityHash
		WHERE s.TreeId = $1 AND s.SequenceNumber >= $2 AND s.SequenceNumber < $3
		ORDER BY s.SequenceNumber`, func(rows pgx.Rows) (*trillian.LogLeaf, error) {
		l := &trillian.LogLeaf{}
		var integrated, queued int64
		err := rows.Scan(&l.LeafIndex, &l.LeafIdentityHash, &l.MerkleLeafHash, &integrated, &l.LeafValue, &l.ExtraData, &queued)
		l.IntegrateTimestamp = timestamppb.New(time.Unix(0, integrated))
		l.QueueTimestamp = timestamppb.New(time.Unix(0, queued))
		return l, err
	})
}

// hashes reads leaves without their values.
func (t *logTX) hashes(ctx context.Context, start, count int64) ([]*trillian.LogLeaf, error) {
	return t.run(ctx, start, count, `SELECT SequenceNumber, LeafIdentityHash, MerkleLeafHash FROM SequencedLeafData
		WHERE TreeId = $1 AND SequenceNumber >= $2 AND SequenceNumber < $3
		ORDER BY SequenceNumber`, func(rows pgx.Rows) (*trillian.LogLeaf, error) {
		l := &trillian.LogLeaf{}
		return l, rows.Scan(&l.LeafIndex, &l.LeafIdentityHash, &l.MerkleLeafHash)
	})
}

// run reads leaves with consecutive indexes from start on.
func (t *logTX) run(
	ctx context.Context, start, count int64, query string, scan func(pgx.Rows) (*trillian.LogLeaf, error),
) ([]*trillian.LogLeaf, error) {
	var out []*trillian.LogLeaf
	err := t.limit(ctx, "reading leaves", func(ctx context.Context) (err error) {
		out, err = t.runOnce(ctx, start, count, query, scan)
		return err
	})
	return out, err
}

func (t *logTX) runOnce(
	ctx context.Context, start, count int64, query string, scan func(pgx.Rows) (*trillian.LogLeaf, error),
) ([]*trillian.LogLeaf, error) {
	const doing = "reading leaves"
	end := start + min(count, tlog.MaxSize-start)
	rows, err := t.tx.Query(ctx, query, t.treeID, start, end)
	if err != nil {
		return nil, t.note(doing, err)
	}
	defer rows.Close()
	out := make([]*trillian.LogLeaf, 0, min(count, 4096))
	want := start
	for rows.Next() {
		leaf, err := scan(rows)
		if err != nil {
			return nil, t.note(doing, err)
		}
		if leaf.LeafIndex != want {
			break
		}
		out = append(out, leaf)
		want++
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return nil, t.note(doing, err)
	}
	if size := int64(t.root.TreeSize); want < size && want < end {
		return nil, t.note(doing, fmt.Errorf("%w: leaf %d is missing from a tree of size %d", tlog.ErrCorrupt, want, size))
	}
	return out, nil
}
