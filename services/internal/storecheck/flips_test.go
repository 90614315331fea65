package storecheck_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/trialog/trialog/api/fsck"
	"github.com/trialog/trialog/services/internal/storecheck"
)

func TestClean(t *testing.T) {
	t.Parallel()
	r := check(t, shard(t))
	if !r.Clean() || r.Entries != signed || r.StoreSize != stored || len(r.Notes) > 0 || r.StoreRows == 0 {
		t.Errorf("%+v\n%s", r.Report, places(r))
	}
}

// The parts of a leaf record: version, two times that nothing depends on,
// identity, Merkle hash, length of extra data, value.
const (
	recordIdentity = 17
	recordMerkle   = recordIdentity + 32
	recordExtra    = recordMerkle + 32
	recordValue    = recordExtra + 1
)

// TestRowFlips changes one bit of a row of each kind.
func TestRowFlips(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	for _, group := range []struct {
		name     string
		n        int
		kind     byte
		pick     func(row) bool
		from, to int // of the value; to 0: its end
		want     fsck.Kind
		or       fsck.Kind // where the flipped bit makes a row that cannot be read
		exact    bool
	}{
		{name: "leaf value", n: 8, kind: 'l', from: recordValue, want: storecheck.KindLeaf, exact: true},
		{name: "leaf hash", n: 3, kind: 'l', from: recordMerkle, to: recordExtra, want: storecheck.KindLeaf, exact: true},
		{name: "leaf identity", n: 3, kind: 'l', from: recordIdentity, to: recordMerkle, want: storecheck.KindIdentity, exact: true},
		{name: "leaf version", n: 1, kind: 'l', from: 0, to: 1, want: storecheck.KindRow},
		{name: "identity's index", n: 4, kind: 'i', from: 1, to: 9, want: storecheck.KindIdentity, or: storecheck.KindRow},
		{name: "lowest nodes", n: 8, kind: 't', pick: func(r row) bool { return r.key[9] == 0 }, want: storecheck.KindNode, exact: true},
		{name: "upper nodes", n: 5, kind: 't', pick: func(r row) bool { return r.key[9] == 1 }, want: storecheck.KindNode, exact: true},
		// LogRootV1: version, size, length, hash, …
		{name: "root's size", n: 3, kind: 'r', from: 2, to: 10, want: storecheck.KindStoreRoot, or: storecheck.KindRow},
		{name: "root's hash", n: 4, kind: 'r', from: 11, to: 43, want: storecheck.KindStoreRoot},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for range group.n {
				dir := shard(t)
				var list []row
				for _, r := range rows(t, dir, group.kind) {
					if (group.pick == nil || group.pick(r)) && !beyond(r) {
						list = append(list, r)
					}
				}
				r := list[rng.IntN(len(list))]
				to := group.to
				if to == 0 {
					to = len(r.value)
					if group.kind == 't' && r.key[9] == 0 {
						to = min(to, 32*(signed%256)) // of what is signed, also in the last one
					}
				}
				at := group.from + rng.IntN(to-group.from)
				r.value[at] ^= 1 << rng.IntN(8)
				set(t, dir, r)
				about := fmt.Sprintf("record %x, byte %d", r.key, at)
				report := check(t, dir)
				if len(report.Findings) == 0 {
					t.Fatalf("%s: nothing found", about)
				}
				for _, f := range report.Findings {
					if f.Kind != group.want && f.Kind != group.or || f.Exact != group.exact || !strings.HasPrefix(f.Object, "store") {
						t.Errorf("%s: found %v", about, f)
					}
					if wantAt := int64(at - group.from); group.exact && f.Offset != wantAt {
						t.Errorf("%s: found byte %d, want %d: %v", about, f.Offset, wantAt, f)
					}
					if group.kind == 'l' && f.Entry != nil && *f.Entry != binary.BigEndian.Uint64(r.key[9:]) {
						t.Errorf("%s: found entry %d", about, *f.Entry)
					}
				}
			}
		})
	}
}

// beyond tells whether a leaf record is of an entry that is not signed yet.
func beyond(r row) bool { return r.key[0] == 'l' && binary.BigEndian.Uint64(r.key[9:]) >= signed }

// TestUnsignedLeaf: a leaf that nothing signed covers yet is held against the
// store's own root and hash.
func TestUnsignedLeaf(t *testing.T) {
	t.Parallel()
	dir := shard(t)
	list := rows(t, dir, 'l')
	r := list[len(list)-2]
	r.value[len(r.value)-9] ^= 4
	set(t, dir, r)
	report := check(t, dir)
	named := false
	for _, f := range report.Findings {
		named = named || strings.Contains(f.Object, fmt.Sprintf("leaf %d", stored-2))
	}
	if !named {
		t.Errorf("leaf %d is not named:\n%s", stored-2, places(report))
	}
}

