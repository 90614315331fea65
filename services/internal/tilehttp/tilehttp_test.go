package tilehttp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	apitile "github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tilehttp"
)

// server answers paths from a map, or as a test says.
type server struct {
	*httptest.Server

	mu    sync.Mutex
	paths []string
	do    func(w http.ResponseWriter, r *http.Request)
}

func newServer(t *testing.T, do func(w http.ResponseWriter, r *http.Request)) *server {
	t.Helper()
	s := &server{do: do}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.paths = append(s.paths, r.URL.EscapedPath())
		s.mu.Unlock()
		s.do(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.paths
	s.paths = nil
	return got
}

// source reads from a server without waiting; waits are collected.
func source(t *testing.T, url string, waits *[]time.Duration) *tilehttp.Source {
	t.Helper()
	s, err := tilehttp.New(tilehttp.Config{
		URL: url, Attempts: 3, Backoff: time.Second, MaxBackoff: 3 * time.Second,
		Pause: func(ctx context.Context, d time.Duration) error {
			if waits != nil {
				*waits = append(*waits, d)
			}
			return ctx.Err()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKeys(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/log/v1/") {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, r.URL.Path)
	})
	digest := strings.Repeat("ab", 32)
	for key, want := range map[string]string{
		"checkpoint":                "/log/checkpoint",
		"tile/0/x001/234":           "/log/tile/0/x001/234",
		"tile/0/000.p/17":           "/log/tile/0/000.p/17",
		"tile/entries/000":          "/log/tile/entries/000",
		"tile/entries/x001/234.p/5": "/log/tile/entries/x001/234.p/5",
		"beacon/" + digest:          "/log/v1/beacons/" + digest + " /log/beacon/" + digest,
		"candidate":                 "",
		"tail/head":                 "",
		"tail/0-0":                  "",
		"other":                     "",
	} {
		got, err := source(t, s.URL+"/log/", nil).Get(t.Context(), key)
		asked := strings.Join(s.asked(), " ")
		if asked != want {
			t.Errorf("%s: asked for %q, expected %q", key, asked, want)
		}
		if want == "" && !errors.Is(err, blob.ErrNotFound) || want != "" && (err != nil || !strings.HasSuffix(want, string(got))) {
			t.Errorf("%s: %q, %v", key, got, err)
		}
	}
	for _, key := range []string{
		"", "/checkpoint", "tile/0/../0/000", "tile/0/0", "tile/0/1000", "tile/64/000", "tile/0/000.p/0", "tile/0/000.p/256", "tile/",
		"tile/0/000?a", "tile/0/000#a", "tile/0/%30", "..", "a//b",
	} {
		if _, err := source(t, s.URL, nil).Get(t.Context(), key); !errors.Is(err, blob.ErrKey) {
			t.Errorf("%q: %v, expected ErrKey", key, err)
		}
		if asked := s.asked(); len(asked) > 0 {
			t.Errorf("%q was asked for as %q", key, asked)
		}
	}
}

// TestAnswers: what is tried again, what is not, and what it is reported as.
func TestAnswers(t *testing.T) {
	status := func(code int) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, tt := range map[string]struct {
		do       func(w http.ResponseWriter, r *http.Request)
		attempts int
		missing  bool
	}{
		"not found":  {status(http.StatusNotFound), 1, true},
		"gone":       {status(http.StatusGone), 1, true},
		"forbidden":  {status(http.StatusForbidden), 1, false},
		"no content": {status(http.StatusNoContent), 1, false},
		"too many":   {status(http.StatusTooManyRequests), 3, false},
		"error":      {status(http.StatusInternalServerError), 3, false},
		"not ready":  {status(http.StatusServiceUnavailable), 3, false},
		"never":      {status(http.StatusNotImplemented), 1, false},
		"too long":   {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 32*17+1)) }, 1, false},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "544")
			_, _ = w.Write(make([]byte, 100))
		}, 3, false},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 4096))
			}
		}, 1, false},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 3, false},
		"to another server": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/tile", http.StatusFound)
		}, 1, false},
		"to another scheme": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+r.Host+r.URL.Path, http.StatusFound)
		}, 1, false},
		"in a circle": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, 4, false},
	} {
		s := newServer(t, tt.do)
		data, err := source(t, s.URL, nil).Get(t.Context(), "tile/0/000.p/17")
		if err == nil || errors.Is(err, blob.ErrNotFound) != tt.missing || data != nil {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
		if n := len(s.asked()); n != tt.attempts {
			t.Errorf("%s: %d attempts, expected %d", name, n, tt.attempts)
		}
	}
}

