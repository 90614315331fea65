package run_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trialog/trialog/services/internal/run"
)

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if err := run.Pause(t.Context(), time.Hour); err != nil || time.Since(begin) != time.Hour {
			t.Errorf("%v after %s, expected an hour", err, time.Since(begin))
		}
		ctx, cancel := context.WithCancel(t.Context())
		begin = time.Now()
		time.AfterFunc(time.Minute, cancel)
		if err := run.Pause(ctx, time.Hour); !errors.Is(err, context.Canceled) || time.Since(begin) != time.Minute {
			t.Errorf("%v after %s, expected the context's end after a minute", err, time.Since(begin))
		}
	})
}

func TestBackoff(t *testing.T) {
	const first, longest = 100 * time.Millisecond, time.Second
	for attempt, all := range map[int]time.Duration{
		1: first, 2: 2 * first, 3: 4 * first, 4: 8 * first, 5: longest, 6: longest, 17: longest, 1 << 30: longest,
	} {
		seen := map[time.Duration]bool{}
		for range 50 {
			d := run.Backoff(attempt, first, longest)
			if d > all || d < all/2 {
				t.Errorf("attempt %d: %s, expected %s to %s", attempt, d, all/2, all)
			}
			seen[d] = true
		}
		if len(seen) < 2 {
			t.Errorf("attempt %d: always the same pause", attempt)
		}
	}
}
