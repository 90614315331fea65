package run_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/trialog/trialog/services/internal/run"
)

// logTo returns a logger of everything, and where it writes to.
func logTo() (*slog.Logger, *bytes.Buffer) {
	var buf bytes.Buffer
	return slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug})), &buf
}

// answer is what came of a request, its body read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func ask(t *testing.T, url string) (answer, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, body}, err
}

// TestPanicIsAnswered: a panic before the answer is a 500, one within it cuts
// the answer off, and nothing that was sent is logged or said.
func TestPanicIsAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		cut     bool // no whole answer comes
		logged  bool
	}{
		"before the answer": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "7")
			w.Header().Set("Cache-Control", "public, immutable")
			panic(r.URL.Query().Get("q"))
		}, false, true},
		"after what precedes it": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			panic(r.URL.Query().Get("q"))
		}, false, true},
		"within the answer": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "half an")
			panic(r.URL.Query().Get("q"))
		}, true, true},
		"after the head": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			panic(r.URL.Query().Get("q"))
		}, true, true},
		"on purpose": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			logger, lines := logTo()
			server := httptest.NewUnstartedServer(nil)
			server.Config = run.Server(c.handler, logger)
			server.Start()
			got, err := ask(t, server.URL+"/?q=CANARY")
			server.Close() // and so the log is complete
			if c.cut != (err != nil) {
				t.Fatalf("answer %q, %v", got.body, err)
			}
			if !c.cut {
				checkProblem(t, got)
			}
			if logged := lines.String(); strings.Contains(logged, "request panicked") != c.logged ||
				strings.Contains(logged, "CANARY") || strings.Contains(logged, "127.0.0.1") {
				t.Errorf("logged: %s", logged)
			}
		})
	}
}

func checkProblem(t *testing.T, got answer) {
	t.Helper()
	var p map[string]any
	if err := json.Unmarshal(got.body, &p); err != nil {
		t.Fatalf("%v: %s", err, got.body)
	}
	if got.status != http.StatusInternalServerError || p["status"] != 500.0 || p["title"] == "" || p["detail"] != nil {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got.header.Get("Content-Type") != "application/problem+json" || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("header %v", got.header)
	}
}

// TestNoAddressesInTheLog: what net/http says of its clients goes to the log
// without them.
func TestNoAddressesInTheLog(t *testing.T) {
	for line, want := range map[string]string{
		"http: TLS handshake error from 192.0.2.7:4711: EOF\n":                      "http: TLS handshake error from",
		"http: TLS handshake error from [2001:db8::7]:4711: EOF":                    "http: TLS handshake error from",
		"http: panic serving 192.0.2.7:4711: text of the client\ngoroutine 1":       "http: panic serving",
		"http: Accept error: too many open files; retrying in 5ms":                  "http: Accept error: too many open files; retrying in 5ms",
		"http2: server: error reading preface from client 192.0.2.7:4711: read tcp": "http2: server: error reading preface from client",
		"http: superfluous read tcp 192.0.2.1:80->192.0.2.7:4711: connection reset": "http: superfluous read tcp",
	} {
		logger, lines := logTo()
		run.Server(http.NotFoundHandler(), logger).ErrorLog.Print(line)
		var got string
		if _, rest, ok := strings.Cut(lines.String(), "message="); ok {
			got = strings.Trim(strings.TrimSpace(rest), `"`)
		}
		if got != want || !strings.Contains(lines.String(), "level=DEBUG") {
			t.Errorf("logged %s, want the message %q", lines, want)
		}
	}
}

// TestControllersReachTheConnection: handlers set deadlines of their own.
func TestControllersReachTheConnection(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	})
	rec := httptest.NewRecorder()
	run.Server(handler, quiet()).Handler.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
	if !rec.Flushed {
		t.Error("what the handler did has not come through")
	}
}
