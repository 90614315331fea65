package proofs_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	apitile "github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/proofs"
)

const immutable = "public, max-age=31536000, immutable"

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	s := l.serve(t)
	problem(t, s.get(t, "/checkpoint"), http.StatusNotFound, "")
	problem(t, s.get(t, "/tile/0/000.p/1"), http.StatusNotFound, "")
	if s.Ready(t.Context()) == nil {
		t.Error("ready without a checkpoint")
	}
	for _, size := range []uint64{0, 1, 300, 300, 1000} {
		note := l.grow(t, size).publish(t)
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			rec := s.do(t, method, "/checkpoint")
			if rec.Code != http.StatusOK || !bytes.Equal(rec.Body.Bytes(), note) {
				t.Fatalf("size %d: %d %s", size, rec.Code, rec.Body)
			}
			h := rec.Header()
			if h.Get("Content-Type") != "text/plain; charset=utf-8" || h.Get("Cache-Control") != "no-cache" {
				t.Errorf("size %d: header %v", size, h)
			}
		}
		if err := s.Ready(t.Context()); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
	}
	if lines := s.lines.take(); lines != "" {
		t.Errorf("logged: %s", lines)
	}
}

// TestTiles asks for every tile and bundle of every width around the published
// size, while the writer is ahead of it.
func TestTiles(t *testing.T) {
	t.Parallel()
	const published, durable = 600, 900
	l := newLog(t).grow(t, published)
	l.publish(t)
	l.grow(t, durable)
	s := l.serve(t)
	var leaves, entries [][]byte // as they are served
	for i := range uint64(durable) {
		h := tile.LeafHash(entryAt(i))
		e, err := apitile.AppendEntry(nil, entryAt(i))
		if err != nil {
			t.Fatal(err)
		}
		leaves, entries = append(leaves, h[:]), append(entries, e)
	}
	for n := range 4 {
		for width := 1; width <= 256; width++ {
			suffix := ""
			if width < 256 {
				suffix = fmt.Sprintf(".p/%d", width)
			}
			end := n*256 + width
			for kind, all := range map[string][][]byte{"0": leaves, "entries": entries} {
				rec := s.get(t, fmt.Sprintf("/tile/%s/%03d%s", kind, n, suffix))
				if end > published {
					problem(t, rec, http.StatusNotFound, "path")
					continue
				}
				want := bytes.Join(all[n*256:end], nil)
				if rec.Code != http.StatusOK || !bytes.Equal(rec.Body.Bytes(), want) {
					t.Fatalf("tile/%s/%03d%s: %d, %d bytes, want %d", kind, n, suffix, rec.Code, rec.Body.Len(), len(want))
				}
				h := rec.Header()
				if h.Get("Content-Type") != "application/octet-stream" || h.Get("Cache-Control") != immutable ||
					h.Get("Content-Length") != strconv.Itoa(len(want)) {
					t.Errorf("tile/%s/%03d%s: header %v", kind, n, suffix, h)
				}
			}
		}
	}
	for path, want := range map[string]int{
		"/tile/1/000.p/1": 200, "/tile/1/000.p/2": 200, "/tile/1/000.p/3": 404, "/tile/1/000": 404, "/tile/2/000.p/1": 404,
		"/tile/63/000.p/1": 404, "/tile/0/x999/999": 404,
	} {
		if rec := s.get(t, path); rec.Code != want {
			t.Errorf("%s: %d, want %d", path, rec.Code, want)
		}
	}
}

