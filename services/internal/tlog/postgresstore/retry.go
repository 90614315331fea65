package postgresstore

import (
	"context"
	"errors"
	"time"

	"github.com/trialog/trialog/services/internal/tlog"
)

// retry calls f until it succeeds, fails for good, or patience is at its end. Each
// attempt has a deadline of its own.
func retry(ctx context.Context, patience time.Duration, doing string, f func(context.Context) error) error {
	const first, longest = 5 * time.Millisecond, 500 * time.Millisecond
	end := time.NewTimer(patience)
	defer end.Stop()
	for pause := first; ; pause = min(2*pause, longest) {
		err := attempt(ctx, patience, doing, f)
		if err == nil || permanent(err) {
			return err
		}
		select {
		case <-end.C: // asked first, or chance decides between it and the pause
			return err
		default:
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-end.C:
			return err
		case <-time.After(pause):
		}
	}
}

// attempt calls f once with a deadline: a server that has gone silent, or a network
// that drops everything, answers neither yes nor no. What the deadline ended, and
// not the caller, is tlog.ErrUnavailable. f gives its commits a deadline of their
// own, so that with this one nothing was stored.
func attempt(ctx context.Context, patience time.Duration, doing string, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := f(limited)
	if err == nil || ctx.Err() != nil {
		return err
	}
	cause := err
	if own, ok := errors.AsType[*callerError](err); ok && limited.Err() != nil {
		cause = own.err
	}
	// Or the deadline of making a connection, which is no more the caller's.
	if !errors.Is(cause, context.DeadlineExceeded) || errors.Is(cause, tlog.ErrUnknownOutcome) {
		return err
	}
	return outOfTime(doing)
}
