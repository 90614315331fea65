package sequencer

import (
	"bytes"
	"errors"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/register"
)

// TestReplacedPublishesNothing: a sequencer that another one has replaced while
// the witnesses were asked puts no older note in the place of a newer one.
func TestReplacedPublishesNothing(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	note, err := w.seq.c.Tiles.Get(t.Context(), CheckpointKey)
	if err != nil {
		t.Fatal(err)
	}
	w.witness.mu.Lock()
	w.witness.cosigned = func(_ int, c checkpoint.Checkpoint) {
		old, err := w.seq.c.Register.Read(t.Context())
		if err != nil || old.Size > c.Size {
			return // done already
		}
		next := register.Record{Origin: old.Origin, Size: old.Size + 1, Root: [32]byte{1}}
		if err := w.seq.c.Register.Swap(t.Context(), old, next); err != nil {
			t.Error(err)
		}
	}
	w.witness.mu.Unlock()
	r := w.newTrial("R")
	r.Pending = true
	if _, err := w.seq.Add(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	<-w.done
	var refused *RefusedError
	if !errors.As(w.err, &refused) || refused.Reason != Owned {
		t.Errorf("ended with %v, expected the reason %q", w.err, Owned)
	}
	if now, err := w.seq.c.Tiles.Get(t.Context(), CheckpointKey); err != nil || !bytes.Equal(now, note) {
		t.Errorf("a note was published: %v\n%s", err, now)
	}
}
