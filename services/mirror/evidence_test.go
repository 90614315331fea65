package mirror_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/blob/blobtest"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/mirror"
)

// forkOf is another log of the same keys, that has only its first entries in
// common.
func forkOf(t *testing.T, size uint64) *source {
	t.Helper()
	other := newSource(t)
	var entries [][]byte
	for i := range size {
		entries = append(entries, opaque(i, byte(i/90)))
	}
	if _, err := other.writer.Append(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	other.publish(t)
	return other
}

// TestEvidenceIsDurable lets the write of the evidence fail in each way. Whatever is
// left, the mirror says that there is a fork, and has the evidence once, after it was
// started again.
func TestEvidenceIsDurable(t *testing.T) {
	t.Parallel()
	for _, fault := range blobtest.Faults() {
		s, store := newSource(t), blob.NewMemory()
		s.grow(t, 300).publish(t)
		if err := newMirror(t, s.config(tile.FromStore(s.store), store)).Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := s.config(tile.FromStore(forkOf(t, 400).store), store)
		c.Store = blobtest.NewFaulty(store, 1, fault, false)
		m := newMirror(t, c)
		var fork *mirror.ForkError
		if err := m.Step(t.Context()); err == nil || errors.As(err, &fork) {
			t.Errorf("fault %v: a fork without evidence: %v", fault, err)
		}
		c.Store = store
		for range 2 {
			if err := newMirror(t, c).Step(t.Context()); !errors.As(err, &fork) {
				t.Errorf("fault %v: %v", fault, err)
			}
		}
		if _, f := s.evidence(t, store, "fork"); !f.Conclusive {
			t.Errorf("fault %v: %+v", fault, f)
		}
	}
}

// TestWithheldTiles: the source contradicts what is half copied, and does not give
// the tiles that would prove it. The two notes are kept, and the mirror stops.
func TestWithheldTiles(t *testing.T) {
	t.Parallel()
	s, store := newSource(t), blob.NewMemory()
	s.grow(t, 50).publish(t)
	if err := newMirror(t, s.config(tile.FromStore(s.store), store)).Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.beacon = nil
	target := s.grow(t, 5000).publish(t)
	// The writes are the target's note, and the objects of the first 2,048 entries.
	halfway := blob.NewMemory()
	for _, key := range keysOf(t, store, "") {
		data, err := store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		put(t, halfway, key, data)
	}
	from := &flawed{Store: s.store}
	from.set(func(key string, data []byte, err error) ([]byte, error) {
		if strings.HasPrefix(key, "tile/entries/009") {
			return nil, errAway
		}
		return data, err
	})
	if err := newMirror(t, s.config(from, halfway)).Step(t.Context()); err == nil {
		t.Fatal("nothing was withheld")
	}
	other := forkOf(t, 1000)
	m := newMirror(t, s.config(tile.FromStore(other.store), halfway))
	var fork *mirror.ForkError
	if err := m.Step(t.Context()); !errors.As(err, &fork) {
		t.Fatalf("%v, %+v", err, m.State())
	}
	notes, f := s.evidence(t, halfway, "fork")
	if f.Kind != evidence.KindUnproven || f.Conclusive || !sameNote(target)(notes[1]) {
		t.Errorf("%+v", f)
	}
}

// TestWitnessesThatWentBack: an older note that witnesses signed after the newer one
// is evidence against them.
func TestWitnessesThatWentBack(t *testing.T) {
	t.Parallel()
	s, store := newSource(t), blob.NewMemory()
	s.grow(t, 100)
	older := s.head()
	s.grow(t, 300).publish(t)
	m := newMirror(t, s.config(tile.FromStore(s.store), store))
	if err := m.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, s.store, "checkpoint", s.sign(t, older, s.time+60))
	var rollback *mirror.RollbackError
	if err := m.Step(t.Context()); !errors.As(err, &rollback) {
		t.Fatal(err)
	}
	_, f := s.evidence(t, store, "rollback")
	if !f.Conclusive || f.Kind != evidence.KindWitnessRollback || f.Against[0].Role != evidence.RoleWitness {
		t.Errorf("%+v", f)
	}
}

// TestEvidenceOfRollbacksIsBounded: a source has many old notes to show.
func TestEvidenceOfRollbacksIsBounded(t *testing.T) {
	t.Parallel()
	s, store := newSource(t), blob.NewMemory()
	old := s.grow(t, 10).publish(t)
	m := newMirror(t, s.config(tile.FromStore(s.store), store))
	for i := range uint64(40) {
		newer := s.grow(t, 11+i).publish(t)
		if err := m.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		put(t, s.store, "checkpoint", old)
		if err := m.Step(t.Context()); m.State().Reason != mirror.Rollback {
			t.Fatal(err)
		}
		put(t, s.store, "checkpoint", newer)
	}
	if n := len(keysOf(t, store, "evidence/rollback/")); n != 16 {
		t.Errorf("%d files", n)
	}
	// There is room left for one that shows something.
	newer := s.grow(t, 60).publish(t)
	if err := m.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := s.head()
	put(t, s.store, "checkpoint", newer)
	s.grow(t, 61).publish(t)
	if err := m.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, s.store, "checkpoint", s.sign(t, back, s.time+60))
	if err := m.Step(t.Context()); m.State().Reason != mirror.Rollback {
		t.Fatal(err)
	}
	if n := len(keysOf(t, store, "evidence/rollback/")); n != 17 {
		t.Errorf("%d files, expected what speaks against the witnesses too", n)
	}
}

// TestOwnStoreCannotBeRead: what cannot be read now is no reason to accuse without a
// proof; it is tried again.
func TestOwnStoreCannotBeRead(t *testing.T) {
	t.Parallel()
	s, store := newSource(t), blob.NewMemory()
	s.grow(t, 300).publish(t)
	if err := newMirror(t, s.config(tile.FromStore(s.store), store)).Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	away := &unlisted{Store: store, away: true}
	c := s.config(tile.FromStore(forkOf(t, 300).store), store)
	c.Store = away
	m := newMirror(t, c)
	var fork *mirror.ForkError
	if err := m.Step(t.Context()); err == nil || errors.As(err, &fork) {
		t.Errorf("%v", err)
	}
	away.away = false
	if err := m.Step(t.Context()); !errors.As(err, &fork) {
		t.Errorf("%v", err)
	}
}

// unlisted is a store whose evidence cannot be read while away.
type unlisted struct {
	blob.Store

	away bool
}

func (u *unlisted) Get(ctx context.Context, key string) ([]byte, error) {
	if u.away && strings.HasPrefix(key, "evidence/") {
		return nil, errAway
	}
	return u.Store.Get(ctx, key)
}
