package trillian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trialog/trialog/services/internal/tlog"
)

// Append implements tlog.Log.
func (l *Log) Append(ctx context.Context, first uint64, leaves []tlog.Leaf) error {
	if err := tlog.CheckAppend(first, leaves); err != nil {
		return fmt.Errorf("appending leaves: %w", err)
	}
	if err := l.enter(ctx); err != nil {
		return fmt.Errorf("appending leaves: %w", err)
	}
	defer l.exit()
	if err := l.mayWrite(ctx); err != nil {
		return fmt.Errorf("appending leaves: %w", err)
	}
	if len(leaves) == 0 {
		return nil
	}
	all := toTrillian(first, leaves)
	l.appending.Lock()
	defer l.appending.Unlock()
	if err := l.add(ctx, all); err != nil {
		return fmt.Errorf("appending %d leaves at index %d: %w", len(leaves), first, err)
	}
	l.pending.remember(l.head.Load().Size, all)
	return nil
}

func toTrillian(first uint64, leaves []tlog.Leaf) []*trillian.LogLeaf {
	structs := make([]trillian.LogLeaf, len(leaves)) // one allocation
	out := make([]*trillian.LogLeaf, len(leaves))
	for i := range leaves {
		hash := leaves[i].Hash()
		out[i] = &structs[i]
		out[i].LeafIdentityHash = leaves[i].Identity[:]
		out[i].MerkleLeafHash = hash[:]
		out[i].LeafValue = leaves[i].Value
		out[i].LeafIndex = int64(first + uint64(i))
	}
	return out
}

// add stores leaves, all or none. Those that are stored already, as they are,
// are left out on a second try, because some storages refuse them.
func (l *Log) add(ctx context.Context, leaves []*trillian.LogLeaf) error {
	left, err := l.tryAdd(ctx, leaves)
	if err != nil || len(left) == 0 {
		return err
	}
	if left, err = l.tryAdd(ctx, left); err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("%w: the storage refuses leaves without a reason", tlog.ErrUnknownOutcome)
	}
	return nil
}

// tryAdd returns the leaves that still have to be stored: none, or, if the
// storage refused leaves that it holds already, the others.
func (l *Log) tryAdd(ctx context.Context, leaves []*trillian.LogLeaf) ([]*trillian.LogLeaf, error) {
	res, err := l.storage.AddSequencedLeavesAtomic(l.context(ctx), l.tree, leaves, l.now())
	if err != nil {
		return nil, outcome(err)
	}
	if len(res) != len(leaves) {
		return nil, fmt.Errorf("%w: the storage answered for %d of %d leaves", tlog.ErrUnknownOutcome, len(res), len(leaves))
	}
	var doubtful, fine []*trillian.LogLeaf
	refused := false
	for i, r := range res {
		switch codes.Code(r.GetStatus().GetCode()) {
		case codes.OK:
			fine = append(fine, leaves[i])
			continue
		case codes.AlreadyExists:
		default:
			refused = true
		}
		doubtful = append(doubtful, leaves[i])
	}
	if len(doubtful) == 0 {
		return nil, nil
	}
	// What the storage says about them is not relied on: it may refuse our own
	// leaves, for example those of an append whose answer was lost.
	if err := l.checkHeld(ctx, doubtful); err != nil {
		return nil, err
	}
	if refused {
		return fine, nil
	}
	return nil, nil
}

// checkHeld returns nil if every leaf is stored as it is at its index, and
// otherwise a *tlog.ConflictError. Leaves are in the order of their indexes.
func (l *Log) checkHeld(ctx context.Context, leaves []*trillian.LogLeaf) error {
	tx, err := l.storage.SnapshotForTree(l.context(ctx), l.tree)
	if tx != nil {
		defer l.closeTX(tx)
	}
	if err != nil {
		return fmt.Errorf("reading stored leaves: %w", err)
	}
	var run []*trillian.LogLeaf // what was read ahead
	for i, want := range leaves {
		if len(run) == 0 || run[0].LeafIndex != want.LeafIndex {
			n := leaves[len(leaves)-1].LeafIndex - want.LeafIndex + 1
			if run, err = tx.GetLeavesByRange(ctx, want.LeafIndex, n); err != nil {
				return fmt.Errorf("reading stored leaves: %w", err)
			}
		}
		if len(run) == 0 || run[0].LeafIndex != want.LeafIndex {
			return l.whyRefused(ctx, want)
		}
		if !sameLeaf(run[0], want) {
			return l.conflict(ctx, leaves[i])
		}
		run = run[1:]
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("reading stored leaves: %w", err)
	}
	return nil
}

