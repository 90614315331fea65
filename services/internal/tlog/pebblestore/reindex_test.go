package pebblestore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/trillian"
	"github.com/google/trillian/storage/testonly"

	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/pebblestore"
)

// damage changes rows behind the store's back.
func damage(t *testing.T, fs vfs.FS, f func(*pebble.DB) error) {
	t.Helper()
	db, err := pebble.Open("store", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatValueSeparation})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f(db), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func identityRowKey(tr *trillian.Tree, l *trillian.LogLeaf) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{'i'}, uint64(tr.TreeId)), l.LeafIdentityHash...)
}

// filled returns a file system with a closed store that holds leaves.
func filled(t *testing.T, n int) (vfs.FS, *trillian.Tree, []*trillian.LogLeaf) {
	t.Helper()
	fs := vfs.NewMem()
	s, err := pebblestore.Open("store", pebblestore.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	tr := newTree(t, s, testonly.PreorderedLogTree)
	if err := storeRoot(s, tr, 0, 1); err != nil {
		t.Fatal(err)
	}
	leaves := make([]*trillian.LogLeaf, n)
	for i := range leaves {
		leaves[i] = leaf(int64(i), fmt.Sprint("leaf ", i))
	}
	if _, err := s.AddSequencedLeavesAtomic(context.Background(), tr, leaves, at); err != nil {
		t.Fatal(err)
	}
	if err := storeRoot(s, tr, uint64(n), 2); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return fs, tr, leaves
}

func checkFound(t *testing.T, s *pebblestore.Store, tr *trillian.Tree, leaves []*trillian.LogLeaf) {
	t.Helper()
	for _, l := range leaves {
		index, found, err := s.FindIndex(context.Background(), tr, l.LeafIdentityHash)
		if err != nil || !found || index != l.LeafIndex {
			t.Fatalf("identity of leaf %d: found at %d, %v, %v", l.LeafIndex, index, found, err)
		}
	}
}

// TestIdentityIndexIsMadeAgain damages the index in ways that Open finds.
func TestIdentityIndexIsMadeAgain(t *testing.T) {
	const n = 700
	for name, harm := range map[string]func(db *pebble.DB, tr *trillian.Tree, leaves []*trillian.LogLeaf) error{
		"lost": func(db *pebble.DB, _ *trillian.Tree, _ []*trillian.LogLeaf) error {
			return db.DeleteRange([]byte{'i'}, []byte{'j'}, pebble.Sync)
		},
		"newest lost": func(db *pebble.DB, tr *trillian.Tree, leaves []*trillian.LogLeaf) error {
			return db.Delete(identityRowKey(tr, leaves[n-1]), pebble.Sync)
		},
		"wrong": func(db *pebble.DB, tr *trillian.Tree, leaves []*trillian.LogLeaf) error {
			return db.Set(identityRowKey(tr, leaves[n-2]), append([]byte{'S'}, make([]byte, 8)...), pebble.Sync)
		},
		"malformed": func(db *pebble.DB, tr *trillian.Tree, leaves []*trillian.LogLeaf) error {
			return db.Set(identityRowKey(tr, leaves[n-3]), []byte("x"), pebble.Sync)
		},
		"ended in the middle of being made again": func(db *pebble.DB, tr *trillian.Tree, leaves []*trillian.LogLeaf) error {
			mark := binary.BigEndian.AppendUint64([]byte{'x'}, uint64(tr.TreeId))
			return errors.Join(db.Set(mark, nil, pebble.Sync), db.Delete(identityRowKey(tr, leaves[0]), pebble.Sync))
		},
		"none": func(*pebble.DB, *trillian.Tree, []*trillian.LogLeaf) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			fs, tr, leaves := filled(t, n)
			damage(t, fs, func(db *pebble.DB) error { return harm(db, tr, leaves) })
			for range 2 {
				s, err := pebblestore.Open("store", pebblestore.Options{FS: fs})
				if err != nil {
					t.Fatal(err)
				}
				checkFound(t, s, tr, leaves)
				twice := leaf(n, "leaf 5")
				if res, err := s.AddSequencedLeavesAtomic(context.Background(), tr, []*trillian.LogLeaf{twice}, at); err != nil ||
					res[0].GetStatus().GetCode() == 0 {
					t.Fatalf("an identity is taken a second time: %v, %v", res, err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestIncompleteIdentityIndex loses rows that Open does not look at: the store
// fails when it has counted them, and the next Open makes the index again.
func TestIncompleteIdentityIndex(t *testing.T) {
	fs, tr, leaves := filled(t, 700)
	damage(t, fs, func(db *pebble.DB) error { return db.Delete(identityRowKey(tr, leaves[3]), pebble.Sync) })
	s, err := pebblestore.Open("store", pebblestore.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); s.Err() == nil && time.Now().Before(end); { // it counts in the background
		if _, _, err := s.FindIndex(context.Background(), tr, leaves[3].LeafIdentityHash); err != nil {
			break
		}
	}
	if err := s.Err(); !errors.Is(err, tlog.ErrFailed) {
		t.Fatalf("Err() = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, fs, "store")
	checkFound(t, s, tr, leaves)
	for _, l := range leaves { // once more, now that the filter may be loaded
		checkFound(t, s, tr, []*trillian.LogLeaf{l})
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
}

// TestRebuildIdentities makes the index again when it is asked to.
func TestRebuildIdentities(t *testing.T) {
	fs, tr, leaves := filled(t, 700)
	damage(t, fs, func(db *pebble.DB) error { return db.Delete(identityRowKey(tr, leaves[3]), pebble.Sync) })
	s, err := pebblestore.Open("store", pebblestore.Options{FS: fs, RebuildIdentities: true})
	if err != nil {
		t.Fatal(err)
	}
	checkFound(t, s, tr, leaves)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
