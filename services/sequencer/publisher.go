package sequencer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/fault"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/sequencer/witnessing"
)

// publisher does steps 5 to 8: it takes the newest root from the writer and has
// it registered, signed, cosigned and published. No growth, no new checkpoint.
type publisher struct {
	s          *Sequencer
	tiles      *tile.Writer
	registered register.Record
	grown      <-chan tlog.Root
	settled    bool // see started
	// ready tells when the next candidate may come; nil: at once.
	ready <-chan time.Time
}

func (p *publisher) run(ctx context.Context) error {
	if err := p.settle(ctx); err != nil {
		return err
	}
	if err := p.seal(ctx); err != nil { // if it ended, and a crash came in between
		return err
	}
	var want tlog.Root // the newest root that is not published yet
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case want = <-p.grown:
		case <-retry.C:
			if !p.s.head().lacks(want.Size) {
				continue
			}
		}
		if err := p.pace(ctx); err != nil {
			return err
		}
		select { // the writer may have gone on meanwhile
		case want = <-p.grown:
		default:
		}
		switch err := p.checkpoint(ctx, want); {
		case err == nil:
		case isNoQuorum(err):
			p.s.log.Warn("no quorum of witnesses", "size", want.Size, "reason", err.Error())
			retry.Reset(p.s.c.Limits.RetryQuorum)
		case isUnsigned(err):
			p.warnUnsigned(want.Size, err)
			retry.Reset(p.s.c.Limits.RetryQuorum)
		default:
			return err
		}
	}
}

// settle asks the witnesses until no quorum is left unasked.
func (p *publisher) settle(ctx context.Context) error {
	for pause := p.s.c.Limits.RetryProbe; !p.settled; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = p.s.c.Limits.RetryProbe
		var err error
		p.settled, err = p.s.probe(ctx, p.registered)
		switch {
		case isUnsigned(err):
			p.warnUnsigned(p.registered.Size, err)
			pause = p.s.c.Limits.RetryQuorum
		case err != nil:
			return err
		}
	}
	return nil
}

// pace keeps the least interval between two candidates.
func (p *publisher) pace(ctx context.Context) error {
	if p.ready != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.ready:
		}
	}
	p.ready = time.After(p.s.c.Limits.Interval)
	return nil
}

func isNoQuorum(err error) bool {
	var none *witnessing.NoQuorumError
	return errors.As(err, &none)
}

func (p *publisher) warnUnsigned(size uint64, err error) {
	p.s.log.Warn("a key of the log does not sign", "size", size, "reason", err.Error())
}

// lacks tells whether something is to be published for a tree of a size. A tree
// that is smaller than the published one is that of somebody who has not yet been
// told of a newer one.
func (p *published) lacks(size uint64) bool {
	return size > p.size() || size == p.size() && p.isOutdated()
}

// unsignedError says that a key of the log has not signed: its token or its service
// may be away for a while. What was to be signed is registered, so it can be signed
// later, and nothing else can.
type unsignedError struct{ err error }

func (e *unsignedError) Error() string { return "sign the checkpoint: " + e.err.Error() }
func (e *unsignedError) Unwrap() error { return e.err }

func isUnsigned(err error) bool {
	_, ok := errors.AsType[*unsignedError](err)
	return ok
}

