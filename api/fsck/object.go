package fsck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync/atomic"

	"github.com/trialog/trialog/api/tile"
)

// maxFailures is after how many objects in a row that the source could not give
// it is taken to be gone.
const maxFailures = 16

// object is a stored tile or bundle, as far as it could be read.
type object struct {
	name string // under which it was found, or should be
	data []byte
	// problem is set if the object as a whole is missing or unreadable.
	problem *Finding
}

// reader reads objects and counts.
type reader struct {
	source         Source
	objects, bytes atomic.Uint64
	failures       atomic.Int32
}

// tailName is where Trialog's own folders keep a tile while it grows: at the
// places of C2SP tlog-tiles there are full ones only.
func tailName(p tile.Path) string {
	if p.Entries {
		return fmt.Sprintf("tail/entries-%d", p.Index)
	}
	return fmt.Sprintf("tail/%d-%d", p.Level, p.Index)
}

// read reads the object that p names. The error is one that ends the check.
func (r *reader) read(ctx context.Context, p tile.Path) (object, error) {
	names := []string{p.String()}
	if p.Width < tile.FullWidth {
		// SPEC (C2SP tlog-tiles, "Partial Tiles"): a log may delete them once the
		// full tile is there, and clients then fetch that.
		names = append(names, p.Full().String(), tailName(p))
	}
	for _, name := range names {
		data, err := r.source.Get(ctx, name)
		switch {
		case err == nil:
			r.failures.Store(0)
			r.objects.Add(1)
			r.bytes.Add(uint64(len(data)))
			return object{name: name, data: data}, nil
		case errors.Is(err, fs.ErrNotExist):
			continue
		case ctx.Err() != nil:
			return object{}, ctx.Err()
		case r.failures.Add(1) >= maxFailures:
			return object{}, fmt.Errorf("read %s: %w: the last %d objects could not be read either", name, err, maxFailures-1)
		}
		return object{name: name, problem: &Finding{
			Kind: KindUnreadable, Object: name, Detail: fmt.Sprintf("cannot be read: %v", err),
		}}, nil
	}
	r.failures.Store(0)
	return object{name: names[0], problem: &Finding{Kind: KindMissing, Object: names[0], Detail: "there is no such object"}}, nil
}

// tileObject is a hash tile as it is stored.
type tileObject struct {
	object
	path   tile.Path
	hashes []hash // at most Width; fewer if it is cut short
}

func (r *reader) tile(ctx context.Context, p tile.Path) (tileObject, error) {
	o, err := r.read(ctx, p)
	return tileObject{object: o, path: p, hashes: hashesOf(o.data, p.Width)}, err
}

// exact tells whether the object stands under the very name that was asked for,
// so that bytes behind its end are wrong. Others hold more than was asked for.
func (o object) exact(p tile.Path) bool { return o.name == p.String() }

// whole returns the hashes of a full tile, or nil.
func (t tileObject) whole() []hash {
	if len(t.hashes) < tile.FullWidth {
		return nil
	}
	return t.hashes
}

// sizeProblem says what is wrong with the length of a tile.
func (t tileObject) sizeProblem() *Finding {
	want := int64(t.path.Width * tile.HashSize)
	got := int64(len(t.data))
	switch {
	case t.problem != nil:
		return t.problem
	case got < want:
		return &Finding{
			Kind: KindTruncated, Object: t.name, Offset: got, Length: want - got, Exact: true,
			Detail: fmt.Sprintf("ends after %d bytes, want %d", got, want),
		}
	case got > want && t.exact(t.path):
		return &Finding{
			Kind: KindSurplus, Object: t.name, Offset: want, Length: got - want, Exact: true,
			Detail: fmt.Sprintf("goes on after %d bytes", want),
		}
	}
	return nil
}

// bundleObject is an entry bundle as it is stored.
type bundleObject struct {
	object
	path    tile.Path
	parts   []piece  // if it is not one object
	entries [][]byte // at most Width; fewer if it cannot be parsed further
	end     int      // of the last entry
}

func (r *reader) bundle(ctx context.Context, p tile.Path) (bundleObject, error) {
	o, err := r.read(ctx, p)
	if err != nil {
		return bundleObject{}, err
	}
	b := bundleObject{object: o, path: p}
	b.parse()
	if p.Width < tile.FullWidth && len(b.entries) < p.Width && (b.problem != nil || !b.exact(p)) {
		pieces, ok, err := r.pieces(ctx, p)
		if err != nil || ok {
			return pieces, err
		}
	}
	return b, nil
}

// segmentWidth is how many entries a piece of a growing bundle holds, where
// Trialog keeps one in pieces.
const segmentWidth = 16

// piece is a part of a bundle that is an object of its own.
type piece struct {
	name string
	from int // in the bundle's bytes
}

// pieces reads a growing bundle that is kept in pieces; ok is false if there is
// no first one.
func (r *reader) pieces(ctx context.Context, p tile.Path) (b bundleObject, ok bool, err error) {
	b.path = p
	for n := 0; n*segmentWidth < p.Width; n++ {
		name := fmt.Sprintf("%s-%d", tailName(p), n)
		data, err := r.source.Get(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return b, false, fmt.Errorf("read %s: %w", name, err)
		}
		r.objects.Add(1)
		r.bytes.Add(uint64(len(data)))
		// What follows a piece's entries does not count; in one that is damaged it
		// may be a part of them.
		if _, length, err := tile.ParsePrefix(data, min(segmentWidth, p.Width-n*segmentWidth)); err == nil {
			data = data[:length]
		}
		b.parts = append(b.parts, piece{name, len(b.data)})
		b.data = append(b.data, data...)
	}
	if len(b.parts) == 0 {
		return b, false, nil
	}
	b.name = b.parts[0].name
	b.parse()
	return b, true, nil
}

// place makes a finding about the bundle one about the piece that it is in.
func (b *bundleObject) place(f Finding) Finding {
	for _, part := range slices.Backward(b.parts) {
		if int64(part.from) <= f.Offset {
			f.Object = part.name
			f.Offset -= int64(part.from)
			break
		}
	}
	return f
}

func (b *bundleObject) parse() {
	b.entries, b.end = b.entries[:0], 0
	for len(b.entries) < b.path.Width {
		entries, n, err := tile.ParsePrefix(b.data[b.end:], 1)
		if err != nil {
			return
		}
		b.entries = append(b.entries, entries[0])
		b.end += n
	}
}

func (b *bundleObject) hashes() []hash {
	list := make([]hash, len(b.entries))
	var buf []byte
	for i, e := range b.entries {
		list[i], buf = leafHash(buf, e)
	}
	return list
}
