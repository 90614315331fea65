package witnessing

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/trialog/trialog/api/checkpoint"
)

const origin = "log.example/2026"

func key(t testing.TB, name string, alg checkpoint.Algorithm, seed byte) *checkpoint.SigningKey {
	t.Helper()
	k, err := checkpoint.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)), name, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// history is the log's tree, by another implementation of Merkle trees.
type history struct {
	t      testing.TB
	hashes []tlog.Hash
	size   int64
	mark   string
	forkAt int64
	mu     sync.Mutex
	proved int
}

// newHistory is a log of n leaves; from leaf forkAt on they carry the mark.
func newHistory(t testing.TB, n, forkAt int64, mark string) *history {
	h := &history{t: t, mark: mark, forkAt: forkAt}
	for ; h.size < n; h.size++ {
		leaf := fmt.Sprint("leaf ", h.size)
		if h.size >= forkAt {
			leaf += mark
		}
		more, err := tlog.StoredHashes(h.size, []byte(leaf), h)
		if err != nil {
			t.Fatal(err)
		}
		h.hashes = append(h.hashes, more...)
	}
	return h
}

func (h *history) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = h.hashes[x]
	}
	return out, nil
}

func (h *history) prove(_ context.Context, old, size uint64) ([][32]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.proved++
	p, err := tlog.ProveTree(int64(size), int64(old), h)
	out := make([][32]byte, len(p))
	for i := range p {
		out[i] = p[i]
	}
	return out, err
}

// note is the log-signed checkpoint of a size, with a stranger's line and an
// alleged cosignature that must not be forwarded.
func (h *history) note(size int64) *checkpoint.Note {
	h.t.Helper()
	root, err := tlog.TreeHash(size, h)
	if err != nil {
		h.t.Fatal(err)
	}
	c := checkpoint.Checkpoint{Origin: origin, Size: uint64(size), Root: checkpoint.Hash(root)}
	n, err := checkpoint.SignLog(c, 0, key(h.t, origin, checkpoint.AlgEd25519, 1), key(h.t, origin, checkpoint.AlgMLDSA44, 2))
	if err != nil {
		h.t.Fatal(err)
	}
	stranger, err := key(h.t, "stranger.example", checkpoint.AlgEd25519Cosignature, 99).SignCheckpoint(c.Body(), 12345)
	if err != nil {
		h.t.Fatal(err)
	}
	if n, err = n.With(stranger); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// asked is a request as a witness sees it.
type asked struct {
	old   uint64
	proof [][]byte
	note  *checkpoint.Note
}

// told is a witness's answer.
type told struct {
	status int
	kind   string // content type
	header http.Header
	body   string
	stream io.Reader     // instead of body
	err    error         // instead of an answer
	after  time.Duration // how long it takes
}

// model is a witness. Honest unless lie is set, which may call honest.
type model struct {
	t    testing.TB
	name string
	keys []*checkpoint.SigningKey

	mu       sync.Mutex
	size     uint64
	root     checkpoint.Hash
	requests []asked
	lie      func(m *model, a asked) told
}

// newModel is the witness of an operator "a", "b" …, with both keys.
func newModel(t testing.TB, operator string) *model {
	name := operator + ".example/w"
	return &model{t: t, name: name, keys: []*checkpoint.SigningKey{
		key(t, name, checkpoint.AlgEd25519Cosignature, operator[0]),
		key(t, name, checkpoint.AlgMLDSA44, operator[0]+100),
	}}
}

func (m *model) setLie(lie func(*model, asked) told) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lie = lie
}

func (m *model) seen() []asked {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]asked{}, m.requests...)
}

// RoundTrip answers a request.
func (m *model) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	a := parseAsked(m.t, r, body)
	m.mu.Lock()
	m.requests = append(m.requests, a)
	answer := m.honest
	if m.lie != nil {
		answer = func(a asked) told { return m.lie(m, a) }
	}
	ans := answer(a)
	m.mu.Unlock()
	if ans.after > 0 {
		select {
		case <-time.After(ans.after):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if ans.err != nil {
		return nil, ans.err
	}
	if ans.header == nil {
		ans.header = http.Header{}
	}
	ans.header.Set("Content-Type", ans.kind)
	if ans.stream == nil {
		ans.stream = strings.NewReader(ans.body)
	}
	return &http.Response{StatusCode: ans.status, Header: ans.header, Body: io.NopCloser(ans.stream), Request: r}, nil
}

func parseAsked(t testing.TB, r *http.Request, body []byte) asked {
	t.Helper()
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/add-checkpoint") {
		t.Errorf("request is %s %s", r.Method, r.URL)
	}
	head, raw, _ := strings.Cut(string(body), "\n\n")
	lines := strings.Split(head, "\n")
	old, err := strconv.ParseUint(strings.TrimPrefix(lines[0], "old "), 10, 64)
	if err != nil {
		t.Errorf("request begins with %q", lines[0])
	}
	a := asked{old: old}
	for _, l := range lines[1:] {
		h, err := base64.StdEncoding.DecodeString(l)
		if err != nil || len(h) != 32 {
			t.Errorf("proof line %q", l)
		}
		a.proof = append(a.proof, h)
	}
	if a.note, err = checkpoint.Parse([]byte(raw)); err != nil {
		t.Errorf("request carries no checkpoint: %v", err)
	}
	return a
}

