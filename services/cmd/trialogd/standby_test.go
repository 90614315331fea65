package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/services/config"
)

// announcedData makes a log with a second shard announced, and runs its witnesses.
func announcedData(t *testing.T) (layout, *config.Log) {
	t.Helper()
	l, _ := newData(t)
	if _, err := (&program{now: time.Now}).announce(t.Context(), l, "2", shardOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := l.readSettings()
	if err != nil {
		t.Fatal(err)
	}
	startWitnesses(t, l, s)
	return l, s
}

// gauge returns trialog_shard_failed of a shard.
func (e *engine) gauge(t *testing.T, shard string) float64 {
	t.Helper()
	families, err := e.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "trialog_shard_failed" && m.GetLabel()[0].GetValue() == shard {
				return m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric of shard %s", shard)
	return 0
}

// goesOn checks that the first shard is at work, and does not end before one that
// cannot succeed it.
func (r *running) goesOn(t *testing.T, why string) {
	t.Helper()
	if err := r.ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	seen := r.shards[0].seq.Checkpoint()
	if _, err := r.add(t.Context(), enrolOf(t, r.c.Log, "while-"+strings.Fields(why)[0], seen), seen); err != nil {
		t.Error(err)
	}
	if _, err := r.rollOver(t.Context(), true); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("a rollover: %v, expected %q", err, why)
	}
	if err := r.ready(); err != nil || r.active() != r.shards[0] {
		t.Errorf("after a rollover that was refused: %v", err)
	}
	if one, two := r.gauge(t, "1"), r.gauge(t, "2"); one != 0 || two != 1 {
		t.Errorf("metrics say %g of the first shard, %g of the second", one, two)
	}
}

// TestStandbyIsNotOpened: a key that is missing keeps the announced shard out, and
// nothing else; it keeps the log out once the shard is needed.
func TestStandbyIsNotOpened(t *testing.T) {
	l, s := announcedData(t)
	key := filepath.Join(s.Shards[1].Under(l.dir).Keys, logKeyEd25519)
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	r := start(t, l, s)
	if len(r.shards) != 1 {
		t.Fatalf("%d shards are open", len(r.shards))
	}
	r.goesOn(t, "could not be opened when the log was started")
	r.stop()
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	r = start(t, l, s)
	if one, two := r.gauge(t, "1"), r.gauge(t, "2"); one != 0 || two != 0 {
		t.Errorf("metrics say %g of the first shard, %g of the second", one, two)
	}
	if _, err := askRollover(t.Context(), l.admin(), true); err != nil {
		t.Fatal(err)
	}
	r.stop()
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	if e, err := openEngine(t.Context(), l, s, time.Now, quiet()); err == nil {
		e.close()
		t.Error("a log was opened without the shard that takes statements in")
	}
}

// TestStandbyFails: an error of the announced shard ends the log when the one
// before it has ended, and not before.
func TestStandbyFails(t *testing.T) {
	l, s := announcedData(t)
	e, err := openEngine(t.Context(), l, s, time.Now, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	path, _ := localFolder(s.Shards[1].Under(l.dir).Register)
	// It can be neither found nor missed.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, path); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.run(ctx) }()
	r := &running{engine: e}
	await(t, "the log is ready", func() bool { return e.ready() == nil })
	await(t, "the announced shard has failed", e.shards[1].failed)
	r.goesOn(t, "does not stand by")
	if err := e.endShard(ctx, e.shards[0], s.Shards[1].Origin); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "symbolic links") {
			t.Errorf("it has ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("a log without a shard that takes statements in goes on")
	}
}
