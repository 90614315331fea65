package recovery

import (
	"context"
	"encoding/hex"
	"errors"
	"iter"
	"slices"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tile"
)

// evidence says that the log had a root at a size.
type evidence struct {
	what string
	size uint64
	root [32]byte
	kind kind
}

// kind is what evidence is worth, in rising order.
type kind int

const (
	held       kind = iota // the log's own tiles have it: promises may exist
	registered             // it may have been signed
	signed                 // by every key of the log
	cosigned               // by the policy's quorum
)

// look reads the register, the notes, and how far the tiles go.
func (r *recovery) look(ctx context.Context) error {
	if err := r.lookRegister(ctx); err != nil {
		return err
	}
	if err := r.lookPublished(ctx); err != nil {
		return err
	}
	if err := r.lookCandidate(ctx); err != nil {
		return err
	}
	if err := r.lookSource(ctx); err != nil {
		return err
	}
	return r.lookTiles(ctx)
}

func (r *recovery) lookRegister(ctx context.Context) error {
	got, err := r.c.Register.Read(ctx)
	switch {
	case errors.Is(err, register.ErrMissing) && r.c.RecreateRegister:
		r.report.RegisterMissing = true
		r.problemf("there is no register")
		return nil
	case errors.Is(err, register.ErrMissing):
		return refuse(RegisterMissing, "there is no register, and none was to be made")
	case errors.Is(err, register.ErrCorrupt):
		return refuse(Corrupt, "the register: %w; remove it if it is to be made anew", err)
	case err != nil:
		return err
	case got.Origin != r.c.Origin:
		return refuse(OtherLog, "the register is of origin %q", got.Origin)
	}
	r.registered, r.report.RegisterSize = &got, got.Size
	r.evidence = append(r.evidence, evidence{"the register", got.Size, got.Root, registered})
	return nil
}

// lookPublished reads the log's own published note.
func (r *recovery) lookPublished(ctx context.Context) error {
	raw, err := r.c.Tiles.Get(ctx, checkpointKey)
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	good, err := r.c.Policy.CheckNote(raw)
	switch {
	case err != nil && r.c.Source == nil:
		// It is not removed here: the policy may be the one that is wrong.
		return refuse(Corrupt, "object %s of the log's own tiles: %w", checkpointKey, err)
	case err != nil:
		r.problemf("object %s of the log's own tiles does not satisfy the policy: %v", checkpointKey, err)
		return nil
	case good.Origin != r.c.Origin:
		return refuse(OtherLog, "object %s of the log's own tiles is of origin %q", checkpointKey, good.Origin)
	}
	r.published, r.hasPublished = good.Size, true
	r.evidence = append(r.evidence, evidence{"the published checkpoint", good.Size, good.Root, cosigned})
	return nil
}

// lookCandidate reads the newest note that the log itself has signed. It may have
// reached a witness. What the log has not signed says nothing.
func (r *recovery) lookCandidate(ctx context.Context) error {
	raw, err := r.c.Tiles.Get(ctx, candidateKey)
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	c, ok := r.signedByLog(raw)
	if !ok {
		r.problemf("object %s of the log's own tiles is not signed by the log", candidateKey)
		return nil
	}
	r.evidence = append(r.evidence, evidence{"the checkpoint that the log has signed", c.Size, c.Root, signed})
	return nil
}

// signedByLog returns the checkpoint of a note that every key has signed which
// the policy requires.
func (r *recovery) signedByLog(raw []byte) (checkpoint.Checkpoint, bool) {
	n, err := checkpoint.Parse(raw)
	if err != nil || n.Checkpoint().Origin != r.c.Origin {
		return checkpoint.Checkpoint{}, false
	}
	keys := 0
	for _, k := range r.c.Policy.Trust().RequiredLogKeys {
		if k.Name() != r.c.Origin {
			continue
		}
		keys++
		ok := false
		for _, sig := range n.Signatures() {
			_, err := k.VerifyCheckpoint(n, sig)
			ok = ok || err == nil
		}
		if !ok {
			return checkpoint.Checkpoint{}, false
		}
	}
	return n.Checkpoint(), keys > 0
}

