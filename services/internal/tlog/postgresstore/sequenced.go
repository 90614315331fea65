package postgresstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/jackc/pgx/v5"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/trialog/trialog/services/internal/tlog"
)

const hashSize = 32

// AddSequencedLeaves stores leaves at their indexes: each has a status of its
// own, and those that are refused do not keep the others out.
func (s *Store) AddSequencedLeaves(
	ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, at time.Time,
) ([]*trillian.QueuedLogLeaf, error) {
	return s.add(ctx, tree, leaves, at, false)
}

// AddSequencedLeavesAtomic is AddSequencedLeaves, but stores nothing if any leaf
// is refused. A leaf that is stored already, as it is, is refused too.
func (s *Store) AddSequencedLeavesAtomic(
	ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, at time.Time,
) ([]*trillian.QueuedLogLeaf, error) {
	return s.add(ctx, tree, leaves, at, true)
}

// add looks for what is in the way only after the server refused: nearly always
// nothing is.
func (s *Store) add(
	ctx context.Context, tree *trillian.Tree, leaves []*trillian.LogLeaf, at time.Time, atomic bool,
) ([]*trillian.QueuedLogLeaf, error) {
	if len(leaves) == 0 {
		return nil, nil
	}
	if err := checkLeaves(leaves); err != nil {
		return nil, err
	}
	if err := s.needInitialised(ctx, tree); err != nil {
		return nil, err
	}
	refused := make([]string, len(leaves)) // why; empty if it is not
	markRepeated(leaves, refused)
	// Another writer may come in between the refusal and the look for its reason.
	const attempts = 4
	for range attempts {
		accepted := leaves
		if count(refused) > 0 {
			if atomic {
				return answer(leaves, refused), nil
			}
			accepted = nil
			for i, l := range leaves {
				if refused[i] == "" {
					accepted = append(accepted, l)
				}
			}
		}
		err := s.insert(ctx, tree.TreeId, accepted, at)
		if err == nil {
			return answer(leaves, refused), nil
		}
		if !isState(err, stateUnique) {
			return nil, err
		}
		if err := s.markHeld(ctx, tree.TreeId, leaves, refused); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("adding sequenced leaves: %w: other writers are in the way", tlog.ErrUnavailable)
}

func checkLeaves(leaves []*trillian.LogLeaf) error {
	for i, l := range leaves {
		if l.LeafIndex < 0 {
			return grpcstatus.Errorf(codes.InvalidArgument, "leaves[%d] has index %d, want >= 0", i, l.LeafIndex)
		}
		if n := len(l.LeafIdentityHash); n != hashSize {
			return grpcstatus.Errorf(codes.InvalidArgument, "leaves[%d] has an identity hash of %d bytes, want %d", i, n, hashSize)
		}
		if n := len(l.MerkleLeafHash); n != hashSize {
			return grpcstatus.Errorf(codes.InvalidArgument, "leaves[%d] has a Merkle leaf hash of %d bytes, want %d", i, n, hashSize)
		}
	}
	return nil
}

// needInitialised returns ErrTreeNeedsInit unless the tree has a root.
func (s *Store) needInitialised(ctx context.Context, tree *trillian.Tree) error {
	if _, ok := s.initialised.Load(tree.TreeId); ok {
		return nil
	}
	var there bool
	err := s.read(ctx, "reading the root", func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM TreeHead WHERE TreeId = $1)`, tree.TreeId).Scan(&there)
	})
	if err != nil {
		return err
	}
	if !there {
		return storage.ErrTreeNeedsInit
	}
	s.initialised.Store(tree.TreeId, true)
	return nil
}

const (
	heldIndex    = "conflicting LeafIndex"
	heldIdentity = "conflicting LeafIdentityHash"
)

// markRepeated refuses what is in the way of itself.
func markRepeated(leaves []*trillian.LogLeaf, refused []string) {
	indexes := make(map[int64]struct{}, len(leaves))
	identities := make(map[[hashSize]byte]struct{}, len(leaves))
	for i, l := range leaves {
		id := [hashSize]byte(l.LeafIdentityHash)
		if _, ok := indexes[l.LeafIndex]; ok {
			refused[i] = heldIndex
			continue
		}
		if _, ok := identities[id]; ok {
			refused[i] = heldIdentity
			continue
		}
		indexes[l.LeafIndex], identities[id] = struct{}{}, struct{}{}
	}
}

// markHeld refuses the leaves whose index or identity is stored.
func (s *Store) markHeld(ctx context.Context, treeID int64, leaves []*trillian.LogLeaf, refused []string) error {
	indexes, identities := make([]int64, len(leaves)), make([][]byte, len(leaves))
	for i, l := range leaves {
		indexes[i], identities[i] = l.LeafIndex, l.LeafIdentityHash
	}
	heldAt := map[int64]bool{}
	held := map[[hashSize]byte]bool{}
	err := s.read(ctx, "looking for stored leaves", func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT SequenceNumber FROM SequencedLeafData
			WHERE TreeId = $1 AND SequenceNumber = ANY($2)`, treeID, indexes)
		if err != nil {
			return err
		}
		var index int64
		if _, err := pgx.ForEachRow(rows, []any{&index}, func() error { heldAt[index] = true; return nil }); err != nil {
			return err
		}
		if rows, err = tx.Query(ctx, `SELECT LeafIdentityHash FROM LeafData
			WHERE TreeId = $1 AND LeafIdentityHash = ANY($2)`, treeID, identities); err != nil {
			return err
		}
		var id []byte
		_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
			if len(id) != hashSize {
				return fmt.Errorf("%w: identity of %d bytes", tlog.ErrCorrupt, len(id))
			}
			held[[hashSize]byte(id)] = true
			return nil
		})
		return err
	})
	if err != nil {
		return err
	}
	for i, l := range leaves {
		switch {
		case heldAt[l.LeafIndex]:
			refused[i] = heldIndex
		case held[[hashSize]byte(l.LeafIdentityHash)]:
			refused[i] = heldIdentity
		}
	}
	return nil
}

