package anchor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/anchored"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/run"
)

// publishedKey is the object that holds the newest published checkpoint.
const publishedKey = "checkpoint"

// maxSkew is how far a token's time may be from the log's clock. One dated back
// would prove that entries existed before they did.
const maxSkew = 5 * time.Minute

var (
	// errNobody: of all who were asked nobody has vouched for the checkpoint.
	errNobody = errors.New("nobody has vouched for the checkpoint")
	// errOvertaken: the store holds a newer anchored checkpoint than this worker
	// has: another process is at work.
	errOvertaken = errors.New("another process has anchored a newer checkpoint")
)

// Step looks once whether there is something to anchor, and does it. It returns
// nil if there was nothing to do. It is called by Run; a test may call it instead.
func (w *Worker) Step(ctx context.Context) error {
	if err := w.load(ctx); err != nil {
		return err
	}
	if w.unsaved != nil {
		return w.save(ctx, w.unsaved)
	}
	goal, err := w.goal(ctx)
	if err != nil || goal == nil || w.c.Now().Before(w.due(goal.begun)) {
		return err
	}
	return w.anchor(ctx, goal)
}

// goal is a checkpoint that is to be anchored.
type goal struct {
	// target is the note with what is there of it already.
	target *anchored.Record
	// begun tells that others have anchored it, so that there is no hurry.
	begun bool
	// anew tells that what is kept of it is not handed out, for it does not satisfy
	// the policy or one of its tokens the authority's present certificate, so that
	// what stands of it is worth keeping under the published note.
	anew bool
}

// load reads what an earlier process has anchored, once. What does not satisfy the
// policy is kept in mind for its time only: whoever was asked is not asked again
// at once.
func (w *Worker) load(ctx context.Context) error {
	if w.loaded {
		return nil
	}
	raw, err := w.c.Store.Get(ctx, anchored.Key)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		w.loaded = true
		return nil
	case err != nil:
		return fmt.Errorf("read the anchored checkpoint: %w", err)
	}
	w.loaded = true
	r, err := anchored.Parse(raw)
	if err != nil {
		w.log.ErrorContext(ctx, "the anchored checkpoint is damaged, and made anew", "error", err)
		return nil
	}
	// A clock that was set back must not keep anchors away for ever.
	w.newest, w.last = r, earlier(r.At, w.c.Now())
	w.metrics.anchored(r)
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// goal returns what is to be anchored, nil if there is nothing to do.
func (w *Worker) goal(ctx context.Context) (*goal, error) {
	note, err := w.published(ctx)
	if note == nil || err != nil {
		return nil, err
	}
	now := note.Checkpoint()
	if w.newest == nil {
		return &goal{target: &anchored.Record{Note: note}}, nil
	}
	was := w.newest.Note.Checkpoint()
	switch {
	case was.Origin != now.Origin:
		return nil, fmt.Errorf("the anchored checkpoint is of origin %q", was.Origin)
	case was.Size > now.Size:
		return nil, fmt.Errorf("the published checkpoint is at size %d, one of size %d was anchored", now.Size, was.Size)
	case was.Size < now.Size:
		return &goal{target: &anchored.Record{Note: note}}, nil
	case !bytes.Equal(w.newest.Note.Text(), note.Text()):
		return nil, fmt.Errorf("another checkpoint of size %d was anchored", now.Size)
	}
	// The same size. An idle log asks nobody, unless somebody has not answered yet,
	// or the policy is another one by now.
	kept := w.standing(note)
	_, _, unsatisfied := w.newest.Verify(w.c.Policy, w.judges())
	if unsatisfied == nil && len(w.missing(kept)) == 0 {
		return nil, nil //nolint:nilnil // nothing to do
	}
	return &goal{target: kept, begun: unsatisfied == nil, anew: unsatisfied != nil}, nil
}

// published reads the published checkpoint and judges it; nil if there is none.
func (w *Worker) published(ctx context.Context) (*checkpoint.Note, error) {
	raw, err := w.c.Store.Get(ctx, publishedKey)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return nil, nil //nolint:nilnil // nothing to anchor
	case err != nil:
		return nil, fmt.Errorf("read the published checkpoint: %w", err)
	}
	c, err := w.c.Policy.CheckNote(raw)
	if err != nil {
		return nil, fmt.Errorf("the published checkpoint: %w", err)
	}
	if c.Origin != w.c.Origin {
		return nil, fmt.Errorf("the published checkpoint is of origin %q", c.Origin)
	}
	if c.Size == 0 {
		return nil, nil //nolint:nilnil // there is nothing in it
	}
	return checkpoint.Parse(raw)
}

