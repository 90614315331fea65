package scrub_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/scrub"
)

const findings = "trialog_scrub_findings_total"

func TestCleanCycle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cycle(t)
	if strings.Contains(w.lines.String(), "level=ERROR") {
		t.Errorf("a clean log: %s", w.lines)
	}
	if at := w.value(t, "trialog_scrub_position", ""); at != size {
		t.Errorf("came to %v, want %d", at, size)
	}
	if got := w.value(t, "trialog_scrub_last_cycle_timestamp_seconds", ""); got != float64(w.now.Unix()) {
		t.Errorf("last cycle at %v, want %d", got, w.now.Unix())
	}
}

// TestDamage: each kind of damage is found within one cycle, named in the log
// and counted.
func TestDamage(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		damage func(*testing.T, *world)
		kind   string
		line   string
	}{
		"hash tile":  {func(t *testing.T, w *world) { w.flip(t, "tile/0/003", 777) }, "hash", "object=tile/0/003 offset=777 exact=true"},
		"bundle":     {func(t *testing.T, w *world) { w.flip(t, "tile/entries/009", 5000) }, "entry", "object=tile/entries/009 offset=5000"},
		"edge":       {func(t *testing.T, w *world) { w.flip(t, "tail/0-10", 100) }, "hash", "object=tail/0-10 offset=100"},
		"upper edge": {func(t *testing.T, w *world) { w.flip(t, "tail/1-0", 40) }, "hash", "object=tail/1-0 offset=40"},
		"missing": {func(t *testing.T, w *world) {
			if err := w.tiles.Delete(t.Context(), "tile/entries/000"); err != nil {
				t.Fatal(err)
			}
		}, "missing", "object=tile/entries/000"},
		"leaf":     {func(_ *testing.T, w *world) { w.leaves.damaged[1234] = true }, "store", `object="store: leaf 1234"`},
		"identity": {func(_ *testing.T, w *world) { w.leaves.lost[w.leaves.list[55].Identity] = true }, "identity", `object="store: leaf 55"`},
		"another leaf": {func(_ *testing.T, w *world) {
			w.leaves.list[2].Value = append([]byte(nil), w.leaves.list[2].Value...)
			w.leaves.list[2].Value[321] ^= 1
		}, "store", `object="store: leaf 2" offset=321 exact=true`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tt.damage(t, w)
			w.cycle(t)
			if n := w.value(t, findings, tt.kind); n < 1 {
				t.Errorf("counted %v findings of kind %s", n, tt.kind)
			}
			if !strings.Contains(w.lines.String(), "level=ERROR") || !strings.Contains(w.lines.String(), tt.line) {
				t.Errorf("the log has no %q:\n%s", tt.line, w.lines)
			}
			if strings.Contains(w.lines.String(), "first-site-open") {
				t.Error("the log repeats what an entry says")
			}
		})
	}
}

func TestDamagedCheckpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.flip(t, "checkpoint", 30)
	w.cycle(t)
	if n := w.value(t, findings, "checkpoint"); n != 1 || !strings.Contains(w.lines.String(), "object=checkpoint offset=30 exact=true") {
		t.Errorf("%v findings:\n%s", n, w.lines)
	}
}

// TestRate: the whole log in a cycle, and never slower than the least rate.
func TestRate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cycle time.Duration
		rate  int
		most  time.Duration
	}{{0, 0, size * time.Second / 200}, {time.Hour, 1, size * time.Second}, {time.Hour, 27, 100 * time.Second}} {
		w := newWorld(t)
		w.change = func(c *scrub.Config) { c.Cycle, c.MinRate = tt.cycle, tt.rate }
		start := w.now
		w.cycle(t)
		// The last step is paid for as if it were a whole one.
		if took := w.now.Sub(start); took < tt.most || took > tt.most*11/10+6*time.Second && took > tt.most*14/10 {
			t.Errorf("cycle %v, rate %d: took %v, want about %v", tt.cycle, tt.rate, took, tt.most)
		}
	}
}

// TestBusy: others go first, but not for ever.
func TestBusy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := 0
	w.change = func(c *scrub.Config) { c.Busy = func() bool { asked++; return true } }
	w.cycle(t)
	if len(w.waited) < 3*30 || asked < 3*30 {
		t.Errorf("%d pauses, asked %d times", len(w.waited), asked)
	}
	if w.value(t, "trialog_scrub_position", "") != size {
		t.Error("the cycle did not come to its end")
	}
}