// TestOnlyCanonicalPaths sends spellings over HTTP of which a lenient server, or
// a mux that cleans paths, would take some.
func TestOnlyCanonicalPaths(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 600)
	l.publish(t)
	s := l.serve(t)
	paths := []string{
		"/", "//", "/checkpoint/", "//checkpoint", "/Checkpoint", "/checkpoint.", "/%63heckpoint", "/checkpoint%20", "/./checkpoint",
		"/x/../checkpoint", "/checkpoint%00", "/tile", "/tile/", "/tail/head", "/tail/0-2", "/tile/../tail/head", "/.scratch/lock",
		"/tile/%2e%2e/tail/head", "/tile/..%2ftail%2fhead", "/v1", "/v1/", "/v1/proofs", "/v1/proofs/", "/v1/proofs/inclusion/",
		"/v1//proofs/inclusion?index=0", "/v1/entries", "/v1/entries/", "/v1/entries/00", "/v1/entries/0/", "/v1/entries/-1",
		"/v1/entries/+1", "/v1/entries/%30", "/v1/entries/0x1", "/v1/entries/1e1", "/v1/entries/18446744073709551616",
		"/v1/beacons/", "/v1/beacons/00", "/v1/beacons/" + strings.Repeat("A", 64), "/v1/beacons/" + strings.Repeat("0", 63) + "/",
		"/v1/beacons/../checkpoint", "/v1/beacons/..%2f..%2fcheckpoint", "/v1/beacons/" + strings.Repeat("0", 66),
		"/v1/beacons/" + strings.Repeat("%30", 64),
	}
	for _, canonical := range []string{
		"/tile/0/000", "/tile/0/001.p/9", "/tile/1/000.p/2", "/tile/entries/000", "/tile/entries/001.p/255", "/tile/entries/002.p/88",
	} {
		if rec := s.get(t, canonical); rec.Code != http.StatusOK {
			t.Fatalf("%s: %d", canonical, rec.Code)
		}
		rest := strings.TrimPrefix(canonical, "/tile/")
		level, index, _ := strings.Cut(rest, "/")
		paths = append(paths,
			canonical+"/", "/"+canonical, canonical+"//", canonical+"/.", canonical+"/..", "/."+canonical, "/x/.."+canonical,
			"/tile//"+rest, "/tile/./"+rest, "/tile/x/../"+rest, "/tile/%2e/"+rest, "/tile/%2E%2E/tile/"+rest, "/TILE/"+rest,
			"/tile/0"+rest, "/tile/+"+rest, "/tile/%30"+rest, "/tile%2f"+rest, "/tile/"+level+"/x000/"+index, "/tile/"+level+"/X000/"+index,
			"/tile/"+level+"/0"+index, "/tile/"+level+"/"+index[1:], "/tile/"+level+"/%30"+index[1:], "/tile/"+level+"//"+index,
			"/tile/"+level+"/../"+level+"/"+index, "/tile/"+level+"%2f"+index, canonical+"%00", canonical+"%20", canonical+".gz",
			canonical+".p/0", canonical+".p/256", canonical+".p/01", canonical+".P/1", canonical+"%2ep/1", canonical+".p%2f1",
		)
	}
	if len(paths) < 200 {
		t.Errorf("%d paths, want at least 200", len(paths))
	}
	for _, path := range paths {
		rec := s.get(t, path)
		if rec.Code != http.StatusBadRequest && rec.Code != http.StatusNotFound {
			t.Errorf("%s: status %d", path, rec.Code)
		}
		if rec.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: content type %q", path, rec.Header().Get("Content-Type"))
		}
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 300)
	l.publish(t)
	s := l.serve(t)
	for _, path := range []string{"/checkpoint", "/tile/0/000", "/v1/proofs/inclusion?index=0"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} {
			rec := s.do(t, method, path)
			problem(t, rec, http.StatusMethodNotAllowed, "")
			if rec.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: Allow %q", method, path, rec.Header().Get("Allow"))
			}
		}
	}
}

// TestPrefix serves the log below a prefix.
func TestPrefix(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 300)
	l.publish(t)
	s := l.serve(t)
	s.handler = http.StripPrefix("/logs/1", s.handler)
	for path, want := range map[string]int{
		"/logs/1/checkpoint": 200, "/logs/1/tile/0/000": 200, "/logs/1/tile/0/%30%30%30": 400, "/checkpoint": 404,
	} {
		if rec := s.get(t, path); rec.Code != want {
			t.Errorf("%s: %d, want %d", path, rec.Code, want)
		}
	}
}

// TestSmallCache serves a log with a cache of one tile.
func TestSmallCache(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 1500)
	l.publish(t)
	s := l.serve(t, func(c *proofs.Config) { c.CacheTiles = 1 })
	for i := range 1500 {
		if rec := s.get(t, fmt.Sprintf("/v1/proofs/inclusion?index=%d", (i*769)%1500)); rec.Code != http.StatusOK {
			t.Fatalf("%d: %s", i, rec.Body)
		}
	}
}
