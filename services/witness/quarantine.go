package witness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/trialog/trialog/services/internal/run"
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
	// looksAtOnce bounds how many logs' sources are asked at a time: of those that
	// are configured, and of each list's, so that a list of logs whose servers
	// never answer does not keep others waiting.
	looksAtOnce = 16
	// looksAgain is how often what was found is judged anew because the log has
	// moved the record on meanwhile.
	looksAgain = 3
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
	slots := make(map[string]chan struct{}) // by list
	begun := make(map[*followed]bool)
	for {
		for _, f := range w.table.Load().byOrigin {
			if state, _ := f.gate.now(); state == quarantined && !begun[f] {
				begun[f] = true
				if slots[f.list] == nil {
					slots[f.list] = make(chan struct{}, looksAtOnce)
				}
				own := slots[f.list]
				work.Go(func() { w.endQuarantine(ctx, f, own) })
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
		// Not sooner, whoever asks, since anybody can in the log's name; and not much
		// later when the log asks.
		shortest, longest := firstRetry, longRetry
		if attempt >= eager {
			shortest, longest = longRetry, slowLook
		}
		if run.Pause(ctx, shortest) != nil {
			return
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
	if need := w.needed(len(sources), l.base != nil || !w.fresh); answers < need {
		reason := fmt.Sprintf("%d of %d sources answered, expected %d", answers, len(sources), need)
		f.gate.wait(reason, nil)
		return fmt.Errorf("%s: %w", reason, asking)
	}
	err := l.judge(ctx)
	for range looksAgain {
		if !errors.Is(err, errChanged) {
			break
		}
		l = look{w: w, f: f, sources: sources}
		if err = l.record(found); err == nil {
			err = l.judge(ctx)
		}
	}
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

// needed is how many of n sources must have answered; known tells that the state
// file is not a new one, or knows the log by now.
func (w *Witness) needed(n int, known bool) int {
	if known {
		return min(n, cmp.Or(w.need[0], n/2+1))
	}
	return min(n, cmp.Or(w.need[1], n))
}
