package sequencer

import "github.com/trialog/trialog/api/statement"

// recentSize is how many of the newest entries are remembered by identity.
const recentSize = 1 << 16

// recent remembers the newest entries, so that a look-up before the queue need
// not be repeated in the store.
type recent struct {
	ring []statement.Identity
	next int
	full bool
	by   map[statement.Identity]outcome
}

func newRecent() *recent {
	return &recent{ring: make([]statement.Identity, recentSize), by: make(map[statement.Identity]outcome)}
}

func (r *recent) add(id statement.Identity, out outcome) {
	if r.full {
		delete(r.by, r.ring[r.next])
	}
	r.ring[r.next] = id
	r.by[id] = out
	r.next = (r.next + 1) % recentSize
	r.full = r.full || r.next == 0
}

func (r *recent) get(id statement.Identity) (outcome, bool) {
	out, ok := r.by[id]
	return out, ok
}

// reach is how many entries back the memory is complete.
func (r *recent) reach() uint64 { return uint64(len(r.by)) }