// TestTriesAgain: an answer that comes late is as good, and the server says how
// late, up to a limit.
func TestTriesAgain(t *testing.T) {
	n := 0
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		n++
		if n < 3 {
			w.Header().Set("Retry-After", map[int]string{1: "2", 2: "3600"}[n])
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "note")
	})
	var waits []time.Duration
	got, err := source(t, s.URL, &waits).Get(t.Context(), "checkpoint")
	if err != nil || string(got) != "note" {
		t.Fatalf("%q, %v", got, err)
	}
	if len(waits) != 2 || waits[0] != 2*time.Second || waits[1] != 3*time.Second {
		t.Errorf("waited %v, expected 2 s and, of the hour that was asked for, 3 s", waits)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n = 0
	s.do = func(w http.ResponseWriter, _ *http.Request) {
		n++
		cancel()
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if _, err := source(t, s.URL, nil).Get(ctx, "checkpoint"); !errors.Is(err, context.Canceled) || n != 1 {
		t.Errorf("after %d attempts: %v", n, err)
	}
}

// TestSameServer: a redirect within the server is followed.
func TestSameServer(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/moved") {
			http.Redirect(w, r, "/moved"+r.URL.Path, http.StatusMovedPermanently)
			return
		}
		fmt.Fprint(w, "note")
	})
	if got, err := source(t, s.URL, nil).Get(t.Context(), "checkpoint"); err != nil || string(got) != "note" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNew(t *testing.T) {
	const secret = "hunter2hunter2"
	for _, url := range []string{
		"", "log.test", "ftp://log.test", "http://", "http:log.test", "http://id:" + secret + "@log.test", "http://log.test?a=" + secret,
		"http://log.test/#a", "http://log.test/?", "http://[::1", "http://log.test/%zz" + secret,
	} {
		if _, err := tilehttp.New(tilehttp.Config{URL: url}); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// TestReader: a tile.Reader reads a log of every interesting size through HTTP as
// it does from the store, and the store's own keys are never asked for.
func TestReader(t *testing.T) {
	store := blob.NewMemory()
	w, err := tile.OpenWriter(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	var entries [][]byte
	for i := range uint64(66_000) {
		entries = append(entries, binary.BigEndian.AppendUint64(nil, i))
	}
	local := tile.NewReader(store)
	var size uint64
	s := newServer(t, func(rw http.ResponseWriter, r *http.Request) {
		p, err := apitile.ParsePath(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			t.Errorf("asked for %s", r.URL.Path)
		}
		var data []byte
		if p.Entries {
			data, err = local.BundleBytes(r.Context(), p, size)
		} else {
			data, err = local.TileBytes(r.Context(), p, size)
		}
		if err != nil {
			http.NotFound(rw, r)
			return
		}
		_, _ = rw.Write(data)
	})
	for _, size = range []uint64{1, 255, 256, 257, 1000, 65_535, 65_536, 65_537, 66_000} {
		if _, err := w.Append(t.Context(), entries[w.Size():size]); err != nil {
			t.Fatal(err)
		}
		at := source(t, s.URL, nil).At(size)
		tree, err := tile.NewReader(at).Tree(t.Context(), size, w.Root())
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		for _, first := range []uint64{0, size / 2, max(size, 300) - 300} {
			n := int(min(300, size-first))
			got, err := tree.Entries(t.Context(), first, n)
			if err != nil || len(got) != n || !bytes.Equal(got[0], entries[first]) || !bytes.Equal(got[n-1], entries[first+uint64(n)-1]) {
				t.Errorf("size %d, %d entries from %d: %v", size, n, first, err)
			}
		}
		if _, err := tree.Inclusion(t.Context(), size/2, size); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

func TestReadOnly(t *testing.T) {
	s := newServer(t, func(http.ResponseWriter, *http.Request) {})
	at := source(t, s.URL, nil).At(10)
	if err := at.Put(t.Context(), blob.Object{Key: "checkpoint"}); !errors.Is(err, tilehttp.ErrReadOnly) {
		t.Errorf("put: %v", err)
	}
	if err := at.Delete(t.Context(), "checkpoint"); !errors.Is(err, tilehttp.ErrReadOnly) {
		t.Errorf("delete: %v", err)
	}
	for _, err := range at.List(t.Context(), "") {
		if !errors.Is(err, tilehttp.ErrReadOnly) {
			t.Errorf("list: %v", err)
		}
	}
	for _, key := range []string{"tail/", "tail/0", "tail/0-01", "tail/00-0", "tail/9-0", "tail/x-0", "tail/entries-0-1", "tail/head", "tail/1-0"} {
		if _, err := at.Get(t.Context(), key); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if asked := s.asked(); len(asked) > 0 {
		t.Errorf("asked for %q", asked)
	}
}
