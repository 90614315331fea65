package fsck_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/trialog/trialog/api/fsck"
)

// serve serves a log, with some answers changed.
func serve(t *testing.T, l *log, answer func(path string) (status int, ok bool)) fsck.Source {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/logs/a/")
		if status, ok := answer(path); ok {
			rw.WriteHeader(status)
			return
		}
		data, ok := l.files[path]
		if !ok {
			http.NotFound(rw, r)
			return
		}
		_, _ = rw.Write(data)
	}))
	t.Cleanup(server.Close)
	source, err := fsck.HTTP(server.URL+"/logs/a/", server.Client())
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	l := statements().at(t, 700)
	on := func(s fsck.Source) func(*fsck.Config) { return func(c *fsck.Config) { c.Source = s } }
	var busy atomic.Int32
	clean := serve(t, l, func(path string) (int, bool) {
		// The first answer for one path is that the server is busy.
		return http.StatusServiceUnavailable, path == "tile/0/001" && busy.Add(1) == 1
	})
	if r := l.check(t, nil, on(clean)); !r.Clean() || busy.Load() != 2 {
		t.Errorf("asked %d times:\n%s", busy.Load(), places(r))
	}
	// A log that verifies what it gives out answers 500 for what is damaged.
	refusing := serve(t, l, func(path string) (int, bool) { return http.StatusInternalServerError, path == "tile/entries/001" })
	f := only(t, l.check(t, nil, on(refusing)), "a server that refuses")
	if f.Kind != fsck.KindUnreadable || f.Object != "tile/entries/001" || *f.Entry != 256 || f.Entries != 256 {
		t.Errorf("a server that refuses: %+v", f)
	}
	cfg := l.config()
	cfg.Source = serve(t, l, func(path string) (int, bool) { return http.StatusInternalServerError, path == "checkpoint" })
	if _, err := fsck.Check(t.Context(), cfg); err == nil {
		t.Error("a server without a checkpoint: no error")
	}
	for _, base := range []string{"", "log.example", "ftp://log.example", "https://", "https://log.example/?a=b", "https://log.example/#a", "://"} {
		if _, err := fsck.HTTP(base, nil); err == nil {
			t.Errorf("%q: no error", base)
		}
	}
}

// TestGone: a server that is gone is no damage.
func TestGone(t *testing.T) {
	t.Parallel()
	l := tall().at(t, 65536)
	cfg := l.config()
	cfg.TreeOnly = true
	cfg.Source = serve(t, l, func(path string) (int, bool) { return http.StatusForbidden, strings.HasPrefix(path, "tile/") })
	if r, err := fsck.Check(t.Context(), cfg); err == nil || r.Complete {
		t.Errorf("%v, complete %v", err, r.Complete)
	}
}

func TestFolder(t *testing.T) {
	t.Parallel()
	l := statements().at(t, 300)
	dir := t.TempDir()
	for name, data := range l.files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	on := func(c *fsck.Config) { c.Source = fsck.FS(root.FS()) }
	if r := l.check(t, nil, on); !r.Clean() {
		t.Errorf("found\n%s", places(r))
	}
	// A link out of the folder is not followed.
	path := filepath.Join(dir, "tile", "entries", "000")
	outside := filepath.Join(t.TempDir(), "000")
	if err := errors.Join(os.Rename(path, outside), os.Symlink(outside, path)); err != nil {
		t.Fatal(err)
	}
	if f := only(t, l.check(t, nil, on), "a link"); f.Kind != fsck.KindUnreadable || f.Object != "tile/entries/000" {
		t.Errorf("a link: %v", f)
	}
}

// TestEnds: a check ends when its caller has seen enough or goes away.
func TestEnds(t *testing.T) {
	t.Parallel()
	l := statements().at(t, 700)
	change := files{}
	for _, path := range []string{"tile/0/000", "tile/0/001", "tile/entries/000", "tile/entries/001"} {
		change[path] = nil
	}
	seen := 0
	r := l.check(t, change, func(c *fsck.Config) { c.OnFinding = func(fsck.Finding) bool { seen++; return false } })
	if r.Complete || seen == 0 || r.Clean() {
		t.Errorf("%d seen, complete %v", seen, r.Complete)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fsck.Check(ctx, l.config()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := fsck.Check(t.Context(), fsck.Config{}); err == nil {
		t.Error("no source: no error")
	}
}

// TestRange: a part of the log is checked with all that is above it.
func TestRange(t *testing.T) {
	t.Parallel()
	l := tall().at(t, 65536+3*256+77)
	for _, tt := range []struct {
		from, to, entries uint64
		damage            string
		found             int
	}{
		{0, 256, 256, "tile/entries/000", 1},
		{0, 256, 256, "tile/entries/001", 0},
		{256, 1024, 768, "tile/0/003", 1},
		{256, 1024, 768, "tile/0/004", 0},
		{65536, 0, 3*256 + 77, "tile/entries/258", 1},
		{65536, 65537, 256, "tile/entries/257", 0},
		{65536 + 3*256, 0, 77, "tile/entries/259.p/77", 1},
		{0, 1, 256, "tile/1/000", 1},
		{65536, 0, 3*256 + 77, "tile/1/001.p/3", 1},
	} {
		in := func(c *fsck.Config) { c.From, c.To = tt.from, tt.to }
		if r := l.check(t, nil, in); !r.Clean() || r.Entries != tt.entries {
			t.Errorf("%d to %d: %d entries\n%s", tt.from, tt.to, r.Entries, places(r))
		}
		r := l.check(t, files{tt.damage: flip(l.files[tt.damage], 50, 1)}, in)
		if len(r.Findings) != tt.found || tt.found > 0 && r.Findings[0].Object != tt.damage {
			t.Errorf("%d to %d, damage in %s: found\n%s", tt.from, tt.to, tt.damage, places(r))
		}
	}
}
