package run

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"
)

// Server returns an HTTP server with limits that slow or hostile clients meet. A
// handler that panics is answered for with 500, and logger gets the place. What
// net/http has to say goes to logger at level DEBUG, without addresses.
func Server(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           recovering{handler, logger},
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       2 * time.Minute,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(discreet{logger.Handler()}, slog.LevelDebug),
	}
}

// discreet hands on what net/http has to say, but for who called: that is
// nobody's business, also in logs.
type discreet struct{ slog.Handler }

// Handle implements slog.Handler. The message ends before the first word with a
// port, which is an address, and before a stack.
func (d discreet) Handle(ctx context.Context, r slog.Record) error {
	text, _, _ := strings.Cut(r.Message, "\n")
	if at := regexp.MustCompile(`\S*:\d`).FindStringIndex(text); at != nil {
		text = text[:at[0]]
	}
	out := slog.NewRecord(r.Time, r.Level, "http server", r.PC)
	out.AddAttrs(slog.String("message", strings.TrimRight(text, " :")))
	return d.Handler.Handle(ctx, out)
}

// recovering keeps a panic of one request to that request.
type recovering struct {
	handler http.Handler
	logger  *slog.Logger
}

// ServeHTTP implements http.Handler.
func (h recovering) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := &begun{ResponseWriter: w}
	defer func() {
		switch p := recover(); {
		case p == nil:
			return
		case p == http.ErrAbortHandler: //nolint:errorlint // as net/http compares it
		default:
			// The stack names functions of ours. What was thrown may hold
			// what the client sent.
			h.logger.Error("request panicked", "stack", string(debug.Stack()))
			if !out.yet {
				broken(w)
				return
			}
		}
		// Half an answer must not look like a whole one: net/http cuts the
		// connection.
		panic(http.ErrAbortHandler) //nolint:forbidigo // the way to tell net/http
	}()
	h.handler.ServeHTTP(out, r)
}

// broken answers with 500 and nothing else (RFC 9457).
func broken(w http.ResponseWriter) {
	for name := range w.Header() {
		w.Header().Del(name)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusInternalServerError)
	body, _ := json.Marshal(struct { //nolint:errchkjson // strings and a number: this cannot fail
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
	}{
		"https://trialog.dev/problems/internal-server-error",
		http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError,
	})
	// The client may be gone; there is nobody to tell.
	_, _ = w.Write(append(body, '\n'))
}

// begun knows whether an answer has begun.
type begun struct {
	http.ResponseWriter

	yet bool
}

// WriteHeader implements http.ResponseWriter. 1xx comes before the answer.
func (b *begun) WriteHeader(code int) {
	b.yet = b.yet || code >= http.StatusOK
	b.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (b *begun) Write(p []byte) (int, error) {
	b.yet = true
	return b.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController through.
func (b *begun) Unwrap() http.ResponseWriter { return b.ResponseWriter }
