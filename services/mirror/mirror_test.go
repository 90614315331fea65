package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/blob/blobtest"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/mirror"
)

// TestFollows lets a log grow and mirrors it at every checkpoint, with a new
// mirror on the old store now and then.
func TestFollows(t *testing.T) {
	t.Parallel()
	s, store := newSource(t), blob.NewMemory()
	c := s.config(tile.FromStore(s.store), store)
	m := newMirror(t, c)
	if err := m.Step(t.Context()); !errors.Is(err, blob.ErrNotFound) || m.State().Reason != mirror.Unavailable {
		t.Errorf("a log without a checkpoint: %v, %+v", err, m.State())
	}
	for i, size := range []uint64{0, 1, 19, 250, 256, 512, 600, 3000, 5200} {
		note := s.grow(t, size).publish(t)
		size = s.writer.Size()
		s.grow(t, size+5) // not published yet
		if i%3 == 2 {
			m = newMirror(t, c)
		}
		if err := m.Step(t.Context()); err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		if st := m.State(); st.Reason != mirror.Following || st.Size != size {
			t.Errorf("size %d: %+v", size, st)
		}
		s.holds(t, store, note)
	}
	s.publish(t)
	if err := m.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.sameLog(t, store)
	// All beacons that statements name, and no more: the first and last notes are
	// nobody's.
	for _, key := range keysOf(t, store, "beacon/") {
		a, errA := s.store.Get(t.Context(), key)
		b, errB := store.Get(t.Context(), key)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %v, %v", key, errA, errB)
		}
	}
	if n := len(keysOf(t, store, "beacon/")); n < 5 {
		t.Errorf("%d beacons", n)
	}
}

// TestMoreSignatures: another note of the same tree is published as it is.
func TestMoreSignatures(t *testing.T) {
	t.Parallel()
	s, store := newSource(t), blob.NewMemory()
	m := newMirror(t, s.config(tile.FromStore(s.store), store))
	s.grow(t, 20)
	for range 3 {
		note := s.publish(t)
		if err := m.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.holds(t, store, note)
	}
}

// TestKilledAtEveryWrite lets every write of the mirror fail in every way, and
// die or go on. What is published is always complete, and in the end the copy is
// that of a run without faults.
func TestKilledAtEveryWrite(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	first := s.grow(t, 300).publish(t)
	a := s.grow(t, 300).writer.Size()
	count := blobtest.NewFaulty(blob.NewMemory(), 0, blobtest.Lost, false)
	follow := func(t *testing.T, store blob.Store, check func()) error {
		m := newMirror(t, s.config(tile.FromStore(s.store), store))
		err := m.Step(t.Context())
		check()
		return err
	}
	if err := follow(t, count, func() {}); err != nil {
		t.Fatal(err)
	}
	perStep := count.Writes()
	second := s.grow(t, a+900).publish(t)
	if err := follow(t, count, func() {}); err != nil {
		t.Fatal(err)
	}
	if count.Writes() < perStep+4 {
		t.Fatalf("%d writes and then %d: the test does not see them", perStep, count.Writes())
	}
	for at := 1; at <= count.Writes(); at++ {
		for _, fault := range blobtest.Faults() {
			for _, dies := range []bool{true, false} {
				store := blob.NewMemory()
				published := func() {
					note, err := store.Get(t.Context(), "checkpoint")
					if err == nil {
						if !bytes.Equal(note, first) && !bytes.Equal(note, second) {
							t.Errorf("write %d %v: a note of nobody is published", at, fault)
						}
						s.holds(t, store, note)
					}
				}
				// The first step sees the first note, the later ones the second.
				put(t, s.store, "checkpoint", first)
				faulty := blobtest.NewFaulty(store, at, fault, dies)
				m := newMirror(t, s.config(tile.FromStore(s.store), faulty))
				_ = m.Step(t.Context())
				published()
				put(t, s.store, "checkpoint", second)
				_ = m.Step(t.Context())
				published()
				if dies {
					m = newMirror(t, s.config(tile.FromStore(s.store), store))
				}
				if err := m.Step(t.Context()); err != nil {
					t.Fatalf("write %d %v, dies=%v: going on: %v", at, fault, dies, err)
				}
				s.holds(t, store, second)
			}
		}
	}
}

