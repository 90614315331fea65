package anchor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/timestamp/timestamptest"
	"github.com/trialog/trialog/services/internal/anchored"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/blob/blobtest"
)

// TestPace: the newest published checkpoint is anchored, at most once an interval,
// and only if the tree grew.
func TestPace(t *testing.T) {
	w := newWorld(t)
	w.step()
	if got := w.asked(); got != counts(0, 0, 0) {
		t.Errorf("before anything is published: %s", got)
	}
	w.publish(0)
	w.step()
	w.want("an empty log", "nothing")
	w.publish(3)
	w.step()
	w.want("the first one", all(3))
	if got := w.asked(); got != counts(1, 1, 1) {
		t.Errorf("the first one: %s", got)
	}
	for size := uint64(4); size < 16; size++ { // every 5 s
		w.publish(size)
		w.pass(5 * time.Second)
		if size < 15 {
			w.step()
		}
	}
	w.want("within the interval", all(3))
	w.step()
	w.want("after it", all(15))
	if got := w.asked(); got != counts(1, 1, 1) {
		t.Errorf("in a minute: %s", got)
	}
	// An idle log, also one that is published again with other cosignatures.
	for range 100 {
		w.pass(time.Hour)
		w.putNote(w.quorum)
		w.step()
	}
	if got := w.asked(); got != counts(0, 0, 0) {
		t.Errorf("an idle log: %s", got)
	}
}

// TestMissing: who does not answer is asked again, less and less often, and nobody
// else is; with the next growth everybody is asked.
func TestMissing(t *testing.T) {
	w := newWorld(t)
	w.public.down["p2.test"] = true
	w.tsas["two.test"].reply = refuseAll
	w.publish(3)
	w.step()
	w.want("two are down", "3 p1.test/4 p1.test/6 t1")
	if got := w.asked(); got != counts(1, 1, 1) {
		t.Errorf("first: %s", got)
	}
	for range 60 * 24 { // a day
		w.pass(time.Minute)
		_ = w.worker.Step(t.Context())
	}
	if w.public.asked < 20 || w.public.asked > 60 || w.tsas["two.test"].asked != w.public.asked || w.tsas["one.test"].asked != 0 {
		t.Errorf("in a day: %s", w.asked())
	}
	w.asked()
	w.want("a day later", "3 p1.test/4 p1.test/6 t1")
	w.tsas["two.test"].reply = nil
	w.pass(time.Hour)
	w.step()
	w.want("one is back", "3 p1.test/4 p1.test/6 t1 t2")
	w.publish(5)
	w.pass(time.Minute)
	w.step()
	w.want("it grew", "5 p1.test/4 p1.test/6 t1 t2")
	w.public.down["p2.test"] = false
	w.pass(time.Hour)
	w.step()
	w.want("all are back", all(5))
	for _, line := range []string{`msg="an anchor does not answer"`, `msg="an anchor answers again"`} {
		if n := strings.Count(w.lines.String(), line); n != 2 {
			t.Errorf("%q was logged %d times, expected once for each of two", line, n)
		}
	}
	for want, got := range map[float64]float64{
		5:                     w.metric("trialog_anchor_size"),
		float64(w.now.Unix()): w.metric("trialog_anchor_timestamp_seconds"),
		0:                     w.metric("trialog_anchor_requests_total", "t1", "failed"),
		2:                     w.metric("trialog_anchor_requests_total", "t1", "ok"),
		1:                     w.metric("trialog_anchor_requests_total", "p2", "ok"),
	} {
		if got != want {
			t.Errorf("a metric is %g, want %g", got, want)
		}
	}
}

// metric returns the value of a metric with these labels.
func (w *world) metric(name string, labels ...string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var has []string
			for _, l := range m.GetLabel() {
				has = append(has, l.GetValue())
			}
			if f.GetName() == name && slices.Equal(has, labels) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	w.t.Errorf("no metric %s %v", name, labels)
	return -1
}

