package pebblestore_test

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/pebblestore"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
)

// rowsOf reads all rows in pages of so many records.
func rowsOf(t *testing.T, s *pebblestore.Store, page int) []tlog.Row {
	t.Helper()
	var rows []tlog.Row
	var cursor []byte
	for {
		next, err := s.Rows(t.Context(), cursor, page, func(r tlog.Row) bool {
			rows = append(rows, r)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if next == nil {
			return rows
		}
		cursor = next
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	const n = 300
	fs := vfs.NewMem()
	store, err := pebblestore.Open("store", pebblestore.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	log, err := trillian.Open(t.Context(), trillian.Config{
		Storage: store, Admin: store.Admin(), Origin: "rows", Create: true, CloseStorage: store.Close,
	})
	if err != nil {
		t.Fatal(err)
	}
	leaves := make([]tlog.Leaf, n)
	for i := range leaves {
		leaves[i] = tlog.Leaf{Identity: [32]byte{1, byte(i), byte(i >> 8)}, Value: []byte{byte(i), byte(i >> 8)}}
	}
	if err := log.Append(t.Context(), 0, leaves); err != nil {
		t.Fatal(err)
	}
	root, err := log.Integrate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []int{1, 7, 1 << 20} {
		checkRows(t, rowsOf(t, store, page), leaves, root)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	// A damaged record is shown as what it should be, a foreign one as unknown.
	db, err := pebble.Open("store", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatValueSeparation})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Set([]byte("zz-foreign"), []byte("x"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := pebblestore.Open("store", pebblestore.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	rows := rowsOf(t, again, 100)
	if last := rows[len(rows)-1]; last.Kind != tlog.RowOther || last.Err == nil {
		t.Errorf("the foreign record is shown as %+v", last)
	}
}

func checkRows(t *testing.T, rows []tlog.Row, leaves []tlog.Leaf, root tlog.Root) {
	t.Helper()
	counts := map[tlog.RowKind]int{}
	for _, r := range rows {
		counts[r.Kind]++
		if r.Err != nil || r.Place == "" {
			t.Errorf("%+v", r)
		}
		switch r.Kind {
		case tlog.RowLeaf:
			if r.Identity != leaves[r.Index].Identity || !bytes.Equal(r.Value, leaves[r.Index].Value) || r.Hash != leaves[r.Index].Hash() {
				t.Errorf("leaf %d differs", r.Index)
			}
		case tlog.RowIdentity:
			if r.Identity != leaves[r.Index].Identity {
				t.Errorf("identity of %d differs", r.Index)
			}
		case tlog.RowNode:
			if r.Level == 0 && r.Hash != leaves[r.Index].Hash() {
				t.Errorf("node %d differs", r.Index)
			}
		case tlog.RowRoot:
			if r.Root != root {
				t.Errorf("root %+v, want %+v", r.Root, root)
			}
		default:
			t.Errorf("%+v", r)
		}
	}
	want := map[tlog.RowKind]int{tlog.RowLeaf: len(leaves), tlog.RowIdentity: len(leaves), tlog.RowNode: len(leaves) + 1, tlog.RowRoot: 1}
	for kind, n := range want {
		if counts[kind] != n {
			t.Errorf("%d rows of kind %d, want %d", counts[kind], kind, n)
		}
	}
}
