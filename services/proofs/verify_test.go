package proofs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/proofs"
)

// TestDamage spoils every object in several ways and asks for everything: what
// is answered with 200 must be what was answered before the damage, everything
// else must be 503, and the place must be in the log, but nothing stored.
func TestDamage(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 3*256+40)
	l.publish(t)
	targets := []string{"/checkpoint", "/tile/1/000.p/3"}
	for n := range 4 {
		suffix := map[bool]string{true: ".p/40", false: ""}[n == 3]
		targets = append(targets, fmt.Sprintf("/tile/0/%03d%s", n, suffix), fmt.Sprintf("/tile/entries/%03d%s", n, suffix))
	}
	for i := 0; i < 3*256+40; i += 41 {
		targets = append(targets, fmt.Sprintf("/v1/entries/%d", i), fmt.Sprintf("/v1/proofs/inclusion?index=%d", i),
			fmt.Sprintf("/v1/proofs/consistency?first=%d", i+1))
	}
	good := map[string][]byte{}
	s := l.serve(t)
	for _, target := range targets {
		rec := s.get(t, target)
		if rec.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", target, rec.Code, rec.Body)
		}
		good[target] = rec.Body.Bytes()
	}
	var keys []string
	for key := range l.store.List(t.Context(), "") {
		keys = append(keys, key)
	}
	for _, key := range keys {
		whole := l.get(t, key)
		for how, data := range spoiled(whole) {
			l.put(t, key, data)
			if data == nil {
				if err := l.store.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			}
			s := l.serve(t) // one that has nothing in memory
			refused := 0
			for _, target := range targets {
				rec := s.get(t, target)
				switch {
				case rec.Code == http.StatusOK && !bytes.Equal(rec.Body.Bytes(), good[target]):
					t.Errorf("%s %s: %s answers with other content", key, how, target)
				case rec.Code == http.StatusOK:
				case key == "checkpoint" && data == nil && rec.Code == http.StatusNotFound:
					refused++
				default:
					refused++
					problem(t, rec, http.StatusServiceUnavailable, "")
				}
			}
			lines := s.lines.take()
			if key == "tail/head" {
				continue // the writer's, never read here
			}
			if refused == 0 {
				t.Errorf("%s %s: nobody noticed", key, how)
			}
			named := strings.Contains(lines, object(key)) || strings.Contains(lines, `object="right edge"`)
			if !named && (key != "checkpoint" || data != nil) {
				t.Errorf("%s %s: the log does not say where: %.300s", key, how, lines)
			}
		}
		l.put(t, key, whole)
	}
}

func spoiled(data []byte) map[string][]byte {
	flip := func(i int) []byte {
		d := bytes.Clone(data)
		d[i] ^= 0x04
		return d
	}
	return map[string][]byte{
		"first byte": flip(0), "middle byte": flip(len(data) / 2), "last byte": flip(len(data) - 1),
		"cut": data[:len(data)-1], "emptied": {}, "missing": nil,
	}
}

// TestNoContentInLogs spoils an entry that holds a canary.
func TestNoContentInLogs(t *testing.T) {
	t.Parallel()
	const canary = "CANARY-of-a-patient"
	l := newLog(t)
	if _, err := l.writer.Append(t.Context(), [][]byte{[]byte(canary + "-1"), []byte(canary + "-2")}); err != nil {
		t.Fatal(err)
	}
	l.publish(t)
	key := "tail/entries-0"
	data := l.get(t, key)
	data[len(data)-1] ^= 1
	l.put(t, key, data)
	s := l.serve(t)
	rec := s.get(t, "/tile/entries/000.p/2")
	problem(t, rec, http.StatusServiceUnavailable, "")
	if lines := s.lines.take(); !strings.Contains(lines, object(key)) || strings.Contains(lines+rec.Body.String(), "CANARY") {
		t.Errorf("logged: %s", lines)
	}
	if rec := s.get(t, "/v1/entries/0"); rec.Code != http.StatusOK {
		t.Errorf("the entry beside it: %d", rec.Code)
	}
}