// TestFork shows the mirror contradicting notes: of its size, of a larger tree, of
// a smaller one. It keeps both, follows no more, and serves what it has, also
// after a restart.
func TestFork(t *testing.T) {
	t.Parallel()
	for _, size := range []uint64{100, 250, 256, 299, 300, 301, 700} {
		s, store := newSource(t), blob.NewMemory()
		s.grow(t, 200).publish(t)
		note := s.grow(t, 300).publish(t)
		m := newMirror(t, s.config(tile.FromStore(s.store), store))
		if err := m.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Another log of the same keys, that has only its first entries in common.
		other := newSource(t)
		var entries [][]byte
		for i := range size {
			entries = append(entries, opaque(i, byte(i/90)))
		}
		if _, err := other.writer.Append(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
		forked := other.publish(t)
		c := s.config(tile.FromStore(other.store), store)
		for range 2 { // once in its memory, then in the store
			m = newMirror(t, c)
			var fork *mirror.ForkError
			for range 2 {
				if err := m.Step(t.Context()); !errors.As(err, &fork) || m.State().Reason != mirror.Fork {
					t.Fatalf("fork at size %d: %v, %+v", size, err, m.State())
				}
				if m.State().Size != 300 || !strings.Contains(fork.Error(), "evidence/fork/") {
					t.Errorf("fork at size %d: %+v, %v", size, m.State(), fork)
				}
			}
			s.holds(t, store, note)
		}
		notes, finding := s.evidence(t, store, "fork")
		kind := evidence.KindInconsistent
		if size == 300 {
			kind = evidence.KindFork
		}
		if !finding.Conclusive || finding.Kind != kind || finding.Against[0].Role != evidence.RoleLog ||
			!slices.ContainsFunc(notes, sameNote(note)) || !slices.ContainsFunc(notes, sameNote(forked)) {
			t.Errorf("fork at size %d: %+v", size, finding)
		}
		// An honest source again: a person has to decide.
		m = newMirror(t, s.config(tile.FromStore(s.store), store))
		s.grow(t, 800).publish(t)
		if err := m.Step(t.Context()); m.State().Reason != mirror.Fork {
			t.Errorf("it follows again: %v", err)
		}
	}
}

// TestForkOfTarget: the mirror dies while it copies; what the source shows then
// contradicts the note that the mirror was copying to, though not the published
// one.
func TestForkOfTarget(t *testing.T) {
	t.Parallel()
	s, store := newSource(t), blob.NewMemory()
	s.grow(t, 200)
	s.beacon = nil
	first := s.publish(t)
	s.beacon = nil
	if err := newMirror(t, s.config(tile.FromStore(s.store), store)).Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	prefix := blob.NewMemory()
	for _, key := range keysOf(t, s.store, "") {
		data, err := s.store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		put(t, prefix, key, data)
	}
	target := s.grow(t, 900).publish(t)
	// The writes are the target's note, then entries.
	for at := 1; at <= 4; at++ {
		copied := blob.NewMemory()
		for _, key := range keysOf(t, store, "") {
			data, _ := store.Get(t.Context(), key)
			put(t, copied, key, data)
		}
		if err := newMirror(t, s.config(tile.FromStore(s.store), blobtest.NewFaulty(copied, at, blobtest.Persisted, true))).Step(t.Context()); err == nil {
			t.Fatal("nothing failed")
		}
		other := newSource(t)
		other.store = blob.NewMemory()
		for _, key := range keysOf(t, prefix, "") {
			data, _ := prefix.Get(t.Context(), key)
			put(t, other.store, key, data)
		}
		var err error
		if other.writer, err = tile.OpenWriter(t.Context(), other.store); err != nil {
			t.Fatal(err)
		}
		var entries [][]byte
		for i := other.writer.Size(); i < 1000; i++ {
			entries = append(entries, opaque(i, 7))
		}
		if _, err := other.writer.Append(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
		other.publish(t)
		m := newMirror(t, s.config(tile.FromStore(other.store), copied))
		if err := m.Step(t.Context()); m.State().Reason != mirror.Fork {
			t.Errorf("write %d: %v, %+v", at, err, m.State())
		}
		s.holds(t, copied, first)
		notes, finding := s.evidence(t, copied, "fork")
		if !finding.Conclusive || finding.Kind != evidence.KindInconsistent || !sameNote(target)(notes[0]) {
			t.Errorf("write %d: the evidence is not about the target: %+v", at, finding)
		}
	}
}

// TestRollback: an older note is never accepted, is kept as evidence once, and
// following goes on when the source has caught up.
func TestRollback(t *testing.T) {
	t.Parallel()
	s, store := newSource(t), blob.NewMemory()
	old := [][]byte{s.grow(t, 100).publish(t), s.grow(t, 150).publish(t)}
	note := s.grow(t, 300).publish(t)
	c := s.config(tile.FromStore(s.store), store)
	m := newMirror(t, c)
	if err := m.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, o := range old {
			put(t, s.store, "checkpoint", o)
			var rollback *mirror.RollbackError
			if err := m.Step(t.Context()); !errors.As(err, &rollback) || m.State().Reason != mirror.Rollback {
				t.Errorf("%v, %+v", err, m.State())
			}
			s.holds(t, store, note)
		}
	}
	notes, finding := s.evidence(t, store, "rollback")
	if !sameNote(old[0])(notes[0]) || !sameNote(note)(notes[1]) || finding.Conclusive {
		t.Errorf("an old note is no contradiction: %+v", finding)
	}
	next := s.grow(t, 400).publish(t)
	if err := m.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.holds(t, store, next)
}

// TestRun follows until it is told to stop, pauses longer after errors, and stays
// after a fork.
func TestRun(t *testing.T) {
	t.Parallel()
	s, store := newSource(t), blob.NewMemory()
	from := &flawed{Store: s.store}
	from.set(func(string, []byte, error) ([]byte, error) { return nil, errAway })
	c := s.config(from, store)
	c.Interval = time.Second
	lines := &logLines{}
	c.Logger = slog.New(slog.NewTextHandler(lines, nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var pauses []time.Duration
	c.Pause = func(ctx context.Context, d time.Duration) error {
		pauses = append(pauses, d)
		switch len(pauses) {
		case 7:
			s.grow(t, 30).publish(t) //nolint:contextcheck // the test's own
			from.set(nil)
		case 9:
			put(t, s.store, "checkpoint", s.sign(t, checkpoint.Checkpoint{Origin: origin, Size: 30}, 1)) //nolint:contextcheck // the test's own
			lines.on("reason=fork", cancel)
		case 20:
			cancel() // the fork was not seen
		}
		return ctx.Err()
	}
	if err := newMirror(t, c).Run(ctx); err != nil {
		t.Errorf("run: %v", err)
	}
	const s1 = time.Second
	want := []time.Duration{2 * s1, 4 * s1, 8 * s1, 16 * s1, 16 * s1, 16 * s1, 16 * s1, s1, s1}
	for i, d := range pauses {
		if i < len(want) && d != want[i] {
			t.Errorf("pause %d is %v, expected %v", i, d, want[i])
		}
	}
	if len(pauses) != len(want) {
		t.Errorf("%d pauses, expected none after the fork: %v", len(pauses), pauses)
	}
	if n := strings.Count(lines.String(), "reason=unavailable"); n != 1 {
		t.Errorf("%d lines for one change of state", n)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	for name, change := range map[string]func(*mirror.Config){
		"no source": func(c *mirror.Config) { c.Source = nil }, "no store": func(c *mirror.Config) { c.Store = nil },
		"no policy": func(c *mirror.Config) { c.Policy = nil }, "other log": func(c *mirror.Config) { c.Origin = "other" },
		"no clock": func(c *mirror.Config) { c.Now = nil }, "no logger": func(c *mirror.Config) { c.Logger = nil },
		"interval": func(c *mirror.Config) { c.Interval = -1 },
	} {
		c := s.config(tile.FromStore(s.store), blob.NewMemory())
		change(&c)
		if _, err := mirror.New(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
