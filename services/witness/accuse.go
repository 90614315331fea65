package witness

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"go.etcd.io/bbolt"
)

// hold keeps evidence and the decision that nothing of the log is cosigned any
// more, and returns a *holdError.
func (l *look) hold(ctx context.Context, kind EvidenceKind, a, b *shown, proof [][]byte, reason string) error {
	if err := l.accuse(ctx, kind, a, b, proof, reason); err != nil {
		return err
	}
	return &holdError{reason}
}

// accuse writes two checkpoints that contradict each other into the journal, and
// with a reason also that nothing of the log is cosigned any more.
func (l *look) accuse(ctx context.Context, kind EvidenceKind, a, b *shown, proof [][]byte, reason string) error {
	e := &Evidence{Kind: kind, Seen: l.w.now().Unix(), Old: a.Size, Proof: proof, Refused: b.note.Bytes(), Recorded: a.note.Bytes()}
	l.w.log.ErrorContext(ctx, "checkpoints contradict each other", "origin", l.f.origin, "kind", kind, "size", a.Size, "other_size", b.Size)
	err := l.w.state.Update(func(tx *bbolt.Tx) (bool, error) {
		wrote, err := journal(tx, b.Checkpoint, e)
		if err != nil || reason == "" {
			return wrote, err
		}
		if err := tx.Bucket([]byte(heldBucket)).Put([]byte(l.f.origin), []byte(reason)); err != nil {
			return false, fmt.Errorf("writing what is held: %w", err)
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("keeping evidence about %q: %w", l.f.origin, err)
	}
	return nil
}

// inconsistent keeps the evidence that the tree of larger, as it grew, does not
// begin with smaller's. With a reason nothing of the log is cosigned any more.
func (l *look) inconsistent(ctx context.Context, g *growth, smaller, larger *shown, reason string) error {
	var hashes [][]byte
	// A proof from a whole subtree leaves its root out, as the verifier has it.
	// Here what the larger tree has in its place is the point.
	if bits.OnesCount64(smaller.Size) == 1 {
		hashes = append(hashes, g.root[:])
	}
	for _, h := range g.proof {
		hashes = append(hashes, h[:])
	}
	if reason != "" {
		return l.hold(ctx, Inconsistent, smaller, larger, hashes, reason)
	}
	return l.accuse(ctx, Inconsistent, smaller, larger, hashes, "")
}

// restoreHold brings back the decision that nothing of a log is cosigned any more.
func (w *Witness) restoreHold(f *followed) error {
	return w.state.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(heldBucket))
		if b == nil {
			return errors.New("the state file has no bucket " + heldBucket)
		}
		if reason := b.Get([]byte(f.origin)); reason != nil {
			f.gate.hold(string(reason))
		}
		return nil
	})
}
