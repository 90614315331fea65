package fsck_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/fsck"
	"github.com/trialog/trialog/api/tile"
)

// TestFlips changes one bit in each kind of object of a tall log and requires
// that exactly this byte is named.
func TestFlips(t *testing.T) {
	t.Parallel()
	l := tall().at(t, 65536+3*256+77)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, group := range []struct {
		prefix string
		n      int
		kind   fsck.Kind
	}{
		{"tile/entries/", 20, fsck.KindEntry},
		{"tile/entries/259.p/", 6, fsck.KindEntry}, // the growing bundle
		{"tile/0/", 12, fsck.KindHash},
		{"tile/0/259.p/", 4, fsck.KindHash},
		{"tile/1/000", 6, fsck.KindHash},
		{"tile/1/001.p/", 4, fsck.KindHash},
		{"tile/2/000.p/", 4, fsck.KindHash},
		{"checkpoint", 12, fsck.KindCheckpoint},
	} {
		paths := slices.Sorted(func(yield func(string) bool) {
			for path := range l.files {
				if strings.HasPrefix(path, group.prefix) && !yield(path) {
					return
				}
			}
		})
		for range group.n {
			path := paths[rng.IntN(len(paths))]
			at, bit := rng.IntN(len(l.files[path])), rng.IntN(8)
			about := fmt.Sprintf("%s byte %d bit %d", path, at, bit)
			r := l.check(t, files{path: flip(l.files[path], at, bit)}, treeOnly)
			f := only(t, r, about)
			if f.Object != path || f.Kind != group.kind || !f.Exact || f.Offset != int64(at) {
				t.Errorf("%s: found %v", about, f)
			}
			if !r.Complete || r.Root == "" {
				t.Errorf("%s: the check did not go on", about)
			}
		}
	}
}

// TestEveryBitOfTheCheckpoint: wherever in the note the bit is, also where the
// policy would not have missed the signature.
func TestEveryBitOfTheCheckpoint(t *testing.T) {
	t.Parallel()
	l := statements().at(t, 1)
	note := l.files["checkpoint"]
	for at := range note {
		// Signatures are long, and their bytes are alike.
		if at > 60 && at%7 != 0 || at > 400 && at%173 != 0 {
			continue
		}
		r := l.check(t, files{"checkpoint": flip(note, at, at%8)})
		if f := only(t, r, strconv.Itoa(at)); f.Offset != int64(at) || !f.Exact || f.Kind != fsck.KindCheckpoint {
			t.Fatalf("byte %d: %v", at, f)
		}
	}
}

// TestObjects damages whole objects.
func TestObjects(t *testing.T) {
	t.Parallel()
	const n = 65536 + 3*256 + 77
	l := tall().at(t, n)
	for _, path := range []string{
		"tile/entries/000", "tile/entries/131", "tile/entries/259.p/77", "tile/0/000", "tile/0/258", "tile/0/259.p/77",
		"tile/1/000", "tile/1/001.p/3", "tile/2/000.p/1",
	} {
		data := l.files[path]
		p, err := tile.ParsePath(path)
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]struct {
			data []byte
			kind fsck.Kind
			at   int
		}{
			"missing":           {nil, fsck.KindMissing, 0},
			"empty":             {[]byte{}, fsck.KindTruncated, 0},
			"one byte short":    {data[:len(data)-1], fsck.KindTruncated, len(data) - 1},
			"half":              {data[:len(data)/2], fsck.KindTruncated, len(data) / 2},
			"one byte too long": {append(slices.Clone(data), 0), fsck.KindSurplus, len(data)},
		} {
			about := path + " " + name
			f := only(t, l.check(t, files{path: change.data}, treeOnly), about)
			if f.Object != path || f.Kind != change.kind || f.Offset != int64(change.at) {
				t.Errorf("%s: found %v", about, f)
			}
			if p.Entries && change.kind == fsck.KindMissing && (f.Entry == nil || *f.Entry != p.Index*256 || f.Entries != uint64(p.Width)) {
				t.Errorf("%s: found %+v, want entries %d to %d", about, f, p.Index*256, p.Index*256+uint64(p.Width)-1)
			}
		}
	}
	for _, pair := range [][2]string{
		{"tile/entries/001", "tile/entries/002"}, {"tile/0/003", "tile/0/200"}, {"tile/1/000", "tile/0/100"},
	} {
		a, b := pair[0], pair[1]
		r := l.check(t, files{a: l.files[b], b: l.files[a]}, treeOnly)
		if len(r.Findings) != 2 || r.Findings[0].Object != min(a, b) || r.Findings[1].Object != max(a, b) {
			t.Errorf("%s and %s swapped:\n%s", a, b, places(r))
		}
		for _, f := range r.Findings {
			if f.Offset > 1 { // the first hash or length is wrong in its first bytes
				t.Errorf("%s and %s swapped: %v", a, b, f)
			}
		}
	}
}

