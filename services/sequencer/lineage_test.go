package sequencer

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
)

// liar is a predecessor whose stores do not tell the truth.
type liar struct {
	blob.Store
	honest interface {
		Read(ctx context.Context) (register.Record, error)
	}
	mu      sync.Mutex
	objects map[string]func([]byte) ([]byte, error)
	record  func(*register.Record) error
}

func lyingAbout(p Predecessor) *liar {
	return &liar{Store: p.Tiles, honest: p.Register, objects: map[string]func([]byte) ([]byte, error){}}
}

func (l *liar) predecessor(origin string) Predecessor {
	return Predecessor{Origin: origin, Tiles: l, Register: l}
}

func (l *liar) Get(ctx context.Context, key string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	raw, err := l.Store.Get(ctx, key)
	if lie := l.objects[key]; err == nil && lie != nil {
		return lie(raw)
	}
	return raw, err
}

func (l *liar) Read(ctx context.Context) (register.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rec, err := l.honest.Read(ctx)
	if err == nil && l.record != nil {
		err = l.record(&rec)
	}
	return rec, err
}

// says makes the liar give data for key.
func (l *liar) says(key string, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.objects[key] = func([]byte) ([]byte, error) { return slices.Clone(data), nil }
}

// about makes the liar change what its register says; nil is the truth.
func (l *liar) about(change func(*register.Record) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.record = change
}

// cosigned is a note with all signatures that the policy asks for, later than
// those of the note that the witnesses have signed before.
func (s *shard) cosigned(c checkpoint.Checkpoint) []byte {
	s.t.Helper()
	at := uint64(time.Now().Add(time.Minute).Unix())
	n, err := checkpoint.SignLog(c, at, s.logKeys...)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, k := range s.witness.keys {
		sig, err := k.SignCheckpoint(n.Text(), at)
		if err != nil {
			s.t.Fatal(err)
		}
		if n, err = n.With(sig); err != nil {
			s.t.Fatal(err)
		}
	}
	return n.Bytes()
}

// ended is a log whose first shard has ended and whose second one is to open.
func ended(t *testing.T, next string) (first, second *shard, lie *liar) {
	t.Helper()
	h := newShards(t, 2)
	first, second = h.list[0], h.list[1]
	if err := first.start(); err != nil {
		t.Fatal(err)
	}
	first.populate()
	first.end(next)
	lie = lyingAbout(second.before[0])
	second.before = []Predecessor{lie.predecessor(first.origin)}
	return first, second, lie
}

// refuses starts the shard, which refuses for the reason and signs nothing.
func (s *shard) refuses(reason Reason) {
	s.t.Helper()
	err := s.start()
	if r, ok := errors.AsType[*RefusedError](err); !ok || r.Reason != reason {
		s.t.Errorf("start: %v, expected the reason %q", err, reason)
	}
	if _, err := s.seq.Add(s.t.Context(), Request{Envelope: []byte("{}")}); !errors.Is(err, ErrNotReady) {
		s.t.Errorf("it answers %v", err)
	}
	if s.witness.bodies() > 0 {
		s.t.Error("it has signed something")
	}
}

