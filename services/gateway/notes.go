package gateway

import (
	"context"
	"log/slog"
	"sync"

	"github.com/trialog/trialog/api/checkpoint"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
)

// notes remembers the newest checkpoint note that was verified, as most calls
// see the same one, and the shard that the sequencer named last.
type notes struct {
	mu     sync.Mutex
	last   *checkpoint.Note
	origin string
}

// isOrigin tells whether the sequencer named this shard last.
func (n *notes) isOrigin(origin string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.origin == origin
}

func (n *notes) setOrigin(origin string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.origin = origin
}

// logHead is the newest published checkpoint.
type logHead struct {
	origin string
	note   *checkpoint.Note // nil before the first one
	clock  string           // what the sequencer says of its clock; empty if nothing
}

// text is the note, or "" before the first one.
func (h logHead) text() string {
	if h.note == nil {
		return ""
	}
	return string(h.note.Bytes())
}

// beacon is what a statement names of it; nil before the first checkpoint that
// has an entry.
func (h logHead) beacon() *statement.Beacon {
	if h.note == nil || h.note.Checkpoint().Size == 0 {
		return nil
	}
	c := h.note.Checkpoint()
	return &statement.Beacon{Origin: c.Origin, Size: c.Size, Note: statement.Digest(h.note.Digest())}
}

// head gets the newest published checkpoint. It is verified, as a statement
// that named a beacon which does not verify would be worth nothing for ever.
func (g *Gateway) head(ctx context.Context) (logHead, error) {
	resp, err := g.sequencer.Head(ctx, &trialogv1.HeadRequest{})
	if err != nil {
		return logHead{}, fromSequencer(err, func(path string) string { return path })
	}
	head := logHead{origin: resp.GetOrigin(), clock: resp.GetClock()}
	if resp.GetCheckpoint() == "" {
		g.notes.setOrigin(head.origin)
		return head, nil
	}
	head.note, err = g.note(resp.GetCheckpoint())
	if err != nil || head.note.Checkpoint().Origin != head.origin {
		g.cfg.Log.LogAttrs(ctx, slog.LevelError, "sequencer's checkpoint does not verify")
		return logHead{}, unavailable("the log gave no checkpoint that verifies; its operator has been told")
	}
	g.notes.setOrigin(head.origin)
	return head, nil
}

// note parses and verifies a note, unless it is the last one that was.
func (g *Gateway) note(text string) (*checkpoint.Note, error) {
	g.notes.mu.Lock()
	last := g.notes.last
	g.notes.mu.Unlock()
	if last != nil && string(last.Bytes()) == text {
		return last, nil
	}
	note, err := checkpoint.Parse([]byte(text))
	if err != nil {
		return nil, err
	}
	if _, err := g.policy.CheckNote([]byte(text)); err != nil {
		return nil, err
	}
	g.notes.mu.Lock()
	g.notes.last = note
	g.notes.mu.Unlock()
	return note, nil
}
