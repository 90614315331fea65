package sequencer

import (
	"context"
	"sync"
	"time"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/commit"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

// outcome is how the writer answers; sent exactly once.
type outcome struct {
	index     uint64
	received  time.Time
	leaf      statement.Digest
	entry     []byte // if it is at hand
	duplicate bool
	// final is the last checkpoint of the predecessor that holds the entry; nil if
	// it is in this shard.
	final *published
	err   error
}

// settled tells whether the entry is past step 4, which durable entries of this
// shard are.
func (o *outcome) settled(durable uint64) bool { return o.final != nil || o.index < durable }

// writer does steps 1 to 4. One goroutine admits and stores a batch (1 and 2)
// while another brings the batch before into the tree and the tiles (3 and 4).
type writer struct {
	s      *Sequencer
	log    *commit.Log
	grown  chan tlog.Root
	size   uint64 // entries in the store
	ended  bool   // the last entry is a shard-end: nothing may follow it
	recent *recent
	at     map[statement.Identity]int // of the batch in admission, used again

	broken chan struct{} // closed when steps 3 and 4 cannot go on
	mu     sync.Mutex
	open   []*batch // stored, and not past step 4
}

// admitted is a submission with its place.
type admitted struct {
	sub   *submission
	entry []byte
	out   outcome
}

// batch is what admission made of some submissions.
type batch struct {
	ok []admitted
	at map[statement.Identity]int // in ok; only in admission
	// followers' identities are already in the same batch.
	followers []reply
	// late ones' are in an earlier batch, which may not be past step 4 yet.
	late []reply
	ends bool // with a shard-end
}

// reply is an answer for a submission that is in the log already.
type reply struct {
	sub *submission
	out outcome
}

func (b *batch) unlessEmpty() *batch {
	if len(b.ok)+len(b.followers)+len(b.late) == 0 {
		return nil
	}
	return b
}

// admit is step 1: it answers what is known or refused, and gives the rest
// their places. After an error nothing of the batch may be stored, and what is
// in it is not answered yet.
func (w *writer) admit(ctx context.Context, change *ledger.Change, subs []*submission) (*batch, error) {
	clear(w.at)
	b := &batch{ok: make([]admitted, 0, len(subs)), at: w.at}
	_, shut := w.s.clock()
	for i, sub := range subs {
		if at, twin := b.at[sub.identity]; twin {
			b.followers = append(b.followers, reply{sub, b.ok[at].again()})
			continue
		}
		if w.answered(ctx, b, sub) {
			continue
		}
		err := shut
		if w.ended || b.ends {
			err = ErrEnded
		}
		if err == nil {
			err = w.s.judge(ctx, change.View, sub, b.statement)
		}
		if err != nil {
			w.s.answer(sub, outcome{err: err})
			continue
		}
		a, err := w.place(change, sub, w.size+uint64(len(b.ok)))
		if err != nil {
			// The change may hold half of a statement: it cannot be used.
			err = refuse(Failed, "place entry %d: %w", w.size+uint64(len(b.ok)), err)
			for _, rest := range subs[i:] {
				b.ok = append(b.ok, admitted{sub: rest})
			}
			return b, err
		}
		b.at[sub.identity] = len(b.ok)
		b.ok = append(b.ok, a)
		b.ends = sub.stmt.Kind == statement.KindShardEnd
	}
	return b, nil
}

// answered deals with a submission whose statement is in the log. If that may
// not be past step 4 yet the answer waits for its turn in the batch.
func (w *writer) answered(ctx context.Context, b *batch, sub *submission) bool {
	known, found, err := w.find(ctx, sub)
	switch {
	case err != nil:
		w.s.answer(sub, outcome{err: err})
	case found && known.settled(w.s.durable.Load()):
		w.s.answer(sub, known)
	case found:
		b.late = append(b.late, reply{sub, known})
	default:
		return false
	}
	return true
}

// again is the answer for somebody who submits the same statement.
func (a *admitted) again() outcome {
	out := a.out
	out.duplicate, out.entry = true, a.entry
	return out
}

// statement returns a statement that precedes in the same batch; nil if there
// is none with this identity.
func (b *batch) statement(id statement.Identity) *statement.Statement {
	at, ok := b.at[id]
	if !ok {
		return nil
	}
	return b.ok[at].sub.stmt
}

// find looks for the identity among entries that came after the look-up that
// preceded the queue.
func (w *writer) find(ctx context.Context, sub *submission) (outcome, bool, error) {
	if sub.notIn == w.size {
		return outcome{}, false, nil
	}
	if out, found := w.recent.get(sub.identity); found {
		return out, true, nil
	}
	if w.size-sub.notIn <= w.recent.reach() {
		return outcome{}, false, nil
	}
	return w.s.find(ctx, sub.identity)
}

// place gives a statement that was found good its index and receive time.
func (w *writer) place(change *ledger.Change, sub *submission, index uint64) (admitted, error) {
	raw, err := entry.Encode(w.s.c.Now(), sub.envelope.Bytes())
	if err != nil {
		return admitted{}, err // of the clock: the envelope was parsed, so it fits
	}
	e, err := entry.Parse(raw)
	if err != nil {
		return admitted{}, err
	}
	if err := change.Apply(index, e, sub.stmt, sub.identity); err != nil {
		return admitted{}, err
	}
	return admitted{sub: sub, entry: raw, out: outcome{
		index: index, received: e.Received, leaf: entry.LeafHash(raw),
	}}, nil
}
