package postgresstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/cache"
	"github.com/google/trillian/storage/storagepb"
	"github.com/google/trillian/storage/tree"
	"github.com/google/trillian/types"
	"github.com/jackc/pgx/v5"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/trialog/trialog/services/internal/tlog"
)

// logTX is a transaction on one PREORDERED_LOG tree: a snapshot, and for tree
// nodes its own writes.
type logTX struct {
	s      *Store
	tx     pgx.Tx
	treeID int64
	write  bool

	mu     sync.Mutex
	ended  bool
	root   types.LogRootV1
	slr    *trillian.SignedLogRoot // nil if the tree needs initialising
	cache  *cache.SubtreeCache
	failed error // the first error of the database, which Trillian would reword
}

// SnapshotForTree starts a read-only transaction. With ErrTreeNeedsInit it
// returns one too, which must be closed.
func (s *Store) SnapshotForTree(ctx context.Context, tr *trillian.Tree) (storage.ReadOnlyLogTreeTX, error) {
	if tr.TreeType != trillian.TreeType_PREORDERED_LOG {
		return s.provider.SnapshotForTree(ctx, tr)
	}
	const doing = "reading the root"
	var t *logTX
	err := retry(ctx, s.opts.Patience, doing, func(ctx context.Context) error {
		tx, err := s.beginRead(ctx, doing)
		if err != nil {
			return err
		}
		t = s.newTX(tx, tr, false)
		if err := t.readRoot(ctx); err != nil {
			s.rollback(ctx, tx)
			return classify(doing, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = t.needsInit()
	return t, err
}

// ReadWriteTransaction runs f in a transaction and commits if it returns nil. f
// may run more than once.
func (s *Store) ReadWriteTransaction(ctx context.Context, tr *trillian.Tree, f storage.LogTXFunc) error {
	if tr.TreeType != trillian.TreeType_PREORDERED_LOG {
		return s.provider.ReadWriteTransaction(ctx, tr, f)
	}
	err := s.write(ctx, "writing the tree", func(ctx context.Context, tx pgx.Tx) error {
		t := s.newTX(tx, tr, true)
		if err := t.readRoot(ctx); err != nil {
			return err
		}
		if err := f(ctx, t); err != nil {
			if t.failed != nil {
				return t.failed
			}
			return &callerError{err}
		}
		return t.flush(ctx)
	})
	if own, ok := errors.AsType[*callerError](err); ok {
		return own.err
	}
	if err == nil {
		s.pruneSometimes(ctx, tr.TreeId)
	}
	return err
}

// callerError keeps an error of the caller's function from being taken for one
// of the database's.
type callerError struct{ err error }

// Error implements error.
func (e *callerError) Error() string { return e.err.Error() }

func (s *Store) newTX(tx pgx.Tx, tr *trillian.Tree, write bool) *logTX {
	return &logTX{s: s, tx: tx, treeID: tr.TreeId, write: write, cache: cache.NewLogSubtreeCache(rfc6962.DefaultHasher)}
}

func (t *logTX) readRoot(ctx context.Context) error {
	var nanos, size int64
	var hash []byte
	err := t.tx.QueryRow(ctx, `SELECT TreeHeadTimestamp, TreeSize, RootHash FROM TreeHead
		WHERE TreeId = $1 ORDER BY TreeHeadTimestamp DESC LIMIT 1`, t.treeID).Scan(&nanos, &size, &hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if nanos < 0 || size < 0 {
		return fmt.Errorf("%w: root of size %d and time %d", tlog.ErrCorrupt, size, nanos)
	}
	t.root = types.LogRootV1{TreeSize: uint64(size), TimestampNanos: uint64(nanos), RootHash: hash}
	raw, err := t.root.MarshalBinary()
	if err != nil {
		return fmt.Errorf("%w: root of size %d: %w", tlog.ErrCorrupt, size, err)
	}
	t.slr = &trillian.SignedLogRoot{LogRoot: raw}
	return nil
}

func (t *logTX) needsInit() error {
	if t.slr == nil {
		return storage.ErrTreeNeedsInit
	}
	return nil
}

// limit calls f with a deadline in a snapshot, which outlives the attempt that
// began it; a transaction that writes is within one.
func (t *logTX) limit(ctx context.Context, doing string, f func(context.Context) error) error {
	if t.write {
		return f(ctx)
	}
	return attempt(ctx, t.s.opts.Patience, doing, f)
}

// note remembers the first error of the database and classifies it.
func (t *logTX) note(doing string, err error) error {
	err = classify(doing, err)
	if err != nil && t.failed == nil {
		t.failed = err
	}
	return err
}

// LatestSignedLogRoot returns the root as the transaction saw it at its start.
func (t *logTX) LatestSignedLogRoot(context.Context) (*trillian.SignedLogRoot, error) {
	return t.slr, t.needsInit()
}

// GetMerkleNodes returns those of the nodes that are there.
func (t *logTX) GetMerkleNodes(ctx context.Context, ids []compact.NodeID) ([]tree.Node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var nodes []tree.Node
	err := t.limit(ctx, "reading tree nodes", func(ctx context.Context) (err error) {
		nodes, err = t.cache.GetNodes(ids, t.subtrees(ctx))
		return err
	})
	return nodes, err
}

// SetMerkleNodes changes nodes; they are written when the transaction ends.
func (t *logTX) SetMerkleNodes(ctx context.Context, nodes []tree.Node) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cache.SetNodes(nodes, t.subtrees(ctx))
}

func (t *logTX) subtrees(ctx context.Context) cache.GetSubtreesFunc {
	return func(ids [][]byte) ([]*storagepb.SubtreeProto, error) {
		if len(ids) == 0 {
			return nil, nil
		}
		rows, err := t.tx.Query(ctx, `SELECT Nodes FROM Subtree WHERE TreeId = $1 AND SubtreeId = ANY($2)`, t.treeID, ids)
		if err != nil {
			return nil, t.note("reading tree nodes", err)
		}
		var out []*storagepb.SubtreeProto
		var raw []byte
		_, err = pgx.ForEachRow(rows, []any{&raw}, func() error {
			p := &storagepb.SubtreeProto{}
			if err := proto.Unmarshal(raw, p); err != nil {
				return fmt.Errorf("%w: tree nodes: %w", tlog.ErrCorrupt, err)
			}
			if p.Prefix == nil {
				p.Prefix = []byte{} // that of the topmost tile, which protobuf leaves out
			}
			out = append(out, p)
			return nil
		})
		return out, t.note("reading tree nodes", err)
	}
}

// StoreSignedLogRoot adds a root, which must be newer than the last.
func (t *logTX) StoreSignedLogRoot(ctx context.Context, slr *trillian.SignedLogRoot) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var root types.LogRootV1
	if err := root.UnmarshalBinary(slr.GetLogRoot()); err != nil {
		return status.Errorf(codes.InvalidArgument, "log root: %v", err)
	}
	if len(root.Metadata) > 0 || root.TreeSize > tlog.MaxSize || root.TimestampNanos > tlog.MaxSize {
		return status.Error(codes.InvalidArgument, "log root has metadata, or a size or time that is too great")
	}
	if t.slr != nil && (root.TreeSize < t.root.TreeSize || root.TimestampNanos <= t.root.TimestampNanos) {
		return status.Errorf(codes.FailedPrecondition, "root of size %d and time %d after one of size %d and time %d",
			root.TreeSize, root.TimestampNanos, t.root.TreeSize, t.root.TimestampNanos)
	}
	if root.RootHash == nil {
		root.RootHash = []byte{} // nil would be NULL
	}
	_, err := t.tx.Exec(ctx, `INSERT INTO TreeHead (TreeId, TreeHeadTimestamp, TreeSize, RootHash, RootSignature)
		VALUES ($1, $2, $3, $4, '')`, t.treeID, int64(root.TimestampNanos), int64(root.TreeSize), root.RootHash)
	return t.note("storing the root", err)
}

// flush writes the changed tiles, in one order always, so that transactions
// cannot wait for each other in a circle.
func (t *logTX) flush(ctx context.Context) error {
	tiles, err := t.cache.UpdatedTiles()
	if err != nil {
		return fmt.Errorf("%w: tree nodes: %w", tlog.ErrCorrupt, err)
	}
	if len(tiles) == 0 {
		return nil
	}
	slices.SortFunc(tiles, func(a, b *storagepb.SubtreeProto) int { return bytes.Compare(a.Prefix, b.Prefix) })
	ids, nodes := make([][]byte, len(tiles)), make([][]byte, len(tiles))
	for i, p := range tiles {
		ids[i] = p.Prefix
		if nodes[i], err = proto.Marshal(p); err != nil {
			return fmt.Errorf("encoding tree nodes: %w", err)
		}
	}
	_, err = t.tx.Exec(ctx, `INSERT INTO Subtree (TreeId, SubtreeId, Nodes)
		SELECT $1, id, nodes FROM unnest($2::BYTEA[], $3::BYTEA[]) AS t (id, nodes)
		ON CONFLICT (TreeId, SubtreeId) DO UPDATE SET Nodes = EXCLUDED.Nodes`, t.treeID, ids, nodes)
	return t.note("storing tree nodes", err)
}

// Commit ends a snapshot. What was read in it counts if it returns nil.
func (t *logTX) Commit(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.write {
		return status.Error(codes.FailedPrecondition, "ReadWriteTransaction commits")
	}
	if t.ended {
		return status.Error(codes.FailedPrecondition, "the transaction has ended")
	}
	t.ended = true
	const doing = "ending a snapshot"
	return t.limit(ctx, doing, func(ctx context.Context) error { return classify(doing, t.tx.Commit(ctx)) })
}

// Close ends a snapshot.
func (t *logTX) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.write || t.ended {
		return nil
	}
	t.ended = true
	t.s.rollback(context.Background(), t.tx)
	return nil
}

// UpdateSequencedLeaves is for LOG trees.
func (t *logTX) UpdateSequencedLeaves(context.Context, []*trillian.LogLeaf) error {
	return status.Error(codes.Unimplemented, "leaves of a preordered log have their indexes already")
}

// GetLeavesByHash is not implemented: an index by Merkle hash would cost a random
// write for each leaf, and proofs are computed from published tiles.
func (t *logTX) GetLeavesByHash(context.Context, [][]byte, bool) ([]*trillian.LogLeaf, error) {
	return nil, status.Error(codes.Unimplemented, "leaves are not indexed by Merkle leaf hash")
}

// DequeueLeaves returns the leaves that follow the root.
func (t *logTX) DequeueLeaves(ctx context.Context, limit int, _ time.Time) ([]*trillian.LogLeaf, error) {
	if limit <= 0 || t.slr == nil {
		return nil, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.s.opts.WholeDequeue {
		return t.leaves(ctx, int64(t.root.TreeSize), int64(limit))
	}
	return t.hashes(ctx, int64(t.root.TreeSize), int64(limit))
}

var _ storage.LogTreeTX = (*logTX)(nil)
