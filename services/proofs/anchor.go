package proofs

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/anchored"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// anchor is an anchored checkpoint as it was read, and what of it was verified.
type anchor struct {
	raw    []byte
	at     time.Time // when it was anchored
	note   *checkpoint.Note
	tokens [][]byte // each verified
	// refused is why the note does not satisfy the policy; nil if it does.
	refused error
	// broken is why nothing of it is handed out; nil if it verifies.
	broken error
}

func (a *anchor) size() uint64 { return a.note.Checkpoint().Size }

// soon is how much later than it is due an anchor may come.
const soon = 10 * time.Second

// anchorOf returns the newest anchored checkpoint, which covers the entry at
// index. While there is none, the fault says when the next one is due.
func (s *shard) anchorOf(ctx context.Context, index uint64) (*anchor, *fault) {
	if s.cfg.Anchors == nil {
		f := refuse(http.StatusNotFound, "no-anchors", "anchored", "this log's checkpoints are not anchored")
		f.code = codes.FailedPrecondition
		return nil, f
	}
	// An entry that is not published is not anchored soon either.
	at, err := s.covering(ctx, func(t *tile.Tree) bool { return index < t.Size() })
	if err != nil {
		return nil, unavailable(err)
	}
	if size := at.tree.Size(); index >= size {
		return nil, refuse(http.StatusNotFound, "not-published", "proof", "expected an index below the published size %d", size)
	}
	a, err := s.readAnchor(ctx)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	if a != nil && a.broken != nil {
		return nil, unavailable(a.broken)
	}
	if a == nil || a.refused != nil || a.size() <= index {
		return nil, s.notAnchored(a)
	}
	return a, nil
}

// notAnchored says when the next anchor is due.
func (s *shard) notAnchored(last *anchor) *fault {
	now := s.cfg.Now()
	due := now
	if last != nil {
		// A clock that was set must not make anybody wait for longer than an interval.
		due = last.at.Add(s.cfg.Anchors.Interval)
		if most := now.Add(s.cfg.Anchors.Interval); due.After(most) {
			due = most
		}
		if due.Before(now) {
			due = now
		}
	}
	due = due.Add(soon)
	f := refuse(http.StatusNotFound, "not-anchored", "proof",
		"expected an entry below an anchored checkpoint; the next one is due by %s", due.UTC().Format(time.RFC3339))
	f.code, f.retryAfter = codes.FailedPrecondition, due.Sub(now)
	return f
}

// readAnchor reads the newest anchored checkpoint and verifies note and tokens;
// nil if there is none. A bad one costs that, and its log line, once. That its tree
// is the published one's is for renew to say.
func (s *shard) readAnchor(ctx context.Context) (*anchor, error) {
	raw, err := s.store.Get(ctx, anchored.Key)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return nil, nil //nolint:nilnil // none yet
	case err != nil:
		return nil, err
	}
	if a := s.anchor.Load(); a != nil && bytes.Equal(a.raw, raw) {
		return a, nil
	}
	a := s.checkAnchor(raw)
	switch {
	case a.broken != nil:
		s.report(ctx, a.broken)
	case a.refused != nil:
		s.cfg.Logger.WarnContext(ctx, "the anchored checkpoint does not satisfy the policy", "origin", s.origin, "reason", a.refused.Error())
	}
	s.anchor.Store(a)
	return a, nil
}

// checkAnchor parses and verifies a stored record.
func (s *shard) checkAnchor(raw []byte) *anchor {
	a := &anchor{raw: raw}
	r, err := anchored.Parse(raw)
	if err == nil && r.Note.Checkpoint().Origin != s.origin {
		err = errors.New("it is of another origin")
	}
	if err != nil {
		a.broken = &anchorError{err}
		return a
	}
	a.at, a.note = r.At, r.Note
	// It was good when it was anchored, by the policy of that day; the next one is
	// good by this one.
	if _, a.refused = s.cfg.Policy.CheckNote(r.Note.Bytes()); a.refused != nil {
		return a
	}
	if _, a.tokens, err = r.Verify(s.cfg.Policy, s.cfg.Anchors.Authorities); err != nil {
		a.broken = &anchorError{err}
	}
	return a
}

// anchorError says why a stored anchored checkpoint is not handed out.
type anchorError struct{ err error }

func (e *anchorError) Error() string { return "stored anchored checkpoint: " + e.err.Error() }
func (e *anchorError) Unwrap() error { return e.err }
