package witness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/trialog/trialog/api/checkpoint"
)

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
	err := l.w.state.View(func(tx *bbolt.Tx) error {
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
	if l.base == nil {
		if err := l.oneHistory(ctx); err != nil {
			return err
		}
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

// oneHistory holds what the log alone has signed against the largest of it, which
// takes the place of a record that is not there. Nobody can say which of two
// histories the witness has signed, if it has signed any.
func (l *look) oneHistory(ctx context.Context) error {
	for i, s := range l.log {
		top := l.log[0]
		if i == 0 || s.Size == 0 || s.Size == top.Size {
			continue
		}
		g, err := l.w.growthOf(ctx, l.sources, s.Size, top.Checkpoint)
		if errors.Is(err, errNoTiles) {
			return nil
		}
		if err != nil {
			l.floor = &top.Checkpoint
			return err
		}
		if g.root != s.Root {
			return l.inconsistent(ctx, g, s, top,
				fmt.Sprintf("the log has signed sizes %d and %d, which contradict each other", s.Size, top.Size))
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
	top.time = newest
	l.base = top
	return nil
}

// errChanged: the record is not the one any more that a look has begun with.
var errChanged = errors.New("the record has changed meanwhile")

// write makes s the record, at the time of the newest cosignature.
func (l *look) write(ctx context.Context, s *shown, newest uint64) error {
	note, err := checkpoint.NewNote(s.note.Text(), append(slices.Clone(s.logSigs), s.own...)...)
	if s == l.base {
		note, err = s.note, nil
	}
	if err != nil {
		return fmt.Errorf("putting the adopted note together: %w", err)
	}
	err = l.w.state.Update(func(tx *bbolt.Tx) (bool, error) {
		rec, _, err := readRecord(tx, l.f.origin)
		if err != nil {
			return false, err
		}
		if (rec == nil) != (l.base == nil) || rec != nil && (rec.Size != l.base.Size || rec.Root != l.base.Root || rec.Time != l.base.time) {
			return false, errChanged
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
	for _, s := range mine {
		if s.Size == top.Size || s.Size == 0 {
			continue
		}
		g, err := l.w.growthOf(ctx, l.sources, s.Size, top.Checkpoint)
		if err != nil {
			l.w.log.WarnContext(ctx, "what was signed could not be compared", "origin", l.f.origin, "size", s.Size,
				"other_size", top.Size, "error", err)
			continue
		}
		if g.root != s.Root {
			return l.inconsistent(ctx, g, s, top,
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
		g, err := l.w.growthOf(ctx, l.sources, l.base.Size, s.Checkpoint)
		if err != nil {
			return l.unproven(ctx, s, err)
		}
		if g.root != l.base.Root {
			return false, l.inconsistent(ctx, g, l.base, s, "")
		}
		req.old = l.base.Size
		for _, h := range g.proof {
			req.proof = append(req.proof, h[:])
		}
	}
	var ans answer
	err := l.w.state.Update(func(tx *bbolt.Tx) (commit bool, err error) {
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
