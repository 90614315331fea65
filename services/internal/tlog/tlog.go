// Package tlog is the narrow view that the rest of Trialog has of a verifiable
// log: append at given indexes, integrate, read back.
//
// The interface says what is durable and what is all-or-nothing; tlogtest is
// the suite that every implementation runs. An implementation checks what its
// storage answers: a store is trusted to be there, never to be right.
package tlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/transparency-dev/merkle/rfc6962"
)

// MaxValue is the greatest length of a leaf's value in bytes.
//
// SPEC: C2SP tlog-tiles, "Log Entries": entries are length-prefixed with a
// big-endian uint16.
const MaxValue = 1<<16 - 1

// MaxSize is the greatest number of leaves that a log may hold. Indexes are
// stored as signed 64-bit numbers by Trillian.
const MaxSize = 1<<63 - 1

// Leaf is one entry of the log.
type Leaf struct {
	// Identity makes an append repeatable: one log never holds it twice. It is
	// chosen by the caller and is not covered by the root.
	Identity [32]byte
	// Value is what the root commits to, at most MaxValue bytes.
	Value []byte
}

// Hash is the leaf's Merkle leaf hash (RFC 6962, section 2.1): SHA-256 of a
// zero byte and the value.
func (l Leaf) Hash() [32]byte {
	return [32]byte(rfc6962.DefaultHasher.HashLeaf(l.Value))
}

// Root is the Merkle root (RFC 6962, section 2.1) over the first Size leaves.
type Root struct {
	Size uint64
	Hash [32]byte
}

// EmptyRoot is the root of the log without leaves.
func EmptyRoot() Root {
	return Root{Hash: [32]byte(rfc6962.DefaultHasher.EmptyRoot())}
}

// Log is one append-only log. All methods may be called at the same time from
// many goroutines. After Close they return ErrClosed.
type Log interface {
	// Append stores leaves at the indexes first, first+1, …; all of them or
	// none. They are durable when it returns nil. A leaf that is already stored
	// at its index with the same identity and value counts as stored.
	//
	// A gap before first is allowed: the leaves behind it are integrated once it
	// is filled.
	//
	// ErrConflict (a *ConflictError): another leaf holds one of the indexes, or
	// one of the identities is held at another index; nothing was stored.
	// ErrInvalid: the request can never be met. ErrUnknownOutcome: the leaves
	// may or may not be stored, in whole or in part; read back what is there.
	// The caller may use its buffers again when Append has returned.
	Append(ctx context.Context, first uint64, leaves []Leaf) error

	// Integrate brings every leaf that follows the root without a gap into the
	// tree and returns the new root, which is durable. It integrates at least
	// what was appended before the call.
	Integrate(ctx context.Context) (Root, error)

	// Root returns the root of the last integration.
	Root(ctx context.Context) (Root, error)

	// RootAt returns the root hash that the log had at an earlier size. The hash
	// is proven consistent with Root. ErrRange: size is beyond the root.
	RootAt(ctx context.Context, size uint64) ([32]byte, error)

	// Leaves returns up to n stored leaves from first on, also those that are not
	// integrated; it stops at the first gap, and may return fewer than n. Leaves
	// below the root's size are proven to be in it. No leaf at first is no error.
	Leaves(ctx context.Context, first uint64, n int) ([]Leaf, error)

	// Find returns the index at which the leaf with this identity is stored. The
	// leaf itself is read and checked. Not finding one proves nothing.
	Find(ctx context.Context, identity [32]byte) (index uint64, found bool, err error)

	// Close waits for the calls that are under way and releases the log.
	Close() error
}

// The errors of a Log. Test for them with errors.Is.
var (
	// ErrConflict: another leaf is stored where this one should go, or this
	// one's identity is stored elsewhere.
	ErrConflict = errors.New("conflict with a stored leaf")
	// ErrUnknownOutcome: a write failed in a way that leaves open whether it took
	// place. Only reading back can tell, after opening again if ErrFailed is
	// wrapped too.
	ErrUnknownOutcome = errors.New("unknown outcome")
	// ErrFailed: the storage has failed for good in this process. What it would
	// show may not be durable, so it shows nothing: close the log, open it again.
	ErrFailed = errors.New("storage has failed")
	// ErrCorrupt: the storage answered what cannot be right.
	ErrCorrupt = errors.New("log storage is corrupt")
	// ErrInvalid: the arguments can never be accepted.
	ErrInvalid = errors.New("invalid request")
	// ErrRange: a size beyond the current root was asked for.
	ErrRange = errors.New("beyond the log's size")
	// ErrNotFound: there is no log here.
	ErrNotFound = errors.New("no such log")
	// ErrOwned: somebody else owns the log, or has taken it over. A handle that
	// says so for a write says so for every later one, and stored nothing.
	ErrOwned = errors.New("log is owned by somebody else")
	// ErrLocked: another process, or another handle of this one, has the storage
	// open for writing. It matches ErrOwned.
	ErrLocked = fmt.Errorf("log storage is in use: %w", ErrOwned)
	// ErrUnavailable: the storage does not answer at the moment, or cannot take
	// the write as things are. A write that fails so stored nothing.
	ErrUnavailable = errors.New("log storage is unavailable")
	// ErrUnsafe: the storage is set up in a way that may lose what it has
	// acknowledged. It is not opened.
	ErrUnsafe = errors.New("log storage is not durable")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("log is closed")
)

// ConflictError says why Append refused. It matches ErrConflict.
type ConflictError struct {
	// Index is where the refused leaf should have gone.
	Index uint64
	// Identity is the refused leaf's.
	Identity [32]byte
	// IdentityHeld is true if the identity is held at HeldAt, and false if Index
	// is taken by another leaf.
	IdentityHeld bool
	HeldAt       uint64
}

// Error names the indexes and the identity.
func (e *ConflictError) Error() string {
	if e.IdentityHeld {
		return fmt.Sprintf("leaf for index %d: identity %x is held at index %d", e.Index, e.Identity, e.HeldAt)
	}
	return fmt.Sprintf("leaf for index %d: the index is held by another leaf than %x", e.Index, e.Identity)
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// CheckAppend returns ErrInvalid if Append(first, leaves) can never succeed, and
// a *ConflictError if the leaves are in conflict with each other. Every
// implementation starts with it.
func CheckAppend(first uint64, leaves []Leaf) error {
	if first > MaxSize || uint64(len(leaves)) > MaxSize-first {
		return fmt.Errorf("%w: %d leaves from index %d pass the greatest size", ErrInvalid, len(leaves), first)
	}
	seen := make(map[[32]byte]uint64, len(leaves))
	for i := range leaves {
		index := first + uint64(i)
		if n := len(leaves[i].Value); n > MaxValue {
			return fmt.Errorf("%w: leaf for index %d has %d bytes, at most %d are allowed", ErrInvalid, index, n, MaxValue)
		}
		if at, ok := seen[leaves[i].Identity]; ok {
			return &ConflictError{Index: index, Identity: leaves[i].Identity, IdentityHeld: true, HeldAt: at}
		}
		seen[leaves[i].Identity] = index
	}
	return nil
}
