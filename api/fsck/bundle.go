package fsck

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/trialog/trialog/api/tile"
)

// leaves checks bundles and the level-0 tiles over them.
type leaves struct {
	reader *reader
	copies []*reader
	report func(Finding)
	// budget is how many bytes may yet be hashed to find single wrong bits.
	budget atomic.Int64
	trace  func(p tile.Path, hashes []Trusted)
}

// sound is an entry that the signed root supports.
type sound struct {
	index uint64
	raw   []byte
}

// check compares a bundle and its tile with what is trusted, and returns the
// entries that are right and the trusted leaf hashes.
func (l *leaves) check(ctx context.Context, task leafTask) ([]sound, []Trusted, error) {
	b, err := l.reader.bundle(ctx, tile.Path{Entries: true, Index: task.index, Width: task.width})
	if err != nil {
		return nil, nil, err
	}
	hashes := task.leaves
	if task.tile == nil {
		t, err := l.reader.tile(ctx, tile.Path{Index: task.index, Width: task.width})
		if err != nil {
			return nil, nil, err
		}
		hashes = settleLeaves(t, &b, task.root)
		(&walker{report: l.report}).compareTile(t, hashes)
		l.trace(t.path, hashes)
	}
	entries, err := l.compareBundle(ctx, &b, hashes)
	return entries, hashes, err
}

// settleLeaves finds the leaf hashes that the trusted root over them supports:
// those of the tile, those of the entries, or a mixture.
func settleLeaves(t tileObject, b *bundleObject, root Trusted) []Trusted {
	s := make(slots, t.path.Width)
	for i, h := range t.hashes {
		s.add(i, h)
	}
	confirmed := make([]bool, len(s))
	for i, h := range b.hashes() {
		confirmed[i] = true
		s.add(i, h)
	}
	right := func(hashes []hash) bool { return root.Known && rootOf(hashes) == root.Hash }
	if hashes, ok := s.settle(right); ok {
		return trust(hashes)
	}
	if hashes, ok := mend(t.hashes, root); ok {
		return trust(hashes)
	}
	return s.agreed(confirmed)
}

// compareBundle reports where a bundle's entries are not those of the trusted
// leaf hashes, and returns the ones that are.
func (l *leaves) compareBundle(ctx context.Context, b *bundleObject, want []Trusted) ([]sound, error) {
	first := b.path.Index * tile.FullWidth
	if b.problem != nil {
		f := *b.problem
		f.Entry, f.Entries = &first, uint64(len(want))
		l.report(f)
		return nil, nil
	}
	c := &comparison{leaves: l, b: b, want: want}
	for c.i < len(want) {
		if err := c.step(ctx); err != nil {
			return nil, err
		}
		if c.cut {
			break
		}
	}
	c.flush()
	if !c.cut && c.offset < len(b.data) && b.exact(b.path) {
		l.report(Finding{
			Kind: KindSurplus, Object: b.name, Offset: int64(c.offset), Length: int64(len(b.data) - c.offset), Exact: true,
			Detail: fmt.Sprintf("goes on after its %d entries", b.path.Width),
		})
	}
	return c.sound, nil
}

// comparison walks along a bundle.
type comparison struct {
	*leaves
	b      *bundleObject
	want   []Trusted
	buf    []byte
	i      int // the next entry of the bundle
	offset int // of its length
	cut    bool
	sound  []sound
	// run collects wrong entries that follow one another.
	run *Finding
}

func (c *comparison) report(f Finding) { c.leaves.report(c.b.place(f)) }

// step judges the next entry.
func (c *comparison) step(ctx context.Context) error {
	entry, next, ok := entryAt(c.b.data, c.offset)
	if !c.want[c.i].Known {
		// Its tile disputes it; there is nothing to hold it against.
		c.flush()
		if !ok {
			c.truncated()
		}
		c.i, c.offset = c.i+1, next
		return nil
	}
	if ok && c.is(entry, c.i) {
		c.flush()
		c.keep(entry)
		c.i, c.offset = c.i+1, next
		return nil
	}
	if c.run == nil {
		done, err := c.explain(ctx, entry, next, ok)
		if err != nil || done {
			return err
		}
	}
	if !ok {
		c.flush()
		c.truncated()
		return nil
	}
	c.wrong(next)
	c.i, c.offset = c.i+1, next
	return nil
}

func (c *comparison) is(entry []byte, i int) bool {
	var h hash
	h, c.buf = leafHash(c.buf, entry)
	return c.want[i].Known && h == c.want[i].Hash
}

func (c *comparison) index() uint64 {
	return c.b.path.Index*tile.FullWidth + uint64(c.i) //nolint:gosec // not negative
}

func (c *comparison) keep(entry []byte) {
	c.sound = append(c.sound, sound{index: c.index(), raw: entry})
}

// explain looks for the exact wrong byte of the entry: by another copy, by a
// length with which the entry is right, or by a bit whose change makes it right.
// If it finds where the next entry begins it reports and goes on there.
func (c *comparison) explain(ctx context.Context, entry []byte, next int, ok bool) (bool, error) {
	if done, err := c.byCopy(ctx); done || err != nil {
		return done, err
	}
	if c.byLength() {
		return true, nil
	}
	// With the next entry wrong too, no single bit of this one is to blame.
	if !ok || !c.follows(next) {
		return false, nil
	}
	if at, found := c.byBit(entry); found {
		c.exact(c.offset+2+at, next)
		c.i, c.offset = c.i+1, next
		return true, nil
	}
	return false, nil
}

