package anchor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/timestamp"
	"github.com/trialog/trialog/api/timestamp/timestamptest"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/anchored"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/blob/blobtest"
	"github.com/trialog/trialog/services/internal/tile"
)

const testOrigin = "log.test/trials/1"

func noteKey(t testing.TB, name string, alg checkpoint.Algorithm) *checkpoint.SigningKey {
	t.Helper()
	seed := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, alg))
	k, err := checkpoint.GenerateKey(bytes.NewReader(seed[:]), name, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// world is a shard's store with a log that publishes into it, and those who are
// asked to anchor its checkpoints.
type world struct {
	t       testing.TB
	now     time.Time
	memory  *blob.Memory
	store   *blobtest.Faulty
	tiles   *tile.Writer
	keys    []*checkpoint.SigningKey
	quorum  *checkpoint.SigningKey // the one interactive witness
	policy  *verify.Policy
	public  *publicWitnesses
	tsas    map[string]*tsa
	metrics *prometheus.Registry
	lines   bytes.Buffer
	worker  *Worker
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		t: t, now: time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC), memory: blob.NewMemory(),
		keys:   []*checkpoint.SigningKey{noteKey(t, testOrigin, checkpoint.AlgEd25519), noteKey(t, testOrigin, checkpoint.AlgMLDSA44)},
		quorum: noteKey(t, "w.test", checkpoint.AlgEd25519Cosignature),
		public: &publicWitnesses{t: t, keys: []*checkpoint.SigningKey{
			noteKey(t, "p1.test", checkpoint.AlgEd25519Cosignature), noteKey(t, "p1.test", checkpoint.AlgMLDSA44),
			noteKey(t, "p2.test", checkpoint.AlgEd25519Cosignature),
		}, down: map[string]bool{}},
		tsas: map[string]*tsa{},
	}
	w.public.now = func() time.Time { return w.now }
	w.policy = w.policyOf(w.quorum.Verifier())
	w.store = blobtest.NewFaulty(w.memory, 0, blobtest.Lost, false)
	for _, name := range []string{"one", "two"} {
		w.tsas[name+".test"] = &tsa{t: t, a: timestamptest.New(name), now: func() time.Time { return w.now }}
	}
	var err error
	if w.tiles, err = tile.OpenWriter(t.Context(), w.memory); err != nil {
		t.Fatal(err)
	}
	w.restart()
	return w
}

