package recovery_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/recovery"
)

// TestRun recovers a shard of which this or that was lost or put back.
func TestRun(t *testing.T) {
	h := theHistory()(t)
	for _, tt := range []struct {
		name              string
		store, tiles, reg uint64
		mirror            uint64 // size of the source; 0: none
		change            func(*shard)
		size, registered  uint64
		want              recovery.Report // sizes and flags
	}{
		{
			name: "nothing is wrong", store: all, tiles: all, reg: candidate,
			size: all, registered: candidate, want: recovery.Report{Unsigned: 50},
		},
		{
			name: "store lost", tiles: all, reg: candidate,
			size: all, registered: candidate, want: recovery.Report{Imported: all, Unsigned: 50},
		},
		{
			name: "store older", store: first, tiles: all, reg: candidate,
			size: all, registered: candidate, want: recovery.Report{Imported: all - first, Unsigned: 50},
		},
		{
			name: "store older, and a mirror", store: first, tiles: all, reg: candidate, mirror: published,
			size: all, registered: candidate, want: recovery.Report{Imported: all - first, Unsigned: 50},
		},
		{
			name: "tiles lost", store: all, reg: candidate, mirror: published,
			size: all, registered: candidate,
			want: recovery.Report{Unsigned: 50, TilesWritten: all, Beacons: 1, CheckpointRestored: true},
		},
		{
			name: "tiles older", store: all, tiles: first, reg: candidate, mirror: published,
			size: all, registered: candidate,
			want: recovery.Report{Unsigned: 50, TilesWritten: all - first, CheckpointRestored: true},
		},
		{
			name: "register older", store: all, tiles: all, reg: first,
			size: all, registered: candidate, want: recovery.Report{Unsigned: 50, RegisterMoved: true},
		},
		{
			name: "store and register older", store: first, tiles: all, reg: first,
			size: all, registered: candidate, want: recovery.Report{Imported: all - first, Unsigned: 50, RegisterMoved: true},
		},
		{
			name: "all older than the mirror", store: first, tiles: first, reg: first, mirror: published,
			size: published, registered: published,
			want: recovery.Report{
				Imported: published - first, TilesWritten: published - first, CheckpointRestored: true, RegisterMoved: true,
			},
		},
		{
			name: "register at the start", store: all, tiles: all, reg: 0,
			size: all, registered: candidate, want: recovery.Report{Unsigned: 50, RegisterMoved: true},
		},
		{
			name: "register lost", store: all, tiles: all, change: loseRegister,
			size: all, registered: candidate, want: recovery.Report{Unsigned: 50, RegisterMissing: true, RegisterCreated: true},
		},
		{
			name: "everything but the mirror", mirror: published, change: loseRegister,
			size: published, registered: published,
			want: recovery.Report{
				Imported: published, TilesWritten: published, Beacons: 1, CheckpointRestored: true,
				RegisterMissing: true, RegisterCreated: true,
			},
		},
		{
			name: "signed only", tiles: all, reg: candidate, change: func(s *shard) { s.config.SignedOnly = true },
			size: candidate, registered: candidate,
			want: recovery.Report{Imported: candidate, TilesWritten: candidate, TilesRewritten: true},
		},
		{
			name: "tiles written anew", store: all, tiles: all, reg: candidate, change: func(s *shard) { s.config.RewriteTiles = true },
			size: all, registered: candidate,
			want: recovery.Report{Unsigned: 50, TilesWritten: all, TilesRewritten: true},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := h.shardOf(t, tt.store, tt.tiles, tt.reg)
			if tt.mirror > 0 {
				s.config.Source = web(t, h.mirrorAt(t, tt.mirror), tt.mirror)
			}
			if tt.change != nil {
				tt.change(s)
			}
			var progress uint64
			s.config.Progress = func(done, of uint64) {
				if done <= progress || of != tt.want.Imported {
					t.Errorf("progress %d of %d after %d", done, of, progress)
				}
				progress = done
			}
			got, err := recovery.Run(t.Context(), s.config)
			if err != nil {
				t.Fatal(err)
			}
			s.holds(t, tt.size, tt.registered)
			checkReport(t, got, tt.want)
			if got.Size != tt.size || got.Root != h.roots[tt.size] || got.Registered != h.record(tt.registered) {
				t.Errorf("reported: size %d, registered %+v", got.Size, got.Registered)
			}
			if got.StoreSize != tt.store || got.TilesSize != tt.tiles || got.SourceSize != tt.mirror {
				t.Errorf("reported as found: %d, %d, %d", got.StoreSize, got.TilesSize, got.SourceSize)
			}
			if progress != tt.want.Imported {
				t.Errorf("progress ended at %d", progress)
			}
			s.config.RewriteTiles = false
			before := s.state(t)
			again, err := recovery.Run(t.Context(), s.config)
			if err != nil {
				t.Fatalf("again: %v", err)
			}
			checkReport(t, again, recovery.Report{Unsigned: tt.size - max(tt.registered, min(tt.size, candidate))})
			if s.state(t) != before {
				t.Error("the second run changed something")
			}
		})
	}
}

