package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/backend"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

// newData makes a data folder of a stopped log with one statement in it.
func newData(t *testing.T) (data string, shard config.Shard) {
	t.Helper()
	data = t.TempDir()
	c := config.Log{
		Log: "bench.test/log", Operator: "bench", Witnesses: []string{"127.0.0.1:1"},
		Shards: []config.Shard{config.NewShard("bench.test/log", "1")},
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "trialog.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	shard = c.Shards[0].Under(data)
	key, err := statement.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := &filler{log: c.Log, key: key}
	id, envelope, err := f.statement(0)
	if err != nil {
		t.Fatal(err)
	}
	value, err := entry.Encode(time.Now(), envelope)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{strings.TrimPrefix(shard.Tiles, "file:"), filepath.Dir(strings.TrimPrefix(shard.Store, "pebble:"))} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := backend.Create(t.Context(), shard.Store, backend.Config{Origin: shard.Origin})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if err := tree.Append(t.Context(), 0, []tlog.Leaf{{Identity: id, Value: value}}); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Integrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	tiles := openTiles(t, shard)
	if _, err := tiles.Append(t.Context(), [][]byte{value}); err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Open(shard.Ledger, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	if err := book.Begin(shard.Origin, false); err != nil {
		t.Fatal(err)
	}
	change := book.Change()
	if err := change.Apply(0, &entry.Entry{Received: time.Now()}, f.opening(0), id); err != nil {
		t.Fatal(err)
	}
	if err := change.Commit(); err != nil {
		t.Fatal(err)
	}
	return data, shard
}

func openTiles(t *testing.T, shard config.Shard) *tile.Writer {
	t.Helper()
	dir, err := blob.OpenDir(strings.TrimPrefix(shard.Tiles, "file:"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := tile.OpenWriter(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestFill fills a log twice, and finds store, tiles and ledger in agreement and
// a statement at the end: a log must be able to start on it.
func TestFill(t *testing.T) {
	data, shard := newData(t)
	for _, size := range []uint64{5000, 5001, 9000} {
		r, err := short().fill(t.Context(), fillOptions{data: data, to: size, bytes: 50, limit: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if r.Figures["entries"] != float64(size) || r.Figures["added"] <= 0 || r.Figures["per_second"] <= 0 {
			t.Errorf("to %d: %v", size, r.Figures)
		}
		checkFilled(t, shard, size)
	}
}

func checkFilled(t *testing.T, shard config.Shard, size uint64) {
	t.Helper()
	tree, err := backend.Open(t.Context(), shard.Store, backend.Config{Origin: shard.Origin})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	root, err := tree.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tiles := openTiles(t, shard)
	if root.Size != size || tiles.Size() != size || tiles.Root() != root.Hash {
		t.Errorf("the store holds %+v, the tiles %d, want %d", root, tiles.Size(), size)
	}
	book, err := ledger.Open(shard.Ledger, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	if known, err := book.Size(); err != nil || known != size {
		t.Errorf("the ledger holds %d, %v, want %d", known, err, size)
	}
	leaves, err := tree.Leaves(t.Context(), size-1, 1)
	if err != nil || len(leaves) != 1 {
		t.Fatal(leaves, err)
	}
	last, err := entry.Parse(leaves[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	env, s, err := statement.Parse(last.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	if s.Identity(env.Payload) != leaves[0].Identity {
		t.Error("the last statement is stored under another identity")
	}
}

func TestFillStopsInTime(t *testing.T) {
	data, shard := newData(t)
	r, err := short().fill(t.Context(), fillOptions{data: data, to: 1e9, bytes: 50, limit: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Figures["entries"]; n < 2 || n > 1e8 {
		t.Errorf("%v entries", n)
	}
	checkFilled(t, shard, uint64(r.Figures["entries"]))
}

// TestFillRefuses a log that has never run: its ledger would not fit.
func TestFillRefuses(t *testing.T) {
	data, shard := newData(t)
	if err := os.RemoveAll(shard.Ledger); err != nil {
		t.Fatal(err)
	}
	if _, err := short().fill(t.Context(), fillOptions{data: data, to: 100, bytes: 50}); err == nil ||
		!strings.Contains(err.Error(), "start the log once") {
		t.Errorf("got %v", err)
	}
	if _, err := short().fill(t.Context(), fillOptions{data: t.TempDir(), to: 100}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
