package tile

import (
	"fmt"
	"strconv"
	"strings"

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

// TailKey returns the key of the object that holds the tile while it grows. All
// tails lie in one directory, so that making them durable syncs one directory.
func TailKey(p Path) string {
	if p.Entries {
		return fmt.Sprintf("%sentries-%d", TailPrefix, p.Index)
	}
	return fmt.Sprintf("%s%d-%d", TailPrefix, p.Level, p.Index)
}

// ParseTail reads a key that TailKey wrote, and no other: how much of the tile there
// is, it does not say, and the width is 0.
func ParseTail(key string) (Path, bool) {
	name, ok := strings.CutPrefix(key, TailPrefix)
	if !ok {
		return Path{}, false
	}
	level, index, ok := strings.Cut(name, "-")
	if !ok {
		return Path{}, false
	}
	n, err := strconv.ParseUint(index, 10, 56)
	if err != nil || strconv.FormatUint(n, 10) != index {
		return Path{}, false
	}
	p := Path{Index: n, Entries: level == "entries"}
	if !p.Entries {
		l, err := strconv.ParseUint(level, 10, 3)
		if err != nil || strconv.FormatUint(l, 10) != level {
			return Path{}, false
		}
		p.Level = int(l)
	}
	return p, true
}

// segmentKey returns the key of the n-th piece of a growing bundle, where it is
// kept in pieces.
func segmentKey(index uint64, n int) string {
	return fmt.Sprintf("%sentries-%d-%d", TailPrefix, index, n)
}
