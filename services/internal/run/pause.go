package run

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"time"
)

// Pause waits for d, or until ctx ends; then it returns the context's error.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Backoff is the pause behind a failed attempt, counted from 1: between half and
// all of first, doubled with each attempt up to longest, so that many callers do
// not come back together.
func Backoff(attempt int, first, longest time.Duration) time.Duration {
	const most = 16 // doublings, far beyond what any caller waits for
	d := min(first<<min(attempt-1, most), longest)
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	return d - d/2*time.Duration(binary.BigEndian.Uint16(b[:]))>>16
}
