package tile

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

const (
	// FullWidth is how many hashes, or entries, a full tile, or bundle, holds.
	FullWidth = 256
	// HashSize is the length of a node hash in bytes.
	HashSize = 32

	heightBits = 8 // log2(FullWidth): how many levels of the tree a tile holds
	// SPEC (C2SP tlog-tiles): "<L> … MUST be a decimal ASCII integer between 0
	// and 63, with no additional leading zeroes."
	maxLevel = 63
	// maxIndex is the greatest tile index at which a leaf index, counted in 64
	// bits, can lie.
	maxIndex = 1<<56 - 1
)

// ErrPath is what ParsePath's errors wrap.
var ErrPath = errors.New("not a canonical tile path")

// Path names a hash tile or an entry bundle, full or partial.
type Path struct {
	// Entries is true for an entry bundle; Level is 0 then.
	Entries bool
	// Level is the tile's level, 0 to 63: its hashes are the roots of complete
	// subtrees of 256^Level leaves.
	Level int
	// Index is the tile's place in its level, at most 2^56-1.
	Index uint64
	// Width is FullWidth, or 1 to 255 for a partial tile: the first Width
	// hashes or entries.
	Width int
}

// ParsePath parses a path as C2SP tlog-tiles writes it, without a leading slash:
// "tile/0/x001/x234/067", "tile/entries/000.p/17". It takes nothing but the one
// spelling that String writes; errors wrap ErrPath.
func ParsePath(s string) (Path, error) {
	p, err := parsePath(s)
	if err != nil {
		return Path{}, fmt.Errorf("%w: %w", ErrPath, err)
	}
	// Parsing above is careful, but what decides is that there is only one
	// spelling of a path: the one that is written.
	if p.String() != s {
		return Path{}, fmt.Errorf("%w: it would be written %q", ErrPath, p)
	}
	return p, nil
}

func parsePath(s string) (Path, error) {
	rest, ok := strings.CutPrefix(s, "tile/")
	if !ok {
		return Path{}, errors.New("want it to start with tile/")
	}
	level, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return Path{}, errors.New("want tile/<level>/<index>")
	}
	p := Path{Entries: level == "entries", Width: FullWidth}
	if !p.Entries {
		n, err := decimal(level, maxLevel)
		if err != nil {
			return Path{}, fmt.Errorf("level: %w", err)
		}
		p.Level = int(n) //nolint:gosec // at most maxLevel
	}
	index, width, partial := strings.Cut(rest, ".p/")
	if partial {
		n, err := decimal(width, FullWidth-1)
		if err != nil {
			return Path{}, fmt.Errorf("width: %w", err)
		}
		if n == 0 {
			// SPEC: "<W> is the width of the tile, a decimal ASCII integer between 1
			// and 255, with no additional leading zeros."
			return Path{}, errors.New("width: want 1 to 255")
		}
		p.Width = int(n) //nolint:gosec // below FullWidth
	}
	var err error
	p.Index, err = parseIndex(index)
	return p, err
}

// parseIndex parses groups of three digits of which all but the last start with
// an x.
func parseIndex(s string) (uint64, error) {
	var n uint64
	groups := strings.Split(s, "/")
	for i, g := range groups {
		last := i == len(groups)-1
		if !last {
			var ok bool
			if g, ok = strings.CutPrefix(g, "x"); !ok {
				return 0, errors.New("index: want an x before every group but the last")
			}
		}
		if len(g) != 3 {
			return 0, errors.New("index: want groups of three digits")
		}
		for _, c := range []byte(g) {
			if c < '0' || c > '9' {
				return 0, errors.New("index: want groups of three digits")
			}
			n = n*10 + uint64(c-'0')
		}
		if n > maxIndex {
			return 0, fmt.Errorf("index: want at most %d", uint64(maxIndex))
		}
	}
	return n, nil
}

// decimal parses a number without sign and leading zeros.
func decimal(s string, limit uint64) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > limit || s != strconv.FormatUint(n, 10) {
		return 0, fmt.Errorf("want a decimal number, at most %d, without leading zeros", limit)
	}
	return n, nil
}

// String returns the one spelling of the path, without a leading slash.
//
// SPEC (C2SP tlog-tiles, "Merkle Tree"): "<N> … MUST be a non-negative integer
// encoded into zero-padded 3-digit path elements. All but the last path element
// MUST begin with an x."
func (p Path) String() string {
	var b strings.Builder
	b.WriteString("tile/")
	if p.Entries {
		b.WriteString("entries")
	} else {
		b.WriteString(strconv.Itoa(p.Level))
	}
	b.WriteByte('/')
	digits := strconv.FormatUint(p.Index, 10)
	if pad := (3 - len(digits)%3) % 3; pad > 0 {
		digits = "00"[:pad] + digits
	}
	for ; len(digits) > 3; digits = digits[3:] {
		b.WriteString("x" + digits[:3] + "/")
	}
	b.WriteString(digits)
	if p.Width != FullWidth {
		b.WriteString(".p/" + strconv.Itoa(p.Width))
	}
	return b.String()
}

// Full returns the path of the full tile of which p is, or may become, a part.
func (p Path) Full() Path {
	p.Width = FullWidth
	return p
}

// In reports whether a tree of size leaves has all of what p names.
func (p Path) In(size uint64) bool {
	shift := heightBits * p.Level
	if shift >= 64 || p.Index > maxIndex {
		return false
	}
	// A partial tile of every width up to the tree's is a prefix of a tile that
	// has been or could have been published.
	have := size >> shift
	return have/FullWidth > p.Index ||
		have/FullWidth == p.Index && have%FullWidth >= uint64(p.Width) //nolint:gosec // not negative
}

// Edge returns the index of the last, growing tile of a level, 0 to 63, in a
// tree of size leaves, and how many hashes it holds: 0 to 255, 0 if there is no
// such tile yet. For level 0 they are those of the growing entry bundle too.
func Edge(size uint64, level int) (index uint64, width int) {
	have := size >> (heightBits * level)
	return have / FullWidth, int(have % FullWidth)
}

// Levels returns how many levels of tiles a tree of size leaves has, 0 for an
// empty one.
func Levels(size uint64) int {
	return (bits.Len64(size) + heightBits - 1) / heightBits
}