// honest follows the specification. m.mu is held.
func (m *model) honest(a asked) told {
	c := a.note.Checkpoint()
	if a.old != m.size {
		return sizeIs(m.size)
	}
	if a.old > 0 && a.old < c.Size {
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, a.old, c.Size, a.proof, m.root[:], c.Root[:]); err != nil {
			return told{status: 422}
		}
	} else if len(a.proof) > 0 || (m.size > 0 && m.size == c.Size && m.root != c.Root) {
		return told{status: 422}
	}
	m.size, m.root = c.Size, c.Root
	return m.sign(a.note.Text(), uint64(time.Now().Unix()))
}

func sizeIs(size uint64) told {
	return told{status: 409, kind: "text/x.tlog.size", body: fmt.Sprintln(size)}
}

// sign signs whatever it is given.
func (m *model) sign(text []byte, at uint64) told {
	return lines(m.t, text, at, m.keys...)
}

func lines(t testing.TB, text []byte, at uint64, keys ...*checkpoint.SigningKey) told {
	var b strings.Builder
	for _, k := range keys {
		sig, err := k.SignCheckpoint(text, at)
		if err != nil {
			t.Error(err)
			continue
		}
		fmt.Fprintln(&b, sig)
	}
	return told{status: 200, kind: "text/plain; charset=utf-8", body: b.String()}
}

// network sends requests to the models by host.
type network map[string]*model

func (n network) RoundTrip(r *http.Request) (*http.Response, error) {
	m := n[r.URL.Hostname()]
	if m == nil {
		return nil, fmt.Errorf("no such host %q", r.URL.Hostname())
	}
	return m.RoundTrip(r)
}

// world is three witnesses of three operators and a log's pool over them.
type world struct {
	t      testing.TB
	log    *history
	models map[string]*model // "a", "b", "c"
	policy *checkpoint.Policy
	pool   *Pool
}

// newWorld wants the cosignatures of k of three operators, each with two keys.
func newWorld(t testing.TB, k int) *world {
	w := &world{t: t, log: newHistory(t, 20, 20, ""), models: map[string]*model{}}
	net := network{}
	for _, op := range []string{"a", "b", "c"} {
		w.models[op] = newModel(t, op)
		net[op+".example"] = w.models[op]
	}
	w.policy = w.policyOf(fmt.Sprintf("group quorate %d a b c\nquorum quorate\n", k))
	pool, err := New(Config{Policy: w.policy, HTTP: &http.Client{Transport: net}, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	w.pool = pool
	return w
}

// policyOf is a policy with the log, the witnesses a1, a2, b1 … and their
// operators' groups, which all need both keys.
func (w *world) policyOf(tail string) *checkpoint.Policy {
	w.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "log %s\n", key(w.t, origin, checkpoint.AlgEd25519, 1).Verifier())
	fmt.Fprintf(&b, "log %s\n", key(w.t, origin, checkpoint.AlgMLDSA44, 2).Verifier())
	for _, op := range []string{"a", "b", "c"} {
		for i, k := range w.models[op].keys {
			fmt.Fprintf(&b, "witness %s%d %s http://%s.example/prefix/\n", op, i+1, k.Verifier(), op)
		}
		fmt.Fprintf(&b, "group %s all %s1 %s2\n", op, op, op)
	}
	p, err := checkpoint.ParsePolicy([]byte(b.String() + tail))
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) cosign(size int64) (*checkpoint.Note, error) {
	return w.pool.Cosign(context.Background(), w.log.note(size), w.log.prove)
}

func (w *world) mustCosign(size int64) *checkpoint.Note {
	w.t.Helper()
	n, err := w.cosign(size)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.policy.Check(n); err != nil {
		w.t.Fatal(err)
	}
	if n.Checkpoint() != w.log.note(size).Checkpoint() {
		w.t.Fatalf("cosigned %v", n.Checkpoint())
	}
	return n
}

// signers are the policy names of the witnesses whose lines a note has.
func (w *world) signers(n *checkpoint.Note) string {
	var out []string
	for _, sig := range n.Signatures() {
		for _, e := range w.policy.Witnesses() {
			if sig.Name == e.Key.Name() && sig.KeyID == e.Key.ID() {
				out = append(out, e.Name)
			}
		}
	}
	return strings.Join(out, " ")
}

func (w *world) close() {
	if err := w.pool.Close(); err != nil {
		w.t.Error(err)
	}
}
