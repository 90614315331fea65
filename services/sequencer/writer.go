package sequencer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/fault"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

// submission is a statement on its way through the writer.
type submission struct {
	envelope *statement.Envelope
	stmt     *statement.Statement
	identity statement.Identity
	granted  []statement.Role
	// notIn is the size of the log in which the identity was looked for and not
	// found before the submission was queued.
	notIn  uint64
	beacon *beacon // nil if the statement names none
	// refused is what was wrong with the beacon. It counts only if the statement
	// is not in the log: one that is there is never answered with an error.
	refused error
	done    chan outcome
}

// bytes is what a submission holds in memory, about: its envelope, the payload
// that was decoded from it, and a beacon that is not stored yet.
func (s *submission) bytes() int64 {
	n := 2 * len(s.envelope.Bytes())
	if s.beacon != nil {
		n += len(s.beacon.note)
	}
	return int64(n)
}

// outcome is how the writer answers; sent exactly once.
type outcome struct {
	index     uint64
	received  time.Time
	leaf      statement.Digest
	entry     []byte // if it is at hand
	duplicate bool
	err       error
}

// writer does steps 1 to 4 for one batch after the other.
type writer struct {
	s      *Sequencer
	tiles  *tile.Writer
	grown  chan tlog.Root
	size   uint64 // entries in the log
	recent *recent
}

// admitted is a submission with its place.
type admitted struct {
	sub   *submission
	entry []byte
	out   outcome
}

func (w *writer) run(ctx context.Context) error {
	for {
		batch := w.collect(ctx)
		if batch == nil {
			return ctx.Err()
		}
		// What was taken is brought to its end: neither a client that goes away
		// nor a stop may leave a batch half done.
		if err := w.process(context.WithoutCancel(ctx), batch); err != nil {
			return err
		}
	}
}

// collect waits for a first submission, then for company.
func (w *writer) collect(ctx context.Context) []*submission {
	limits := w.s.c.Limits
	var batch []*submission
	select {
	case <-ctx.Done():
		return nil
	case sub := <-w.s.queue:
		batch = append(batch, w.s.taken(sub))
	}
	timer := time.NewTimer(limits.BatchDelay)
	defer timer.Stop()
	for len(batch) < limits.BatchSize {
		select {
		case sub := <-w.s.queue:
			batch = append(batch, w.s.taken(sub))
		case <-timer.C:
			return batch
		case <-ctx.Done():
			return batch // they are answered by process or by its failure
		}
	}
	return batch
}

// batch is what admission made of some submissions.
type batch struct {
	ok        []admitted
	followers []follower
	at        map[statement.Identity]int // in ok
}

// follower is a submission whose identity is already in the same batch.
type follower struct {
	sub *submission
	of  int
}

// fail answers everybody in the batch with an error that leaves the outcome
// open.
func (b *batch) fail(cause error) {
	err := ErrNotReady
	if cause != nil {
		err = errors.Join(ErrNotReady, cause)
	}
	for _, a := range b.ok {
		a.sub.done <- outcome{err: err}
	}
	for _, f := range b.followers {
		f.sub.done <- outcome{err: err}
	}
}

// process takes a batch through the steps 1 to 4. It returns an error only if
// the outcome of a write is unknown, or the stores contradict each other. Every
// submission is answered, whatever happens.
func (w *writer) process(ctx context.Context, subs []*submission) error {
	change := w.s.c.Ledger.Change()
	b, err := w.admit(ctx, change, subs)
	if err != nil || len(b.ok) == 0 {
		b.fail(err)
		return errors.Join(err, change.Discard())
	}
	stored, err := w.store(ctx, b.ok)
	if err != nil || !stored {
		b.fail(err)
		return errors.Join(err, change.Discard())
	}
	err = change.Commit()
	if err != nil {
		err = refuse(Failed, "the entries are stored: %w", err)
		b.fail(err)
		return err
	}
	root, err := w.integrate(ctx, b.ok)
	if err != nil {
		b.fail(err)
		return err
	}
	w.size = root.Size
	w.s.durable.Store(root.Size)
	w.announce(root)
	for _, a := range b.ok {
		w.recent.add(a.sub.identity, a.out)
		a.out.entry = a.entry
		a.sub.done <- a.out
	}
	for _, f := range b.followers {
		out := b.ok[f.of].out
		out.duplicate, out.entry = true, b.ok[f.of].entry
		f.sub.done <- out
	}
	return nil
}

