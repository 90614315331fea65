package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// Reason says how a mirror stands.
type Reason string

// The reasons.
const (
	// Starting: nothing has been read yet.
	Starting Reason = "starting"
	// Following: the mirror has what the source has published.
	Following Reason = "following"
	// Unavailable: the source, or the mirror's store, cannot be read or written.
	Unavailable Reason = "unavailable"
	// Unverifiable: what the source gives does not verify; Object names it. It is
	// read again.
	Unverifiable Reason = "unverifiable"
	// Rollback: the source has published a checkpoint that is older than what the
	// mirror has. Both are kept as evidence. An old copy in a cache looks
	// the same, so the mirror goes on as soon as the source has caught up.
	Rollback Reason = "rollback"
	// Fork: two cosigned checkpoints contradict each other. Both are kept as
	// evidence, and the mirror follows no more, also after a restart, until a
	// person has removed the evidence.
	Fork Reason = "fork"
	// Damaged: the mirror's own store is not what it has written.
	Damaged Reason = "damaged"
)

// State is how a mirror stands.
type State struct {
	Reason Reason
	Size   uint64 // of the published copy
	Since  time.Time
	Object string // that does not verify, by the source's key
	Detail string
}

// SourceError says which object of the source does not verify.
type SourceError struct {
	Object string
	Err    error
}

// Error implements error.
func (e *SourceError) Error() string { return fmt.Sprintf("source: object %s: %v", e.Object, e.Err) }

// Unwrap returns the cause.
func (e *SourceError) Unwrap() error { return e.Err }

// RollbackError says that the source has published an older checkpoint.
type RollbackError struct{ Had, Got uint64 }

// Error implements error.
func (e *RollbackError) Error() string {
	return fmt.Sprintf("rollback: the source is at size %d after size %d", e.Got, e.Had)
}

// ForkError says that two cosigned checkpoints contradict each other.
type ForkError struct {
	Had, Got uint64 // their sizes; 0 after a restart
	Evidence string // key of the evidence file (package api/evidence)
}

// Error implements error.
func (e *ForkError) Error() string {
	if e.Had == 0 && e.Got == 0 {
		return "fork: two cosigned checkpoints contradict each other, see " + e.Evidence
	}
	return fmt.Sprintf("fork: the checkpoints of sizes %d and %d contradict each other, see %s", e.Had, e.Got, e.Evidence)
}

var errOwnStore = errors.New("the mirror's own store is damaged")

// State returns how the mirror stands. It may be called at any time.
func (m *Mirror) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// tell sets the state after a step, and logs if it has changed.
func (m *Mirror) tell(ctx context.Context, err error) {
	next := State{Reason: reasonOf(err), Since: m.c.Now()}
	if m.placed != nil {
		next.Size = m.placed.Size
	}
	if err != nil {
		next.Detail = err.Error()
		next.Object = objectOf(err)
	}
	m.mu.Lock()
	before := m.state
	if before.Reason == next.Reason && before.Object == next.Object {
		next.Since = before.Since
	}
	m.state = next
	m.mu.Unlock()
	log := m.c.Logger.With("origin", m.c.Origin, "size", next.Size)
	switch {
	case before.Reason == next.Reason && before.Object == next.Object:
		log.DebugContext(ctx, "mirror", "reason", next.Reason)
	case err == nil:
		log.InfoContext(ctx, "mirror follows the log")
	default:
		log.ErrorContext(ctx, "mirror does not follow the log", "reason", next.Reason, "object", next.Object, "detail", next.Detail)
	}
}

func reasonOf(err error) Reason {
	var rollback *RollbackError
	var fork *ForkError
	var source *SourceError
	switch {
	case err == nil:
		return Following
	case errors.As(err, &rollback):
		return Rollback
	case errors.As(err, &fork):
		return Fork
	case errors.Is(err, errOwnStore):
		return Damaged
	case errors.As(err, &source):
		return Unverifiable
	}
	return Unavailable
}

func objectOf(err error) string {
	if source, ok := errors.AsType[*SourceError](err); ok {
		return source.Object
	}
	return ""
}

// sourceError turns what a reader of the source's tiles says into a SourceError.
// An object that is missing is one that cannot be had, now; a source that cannot
// be read is no judgement on its objects.
func sourceError(err error) error {
	var object *tile.CorruptError
	var root *tile.RootError
	switch {
	case errors.As(err, &object) && !errors.Is(err, blob.ErrNotFound):
		return &SourceError{Object: object.Object, Err: errors.New(object.Reason)}
	case errors.As(err, &root):
		return &SourceError{Object: "right edge", Err: err}
	}
	return fmt.Errorf("read from the source: %w", err)
}