// exact reports the entry with its first wrong byte.
func (c *comparison) exact(at, end int) {
	c.report(Finding{
		Kind: KindEntry, Object: c.b.name, Offset: int64(at), Length: int64(end - at), Exact: true,
		Entry: new(c.index()), Entries: 1, Want: hexOf(c.want[c.i].Hash), Supports: SupportsAbove,
		Detail: "the entry is not the one of its leaf hash, which the signed root supports",
	})
}

// follows tells whether the entry behind this one is right.
func (c *comparison) follows(next int) bool {
	if c.i+1 == len(c.want) {
		return !c.b.exact(c.b.path) || next == len(c.b.data)
	}
	entry, _, ok := entryAt(c.b.data, next)
	return ok && c.is(entry, c.i+1)
}

// byLength tries the lengths that differ from the stored one in one bit.
func (c *comparison) byLength() bool {
	if c.offset+2 > len(c.b.data) {
		return false
	}
	stored := int(binary.BigEndian.Uint16(c.b.data[c.offset:]))
	for bit := range 16 {
		n := stored ^ 1<<bit
		end := c.offset + 2 + n
		if end > len(c.b.data) || !c.is(c.b.data[c.offset+2:end], c.i) {
			continue
		}
		at := c.offset + 1 - bit/8
		c.exact(at, c.offset+2)
		c.keep(c.b.data[c.offset+2 : end])
		c.i, c.offset = c.i+1, end
		return true
	}
	return false
}

// maxBitSearch is the longest entry in which a single wrong bit is looked for.
const maxBitSearch = 16 << 10

// byBit looks for a bit whose change makes the entry right, and returns its byte.
func (c *comparison) byBit(entry []byte) (at int, found bool) {
	if len(entry) > maxBitSearch || c.budget.Add(-8*int64(len(entry))*int64(len(entry)+64)) < 0 {
		return 0, false
	}
	changed := bytes.Clone(entry)
	for at = range changed {
		for bit := range 8 {
			changed[at] ^= 1 << bit
			if c.is(changed, c.i) {
				return at, true
			}
			changed[at] ^= 1 << bit
		}
	}
	return 0, false
}

// byCopy compares the entry with that of another copy which is right.
func (c *comparison) byCopy(ctx context.Context) (bool, error) {
	for _, r := range c.copies {
		other, err := r.bundle(ctx, c.b.path)
		if err != nil {
			return false, err
		}
		if len(other.entries) <= c.i || !c.is(other.entries[c.i], c.i) {
			continue
		}
		good := binary.BigEndian.AppendUint16(nil, uint16(len(other.entries[c.i]))) //nolint:gosec // at most MaxEntry
		good = append(good, other.entries[c.i]...)
		have := c.b.data[min(c.offset, len(c.b.data)):]
		at := 0
		for at < len(good) && at < len(have) && good[at] == have[at] {
			at++
		}
		if at == len(have) {
			return false, nil // cut short, which is said otherwise
		}
		// Where the length is wrong only the copy says where the next one begins.
		end := min(c.offset+len(good), len(c.b.data))
		c.exact(c.offset+at, end)
		c.i, c.offset = c.i+1, end
		return true, nil
	}
	return false, nil
}

// wrong adds the entry to the run of wrong ones.
func (c *comparison) wrong(next int) {
	if c.run == nil {
		var got hash
		got, c.buf = leafHash(c.buf, c.b.data[c.offset+2:next])
		c.run = &Finding{
			Kind: KindEntry, Object: c.b.name, Offset: int64(c.offset), Entry: new(c.index()),
			Want: hexOf(c.want[c.i].Hash), Got: hexOf(got), Supports: SupportsAbove,
			Detail: "the entry is not the one of its leaf hash, which the signed root supports",
		}
	}
	c.run.Entries++
	c.run.Length = int64(next) - c.run.Offset
}

func (c *comparison) flush() {
	if c.run != nil {
		c.report(*c.run)
		c.run = nil
	}
}

// truncated reports that the bundle ends before its last entry does.
func (c *comparison) truncated() {
	c.cut = true
	c.report(Finding{
		Kind: KindTruncated, Object: c.b.name, Offset: int64(len(c.b.data)), Exact: true,
		Entry: new(c.index()), Entries: uint64(len(c.want[c.i:])), Supports: SupportsAbove,
		Detail: fmt.Sprintf("ends in entry %d of its %d", c.i, len(c.want)),
	})
}

// entryAt returns the entry whose length stands at offset, and where the next
// one begins.
func entryAt(data []byte, offset int) (entry []byte, next int, ok bool) {
	if offset > len(data) {
		return nil, len(data), false
	}
	entries, n, err := tile.ParsePrefix(data[offset:], 1)
	if err != nil {
		return nil, len(data), false
	}
	return entries[0], offset + n, true
}
