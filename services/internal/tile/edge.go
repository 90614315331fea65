package tile

import (
	"encoding/binary"
	"fmt"

	"github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/services/internal/blob"
)

// edge is the right edge of the tree: everything that the next entry changes.
type edge struct {
	size   uint64
	bundle []byte   // the growing bundle, size mod 256 entries
	tiles  []*nodes // the growing tile of each level; never nil, may be empty
}

// extend returns the edge after entries, none longer than MaxEntry, and the
// objects that they fill. The receiver stays as it is: it is what counts until
// everything is durable.
func (e *edge) extend(entries [][]byte) (*edge, []blob.Object) {
	next := &edge{size: e.size, tiles: make([]*nodes, len(e.tiles))}
	for i, t := range e.tiles {
		next.tiles[i] = new(*t)
	}
	next.bundle = make([]byte, len(e.bundle), len(e.bundle)+min(len(entries), FullWidth)*(2+len(entries[0])))
	copy(next.bundle, e.bundle)
	var full []blob.Object
	var h hasher
	for _, entry := range entries {
		next.bundle = append(next.bundle, byte(len(entry)>>8), byte(len(entry)))
		next.bundle = append(next.bundle, entry...)
		index := next.size / FullWidth
		next.size++
		if next.size%FullWidth == 0 {
			p := Path{Entries: true, Index: index, Width: FullWidth}
			full = append(full, blob.Object{Key: p.String(), Data: next.bundle})
			next.bundle = make([]byte, 0, len(next.bundle))
		}
		full = next.push(h.leaf(entry), full)
	}
	return next, full
}

// push adds a leaf hash whose entry is counted in size already, and the hashes
// of the tiles that it fills to the levels above.
func (e *edge) push(leaf Hash, full []blob.Object) []blob.Object {
	for level := 0; ; level++ {
		if level == len(e.tiles) {
			e.tiles = append(e.tiles, new(nodes))
		}
		t := e.tiles[level]
		t.push(leaf)
		if !t.full() {
			return full
		}
		p := Path{Level: level, Index: e.size>>(heightBits*(level+1)) - 1, Width: FullWidth}
		full = append(full, blob.Object{Key: p.String(), Data: t.bytes(FullWidth)})
		leaf = t.root()
		e.tiles[level] = new(nodes)
	}
}

func (e *edge) root() Hash { return foldRoot(e.tiles) }

// tail is a growing object: its content, of which from bytes are there already.
type tail struct {
	key     string
	from    int
	content func(from int) []byte
}

func (t tail) data() []byte { return t.content(t.from) }

// tails returns the tails of e that are not the same in old; settled says that
// the store is known to have the tails of old.
func (e *edge) tails(old *edge, segmented, settled bool) []tail {
	// What an earlier writer left may be in another form.
	tails := e.bundleTails(old, segmented, !settled)
	for level, nodes := range e.tiles {
		p := e.tilePath(level)
		if p.Width == 0 {
			continue
		}
		t := tail{key: TailKey(p), content: func(from int) []byte {
			return nodes.appendRange(nil, from/HashSize, nodes.width)
		}}
		if before := old.tilePath(level); before.Index == p.Index {
			t.from = before.Width * HashSize
		}
		if t.from < p.Width*HashSize {
			tails = append(tails, t)
		}
	}
	return tails
}

// bundleTails returns the growing bundle, or those of its segments that are not
// the same in old; anew, all of them.
func (e *edge) bundleTails(old *edge, segmented, anew bool) []tail {
	bundle, before := e.bundlePath(), old.bundlePath()
	if bundle.Width == 0 || bundle == before {
		return nil
	}
	from := 0 // how many bytes of the bundle are there
	if before.Index == bundle.Index && !anew {
		from = len(old.bundle)
	}
	if !segmented {
		return []tail{{key: TailKey(bundle), from: from, content: func(from int) []byte { return e.bundle[from:] }}}
	}
	var tails []tail
	for n, start := 0, 0; start < len(e.bundle); n++ {
		end := start
		for i := 0; i < segmentWidth && end < len(e.bundle); i++ {
			end += 2 + int(binary.BigEndian.Uint16(e.bundle[end:]))
		}
		if segment := e.bundle[start:end]; end > from {
			tails = append(tails, tail{
				key: segmentKey(bundle.Index, n), from: max(0, from-start),
				content: func(from int) []byte { return segment[from:] },
			})
		}
		start = end
	}
	return tails
}

// bundlePath names the growing bundle; its width is 0 if there is none.
func (e *edge) bundlePath() Path {
	index, width := tile.Edge(e.size, 0)
	return Path{Entries: true, Index: index, Width: width}
}

// tilePath names the growing tile of a level; its width is 0 if there is none.
func (e *edge) tilePath(level int) Path {
	index, width := tile.Edge(e.size, level)
	return Path{Level: level, Index: index, Width: width}
}

// tailKeys returns the keys of all tails that count.
func (e *edge) tailKeys(segmented bool) []string {
	keys := e.bundleKeys(segmented)
	for level := range e.tiles {
		if p := e.tilePath(level); p.Width > 0 {
			keys = append(keys, TailKey(p))
		}
	}
	return keys
}

// bundleKeys returns the keys of the growing bundle, or of its segments.
func (e *edge) bundleKeys(segmented bool) []string {
	p := e.bundlePath()
	if p.Width == 0 {
		return nil
	}
	if !segmented {
		return []string{TailKey(p)}
	}
	var keys []string
	for n := range segments(p.Width) {
		keys = append(keys, segmentKey(p.Index, n))
	}
	return keys
}

// segments returns how many segments hold so many entries.
func segments(width int) int { return (width + segmentWidth - 1) / segmentWidth }

// check returns an error unless the growing tiles have the widths that the size
// asks for.
func (e *edge) check() error {
	for level, t := range e.tiles {
		if p := e.tilePath(level); t.width != p.Width {
			return fmt.Errorf("level %d has %d hashes, want %d", level, t.width, p.Width)
		}
	}
	return nil
}