// TestWhoIsRight damages a tile and what lies below it, at different places, and
// requires that each is blamed for its own.
func TestWhoIsRight(t *testing.T) {
	t.Parallel()
	l := tall().at(t, 65536+3*256+77)
	for _, group := range [][]string{
		{"tile/entries/007", "tile/0/007"},
		{"tile/0/007", "tile/1/000"},
		{"tile/entries/007", "tile/0/007", "tile/1/000"},
		{"tile/entries/007", "tile/1/000"},
		{"tile/entries/259.p/77", "tile/0/259.p/77"},
		{"tile/entries/259.p/77", "tile/0/259.p/77", "tile/1/001.p/3", "tile/2/000.p/1"},
		{"tile/1/000", "tile/2/000.p/1"},
		{"tile/entries/257", "tile/0/257", "tile/1/001.p/3"},
	} {
		change := files{}
		want := map[string]int64{}
		for i, path := range group {
			at := len(l.files[path]) * (i + 1) / (len(group) + 2)
			change[path] = flip(l.files[path], at, i)
			want[path] = int64(at)
		}
		r := l.check(t, change, treeOnly)
		if len(r.Findings) != len(group) {
			t.Errorf("%v:\n%s", group, places(r))
		}
		for _, f := range r.Findings {
			if at, ok := want[f.Object]; !ok || at != f.Offset || !f.Exact {
				t.Errorf("%v: %v, want byte %d", group, f, at)
			}
		}
	}
}

// TestMissingHalf: what is gone on one side follows from the other.
func TestMissingHalf(t *testing.T) {
	t.Parallel()
	l := tall().at(t, 65536+3*256+77)
	change := files{}
	for path := range l.files {
		if strings.HasPrefix(path, "tile/") && !strings.HasPrefix(path, "tile/entries/") {
			change[path] = nil
		}
	}
	r := l.check(t, change, treeOnly)
	if len(r.Findings) != len(change) || r.Entries != 65536+3*256+77 {
		t.Errorf("%d findings for %d missing tiles, %d entries found right", len(r.Findings), len(change), r.Entries)
	}
	for _, f := range r.Findings {
		if f.Kind != fsck.KindMissing {
			t.Errorf("%v", f)
		}
	}
}

// TestLostSide: tile and bundle are both gone, so nothing below the hash above
// can be said; everything else is checked.
func TestLostSide(t *testing.T) {
	t.Parallel()
	l := tall().at(t, 65536+3*256+77)
	r := l.check(t, files{"tile/0/100": nil, "tile/entries/100": nil}, treeOnly)
	if len(r.Findings) != 2 || r.Findings[0].Object != "tile/0/100" || r.Findings[1].Object != "tile/entries/100" ||
		r.Entries != 65536+2*256+77 {
		t.Errorf("%d entries right:\n%s", r.Entries, places(r))
	}
}

// TestOtherLog: everything fits together, and is not what was signed.
func TestOtherLog(t *testing.T) {
	t.Parallel()
	signed, other := tall().at(t, 1000), bytesLog(1000)
	forged := tree(t, other.shard.Entries)
	r := signed.check(t, forged, treeOnly)
	f := only(t, r, "a forged log")
	if f.Kind != fsck.KindRoot || f.Supports != fsck.SupportsNeither || f.Want != r.Root {
		t.Errorf("found %+v", f)
	}
}