// policyOf returns the policy with one interactive witness. It names the authority
// one, too.
func (w *world) policyOf(witness *checkpoint.VerifierKey) *verify.Policy {
	w.t.Helper()
	text := fmt.Sprintf("log %s\nlog %s\nwitness w %s\nquorum w\n", w.keys[0].Verifier(), w.keys[1].Verifier(), witness)
	sidecar, err := json.Marshal(map[string]any{
		"format": verify.TrustFormat, "log": "log.test/trials", "logOperator": "operator", "acceptReceived": false,
		"requiredLogKeys": []string{w.keys[0].Verifier().String(), w.keys[1].Verifier().String()},
		"operators":       map[string]string{"w": "another"},
		"timeAuthorities": []any{map[string]string{
			"name": "one", "certificate": base64.StdEncoding.EncodeToString(timestamptest.New("one").Root.Cert.Raw),
		}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := verify.ParsePolicy([]byte(text), sidecar)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) config() Config {
	c := Config{
		Origin: testOrigin, Store: w.store, Policy: w.policy, Gatherer: w.public, Interval: time.Minute,
		Witnesses: []Witness{
			{Name: "p1", Keys: []*checkpoint.VerifierKey{w.public.keys[0].Verifier(), w.public.keys[1].Verifier()}, URL: "http://p1.test/"},
			{Name: "p2", Keys: []*checkpoint.VerifierKey{w.public.keys[2].Verifier()}, URL: "http://p2.test/"},
		},
		HTTP: &http.Client{Transport: w}, Registerer: w.metrics, Now: func() time.Time { return w.now },
		Logger: slog.New(slog.NewTextHandler(&w.lines, nil)),
	}
	policy := []int{1, 3, 6, 1, 4, 1, 99999, 1}
	c.Authorities = []Authority{
		{URL: "http://one.test/tsr", Authority: anchored.Authority{Name: "t1", Certificate: w.tsas["one.test"].a.Root.Cert, Policy: policy}},
		{URL: "http://two.test/tsr", Authority: anchored.Authority{Name: "t2", Certificate: w.tsas["two.test"].a.Unit.Cert}},
	}
	return c
}

// restart makes a worker that knows nothing but what is stored.
func (w *world) restart() {
	w.t.Helper()
	w.metrics = prometheus.NewRegistry()
	var err error
	if w.worker, err = New(w.config()); err != nil {
		w.t.Fatal(err)
	}
}

// publish grows the tree and publishes its checkpoint.
func (w *world) publish(size uint64) *checkpoint.Note {
	w.t.Helper()
	var entries [][]byte
	for i := w.tiles.Size(); i < size; i++ {
		entries = append(entries, fmt.Appendf(nil, "entry %d", i))
	}
	if _, err := w.tiles.Append(w.t.Context(), entries); err != nil {
		w.t.Fatal(err)
	}
	return w.putNote(w.quorum)
}

// putNote publishes the checkpoint of the tree, cosigned by one witness.
func (w *world) putNote(by *checkpoint.SigningKey) *checkpoint.Note {
	w.t.Helper()
	n, err := checkpoint.SignLog(checkpoint.Checkpoint{Origin: testOrigin, Size: w.tiles.Size(), Root: w.tiles.Root()}, uint64(w.now.Unix()), w.keys...)
	if err != nil {
		w.t.Fatal(err)
	}
	sig, err := by.SignCheckpoint(n.Text(), uint64(w.now.Unix()))
	if err != nil {
		w.t.Fatal(err)
	}
	if n, err = n.With(sig); err != nil {
		w.t.Fatal(err)
	}
	w.put(publishedKey, n.Bytes())
	return n
}

func (w *world) put(key string, data []byte) {
	w.t.Helper()
	if err := w.memory.Put(w.t.Context(), blob.Object{Key: key, Data: data}); err != nil {
		w.t.Fatal(err)
	}
}

// step expects no error.
func (w *world) step() {
	w.t.Helper()
	if err := w.worker.Step(w.t.Context()); err != nil {
		w.t.Error(err)
	}
}

func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

// stored returns what is stored, verified, in a line: the size, who has cosigned
// beside log and quorum, and whose tokens are there.
func (w *world) stored() string {
	w.t.Helper()
	raw, err := w.memory.Get(w.t.Context(), anchored.Key)
	if errors.Is(err, blob.ErrNotFound) {
		return "nothing"
	}
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := anchored.Parse(raw)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, tokens, err := r.Verify(w.policy, w.worker.judges()); err != nil || len(tokens) != len(r.Tokens) {
		w.t.Errorf("what is stored does not verify: %d tokens of %d, %v", len(tokens), len(r.Tokens), err)
	}
	if r.At.After(w.now) || w.now.Sub(r.At) > 24*time.Hour {
		w.t.Errorf("dated %s, it is %s", r.At, w.now)
	}
	parts := []string{strconv.FormatUint(r.Note.Checkpoint().Size, 10)}
	for _, k := range w.public.keys {
		if _, ok := signedBy(r.Note, k.Verifier()); ok {
			parts = append(parts, fmt.Sprintf("%s/%d", k.Verifier().Name(), k.Verifier().Algorithm()))
		}
	}
	for _, t := range r.Tokens {
		parts = append(parts, t.Authority)
	}
	return strings.Join(parts, " ")
}

// all is what is stored when everybody has answered.
func all(size uint64) string { return fmt.Sprintf("%d p1.test/4 p1.test/6 p2.test/4 t1 t2", size) }

func (w *world) want(what, want string) {
	w.t.Helper()
	if got := w.stored(); got != want {
		w.t.Errorf("%s: stored is %q, want %q", what, got, want)
	}
}

// asked returns how often each has been asked since the last call.
func (w *world) asked() string {
	parts := []string{fmt.Sprint("witnesses ", w.public.asked)}
	w.public.asked = 0
	for _, name := range slices.Sorted(maps.Keys(w.tsas)) {
		parts = append(parts, fmt.Sprint(name, " ", w.tsas[name].asked))
		w.tsas[name].asked = 0
	}
	return strings.Join(parts, ", ")
}

func counts(witnesses, one, two int) string {
	return fmt.Sprintf("witnesses %d, one.test %d, two.test %d", witnesses, one, two)
}

// RoundTrip implements http.RoundTripper: the authorities.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	return w.tsas[r.URL.Host].answer(r)
}

// publicWitnesses cosign in process, strictly.
type publicWitnesses struct {
	t     testing.TB
	keys  []*checkpoint.SigningKey
	now   func() time.Time
	asked int
	down  map[string]bool
	last  checkpoint.Checkpoint
	lie   func([]checkpoint.Signature) []checkpoint.Signature
}

// Gather implements Witnesses.
func (p *publicWitnesses) Gather(
	ctx context.Context, note *checkpoint.Note, prove func(context.Context, uint64, uint64) ([][32]byte, error),
) (signed []checkpoint.Signature, missing error) {
	p.asked++
	c := note.Checkpoint()
	if p.last.Size > c.Size || p.last.Size == c.Size && p.last.Root != c.Root {
		p.t.Errorf("asked for size %d after %d", c.Size, p.last.Size)
	}
	if p.last.Size > 0 && p.last.Size < c.Size {
		hashes, err := prove(ctx, p.last.Size, c.Size)
		path := make([][]byte, len(hashes))
		for i := range hashes {
			path[i] = hashes[i][:]
		}
		if err != nil || proof.VerifyConsistency(rfc6962.DefaultHasher, p.last.Size, c.Size, path, p.last.Root[:], c.Root[:]) != nil {
			p.t.Errorf("no proof from %d to %d: %v", p.last.Size, c.Size, err)
		}
	}
	p.last = c
	for _, k := range p.keys {
		if p.down[k.Verifier().Name()] {
			missing = fmt.Errorf("%s is down", k.Verifier().Name())
			continue
		}
		sig, err := k.SignCheckpoint(note.Text(), uint64(p.now().Unix()))
		if err != nil {
			p.t.Error(err)
		}
		signed = append(signed, sig)
	}
	if p.lie != nil {
		signed = p.lie(signed)
	}
	return signed, missing
}

// tsa is a time-stamp authority.
type tsa struct {
	t   testing.TB
	a   *timestamptest.Authority
	now func() time.Time
	mu  sync.Mutex

	asked  int
	nonces []string
	change func(*timestamptest.Draft)
	// reply takes the place of the answer; may be nil.
	reply func(good *http.Response) (*http.Response, error)
}

func (a *tsa) answer(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	q, err := timestamp.ParseRequest(body)
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/timestamp-query" || q.Nonce == nil {
		a.t.Errorf("%s %s, %s: %+v, %v", r.Method, r.URL, r.Header.Get("Content-Type"), q, err)
	}
	if n := q.Nonce.String(); slices.Contains(a.nonces, n) {
		a.t.Error("a nonce was used twice")
	}
	a.nonces = append(a.nonces, q.Nonce.String())
	token := a.a.Stamp([32]byte(q.Digest), a.now(), func(d *timestamptest.Draft) {
		d.Nonce = timestamptest.BigInt(new(big.Int).Set(q.Nonce))
		if a.change != nil {
			a.change(d)
		}
	})
	good := timestampReply(timestamptest.Sequence(timestamptest.Sequence(timestamptest.Int(0)), token))
	if a.reply != nil {
		return a.reply(good)
	}
	return good, nil
}

func timestampReply(body []byte) *http.Response {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/timestamp-reply"}},
		Body: io.NopCloser(bytes.NewReader(body)),
	}
}
