package scrub_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/fsck/fscktest"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/scrub"
)

const size = 2700

var sample = sync.OnceValues(func() (*fscktest.Sample, error) { return fscktest.New(size - 2) })

// world is a shard with a scrubber that never really waits.
type world struct {
	log     *fscktest.Sample
	tiles   *blob.Memory
	leaves  *leaves
	state   blob.Store
	lines   *bytes.Buffer
	metrics *prometheus.Registry

	now    time.Time
	waited []time.Duration
	onWait func(n int) // told before each pause
	change func(*scrub.Config)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	log, err := sample()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		log: log, tiles: blob.NewMemory(), state: blob.NewMemory(), lines: new(bytes.Buffer), metrics: prometheus.NewRegistry(),
		now: time.Unix(1_772_323_200, 0).UTC(),
	}
	writer, err := tile.OpenWriter(t.Context(), w.tiles)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Append(t.Context(), log.Entries); err != nil {
		t.Fatal(err)
	}
	w.publish(t, size)
	w.leaves = &leaves{damaged: map[uint64]bool{}, lost: map[[32]byte]bool{}}
	for _, raw := range log.Entries {
		id, _ := entry.Identity(raw)
		w.leaves.list = append(w.leaves.list, tlog.Leaf{Identity: id, Value: raw})
	}
	return w
}

func (w *world) publish(t testing.TB, n uint64) {
	t.Helper()
	note, err := w.log.Note(n)
	if err != nil {
		t.Fatal(err)
	}
	w.put(t, "checkpoint", note)
}

func (w *world) put(t testing.TB, key string, data []byte) {
	t.Helper()
	if err := w.tiles.Put(t.Context(), blob.Object{Key: key, Data: data}); err != nil {
		t.Fatal(err)
	}
}

// flip changes a bit of an object.
func (w *world) flip(t testing.TB, key string, at int) {
	t.Helper()
	data, err := w.tiles.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 4
	w.put(t, key, data)
}

func (w *world) scrubber(t testing.TB) *scrub.Scrubber {
	t.Helper()
	policy, err := verify.ParsePolicy(w.log.Policy, w.log.Sidecar)
	if err != nil {
		t.Fatal(err)
	}
	cfg := scrub.Config{
		Origin: w.log.Origin, Policy: policy, Tiles: w.tiles, Log: w.leaves, Identity: entry.Identity, State: w.state,
		Registerer: w.metrics, Logger: slog.New(slog.NewTextHandler(w.lines, nil)), Now: func() time.Time { return w.now },
		Wait: func(ctx context.Context, d time.Duration) error {
			if w.onWait != nil {
				w.onWait(len(w.waited))
			}
			w.waited = append(w.waited, d)
			w.now = w.now.Add(d)
			return ctx.Err()
		},
	}
	if w.change != nil {
		w.change(&cfg)
	}
	s, err := scrub.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// cycle passes over the log once.
func (w *world) cycle(t testing.TB) {
	t.Helper()
	if err := w.scrubber(t).Cycle(t.Context()); err != nil {
		t.Fatalf("cycle: %v", err)
	}
}

// value returns a metric; kind is "" for one without a label.
func (w *world) value(t testing.TB, name, kind string) float64 {
	t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (kind == "" || m.GetLabel()[0].GetValue() == kind) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no metric %s %s", name, kind)
	return 0
}

func (w *world) series(t testing.TB) int {
	t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		n += len(f.GetMetric())
	}
	return n
}

// leaves is a log in memory. It refuses ranges with a damaged leaf in them, as a
// log does that proves what it reads.
type leaves struct {
	tlog.Log
	list    []tlog.Leaf
	damaged map[uint64]bool
	lost    map[[32]byte]bool
	fail    error
}

func (l *leaves) Leaves(_ context.Context, first uint64, n int) ([]tlog.Leaf, error) {
	if l.fail != nil {
		return nil, l.fail
	}
	n = min(n, 100) // it may give fewer than were asked for
	end := min(first+uint64(n), uint64(len(l.list)))
	for i := first; i < end; i++ {
		if l.damaged[i] {
			return nil, errors.Join(errors.New("reading leaves"), tlog.ErrCorrupt)
		}
	}
	return l.list[first:end], nil
}

func (l *leaves) Find(_ context.Context, id [32]byte) (uint64, bool, error) {
	for i, leaf := range l.list {
		if leaf.Identity == id {
			return uint64(i), !l.lost[id], nil
		}
	}
	return 0, false, nil
}