func loseRegister(s *shard) {
	s.reg.Lose()
	s.config.RecreateRegister = true
}

func checkReport(t *testing.T, got *recovery.Report, want recovery.Report) {
	t.Helper()
	g := recovery.Report{
		Imported: got.Imported, Unsigned: got.Unsigned, TilesWritten: got.TilesWritten, TilesRewritten: got.TilesRewritten,
		Beacons: got.Beacons, CheckpointRestored: got.CheckpointRestored, RegisterMoved: got.RegisterMoved,
		RegisterCreated: got.RegisterCreated, RegisterMissing: got.RegisterMissing,
	}
	if g.Imported != want.Imported || g.Unsigned != want.Unsigned || g.TilesWritten != want.TilesWritten ||
		g.TilesRewritten != want.TilesRewritten || g.Beacons != want.Beacons || g.CheckpointRestored != want.CheckpointRestored ||
		g.RegisterMoved != want.RegisterMoved || g.RegisterCreated != want.RegisterCreated || g.RegisterMissing != want.RegisterMissing {
		t.Errorf("reported %+v\nexpected %+v", g, want)
	}
	loud := slices.ContainsFunc(got.Problems, func(p string) bool { return strings.Contains(p, "MADE ANEW") })
	if loud != want.RegisterCreated {
		t.Errorf("problems: %q", got.Problems)
	}
	if len(got.MissingBeacons) > 0 {
		t.Errorf("missing beacons: %v", got.MissingBeacons)
	}
}

