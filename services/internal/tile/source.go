package tile

import (
	"context"

	"github.com/trialog/trialog/services/internal/blob"
)

// Source is where a copy of a log's tiles is read: over HTTP (package tilehttp), or
// in a store. It is trusted for nothing; it bounds the length of objects and the time
// of a request.
type Source interface {
	// Get returns the object that a log's tile store has under this key, such as
	// "checkpoint" or "beacon/<SHA-256 in hex>", or blob.ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)
	// At returns the tiles of the tree of size entries, to be read only.
	At(size uint64) blob.Store
}

// FromStore makes a Source of a store that holds a log's tiles, or a copy of them.
func FromStore(store blob.Store) Source { return stored{store} }

type stored struct{ blob.Store }

// At implements Source.
func (s stored) At(uint64) blob.Store { return s.Store }