// TestLyingPredecessor: a predecessor that is not what its quorum has cosigned,
// or does not lead to this shard, is refused by name.
func TestLyingPredecessor(t *testing.T) {
	get := func(t *testing.T, s *shard, key string) []byte {
		raw, err := s.tiles.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	record := func(change func(*register.Record)) func(*testing.T, *shard, *liar) {
		return func(_ *testing.T, _ *shard, l *liar) {
			l.about(func(r *register.Record) error { change(r); return nil })
		}
	}
	fails := func(err error) func(*testing.T, *shard, *liar) {
		return func(_ *testing.T, _ *shard, l *liar) { l.about(func(*register.Record) error { return err }) }
	}
	for _, tt := range []struct {
		name   string
		reason Reason
		lie    func(t *testing.T, first *shard, l *liar)
	}{
		{"no register", RegisterMissing, fails(register.ErrMissing)},
		{"register damaged", Corrupt, fails(register.ErrCorrupt)},
		{"register of another shard", Fork, record(func(r *register.Record) { r.Origin = shardOrigin(1) })},
		{"sealed with another root", Fork, record(func(r *register.Record) { r.Root[0] ^= 1 })},
		{"sealed below the checkpoint", Rollback, record(func(r *register.Record) { r.Size-- })},
		{"sealed above the checkpoint", Rollback, record(func(r *register.Record) { r.Size++ })},
		{"below the checkpoint, not sealed", Rollback, record(func(r *register.Record) { r.Size, r.Sealed = r.Size-1, false })},
		{"no checkpoint", Rollback, func(_ *testing.T, _ *shard, l *liar) {
			l.objects[CheckpointKey] = func([]byte) ([]byte, error) { return nil, blob.ErrNotFound }
		}},
		{"checkpoint damaged", Corrupt, func(_ *testing.T, _ *shard, l *liar) { l.says(CheckpointKey, []byte("x")) }},
		{"checkpoint without cosignatures", Corrupt, func(t *testing.T, first *shard, l *liar) {
			l.says(CheckpointKey, get(t, first, candidateKey))
		}},
		{"checkpoint of another tree", Fork, func(_ *testing.T, first *shard, l *liar) {
			c := first.seq.Checkpoint().Checkpoint()
			c.Root[0] ^= 1
			l.says(CheckpointKey, first.cosigned(c))
		}},
		{"checkpoint and register of another tree", Corrupt, func(_ *testing.T, first *shard, l *liar) {
			c := first.seq.Checkpoint().Checkpoint()
			c.Root[0] ^= 1
			l.says(CheckpointKey, first.cosigned(c))
			l.about(func(r *register.Record) error { r.Root[0] ^= 1; return nil })
		}},
		{"checkpoint of another shard", Fork, func(t *testing.T, first *shard, l *liar) {
			c := first.seq.Checkpoint().Checkpoint()
			c.Origin = shardOrigin(2)
			third := *first
			world := *first.world
			third.world = &world
			world.logKeys = shardKeys(t, 2)
			l.says(CheckpointKey, third.cosigned(c))
		}},
		{"sealed before the shard-end", Succession, func(t *testing.T, first *shard, l *liar) {
			c := first.seq.Checkpoint().Checkpoint()
			root, err := first.seq.head().tree.RootAt(t.Context(), c.Size-1)
			if err != nil {
				t.Fatal(err)
			}
			c.Size, c.Root = c.Size-1, root
			l.says(CheckpointKey, first.cosigned(c))
			l.about(func(r *register.Record) error { r.Size, r.Root = c.Size, c.Root; return nil })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, second, l := ended(t, shardOrigin(1))
			tt.lie(t, first, l)
			second.refuses(tt.reason)
			_ = second.halt()
			// It is the lie that is refused, and nothing of it is kept.
			second.before[0] = Predecessor{Origin: first.origin, Tiles: first.tiles, Register: first.register}
			second.forgetLedger()
			if err := second.start(); err != nil {
				t.Fatal(err)
			}
			second.check(second.begin().Receipt, "")
		})
	}
}

func TestOtherSuccessor(t *testing.T) {
	_, second, _ := ended(t, shardOrigin(2))
	second.refuses(Succession)
}

// TestFlippedByte: a byte that is wrong anywhere in the predecessor's tiles is
// refused, or makes no difference.
func TestFlippedByte(t *testing.T) {
	first, second, l := ended(t, shardOrigin(1))
	found := map[string]bool{}
	for key, err := range first.tiles.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(key, BeaconPrefix) {
			continue // read when a statement names it
		}
		l.objects = map[string]func([]byte) ([]byte, error){key: func(raw []byte) ([]byte, error) {
			raw[len(raw)/2] ^= 4
			return raw, nil
		}}
		err := second.start()
		if r, ok := errors.AsType[*RefusedError](err); ok && r.Reason == Corrupt {
			found[key] = true
		} else if err != nil {
			t.Errorf("%s: %v", key, err)
		}
		_ = second.halt()
		second.forgetLedger()
	}
	entries, hashes := false, false
	for key := range found {
		entries, hashes = entries || strings.Contains(key, "entries"), hashes || strings.Contains(key, "tail/0")
	}
	if !entries || !found[CheckpointKey] || len(found) < 3 {
		t.Errorf("noticed in %v, hashes %v", found, hashes)
	}
}