func count(refused []string) (n int) {
	for _, why := range refused {
		if why != "" {
			n++
		}
	}
	return n
}

func answer(leaves []*trillian.LogLeaf, refused []string) []*trillian.QueuedLogLeaf {
	res := make([]*trillian.QueuedLogLeaf, len(leaves))
	all := make([]trillian.QueuedLogLeaf, len(leaves)) // one allocation
	ok := &status.Status{Code: int32(codes.OK), Message: "OK"}
	for i := range leaves {
		res[i] = &all[i]
		res[i].Leaf, res[i].Status = leaves[i], ok
		if refused[i] != "" {
			res[i].Status = &status.Status{Code: int32(codes.FailedPrecondition), Message: refused[i]}
		}
	}
	return res
}

// insert stores leaves in one transaction. An index or identity that is held
// fails it with SQLSTATE 23505.
func (s *Store) insert(ctx context.Context, treeID int64, leaves []*trillian.LogLeaf, at time.Time) error {
	if len(leaves) == 0 {
		return nil
	}
	data, places := encodeLeaves(treeID, leaves, at.UnixNano())
	return s.write(ctx, "adding sequenced leaves", func(ctx context.Context, tx pgx.Tx) error {
		conn := tx.Conn().PgConn()
		n, err := conn.CopyFrom(ctx, bytes.NewReader(data), `COPY LeafData (TreeId, LeafIdentityHash, LeafValue, ExtraData,
			QueueTimestampNanos, SequenceNumber) FROM STDIN BINARY`)
		if err != nil {
			return err
		}
		m, err := conn.CopyFrom(ctx, bytes.NewReader(places), `COPY SequencedLeafData (TreeId, SequenceNumber, LeafIdentityHash,
			MerkleLeafHash, IntegrateTimestampNanos) FROM STDIN BINARY`)
		if err != nil {
			return err
		}
		if n.RowsAffected() != int64(len(leaves)) || m.RowsAffected() != int64(len(leaves)) {
			return errors.New("the server counts other rows than were sent")
		}
		return nil
	})
}
