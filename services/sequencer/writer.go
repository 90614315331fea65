package sequencer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/commit"
	"github.com/trialog/trialog/services/internal/fault"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

func newWriter(s *Sequencer, start *started, grown chan tlog.Root) *writer {
	return &writer{
		s: s, log: commit.New(s.c.Tree, start.tiles), grown: grown, size: start.root.Size, ended: start.ended,
		recent: newRecent(), at: map[statement.Identity]int{}, broken: make(chan struct{}),
	}
}

// run works until ctx ends or the outcome of a write is unknown. What it has
// taken from the queue is answered when it returns.
func (w *writer) run(ctx context.Context) error {
	stored := make(chan commit.Stored, 1)
	followed := make(chan error, 1)
	// What was taken is brought to its end: neither a client that goes away nor a
	// stop may leave a batch half done.
	steady := context.WithoutCancel(ctx)
	go func() {
		err := w.log.Follow(steady, stored, w.announce)
		close(w.broken)
		followed <- err
	}()
	err := w.admitAll(ctx, steady, stored)
	close(stored)
	if broken := stepError(<-followed); broken != nil {
		// If both have failed this one came first, or is the other's echo.
		err = broken
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.open {
		w.fail(b, err)
	}
	return err
}

// admitAll does steps 1 and 2 for one batch after the other.
func (w *writer) admitAll(ctx, steady context.Context, stored chan<- commit.Stored) error {
	for {
		subs := w.collect(ctx)
		if subs == nil {
			return ctx.Err() // nil if broken: then Follow says why
		}
		b, err := w.process(steady, subs)
		if err != nil {
			return err
		}
		if b == nil {
			continue
		}
		w.mu.Lock()
		w.open = append(w.open, b)
		w.mu.Unlock()
		select {
		case stored <- commit.Stored{Size: w.size, Done: func(tlog.Root) { w.finish(b) }}:
		case <-w.broken:
			return nil
		}
	}
}

// collect waits for a first submission, then for company. It returns nil if
// there is nothing left to do.
func (w *writer) collect(ctx context.Context) []*submission {
	limits := &w.s.c.Limits
	var subs []*submission
	select {
	case <-w.broken:
		return nil
	default:
	}
	select {
	case <-ctx.Done():
		return nil
	case <-w.broken:
		return nil
	case sub := <-w.s.queue:
		subs = append(subs, sub)
	}
	timer := time.NewTimer(limits.BatchDelay)
	defer timer.Stop()
	for len(subs) < limits.BatchSize {
		select {
		case sub := <-w.s.queue:
			subs = append(subs, sub)
		case <-timer.C:
			return subs
		case <-ctx.Done():
			return subs // they are answered by process or by its failure
		}
	}
	return subs
}

// fail answers everybody in the batch with an error that leaves the outcome
// open.
func (w *writer) fail(b *batch, cause error) {
	err := ErrNotReady
	if cause != nil {
		err = errors.Join(ErrNotReady, cause)
	}
	for _, a := range b.ok {
		w.s.answer(a.sub, outcome{err: err})
	}
	for _, r := range b.followers {
		w.s.answer(r.sub, outcome{err: err})
	}
	for _, r := range b.late {
		w.s.answer(r.sub, outcome{err: err})
	}
	*b = batch{}
}

// finish answers everybody in a batch that is past step 4: the first one of the
// open ones.
func (w *writer) finish(b *batch) {
	w.mu.Lock()
	w.open = slices.Delete(w.open, 0, 1)
	w.mu.Unlock()
	tickets := make([]ticket, 0, len(b.ok)+len(b.followers)+len(b.late))
	for _, a := range b.ok {
		tickets = append(tickets, a.sub.ticket)
	}
	for _, r := range b.followers {
		tickets = append(tickets, r.sub.ticket)
	}
	for _, r := range b.late {
		tickets = append(tickets, r.sub.ticket)
	}
	w.s.intake.release(tickets...)
	for _, a := range b.ok {
		a.out.entry = a.entry
		a.sub.done(a.out)
	}
	for _, r := range b.followers {
		r.sub.done(r.out)
	}
	for _, r := range b.late {
		r.sub.done(r.out)
	}
}

// process takes a batch through the steps 1 and 2. It returns nil if nothing is
// left to be done for it, and an error only if the outcome of a write is
// unknown, or the stores contradict each other; then everybody is answered.
func (w *writer) process(ctx context.Context, subs []*submission) (*batch, error) {
	change := w.s.c.Ledger.Change()
	b, err := w.admit(ctx, change, subs)
	if err != nil {
		w.fail(b, err)
		return nil, errors.Join(err, change.Discard())
	}
	if len(b.ok) == 0 {
		return b.unlessEmpty(), change.Discard()
	}
	stored, err := w.store(ctx, b)
	if err != nil {
		w.fail(b, err)
		return nil, errors.Join(err, change.Discard())
	}
	if !stored {
		late := b.late
		b.late = nil
		w.fail(b, nil)
		b.late = late
		return b.unlessEmpty(), change.Discard()
	}
	if err := w.remember(b, change); err != nil {
		w.fail(b, err)
		return nil, err
	}
	return b, nil
}

// remember notes a batch that is stored where the next admission looks.
func (w *writer) remember(b *batch, change *ledger.Change) error {
	change.Ends(b.ok[len(b.ok)-1].out.leaf)
	if err := fault.Hit("ledger.before"); err != nil {
		return refuse(Failed, "the entries are stored: %w", errors.Join(err, change.Discard()))
	}
	if err := w.s.commitLedger(change); err != nil {
		return refuse(Failed, "the entries are stored: %w", err)
	}
	if err := fault.Hit("ledger.after"); err != nil {
		return refuse(Failed, "the entries are stored: %w", err)
	}
	for _, a := range b.ok {
		w.recent.add(a.sub.identity, a.out)
	}
	w.size += uint64(len(b.ok))
	w.s.stored.Store(w.size)
	return nil
}

// store is step 2. It returns false if nothing was stored, and an error if only
// a restart can tell.
func (w *writer) store(ctx context.Context, b *batch) (bool, error) {
	if err := w.keepBeacons(ctx, b.ok); err != nil {
		w.s.log.Error("nothing was stored", "entries", len(b.ok), "error", err)
		return false, nil
	}
	leaves := make([]tlog.Leaf, len(b.ok))
	for i, a := range b.ok {
		leaves[i] = tlog.Leaf{Identity: a.sub.identity, Value: a.entry}
	}
	if b.ends { // before anybody can publish it
		w.s.endsAt.Store(w.size + uint64(len(leaves)))
	}
	err := w.log.Store(ctx, leaves)
	switch {
	case errors.Is(err, commit.ErrNotStored):
		w.s.log.Error("nothing was stored", "entries", len(leaves), "error", err)
		if b.ends {
			w.s.endsAt.Store(0)
		}
		return false, nil
	case err != nil:
		return false, stepError(err)
	}
	w.ended = w.ended || b.ends
	return true, nil
}

// stepError says for a failure of the steps 2 to 4 why the sequencer ends.
func stepError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tlog.ErrConflict):
		return refuse(Owned, "somebody else writes to the store: %w", err)
	case errors.Is(err, commit.ErrDisagree):
		return refuse(Fork, "%w", err)
	}
	return stopped("write", err)
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

// announce notes how far step 4 has come, and hands the newest root to the
// publisher, in place of an older one.
func (w *writer) announce(root tlog.Root) {
	w.s.durable.Store(root.Size)
	select {
	case <-w.grown:
	default:
	}
	w.grown <- root
}
