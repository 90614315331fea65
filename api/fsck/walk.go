package fsck

import (
	"context"
	"fmt"
	"slices"

	"github.com/trialog/trialog/api/tile"
)

// walker goes through the tree from the signed root down, in the order of the
// entries, and hands each bundle with its trusted leaf hashes, or the trusted
// root over them, to next.
type walker struct {
	reader *reader
	size   uint64
	root   hash
	report func(Finding)
	next   func(leafTask) error
	// trace is shown the trusted hashes of each hash tile of level 1 and above,
	// and of the growing ones.
	trace func(p tile.Path, hashes []Trusted)
	// from and to restrict the walk to some entries; to 0: to the end.
	from, to uint64
}

// wants tells whether any of n entries from first on is to be looked at.
func (w *walker) wants(first, n uint64) bool {
	return first+n > w.from && (w.to == 0 || first < w.to)
}

// leafTask is a bundle and its level-0 tile.
type leafTask struct {
	index uint64
	width int
	// root is the trusted root over a full tile's hashes, if it is known.
	root Trusted
	// tile and leaves are set for the growing bundle: its tile was settled with
	// the other growing ones.
	tile   *tileObject
	leaves []Trusted
}

func (w *walker) walk(ctx context.Context) error {
	levels := tile.Levels(w.size)
	tiles := make([]tileObject, levels)
	for level := range tiles {
		index, width := tile.Edge(w.size, level)
		p := tile.Path{Level: level, Index: index, Width: width}
		tiles[level].path = p
		if width > 0 {
			var err error
			if tiles[level], err = w.reader.tile(ctx, p); err != nil {
				return err
			}
		}
	}
	edge, err := w.settleEdge(ctx, tiles)
	if err != nil {
		return err
	}
	for level := levels - 1; level >= 0; level-- {
		p := tiles[level].path
		if p.Width == 0 {
			continue
		}
		w.trace(p, edge[level])
		w.compareTile(tiles[level], edge[level])
		if level == 0 && !w.wants(p.Index*tile.FullWidth, tile.FullWidth) {
			return nil
		} else if level == 0 {
			return w.next(leafTask{index: p.Index, width: p.Width, tile: &tiles[0], leaves: edge[0]})
		}
		for i, h := range edge[level] {
			if err := w.descend(ctx, level-1, p.Index*tile.FullWidth+uint64(i), h); err != nil {
				return err
			}
		}
	}
	return nil
}

// descend settles the full tile below a trusted hash, and what lies below it.
func (w *walker) descend(ctx context.Context, level int, index uint64, root Trusted) error {
	span := uint64(1) << (8 * (level + 1))
	if !w.wants(index*span, span) {
		return nil
	}
	if level == 0 {
		return w.next(leafTask{index: index, width: tile.FullWidth, root: root})
	}
	t, err := w.reader.tile(ctx, tile.Path{Level: level, Index: index, Width: tile.FullWidth})
	if err != nil {
		return err
	}
	hashes, err := w.settleTile(ctx, t, root)
	if err != nil {
		return err
	}
	w.trace(t.path, hashes)
	w.compareTile(t, hashes)
	for i, h := range hashes {
		if err := w.descend(ctx, level-1, index*tile.FullWidth+uint64(i), h); err != nil {
			return err
		}
	}
	return nil
}

// settleTile finds the hashes of a full tile of level 1 or above that the
// trusted root over them supports.
func (w *walker) settleTile(ctx context.Context, t tileObject, root Trusted) ([]Trusted, error) {
	s := make(slots, t.path.Width)
	for i, h := range t.hashes {
		s.add(i, h)
	}
	right := func(hashes []hash) bool { return root.Known && rootOf(hashes) == root.Hash }
	if hashes, ok := s.settle(right); ok {
		return trust(hashes), nil
	}
	confirmed := make([]bool, len(s))
	for depth := 0; depth <= t.path.Level; depth++ {
		if err := w.derive(ctx, s, confirmed, t.path, depth); err != nil {
			return nil, err
		}
		if hashes, ok := s.settle(right); ok {
			return trust(hashes), nil
		}
		if !root.Known {
			break // nothing deeper could settle it
		}
	}
	if hashes, ok := mend(t.hashes, root); ok {
		return trust(hashes), nil
	}
	return s.agreed(confirmed), nil
}

// derive adds to the places of a tile the roots of the tiles below it, as they
// follow from the objects that lie depth levels further down.
func (w *walker) derive(ctx context.Context, s slots, confirmed []bool, p tile.Path, depth int) error {
	for i := range s {
		roots, err := w.rootsBelow(ctx, p.Level-1, p.Index*tile.FullWidth+uint64(i), depth)
		if err != nil {
			return err
		}
		for _, h := range roots {
			confirmed[i] = true
			s.add(i, h)
		}
	}
	return nil
}

// rootsBelow returns the roots over a full tile that follow from its own bytes
// (depth 0), from those of the tiles below it (1), and so on down to the entries
// (level + 1): none if those are not whole, several if both the entries and
// their tile may be damaged.
func (w *walker) rootsBelow(ctx context.Context, level int, index uint64, depth int) ([]hash, error) {
	p := tile.Path{Level: level, Index: index, Width: tile.FullWidth}
	if depth == 0 || level == 0 {
		t, err := w.reader.tile(ctx, p)
		if err != nil {
			return nil, err
		}
		if depth > 0 {
			return w.mixtures(ctx, t)
		}
		if t.whole() == nil {
			return nil, nil
		}
		return []hash{rootOf(t.hashes)}, nil
	}
	hashes := make([]hash, tile.FullWidth)
	for i := range hashes {
		roots, err := w.rootsBelow(ctx, level-1, index*tile.FullWidth+uint64(i), depth-1)
		if err != nil || len(roots) == 0 {
			return nil, err
		}
		hashes[i] = roots[0]
	}
	return []hash{rootOf(hashes)}, nil
}

