package mirror_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apitile "github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tilehttp"
	"github.com/trialog/trialog/services/mirror"
)

// damages are ways to spoil an object of which every byte counts.
func damages(data []byte) map[string][]byte {
	flip := func(i int) []byte {
		d := bytes.Clone(data)
		d[i] ^= 0x10
		return d
	}
	return map[string][]byte{
		"first byte": flip(0), "middle byte": flip(len(data) / 2), "last byte": flip(len(data) - 1),
		"emptied": {}, "cut": data[:len(data)-1], "cut by half": data[:len(data)/2], "garbage": bytes.Repeat([]byte{0xff}, len(data)),
		"missing": nil,
	}
}

// TestDamagedSource spoils each object of the source in each way. The mirror
// never publishes what does not verify, names the object, goes on serving what it
// has, and heals when the source does. An object that it does not need may be
// spoilt unnoticed: then the copy is right all the same.
func TestDamagedSource(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	first := s.grow(t, 290).publish(t)
	before := blob.NewMemory()
	if err := newMirror(t, s.config(tile.FromStore(s.store), before)).Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := s.grow(t, 800).publish(t)
	noticed := map[string]int{}
	for _, key := range served(keysOf(t, s.store, "")) {
		whole, err := s.store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		for how, data := range damages(whole) {
			name := fmt.Sprintf("%s: %s", key, how)
			store := blob.NewMemory()
			for _, k := range keysOf(t, before, "") {
				d, _ := before.Get(t.Context(), k)
				put(t, store, k, d)
			}
			from := &flawed{Store: s.store}
			from.set(func(k string, d []byte, err error) ([]byte, error) {
				switch {
				case k != key:
					return d, err
				case data == nil:
					return nil, fmt.Errorf("%s: %w", k, blob.ErrNotFound)
				}
				return data, nil
			})
			m := newMirror(t, s.config(from, store))
			err := m.Step(t.Context())
			st := m.State()
			switch {
			case err == nil:
				s.holds(t, store, second)
			case data == nil && st.Reason != mirror.Unavailable && st.Reason != mirror.Unverifiable:
				t.Errorf("%s: %+v", name, st)
			case data != nil && (st.Reason != mirror.Unverifiable || st.Object != key && st.Object != "right edge"):
				t.Errorf("%s: %+v", name, st)
			default:
				noticed[key]++
				s.holds(t, store, first)
			}
			from.set(nil)
			if err := m.Step(t.Context()); err != nil {
				t.Errorf("%s: does not heal: %v", name, err)
				continue
			}
			s.holds(t, store, second)
		}
	}
	// The mirror has the first bundle; all the rest it must read.
	for _, key := range []string{"checkpoint", "tile/entries/001", "tile/entries/002", "tail/entries-3", "tile/0/001", "tail/0-3", "tail/1-0"} {
		if noticed[key] < len(damages([]byte("xx")))-1 {
			t.Errorf("%s: %d of its damages were noticed", key, noticed[key])
		}
	}
}

// TestDamagedBeacon: a note whose digest is not its name is not kept. One that is
// missing holds nothing up, and is fetched when it is there.
func TestDamagedBeacon(t *testing.T) {
	t.Parallel()
	s, store := newSource(t), blob.NewMemory()
	s.grow(t, 10).publish(t)
	note := s.grow(t, 40).publish(t)
	from := &flawed{Store: s.store}
	m := newMirror(t, s.config(from, store))
	for _, bad := range [][]byte{note, []byte("no note"), bytes.Repeat(note, 100)} {
		from.set(func(key string, d []byte, err error) ([]byte, error) {
			if strings.HasPrefix(key, "beacon/") {
				return bad, nil
			}
			return d, err
		})
		err := m.Step(t.Context())
		if err == nil || m.State().Reason != mirror.Unverifiable || !strings.HasPrefix(m.State().Object, "beacon/") {
			t.Errorf("%v, %+v", err, m.State())
		}
		if kept := keysOf(t, store, "beacon/"); len(kept) > 0 {
			t.Errorf("kept %v", kept)
		}
	}
	from.set(func(key string, d []byte, err error) ([]byte, error) {
		if strings.HasPrefix(key, "beacon/") {
			return nil, blob.ErrNotFound
		}
		return d, err
	})
	for range 2 {
		if err := m.Step(t.Context()); err != nil {
			t.Fatalf("without the beacon: %v", err)
		}
	}
	s.holds(t, store, note)
	if n := len(keysOf(t, store, "beacon/")); n != 0 {
		t.Errorf("%d beacons", n)
	}
	from.set(nil)
	if err := m.Step(t.Context()); err != nil || len(keysOf(t, store, "beacon/")) != 1 {
		t.Errorf("the beacon is there now: %v, %v", keysOf(t, store, "beacon/"), err)
	}
}

