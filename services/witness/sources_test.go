package witness

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/tile"
)

// web is a network of handlers by host; a host without one cannot be reached.
type web struct {
	mu    sync.Mutex
	hosts map[string]http.Handler
}

func newWeb() *web { return &web{hosts: map[string]http.Handler{}} }

func (n *web) set(host string, h http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[host] = h
}

// RoundTrip implements http.RoundTripper.
func (n *web) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	h := n.hosts[r.URL.Host]
	n.mu.Unlock()
	if h == nil {
		return nil, fmt.Errorf("%s cannot be reached", r.URL.Host)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Result(), nil
}

// status answers everything with a status.
func status(code int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
}

// says answers /checkpoint with a note, and nothing else.
func says(note []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/checkpoint") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write(note)
	})
}

// serves is a log with its tiles, which another implementation makes.
func serves(note []byte, tr *tree) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/log/")
		if name == "checkpoint" {
			_, _ = w.Write(note)
			return
		}
		p, err := tile.ParsePath(name)
		if err != nil || p.Entries || !p.In(uint64(tr.size)) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		data, err := tlog.ReadTileData(tlog.Tile{H: 8, L: p.Level, N: int64(p.Index), W: p.Width}, tr)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(data)
	})
}

// world is a witness, the log that it follows, and who else can be asked.
type world struct {
	*testing.T
	*web

	clock *clock
	c     Config
}

// newWorld has the log at log.test and n peers, peer-0.test and on. Nobody can be
// reached yet.
func newWorld(t *testing.T, peers int) *world {
	t.Helper()
	w := &world{T: t, web: newWeb(), clock: newClock()}
	w.c = testConfig(t, w.clock)
	w.c.Logs = w.c.Logs[:1]
	w.c.Logs[0].URL = "https://log.test/log"
	for i := range peers {
		w.c.Peers = append(w.c.Peers, fmt.Sprintf("https://peer-%d.test/", i))
	}
	w.c.Transport = w.web
	return w
}

// before runs the witness without sources, as it was before the start that is
// tested.
func (w *world) before(path string, requests ...string) {
	w.Helper()
	c := w.c
	c.StatePath, c.Peers, c.Logs = path, nil, []Log{{Origin: testOrigin, Keys: c.Logs[0].Keys}}
	witness, err := New(c)
	if err != nil {
		w.Fatal(err)
	}
	for _, r := range requests {
		mustAdd(w, witness, r)
		w.clock.add(1e9)
	}
	if err := witness.Close(); err != nil {
		w.Fatal(err)
	}
}

// cosignedBy is the log's note with lines of the keys, at the time of the clock.
func (w *world) cosignedBy(tr *tree, keys ...*checkpoint.SigningKey) []byte {
	w.Helper()
	text := tr.checkpoint(w).Body()
	note := append(bytes.Clone(text), '\n')
	for _, k := range append([]*checkpoint.SigningKey{logKey(w)}, keys...) {
		sig, err := k.SignCheckpoint(text, uint64(w.clock.now().Unix()))
		if err != nil {
			w.Fatal(err)
		}
		note = append(note, sig.String()+"\n"...)
	}
	return note
}

// catchUp looks at the sources once and returns the state after it.
func catchUp(t *testing.T, w *Witness) (gateState, error) {
	t.Helper()
	f := w.table.Load().byOrigin[testOrigin]
	err := w.catchUp(t.Context(), f)
	state, _ := f.gate.now()
	return state, err
}

// recordOf returns the record; the zero Checkpoint if there is none.
func recordOf(t testing.TB, w *Witness) checkpoint.Checkpoint {
	t.Helper()
	raw, err := w.state.note(testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	if raw == nil {
		return checkpoint.Checkpoint{}
	}
	note, err := checkpoint.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return note.Checkpoint()
}

// wants checks the state and the record.
func (w *world) wants(witness *Witness, got, state gateState, record checkpoint.Checkpoint) {
	w.Helper()
	if got != state {
		w.Errorf("the log is in state %s, want %s", got, state)
	}
	if have := recordOf(w, witness); have != record {
		w.Errorf("the record is of size %d, want %d, or the roots differ", have.Size, record.Size)
	}
}

// kinds are those of the journal's entries.
func kinds(t testing.TB, w *Witness) string {
	t.Helper()
	all, err := journalOf(w, testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range all {
		out = append(out, string(e.Kind))
	}
	return strings.Join(out, " ")
}

// await waits until the condition holds.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		case <-time.After(time.Millisecond): // between two looks
		}
	}
}

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// journalOf returns what the witness keeps about a log's checkpoints.
func journalOf(w *Witness, origin string) ([]Evidence, error) {
	j, err := w.state.journal(origin)
	if err != nil {
		return nil, err
	}
	return j.Entries, nil
}