// TestNobody: nothing is kept of a checkpoint that nobody has vouched for, and the
// next try comes later and later, but for one that has grown.
func TestNobody(t *testing.T) {
	w := newWorld(t)
	everybody := func(down bool) {
		for _, a := range w.tsas {
			if a.reply = nil; down {
				a.reply = refuseAll
			}
		}
		w.public.down["p1.test"], w.public.down["p2.test"] = down, down
	}
	everybody(true)
	w.publish(3)
	if err := w.worker.Step(t.Context()); !errors.Is(err, errNobody) {
		t.Errorf("got %v", err)
	}
	w.want("all are down", "nothing")
	for size := uint64(4); size < 4+60; size++ {
		w.publish(size)
		w.pass(time.Minute)
		_ = w.worker.Step(t.Context())
	}
	if w.public.asked < 5 || w.public.asked > 20 {
		t.Errorf("asked %d times in an hour", w.public.asked)
	}
	everybody(false)
	w.pass(time.Hour)
	w.step()
	w.want("all are back", all(4+60-1))
	// Once there is one, others are tried for at the usual pace.
	everybody(true)
	w.asked()
	for size := w.tiles.Size() + 1; size < 4+60+4*20; size++ {
		w.publish(size)
		w.pass(15 * time.Second)
		_ = w.worker.Step(t.Context())
	}
	if w.public.asked < 15 || w.public.asked > 20 {
		t.Errorf("asked %d times in 20 minutes", w.public.asked)
	}
}

// TestRestart goes on where the last process stopped.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	w.publish(3)
	w.step()
	w.asked()
	w.publish(7)
	w.restart()
	w.pass(59 * time.Second)
	w.step()
	w.want("within the interval", all(3))
	w.pass(time.Second)
	w.step()
	w.want("after it", all(7))
	if got := w.asked(); got != counts(1, 1, 1) {
		t.Errorf("asked: %s", got)
	}
	w.restart()
	w.pass(time.Hour)
	w.step()
	if got := w.asked(); got != counts(0, 0, 0) {
		t.Errorf("an idle log: %s", got)
	}
	// A clock that was set back by a year does not stop it.
	w.pass(-365 * 24 * time.Hour)
	w.restart()
	w.publish(8)
	w.step()
	w.pass(time.Minute)
	w.step()
	w.want("a year earlier", all(8))
}

// TestUnfinished: what an earlier process could not get is asked for by the next.
func TestUnfinished(t *testing.T) {
	w := newWorld(t)
	w.tsas["two.test"].reply = refuseAll
	w.publish(3)
	w.step()
	w.tsas["two.test"].reply = nil
	w.restart()
	w.asked()
	w.pass(time.Minute)
	w.step()
	w.want("complete", all(3))
	if got := w.asked(); got != counts(0, 0, 1) {
		t.Errorf("asked: %s", got)
	}
}

// TestNewPolicy: a checkpoint that does not satisfy the policy any more is anchored
// anew once the log has published one that does; tokens are over its text, and
// stand.
func TestNewPolicy(t *testing.T) {
	w := newWorld(t)
	w.publish(3)
	w.step()
	other := noteKey(t, "other.test", checkpoint.AlgEd25519Cosignature)
	w.policy = w.policyOf(other.Verifier())
	w.restart()
	w.asked()
	w.pass(time.Minute)
	if err := w.worker.Step(t.Context()); err == nil {
		t.Error("a published checkpoint that does not satisfy the policy was anchored")
	}
	w.putNote(other)
	w.step()
	if got := w.asked(); got != counts(0, 0, 0) {
		t.Errorf("asked: %s", got)
	}
	w.want("by the new policy", all(3))
}

func TestChangedParties(t *testing.T) {
	w := newWorld(t)
	w.publish(3)
	w.step()
	w.asked()
	c := w.config()
	c.Registerer = nil
	c.Authorities = append(c.Authorities[:1], Authority{
		URL: "http://two.test/tsr", Authority: anchored.Authority{Name: "t3", Certificate: w.tsas["two.test"].a.Root.Cert},
	})
	var err error
	if w.worker, err = New(c); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Minute)
	w.step()
	if got := w.asked(); got != counts(0, 0, 1) {
		t.Errorf("asked: %s", got)
	}
	raw, err := w.memory.Get(t.Context(), anchored.Key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := anchored.Parse(raw)
	if err != nil || len(r.Tokens) != 2 || r.Token("t1") == nil || r.Token("t3") == nil {
		t.Errorf("stored: %+v, %v", r, err)
	}
}