// TestStandbyWaits: a successor waits for the register to be sealed, and bears a
// predecessor that cannot be read for a while.
func TestStandbyWaits(t *testing.T) {
	first, second, l := ended(t, shardOrigin(1))
	l.about(func(r *register.Record) error { r.Sealed = false; return nil })
	second.launch()
	r := second.waits()
	if r.Reason != Standby || !strings.Contains(r.Error(), "not sealed") {
		t.Errorf("it waits with %v", r)
	}
	l.about(func(*register.Record) error { return errSabotage })
	await(func() bool { return strings.Contains(second.waits().Error(), errSabotage.Error()) })
	l.mu.Lock()
	for key, err := range first.tiles.List(t.Context(), "t") {
		if err != nil {
			t.Fatal(err)
		}
		l.objects[key] = func([]byte) ([]byte, error) { return nil, errSabotage }
	}
	l.record = nil
	l.mu.Unlock()
	await(func() bool { return strings.Contains(second.waits().Error(), errSabotage.Error()) })
	l.mu.Lock()
	clear(l.objects)
	l.mu.Unlock()
	if err := second.ready(); err != nil {
		t.Fatal(err)
	}
	second.check(second.begin().Receipt, "")
}

// TestStandbyRemembers: what a standby has read of its predecessor is not taken
// back, and not exchanged for another history.
func TestStandbyRemembers(t *testing.T) {
	type past struct {
		note []byte
		rec  register.Record
	}
	setUp := func(t *testing.T) (first, second *shard, early past) {
		h := newShards(t, 2)
		first, second = h.list[0], h.list[1]
		if err := first.start(); err != nil {
			t.Fatal(err)
		}
		first.enrol()
		early.note = first.seq.Checkpoint().Bytes()
		rec, err := first.register.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		early.rec = rec
		first.add(first.protocol("T1", "version 1"), first.admin)
		second.launch()
		want := first.seq.Checkpoint().Checkpoint().Size
		await(func() bool { return second.seq.c.Ledger.Shard().Size == want })
		if err := second.halt(); err != nil {
			t.Fatal(err)
		}
		return first, second, early
	}
	t.Run("tiles put back", func(t *testing.T) {
		first, second, early := setUp(t)
		l := lyingAbout(second.before[0])
		l.says(CheckpointKey, early.note)
		second.before = []Predecessor{l.predecessor(first.origin)}
		second.refuses(Rollback)
	})
	t.Run("all put back", func(t *testing.T) {
		first, second, early := setUp(t)
		l := lyingAbout(second.before[0])
		l.says(CheckpointKey, early.note)
		l.about(func(r *register.Record) error { *r = early.rec; return nil })
		second.before = []Predecessor{l.predecessor(first.origin)}
		second.refuses(Rollback)
	})
	t.Run("another history", func(t *testing.T) {
		_, second, _ := setUp(t)
		other, _, _ := ended(t, shardOrigin(1))
		second.before = []Predecessor{{Origin: other.origin, Tiles: other.tiles, Register: other.register}}
		second.refuses(Fork)
	})
	t.Run("a restart", func(t *testing.T) {
		_, second, _ := setUp(t)
		second.launch()
		if r := second.waits(); r.Reason != Standby {
			t.Errorf("it waits with %v", r)
		}
	})
}

