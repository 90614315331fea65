package sequencer

import (
	"time"

	"github.com/trialog/trialog/api/statement"
)

// recentSize is how many of the newest entries are remembered by identity.
const recentSize = 1 << 16

// recent remembers the newest entries, so that a look-up before the queue need
// not be repeated in the store. It holds no pointers, which a garbage collector
// would follow.
type recent struct {
	ring []recentEntry
	next uint32
	full bool
	by   map[statement.Identity]uint32 // place in ring
}

type recentEntry struct {
	identity statement.Identity
	index    uint64
	received int64 // ms
	leaf     statement.Digest
}

func newRecent() *recent {
	return &recent{ring: make([]recentEntry, recentSize), by: make(map[statement.Identity]uint32, recentSize)}
}

func (r *recent) add(id statement.Identity, out outcome) {
	e := &r.ring[r.next]
	if r.full {
		delete(r.by, e.identity)
	}
	*e = recentEntry{identity: id, index: out.index, received: out.received.UnixMilli(), leaf: out.leaf}
	r.by[id] = r.next
	r.next = (r.next + 1) % recentSize
	r.full = r.full || r.next == 0
}

// get returns the outcome of an entry, for somebody who submits it again.
func (r *recent) get(id statement.Identity) (outcome, bool) {
	at, ok := r.by[id]
	if !ok {
		return outcome{}, false
	}
	e := &r.ring[at]
	return outcome{index: e.index, received: time.UnixMilli(e.received).UTC(), leaf: e.leaf, duplicate: true}, true
}

// reach is how many entries back the memory is complete.
func (r *recent) reach() uint64 { return uint64(len(r.by)) }