// checkpoint takes one root through the steps 5 to 8.
func (p *publisher) checkpoint(ctx context.Context, want tlog.Root) error {
	s := p.s
	if err := s.checkFinal(want); err != nil {
		return err
	}
	tree, err := p.readTree(ctx, want)
	if err != nil {
		return stopped("read the tree to be published", err)
	}
	// Step 5.
	if want.Size > p.registered.Size {
		// What was registered is never left for another history, whoever computed it.
		before, err := tree.RootAt(ctx, p.registered.Size)
		if err != nil {
			return stopped("compute the root at the registered size", err)
		}
		if before != p.registered.Root {
			return refuse(Fork, "the tree of size %d does not extend the registered one of size %d", want.Size, p.registered.Size)
		}
		next := register.Record{Origin: s.c.Origin, Size: want.Size, Root: want.Hash}
		if err := swap(ctx, s.c.Register, p.registered, next); err != nil {
			return err
		}
		p.registered = next
	}
	if want.Size != p.registered.Size || want.Hash != p.registered.Root {
		return refuse(Fork, "the tree of size %d is not the registered one", want.Size)
	}
	// Step 6. No other body than the registered one is ever signed.
	candidate, err := s.sign(ctx, p.registered)
	if err != nil {
		return err
	}
	// Step 7.
	if err := fault.Hit("cosign.before"); err != nil {
		return refuse(Failed, "cosign: %w", err)
	}
	cosigned, err := s.c.Witness.Cosign(ctx, candidate, func(ctx context.Context, old, size uint64) ([][32]byte, error) {
		return tree.Consistency(ctx, old, size)
	})
	if err != nil {
		return fmt.Errorf("have size %d cosigned: %w", want.Size, err)
	}
	if _, err := s.c.Policy.CheckNote(cosigned.Bytes()); err != nil {
		return refuse(Failed, "the cosigned checkpoint does not satisfy the policy: %w", err)
	}
	if cosigned.Checkpoint() != candidate.Checkpoint() {
		return refuse(Failed, "the cosigned checkpoint is another one than the candidate")
	}
	// Objects are not fenced as the store and the register are: who has been
	// replaced while the witnesses were asked must not put an older note back.
	if err := stillOwned(ctx, s.c.Register, p.registered); err != nil {
		return err
	}
	// Step 8. /checkpoint is only ever a note that a quorum has cosigned.
	if err := fault.Hit("publish.before"); err != nil {
		return refuse(Failed, "publish: %w", err)
	}
	if err := s.putPublished(ctx, cosigned); err != nil {
		return err
	}
	if err := fault.Hit("publish.after"); err != nil {
		return refuse(Failed, "publish: %w", err)
	}
	s.publish(&published{note: cosigned, tree: tree})
	return p.seal(ctx)
}

// checkFinal refuses a tree beyond the end that the policy names for the shard:
// nobody who verifies by the policy would take a checkpoint of it, and to sign one
// would be evidence against the log.
func (s *Sequencer) checkFinal(want tlog.Root) error {
	for _, f := range s.c.Policy.Trust().Finals {
		if f.Origin == s.c.Origin && (want.Size > f.Size || want.Size == f.Size && want.Hash != [32]byte(f.Root)) {
			return refuse(Fork, "the policy says that the shard has ended at size %d, the store is at size %d with another tree", f.Size, want.Size)
		}
	}
	return nil
}

// putPublished writes the published note, unless there is a newer one by now: who
// has been replaced in this very moment puts no older note back.
func (s *Sequencer) putPublished(ctx context.Context, note *checkpoint.Note) error {
	next := note.Checkpoint()
	var refused error
	err := blob.Replace(ctx, s.c.Tiles, CheckpointKey, func(current []byte) ([]byte, error) {
		refused = nil
		there, err := checkpoint.Parse(current)
		if err != nil || !s.signedByLog(there) {
			return note.Bytes(), nil //nolint:nilerr // none, or nothing that the log has said
		}
		switch was := there.Checkpoint(); {
		case was.Size > next.Size:
			refused = refuse(Owned, "another sequencer has published size %d, this one is at size %d", was.Size, next.Size)
		case was.Size == next.Size && was != next:
			refused = refuse(Fork, "another checkpoint of size %d is published", was.Size)
		}
		return note.Bytes(), refused
	})
	switch {
	case refused != nil:
		return refused
	case err != nil:
		return refuse(Failed, "publish the checkpoint: %w", err)
	}
	return nil
}