// TestUnjudgeableNotes: what does not satisfy the policy is refused, and is no
// evidence against anybody.
func TestUnjudgeableNotes(t *testing.T) {
	t.Parallel()
	s, store := newSource(t), blob.NewMemory()
	note := s.grow(t, 40).publish(t)
	m := newMirror(t, s.config(tile.FromStore(s.store), store))
	if err := m.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.grow(t, 60)
	next := s.sign(t, s.head(), 9)
	lines := bytes.SplitAfter(next, []byte("\n"))
	for name, bad := range map[string][]byte{
		"without the witness": bytes.Join(lines[:len(lines)-2], nil),
		"garbage":             []byte("hello"),
		"nothing":             {},
		"long":                append(bytes.Clone(next), "— x "+base64.StdEncoding.EncodeToString(make([]byte, 120_000))+"\n"...),
		"renamed":             bytes.Replace(next, []byte(origin), []byte(otherShard), 1),
		"of another shard":    newSourceOf(t, otherShard).grow(t, 60).publish(t),
	} {
		put(t, s.store, "checkpoint", bad)
		if err := m.Step(t.Context()); err == nil || m.State().Reason != mirror.Unverifiable || m.State().Object != "checkpoint" {
			t.Errorf("%s: %v, %+v", name, err, m.State())
		}
		s.holds(t, store, note)
	}
	if evidence := keysOf(t, store, "evidence/"); len(evidence) > 0 {
		t.Errorf("evidence %v", evidence)
	}
}

// TestDamagedOwnStore: a mirror does not build on a copy that is not its own, and
// says so.
func TestDamagedOwnStore(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	s.grow(t, 300).publish(t)
	whole := blob.NewMemory()
	if err := newMirror(t, s.config(tile.FromStore(s.store), whole)).Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.grow(t, 400).publish(t)
	for _, key := range []string{"checkpoint", "mirror/target", "tail/head", "tail/0-1", "tail/entries-1", "tile/entries/000", "tile/0/000"} {
		store := blob.NewMemory()
		for _, k := range keysOf(t, whole, "") {
			d, _ := whole.Get(t.Context(), k)
			if k == key {
				d = append([]byte{d[0] ^ 1}, d[1:]...)
			}
			put(t, store, k, d)
		}
		m := newMirror(t, s.config(tile.FromStore(s.store), store))
		if err := m.Run(t.Context()); err == nil || m.State().Reason != mirror.Damaged {
			t.Errorf("%s: %v, %+v", key, err, m.State())
		}
	}
}

// overHTTP serves the published tree of a source as C2SP tlog-tiles.
func overHTTP(t *testing.T, s *source) http.Handler {
	r := tile.NewReader(s.store)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		key := strings.Replace(req.URL.Path[1:], "v1/beacons/", "beacon/", 1)
		data, err := s.store.Get(req.Context(), key)
		if p, bad := apitile.ParsePath(key); bad == nil {
			if p.Entries {
				data, err = r.BundleBytes(req.Context(), p, s.writer.Size())
			} else {
				data, err = r.TileBytes(req.Context(), p, s.writer.Size())
			}
		}
		if err != nil {
			http.NotFound(w, req)
			return
		}
		if _, err := w.Write(data); err != nil {
			t.Error(err)
		}
	})
}

// TestOverHTTP follows a server that is away, hangs, sends too much, and refuses
// the first request for each object.
func TestOverHTTP(t *testing.T) {
	t.Parallel()
	s, store := newSource(t), blob.NewMemory()
	good := overHTTP(t, s)
	var mode atomic.Int64
	var asked sync.Map
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch mode.Load() {
		case 1:
			http.Error(w, "away", http.StatusBadGateway)
			return
		case 2:
			if _, again := asked.LoadOrStore(r.URL.Path, true); !again {
				http.Error(w, "busy", http.StatusServiceUnavailable)
				return
			}
		case 3:
			select {
			case <-hang:
			case <-r.Context().Done():
			}
			return
		case 4:
			_, _ = w.Write(make([]byte, 20<<20))
			return
		}
		good.ServeHTTP(w, r)
	}))
	defer server.Close()
	defer close(hang)
	from, err := tilehttp.New(tilehttp.Config{
		URL: server.URL, Timeout: 200 * time.Millisecond, Attempts: 3,
		Pause: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	if err != nil {
		t.Fatal(err)
	}
	m := newMirror(t, s.config(from, store))
	var note []byte
	for i, size := range []uint64{5, 300, 600, 2900} {
		next := s.grow(t, size).publish(t)
		for _, bad := range []int64{1, 3, 4} {
			mode.Store(bad)
			if err := m.Step(t.Context()); err == nil || m.State().Reason != mirror.Unavailable {
				t.Errorf("size %d, mode %d: %v, %+v", size, bad, err, m.State())
			}
			if i > 0 {
				s.holds(t, store, note)
			}
		}
		mode.Store(2 * int64(i%2))
		if err := m.Step(t.Context()); err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		s.holds(t, store, next)
		note = next
	}
	s.sameLog(t, store)
}
