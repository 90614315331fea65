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

// follows tells whether r may take old's place: the same origin, no smaller
// size, another root only at another size, and nothing new once it is sealed.
func (r Record) follows(old Record) bool {
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
// what was read survives, swap it for itself.
type Register interface {
	// Create makes the first record; ErrExists if there is one.
	Create(ctx context.Context, first Record) error
	// Read returns the record; ErrMissing if there is none.
	Read(ctx context.Context) (Record, error)
	// Swap replaces old by next, which follows it or is the same; ErrConflict if
	// old is not what is there.
	Swap(ctx context.Context, old, next Record) error
}