// TestBadCheckpoints stores notes that must not become the published one. What
// verified before goes on being served.
func TestBadCheckpoints(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 300)
	small := l.head()
	smallNote := l.sign(t, small)
	l.grow(t, 500)
	good := l.publish(t)
	other := newLog(t)
	other.keys, other.witness = l.keys, l.witness
	if _, err := other.writer.Append(t.Context(), [][]byte{[]byte("another history")}); err != nil {
		t.Fatal(err)
	}
	other.grow(t, 500)
	fork := other.sign(t, other.head())
	other.grow(t, 900)
	farFork := other.sign(t, other.head())
	alone, err := checkpoint.SignLog(l.head(), 1, l.keys...)
	if err != nil {
		t.Fatal(err)
	}
	text := alone.Text()
	cosigned, err := l.witness.SignCheckpoint(text, 1)
	if err != nil {
		t.Fatal(err)
	}
	onlyWitness, err := checkpoint.NewNote(text, cosigned)
	if err != nil {
		t.Fatal(err)
	}
	ahead := l.head()
	ahead.Size += 10
	foreign := newLog(t)
	foreign.keys = []*checkpoint.SigningKey{seeded(t, "log.example/other", checkpoint.AlgEd25519)}
	foreignHead := l.head()
	foreignHead.Origin = "log.example/other"
	for name, c := range map[string]struct {
		note []byte
		want string // in the log line
	}{
		"empty":                {nil, "checkpoint"},
		"garbage":              {[]byte("garbage"), "checkpoint"},
		"no quorum":            {alone.Bytes(), "reason"},
		"no log signature":     {onlyWitness.Bytes(), "reason"},
		"flipped signature":    {bytes.Replace(good, []byte("— witness.example "), []byte("— witness.example A"), 1), "reason"},
		"rollback":             {smallNote, "rollback"},
		"fork, same size":      {fork, "fork"},
		"fork, greater size":   {farFork, object("tail/0-3")},
		"ahead of the tiles":   {l.sign(t, ahead), object("tail/0-1")},
		"another log's origin": {foreign.sign(t, foreignHead), "lists no log"},
	} {
		t.Run(name, func(t *testing.T) {
			s := l.serve(t)
			l.put(t, "checkpoint", good)
			if err := s.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.put(t, "checkpoint", c.note)
			for range 3 {
				problem(t, s.get(t, "/checkpoint"), http.StatusServiceUnavailable, "")
			}
			if s.Ready(t.Context()) == nil {
				t.Error("ready")
			}
			lines := s.lines.take()
			if !strings.Contains(lines, c.want) {
				t.Errorf("logged: %s", lines)
			}
			// A note is judged once, and what the tiles say may change.
			if n := strings.Count(lines, "\n"); strings.Contains(lines, object("checkpoint")) && n != 1 {
				t.Errorf("%d lines for one bad note: %s", n, lines)
			}
			for _, target := range []string{"/tile/0/001.p/244", "/v1/proofs/inclusion?index=499", "/v1/entries/499"} {
				if rec := s.get(t, target); rec.Code != http.StatusOK {
					t.Errorf("%s: %d", target, rec.Code)
				}
			}
			l.put(t, "checkpoint", good)
			if rec := s.get(t, "/checkpoint"); rec.Code != http.StatusOK {
				t.Errorf("repaired: %d", rec.Code)
			}
		})
	}
}

// TestForkWithTiles replaces the store's tiles and checkpoint by those of another
// history, larger and validly signed: who served the first must refuse it.
func TestForkWithTiles(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 300)
	l.publish(t)
	s := l.serve(t)
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := newLog(t)
	if _, err := other.writer.Append(t.Context(), [][]byte{[]byte("another history")}); err != nil {
		t.Fatal(err)
	}
	other.grow(t, 700)
	other.publish(t)
	for key := range other.store.List(t.Context(), "") {
		l.put(t, key, other.get(t, key))
	}
	problem(t, s.get(t, "/checkpoint"), http.StatusServiceUnavailable, "")
	if lines := s.lines.take(); !strings.Contains(lines, "fork: the tree of size 700 does not extend that of size 300") {
		t.Errorf("logged: %s", lines)
	}
	// Nothing of the other history verifies against the first.
	problem(t, s.get(t, "/tile/entries/000"), http.StatusServiceUnavailable, "")
	problem(t, s.get(t, "/v1/entries/0"), http.StatusServiceUnavailable, "")
}

