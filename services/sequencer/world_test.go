package sequencer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/pebblestore"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
	"github.com/trialog/trialog/services/sequencer/ledger"
	"github.com/trialog/trialog/services/sequencer/witnessing"
)

const (
	testLog    = "log.test/trials"
	testOrigin = testLog + "/1"
)

// seeded is a reader of bytes that follow from a seed, for keys that are the
// same in every run.
type seeded struct {
	seed byte
	n    uint64
}

func (s *seeded) Read(p []byte) (int, error) {
	for i := range p {
		var b [9]byte
		b[0] = s.seed
		binary.BigEndian.PutUint64(b[1:], s.n)
		h := sha256.Sum256(b[:])
		p[i] = h[0]
		s.n++
	}
	return len(p), nil
}

func testKey(t testing.TB, seed byte) *statement.PrivateKey {
	t.Helper()
	k, err := statement.GenerateKey(&seeded{seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func noteKey(t testing.TB, seed byte, name string, alg checkpoint.Algorithm) *checkpoint.SigningKey {
	t.Helper()
	k, err := checkpoint.GenerateKey(&seeded{seed: seed}, name, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// world is a shard with everything around it, in a temporary folder.
type world struct {
	t        testing.TB
	dir      string
	logKeys  []*checkpoint.SigningKey
	pending  *statement.PrivateKey
	policy   *verify.Policy
	witness  *witnesses
	limits   Limits
	now      func() time.Time
	wrap     func(*Config)
	seq      *Sequencer
	stop     context.CancelFunc
	done     chan struct{}
	err      error
	closers  []func() error
	admin    *statement.PrivateKey
	recovery *statement.PrivateKey
	chain    map[string]statement.Link
}

// newWorld makes a shard with an empty register; start runs it.
func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldIn(t, t.TempDir())
}

// newWorldIn makes a shard in dir, or goes on with what is there.
func newWorldIn(t testing.TB, dir string) *world {
	t.Helper()
	w := &world{
		t: t, dir: dir, now: time.Now, chain: map[string]statement.Link{},
		logKeys: []*checkpoint.SigningKey{
			noteKey(t, 1, testOrigin, checkpoint.AlgEd25519), noteKey(t, 2, testOrigin, checkpoint.AlgMLDSA44),
		},
		pending: testKey(t, 3), admin: testKey(t, 4), recovery: testKey(t, 5),
		limits: Limits{Interval: time.Millisecond, RetryQuorum: 5 * time.Millisecond, RetryProbe: 5 * time.Millisecond, BatchDelay: time.Millisecond},
	}
	w.witness = newWitnesses(t, 3)
	w.policy = w.makePolicy()
	r, err := register.OpenFile(filepath.Join(w.dir, "register"))
	if err != nil {
		t.Fatal(err)
	}
	err = r.Create(context.Background(), register.Record{Origin: testOrigin, Root: tlog.EmptyRoot().Hash})
	if err != nil && !errors.Is(err, register.ErrExists) {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.halt() })
	return w
}

func (w *world) makePolicy() *verify.Policy {
	var text strings.Builder
	operators, groups, required := map[string]string{}, []string{}, []string{}
	for _, k := range w.logKeys {
		fmt.Fprintf(&text, "log %s\n", k.Verifier())
		required = append(required, k.Verifier().String())
	}
	for i, k := range w.witness.keys {
		fmt.Fprintf(&text, "witness w%d %s https://w%d.test\ngroup g%d all w%d\n", i, k.Verifier(), i, i, i)
		groups = append(groups, fmt.Sprintf("g%d", i))
		operators[groups[i]] = fmt.Sprintf("operator %d", i)
	}
	fmt.Fprintf(&text, "group q 2 %s\nquorum q\n", strings.Join(groups, " "))
	sidecar, err := json.Marshal(map[string]any{
		"format": verify.TrustFormat, "log": testLog, "logOperator": "log operator", "acceptReceived": true,
		"requiredLogKeys": required, "operators": operators,
		"pendingKeys": []string{base64.StdEncoding.EncodeToString(w.pending.Public().DER())},
		"gateways":    []string{testKey(w.t, 23).ID().String(), testKey(w.t, 24).ID().String()},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := verify.ParsePolicy([]byte(text.String()), sidecar)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// open opens the stores and makes the Sequencer.
func (w *world) open() {
	w.t.Helper()
	check := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	w.closers = nil
	reg, err := register.OpenFile(filepath.Join(w.dir, "register"))
	check(err)
	store, err := pebblestore.Open(filepath.Join(w.dir, "store"), pebblestore.Options{})
	check(err)
	log, err := trillian.Open(context.Background(), trillian.Config{
		Storage: store, Admin: store.Admin(), Origin: testOrigin, Create: true, CloseStorage: store.Close,
	})
	check(err)
	tiles, err := blob.OpenDir(filepath.Join(w.dir, "tiles"))
	check(err)
	book, err := ledger.Open(filepath.Join(w.dir, "ledger"), nil)
	check(err)
	w.closers = []func() error{reg.Close, log.Close, book.Close, tiles.Close}
	c := Config{
		Log: testLog, Origin: testOrigin, Tree: log, Tiles: tiles, Register: reg, Ledger: book, Witness: w.witness,
		Policy: w.policy, LogKeys: w.logKeys, PendingKey: w.pending, Now: w.now, Limits: w.limits,
	}
	if w.wrap != nil {
		w.wrap(&c)
	}
	w.seq, err = New(c)
	check(err)
}

// start opens and runs the shard and waits until it is ready or has refused.
func (w *world) start() error {
	w.t.Helper()
	w.open()
	ctx, cancel := context.WithCancel(context.Background())
	w.stop, w.done, w.err = cancel, make(chan struct{}), nil
	go func() {
		defer close(w.done)
		w.err = w.seq.Run(ctx)
	}()
	for {
		w.seq.mu.Lock()
		ready, changed := w.seq.ready, w.seq.changed
		w.seq.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-w.done:
			return w.err
		case <-changed:
		case <-time.After(time.Millisecond): // readiness itself is not announced
		}
	}
}

// halt stops the shard and closes its stores. It returns what Run returned.
func (w *world) halt() error {
	if w.stop == nil {
		return w.err
	}
	w.stop()
	<-w.done
	w.stop = nil
	w.close()
	return w.err
}

func (w *world) close() {
	for _, c := range w.closers {
		if err := c(); err != nil {
			w.t.Error(err)
		}
	}
}

// draft makes a statement that continues the chain of its first signer.
func (w *world) draft(kind statement.Kind, trial string, keys []*statement.PrivateKey, change func(*statement.Statement)) *statement.Statement {
	s := &statement.Statement{Log: testLog, Organisation: "acme", Trial: trial, Kind: kind}
	for _, k := range keys {
		s.Signers = append(s.Signers, statement.Signer{Key: k.ID(), Meaning: statement.Authorship, At: "2026-03-03T09:14:02Z"})
	}
	last := w.chain[trial+"/"+keys[0].ID().String()]
	s.Chain = statement.Link{Number: last.Number + 1, Previous: last.Previous}
	s.Beacon = beaconOf(w.seq.Checkpoint())
	if change != nil {
		change(s)
	}
	return s
}

// beaconOf names a note; nil if there is none.
func beaconOf(note *checkpoint.Note) *statement.Beacon {
	if note == nil {
		return nil
	}
	c := note.Checkpoint()
	return &statement.Beacon{Origin: c.Origin, Size: c.Size, Note: statement.Digest(note.Digest())}
}

func (w *world) beacon() []byte {
	if note := w.seq.Checkpoint(); note != nil {
		return note.Bytes()
	}
	return nil
}

// sign builds and signs a statement.
func (w *world) sign(s *statement.Statement, keys ...*statement.PrivateKey) *statement.Envelope {
	w.t.Helper()
	payload, err := statement.Build(s)
	if err != nil {
		w.t.Fatal(err)
	}
	env, err := statement.Sign(payload, keys...)
	if err != nil {
		w.t.Fatal(err)
	}
	return env
}

// advance notes that a statement was taken in.
func (w *world) advance(s *statement.Statement, id statement.Identity) {
	w.chain[s.Trial+"/"+s.Writer().String()] = statement.Link{Number: s.Chain.Number, Previous: id}
}

// add submits a statement and expects success.
func (w *world) add(s *statement.Statement, keys ...*statement.PrivateKey) *Answer {
	w.t.Helper()
	env := w.sign(s, keys...)
	req := Request{Envelope: env.Bytes(), Granted: []statement.Role{statement.Sponsor, statement.Admin}}
	if s.Beacon != nil {
		req.Beacon = w.beacon()
	}
	a, err := w.seq.Add(context.Background(), req)
	if err != nil {
		w.t.Fatalf("add a %s: %v", s.Kind, err)
	}
	w.advance(s, a.Identity)
	return a
}

// enrol enrols the organisation's first key and opens a trial.
func (w *world) enrol() {
	w.t.Helper()
	w.add(w.draft(statement.KindKey, "", []*statement.PrivateKey{w.admin}, func(s *statement.Statement) {
		s.Subject, s.Digest = statement.SubjectKey, w.admin.ID()
		s.Attributes = []statement.Member{
			statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", w.admin.Public()),
			statement.ListMember("roles", "sponsor", "admin"), statement.KeyMember("recovery", w.recovery.Public()),
		}
	}), w.admin)
	w.openTrial("T1")
}

func (w *world) openTrial(trial string) *Answer {
	w.t.Helper()
	return w.add(w.draft(statement.KindTrial, trial, []*statement.PrivateKey{w.admin}, func(s *statement.Statement) {
		s.Subject, s.Digest = statement.SubjectTrial, statement.TrialDigest(testLog, "acme", trial)
	}), w.admin)
}

// protocol drafts a protocol whose document is text.
func (w *world) protocol(trial, text string) *statement.Statement {
	return w.draft(statement.KindProtocol, trial, []*statement.PrivateKey{w.admin}, func(s *statement.Statement) {
		s.MediaType, s.Subject, s.Digest = "text/plain", statement.SubjectSHA256, sum(text)
	})
}

// check verifies a receipt offline.
func (w *world) check(raw []byte, document string) *verify.Verdict {
	w.t.Helper()
	in := verify.Input{Receipt: raw, Policy: w.policy, Now: w.now()}
	if document == "" {
		in.StatementOnly = true
	} else {
		in.Document = []byte(document)
	}
	v, err := verify.Verify(in)
	if err != nil {
		w.t.Fatalf("verify a receipt: %v", err)
	}
	return v
}

// witnesses cosign in process, strictly: each remembers one history and checks
// every consistency proof.
type witnesses struct {
	t    testing.TB
	keys []*checkpoint.SigningKey
	mu   sync.Mutex
	last []checkpoint.Checkpoint
	down []bool
	lies []bool // Probe: says that it has seen more
	// offered holds every body that the log has signed and shown, by size.
	offered map[uint64]checkpoint.Hash
	// cosigned is told of each new body before the answer; may be nil.
	cosigned func(witness int, c checkpoint.Checkpoint)
	// fail is returned by Cosign after the witnesses have signed; may be nil.
	fail func() error
}

func newWitnesses(t testing.TB, n int) *witnesses {
	w := &witnesses{t: t, offered: map[uint64]checkpoint.Hash{}, lies: make([]bool, n)}
	for i := range n {
		w.keys = append(w.keys, noteKey(t, byte(10+i), fmt.Sprintf("w%d.test", i), checkpoint.AlgEd25519Cosignature))
		w.last = append(w.last, checkpoint.Checkpoint{Origin: testOrigin, Root: tlog.EmptyRoot().Hash})
		w.down = append(w.down, false)
	}
	return w
}

// Cosign implements Witnesses.
func (w *witnesses) Cosign(ctx context.Context, note *checkpoint.Note, prove witnessing.ProveFunc) (*checkpoint.Note, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := note.Checkpoint()
	w.see(c)
	var sigs []checkpoint.Signature
	for i, k := range w.keys {
		if w.down[i] || !w.consistent(ctx, i, c, prove) {
			continue
		}
		sig, err := k.SignCheckpoint(note.Text(), uint64(time.Now().Unix()))
		if err != nil {
			return nil, err
		}
		if w.last[i] = c; w.cosigned != nil {
			w.cosigned(i, c)
		}
		sigs = append(sigs, sig)
	}
	if w.fail != nil {
		if err := w.fail(); err != nil {
			return nil, err
		}
	}
	if len(sigs) < 2 {
		return nil, &witnessing.NoQuorumError{Checkpoint: c}
	}
	return note.With(sigs...)
}

// see holds what the log has signed against all that it has signed before.
func (w *witnesses) see(c checkpoint.Checkpoint) {
	if root, ok := w.offered[c.Size]; ok && root != c.Root {
		w.t.Errorf("the log has signed two roots at size %d", c.Size)
	}
	w.offered[c.Size] = c.Root
}

// bodies returns how many different bodies the log has signed and shown.
func (w *witnesses) bodies() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.offered)
}

func (w *witnesses) consistent(ctx context.Context, i int, c checkpoint.Checkpoint, prove witnessing.ProveFunc) bool {
	old := w.last[i]
	if c.Size == old.Size {
		return c.Root == old.Root
	}
	if c.Size < old.Size {
		return false
	}
	if old.Size == 0 {
		return true
	}
	hashes, err := prove(ctx, old.Size, c.Size)
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		w.t.Errorf("prove %d to %d: %v", old.Size, c.Size, err)
		return false
	}
	path := make([][]byte, len(hashes))
	for i := range hashes {
		path[i] = hashes[i][:]
	}
	return proof.VerifyConsistency(rfc6962.DefaultHasher, old.Size, c.Size, path, old.Root[:], c.Root[:]) == nil
}

// Probe implements Witnesses.
func (w *witnesses) Probe(_ context.Context, note *checkpoint.Note) ([]witnessing.WitnessResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := note.Checkpoint()
	w.see(c)
	var out []witnessing.WitnessResult
	for i := range w.keys {
		r := witnessing.WitnessResult{Witness: fmt.Sprintf("w%d", i), Size: w.last[i].Size, Outcome: witnessing.Cosigned}
		switch {
		case w.down[i]:
			r.Outcome = witnessing.Unreachable
		case w.lies[i]:
			r.Outcome, r.Size = witnessing.Ahead, 1<<60
		case w.last[i].Size > c.Size:
			r.Outcome = witnessing.Ahead
		case w.last[i].Size < c.Size:
			r.Outcome = witnessing.Behind
		case w.last[i].Root != c.Root:
			r.Outcome = witnessing.Refused
		}
		out = append(out, r)
	}
	return out, nil
}

// Unasked implements Witnesses.
func (w *witnesses) Unasked(results []witnessing.WitnessResult) bool {
	n := 0
	for _, r := range results {
		if r.Outcome == witnessing.Unreachable {
			n++
		}
	}
	return n >= 2
}

func (w *witnesses) setDown(down ...bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	copy(w.down, down)
}

func sum(text string) statement.Digest { return sha256.Sum256([]byte(text)) }

// await returns when done does, which is asked again and again.
func await(done func() bool) {
	for !done() {
		<-time.After(time.Millisecond)
	}
}