// TestOpenedShard: a shard that has opened keeps to the predecessor behind which
// it did.
func TestOpenedShard(t *testing.T) {
	open := func(t *testing.T) *shard {
		h, _, _ := rolledOver(t, 2)
		second := h.list[1]
		if err := second.halt(); err != nil {
			t.Fatal(err)
		}
		return second
	}
	refuses := func(t *testing.T, s *shard, reason Reason) {
		t.Helper()
		bodies := s.witness.bodies()
		err := s.start()
		if r, ok := errors.AsType[*RefusedError](err); !ok || r.Reason != reason {
			t.Errorf("start: %v, expected the reason %q", err, reason)
		}
		if s.witness.bodies() != bodies {
			t.Error("it has signed something")
		}
	}
	t.Run("without its predecessor", func(t *testing.T) {
		s := open(t)
		s.before = nil
		refuses(t, s, Succession)
	})
	for _, forgotten := range []bool{false, true} {
		t.Run("behind another end", func(t *testing.T) {
			s := open(t)
			other, _, _ := ended(t, shardOrigin(1))
			s.before = []Predecessor{{Origin: other.origin, Tiles: other.tiles, Register: other.register}}
			if forgotten {
				s.forgetLedger()
			}
			refuses(t, s, Fork)
		})
	}
	t.Run("before the end", func(t *testing.T) {
		s := open(t)
		l := lyingAbout(s.before[0])
		l.about(func(r *register.Record) error { r.Sealed = false; return nil })
		s.before = []Predecessor{l.predecessor(shardOrigin(0))}
		refuses(t, s, Fork)
	})
	t.Run("the first shard", func(t *testing.T) {
		h := newShards(t, 2)
		first, second := h.list[0], h.list[1]
		before := second.before
		second.before = nil
		for _, s := range []*shard{second, first} {
			clear(s.chain)
			if err := s.start(); err != nil {
				t.Fatal(err)
			}
			s.populate()
		}
		first.end(second.origin)
		if err := second.halt(); err != nil {
			t.Fatal(err)
		}
		second.before = before
		refuses(t, second, Succession)
	})
	t.Run("with more signatures on the last note", func(t *testing.T) {
		s := open(t)
		l := lyingAbout(s.before[0])
		raw, err := l.Store.Get(t.Context(), CheckpointKey)
		if err != nil {
			t.Fatal(err)
		}
		c, err := checkpoint.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		again := s.all.list[0].cosigned(c.Checkpoint())
		if bytes.Equal(again, raw) {
			t.Fatal("the note is the same")
		}
		l.says(CheckpointKey, again)
		s.before = []Predecessor{l.predecessor(shardOrigin(0))}
		s.forgetLedger()
		if err := s.start(); err != nil {
			t.Error(err)
		}
		_ = s.halt()
		if err := s.tiles.Delete(t.Context(), BeaconPrefix+statement.Digest(c.Digest()).String()); err != nil {
			t.Fatal(err)
		}
		refuses(t, s, Corrupt)
	})
}

// TestLineageConfig: predecessors that a verifier could not order are refused.
func TestLineageConfig(t *testing.T) {
	h := newShards(t, 3)
	s := h.list[2]
	dir, err := blob.OpenDir(filepath.Join(t.TempDir(), "tiles"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	at := func(origin string) Predecessor { return Predecessor{Origin: origin, Tiles: dir, Register: s.register} }
	for name, list := range map[string][]Predecessor{
		"in the other order": {at(shardOrigin(1)), at(shardOrigin(0))},
		"itself":             {at(shardOrigin(0)), at(shardOrigin(2))},
		"a later one":        {at(shardOrigin(3))},
		"twice":              {at(shardOrigin(0)), at(shardOrigin(0))},
		"one of no policy":   {at(testLog + "/1999")},
		"another log's":      {at("other.test/trials/2026")},
	} {
		_, err := New(Config{
			Log: testLog, Origin: s.origin, Tiles: s.tiles, Policy: s.policy, LogKeys: s.logKeys, PendingKey: s.pending, Predecessors: list,
		})
		if err == nil || !strings.Contains(err.Error(), "shard") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