// TestBothHalvesOfThePolicy: the checkpoint is judged as verifiers judge it, by
// the tlog-policy and by what the sidecar asks for beyond it.
func TestBothHalvesOfThePolicy(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 10)
	extended := append(l.head().Body(), "an extension line\n"...)
	for name, c := range map[string]struct {
		text   []byte
		keys   []*checkpoint.SigningKey
		want   int
		reason string
	}{
		"both keys":      {l.head().Body(), l.keys, http.StatusOK, ""},
		"Ed25519 only":   {l.head().Body(), l.keys[:1], http.StatusServiceUnavailable, "ML-DSA-44"},
		"ML-DSA-44 only": {l.head().Body(), l.keys[1:], http.StatusServiceUnavailable, "Ed25519"},
		"extension line": {extended, l.keys[:1], http.StatusServiceUnavailable, "extension lines"},
	} {
		var lines []checkpoint.Signature
		for _, key := range append(slices.Clone(c.keys), l.witness) {
			line, err := key.SignCheckpoint(c.text, 1_700_000_000)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, line)
		}
		note, err := checkpoint.NewNote(c.text, lines...)
		if err != nil {
			t.Fatal(err)
		}
		l.put(t, "checkpoint", note.Bytes())
		s := l.serve(t)
		for _, target := range []string{"/checkpoint", "/v1/proofs/inclusion?index=3"} {
			if rec := s.get(t, target); rec.Code != c.want {
				t.Errorf("%s: %s: %d, want %d: %s", name, target, rec.Code, c.want, rec.Body)
			}
		}
		if lines := s.lines.take(); (lines == "") != (c.reason == "") || !strings.Contains(lines, c.reason) {
			t.Errorf("%s: logged: %s", name, lines)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	whole := proofs.Config{
		Store: l.store, Policy: l.policy, Origin: origin, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	}
	for name, change := range map[string]func(*proofs.Config){
		"store":                    func(c *proofs.Config) { c.Store = nil },
		"clock":                    func(c *proofs.Config) { c.Now = nil },
		"logger":                   func(c *proofs.Config) { c.Logger = nil },
		"no policy":                func(c *proofs.Config) { c.Policy = nil },
		"negative":                 func(c *proofs.Config) { c.Refresh = -1 },
		`no key of the log ""`:     func(c *proofs.Config) { c.Origin = "" },
		`no key of the log "log.e`: func(c *proofs.Config) { c.Origin = "log.example/none" },
	} {
		cfg := whole
		change(&cfg)
		if _, err := proofs.New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	whole.Policy = l.policyOf(t, seeded(t, "log.example/other", checkpoint.AlgEd25519).Verifier())
	if _, err := proofs.New(whole); err != nil {
		t.Errorf("a policy of two logs, and which one: %v", err)
	}
}

// TestOtherLogOfThePolicy: a note that is good, of a log that is not this one.
func TestOtherLogOfThePolicy(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 10)
	key := seeded(t, "log.example/other", checkpoint.AlgEd25519)
	head := l.head()
	head.Origin = "log.example/other"
	own := l.keys
	l.keys = []*checkpoint.SigningKey{key}
	l.put(t, "checkpoint", l.sign(t, head))
	l.keys = own
	s := l.serve(t, func(c *proofs.Config) { c.Policy = l.policyOf(t, key.Verifier()) })
	problem(t, s.get(t, "/checkpoint"), http.StatusServiceUnavailable, "")
	if lines := s.lines.take(); !strings.Contains(lines, "want") {
		t.Errorf("logged: %s", lines)
	}
}

// failingStore fails every read.
type failingStore struct{ blob.Store }

var errDisk = errors.New("disk on fire")

func (failingStore) Get(context.Context, string) ([]byte, error) { return nil, errDisk }

func TestStoreFails(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 10)
	l.publish(t)
	s := l.serve(t, func(c *proofs.Config) { c.Store = failingStore{l.store} })
	for _, target := range []string{"/checkpoint", "/tile/0/000.p/1", "/v1/entries/0", "/v1/beacons/" + strings.Repeat("0", 64)} {
		rec := s.get(t, target)
		problem(t, rec, http.StatusServiceUnavailable, "")
		if lines := s.lines.take(); !strings.Contains(lines, "disk on fire") || strings.Contains(rec.Body.String(), "fire") {
			t.Errorf("%s: logged %q, answered %s", target, lines, rec.Body)
		}
	}
}

// countingStore counts the reads of the checkpoint.
type countingStore struct {
	blob.Store
	mu    sync.Mutex
	reads int
}

func (c *countingStore) Get(ctx context.Context, key string) ([]byte, error) {
	if key == "checkpoint" {
		c.mu.Lock()
		c.reads++
		c.mu.Unlock()
	}
	return c.Store.Get(ctx, key)
}

// staleOnce gives an old checkpoint to the first who reads it.
type staleOnce struct {
	blob.Store
	old []byte
}