// standing returns what of the newest anchored checkpoint stands under a published
// note with the same text: cosignatures of the witnesses that are asked, and
// tokens of the authorities that are asked.
func (w *Worker) standing(note *checkpoint.Note) *anchored.Record {
	kept := &anchored.Record{Note: note, At: w.newest.At}
	var sigs []checkpoint.Signature
	for i := range w.c.Witnesses {
		for _, key := range w.c.Witnesses[i].Keys {
			if sig, ok := signedBy(w.newest.Note, key); ok {
				sigs = append(sigs, sig)
			}
		}
	}
	if with, err := note.With(sigs...); err == nil {
		kept.Note = with
	}
	for _, a := range w.judges() {
		raw := w.newest.Token(a.Name)
		if raw == nil {
			continue
		}
		if _, err := a.Check(w.c.Policy, raw, note.Text(), nil); err == nil {
			kept.Tokens = append(kept.Tokens, anchored.Token{Authority: a.Name, Raw: raw})
		}
	}
	return kept
}

// signedBy returns the first verified signature of key on a note.
func signedBy(note *checkpoint.Note, key *checkpoint.VerifierKey) (checkpoint.Signature, bool) {
	for _, sig := range note.Signatures() {
		if sig.Name != key.Name() || sig.KeyID != key.ID() {
			continue
		}
		if _, err := key.VerifyCheckpoint(note, sig); err == nil {
			return sig, true
		}
	}
	return checkpoint.Signature{}, false
}

// missing returns the names of those who have not vouched for a checkpoint.
func (w *Worker) missing(r *anchored.Record) []string {
	var names []string
	for i := range w.c.Witnesses {
		if !w.c.Witnesses[i].signed(r.Note) {
			names = append(names, w.c.Witnesses[i].Name)
		}
	}
	for i := range w.c.Authorities {
		if r.Token(w.c.Authorities[i].Name) == nil {
			names = append(names, w.c.Authorities[i].Name)
		}
	}
	return names
}

// vouched tells whether somebody has vouched for a checkpoint.
func (w *Worker) vouched(r *anchored.Record) bool {
	return len(w.missing(r)) < len(w.c.Witnesses)+len(w.c.Authorities)
}

// signed tells whether each key of the witness has signed.
func (w *Witness) signed(note *checkpoint.Note) bool {
	return !slices.ContainsFunc(w.Keys, func(key *checkpoint.VerifierKey) bool {
		_, ok := signedBy(note, key)
		return !ok
	})
}

// due is when somebody may be asked next. Between two questions lies the interval;
// who has not answered for a checkpoint that is anchored otherwise, or for the
// first one, is asked less and less often.
func (w *Worker) due(begun bool) time.Time {
	if w.last.IsZero() {
		return w.last
	}
	pause := w.c.Interval
	if begun || w.newest == nil {
		pause = max(pause, w.retry)
	}
	return earlier(w.last, w.c.Now()).Add(pause)
}

// anchor asks everybody who has not vouched for the target, all at once, and keeps
// what came.
func (w *Worker) anchor(ctx context.Context, g *goal) error {
	w.last = w.c.Now()
	target := g.target
	var sigs []checkpoint.Signature
	var refused error
	tokens, errs := make([][]byte, len(w.c.Authorities)), make([]error, len(w.c.Authorities))
	var wg sync.WaitGroup
	if slices.ContainsFunc(w.c.Witnesses, func(v Witness) bool { return !v.signed(target.Note) }) {
		wg.Go(func() { sigs, refused = w.gather(ctx, target.Note) })
	}
	for i := range w.c.Authorities {
		if target.Token(w.c.Authorities[i].Name) == nil {
			wg.Go(func() { tokens[i], errs[i] = w.stamp(ctx, &w.c.Authorities[i], target.Note.Text()) })
		}
	}
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	got, news, err := w.merge(target, sigs, tokens)
	if err != nil {
		return err
	}
	w.report(ctx, target, got, refused, errs)
	w.failures++
	w.retry = run.Backoff(w.failures, w.c.Interval, longestRetry)
	if len(w.missing(got)) == 0 {
		w.failures, w.retry = 0, 0
	}
	if !news && !(g.anew && w.vouched(got)) {
		return errNobody
	}
	got.At = w.last
	return w.save(ctx, got)
}

