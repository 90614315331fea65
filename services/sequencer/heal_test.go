package sequencer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tile"
)

// overwritten is a store in which somebody else writes as soon as the newest tiles
// are there. Its objects do not grow, as in a bucket.
type overwritten struct {
	blob.Store
	then atomic.Pointer[func(blob.Store) error] // once, behind the next head
}

func (o *overwritten) Put(ctx context.Context, objects ...blob.Object) error {
	if err := o.Store.Put(ctx, objects...); err != nil {
		return err
	}
	if objects[len(objects)-1].Key != tile.HeadKey {
		return nil
	}
	if then := o.then.Swap(nil); then != nil {
		return (*then)(o.Store)
	}
	return nil
}

// newOverwritten starts a shard on such a store, with an organisation in it.
func newOverwritten(t *testing.T) (*world, *overwritten) {
	t.Helper()
	w, o := newWorld(t), &overwritten{}
	w.wrap = func(c *Config) { o.Store, c.Tiles = c.Tiles, o }
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	return w, o
}

// tails returns the objects that change.
func (o *overwritten) tails(t *testing.T) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	for key, err := range o.List(t.Context(), tile.TailPrefix) {
		data, getErr := o.Get(t.Context(), key)
		if err := errors.Join(err, getErr); err != nil {
			t.Fatal(err)
		}
		found[key] = data
	}
	return found
}

// TestTailsWrittenOver: an owner that was replaced goes on for a moment and puts
// its own, older objects in the place of the newest ones, or removes them. The log
// writes them anew and goes on.
func TestTailsWrittenOver(t *testing.T) {
	for name, then := range map[string]func(*testing.T, blob.Store, map[string][]byte) error{
		"older": func(t *testing.T, s blob.Store, old map[string][]byte) error {
			var objects []blob.Object
			for key, data := range old {
				objects = append(objects, blob.Object{Key: key, Data: data})
			}
			return s.Put(t.Context(), objects...)
		},
		"removed": func(t *testing.T, s blob.Store, old map[string][]byte) error {
			return s.Delete(t.Context(), slices.Collect(maps.Keys(old))...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, o := newOverwritten(t)
			old := o.tails(t)
			w.openTrial("T2")
			harm := func(s blob.Store) error { return then(t, s, old) }
			o.then.Store(&harm)
			if a := w.openTrial("T3"); a.Receipt == nil {
				t.Error("no receipt")
			}
			if o.then.Load() != nil {
				t.Fatal("nothing was written over")
			}
			size := w.seq.Checkpoint().Checkpoint().Size
			again, err := tile.OpenWriter(t.Context(), o.Store)
			if err != nil || again.Size() != size {
				t.Errorf("the tiles are not those of size %d: %v", size, err)
			}
		})
	}
}

// TestReplacedWritesNothingOver: who was replaced finds newer objects in the place of
// its own, and leaves them.
func TestReplacedWritesNothingOver(t *testing.T) {
	w, o := newOverwritten(t)
	var left map[string][]byte
	harm := func(s blob.Store) error {
		at, err := w.seq.c.Register.Read(t.Context())
		if err != nil {
			return err
		}
		next := register.Record{Origin: at.Origin, Size: at.Size + 100, Root: [32]byte{1}}
		head := tile.Head{Size: next.Size, Root: next.Root}
		err = errors.Join(w.seq.c.Register.Swap(t.Context(), at, next),
			s.Put(t.Context(), blob.Object{Key: "tail/entries-0-0", Data: []byte("newer")}),
			s.Put(t.Context(), blob.Object{Key: "tail/0-0", Data: []byte("newer")}),
			s.Put(t.Context(), blob.Object{Key: tile.HeadKey, Data: head.Encode()}))
		left = o.tails(t)
		return err
	}
	o.then.Store(&harm)
	r := w.newTrial("R")
	r.Pending = true
	// What it answers does not matter: the store was its own up to here.
	_, _ = w.seq.Add(t.Context(), r)
	<-w.done
	var refused *RefusedError
	if !errors.As(w.err, &refused) || refused.Reason != Owned {
		t.Errorf("ended with %v, expected the reason %q", w.err, Owned)
	}
	if got := o.tails(t); !maps.EqualFunc(got, left, slices.Equal[[]byte]) {
		t.Errorf("it has changed what the newer owner has written: %q", got)
	}
}
