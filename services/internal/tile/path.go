package tile

import (
	"fmt"

	"github.com/trialog/trialog/api/tile"
)

const (
	// FullWidth is how many hashes, or entries, a full tile, or bundle, holds.
	FullWidth = tile.FullWidth
	// HashSize is the length of a node hash in bytes.
	HashSize = tile.HashSize
	// MaxEntry is the length of the longest entry.
	MaxEntry = tile.MaxEntry

	heightBits = 8 // log2(FullWidth)

	// segmentWidth is how many entries a piece of a growing bundle holds, in a
	// store whose objects do not grow. A log that gets one entry at a time then
	// writes 8.5 entries for each on average, and not 128.5, and to read the
	// whole takes up to 16 requests.
	segmentWidth = 16
)

// Path names a hash tile or an entry bundle, full or partial.
type Path = tile.Path

// tailKey returns the key of the object that holds the tile while it grows. All
// tails lie in one directory, so that making them durable syncs one directory.
func tailKey(p Path) string {
	if p.Entries {
		return fmt.Sprintf("%sentries-%d", tailPrefix, p.Index)
	}
	return fmt.Sprintf("%s%d-%d", tailPrefix, p.Level, p.Index)
}

// segmentKey returns the key of the n-th piece of a growing bundle, where it is
// kept in pieces.
func segmentKey(index uint64, n int) string {
	return fmt.Sprintf("%sentries-%d-%d", tailPrefix, index, n)
}