func TestRowsGone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind byte
		at   int
		want fsck.Kind
	}{
		{'l', 0, storecheck.KindLeaf},
		{'l', 300, storecheck.KindLeaf},
		{'l', signed - 1, storecheck.KindLeaf},
		{'i', 0, storecheck.KindIdentity},
		{'i', 699, storecheck.KindIdentity},
		{'t', 1, storecheck.KindNode},
		{'t', 3, storecheck.KindNode},
		{'r', 0, storecheck.KindStoreRoot},
	} {
		dir := shard(t)
		remove(t, dir, rows(t, dir, tt.kind)[tt.at].key)
		r := check(t, dir)
		found := false
		for _, f := range r.Findings {
			found = found || f.Kind == tt.want
		}
		if !found {
			t.Errorf("record %d of kind %c removed: found\n%s", tt.at, tt.kind, places(r))
		}
	}
	// An identity that nothing has, and one under another name.
	dir := shard(t)
	r := rows(t, dir, 'i')[42]
	remove(t, dir, r.key)
	r.key[20] ^= 1
	set(t, dir, r)
	report := check(t, dir)
	if len(report.Findings) != 2 || report.Findings[0].Kind != storecheck.KindIdentity || report.Findings[1].Kind != storecheck.KindIdentity {
		t.Errorf("an identity under another name: found\n%s", places(report))
	}
	dir = shard(t)
	set(t, dir, row{[]byte("zz"), []byte("x")})
	if f := only(t, check(t, dir), "a foreign record"); f.Kind != storecheck.KindRow {
		t.Errorf("a foreign record: %v", f)
	}
}

// TestFileFlips changes one bit of each file beside the store.
func TestFileFlips(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	for _, group := range []struct {
		glob  string
		n     int
		exact bool
	}{
		{"tiles/tile/entries/*", 6, true},
		{"tiles/tile/0/*", 4, true},
		{"tiles/tail/entries-2", 3, true},
		{"tiles/tail/0-2", 3, true},
		{"tiles/tail/1-0", 2, true},
		{"tiles/tail/head", 6, false},
		{"tiles/checkpoint", 2, true},
		{"tiles/candidate", 3, true},
		{"tiles/beacon/*", 2, true},
		{"register", 8, false},
	} {
		t.Run(strings.ReplaceAll(group.glob, "/", " "), func(t *testing.T) {
			t.Parallel()
			for range group.n {
				dir := shard(t)
				paths, err := filepath.Glob(filepath.Join(dir, group.glob))
				if err != nil || len(paths) == 0 {
					t.Fatalf("%v: %v", paths, err)
				}
				path := paths[rng.IntN(len(paths))]
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				limit := len(data)
				if strings.Contains(path, "/tail/") && group.exact {
					limit = limit * 9 / 10 // what is signed of it
				}
				at := rng.IntN(limit)
				data[at] ^= 1 << rng.IntN(8)
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				name, err := filepath.Rel(filepath.Join(dir, "tiles"), path)
				if err != nil {
					t.Fatal(err)
				}
				about := fmt.Sprintf("%s byte %d", name, at)
				f := only(t, check(t, dir), about)
				if f.Object != strings.TrimPrefix(name, "../") || f.Exact != group.exact || f.Exact && f.Offset != int64(at) {
					t.Errorf("%s: found %v", about, f)
				}
			}
		})
	}
}

// TestEngine: a damaged file of the database is named by the database.
func TestEngine(t *testing.T) {
	t.Parallel()
	dir := shard(t)
	// Opening and closing moves everything into tables.
	edit(t, dir, func(db *pebble.DB) {
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	})
	paths, err := filepath.Glob(filepath.Join(dir, "store", "*.sst"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%v: %v", paths, err)
	}
	var largest []byte
	var name string
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > len(largest) {
			largest, name = data, path
		}
	}
	damaged := bytes.Clone(largest)
	damaged[len(damaged)/3] ^= 1
	if err := os.WriteFile(name, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	r := check(t, dir)
	found := false
	for _, f := range r.Findings {
		found = found || f.Kind == storecheck.KindEngine && strings.Contains(f.Detail, strings.TrimSuffix(filepath.Base(name), ".sst"))
	}
	if !found {
		t.Errorf("%s: found\n%s", filepath.Base(name), places(r))
	}
}