func (s *staleOnce) Get(ctx context.Context, key string) ([]byte, error) {
	if key == "checkpoint" && s.old != nil {
		defer func() { s.old = nil }()
		return s.old, nil
	}
	return s.Store.Get(ctx, key)
}

// TestOvertakenRead reads a checkpoint just before another request adopts the
// next one: that is no rollback.
func TestOvertakenRead(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 10)
	old := l.publish(t)
	store := &staleOnce{Store: l.store}
	s := l.serve(t, func(c *proofs.Config) { c.Store = store })
	next := l.grow(t, 20).publish(t)
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	store.old = old
	if rec := s.get(t, "/checkpoint"); rec.Code != http.StatusOK || !bytes.Equal(rec.Body.Bytes(), next) {
		t.Errorf("%d %s", rec.Code, s.lines.take())
	}
}

// TestRefresh looks for the checkpoint once an interval, and at once when asked
// for more than is held.
func TestRefresh(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 10)
	l.publish(t)
	counting := &countingStore{Store: l.store}
	now := time.Unix(1_700_000_000, 0)
	s := l.serve(t, func(c *proofs.Config) {
		c.Store, c.Refresh, c.Now = counting, time.Second, func() time.Time { return now }
	})
	expect := func(target string, status, reads int) {
		t.Helper()
		counting.reads = 0
		if rec := s.get(t, target); rec.Code != status || counting.reads > reads {
			t.Errorf("%s: %d, want %d; %d reads, want at most %d: %s", target, rec.Code, status, counting.reads, reads, rec.Body)
		}
	}
	expect("/tile/0/000.p/10", 200, 2)
	expect("/tile/0/000.p/10", 200, 0)
	expect("/v1/proofs/inclusion?index=9", 200, 0)
	expect("/tile/0/000.p/11", 404, 1)
	l.grow(t, 11).publish(t)
	expect("/v1/proofs/inclusion?index=9", 200, 0)
	expect("/tile/0/000.p/11", 200, 2)
	expect("/v1/entries/10", 200, 0)
	now = now.Add(time.Second)
	expect("/v1/entries/10", 200, 1)
	expect("/v1/entries/10", 200, 0)
	l.grow(t, 12).publish(t)
	expect("/checkpoint", 200, 2)
}

// TestReadersWhileGrowing reads from many goroutines while the log grows and
// publishes.
func TestReadersWhileGrowing(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 1)
	l.publish(t)
	s := l.serve(t)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				readWhileGrowing(t, s)
			}
		})
	}
	for size := uint64(20); size < 1200; size += 97 {
		l.grow(t, size).publish(t)
	}
	close(done)
	readers.Wait()
	if lines := s.lines.take(); lines != "" {
		t.Errorf("logged: %s", lines)
	}
}

func readWhileGrowing(t *testing.T, s *service) {
	note, err := checkpoint.Parse(s.get(t, "/checkpoint").Body.Bytes())
	if err != nil {
		t.Errorf("checkpoint: %v", err)
		return
	}
	size := note.Checkpoint().Size
	targets := []string{fmt.Sprintf("/v1/entries/%d", size-1), fmt.Sprintf("/v1/proofs/inclusion?index=%d&size=%d", size/2, size)}
	if w := size % 256; w > 0 {
		targets = append(targets, fmt.Sprintf("/tile/entries/%03d.p/%d", size/256, w), fmt.Sprintf("/tile/0/%03d.p/%d", size/256, w))
	}
	for _, target := range targets {
		if rec := s.get(t, target); rec.Code != http.StatusOK {
			t.Errorf("%s: %d %s", target, rec.Code, rec.Body)
		}
	}
}

// TestOverHTTP asks a real server, for what httptest's recorder does not do.
func TestOverHTTP(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 300)
	note := l.publish(t)
	digest := sha256.Sum256(note)
	s := l.serve(t)
	server := newServer(t, s.handler)
	for target, want := range map[string]int{
		"/checkpoint": 200, "/tile/0/000": 200, "/tile/0/../0/000": 400, "/tile/0/%2e%2e/0/000": 400, "//checkpoint": 404,
		"/tile/0/000/": 400, fmt.Sprintf("/v1/beacons/%x", digest): 404,
	} {
		if got := rawStatus(t, server, target); got != want {
			t.Errorf("%s: %d, want %d", target, got, want)
		}
	}
	var body map[string]any
	rec := s.get(t, "/v1/entries/0")
	if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil || len(body) != 4 {
		t.Errorf("%v: %s", err, rec.Body)
	}
}