// gather asks the witnesses.
func (w *Worker) gather(ctx context.Context, note *checkpoint.Note) ([]checkpoint.Signature, error) {
	c := note.Checkpoint()
	tree, err := w.reader.Tree(ctx, c.Size, c.Root)
	if err != nil {
		return nil, fmt.Errorf("read the tree: %w", err)
	}
	return w.c.Gatherer.Gather(ctx, note, tree.Consistency)
}

// merge adds what came to a record. Signatures are looked at again: only those of
// the witnesses that are asked are taken. news tells whether there is more than
// there was.
func (w *Worker) merge(target *anchored.Record, sigs []checkpoint.Signature, tokens [][]byte) (got *anchored.Record, news bool, err error) {
	got = &anchored.Record{Note: target.Note, Tokens: slices.Clone(target.Tokens)}
	if len(sigs) > 0 {
		with, err := checkpoint.NewNote(target.Note.Text(), sigs...)
		if err != nil {
			return nil, false, fmt.Errorf("add cosignatures: %w", err)
		}
		var good []checkpoint.Signature
		for i := range w.c.Witnesses {
			for _, key := range w.c.Witnesses[i].Keys {
				_, had := signedBy(target.Note, key)
				if sig, ok := signedBy(with, key); ok && !had {
					good = append(good, sig)
				}
			}
		}
		if got.Note, err = target.Note.With(good...); err != nil {
			return nil, false, fmt.Errorf("add cosignatures: %w", err)
		}
		news = len(good) > 0
	}
	for i, raw := range tokens {
		if raw != nil {
			got.Tokens = append(got.Tokens, anchored.Token{Authority: w.c.Authorities[i].Name, Raw: raw})
			news = true
		}
	}
	// What is kept is judged once more, as it will be when it goes out.
	if _, _, err := got.Verify(w.c.Policy, w.judges()); err != nil {
		return nil, false, err
	}
	return got, news, nil
}

// save writes a record, unless the store holds a newer one. After a failure the
// record is written again by the next Step: an outcome that is unknown becomes
// known by that.
func (w *Worker) save(ctx context.Context, r *anchored.Record) error {
	w.unsaved = r
	raw, err := r.Encode()
	if err != nil {
		w.unsaved = nil // it will never do
		return err
	}
	size := r.Note.Checkpoint().Size
	err = blob.Replace(ctx, w.c.Store, anchored.Key, func(current []byte) ([]byte, error) {
		there, err := anchored.Parse(current)
		if err == nil && there.Note.Checkpoint().Origin == w.c.Origin && there.Note.Checkpoint().Size > size {
			return nil, errOvertaken
		}
		return raw, nil
	})
	if errors.Is(err, errOvertaken) {
		w.unsaved, w.loaded = nil, false
		return err
	}
	if err != nil {
		return fmt.Errorf("keep the anchored checkpoint: %w", err)
	}
	w.newest, w.unsaved = r, nil
	w.metrics.anchored(r)
	w.log.InfoContext(ctx, "checkpoint anchored", "size", size, "tokens", len(r.Tokens), "missing", w.missing(r))
	return nil
}

// report counts who has answered, and logs when that changes.
func (w *Worker) report(ctx context.Context, target, got *anchored.Record, refused error, errs []error) {
	say := func(name string, had, has bool, err error) {
		if had {
			return // nobody asked
		}
		w.metrics.asked(name, has)
		text := ""
		if !has {
			text = "failed"
		}
		if w.said[name] != text {
			w.said[name] = text
			if has {
				w.log.InfoContext(ctx, "an anchor answers again", "anchor", name)
			} else {
				w.log.WarnContext(ctx, "an anchor does not answer", "anchor", name, "error", err)
			}
		}
	}
	for i := range w.c.Witnesses {
		v := &w.c.Witnesses[i]
		say(v.Name, v.signed(target.Note), v.signed(got.Note), refused)
	}
	for i := range w.c.Authorities {
		name := w.c.Authorities[i].Name
		say(name, target.Token(name) != nil, got.Token(name) != nil, errs[i])
	}
}