// TestChangedCertificate: a token that does not lead to the authority's present
// certificate spoils nothing that stands, also while the authority is down.
func TestChangedCertificate(t *testing.T) {
	w := newWorld(t)
	w.publish(3)
	w.step()
	w.tsas["two.test"].a = timestamptest.New("three")
	w.tsas["two.test"].reply = refuseAll
	w.restart()
	w.asked()
	w.pass(time.Minute)
	w.step()
	w.want("without it", "3 p1.test/4 p1.test/6 p2.test/4 t1")
	w.tsas["two.test"].reply = nil
	w.pass(time.Hour)
	w.step()
	w.want("back", all(3))
	if got := w.asked(); got != counts(0, 0, 2) {
		t.Errorf("asked: %s", got)
	}
}

// TestDurable: a write that failed, and one that failed and took place all the
// same, are made good, and nobody is asked twice.
func TestDurable(t *testing.T) {
	for _, fault := range blobtest.Faults() {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, crash %t", fault, crash), func(t *testing.T) {
				w := newWorld(t)
				w.publish(3)
				w.store.Rearm(1, fault, crash)
				if err := w.worker.Step(t.Context()); !errors.Is(err, blobtest.ErrInjected) {
					t.Fatalf("got %v", err)
				}
				want := counts(1, 1, 1)
				if crash {
					w.store.Rearm(0, fault, false)
					w.restart()
					w.pass(time.Minute)
					if fault == blobtest.Lost {
						want = counts(2, 2, 2) // what is not kept nobody has
					}
				}
				w.step()
				w.want("the second time", all(3))
				if got := w.asked(); got != want {
					t.Errorf("asked: %s, want %s", got, want)
				}
			})
		}
	}
}

// TestNeverBack: a worker that another one has overtaken puts no older checkpoint
// in the place of a newer one, and learns of that.
func TestNeverBack(t *testing.T) {
	w := newWorld(t)
	w.publish(3)
	w.step()
	old := w.worker
	w.restart()
	w.publish(5)
	w.pass(time.Minute)
	note, err := w.memory.Get(t.Context(), publishedKey)
	if err != nil {
		t.Fatal(err)
	}
	w.publish(9)
	w.step()
	w.want("the other one", all(9))
	// The old one reads what was published before, and stores after the other.
	w.public.last = checkpoint.Checkpoint{}
	old.c.Store = &stale{Store: w.memory, note: note}
	if err := old.Step(t.Context()); !errors.Is(err, errOvertaken) {
		t.Errorf("got %v", err)
	}
	w.want("after the old one", all(9))
	old.c.Store = w.memory
	w.pass(time.Minute)
	w.asked()
	if err := old.Step(t.Context()); err != nil || w.asked() != counts(0, 0, 0) {
		t.Errorf("it has not learnt: %v", err)
	}
}

// stale gives an old published note.
type stale struct {
	blob.Store

	note []byte
}

func (s *stale) Get(ctx context.Context, key string) ([]byte, error) {
	if key == publishedKey {
		return s.note, nil
	}
	return s.Store.Get(ctx, key)
}

// TestRefused: nothing is anchored that contradicts what was anchored, that nobody
// published, or that is not the log's.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	w.publish(3)
	w.step()
	before := w.stored()
	w.pass(time.Hour)
	w.asked()
	good, err := w.memory.Get(t.Context(), publishedKey)
	if err != nil {
		t.Fatal(err)
	}
	fork := newWorld(t)
	if _, err := fork.tiles.Append(t.Context(), [][]byte{[]byte("a"), []byte("b"), []byte("c")}); err != nil {
		t.Fatal(err)
	}
	smaller := newWorld(t)
	for name, note := range map[string][]byte{
		"another root":        fork.putNote(fork.quorum).Bytes(),
		"a smaller one":       smaller.publish(2).Bytes(),
		"damaged":             append(bytes.Clone(good), 'x'),
		"not cosigned":        good[:bytes.LastIndex(good[:len(good)-1], []byte("\n"))+1],
		"cosigned by another": w.putNote(noteKey(t, "x.test", checkpoint.AlgEd25519Cosignature)).Bytes(),
	} {
		w.put(publishedKey, note)
		if err := w.worker.Step(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
		if got := w.stored(); got != before {
			t.Errorf("%s: stored is %q", name, got)
		}
	}
	if got := w.asked(); got != counts(0, 0, 0) {
		t.Errorf("asked: %s", got)
	}
	// The tiles are damaged: the witnesses get no checkpoint, the authorities do.
	w.put(publishedKey, good)
	w.publish(5)
	w.worker.reader = fork.worker.reader
	w.step()
	w.want("damaged tiles", "5 t1 t2")
}

