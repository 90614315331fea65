package proofs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/proofs"
)

const origin = "log.example/shard"

// testLog is a log with keys and one witness, and its store.
type testLog struct {
	origin  string
	mark    string // what the entries end with
	store   *blob.Memory
	writer  *tile.Writer
	keys    []*checkpoint.SigningKey // of the log
	witness *checkpoint.SigningKey
	policy  *verify.Policy
}

// seeded gives a key its randomness from a name, so that tests repeat.
func seeded(t testing.TB, name string, alg checkpoint.Algorithm) *checkpoint.SigningKey {
	t.Helper()
	seed := sha256.Sum256([]byte(fmt.Sprintf("%s %d", name, alg)))
	key, err := checkpoint.GenerateKey(bytes.NewReader(seed[:]), name, alg)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newLog(t testing.TB) *testLog {
	t.Helper()
	return newShard(t, origin)
}

func newShard(t testing.TB, origin string) *testLog {
	t.Helper()
	l := &testLog{
		origin:  origin,
		store:   blob.NewMemory(),
		keys:    []*checkpoint.SigningKey{seeded(t, origin, checkpoint.AlgEd25519), seeded(t, origin, checkpoint.AlgMLDSA44)},
		witness: seeded(t, "witness.example", checkpoint.AlgEd25519Cosignature),
	}
	l.policy = l.policyOf(t)
	var err error
	if l.writer, err = tile.OpenWriter(t.Context(), l.store); err != nil {
		t.Fatal(err)
	}
	return l
}

// policyOf returns the policy of the log, which both keys must have signed for,
// with log lines for further keys.
func (l *testLog) policyOf(t testing.TB, further ...*checkpoint.VerifierKey) *verify.Policy {
	t.Helper()
	var text strings.Builder
	var required []string
	for _, key := range append([]*checkpoint.VerifierKey{l.keys[0].Verifier(), l.keys[1].Verifier()}, further...) {
		fmt.Fprintf(&text, "log %s\n", key)
		required = append(required, key.String())
	}
	fmt.Fprintf(&text, "witness w %s\nquorum w\n", l.witness.Verifier())
	sidecar, err := json.Marshal(map[string]any{
		"format": verify.TrustFormat, "log": l.origin[:strings.LastIndexByte(l.origin, '/')], "logOperator": "operator", "acceptReceived": false,
		"requiredLogKeys": required, "operators": map[string]string{"w": "operator"},
	})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := verify.ParsePolicy([]byte(text.String()), sidecar)
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

func entryAt(index uint64) []byte {
	e := binary.BigEndian.AppendUint64(nil, index*0x9e3779b97f4a7c15)
	return append(e, bytes.Repeat([]byte{byte(index)}, int(index%23))...)
}

// grow appends entries up to the size, without publishing.
func (l *testLog) grow(t testing.TB, size uint64) *testLog {
	t.Helper()
	var entries [][]byte
	for i := l.writer.Size(); i < size; i++ {
		entries = append(entries, append(entryAt(i), l.mark...))
	}
	if _, err := l.writer.Append(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *testLog) head() checkpoint.Checkpoint {
	return checkpoint.Checkpoint{Origin: l.origin, Size: l.writer.Size(), Root: l.writer.Root()}
}

// sign returns a note of the head with all signatures.
func (l *testLog) sign(t testing.TB, c checkpoint.Checkpoint) []byte {
	t.Helper()
	note, err := checkpoint.SignLog(c, 1_700_000_000, l.keys...)
	if err != nil {
		t.Fatal(err)
	}
	cosignature, err := l.witness.SignCheckpoint(note.Text(), 1_700_000_001)
	if err != nil {
		t.Fatal(err)
	}
	if note, err = note.With(cosignature); err != nil {
		t.Fatal(err)
	}
	return note.Bytes()
}

// publish puts the note of the writer's head, as the sequencer does.
func (l *testLog) publish(t testing.TB) []byte {
	t.Helper()
	note := l.sign(t, l.head())
	l.put(t, "checkpoint", note)
	return note
}

func (l *testLog) put(t testing.TB, key string, data []byte) {
	t.Helper()
	if err := l.store.Put(t.Context(), blob.Object{Key: key, Data: data}); err != nil {
		t.Fatal(err)
	}
}

func (l *testLog) get(t testing.TB, key string) []byte {
	t.Helper()
	data, err := l.store.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// logLines collects what is logged.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// take returns what was logged since the last call.
func (l *logLines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.buf.Reset()
	return l.buf.String()
}

// service is the service under test, asked without a network.
type service struct {
	*proofs.Proofs
	handler http.Handler
	lines   *logLines
}

func (l *testLog) serve(t testing.TB, change ...func(*proofs.Config)) *service {
	t.Helper()
	lines := new(logLines)
	cfg := proofs.Config{
		Store: l.store, Policy: l.policy, Origin: l.origin, Now: time.Now,
		Logger: slog.New(slog.NewTextHandler(lines, nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	p, err := proofs.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &service{Proofs: p, handler: p.Handler(), lines: lines}
}

func (s *service) get(t testing.TB, target string) *httptest.ResponseRecorder {
	t.Helper()
	return s.do(t, http.MethodGet, target)
}

func (s *service) do(t testing.TB, method, target string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(context.WithoutCancel(t.Context()), method, target, nil)
	rec := httptest.NewRecorder()
	s.handler.ServeHTTP(rec, req)
	return rec
}

// problem checks that an answer is problem+json with the status and field, and
// that no cache keeps it.
func problem(t *testing.T, rec *httptest.ResponseRecorder, status int, field string) {
	t.Helper()
	var body struct {
		Type, Title, Detail, Field string
		Status                     int
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil {
		t.Errorf("body is no JSON: %v: %.100q", err, rec.Body)
		return
	}
	if rec.Code != status || body.Status != status || body.Field != field {
		t.Errorf("status %d (%d in the body), field %q; want %d, %q: %s", rec.Code, body.Status, body.Field, status, field, rec.Body)
	}
	if body.Title == "" || body.Detail == "" || !strings.HasPrefix(body.Type, "https://trialog.dev/problems/proofs/") {
		t.Errorf("incomplete problem: %s", rec.Body)
	}
	if got := rec.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q", got)
	}
	if got := rec.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("cache control of a problem: %q", got)
	}
}

// object is a bad object's place in a log line.
func object(key string) string { return "object=" + key }
