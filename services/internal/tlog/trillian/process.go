package trillian

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/trillian/log"
	"github.com/google/trillian/util/clock"
	"k8s.io/klog/v2"
)

// processOnce guards what Trillian keeps once per process: its metrics, without
// which log.IntegrateBatch dereferences nil, and klog's logger, which must not
// be set while anybody logs and otherwise writes a line to standard error for
// each batch.
var processOnce sync.Once //nolint:gochecknoglobals // the state it guards is global

func prepareProcess(logger *slog.Logger) {
	processOnce.Do(func() {
		log.InitMetrics(nil)
		klog.SetSlogLogger(slog.New(quietHandler{logger.Handler()}))
	})
}

// quietHandler passes records below error level on at debug level.
type quietHandler struct{ next slog.Handler }

// Enabled implements slog.Handler.
func (h quietHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, quiet(level))
}

// Handle implements slog.Handler.
func (h quietHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Level = quiet(r.Level)
	return h.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quietHandler{h.next.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.next.WithGroup(name)}
}

func quiet(level slog.Level) slog.Level {
	if level < slog.LevelError {
		return min(level, slog.LevelDebug)
	}
	return level
}

// rootClock never shows a time at or before that of the last root. Trillian
// refuses to write a root that is not newer than the last one, so that a clock
// that ran ahead and was put right would stop the log for as long as it had been
// ahead.
type rootClock struct {
	now   func() time.Time
	floor atomic.Int64 // time of the last root in Unix nanoseconds
}

// Now implements clock.TimeSource: the greater of the time and the last root's
// time plus one nanosecond.
func (c *rootClock) Now() time.Time {
	now := c.now()
	if least := c.floor.Load() + 1; now.UnixNano() < least {
		return time.Unix(0, least)
	}
	return now
}

// NewTimer implements clock.TimeSource. Integration uses none.
func (c *rootClock) NewTimer(d time.Duration) clock.Timer { return clock.System.NewTimer(d) }