// admit is step 1: it answers what is known or refused, and gives the rest
// their places. After an error nothing of the batch may be stored, and what is
// in it is not answered yet.
func (w *writer) admit(ctx context.Context, change *ledger.Change, subs []*submission) (*batch, error) {
	b := &batch{ok: make([]admitted, 0, len(subs)), at: map[statement.Identity]int{}}
	for i, sub := range subs {
		if at, twin := b.at[sub.identity]; twin {
			b.followers = append(b.followers, follower{sub, at})
			continue
		}
		known, found, err := w.find(ctx, sub)
		if err != nil || found {
			known.err = err
			sub.done <- known
			continue
		}
		if err := w.s.judge(ctx, change.View, sub, b.statement); err != nil {
			sub.done <- outcome{err: err}
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
	}
	return b, nil
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
		out.duplicate = true
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

// store is step 2. It returns false if nothing was stored, and an error if only
// a restart can tell.
func (w *writer) store(ctx context.Context, ok []admitted) (bool, error) {
	if err := fault.Hit("append.before"); err != nil {
		return false, refuse(Failed, "append: %w", err)
	}
	if err := w.keepBeacons(ctx, ok); err != nil {
		w.s.log.Error("nothing was stored", "entries", len(ok), "error", err)
		return false, nil
	}
	leaves := make([]tlog.Leaf, len(ok))
	for i, a := range ok {
		leaves[i] = tlog.Leaf{Identity: a.sub.identity, Value: a.entry}
	}
	err := w.s.c.Tree.Append(ctx, w.size, leaves)
	if err == nil {
		err = fault.Hit("append.after")
		if err == nil {
			return true, nil
		}
		err = fmt.Errorf("%w: %w", tlog.ErrUnknownOutcome, err)
	}
	switch {
	case errors.Is(err, tlog.ErrFailed) || errors.Is(err, tlog.ErrClosed) || errors.Is(err, tlog.ErrCorrupt):
		return false, stopped(fmt.Sprintf("append %d entries", len(ok)), err)
	case errors.Is(err, tlog.ErrConflict):
		return false, refuse(Owned, "somebody else writes to the store: %w", err)
	case !errors.Is(err, tlog.ErrUnknownOutcome):
		w.s.log.Error("append failed, nothing was stored", "entries", len(ok), "error", err)
		return false, nil
	}
	return w.readBack(ctx, leaves, err)
}

// readBack resolves an unknown outcome: what is stored is adopted, all or none.
func (w *writer) readBack(ctx context.Context, want []tlog.Leaf, cause error) (bool, error) {
	got, err := w.s.c.Tree.Leaves(ctx, w.size, len(want))
	if err != nil {
		return false, refuse(Failed, "read back after %w: %w", cause, err)
	}
	same := func(a, b tlog.Leaf) bool { return a.Identity == b.Identity && slices.Equal(a.Value, b.Value) }
	switch {
	case len(got) == 0:
		return false, nil
	case slices.EqualFunc(got, want, same):
		return true, nil
	}
	return false, refuse(Failed, "%d of %d entries are there after %w", len(got), len(want), cause)
}

// integrate is steps 3 and 4.
func (w *writer) integrate(ctx context.Context, ok []admitted) (tlog.Root, error) {
	if err := fault.Hit("integrate.before"); err != nil {
		return tlog.Root{}, refuse(Failed, "integrate: %w", err)
	}
	root, err := w.s.c.Tree.Integrate(ctx)
	if err != nil {
		return tlog.Root{}, stopped("integrate", err)
	}
	if err := fault.Hit("integrate.after"); err != nil {
		return tlog.Root{}, refuse(Failed, "integrate: %w", err)
	}
	entries := make([][]byte, len(ok))
	for i, a := range ok {
		entries[i] = a.entry
	}
	if err := fault.Hit("tiles.before"); err != nil {
		return tlog.Root{}, refuse(Failed, "write tiles: %w", err)
	}
	hash, err := w.tiles.Append(ctx, entries)
	if err != nil {
		return tlog.Root{}, stopped("write tiles", err)
	}
	if hash != root.Hash || w.tiles.Size() != root.Size {
		return tlog.Root{}, refuse(Fork, "tiles and store disagree at size %d", root.Size)
	}
	if err := fault.Hit("tiles.after"); err != nil {
		return tlog.Root{}, refuse(Failed, "write tiles: %w", err)
	}
	return root, nil
}

// keepBeacons stores the notes that the entries name, before the entries: no
// entry is ever in the log without the note that its receipt needs. A note that
// no entry names in the end does no harm.
func (w *writer) keepBeacons(ctx context.Context, ok []admitted) error {
	var objects []blob.Object
	for _, a := range ok {
		if o, fresh := a.sub.beacon.object(); fresh {
			objects = append(objects, o)
		}
	}
	if len(objects) == 0 {
		return nil
	}
	if err := w.s.c.Tiles.Put(ctx, uniqueObjects(objects)...); err != nil {
		return fmt.Errorf("keep the beacons: %w", err)
	}
	for _, a := range ok {
		a.sub.beacon.kept()
	}
	return nil
}

func uniqueObjects(objects []blob.Object) []blob.Object {
	slices.SortFunc(objects, func(a, b blob.Object) int {
		switch {
		case a.Key < b.Key:
			return -1
		case a.Key > b.Key:
			return 1
		}
		return 0
	})
	return slices.CompactFunc(objects, func(a, b blob.Object) bool { return a.Key == b.Key })
}

// announce hands the newest root to the publisher, in place of an older one.
func (w *writer) announce(root tlog.Root) {
	select {
	case <-w.grown:
	default:
	}
	w.grown <- root
}
