package proofs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func decode(t *testing.T, body []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
}

func hashes(raw [][]byte) []tlog.Hash {
	out := make([]tlog.Hash, len(raw))
	for i := range raw {
		out[i] = tlog.Hash(raw[i])
	}
	return out
}

func TestInclusion(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 700)
	note := l.publish(t)
	l.grow(t, 800)
	s := l.serve(t)
	for size := uint64(1); size <= 700; size += 33 {
		for _, index := range []uint64{0, size / 3, size - 1} {
			for _, query := range []string{fmt.Sprintf("index=%d&size=%d", index, size), fmt.Sprintf("index=%d", index)} {
				rec := s.get(t, "/v1/proofs/inclusion?"+query)
				if rec.Code != http.StatusOK || rec.Header().Get("Content-Type") != "application/json" {
					t.Fatalf("%s: %d %s", query, rec.Code, rec.Body)
				}
				var got struct {
					Index, Size uint64
					LeafHash    []byte `json:"leafHash"`
					Root        []byte
					Hashes      [][]byte
					Checkpoint  string
				}
				decode(t, rec.Body.Bytes(), &got)
				if got.Index != index || got.Size != size && got.Size != 700 {
					t.Errorf("%s: index %d, size %d", query, got.Index, got.Size)
				}
				if (got.Checkpoint != "") != (got.Size == 700) || got.Checkpoint != "" && got.Checkpoint != string(note) {
					t.Errorf("%s: checkpoint %q", query, got.Checkpoint)
				}
				leaf := tlog.RecordHash(entryAt(index))
				if err := tlog.CheckRecord(hashes(got.Hashes), int64(got.Size), tlog.Hash(got.Root), int64(index), leaf); err != nil ||
					!bytes.Equal(leaf[:], got.LeafHash) {
					t.Errorf("%s: %v", query, err)
				}
			}
		}
	}
}

func TestConsistency(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	roots := map[uint64]tlog.Hash{}
	for size := uint64(50); size <= 700; size += 50 {
		roots[size] = tlog.Hash(l.grow(t, size).writer.Root())
	}
	note := l.publish(t)
	s := l.serve(t)
	for first := uint64(50); first <= 700; first += 50 {
		for second := first; second <= 700; second += 50 {
			query := fmt.Sprintf("first=%d&second=%d", first, second)
			if second == 700 {
				query = fmt.Sprintf("first=%d", first)
			}
			rec := s.get(t, "/v1/proofs/consistency?"+query)
			if rec.Code != http.StatusOK {
				t.Fatalf("%s: %d %s", query, rec.Code, rec.Body)
			}
			var got struct {
				First, Second uint64
				FirstRoot     []byte `json:"firstRoot"`
				SecondRoot    []byte `json:"secondRoot"`
				Hashes        [][]byte
				Checkpoint    string
			}
			decode(t, rec.Body.Bytes(), &got)
			if got.First != first || got.Second != second || tlog.Hash(got.FirstRoot) != roots[first] || tlog.Hash(got.SecondRoot) != roots[second] {
				t.Errorf("%s: %s", query, rec.Body)
			}
			if (got.Checkpoint == string(note)) != (second == 700) {
				t.Errorf("%s: checkpoint %q", query, got.Checkpoint)
			}
			if err := tlog.CheckTree(hashes(got.Hashes), int64(second), roots[second], int64(first), roots[first]); err != nil {
				t.Errorf("%s: %v", query, err)
			}
		}
	}
	if rec := s.get(t, "/v1/proofs/consistency?first=0&second=10"); rec.Code != http.StatusOK {
		t.Errorf("from the empty tree: %d %s", rec.Code, rec.Body)
	}
}

func TestEntries(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 300)
	l.publish(t)
	l.grow(t, 400)
	s := l.serve(t)
	for _, index := range []uint64{0, 255, 256, 299} {
		rec := s.get(t, fmt.Sprintf("/v1/entries/%d", index))
		if rec.Code != http.StatusOK {
			t.Fatalf("%d: %d %s", index, rec.Code, rec.Body)
		}
		var got struct {
			Index, Size uint64
			LeafHash    []byte `json:"leafHash"`
			Entry       []byte
		}
		decode(t, rec.Body.Bytes(), &got)
		leaf := tlog.RecordHash(entryAt(index))
		if got.Index != index || got.Size != 300 || !bytes.Equal(got.Entry, entryAt(index)) || !bytes.Equal(got.LeafHash, leaf[:]) {
			t.Errorf("%d: %s", index, rec.Body)
		}
	}
	problem(t, s.get(t, "/v1/entries/300"), http.StatusNotFound, "index")
	problem(t, s.get(t, "/v1/entries/18446744073709551615"), http.StatusNotFound, "index")
	problem(t, s.get(t, "/v1/entries/x"), http.StatusBadRequest, "index")
}