// TestRefused: where only a person can decide, nothing is written.
func TestRefused(t *testing.T) {
	h := theHistory()(t)
	forked := newHistory(t, origin, h, 400)
	other := newHistory(t, logName+"/2", nil, 0)
	for _, tt := range []struct {
		name   string
		shard  func(t *testing.T) *shard
		reason recovery.Reason
		says   string
	}{
		{"no register", func(t *testing.T) *shard {
			s := h.shardOf(t, all, all, candidate)
			s.reg.Lose()
			return s
		}, recovery.RegisterMissing, "no register"},
		{"register of another shard", func(t *testing.T) *shard {
			s := h.shardOf(t, 0, all, candidate)
			s.reg.Set(register.Record{Origin: logName + "/2", Size: 1})
			return s
		}, recovery.OtherLog, logName + "/2"},
		{"the mirror is too old", func(t *testing.T) *shard {
			s := h.shardOf(t, 0, 0, candidate)
			s.config.Source = web(t, h.mirrorAt(t, published), published)
			return s
		}, recovery.Incomplete, "the register is at size 650"},
		{"the log has signed more than is left", func(t *testing.T) *shard {
			s := h.shardOf(t, first, first, first)
			put(t, s.tiles, "candidate", h.sign(t, checkpoint.Checkpoint{Origin: origin, Size: 650, Root: h.roots[650]}).Bytes())
			return s
		}, recovery.Incomplete, "the checkpoint that the log has signed is at size 650"},
		{"the source is empty", func(t *testing.T) *shard {
			s := h.shardOf(t, 0, all, candidate)
			s.config.Source = tile.FromStore(blob.NewMemory())
			return s
		}, recovery.Incomplete, "no checkpoint"},
		{"the source is of another shard", func(t *testing.T) *shard {
			s := h.shardOf(t, 0, all, candidate)
			s.config.Policy = other.policy
			s.config.Origin = logName + "/3"
			s.reg.Set(register.Record{Origin: logName + "/3"})
			s.config.Tiles = blob.NewMemory()
			s.config.Source = tile.FromStore(other.mirrorAt(t, all))
			return s
		}, recovery.OtherLog, logName + "/2"},
		{"the source's checkpoint has no quorum", func(t *testing.T) *shard {
			s := h.shardOf(t, 0, all, candidate)
			m := h.mirrorAt(t, published)
			put(t, m, "checkpoint", h.sign(t, checkpoint.Checkpoint{Origin: origin, Size: published, Root: h.roots[published]}).Bytes())
			s.config.Source = tile.FromStore(m)
			return s
		}, recovery.Corrupt, "object checkpoint of the source"},
		{"the source's root is another one at the register's size", func(t *testing.T) *shard {
			s := h.shardOf(t, 0, 0, published)
			s.config.Source = web(t, forked.mirrorAt(t, published), published)
			return s
		}, recovery.Fork, "at size 600, the register has root"},
		{"the source has another history", func(t *testing.T) *shard {
			s := h.shardOf(t, 0, 0, published)
			s.config.Source = web(t, forked.mirrorAt(t, candidate), candidate)
			return s
		}, recovery.Fork, "at size 600, the register has root"},
		{"the source contradicts what is published", func(t *testing.T) *shard {
			s := h.shardOf(t, first, all, first)
			s.config.Source = web(t, forked.mirrorAt(t, all), all)
			return s
		}, recovery.Fork, "the head of the log's own tiles"},
		{"the store has another history", func(t *testing.T) *shard {
			s := h.shardOf(t, 0, all, first)
			s.log = forked.store(t, published)
			s.config.Log = s.log
			return s
		}, recovery.Fork, "entry 400 of the store is not that of the log's own tiles"},
		{"the store has another history, not yet integrated", func(t *testing.T) *shard {
			s := h.shardOf(t, first, all, first)
			if err := s.log.Append(t.Context(), first, forked.leaves[first:450]); err != nil {
				t.Fatal(err)
			}
			return s
		}, recovery.Fork, "entry 400 of the store"},
		{"the store contradicts the register, and no tiles are left", func(t *testing.T) *shard {
			s := h.shardOf(t, 0, 0, published)
			s.log = forked.store(t, all)
			s.config.Log = s.log
			return s
		}, recovery.Fork, "at size 600, the register has root"},
		{"sealed before what was signed", func(t *testing.T) *shard {
			s := h.shardOf(t, all, all, published)
			sealed := h.record(published)
			sealed.Sealed = true
			s.reg.Set(sealed)
			return s
		}, recovery.Fork, "sealed at size 600"},
		{"a store that goes on behind the seal", func(t *testing.T) *shard {
			s := h.shardOf(t, all, 0, published)
			sealed := h.record(published)
			sealed.Sealed = true
			s.reg.Set(sealed)
			return s
		}, recovery.Fork, "the store holds 700 entries"},
		{"no evidence for a new register", func(t *testing.T) *shard {
			s := h.shardOf(t, 0, 0, 0)
			loseRegister(s)
			return s
		}, recovery.RegisterMissing, "no checkpoint is left"},
		{"the own checkpoint is damaged", func(t *testing.T) *shard {
			s := h.shardOf(t, 0, all, candidate)
			flip(t, s.tiles, "checkpoint")
			return s
		}, recovery.Corrupt, "object checkpoint of the log's own tiles"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.shard(t)
			before := s.state(t)
			_, err := recovery.Run(t.Context(), s.config)
			var refused *recovery.RefusedError
			if !errors.As(err, &refused) || refused.Reason != tt.reason || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("%v; expected %s, %q", err, tt.reason, tt.says)
			}
			if tt.name == "no evidence for a new register" {
				return // found out behind the store and the tiles
			}
			if s.state(t) != before {
				t.Error("something was written")
			}
		})
	}
}