// lookSource reads the source's checkpoint, which must be cosigned, and the right
// edge of its tiles.
func (r *recovery) lookSource(ctx context.Context) error {
	if r.c.Source == nil {
		return nil
	}
	raw, err := r.c.Source.Get(ctx, checkpointKey)
	if errors.Is(err, blob.ErrNotFound) {
		return refuse(Incomplete, "the source has no checkpoint")
	} else if err != nil {
		return err
	}
	good, err := r.c.Policy.CheckNote(raw)
	if err != nil {
		return refuse(Corrupt, "object %s of the source: %w", checkpointKey, err)
	}
	if good.Origin != r.c.Origin {
		return refuse(OtherLog, "object %s of the source is of origin %q", checkpointKey, good.Origin)
	}
	r.offered, r.offeredSize, r.report.SourceSize = raw, good.Size, good.Size
	e := evidence{"the source's checkpoint", good.Size, good.Root, cosigned}
	r.evidence = append(r.evidence, e)
	r.other, err = openPlace(ctx, "the source", r.c.Source.At(good.Size), e)
	if errors.Is(err, tile.ErrCorrupt) {
		return refuse(Corrupt, "the source: %w", err)
	}
	return err
}

// lookTiles finds out how far the log's own tiles go. Without a head that
// verifies, what is signed may still be found in them.
func (r *recovery) lookTiles(ctx context.Context) error {
	w, err := tile.OpenWriter(ctx, readOnly{r.c.Tiles})
	if err == nil {
		r.report.TilesSize = w.Size()
		if w.Size() == 0 {
			return nil
		}
		e := evidence{"the head of the log's own tiles", w.Size(), w.Root(), held}
		r.evidence = append(r.evidence, e)
		r.own, err = openPlace(ctx, "the log's own tiles", r.c.Tiles, e)
		return err
	}
	if !errors.Is(err, tile.ErrCorrupt) {
		return err
	}
	r.ownDamaged(err)
	return r.lookDamaged(ctx)
}

// lookDamaged finds the greatest tree that damaged tiles still hold the right edge
// of. How far promises may go is known from the head even if what was promised
// has to come from elsewhere.
func (r *recovery) lookDamaged(ctx context.Context) error {
	raw, err := r.c.Tiles.Get(ctx, tile.HeadKey)
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	known := r.evidence
	if h, err := tile.ParseHead(raw); err == nil {
		r.report.TilesSize, r.promised = h.Size, h.Size
		// Its root counts only if the tiles bear it out.
		known = append(slices.Clone(known), evidence{"the head of the log's own tiles", h.Size, h.Root, held})
	} else {
		r.problemf("object %s of the log's own tiles cannot be read: "+
			"what was promised behind the newest signed checkpoint may be lost", tile.HeadKey)
	}
	for _, e := range known {
		if e.size == 0 || r.own != nil && e.size <= r.own.size {
			continue
		}
		p, err := openPlace(ctx, "the log's own tiles", r.c.Tiles, e)
		switch {
		case err == nil:
			r.own = p
			if e.kind == held {
				r.evidence = append(r.evidence, e)
			}
		case !errors.Is(err, tile.ErrCorrupt):
			return err
		}
	}
	return nil
}

// place is a copy of the tiles, as far as they verify against a root.
type place struct {
	name string
	size uint64
	root [32]byte
	tree *tile.Tree
}

// openPlace checks the right edge of the tiles.
func openPlace(ctx context.Context, name string, store blob.Store, e evidence) (*place, error) {
	tree, err := tile.NewReader(store).Tree(ctx, e.size, e.root)
	if err != nil {
		return nil, err
	}
	return &place{name: name, size: e.size, root: e.root, tree: tree}, nil
}

// readOnly is a store whose writes do nothing, so that looking changes nothing.
type readOnly struct{ blob.Store }

// Put implements blob.Store.
func (readOnly) Put(context.Context, ...blob.Object) error { return nil }

// Delete implements blob.Store.
func (readOnly) Delete(context.Context, ...string) error { return nil }

// List implements blob.Store.
func (s readOnly) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return s.Store.List(ctx, prefix)
}

func hexRoot(root [32]byte) string { return hex.EncodeToString(root[:]) }
