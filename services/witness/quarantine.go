package witness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/internal/tile"
)

// A witness whose state file was lost or put back does not know what it has
// signed. So at each start, for each log that has sources, nothing is cosigned
// until the sources were heard and the record has caught up with what they show:
//
//   - what the witness's own key has signed is what it has promised;
//   - what the log alone has signed is adopted as any request would be, once it
//     is proved to extend the record.
//
// What no source shows stays forgotten: docs/witness.md says what that means.

const (
	// looksAtOnce bounds how many logs' sources are asked at a time.
	looksAtOnce = 16
	// eager is how many attempts come in quick succession, for a log that is just
	// being started; then the pause grows to slowLook, unless the log asks.
	eager    = 40
	slowLook = time.Minute
)

// endQuarantines ends the quarantine of each log, also of those that lists bring
// later, until ctx ends.
func (w *Witness) endQuarantines(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	slots := make(chan struct{}, looksAtOnce)
	begun := make(map[*followed]bool)
	for {
		for _, f := range w.table.Load().byOrigin {
			if state, _ := f.gate.now(); state == quarantined && !begun[f] {
				begun[f] = true
				work.Go(func() { w.endQuarantine(ctx, f, slots) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-w.changed:
		}
	}
}

// endQuarantine looks at a log's sources until its quarantine has ended.
func (w *Witness) endQuarantine(ctx context.Context, f *followed, slots chan struct{}) {
	for attempt := 1; ; attempt++ {
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		err := w.catchUp(ctx, f)
		<-slots
		if state, _ := f.gate.now(); state != quarantined || ctx.Err() != nil {
			return
		}
		if attempt == eager {
			w.log.WarnContext(ctx, "a log is still in quarantine", "origin", f.origin, "error", err)
		}
		// Not sooner, whoever asks; and not much later when the log asks.
		if run.Pause(ctx, firstRetry) != nil {
			return
		}
		longest := longRetry
		if attempt >= eager {
			longest = slowLook
		}
		timer := time.NewTimer(run.Backoff(attempt, firstRetry, longest))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-f.gate.kick:
		}
		timer.Stop()
	}
}

// catchUp asks a log's sources once and ends its quarantine if they allow that.
// The error says why they do not.
func (w *Witness) catchUp(ctx context.Context, f *followed) error {
	sources := f.gate.asked()
	found, answers, asking := w.askAll(ctx, f, sources)
	l := look{w: w, f: f, sources: sources}
	if err := l.record(found); err != nil {
		f.gate.wait("the state file could not be read", nil)
		return err
	}
	if need := w.needed(len(sources), l.base != nil); answers < need {
		reason := fmt.Sprintf("%d of %d sources answered, expected %d", answers, len(sources), need)
		f.gate.wait(reason, nil)
		return fmt.Errorf("%s: %w", reason, asking)
	}
	err := l.judge(ctx)
	var h *holdError
	switch {
	case err == nil:
		w.log.InfoContext(ctx, "a log's sources were heard", "origin", f.origin, "answers", answers, "sources", len(sources))
		f.gate.open()
	case errors.As(err, &h):
		w.log.ErrorContext(ctx, "nothing of a log is cosigned any more", "origin", f.origin, "reason", h.reason)
		f.gate.hold(h.reason)
	default:
		f.gate.wait("it has not caught up yet", l.floor)
	}
	return err
}

// needed is how many of n sources must have answered.
func (w *Witness) needed(n int, recorded bool) int {
	if recorded {
		return min(n, cmp.Or(w.need[0], n/2+1))
	}
	return min(n, cmp.Or(w.need[1], n))
}

// holdError: nothing of this log may be cosigned any more.
type holdError struct{ reason string }

func (e *holdError) Error() string { return e.reason }

// look is one look at what the sources of a log show.
type look struct {
	w       *Witness
	f       *followed
	sources []source

	base  *shown   // the record, or what takes its place; nil if there is none
	own   []*shown // signed by the witness, the largest first
	log   []*shown // signed by the log alone, the largest first
	floor *checkpoint.Checkpoint
}

// record reads the record and sorts what was found.
func (l *look) record(found []*shown) error {
	err := l.w.state.view(func(tx *bbolt.Tx) error {
		rec, note, err := readRecord(tx, l.f.origin)
		if err != nil || rec == nil {
			return err
		}
		l.base = &shown{Checkpoint: note.Checkpoint(), note: note, own: l.w.own(note), time: rec.Time}
		return nil
	})
	for _, s := range found {
		if len(s.own) > 0 {
			l.own = append(l.own, s)
		} else {
			l.log = append(l.log, s)
		}
	}
	largest := func(a, b *shown) int { return cmp.Compare(b.Size, a.Size) }
	slices.SortStableFunc(l.own, largest)
	slices.SortStableFunc(l.log, largest)
	return err
}

// judge brings the record up to what was found. It returns nil when everything
// that was found is in the record's past, a *holdError if that can never be, and
// another error if it is too early to say.
func (l *look) judge(ctx context.Context) error {
	if err := l.sameSizes(ctx); err != nil {
		return err
	}
	if err := l.adoptOwn(ctx); err != nil {
		return err
	}
	for _, s := range l.log {
		if l.base != nil && s.Size <= l.base.Size {
			continue
		}
		adopted, err := l.adopt(ctx, s)
		if adopted || err != nil {
			return err
		}
	}
	return nil
}

// sameSizes compares roots at one size. Two that the witness has signed end its
// work for this log. One that only the log has signed is a fork of the log's, and
// changes nothing, unless there is nothing else to go by.
func (l *look) sameSizes(ctx context.Context) error {
	mine := slices.Clone(l.own)
	if l.base != nil {
		mine = append(mine, l.base)
	}
	for i, a := range mine {
		for _, b := range mine[:i] {
			if a.Size == b.Size && a.Root != b.Root {
				return l.hold(ctx, Double, a, b, nil, fmt.Sprintf("this witness's key has signed two roots at size %d", a.Size))
			}
		}
	}
	// Both of two that only the log has signed are left out.
	var whole []*shown
	for _, s := range l.log {
		other := contradicting(s, slices.Concat(mine, l.log))
		if other == nil {
			whole = append(whole, s)
			continue
		}
		if len(mine) == 0 {
			return l.hold(ctx, Fork, other, s, nil, fmt.Sprintf("the log has signed two roots at size %d", s.Size))
		}
		if err := l.accuse(ctx, Fork, other, s, nil, ""); err != nil {
			return err
		}
	}
	l.log = whole
	return nil
}

// contradicting returns one of others with the size of s and another root.
func contradicting(s *shown, others []*shown) *shown {
	for _, other := range others {
		if s.Size == other.Size && s.Root != other.Root {
			return other
		}
	}
	return nil
}

// adoptOwn makes the largest checkpoint that the witness has signed the record.
func (l *look) adoptOwn(ctx context.Context) error {
	if len(l.own) == 0 {
		return nil
	}
	top := l.own[0]
	if b := l.base; b != nil && (b.Size > top.Size || b.Size == top.Size && b.time >= top.time) {
		top = b
	}
	if err := l.allIn(ctx, top); err != nil {
		return err
	}
	newest := top.time
	for _, s := range l.own {
		newest = max(newest, s.time)
	}
	if top == l.base {
		if newest <= l.base.time {
			return nil
		}
		// A smaller one was signed later than the record: times never go back.
		return l.write(ctx, top, newest)
	}
	l.w.log.WarnContext(ctx, "the state file is older than what this witness has signed", "origin", l.f.origin, "signed_size", top.Size)
	if err := l.write(ctx, top, newest); err != nil {
		return err
	}
	l.base = top
	return nil
}

// write makes s the record, at the time of the newest cosignature.
func (l *look) write(ctx context.Context, s *shown, newest uint64) error {
	note, err := checkpoint.NewNote(s.note.Text(), append(slices.Clone(s.logSigs), s.own...)...)
	if s == l.base {
		note, err = s.note, nil
	}
	if err != nil {
		return fmt.Errorf("putting the adopted note together: %w", err)
	}
	err = l.w.state.update(func(tx *bbolt.Tx) (bool, error) {
		rec, _, err := readRecord(tx, l.f.origin)
		if err != nil || rec != nil && rec.Size > s.Size {
			return false, errors.Join(err, errors.New("the record has changed meanwhile"))
		}
		return true, writeRecord(tx, l.f.origin, &record{Size: s.Size, Root: s.Root, Time: newest, Note: note.Bytes()})
	})
	if err != nil {
		return fmt.Errorf("adopting size %d: %w", s.Size, err)
	}
	l.w.log.InfoContext(ctx, "adopted a checkpoint of its own", "origin", l.f.origin, "size", s.Size)
	return nil
}

// allIn holds what the witness has signed against the largest of it. Without
// tiles its signature is taken for what it says: that it was consistent then.
func (l *look) allIn(ctx context.Context, top *shown) error {
	mine := slices.Clone(l.own)
	if l.base != nil {
		mine = append(mine, l.base)
	}
	var tree *tile.Tree
	for _, s := range mine {
		if s.Size == top.Size || s.Size == 0 {
			continue
		}
		if tree == nil {
			var err error
			if tree, err = l.w.tree(ctx, l.sources, top.Checkpoint); err != nil {
				l.w.log.WarnContext(ctx, "what was signed could not be compared", "origin", l.f.origin, "size", top.Size, "error", err)
				return nil
			}
		}
		root, err := tree.RootAt(ctx, s.Size)
		if err != nil {
			return fmt.Errorf("reading the tree at size %d: %w", top.Size, err)
		}
		if root != s.Root {
			return l.inconsistent(ctx, tree, s, top,
				fmt.Sprintf("this witness's key has signed sizes %d and %d, which contradict each other", s.Size, top.Size))
		}
	}
	return nil
}

// adopt cosigns a checkpoint that the log alone has signed, larger than the
// record, after the rules for requests. It says whether that was done, or was
// out of reach for good; false and no error means that it contradicts the record.
func (l *look) adopt(ctx context.Context, s *shown) (bool, error) {
	req := &addRequest{note: s.note}
	if l.base != nil && l.base.Size > 0 {
		tree, err := l.w.tree(ctx, l.sources, s.Checkpoint)
		if err != nil {
			return l.unproven(ctx, s, err)
		}
		root, err := tree.RootAt(ctx, l.base.Size)
		if err != nil {
			return false, fmt.Errorf("reading the tree at size %d: %w", s.Size, err)
		}
		if root != l.base.Root {
			return false, l.inconsistent(ctx, tree, l.base, s, "")
		}
		proof, err := tree.Consistency(ctx, l.base.Size, s.Size)
		if err != nil {
			return false, fmt.Errorf("proving size %d: %w", s.Size, err)
		}
		req.old = l.base.Size
		for _, h := range proof {
			req.proof = append(req.proof, h[:])
		}
	}
	var ans answer
	err := l.w.state.update(func(tx *bbolt.Tx) (commit bool, err error) {
		ans, commit, err = l.w.judge(ctx, tx, l.f, req, s.logSigs)
		return commit, err
	})
	if err == nil && ans.status != http.StatusOK {
		err = fmt.Errorf("the rules refuse it with status %d: %s", ans.status, ans.body)
	}
	if err != nil {
		return false, fmt.Errorf("adopting size %d: %w", s.Size, err)
	}
	l.w.log.InfoContext(ctx, "adopted a checkpoint of the log", "origin", l.f.origin, "size", s.Size, "old_size", req.old)
	return true, nil
}

// unproven is a larger checkpoint of the log without tiles to prove it from.
func (l *look) unproven(ctx context.Context, s *shown, err error) (bool, error) {
	if errors.Is(err, errNoTiles) {
		l.w.log.WarnContext(ctx, "a larger checkpoint of the log cannot be proved: no source serves tiles",
			"origin", l.f.origin, "size", s.Size, "recorded_size", l.base.Size)
		return true, nil
	}
	l.floor = &s.Checkpoint
	return false, err
}