// TestSealedStays: a register that was sealed is sealed afterwards.
func TestSealedStays(t *testing.T) {
	h := theHistory()(t)
	s := h.shardOf(t, first, all, all)
	sealed := h.record(all)
	sealed.Sealed = true
	s.reg.Set(sealed)
	got, err := recovery.Run(t.Context(), s.config)
	if err != nil {
		t.Fatal(err)
	}
	s.holds(t, all, all)
	if now, err := s.reg.Read(t.Context()); err != nil || now != sealed || got.Registered != sealed {
		t.Errorf("%+v, %v", now, err)
	}
}

// TestSealedAgain: a register from before the end of a shard is sealed again if a
// quorum has cosigned the end, and left to the sequencer if it has not.
func TestSealedAgain(t *testing.T) {
	h := newHistory(t, origin, nil, 0)
	end := h.append(t, statement.KindShardEnd)
	for _, cosigned := range []bool{true, false} {
		s := h.shardOf(t, end, end, published)
		c := checkpoint.Checkpoint{Origin: origin, Size: end, Root: h.roots[end]}
		put(t, s.tiles, "candidate", h.sign(t, c).Bytes())
		if cosigned {
			put(t, s.tiles, "checkpoint", h.cosign(t, c))
		}
		if _, err := recovery.Run(t.Context(), s.config); err != nil {
			t.Fatal(err)
		}
		want := h.record(end)
		want.Sealed = cosigned
		if got, err := s.reg.Read(t.Context()); err != nil || got != want {
			t.Errorf("cosigned %v: %+v, %v", cosigned, got, err)
		}
	}
}

