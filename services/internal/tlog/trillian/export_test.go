package trillian

import "log/slog"

// QuietHandler is what Trillian's messages go through.
func QuietHandler(next slog.Handler) slog.Handler { return quietHandler{next} }
