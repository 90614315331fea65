// Package register remembers, outside the log's store and volume, the newest
// checkpoint body that a shard's sequencer may sign. It is what a restored copy
// of the store is held against: trusted for being newer than any backup, and for
// nothing else. Whoever can rewrite it can make the log stop; to make it fork
// they would need the witnesses too.
package register

import (
	"context"
	"errors"
)

// Record is the registered checkpoint body of a shard.
type Record struct {
	Origin string
	Size   uint64
	Root   [32]byte
	// Sealed says that no larger body may ever be registered: the shard has
	// ended.
	Sealed bool
}

// Errors of a Register.
var (
	// ErrMissing: there is no record. Only an explicit Create makes one.
	ErrMissing = errors.New("no register")
	// ErrExists: Create found a record.
	ErrExists = errors.New("the register exists already")
	// ErrConflict: the record is not the one that the caller replaces; another
	// sequencer owns the shard.
	ErrConflict = errors.New("the register holds another record")
	// ErrBackwards: the next record is not one that may follow. Nothing is
	// changed.
	ErrBackwards = errors.New("a register never goes back")
	// ErrOwned: another process holds the register.
	ErrOwned = errors.New("the register is held by another process")
	// ErrCorrupt: the register cannot be read.
	ErrCorrupt = errors.New("the register is damaged")
)

// Follows tells whether r may take old's place: the same origin, no smaller
// size, another root only at another size, and nothing new once it is sealed.
func (r Record) Follows(old Record) bool {
	switch {
	case r == old:
		return true
	case old.Sealed || r.Origin != old.Origin || r.Size < old.Size:
		return false
	}
	return r.Size > old.Size || r.Root == old.Root
}

// Register is one shard's register. Swap is atomic and durable: when it returns
// nil the new record survives any crash. After any other error than ErrConflict
// and ErrBackwards the outcome is unknown and must be read; to make sure that
// what was read survives, swap it for itself. All methods may be called
// concurrently.
//
// A further back end (of a Kubernetes object by its resourceVersion, say) keeps
// these rules, which package registertest tries out:
//
//   - Swap compares and writes in one step that the store itself makes atomic, by
//     a version that changes with every content. A lock or an election is an
//     addition to that, never instead of it.
//   - Read returns the newest record: no cache, no replica that lags.
//   - A write is never repeated without its condition, and one whose answer was
//     lost is either reported as an error, or resolved by reading: the caller's
//     record is there or it is not.
//   - ErrMissing is only returned for a record that is known not to be there, not
//     for one that may not be read.
//   - It may be slow. It is called once for each new checkpoint, so a store that
//     takes one write a second holds checkpoints to one a second; it returns
//     when the write has been made, however long it had to wait for its turn.
type Register interface {
	// Create makes the first record; ErrExists if there is one.
	Create(ctx context.Context, first Record) error
	// Read returns the record; ErrMissing if there is none.
	Read(ctx context.Context) (Record, error)
	// Swap replaces old by next, which follows it or is the same; ErrConflict if
	// old is not what is there.
	Swap(ctx context.Context, old, next Record) error
}

// Backend is a Register that was opened, and is closed when it is no longer
// needed.
type Backend interface {
	Register
	// Close gives back what the back end holds, its owner's lock if it has one.
	Close() error
}
