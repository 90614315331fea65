package harness

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Twin prepares a second owner of the same shards: with keys, policy and tokens
// of the first one, with derived state and addresses of its own, and with the
// same store, tiles, register and witnesses. The log must have been made, and
// not yet started.
func (l *Log) Twin() *Log {
	l.t.Helper()
	twin := newLog(l.t, l.program)
	CopyDir(l.t, l.Dir, twin.Dir)
	for _, other := range []string{"shards", "registers", "witness-1", "witness-2", "witness-3"} {
		if err := os.RemoveAll(filepath.Join(twin.Dir, other)); err != nil {
			l.t.Fatal(err)
		}
	}
	settings := filepath.Join(twin.Dir, "trialog.json")
	raw, err := os.ReadFile(settings)
	if err != nil {
		l.t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(raw, &c); err != nil {
		l.t.Fatal(err)
	}
	shards, _ := c["shards"].([]any)
	if len(shards) == 0 {
		l.t.Fatalf("no shards in %s", raw)
	}
	for _, shard := range shards {
		l.share(shard)
	}
	if raw, err = json.Marshal(c); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(settings, raw, 0o600); err != nil {
		l.t.Fatal(err)
	}
	return twin.With("--witnesses-elsewhere")
}

// share makes the places of a shard that both owners use absolute.
func (l *Log) share(shard any) {
	l.t.Helper()
	places, ok := shard.(map[string]any)
	if !ok {
		l.t.Fatalf("a shard is %v", shard)
	}
	for _, name := range []string{"store", "tiles", "register", "keys"} {
		place, _ := places[name].(string)
		scheme, path, local := strings.Cut(place, ":")
		switch {
		case name == "keys":
			places[name] = filepath.Join(l.Dir, place)
		case local && (scheme == "pebble" || scheme == "file") && !filepath.IsAbs(path):
			places[name] = scheme + ":" + filepath.Join(l.Dir, path)
		}
	}
}

// Door hands requests on to one of several logs, as a load balancer does.
type Door struct {
	URL string

	mu     sync.Mutex
	to     *url.URL
	ctx    context.Context //nolint:containedctx // of the requests that are under way
	cancel context.CancelFunc
}

// NewDoor opens a door that leads to l.
func NewDoor(t testing.TB, l *Log) *Door {
	t.Helper()
	d := &Door{cancel: func() {}}
	d.Lead(l)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(d.target()) },
		// Who asked sends the same again, so there is nothing to be said.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		Transport:    &http.Transport{DisableKeepAlives: true},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(d.current(), cancel)() //nolint:contextcheck // it ends with either
		proxy.ServeHTTP(w, r.WithContext(ctx))
	}))
	d.URL = server.URL
	t.Cleanup(func() { d.stop(); server.Close() })
	return d
}

// Lead has requests handed on to l from now on. Those that are under way get no
// answer.
func (d *Door) Lead(l *Log) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cancel()
	to, err := url.Parse(l.URL)
	if err != nil {
		l.t.Fatal(err)
	}
	d.to = to
	d.ctx, d.cancel = context.WithCancel(context.Background())
}

func (d *Door) target() *url.URL {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.to
}

func (d *Door) current() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ctx
}

func (d *Door) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cancel()
}

// Witnesses returns the addresses of the log's witnesses.
func (l *Log) Witnesses() []string {
	l.t.Helper()
	raw, err := os.ReadFile(filepath.Join(l.Dir, "trialog.json"))
	if err != nil {
		l.t.Fatal(err)
	}
	var c struct {
		Witnesses []string `json:"witnesses"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		l.t.Fatal(err)
	}
	return c.Witnesses
}
