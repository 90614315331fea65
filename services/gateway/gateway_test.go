package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/blob"
)

func TestNewRejects(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct {
		change func(c *Config)
		want   string
	}{
		"no sequencer":  {func(c *Config) { c.Sequencer = nil }, "sequencer"},
		"no documents":  {func(c *Config) { c.Documents = nil }, "documents"},
		"no clock":      {func(c *Config) { c.Now = nil }, "clock"},
		"no log":        {func(c *Config) { c.Log = nil }, "log"},
		"bad settings":  {func(c *Config) { c.Settings.MaxUploads = -1 }, "max_uploads"},
		"bad policy":    {func(c *Config) { c.Policy = []byte("x") }, "policy"},
		"bad sidecar":   {func(c *Config) { c.Sidecar = []byte("{}") }, "sidecar"},
		"unknown key":   {func(c *Config) { c.Key = w.sponsor }, "does not accept"},
		"no state file": {func(c *Config) { c.Settings.StateFile = "" }, "state file"},
		"received refused": {func(c *Config) {
			c.Sidecar = []byte(strings.Replace(string(c.Sidecar), `"acceptReceived":true`, `"acceptReceived":false`, 1))
		}, "does not accept"},
	} {
		cfg := Config{
			Settings:  config.Gateway{StateFile: filepath.Join(t.TempDir(), "state")},
			Sequencer: w, Policy: w.policy, Sidecar: w.sidecar, Key: w.gateway, Documents: blob.NewMemory(), Now: time.Now,
			Log: slog.New(slog.DiscardHandler),
		}
		tc.change(&cfg)
		if g, err := New(cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, %v", name, g, err)
		}
	}
}

// TestRunEnds: a listener that fails ends the gateway with an error.
func TestRunEnds(t *testing.T) {
	w := newWorld(t)
	for _, which := range []string{"HTTP", "GRPC"} {
		cfg := Config{
			Sequencer: w, Policy: w.policy, Sidecar: w.sidecar, Documents: blob.NewMemory(), Now: time.Now,
			Log: slog.New(slog.DiscardHandler), HTTP: listen(t), GRPC: listen(t),
		}
		if which == "HTTP" {
			cfg.HTTP.Close()
		} else {
			cfg.GRPC.Close()
		}
		g, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(g.Run(context.Background()), g.Close()); err == nil {
			t.Errorf("%s: no error", which)
		}
	}
}

// TestDrain: what is under way when the gateway stops comes to its end, or is
// cut when the time is up.
func TestDrain(t *testing.T) {
	for _, patience := range []time.Duration{time.Minute, time.Millisecond} {
		w := newWorld(t)
		h := newHouse(t, w, func(c *Config) { c.Limits.DrainTimeout = patience })
		w.startTrial()
		arrived, release := make(chan struct{}, 2), make(chan struct{})
		w.before = func(rpc string, _ any) error {
			if rpc == "Find" {
				arrived <- struct{}{}
				<-release
			}
			return nil
		}
		id := w.trials[testTrial].String()
		overREST, overGRPC := make(chan error, 1), make(chan error, 1)
		go func() {
			resp, err := http.Get(h.url + "/v1/statements/" + id + "/receipt")
			if err == nil {
				err = resp.Body.Close()
			}
			overREST <- err
		}()
		go func() {
			_, err := h.rpc.GetReceipt(context.Background(), &trialogv1.GetReceiptRequest{Identity: id}, grpc.WaitForReady(false))
			overGRPC <- err
		}()
		<-arrived
		<-arrived
		stopped := make(chan struct{})
		go func() { h.g.drain(context.Background(), &http.Server{}); close(stopped) }()
		if patience == time.Minute {
			close(release)
			if err := <-overGRPC; err != nil {
				t.Errorf("gRPC: %v", err)
			}
			<-stopped
		} else {
			// The server cuts its connections, and then waits for the call itself.
			if err := <-overGRPC; status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled {
				t.Errorf("gRPC: %v", err)
			}
			close(release)
			<-stopped
		}
		// The end of the gRPC server ends Run, which drains REST by the same rule.
		if err := <-overREST; err != nil && patience == time.Minute {
			t.Errorf("REST: %v", err)
		}
	}
}

// TestPanic: a fault of ours is a 500 that tells nothing, and not the end.
func TestPanic(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.before = func(string, any) error { panic("secret") }
	got := h.request("GET", "/v1/log", nil).want(t, 500, nil)
	_, err := h.rpc.GetLog(context.Background(), &trialogv1.GetLogRequest{})
	if status.Code(err) != codes.Internal || strings.Contains(string(got.body)+err.Error(), "secret") {
		t.Errorf("%s, %v", got.body, err)
	}
	if got := h.request("GET", "/v1/documents/"+hashed("x")+"?statement="+hashed("y"), nil); got.status != 500 {
		t.Errorf("status %d", got.status)
	}
	w.before = nil
	h.request("GET", "/v1/log", nil).want(t, 200, nil)
}

func TestLocks(t *testing.T) {
	l := newLocks()
	release, err := l.acquire(context.Background(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.acquire(context.Background(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.acquire(gone, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting without hope ended with %v", err)
	}
	got := make(chan struct{})
	go func() {
		release, err := l.acquire(context.Background(), "a")
		if err != nil {
			t.Error(err)
			return
		}
		release()
		close(got)
	}()
	release()
	<-got
	if len(l.open) != 0 {
		t.Errorf("%d locks are left", len(l.open))
	}
}

func TestJSONPath(t *testing.T) {
	for path, want := range map[string]string{
		"draft.document_sha256":       "draft.documentSha256",
		"request_id":                  "requestId",
		"draft.attributes.my_name":    "draft.attributes.my_name",
		"draft.dates.my_day":          "draft.dates.my_day",
		"envelope.payload.some_thing": "envelope.payload.some_thing",
		"signers[1].key":              "signers[1].key",
		"draft.sealed_attributes":     "draft.sealedAttributes",
		statementHeader:               statementHeader,
		"":                            "",
		"_":                           "",
	} {
		if got := jsonPath(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

func TestSubmittedPaths(t *testing.T) {
	for path, want := range map[string]string{
		"predicate.kind":          "envelope.payload.predicate.kind",
		"envelope.predicate.kind": "envelope.payload.predicate.kind",
		"submit.envelope":         "envelope",
		"envelope":                "envelope",
		"payload":                 "envelope.payload",
		"payloadType":             "envelope.payloadType",
		"signatures[0].sig":       "envelope.signatures[0].sig",
		"subject[0].digest":       "envelope.payload.subject[0].digest",
		"beacon":                  "beacon",
		"_type":                   "envelope.payload._type",
	} {
		if got := submitted(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
	d := &trialogv1.Draft{DocumentCommitment: "x"}
	for path, want := range map[string]string{
		"predicate.mediaType":                          "draft.media_type",
		"envelope.payload.predicate.attributes.reason": "draft.attributes.reason",
		"predicate.attributes":                         "draft.attributes",
		"predicate.signers[0].key":                     "signers[0].key",
		"subject[0].digest":                            "draft.document_commitment",
		"predicate.chain":                              "draft",
		"payload":                                      "draft",
		"predicate.sealedAttributes":                   "draft.sealed_attributes",
	} {
		if got := draftField(d)(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}