func sameLeaf(a, b *trillian.LogLeaf) bool {
	return bytes.Equal(a.LeafIdentityHash, b.LeafIdentityHash) &&
		bytes.Equal(a.LeafValue, b.LeafValue) && bytes.Equal(a.MerkleLeafHash, b.MerkleLeafHash)
}

// whyRefused is for a leaf whose index is free: its identity must be elsewhere.
func (l *Log) whyRefused(ctx context.Context, leaf *trillian.LogLeaf) error {
	at, found, err := l.storage.FindIndex(l.context(ctx), l.tree, leaf.LeafIdentityHash)
	if err != nil {
		return fmt.Errorf("looking up an identity: %w", err)
	}
	if !found || at < 0 || at == leaf.LeafIndex {
		return fmt.Errorf("%w: leaf %d is refused, but neither it nor its identity is stored", tlog.ErrCorrupt, leaf.LeafIndex)
	}
	return &tlog.ConflictError{
		Index: uint64(leaf.LeafIndex), Identity: [32]byte(leaf.LeafIdentityHash),
		IdentityHeld: true, HeldAt: uint64(at),
	}
}

// conflict is for a leaf whose index another one holds.
func (l *Log) conflict(ctx context.Context, leaf *trillian.LogLeaf) error {
	c := &tlog.ConflictError{Index: uint64(leaf.LeafIndex), Identity: [32]byte(leaf.LeafIdentityHash)}
	at, found, err := l.storage.FindIndex(l.context(ctx), l.tree, leaf.LeafIdentityHash)
	if err != nil {
		return fmt.Errorf("looking up an identity: %w", err)
	}
	if found && at >= 0 && at != leaf.LeafIndex {
		c.IdentityHeld, c.HeldAt = true, uint64(at)
	}
	return c
}

// outcome adds ErrUnknownOutcome to an error of a write unless it is clear that
// the write did not take place.
func outcome(err error) error {
	for _, known := range []error{
		tlog.ErrUnknownOutcome, tlog.ErrFailed, tlog.ErrCorrupt, tlog.ErrClosed, tlog.ErrOwned, tlog.ErrUnavailable,
		tlog.ErrUnsafe, tlog.ErrInvalid, storage.ErrTreeNeedsInit,
	} {
		if errors.Is(err, known) {
			return err
		}
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.NotFound, codes.PermissionDenied:
		return err
	default:
		return fmt.Errorf("%w: %w", tlog.ErrUnknownOutcome, err)
	}
}

// pending holds the hashes of leaves that were appended and not integrated, so
// that an integration is checked against what the caller gave, not against what
// the storage says it was given.
type pending struct {
	mu     sync.Mutex
	hashes map[uint64][32]byte
}

// maxPending bounds the memory; leaves beyond it are read back instead.
const maxPending = 1 << 17

func newPending() pending { return pending{hashes: map[uint64][32]byte{}} }

func (p *pending) remember(size uint64, leaves []*trillian.LogLeaf) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, leaf := range leaves {
		if index := uint64(leaf.LeafIndex); index >= size && len(p.hashes) < maxPending {
			p.hashes[index] = [32]byte(leaf.MerkleLeafHash)
		}
	}
}

// run returns the hashes of the known leaves from first on, without a gap and at
// most n.
func (p *pending) run(first, n uint64) [][32]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out [][32]byte
	for i := first; i < first+n; i++ {
		h, ok := p.hashes[i]
		if !ok {
			break
		}
		out = append(out, h)
	}
	return out
}

// forget drops what is below size.
func (p *pending) forget(size uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for index := range p.hashes {
		if index < size {
			delete(p.hashes, index)
		}
	}
}
