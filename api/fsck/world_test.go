package fsck_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/fsck"
	"github.com/trialog/trialog/api/fsck/fscktest"
	"github.com/trialog/trialog/api/internal/testlog"
)

// files are the objects of a log, by path.
type files map[string][]byte

func (f files) source() fsck.Source {
	fsys := fstest.MapFS{}
	for name, data := range f {
		fsys[name] = &fstest.MapFile{Data: data}
	}
	return fsck.FS(fsys)
}

// with returns the files with some replaced, or removed by nil.
func (f files) with(change files) files {
	next := maps.Clone(f)
	for name, data := range change {
		if next[name] = data; data == nil {
			delete(next, name)
		}
	}
	return next
}

// log is a shard with its objects.
type log struct {
	world *testlog.World
	shard *testlog.Shard
	files files
}

// at returns the log when it had n entries.
func (l *log) at(t testing.TB, n int) *log {
	t.Helper()
	f := tree(t, l.shard.Entries[:n])
	if n > 0 {
		f["checkpoint"] = l.world.Note(l.shard, uint64(n)).Bytes()
	} else {
		empty := checkpoint.Checkpoint{Origin: l.shard.Origin, Root: sha256.Sum256(nil)}
		f["checkpoint"] = l.shard.NoteBy(l.shard.Keys, empty.Body(), testlog.Start, l.world.Cosign(testlog.Start)...).Bytes()
	}
	return &log{l.world, l.shard, f}
}

func (l *log) config() fsck.Config {
	return fsck.Config{Source: l.files.source(), Policy: l.world.Policy()}
}

// check checks the log with some files changed.
func (l *log) check(t testing.TB, change files, options ...func(*fsck.Config)) *fsck.Report {
	t.Helper()
	cfg := l.config()
	cfg.Source = l.files.with(change).source()
	for _, o := range options {
		o(&cfg)
	}
	r, err := fsck.Check(t.Context(), cfg)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	return r
}

func treeOnly(c *fsck.Config) { c.TreeOnly = true }

func tree(t testing.TB, entries [][]byte) files {
	t.Helper()
	f, err := fscktest.Tree(entries)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func said(n int) *log {
	w := fscktest.Said(n)
	return &log{world: w, shard: w.First}
}

// statements is a log of 700 statements; do not change it.
var statements = sync.OnceValue(func() *log { return said(698) })

// bytesLog is a log of n entries that are no statements.
func bytesLog(n int) *log {
	w := testlog.New()
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	for i := range n {
		e := make([]byte, 8+rng.IntN(60))
		for j := range e {
			e[j] = byte(rng.Uint32())
		}
		binary.BigEndian.PutUint64(e, uint64(i))
		w.First.AddEntry(e)
	}
	return &log{world: w, shard: w.First}
}

// tall has growing tiles on three levels, and full ones on two.
var tall = sync.OnceValue(func() *log { return bytesLog(65536 + 3*256 + 77) })

func places(r *fsck.Report) string {
	lines := make([]string, len(r.Findings))
	for i, f := range r.Findings {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// only requires exactly one finding and returns it.
func only(t testing.TB, r *fsck.Report, about string) fsck.Finding {
	t.Helper()
	if len(r.Findings) != 1 {
		t.Fatalf("%s: %d findings, want 1:\n%s", about, len(r.Findings), places(r))
	}
	return r.Findings[0]
}

// flip returns data with a bit changed.
func flip(data []byte, at, bit int) []byte {
	next := slices.Clone(data)
	next[at] ^= 1 << bit
	return next
}

func sizeName(n int) string { return fmt.Sprintf("size %d", n) }
