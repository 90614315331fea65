package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/trialog/trialog/services/sequencer"
)

// mux puts the door, the tiles and the state of the process behind one address.
type mux struct{ door, tiles, healthy, ready, list http.Handler }

func newMux(door, tiles, ready, list http.Handler) *mux {
	healthy := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	return &mux{door: door, tiles: tiles, healthy: healthy, ready: ready, list: list}
}

// ServeHTTP implements http.Handler.
func (m *mux) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.route(r).ServeHTTP(w, r) }

// route does not use http.ServeMux: that cleans paths and redirects, and here a
// path has one spelling. What is nobody's the door refuses, in its own words.
func (m *mux) route(r *http.Request) http.Handler {
	path := r.URL.EscapedPath()
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case path == "/healthz" && reads:
		return m.healthy
	case path == "/readyz" && reads:
		return m.ready
	case path == "/v1/loglist" && reads:
		return m.list
	case isTrust(path) && reads:
		return m.list
	case path == "/checkpoint", path == "/v1/receipts:refresh":
		return m.tiles
	}
	for _, prefix := range []string{"/shards/", "/tile/", "/v1/proofs/", "/v1/beacons/", "/v1/entries/"} {
		if strings.HasPrefix(path, prefix) {
			return m.tiles
		}
	}
	return m.door
}

// readiness answers whether statements are taken in. Everybody may ask, so it
// says why not in a word; what was found goes to the log, once.
type readiness struct {
	ask func() error // nil if they are
	log *slog.Logger

	mu   sync.Mutex
	told string // what was logged last
}

func newReadiness(ask func() error, logger *slog.Logger) *readiness {
	return &readiness{ask: ask, log: logger}
}

// ServeHTTP implements http.Handler.
func (s *readiness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	state := map[string]string{"state": "ready"}
	err := s.ask()
	if err != nil {
		state = map[string]string{"state": "not-ready", "reason": reasonOf(err)}
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	s.tell(r.Context(), err)
	body, _ := json.Marshal(state) //nolint:errchkjson // strings: this cannot fail
	// The client may be gone; there is nobody to tell.
	_, _ = w.Write(append(body, '\n'))
}

// tell logs why nothing is taken in, unless that was what it logged last.
func (s *readiness) tell(ctx context.Context, err error) {
	detail := ""
	if err != nil {
		detail = err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if detail != s.told && err != nil {
		s.log.WarnContext(ctx, "not ready", "reason", reasonOf(err), "detail", detail)
	}
	s.told = detail
}

// errStarting says that the log is not yet as it will be.
var errStarting = errors.New("starting")

// reasonOf returns why nothing is taken in, in a word that names nothing of this
// machine.
func reasonOf(err error) string {
	if refused, ok := errors.AsType[*sequencer.RefusedError](err); ok {
		return string(refused.Reason)
	}
	if e, ok := errors.AsType[*notFollowedError](err); ok {
		return string(e.reason)
	}
	if errors.Is(err, errStarting) || errors.Is(err, sequencer.ErrNotReady) {
		return "starting"
	}
	if errors.Is(err, sequencer.ErrEnded) {
		return "ended"
	}
	return "stopped"
}