// seal closes the register for ever once the shard's last entry is published.
func (p *publisher) seal(ctx context.Context) error {
	s := p.s
	ends := s.endsAt.Load()
	if ends == 0 || s.head().size() < ends {
		return nil
	}
	if !p.registered.Sealed {
		sealed := p.registered
		sealed.Sealed = true
		if err := fault.Hit("seal.before"); err != nil {
			return refuse(Failed, "seal the register: %w", err)
		}
		if err := swap(ctx, s.c.Register, p.registered, sealed); err != nil {
			return err
		}
		if err := fault.Hit("seal.after"); err != nil {
			return refuse(Failed, "seal the register: %w", err)
		}
		p.registered = sealed
		s.log.Info("the shard has ended", "size", ends)
	}
	s.end()
	return nil
}

// stillOwned refuses if the register is no longer where this sequencer has left
// it.
func stillOwned(ctx context.Context, r register.Register, left register.Record) error {
	got, err := r.Read(ctx)
	if err != nil {
		return refuse(Failed, "read the register: %w", err)
	}
	if got != left {
		return refuse(Owned, "another sequencer has moved the register to size %d", got.Size)
	}
	return nil
}

// swap moves the register on. After an error the outcome is unknown, so it is
// read: ours is as good as done, anything else ends the sequencer.
func swap(ctx context.Context, r register.Register, old, next register.Record) error {
	err := r.Swap(ctx, old, next)
	if err == nil {
		return nil
	}
	got, readErr := r.Read(ctx)
	if readErr == nil && got == next {
		// It is there; that it also survives a crash only a write that succeeds
		// can tell.
		if again := r.Swap(ctx, next, next); again != nil {
			return refuse(Failed, "make the register's size %d durable: %w", next.Size, errors.Join(err, again))
		}
		return nil
	}
	switch {
	case readErr == nil && got == old && !errors.Is(err, register.ErrConflict):
		return refuse(Failed, "move the register to size %d: %w", next.Size, err)
	case errors.Is(err, register.ErrConflict):
		return refuse(Owned, "another sequencer has moved the register: %w", err)
	}
	return refuse(Failed, "move the register to size %d: %w", next.Size, errors.Join(err, readErr))
}

// sign returns the note of the registered body, signed with both keys of the
// log. A body that was signed before is not signed again, so that the log's own
// time on it stays what it was. An *unsignedError may go away.
func (s *Sequencer) sign(ctx context.Context, r register.Record) (*checkpoint.Note, error) {
	body := checkpoint.Checkpoint{Origin: r.Origin, Size: r.Size, Root: r.Root}
	raw, err := s.c.Tiles.Get(ctx, candidateKey)
	switch {
	case err == nil:
		if n, err := checkpoint.Parse(raw); err == nil && n.Checkpoint() == body && s.signedByLog(n) {
			return n, nil
		}
	case !errors.Is(err, blob.ErrNotFound):
		return nil, refuse(Failed, "read the signed checkpoint: %w", err)
	}
	if err := fault.Hit("sign.before"); err != nil {
		return nil, refuse(Failed, "sign: %w", err)
	}
	note, err := checkpoint.SignLog(body, uint64(max(s.c.Now().Unix(), 0)), s.c.LogKeys...)
	if err != nil {
		return nil, &unsignedError{err}
	}
	if err := s.c.Tiles.Put(ctx, blob.Object{Key: candidateKey, Data: note.Bytes()}); err != nil {
		return nil, refuse(Failed, "keep the signed checkpoint: %w", err)
	}
	if err := fault.Hit("sign.after"); err != nil {
		return nil, refuse(Failed, "sign: %w", err)
	}
	return note, nil
}

// signedByLog tells whether every key of the log has signed n.
func (s *Sequencer) signedByLog(n *checkpoint.Note) bool {
	for _, k := range s.c.LogKeys {
		ok := false
		for _, sig := range n.Signatures() {
			_, err := k.Verifier().VerifyCheckpoint(n, sig)
			ok = ok || err == nil
		}
		if !ok {
			return false
		}
	}
	return true
}
