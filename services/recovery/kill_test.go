package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/recovery"
)

var errKilled = errors.New("killed")

// killer counts the durable writes of all stores together. The write with the
// number at fails, and is made all the same if persisted; everything after it
// fails, as when the process was killed.
type killer struct {
	at, n     int
	persisted bool
}

func (k *killer) write(do func() error) error {
	k.n++
	switch {
	case k.at == 0 || k.n < k.at:
		return do()
	case k.n == k.at && k.persisted:
		if err := do(); err != nil {
			return err
		}
	}
	return errKilled
}

func (k *killer) dead() bool { return k.at > 0 && k.n >= k.at }

type killedLog struct {
	tlog.Log
	k *killer
}

func (l *killedLog) Append(ctx context.Context, first uint64, leaves []tlog.Leaf) error {
	if err := l.k.write(func() error { return l.Log.Append(ctx, first, leaves) }); err != nil {
		return fmt.Errorf("%w: %w: %w", tlog.ErrUnknownOutcome, tlog.ErrFailed, err)
	}
	return nil
}

func (l *killedLog) Integrate(ctx context.Context) (root tlog.Root, err error) {
	err = l.k.write(func() error {
		root, err = l.Log.Integrate(ctx)
		return err
	})
	return root, err
}

type killedTiles struct {
	*blob.Memory
	k *killer
}

func (s *killedTiles) Put(ctx context.Context, objects ...blob.Object) error {
	return s.k.write(func() error { return s.Memory.Put(ctx, objects...) })
}

func (s *killedTiles) Extend(ctx context.Context, extensions ...blob.Extension) error {
	return s.k.write(func() error { return s.Memory.Extend(ctx, extensions...) })
}

func (s *killedTiles) Delete(ctx context.Context, keys ...string) error {
	return s.k.write(func() error { return s.Memory.Delete(ctx, keys...) })
}

func (s *killedTiles) Get(ctx context.Context, key string) ([]byte, error) {
	if s.k.dead() {
		return nil, errKilled
	}
	return s.Memory.Get(ctx, key)
}

type killedRegister struct {
	register.Register
	k *killer
}

func (r *killedRegister) Swap(ctx context.Context, old, next register.Record) error {
	return r.k.write(func() error { return r.Register.Swap(ctx, old, next) })
}

func (r *killedRegister) Create(ctx context.Context, first register.Record) error {
	return r.k.write(func() error { return r.Register.Create(ctx, first) })
}

func (r *killedRegister) Read(ctx context.Context) (register.Record, error) {
	if r.k.dead() {
		return register.Record{}, errKilled
	}
	return r.Register.Read(ctx)
}

// TestKilled kills the recovery at every durable write, before and after it, and
// runs it again.
func TestKilled(t *testing.T) {
	// One full bundle and a little more: it is made many times.
	const first, published, candidate, all = 100, 260, 270, 280
	h := newHistoryOf(t, origin, nil, 0, [4]uint64{first, published, candidate, all})
	mirror := web(t, h.mirrorAt(t, published), published)
	for _, tt := range []struct {
		name             string
		shard            func(t *testing.T) *shard
		size, registered uint64
	}{
		{"store and register older, tiles damaged", func(t *testing.T) *shard {
			s := h.shardOf(t, first, all, first)
			flip(t, s.tiles, "tile/entries/000")
			flip(t, s.tiles, "tile/0/000")
			return s
		}, all, candidate},
		{"everything but the mirror", func(t *testing.T) *shard {
			s := h.shardOf(t, 0, 0, 0)
			loseRegister(s)
			return s
		}, published, published},
		{"signed only", func(t *testing.T) *shard {
			s := h.shardOf(t, 0, all, published)
			s.config.SignedOnly = true
			return s
		}, candidate, candidate},
	} {
		t.Run(tt.name, func(t *testing.T) {
			writes := 0
			for at := 0; at == 0 || at <= writes; at++ {
				for _, persisted := range []bool{false, true} {
					s := tt.shard(t)
					s.config.Source, s.config.RewriteTiles = mirror, s.config.RewriteTiles || tt.size == all
					k := &killer{at: at, persisted: persisted}
					killed := s.config
					killed.Log = &killedLog{s.log, k}
					killed.Tiles = &killedTiles{s.tiles, k}
					killed.Register = &killedRegister{s.reg, k}
					before, _ := s.reg.Read(t.Context())
					_, err := recovery.Run(t.Context(), killed)
					if at == 0 {
						if err != nil {
							t.Fatal(err)
						}
						writes = k.n
					}
					root, err := s.log.Root(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if now, _ := s.reg.Read(t.Context()); now != before && root.Size < now.Size {
						t.Errorf("write %d: the register was moved to %d, the store is at %d", at, now.Size, root.Size)
					}
					if _, err := recovery.Run(t.Context(), s.config); err != nil {
						t.Fatalf("write %d of %d, persisted %v: again: %v", at, writes, persisted, err)
					}
					s.holds(t, tt.size, tt.registered)
				}
			}
			if writes < 5 {
				t.Errorf("only %d writes", writes)
			}
		})
	}
}
