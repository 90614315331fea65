package sequencer

import (
	"errors"
	"fmt"
	"time"

	"github.com/trialog/trialog/api/statement"
)

// Reason is why a sequencer refuses to start, or stopped, in a word that may go
// into conditions and metrics.
type Reason string

// The reasons.
const (
	// RegisterMissing: there is no register. Only init makes one.
	RegisterMissing Reason = "register-missing"
	// Rollback: something that was signed or seen is newer than what is stored.
	Rollback Reason = "rollback"
	// Fork: what is stored contradicts what was signed or seen.
	Fork Reason = "fork"
	// Corrupt: what is stored contradicts itself.
	Corrupt Reason = "corrupt"
	// Owned: another process owns the shard.
	Owned Reason = "owned"
	// Ended: the shard is sealed.
	Ended Reason = "sealed"
	// Clock: most of the time sources disagree with this machine's clock. It is
	// the one reason that goes away by itself.
	Clock Reason = "clock"
	// Failed: a write has failed in a way that only a restart can resolve.
	Failed Reason = "storage-failed"
)

// RefusedError says why nothing is signed. Reads of what was verified go on.
type RefusedError struct {
	Reason Reason
	Err    error
}

// Error implements error.
func (e *RefusedError) Error() string { return string(e.Reason) + ": " + e.Err.Error() }

// Unwrap returns what was found.
func (e *RefusedError) Unwrap() error { return e.Err }

func refuse(reason Reason, format string, args ...any) error {
	return &RefusedError{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// Errors of Add. A *statement.FieldError says that the submission itself is
// wrong; nothing was stored.
var (
	// ErrBusy: as much is under way as the log bears, or as one organisation may
	// have of it; try again later. It comes as a *BusyError.
	ErrBusy = errors.New("the log is busy")
	// ErrEnded: the shard has ended; its successor takes statements in.
	ErrEnded = errors.New("the shard has ended")
	// ErrNotReady: the sequencer is starting, has refused, or is stopping, or the key
	// that signs promises does not.
	ErrNotReady = errors.New("the log takes nothing in at the moment")
	// ErrNotFound: there is no such statement, or no checkpoint has it yet.
	ErrNotFound = errors.New("no such statement in the log")
)

// errOutdated says that a proof would be under a checkpoint which does not satisfy
// the policy of today: it waits for the witnesses of today. It is an ErrNotReady.
var errOutdated = fmt.Errorf("%w: a checkpoint is not yet cosigned as the policy wants it", ErrNotReady)

// BusyError is an ErrBusy that says when to try again.
type BusyError struct {
	// After is how long it takes until what is under way will have been dealt
	// with, at the rate of late.
	After time.Duration
}

// Error implements error.
func (e *BusyError) Error() string { return ErrBusy.Error() }

// Is makes errors.Is(err, ErrBusy) true.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// ForbiddenError says that the signers may not say this. Nothing was stored.
type ForbiddenError struct {
	Field  string
	Reason string
}

// Error implements error.
func (e *ForbiddenError) Error() string { return e.Field + ": " + e.Reason }

func forbid(field, format string, args ...any) error {
	return &ForbiddenError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// ChainError says that a statement does not continue its writer's chain, and
// what to build on. Nothing was stored.
type ChainError struct {
	Number   uint64 // of the newest statement; 0 if there is none
	Identity statement.Identity
}

// Error implements error.
func (e *ChainError) Error() string {
	if e.Number == 0 {
		return "predicate.chain: the chain is empty, expected number 1"
	}
	return fmt.Sprintf("predicate.chain: the newest statement has number %d and identity %s, expected to continue it",
		e.Number, e.Identity)
}

// MissingError says that something must precede the statement.
type MissingError struct {
	Field  string
	Reason string
}

// Error implements error.
func (e *MissingError) Error() string { return e.Field + ": " + e.Reason }