// TestCopies: with another copy, damage of many bits is named exactly too.
func TestCopies(t *testing.T) {
	t.Parallel()
	l := statements().at(t, 700)
	data := slices.Clone(l.files["tile/entries/001"])
	for i := 3000; i < 3040; i++ {
		data[i] ^= 0xa5
	}
	change := files{"tile/entries/001": data}
	f := only(t, l.check(t, change), "without a copy")
	if f.Exact || f.Offset > 3000 || f.Offset+f.Length <= 3000 || f.Entries != 1 {
		t.Errorf("without a copy: %+v", f)
	}
	// A copy that is damaged at the same entry is of no use.
	useless := l.files.with(files{"tile/entries/001": flip(data, 3000, 1)}).source()
	again := only(t, l.check(t, change, func(c *fsck.Config) { c.Copies = []fsck.Source{useless} }), "with a damaged copy")
	if again.Exact {
		t.Errorf("with a damaged copy: %+v", again)
	}
	f = only(t, l.check(t, change, func(c *fsck.Config) { c.Copies = []fsck.Source{useless, l.files.source()} }), "with a copy")
	if !f.Exact || f.Offset != 3000 {
		t.Errorf("with a copy: %+v", f)
	}
}

// TestTails reads a folder of Trialog's own layout, where the growing tiles are
// prefixes of objects under tail/.
func TestTails(t *testing.T) {
	t.Parallel()
	const n = 65536 + 3*256 + 77
	l := tall().at(t, n)
	change := files{}
	names := map[string]string{
		"tile/entries/259.p/77": "tail/entries-259", "tile/0/259.p/77": "tail/0-259", "tile/1/001.p/3": "tail/1-1", "tile/2/000.p/1": "tail/2-0",
	}
	for path, tail := range names {
		// They may hold more than the checkpoint counts.
		change[path], change[tail] = nil, append(slices.Clone(l.files[path]), 0, 9, 'x')
	}
	if r := l.check(t, change, treeOnly); !r.Clean() || r.Entries != n {
		t.Errorf("clean:\n%s", places(r))
	}
	for path, tail := range names {
		at := len(l.files[path]) / 2
		damaged := change.with(nil)
		damaged[tail] = flip(change[tail], at, 2)
		if f := only(t, l.check(t, damaged, treeOnly), tail); f.Object != tail || f.Offset != int64(at) || !f.Exact {
			t.Errorf("%s byte %d: %v", tail, at, f)
		}
		damaged[tail] = change[tail][:at]
		if f := only(t, l.check(t, damaged, treeOnly), tail); f.Object != tail || f.Offset != int64(at) || f.Kind != fsck.KindTruncated {
			t.Errorf("%s cut to %d: %v", tail, at, f)
		}
	}
}

// TestPieces reads a growing bundle that is kept in pieces of 16 entries.
func TestPieces(t *testing.T) {
	t.Parallel()
	const n = 256 + 77
	l := tall().at(t, n)
	entries, err := tile.ParseBundle(l.files["tile/entries/001.p/77"])
	if err != nil {
		t.Fatal(err)
	}
	change := files{"tile/entries/001.p/77": nil}
	for i := 0; i < len(entries); i += 16 {
		var data []byte
		for _, e := range entries[i:min(i+16, len(entries))] {
			data, _ = tile.AppendEntry(data, e)
		}
		change[fmt.Sprintf("tail/entries-1-%d", i/16)] = append(data, 0, 1) // what a crash left
	}
	if r := l.check(t, change, treeOnly); !r.Clean() || r.Entries != n {
		t.Errorf("clean:\n%s", places(r))
	}
	for _, piece := range []string{"tail/entries-1-0", "tail/entries-1-2", "tail/entries-1-4"} {
		at := len(change[piece]) / 2
		damaged := change.with(files{piece: flip(change[piece], at, 2)})
		// Where a length is wrong, what a crash left behind is taken for entries, and
		// found to be none.
		if r := l.check(t, damaged, treeOnly); len(r.Findings) == 0 || r.Findings[0].Object != piece || r.Findings[0].Offset != int64(at) {
			t.Errorf("%s byte %d:\n%s", piece, at, places(r))
		}
	}
}