// TestRestart: a scrub goes on where it was, and every part is still read in a
// cycle.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.flip(t, "tile/entries/009", 5000)
	ctx, cancel := context.WithCancel(t.Context())
	w.onWait = func(n int) {
		if n == 2 {
			cancel()
		}
	}
	if err := w.scrubber(t).Run(ctx); err != nil {
		t.Fatalf("run: %v", err)
	}
	if n := w.value(t, findings, "entry"); n != 0 {
		t.Fatalf("%v findings before the damage was read", n)
	}
	w.onWait, w.metrics = nil, prometheus.NewRegistry()
	first := len(w.waited)
	ctx, cancel = context.WithCancel(t.Context())
	w.onWait = func(n int) {
		if n == first+1 {
			cancel()
		}
	}
	if err := w.scrubber(t).Run(ctx); err != nil {
		t.Fatalf("run again: %v", err)
	}
	if n := w.value(t, findings, "entry"); n != 1 {
		t.Errorf("%v findings after the restart, want 1 in the step that it goes on with", n)
	}
}

// TestState: a position that cannot be read or kept costs nothing but time.
func TestState(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "x", "trialog-scrub@v1\n", "trialog-scrub@v1\n07\n", "trialog-scrub@v1\n-1\n", "trialog-scrub@v1\n1\n\n", "trialog-scrub@v1\n1"} {
		w := newWorld(t)
		if err := w.state.Put(t.Context(), blob.Object{Key: "scrub", Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
		w.runOneCycle(t)
		if !strings.Contains(w.lines.String(), "begins anew") || !strings.Contains(w.lines.String(), "scrub cycle done") {
			t.Errorf("%q: %s", data, w.lines)
		}
	}
	w := newWorld(t)
	w.state = failing{}
	w.runOneCycle(t)
	if !strings.Contains(w.lines.String(), "cannot be kept") || !strings.Contains(w.lines.String(), "scrub cycle done") {
		t.Errorf("a store that fails: %s", w.lines)
	}
}

// runOneCycle runs until the first cycle is done.
func (w *world) runOneCycle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.onWait = func(int) {
		if strings.Contains(w.lines.String(), "scrub cycle done") {
			cancel()
		}
	}
	if err := w.scrubber(t).Run(ctx); err != nil {
		t.Fatalf("run: %v", err)
	}
}

type failing struct{ blob.Store }

func (failing) Get(context.Context, string) ([]byte, error) { return nil, errors.New("out of order") }
func (failing) Put(context.Context, ...blob.Object) error   { return errors.New("out of order") }

// TestTooMuch: where all is damaged the scrub stops, and says so.
func TestTooMuch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.change = func(c *scrub.Config) { c.MaxFindings = 3 }
	for i := range uint64(20) {
		w.leaves.damaged[i] = true
	}
	err := w.scrubber(t).Cycle(t.Context())
	if err == nil || !strings.Contains(err.Error(), "too many to go on") {
		t.Errorf("error %v", err)
	}
}

// TestStoreOutOfOrder is no damage.
func TestStoreOutOfOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.leaves.fail = errors.New("connection refused")
	if err := w.scrubber(t).Cycle(t.Context()); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("error %v", err)
	}
	if strings.Contains(w.lines.String(), "found damage") {
		t.Errorf("%s", w.lines)
	}
}

// TestGrowing: while the log goes on growing tiles become full ones. That is no
// damage.
func TestGrowing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(t, 1000) // tiles of a later size are there, their tails are gone
	w.onWait = func(n int) {
		if n == 0 {
			w.publish(t, size)
		}
	}
	w.cycle(t)
	if strings.Contains(w.lines.String(), "level=ERROR") {
		t.Errorf("a growing log: %s", w.lines)
	}
}

// TestSeries: the metrics are all there from the beginning, and never more.
func TestSeries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.scrubber(t)
	before := w.series(t)
	w.flip(t, "tile/0/003", 777)
	if err := s.Cycle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := w.series(t); before != after || before == 0 {
		t.Errorf("%d series before, %d after", before, after)
	}
	if _, err := scrub.New(scrub.Config{Origin: "o"}); err == nil {
		t.Error("a scrub of nothing: no error")
	}
}