// TestDamagedAnchor is made anew.
func TestDamagedAnchor(t *testing.T) {
	w := newWorld(t)
	w.publish(3)
	w.put(anchored.Key, []byte("{}\n"))
	w.step()
	w.want("anew", all(3))
	if !strings.Contains(w.lines.String(), "is damaged") {
		t.Errorf("not said: %s", &w.lines)
	}
}

// TestLyingGatherer: signatures of others, and such that fail, are not kept.
func TestLyingGatherer(t *testing.T) {
	w := newWorld(t)
	note := w.publish(3)
	w.public.lie = func(signed []checkpoint.Signature) []checkpoint.Signature {
		stranger, err := noteKey(t, "stranger.test", checkpoint.AlgEd25519Cosignature).SignCheckpoint(note.Text(), 1)
		if err != nil {
			t.Error(err)
		}
		bad := signed[0]
		bad.Bytes = bytes.Clone(bad.Bytes)
		bad.Bytes[20] ^= 1
		again, err := w.quorum.SignCheckpoint(note.Text(), 1) // the policy's own, dated back
		if err != nil {
			t.Error(err)
		}
		return []checkpoint.Signature{stranger, bad, again, signed[2]}
	}
	w.step()
	w.want("one is good", "3 p2.test/4 t1 t2")
	raw, err := w.memory.Get(t.Context(), anchored.Key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := anchored.Parse(raw)
	if err != nil || len(r.Note.Signatures()) != 4 {
		t.Errorf("%d signatures are kept, want 2 of the log, that of the quorum and a good one: %v", len(r.Note.Signatures()), err)
	}
}

// TestRun ends with its context, and says the same error once.
func TestRun(t *testing.T) {
	w := newWorld(t)
	w.put(publishedKey, []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	looks := 0
	w.worker.c.Pause = func(ctx context.Context, d time.Duration) error {
		if d != 5*time.Second {
			t.Errorf("pause of %s", d)
		}
		w.pass(d)
		looks++
		switch looks {
		case 10:
			w.publish(3) //nolint:contextcheck // the test's own
		case 11:
			w.want("by Run", all(3)) //nolint:contextcheck // the test's own
		case 20:
			cancel()
		}
		return ctx.Err()
	}
	if err := w.worker.Run(ctx); err != nil || looks != 20 {
		t.Errorf("ended after %d looks with %v", looks, err)
	}
	if n := strings.Count(w.lines.String(), "is not anchored"); n != 1 {
		t.Errorf("logged %d times, expected once: %s", n, &w.lines)
	}
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*Config){
		"nobody":               func(c *Config) { c.Gatherer, c.Witnesses, c.Authorities = nil, nil, nil },
		"nobody who asks":      func(c *Config) { c.Gatherer = nil },
		"nobody to be asked":   func(c *Config) { c.Witnesses = nil },
		"too fast":             func(c *Config) { c.Interval = time.Minute - 1 },
		"a name twice":         func(c *Config) { c.Authorities[1].Name = c.Witnesses[0].Name },
		"no name":              func(c *Config) { c.Authorities[1].Name = "" },
		"no certificate":       func(c *Config) { c.Authorities[1].Certificate = nil },
		"no store":             func(c *Config) { c.Store = nil },
		"no origin":            func(c *Config) { c.Origin = "" },
		"no policy":            func(c *Config) { c.Policy = nil },
		"metrics that are not": func(c *Config) { c.Registerer = w.metrics }, // registered already
	} {
		c := w.config()
		c.Registerer = nil
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestWitnessPolicy(t *testing.T) {
	w := newWorld(t)
	c := w.config()
	p, err := WitnessPolicy(w.policy.Notes().Logs(), c.Witnesses)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Logs()) != 2 || len(p.Witnesses()) != 3 || p.Quorum(func(name string) bool { return name != "w1-0" }) {
		t.Errorf("policy:\n%s", p.Bytes())
	}
	if !p.Quorum(func(string) bool { return true }) {
		t.Error("all are not enough")
	}
	c.Witnesses[1].Keys = c.Witnesses[0].Keys
	if p, err := WitnessPolicy(w.policy.Notes().Logs(), c.Witnesses); err == nil {
		t.Errorf("a key twice:\n%s", p.Bytes())
	}
}