func TestBadQueries(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 300)
	l.publish(t)
	l.grow(t, 400)
	s := l.serve(t)
	for _, c := range []struct {
		query  string
		status int
		field  string
	}{
		{"inclusion", 400, "index"},
		{"inclusion?size=5", 400, "index"},
		{"inclusion?index=", 400, "index"},
		{"inclusion?index", 400, "index"},
		{"inclusion?index=00", 400, "index"},
		{"inclusion?index=-1", 400, "index"},
		{"inclusion?index=%2b1", 400, "index"},
		{"inclusion?index=1.0", 400, "index"},
		{"inclusion?index=0x1", 400, "index"},
		{"inclusion?index=1_0", 400, "index"},
		{"inclusion?index=%D9%A1", 400, "index"},
		{"inclusion?index=18446744073709551616", 400, "index"},
		{"inclusion?index=1&index=1", 400, "index"},
		{"inclusion?index=1&size=5&size=6", 400, "size"},
		{"inclusion?index=1&size=", 400, "size"},
		{"inclusion?index=1&size=05", 400, "size"},
		{"inclusion?index=1&Size=5", 400, "query"},
		{"inclusion?index=1&x=5", 400, "query"},
		{"inclusion?index=1;size=5", 400, "query"},
		{"inclusion?index=%zz", 400, "query"},
		{"inclusion?index=1&size=301", 404, "size"},
		{"inclusion?index=1&size=18446744073709551615", 404, "size"},
		{"inclusion?index=300", 404, "index"},
		{"inclusion?index=18446744073709551615", 404, "index"},
		{"inclusion?index=5&size=5", 400, "index"},
		{"inclusion?index=0&size=0", 400, "index"},
		{"consistency", 400, "first"},
		{"consistency?second=5", 400, "first"},
		{"consistency?first=a", 400, "first"},
		{"consistency?first=1&second=a", 400, "second"},
		{"consistency?first=1&second=301", 404, "second"},
		{"consistency?first=301", 404, "first"},
		{"consistency?first=6&second=5", 400, "first"},
		{"consistency?first=1&second=5&index=1", 400, "query"},
	} {
		t.Run(c.query, func(t *testing.T) {
			problem(t, s.get(t, "/v1/proofs/"+c.query), c.status, c.field)
		})
	}
	if lines := s.lines.take(); lines != "" {
		t.Errorf("bad requests were logged as errors: %s", lines)
	}
}

func TestBeacons(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 10)
	note := l.publish(t)
	digest := sha256.Sum256(note)
	name := hex.EncodeToString(digest[:])
	s := l.serve(t)
	problem(t, s.get(t, "/v1/beacons/"+name), http.StatusNotFound, "sha256")
	l.put(t, "beacon/"+name, note)
	rec := s.get(t, "/v1/beacons/"+name)
	if rec.Code != http.StatusOK || !bytes.Equal(rec.Body.Bytes(), note) {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	if h := rec.Header(); h.Get("Content-Type") != "text/plain; charset=utf-8" || h.Get("Cache-Control") != immutable {
		t.Errorf("header %v", h)
	}
	garbage := []byte("no note\n")
	garbageDigest := sha256.Sum256(garbage)
	garbageName := hex.EncodeToString(garbageDigest[:])
	flipped := bytes.Clone(note)
	flipped[len(flipped)/2] ^= 1
	for bad, data := range map[string][]byte{name: flipped, garbageName: garbage} {
		s.lines.take()
		l.put(t, "beacon/"+bad, data)
		problem(t, s.get(t, "/v1/beacons/"+bad), http.StatusServiceUnavailable, "")
		if lines := s.lines.take(); !strings.Contains(lines, object("beacon/"+bad)) {
			t.Errorf("logged: %q", lines)
		}
	}
}
