package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/blob"
)

// Tokens of the tests, by what they may do.
const (
	tokenEnrol    = "token-that-may-enrol-anybody"
	tokenNewOrg   = "token-that-may-enrol-new-org"
	tokenReceive  = "token-that-may-receive-for-acme"
	tokenReceive2 = "token-that-may-receive-for-acme-too"
	tokenUpload   = "token-that-may-upload"
	tokenUpload2  = "token-that-may-upload-too"
	tokenUpload3  = "token-that-may-upload-as-well"
)

func hashed(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func testSettings() config.Gateway {
	return config.Gateway{
		MaxDocumentBytes: 64 << 10, MaxUploads: 2,
		Tokens: []config.GatewayToken{
			{SHA256: hashed(tokenEnrol), Principal: "registrar", Permissions: []string{"enrol"}, Roles: []string{"sponsor", "admin"}},
			{
				SHA256: hashed(tokenNewOrg), Principal: "new-org-desk", Organisation: "new-org",
				Permissions: []string{"enrol"}, Roles: []string{"sponsor", "admin"},
			},
			{SHA256: hashed(tokenReceive), Principal: "jane.doe:site-canary", Organisation: testOrg, Permissions: []string{"receive"}},
			{SHA256: hashed(tokenReceive2), Principal: "second-desk", Organisation: testOrg, Permissions: []string{"receive"}},
			{SHA256: hashed(tokenUpload), Principal: "uploader", Organisation: testOrg, Permissions: []string{"upload"}},
			{SHA256: hashed(tokenUpload2), Principal: "second-uploader", Organisation: testOrg, Permissions: []string{"upload"}},
			{SHA256: hashed(tokenUpload3), Principal: "third-uploader", Organisation: testOrg, Permissions: []string{"upload"}},
		},
	}
}

// logBuffer is where a gateway of a test logs to.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// house is a running gateway in front of a world.
type house struct {
	t     testing.TB
	world *world
	g     *Gateway
	docs  *blob.Memory
	logs  *logBuffer
	url   string
	rpc   trialogv1.SubmissionServiceClient
	stop  func()
}

// newHouse runs a gateway; change may alter its configuration.
func newHouse(t testing.TB, w *world, change ...func(*Config)) *house {
	t.Helper()
	h := &house{t: t, world: w, docs: blob.NewMemory(), logs: &logBuffer{}}
	settings := testSettings()
	settings.StateFile = filepath.Join(t.TempDir(), "state")
	cfg := Config{
		Settings: settings, Sequencer: w, Policy: w.policy, Sidecar: w.sidecar, Key: w.gateway, Documents: h.docs,
		HTTP: listen(t), GRPC: listen(t), Now: time.Now,
		Log: slog.New(slog.NewJSONHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.g, h.url = g, "http://"+cfg.HTTP.Addr().String()
	conn, err := grpc.NewClient(cfg.GRPC.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	h.rpc = trialogv1.NewSubmissionServiceClient(conn)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		conn.Close()
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := errors.Join(<-done, g.Close()); err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// answer is what came back over REST.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	problem restProblem
}

// request sends a request; headers are "Name: value".
func (h *house) request(method, path string, body io.Reader, headers ...string) *answer {
	h.t.Helper()
	req, err := http.NewRequest(method, h.url+path, body)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Add(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := &answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		h.t.Fatal(err)
	}
	if resp.StatusCode >= 400 {
		if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
			h.t.Errorf("%s %s: %d with Content-Type %q", method, path, resp.StatusCode, got)
		}
		if err := json.Unmarshal(a.body, &a.problem); err != nil {
			h.t.Errorf("%s %s: the problem does not parse: %v", method, path, err)
		}
		if a.problem.Status != a.status || a.problem.Title == "" || a.problem.Detail == "" || a.problem.Type == "" {
			h.t.Errorf("%s %s: the problem lacks something: %s", method, path, a.body)
		}
	}
	return a
}

// post sends JSON.
func (h *house) post(path string, body any, headers ...string) *answer {
	h.t.Helper()
	raw, ok := body.(string)
	if !ok {
		b, err := json.Marshal(body)
		if err != nil {
			h.t.Fatal(err)
		}
		raw = string(b)
	}
	return h.request(http.MethodPost, path, strings.NewReader(raw), append([]string{"Content-Type: application/json"}, headers...)...)
}

// want fails unless the answer has the status; for 2xx it decodes into out.
func (a *answer) want(t testing.TB, status int, out any) *answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %.400s", a.status, status, a.body)
	}
	if out != nil {
		if err := json.Unmarshal(a.body, out); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func bearer(token string) string { return "Authorization: Bearer " + token }

// withToken is a context for gRPC calls.
func withToken(token string) context.Context {
	if token == "" {
		return context.Background()
	}
	return metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+token)
}

// submitBody is a SubmitRequest in JSON.
func submitBody(req *trialogv1.SubmitRequest) map[string]any {
	return map[string]any{"envelope": req.GetEnvelope(), "beacon": req.GetBeacon()}
}

// submittedJSON is a SubmitResponse in JSON.
type submittedJSON struct {
	State     string `json:"state"`
	Identity  string `json:"identity"`
	Index     string `json:"index"`
	Receipt   []byte `json:"receipt"`
	Pending   []byte `json:"pending"`
	Duplicate bool   `json:"duplicate"`
}

// protocolDraft is a draft of a protocol with a public document.
func protocolDraft(document string) map[string]any {
	return map[string]any{
		"organisation": testOrg, "trial": testTrial, "kind": "protocol", "mediaType": "application/pdf",
		"documentSha256": hashed(document),
	}
}

func parseReceipt(t testing.TB, raw []byte) *receipt.Receipt {
	t.Helper()
	r, err := receipt.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
