package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/trialog/trialog/services/sequencer"
)

func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
}

func ask(t *testing.T, h http.Handler, method, target string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "/", http.NoBody)
	// As a server does, which does not clean the path.
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	r.URL, r.RequestURI = u, target
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

// TestPaths: paths go where they should, in one spelling each.
func TestPaths(t *testing.T) {
	m := newMux(named("door"), named("tiles"), named("ready"), named("list"))
	for _, c := range []struct{ method, target, want string }{
		{"GET", "/v1/log", "door"},
		{"POST", "/v1/statements", "door"},
		{"POST", "/v1/statements:prepare", "door"},
		{"PUT", "/v1/documents/ab", "door"},
		{"GET", "/checkpoint", "tiles"},
		{"POST", "/checkpoint", "tiles"}, // 405 is its answer
		{"GET", "/tile/0/000", "tiles"},
		{"GET", "/tile/entries/000.p/3", "tiles"},
		{"GET", "/v1/proofs/inclusion?index=1", "tiles"},
		{"GET", "/v1/proofs/consistency?first=1", "tiles"},
		{"GET", "/v1/beacons/00", "tiles"},
		{"GET", "/v1/entries/0", "tiles"},
		{"POST", "/v1/receipts:refresh", "tiles"},
		{"GET", "/shards/1/checkpoint", "tiles"},
		{"GET", "/shards/1/v1/entries/0", "tiles"},
		{"GET", "/v1/loglist", "list"},
		{"POST", "/v1/loglist", "door"},
		{"GET", "/healthz", "ok\n"},
		{"HEAD", "/healthz", "ok\n"},
		{"GET", "/readyz", "ready"},
		{"POST", "/readyz", "door"},
		{"GET", "/", "door"},
		{"GET", "/nothing", "door"},
		// Another spelling is another path, and nobody's.
		{"GET", "/v1//log", "door"},
		{"GET", "/./checkpoint", "door"},
		{"GET", "/v1/../checkpoint", "door"},
		{"GET", "/tile/../readyz", "tiles"},
		{"GET", "/%63heckpoint", "door"},
		{"GET", "/readyz/", "door"},
		{"GET", "/checkpoint/", "door"},
		{"GET", "/v1/entries", "door"},
		{"POST", "/v1/receipts:refresh/", "door"},
	} {
		if rec := ask(t, m, c.method, c.target); rec.Body.String() != c.want || rec.Code != http.StatusOK {
			t.Errorf("%s %s: %d from %q, want 200 from %q", c.method, c.target, rec.Code, rec.Body, c.want)
		}
	}
}

// TestReadyz: everybody learns whether and why not, the log's operator what was
// found, once.
func TestReadyz(t *testing.T) {
	var lines bytes.Buffer
	var state error
	ready := newReadiness(func() error { return state }, slog.New(slog.NewTextHandler(&lines, nil)))
	m := newMux(named("door"), named("tiles"), ready, named("list"))
	found := errors.New("open /secret/place/tail-0: input/output error")
	for _, c := range []struct {
		state  error
		status int
		want   string
		logged bool
	}{
		{sequencer.ErrNotReady, 503, `{"reason":"starting","state":"not-ready"}`, true},
		{fmt.Errorf("%w: the key is not enrolled", errStarting), 503, `{"reason":"starting","state":"not-ready"}`, true},
		{nil, 200, `{"state":"ready"}`, false},
		{nil, 200, `{"state":"ready"}`, false},
		{&sequencer.RefusedError{Reason: sequencer.Rollback, Err: found}, 503, `{"reason":"rollback","state":"not-ready"}`, true},
		{&sequencer.RefusedError{Reason: sequencer.Rollback, Err: found}, 503, `{"reason":"rollback","state":"not-ready"}`, false},
		{fmt.Errorf("run: %w", &sequencer.RefusedError{Reason: sequencer.Corrupt, Err: found}), 503, `{"reason":"corrupt","state":"not-ready"}`, true},
		{found, 503, `{"reason":"stopped","state":"not-ready"}`, true},
		{nil, 200, `{"state":"ready"}`, false},
		{found, 503, `{"reason":"stopped","state":"not-ready"}`, true},
	} {
		state = c.state
		lines.Reset()
		rec := ask(t, m, http.MethodGet, "/readyz")
		if rec.Code != c.status || strings.TrimSpace(rec.Body.String()) != c.want || !json.Valid(rec.Body.Bytes()) {
			t.Errorf("%v: %d %s, want %d %s", c.state, rec.Code, rec.Body, c.status, c.want)
		}
		if rec.Header().Get("Content-Type") != "application/json" || rec.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%v: header %v", c.state, rec.Header())
		}
		if c.logged != (lines.Len() > 0) || c.logged && !strings.Contains(lines.String(), c.state.Error()) {
			t.Errorf("%v: logged %s", c.state, &lines)
		}
	}
}