// maxMixed is at how many places a tile and its entries may differ for all
// mixtures of them to be tried.
const maxMixed = 4

// mixtures returns the root over the entries of a bundle and, if they differ
// from their tile at a few places only, those over the mixtures of both.
func (w *walker) mixtures(ctx context.Context, t tileObject) ([]hash, error) {
	b, err := w.reader.bundle(ctx, tile.Path{Entries: true, Index: t.path.Index, Width: tile.FullWidth})
	if err != nil {
		return nil, err
	}
	hashes := b.hashes()
	if len(hashes) < tile.FullWidth {
		return nil, nil
	}
	roots := []hash{rootOf(hashes)}
	var differ []int
	for i := range min(len(t.hashes), len(hashes)) {
		if hashes[i] != t.hashes[i] {
			differ = append(differ, i)
		}
	}
	if len(differ) > maxMixed {
		return roots, nil
	}
	for choice := 1; choice < 1<<len(differ); choice++ {
		mixed := slices.Clone(hashes)
		for bit, i := range differ {
			if choice>>bit&1 == 1 {
				mixed[i] = t.hashes[i]
			}
		}
		roots = append(roots, rootOf(mixed))
	}
	return roots, nil
}

// settleEdge finds the hashes of the growing tiles that the signed root supports.
// They are settled together, because only together do they have a root.
func (w *walker) settleEdge(ctx context.Context, tiles []tileObject) ([][]Trusted, error) {
	var s slots
	from := make([]int, len(tiles)+1)
	for level, t := range tiles {
		own := make(slots, t.path.Width)
		for i, h := range t.hashes {
			own.add(i, h)
		}
		s = append(s, own...)
		from[level+1] = len(s)
	}
	right := func(hashes []hash) bool {
		edge := make([][]hash, len(tiles))
		for level := range tiles {
			edge[level] = hashes[from[level]:from[level+1]]
		}
		return foldEdge(edge) == w.root
	}
	split := func(all []Trusted) [][]Trusted {
		edge := make([][]Trusted, len(tiles))
		for level := range tiles {
			edge[level] = all[from[level]:from[level+1]]
		}
		return edge
	}
	if hashes, ok := s.settle(right); ok {
		return split(trust(hashes)), nil
	}
	confirmed := make([]bool, len(s))
	for depth := range tiles {
		for level := depth; level < len(tiles); level++ {
			part := from[level]
			end := from[level+1]
			if err := w.deriveEdge(ctx, s[part:end], confirmed[part:end], tiles[level].path, depth); err != nil {
				return nil, err
			}
		}
		if hashes, ok := s.settle(right); ok {
			return split(trust(hashes)), nil
		}
	}
	edge := split(s.agreed(confirmed))
	w.reportEdge(s, confirmed)
	return edge, nil
}

// deriveEdge is derive for a growing tile, of level 0 too.
func (w *walker) deriveEdge(ctx context.Context, s slots, confirmed []bool, p tile.Path, depth int) error {
	if p.Level > 0 || p.Width == 0 {
		return w.derive(ctx, s, confirmed, p, depth)
	}
	b, err := w.reader.bundle(ctx, tile.Path{Entries: true, Index: p.Index, Width: p.Width})
	if err != nil {
		return err
	}
	for i, h := range b.hashes() {
		confirmed[i] = true
		s.add(i, h)
	}
	return nil
}

// reportEdge says that the right edge does not give the signed root although
// nothing in it contradicts another: the log is another one than was signed.
func (w *walker) reportEdge(s slots, confirmed []bool) {
	for i := range s {
		if len(s[i]) != 1 || !confirmed[i] {
			return // compareTile names the places
		}
	}
	w.report(Finding{
		Kind: KindRoot, Want: hexOf(w.root), Supports: SupportsNeither,
		Detail: fmt.Sprintf("tiles and entries fit together and give another root than the signed one at size %d", w.size),
	})
}

// compareTile reports where a hash tile differs from what is trusted.
func (w *walker) compareTile(t tileObject, want []Trusted) {
	if f := t.sizeProblem(); f != nil {
		w.report(*f)
	}
	for i := 0; i < len(t.hashes); i++ {
		if want[i].Known && t.hashes[i] == want[i].Hash {
			continue
		}
		first := i
		for i+1 < len(t.hashes) && want[i+1].Known == want[first].Known && (!want[i+1].Known || t.hashes[i+1] != want[i+1].Hash) {
			i++
		}
		w.report(wrongHashes(t, first, i+1, want[first]))
	}
}

// wrongHashes is the finding that the hashes first ≤ i < end of a tile are wrong.
func wrongHashes(t tileObject, first, end int, want Trusted) Finding {
	f := Finding{
		Kind: KindHash, Object: t.name, Offset: int64(first * tile.HashSize), Length: int64((end - first) * tile.HashSize),
		Got: hexOf(t.hashes[first]), Supports: SupportsBelow, Exact: true,
		Detail: fmt.Sprintf("hash %d of the tile is wrong: the signed root supports another one", first),
	}
	if !want.Known {
		f.Kind, f.Exact, f.Supports = KindDispute, false, SupportsNeither
		f.Detail = fmt.Sprintf("hash %d of the tile differs from what lies below it, and the signed root supports neither", first)
		return f
	}
	f.Want = hexOf(want.Hash)
	for b := range want.Hash {
		if want.Hash[b] != t.hashes[first][b] {
			f.Offset += int64(b)
			break
		}
	}
	f.Length = int64(end*tile.HashSize) - f.Offset
	return f
}
