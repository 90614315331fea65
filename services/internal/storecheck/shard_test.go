package storecheck_test

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/fsck"
	"github.com/trialog/trialog/api/fsck/fscktest"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/storecheck"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/pebblestore"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
)

// signed is how many of the shard's entries are signed; a few more are stored.
const (
	signed = 700
	stored = signed + 5
)

var sample = sync.OnceValues(func() (*fscktest.Sample, error) { return fscktest.New(stored - 2) })

// build makes the data folder of a shard: store, tiles, register.
func build(ctx context.Context, dir string) error {
	log, err := sample()
	if err != nil {
		return err
	}
	store, err := pebblestore.Open(filepath.Join(dir, "store"), pebblestore.Options{})
	if err != nil {
		return err
	}
	tree, err := trillian.Open(ctx, trillian.Config{
		Storage: store, Admin: store.Admin(), Origin: log.Origin, Create: true, CloseStorage: store.Close,
	})
	if err != nil {
		return err
	}
	leaves := make([]tlog.Leaf, stored)
	for i, raw := range log.Entries {
		e, err := entry.Parse(raw)
		if err != nil {
			return err
		}
		env, s, err := statement.Parse(e.Envelope)
		if err != nil {
			return err
		}
		leaves[i] = tlog.Leaf{Identity: s.Identity(env.Payload), Value: raw}
	}
	if err := tree.Append(ctx, 0, leaves); err != nil {
		return err
	}
	if _, err := tree.Integrate(ctx); err != nil {
		return err
	}
	if err := tree.Close(); err != nil {
		return err
	}
	return buildTiles(ctx, dir, log)
}

func buildTiles(ctx context.Context, dir string, log *fscktest.Sample) error {
	tiles, err := blob.OpenDir(filepath.Join(dir, "tiles"))
	if err != nil {
		return err
	}
	w, err := tile.OpenWriter(ctx, tiles)
	if err != nil {
		return err
	}
	for _, part := range [][][]byte{log.Entries[:300], log.Entries[300:signed], log.Entries[signed:]} {
		if _, err := w.Append(ctx, part); err != nil {
			return err
		}
	}
	raw, err := log.Note(signed)
	if err != nil {
		return err
	}
	note, err := checkpoint.Parse(raw)
	if err != nil {
		return err
	}
	var own []checkpoint.Signature
	for _, s := range note.Signatures() {
		if s.Name == log.Origin {
			own = append(own, s)
		}
	}
	candidate, err := checkpoint.NewNote(note.Text(), own...)
	if err != nil {
		return err
	}
	digest := note.Digest()
	if err := tiles.Put(ctx, blob.Object{Key: "checkpoint", Data: raw}, blob.Object{Key: "candidate", Data: candidate.Bytes()},
		blob.Object{Key: "beacon/" + hex.EncodeToString(digest[:]), Data: raw}); err != nil {
		return err
	}
	reg, err := register.OpenFile(filepath.Join(dir, "register"))
	if err != nil {
		return err
	}
	defer reg.Close()
	c := note.Checkpoint()
	return reg.Create(ctx, register.Record{Origin: c.Origin, Size: c.Size, Root: c.Root})
}

var original = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "storecheck")
	if err != nil {
		return "", err
	}
	return dir, build(context.Background(), dir)
})

func TestMain(m *testing.M) {
	m.Run()
	if dir, err := original(); err == nil {
		_ = os.RemoveAll(dir)
	}
}

// shard returns a copy of the shard's data folder.
func shard(t testing.TB) string {
	t.Helper()
	from, err := original()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// check checks a data folder.
func check(t testing.TB, dir string) *storecheck.Report {
	t.Helper()
	log, err := sample()
	if err != nil {
		t.Fatal(err)
	}
	policy, err := verify.ParsePolicy(log.Policy, log.Sidecar)
	if err != nil {
		t.Fatal(err)
	}
	store, err := pebblestore.Inspect(filepath.Join(dir, "store"), pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	tiles, err := blob.OpenDir(filepath.Join(dir, "tiles"))
	if err != nil {
		t.Fatal(err)
	}
	reg, err := register.OpenFile(filepath.Join(dir, "register"))
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	r, err := storecheck.Check(t.Context(), storecheck.Config{
		Origin: log.Origin, Policy: policy, Tiles: tiles, Store: store, Register: reg, Shallow: true,
	})
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	return r
}

// row is a record of the store.
type row struct{ key, value []byte }

// rows returns the store's records of a kind.
func rows(t testing.TB, dir string, kind byte) []row {
	t.Helper()
	var list []row
	edit(t, dir, func(db *pebble.DB) {
		it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
		if err != nil {
			t.Fatal(err)
		}
		for ok := it.First(); ok; ok = it.Next() {
			list = append(list, row{append([]byte(nil), it.Key()...), append([]byte(nil), it.Value()...)})
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
	})
	return list
}

// quiet is a logger for pebble that fails the test instead of ending it.
type quiet struct{ t testing.TB }

func (quiet) Infof(string, ...any)                {}
func (quiet) Errorf(string, ...any)               {}
func (q quiet) Fatalf(format string, args ...any) { q.t.Fatalf(format, args...) }

// edit changes the store's records behind the back of everybody.
func edit(t testing.TB, dir string, change func(*pebble.DB)) {
	t.Helper()
	db, err := pebble.Open(filepath.Join(dir, "store"), &pebble.Options{FormatMajorVersion: pebble.FormatValueSeparation, Logger: quiet{t}})
	if err != nil {
		t.Fatal(err)
	}
	change(db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func set(t testing.TB, dir string, r row) {
	t.Helper()
	edit(t, dir, func(db *pebble.DB) {
		if err := db.Set(r.key, r.value, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	})
}

func remove(t testing.TB, dir string, key []byte) {
	t.Helper()
	edit(t, dir, func(db *pebble.DB) {
		if err := db.Delete(key, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	})
}

func places(r *storecheck.Report) string {
	var s strings.Builder
	for _, f := range append(r.Findings, r.Notes...) {
		s.WriteString(f.String() + "\n")
	}
	return s.String()
}

// only requires one finding.
func only(t testing.TB, r *storecheck.Report, about string) fsck.Finding {
	t.Helper()
	if len(r.Findings) != 1 {
		t.Fatalf("%s: %d findings, want 1:\n%s", about, len(r.Findings), places(r))
	}
	return r.Findings[0]
}
