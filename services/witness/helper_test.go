package witness

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/trialog/trialog/api/checkpoint"
)

const (
	testOrigin  = "log.example/2026"
	otherOrigin = "log.example/other"
	testName    = "witness.example/w1"
)

// testKey is a key that depends on its arguments only.
func testKey(t testing.TB, name string, alg checkpoint.Algorithm, seed byte) *checkpoint.SigningKey {
	t.Helper()
	k, err := checkpoint.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)), name, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func logKey(t testing.TB) *checkpoint.SigningKey {
	return testKey(t, testOrigin, checkpoint.AlgEd25519, 1)
}

func logKeyPQ(t testing.TB) *checkpoint.SigningKey {
	return testKey(t, testOrigin, checkpoint.AlgMLDSA44, 2)
}

func witnessKeys(t testing.TB) []*checkpoint.SigningKey {
	return []*checkpoint.SigningKey{
		testKey(t, testName, checkpoint.AlgEd25519Cosignature, 3),
		testKey(t, testName, checkpoint.AlgMLDSA44, 4),
	}
}

// tree is an append-only tree whose hashes and proofs are made by another
// implementation than the one under test.
type tree struct {
	size   int64
	hashes []tlog.Hash
}

func (tr *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = tr.hashes[x]
	}
	return out, nil
}

// with returns a tree with one more leaf; tr stays as it is.
func (tr *tree) with(t testing.TB, leaf string) *tree {
	t.Helper()
	more, err := tlog.StoredHashes(tr.size, []byte(leaf), tr)
	if err != nil {
		t.Fatal(err)
	}
	return &tree{tr.size + 1, append(slices.Clip(tr.hashes), more...)}
}

// grown is a tree of n leaves. Trees with the same fork mark have the same
// leaves; from leaf `from` on, those with another mark differ.
func grown(t testing.TB, n, from int, mark string) *tree {
	t.Helper()
	tr := &tree{}
	for i := range n {
		leaf := fmt.Sprint("leaf ", i)
		if i >= from {
			leaf += mark
		}
		tr = tr.with(t, leaf)
	}
	return tr
}

func (tr *tree) root(t testing.TB) checkpoint.Hash {
	t.Helper()
	h, err := tlog.TreeHash(tr.size, tr)
	if err != nil {
		t.Fatal(err)
	}
	return checkpoint.Hash(h)
}

func (tr *tree) checkpoint(t testing.TB) checkpoint.Checkpoint {
	return checkpoint.Checkpoint{Origin: testOrigin, Size: uint64(tr.size), Root: tr.root(t)}
}

// proof is the consistency proof from size old, as lines of a request.
func (tr *tree) proof(t testing.TB, old int64) []string {
	t.Helper()
	if old == 0 || old == tr.size {
		return nil
	}
	hashes, err := tlog.ProveTree(tr.size, old, tr)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, h := range hashes {
		lines = append(lines, base64.StdEncoding.EncodeToString(h[:]))
	}
	return lines
}

// signed is the checkpoint as a note by the given keys, whatever their names.
func signed(t testing.TB, c checkpoint.Checkpoint, keys ...*checkpoint.SigningKey) []byte {
	t.Helper()
	return signedText(t, c.Body(), keys...)
}

func signedText(t testing.TB, text []byte, keys ...*checkpoint.SigningKey) []byte {
	t.Helper()
	note := append(bytes.Clone(text), '\n')
	for _, k := range keys {
		sig, err := k.SignCheckpoint(text, 0)
		if err != nil {
			t.Fatal(err)
		}
		note = append(note, sig.String()+"\n"...)
	}
	return note
}

// addBody is the body of an add-checkpoint request.
func addBody(old any, proof []string, note []byte) string {
	lines := append([]string{fmt.Sprint("old ", old)}, proof...)
	return strings.Join(lines, "\n") + "\n\n" + string(note)
}

// step is the right request that grows the log from size old to the tree.
func (tr *tree) step(t testing.TB, old int64) string {
	t.Helper()
	return addBody(old, tr.proof(t, old), signed(t, tr.checkpoint(t), logKey(t)))
}

// clock is a clock that stands still until it is set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Unix(1_800_000_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func testConfig(t testing.TB, c *clock) Config {
	return Config{
		Keys: witnessKeys(t),
		Logs: []Log{
			{Origin: testOrigin, Keys: []*checkpoint.VerifierKey{logKey(t).Verifier(), logKeyPQ(t).Verifier()}},
			{Origin: otherOrigin, Keys: []*checkpoint.VerifierKey{testKey(t, otherOrigin, checkpoint.AlgEd25519, 9).Verifier()}},
		},
		StatePath: filepath.Join(t.TempDir(), "state"),
		Now:       c.now,
	}
}

// open makes a witness that is closed when the test ends.
func open(t testing.TB, c Config) *Witness {
	t.Helper()
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// add sends an add-checkpoint request.
func add(w *Witness, body string) *httptest.ResponseRecorder {
	return do(w, http.MethodPost, "/add-checkpoint", strings.NewReader(body), nil)
}

func do(w *Witness, method, path string, body io.Reader, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, body)
	maps.Copy(r.Header, header)
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, r)
	return rec
}

// mustAdd sends a request that has to be cosigned.
func mustAdd(t testing.TB, w *Witness, body string) *httptest.ResponseRecorder {
	t.Helper()
	rec := add(w, body)
	if rec.Code != http.StatusOK {
		t.Fatalf("status %d, body %s", rec.Code, rec.Body)
	}
	return rec
}

// cosignatures checks the lines of an answer: one by each key of the witness in
// the keys' order, over the request's checkpoint. It returns their time.
func cosignatures(t testing.TB, request string, answer []byte, keys ...*checkpoint.SigningKey) uint64 {
	t.Helper()
	_, raw, _ := strings.Cut(request, "\n\n")
	note, err := checkpoint.Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := checkpoint.ParseSignatureLines(answer)
	if err != nil {
		t.Fatalf("answer is not signature lines: %v", err)
	}
	if len(lines) != len(keys) {
		t.Fatalf("%d lines, want %d", len(lines), len(keys))
	}
	var first uint64
	for i, k := range keys {
		at, err := k.Verifier().VerifyCheckpoint(note, lines[i])
		if err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
		if i == 0 {
			first = at
		}
		if at == 0 || at != first {
			t.Errorf("line %d has time %d, the first has %d", i, at, first)
		}
	}
	return first
}