// TestCandidate: only what every key of the log has signed moves the register.
func TestCandidate(t *testing.T) {
	h := theHistory()(t)
	body := checkpoint.Checkpoint{Origin: origin, Size: candidate, Root: h.roots[candidate]}
	half, err := checkpoint.SignLog(body, 1, h.keys[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"one key": half.Bytes(), "no note": []byte("x"), "empty": nil,
	} {
		s := h.shardOf(t, all, all, first)
		put(t, s.tiles, "candidate", raw)
		got, err := recovery.Run(t.Context(), s.config)
		if err != nil {
			t.Fatal(err)
		}
		if got.Registered != h.record(published) || len(got.Problems) == 0 {
			t.Errorf("%s: the register is at %d; problems %q", name, got.Registered.Size, got.Problems)
		}
	}
}

// TestFlipped: one flipped byte anywhere in the only copy is found, and named.
func TestFlipped(t *testing.T) {
	h := theHistory()(t)
	whole := h.mirrorAt(t, all)
	for _, key := range keysOf(t, whole) {
		if key == "tail/head" || strings.HasPrefix(key, "beacon/") {
			continue // a source's head is not read; a beacon may come from elsewhere
		}
		t.Run(key, func(t *testing.T) {
			m := h.mirrorAt(t, all)
			flip(t, m, key)
			s := h.shardOf(t, 0, 0, first)
			s.config.Source = tile.FromStore(m)
			_, err := recovery.Run(t.Context(), s.config)
			var refused *recovery.RefusedError
			if !errors.As(err, &refused) || refused.Reason != recovery.Corrupt {
				t.Fatalf("%v", err)
			}
			// A growing tile is only compared as a part of the root.
			named := strings.Contains(err.Error(), key) || strings.HasPrefix(key, "tail/") && strings.Contains(err.Error(), "right edge at size 700")
			if !named {
				t.Errorf("the place %s is not named: %v", key, err)
			}
			if root, err := s.log.Root(t.Context()); err != nil || root != tlog.EmptyRoot() {
				t.Errorf("entries were brought into the tree: %v", root)
			}
			if got, err := s.reg.Read(t.Context()); err != nil || got != h.record(first) {
				t.Errorf("the register was moved: %+v", got)
			}
		})
	}
}

// TestOwnDamaged: what is damaged in the log's own tiles comes from the mirror,
// and the tiles are whole afterwards.
func TestOwnDamaged(t *testing.T) {
	h := theHistory()(t)
	mirror := web(t, h.mirrorAt(t, all), all)
	for _, key := range keysOf(t, h.tiles[all]) {
		for name, damage := range map[string]func(t *testing.T, s blob.Store){
			"flipped": func(t *testing.T, s blob.Store) { flip(t, s, key) },
			"lost": func(t *testing.T, s blob.Store) {
				if err := s.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			},
			"empty": func(t *testing.T, s blob.Store) { put(t, s, key, nil) },
		} {
			t.Run(key+" "+name, func(t *testing.T) {
				s := h.shardOf(t, 0, all, candidate)
				s.config.Source = mirror
				damage(t, s.tiles)
				if _, err := recovery.Run(t.Context(), s.config); err != nil {
					t.Fatal(err)
				}
				s.holds(t, all, all)
				if _, err := tile.OpenWriter(t.Context(), s.tiles); err != nil {
					t.Errorf("the tiles: %v", err)
				}
			})
		}
	}
}

// TestPromised: what was promised is not given up silently because the tiles that
// hold it are damaged.
func TestPromised(t *testing.T) {
	h := theHistory()(t)
	for _, key := range []string{"tail/entries-2", "tail/0-2", "tail/1-0"} {
		s := h.shardOf(t, 0, all, candidate)
		s.config.Source = web(t, h.mirrorAt(t, candidate), candidate)
		flip(t, s.tiles, key)
		_, err := recovery.Run(t.Context(), s.config)
		if _, refused := errors.AsType[*recovery.RefusedError](err); !refused {
			t.Errorf("%s: entries up to %d were given up: %v", key, all, err)
		}
		s.config.SignedOnly = true
		if _, err := recovery.Run(t.Context(), s.config); err != nil {
			t.Errorf("%s: asked to give them up: %v", key, err)
		}
		s.holds(t, candidate, candidate)
	}
}

// TestGivenUp: full tiles of entries that were given up are not in the way of
// other entries.
func TestGivenUp(t *testing.T) {
	h := newHistoryOf(t, origin, nil, 0, [4]uint64{100, 200, 210, 280})
	s := h.shardOf(t, 0, 280, 210)
	s.config.SignedOnly = true
	if _, err := recovery.Run(t.Context(), s.config); err != nil {
		t.Fatal(err)
	}
	s.holds(t, 210, 210)
	w, err := tile.OpenWriter(t.Context(), s.tiles)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Append(t.Context(), slices.Repeat([][]byte{{1}}, 100)); err != nil {
		t.Errorf("the log cannot grow: %v", err)
	}
}

// TestLiar: a source that answers with anything else than what was signed moves
// nothing, and what it holds as beacons is compared with their digests.
func TestLiar(t *testing.T) {
	h := theHistory()(t)
	m := h.mirrorAt(t, published)
	for _, key := range keysOf(t, m) {
		if strings.HasPrefix(key, "beacon/") {
			put(t, m, key, h.cosign(t, checkpoint.Checkpoint{Origin: origin, Size: candidate, Root: h.roots[candidate]}))
		}
	}
	s := h.shardOf(t, all, 0, candidate)
	s.config.Source = tile.FromStore(m)
	got, err := recovery.Run(t.Context(), s.config)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.MissingBeacons) != 1 || got.Beacons != 0 {
		t.Errorf("beacons: %d fetched, missing %v", got.Beacons, got.MissingBeacons)
	}
	for _, key := range keysOf(t, s.tiles) {
		if strings.HasPrefix(key, "beacon/") {
			t.Errorf("%s was taken from the source", key)
		}
	}
}

// TestNotComplete: a missing part of the configuration is an error, not a panic.
func TestNotComplete(t *testing.T) {
	if _, err := recovery.Run(context.Background(), recovery.Config{Origin: origin}); err == nil {
		t.Error("no error")
	}
}
