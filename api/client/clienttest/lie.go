package clienttest

import (
	"net/http"
	"slices"

	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/tile"
)

// lateBy is how much later than usual, in seconds, the witnesses sign a log that
// has lost what it promised.
const lateBy = 24 * 3600

// Rewrite puts another entry in the place of the one at index, as if it had never
// been there: from now on the log signs a tree that contradicts the earlier ones.
func (l *Log) Rewrite(index int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.world.First.Entries = slices.Clone(l.world.First.Entries)
	l.world.First.Entries[index] = []byte("another entry")
}

// Move puts another entry in the place of the one at index, which it moves behind
// all others: what was promised for that place is not kept.
func (l *Log) Move(index int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	moved := l.world.First.Entries[index]
	l.world.First.Entries = append(slices.Clone(l.world.First.Entries), moved)
	l.world.First.Entries[index] = []byte("another entry")
	for _, e := range l.entries {
		if e.Index == uint64(index) { //nolint:gosec // small
			e.Index = uint64(len(l.world.First.Entries) - 1)
		}
	}
}

// Lose removes the entries from index on, and lets a day pass. What was promised
// goes on being promised.
func (l *Log) Lose(index int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.world.First.Entries = slices.Clone(l.world.First.Entries[:index])
	l.late = lateBy
}

// lost tells whether an entry is in the tree no more.
func (l *Log) lost(e *testlog.Logged) bool { return e.Index >= l.world.First.Size() }

// serveTile serves a hash tile of any level.
func (l *Log) serveTile(w http.ResponseWriter, name string) {
	p, err := tile.ParsePath(name)
	if err != nil || p.Entries || !p.In(l.world.First.Size()) {
		refuse(http.StatusNotFound, "path", "there is no such tile").write(w)
		return
	}
	leaves := l.world.First.Entries
	each := 1 << (8 * p.Level) // leaves below one hash
	for i := range p.Width {
		from := (int(p.Index)*tile.FullWidth + i) * each //nolint:gosec // small, as it is in the tree
		if each == 1 {
			_, _ = w.Write(rfc6962.DefaultHasher.HashLeaf(leaves[from]))
			continue
		}
		root := testlog.Must(statement.BatchRoot(leaves[from : from+each]))
		_, _ = w.Write(root[:])
	}
}

// Contradict makes what was promised so far promises of other entries, which the log
// gives to those who ask again; see Lose.
func (l *Log) Contradict() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, made := range l.promises {
		p := testlog.Must(receipt.ParsePending(made, l.pending.Public()))
		p.LeafHash[0] ^= 1
		l.promises[id] = testlog.Must(p.Sign(l.pending))
	}
}
