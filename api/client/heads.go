package client

import (
	"fmt"
	"slices"
	"sync"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/evidence"
)

// maxHeads is how many tree heads of one log are remembered: as many as may be
// under way at a time, and not more than a few hundred KiB.
const maxHeads = 32

// heads are the newest tree heads that were met, of different sizes, by log. Only
// heads that satisfy a policy are put there, so that the logs are the policy's.
type heads struct {
	mu sync.Mutex
	by map[string][]*checkpoint.Note
}

// meet holds a head against those of the same size, which takes no request, and
// remembers it. The error is an *UntrueError with evidence.
func (h *heads) meet(note *checkpoint.Note) error {
	head := note.Checkpoint()
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.by[head.Origin]
	at := slices.IndexFunc(list, func(n *checkpoint.Note) bool { return n.Checkpoint().Size == head.Size })
	if at >= 0 {
		if e := evidence.Refused(list[at], note, nil); e != nil {
			return contradicts(list[at], note, e)
		}
		return nil
	}
	if len(list) >= maxHeads {
		list = slices.Delete(list, 0, 1)
	}
	if h.by == nil {
		h.by = map[string][]*checkpoint.Note{}
	}
	h.by[head.Origin] = append(list, note)
	return nil
}

// contradicts is the error of a checkpoint that contradicts an earlier one.
func contradicts(had, note *checkpoint.Note, e *evidence.Evidence) error {
	return &UntrueError{
		What: "checkpoint", Answer: note.Bytes(), Evidence: e,
		Err: fmt.Errorf("of size %d, it contradicts the one of size %d that the log gave before",
			note.Checkpoint().Size, had.Checkpoint().Size),
	}
}
