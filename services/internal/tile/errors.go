package tile

import (
	"errors"
	"fmt"
)

var (
	// ErrRange is returned for an index, a size or a path that lies outside of
	// the tree that is asked.
	ErrRange = errors.New("outside of the tree")
	// ErrCorrupt is what a CorruptError and a RootError match.
	ErrCorrupt = errors.New("stored tiles do not verify")
	// ErrMismatch is returned by Append when a full object exists already and
	// differs from what would be written. Nothing has been written then: either
	// the store or the log it is filled from has been changed, and a person
	// must find out which.
	ErrMismatch = errors.New("a full object exists and differs")
	// ErrTooLong is returned by Append, with nothing written, for an entry that
	// is longer than MaxEntry.
	ErrTooLong = errors.New("entry too long")
)

// CorruptError says which object does not verify, and why. It holds none of the
// object's content.
type CorruptError struct {
	Object string // the object's key
	Reason string
	Err    error // of the store, if it could not give the object
}

// Error implements error.
func (e *CorruptError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("object %s: %s: %v", e.Object, e.Reason, e.Err)
	}
	return fmt.Sprintf("object %s: %s", e.Object, e.Reason)
}

// Is makes a CorruptError match ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Unwrap returns the store's error.
func (e *CorruptError) Unwrap() error { return e.Err }

// RootError says that the right edge of the stored tiles gives another root than
// the one that was vouched for.
type RootError struct {
	Size      uint64
	Want, Got Hash
}

// Error implements error.
func (e *RootError) Error() string {
	return fmt.Sprintf("the right edge at size %d has root %s, want %s", e.Size, hexHash(e.Got), hexHash(e.Want))
}

// Is makes a RootError match ErrCorrupt.
func (e *RootError) Is(target error) bool { return target == ErrCorrupt }
