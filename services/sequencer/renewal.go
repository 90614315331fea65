package sequencer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/sequencer/witnessing"
)

// Bounds of the pause between two tries to have a last checkpoint cosigned anew.
// Witnesses that do not follow a shard which has ended may never do so.
const (
	firstRenewal   = time.Second
	longestRenewal = 10 * time.Minute
)

// Renewal has the last checkpoint of a shard that has ended cosigned anew, when
// its cosignatures do not satisfy the policy any more: witnesses were replaced,
// and the policy does not let the old ones count up to this size. Nothing is
// signed by the log: the shard's keys may be gone. The shard has no sequencer any
// more; one that has renews its own.
type Renewal struct {
	Origin string
	Tiles  blob.Store
	// Register is the shard's; what is not sealed there is left alone.
	Register interface {
		Read(ctx context.Context) (register.Record, error)
	}
	// Witness cosigns checkpoints of this shard, and of no other.
	Witness interface {
		Cosign(ctx context.Context, note *checkpoint.Note, prove witnessing.ProveFunc) (*checkpoint.Note, error)
	}
	Policy *verify.Policy
	Logger *slog.Logger
	// Pause waits between two tries; nil means run.Pause. Another one is for tests.
	Pause func(context.Context, time.Duration) error
}

// Run tries until the checkpoint satisfies the policy, and then waits for ctx to
// end. What stands in the way is logged: it keeps nothing else from working.
func (r *Renewal) Run(ctx context.Context) error {
	pause := r.Pause
	if pause == nil {
		pause = run.Pause
	}
	told := ""
	for attempt := 1; ; attempt++ {
		err := r.Step(ctx)
		if err == nil {
			break
		}
		if text := err.Error(); text != told && ctx.Err() == nil {
			told = text
			r.Logger.Warn("the last checkpoint of a shard is not cosigned anew yet", "origin", r.Origin, "error", err)
		}
		if pause(ctx, run.Backoff(attempt, firstRenewal, longestRenewal)) != nil {
			return nil //nolint:nilerr // it was told to end
		}
	}
	<-ctx.Done()
	return nil
}

// Step tries once. It returns nil if the shard's last checkpoint satisfies the
// policy, or if there is nothing that could.
func (r *Renewal) Step(ctx context.Context) error {
	reg, err := r.Register.Read(ctx)
	if err != nil {
		return fmt.Errorf("read the register: %w", err)
	}
	raw, err := r.Tiles.Get(ctx, CheckpointKey)
	if err != nil {
		return fmt.Errorf("read the published checkpoint: %w", err)
	}
	unsatisfied := r.judge(raw)
	if unsatisfied == nil {
		return nil
	}
	if denied, ok := errors.AsType[*verify.FinalError](unsatisfied); ok {
		return fmt.Errorf("the published checkpoint: %w", denied) // nobody is to sign it
	}
	note, err := checkpoint.Parse(raw)
	if err != nil {
		return err
	}
	// What is asked for is what the register was sealed with, and nothing else.
	c := note.Checkpoint()
	switch {
	case !reg.Sealed || reg.Origin != r.Origin || c != checkpoint.Checkpoint{Origin: reg.Origin, Size: reg.Size, Root: reg.Root}:
		return fmt.Errorf("the published checkpoint of size %d is not what the register was sealed with: %w", c.Size, unsatisfied)
	case !wasPublished(r.Policy, note):
		return fmt.Errorf("the log has not signed the published checkpoint: %w", unsatisfied)
	}
	tree, err := tile.NewReader(r.Tiles).Tree(ctx, c.Size, c.Root)
	if err != nil {
		return fmt.Errorf("read the tree: %w", err)
	}
	cosigned, err := r.Witness.Cosign(ctx, note, tree.Consistency)
	if err != nil {
		return fmt.Errorf("have size %d cosigned: %w", c.Size, err)
	}
	if err := r.judge(cosigned.Bytes()); err != nil {
		return fmt.Errorf("the cosigned checkpoint: %w", err)
	}
	if cosigned.Checkpoint() != c {
		return errors.New("the cosigned checkpoint is another one than the candidate")
	}
	if err := r.put(ctx, raw, cosigned.Bytes()); err != nil {
		return fmt.Errorf("publish the checkpoint: %w", err)
	}
	r.Logger.Info("the last checkpoint of a shard was cosigned anew", "origin", r.Origin, "size", c.Size)
	return nil
}

func (r *Renewal) judge(raw []byte) error {
	_, err := r.Policy.CheckNote(raw)
	return err
}

// put replaces the note that was read, unless somebody else has.
func (r *Renewal) put(ctx context.Context, old, next []byte) error {
	return blob.Replace(ctx, r.Tiles, CheckpointKey, func(current []byte) ([]byte, error) {
		if !slices.Equal(current, old) && !slices.Equal(current, next) {
			return nil, errors.New("it was replaced meanwhile")
		}
		return next, nil
	})
}

// wasPublished tells whether a note that does not satisfy the policy may have been
// published by another one: every key that the policy requires of the note's origin
// has signed it, and somebody else has.
func wasPublished(policy *verify.Policy, note *checkpoint.Note) bool {
	required := 0
	for _, k := range policy.Trust().RequiredLogKeys {
		if k.Name() != note.Checkpoint().Origin {
			continue
		}
		if !slices.ContainsFunc(note.Signatures(), func(sig checkpoint.Signature) bool {
			_, err := k.VerifyCheckpoint(note, sig)
			return err == nil
		}) {
			return false
		}
		required++
	}
	return required > 0 && len(note.Signatures()) > required
}

// awaitRenewal looks for the note that takes the place of a predecessor's outdated
// one, until it is there. Receipts of the predecessor's entries, and the enrolments
// in others, come under that from then on.
func (s *Sequencer) awaitRenewal(ctx context.Context, a *ancestor) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.c.Limits.RetryQuorum):
		}
		raw, err := a.Tiles.Get(ctx, CheckpointKey)
		if err != nil {
			continue
		}
		old := a.final.Load()
		note, err := checkpoint.Parse(raw)
		if err != nil || note.Checkpoint() != old.note.Checkpoint() {
			continue
		}
		if _, err := s.c.Policy.CheckNote(raw); err != nil {
			continue
		}
		a.final.Store(&published{note: note, tree: old.tree})
		s.log.Info("the last checkpoint of a predecessor satisfies the policy again", "predecessor", a.Origin)
		return
	}
}
