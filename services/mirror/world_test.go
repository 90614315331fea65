package mirror_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/mirror"
)

const (
	logName = "log.example"
	origin  = "log.example/shard"
)

// otherShard is one that the policy lists too.
const otherShard = "log.example/other"

// keys sign for a log and its one witness.
type keys struct {
	origin  string
	log     []*checkpoint.SigningKey
	witness *checkpoint.SigningKey
	policy  *verify.Policy
}

func seeded(t testing.TB, name string, alg checkpoint.Algorithm) *checkpoint.SigningKey {
	t.Helper()
	seed := sha256.Sum256([]byte(fmt.Sprintf("%s %d", name, alg)))
	key, err := checkpoint.GenerateKey(bytes.NewReader(seed[:]), name, alg)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newKeys(t testing.TB, name string) *keys {
	t.Helper()
	k := &keys{
		origin:  name,
		log:     []*checkpoint.SigningKey{seeded(t, name, checkpoint.AlgEd25519), seeded(t, name, checkpoint.AlgMLDSA44)},
		witness: seeded(t, "witness.example", checkpoint.AlgEd25519Cosignature),
	}
	var text strings.Builder
	var required []string
	for _, shard := range []string{origin, otherShard} {
		for _, alg := range []checkpoint.Algorithm{checkpoint.AlgEd25519, checkpoint.AlgMLDSA44} {
			key := seeded(t, shard, alg).Verifier().String()
			fmt.Fprintf(&text, "log %s\n", key)
			required = append(required, key)
		}
	}
	fmt.Fprintf(&text, "witness w %s\nquorum w\n", k.witness.Verifier())
	sidecar, err := json.Marshal(map[string]any{
		"format": verify.TrustFormat, "log": logName, "logOperator": "operator", "acceptReceived": false,
		"requiredLogKeys": required, "operators": map[string]string{"w": "operator"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if k.policy, err = verify.ParsePolicy([]byte(text.String()), sidecar); err != nil {
		t.Fatal(err)
	}
	return k
}

// sign returns the note of a head at a time of the witness.
func (k *keys) sign(t testing.TB, c checkpoint.Checkpoint, at uint64) []byte {
	t.Helper()
	note, err := checkpoint.SignLog(c, at, k.log...)
	if err != nil {
		t.Fatal(err)
	}
	cosignature, err := k.witness.SignCheckpoint(note.Text(), at)
	if err != nil {
		t.Fatal(err)
	}
	if note, err = note.With(cosignature); err != nil {
		t.Fatal(err)
	}
	return note.Bytes()
}

// source is a growing log.
type source struct {
	*keys

	store  *blob.Memory
	writer *tile.Writer
	time   uint64
	beacon []byte // what the next statement names
	key    *statement.PrivateKey
}

func newSource(t testing.TB) *source {
	t.Helper()
	return newSourceOf(t, origin)
}

func newSourceOf(t testing.TB, name string) *source {
	t.Helper()
	s := &source{keys: newKeys(t, name), store: blob.NewMemory(), time: 1_700_000_000}
	var err error
	if s.writer, err = tile.OpenWriter(t.Context(), s.store); err != nil {
		t.Fatal(err)
	}
	if s.key, err = statement.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	return s
}

// opaque is an entry that is no statement.
func opaque(index uint64, seed byte) []byte {
	e := binary.BigEndian.AppendUint64([]byte{seed}, index*0x9e3779b97f4a7c15)
	return append(e, bytes.Repeat([]byte{byte(index)}, int(index%23))...)
}

// saying is an entry with a statement that names the source's beacon.
func (s *source) saying(t testing.TB) []byte {
	t.Helper()
	st := &statement.Statement{
		Log: logName, Organisation: "sponsor-a", Kind: statement.KindKey,
		Signers: []statement.Signer{{Key: s.key.ID(), Meaning: statement.Responsibility, At: "2026-03-01T00:00:00Z"}},
		Chain:   statement.Link{Number: 1}, Subject: statement.SubjectKey, Digest: s.key.ID(),
		Attributes: []statement.Member{
			statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", s.key.Public()),
			statement.ListMember("roles", string(statement.Sponsor)), statement.KeyMember("recovery", s.key.Public()),
		},
	}
	note, err := checkpoint.Parse(s.beacon)
	if err != nil {
		t.Fatal(err)
	}
	c := note.Checkpoint()
	st.Beacon = &statement.Beacon{Origin: c.Origin, Size: c.Size, Note: statement.Digest(sha256.Sum256(s.beacon))}
	payload, err := statement.Build(st)
	if err != nil {
		t.Fatal(err)
	}
	env, err := statement.Sign(payload, s.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := entry.Encode(time.UnixMilli(1_700_000_000_000), env.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// grow appends entries up to a size; every tenth names a beacon.
func (s *source) grow(t testing.TB, size uint64) *source {
	t.Helper()
	var entries [][]byte
	for i := s.writer.Size(); i < size; i++ {
		if i%10 == 9 && s.beacon != nil {
			entries = append(entries, s.saying(t))
		} else {
			entries = append(entries, opaque(i, 0))
		}
	}
	if _, err := s.writer.Append(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *source) head() checkpoint.Checkpoint {
	return checkpoint.Checkpoint{Origin: s.origin, Size: s.writer.Size(), Root: s.writer.Root()}
}

// publish cosigns and publishes the writer's head, and keeps the note as the
// beacon of the statements to come.
func (s *source) publish(t testing.TB) []byte {
	t.Helper()
	s.time++
	note := s.sign(t, s.head(), s.time)
	digest := sha256.Sum256(note)
	put(t, s.store, "checkpoint", note)
	put(t, s.store, "beacon/"+hex.EncodeToString(digest[:]), note)
	s.beacon = note
	return note
}

func put(t testing.TB, s blob.Store, key string, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), blob.Object{Key: key, Data: data}); err != nil {
		t.Fatal(err)
	}
}

func keysOf(t testing.TB, s blob.Store, prefix string) []string {
	t.Helper()
	var list []string
	for key, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, key)
	}
	return list
}

// logLines collects what is logged.
type logLines struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	what string
	do   func()
}

// on calls do when a line with what in it is logged.
func (l *logLines) on(what string, do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.what, l.do = what, do
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.do != nil && strings.Contains(string(b), l.what) {
		l.do()
	}
	return l.buf.Write(b)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (s *source) config(from tile.Source, store blob.Store) mirror.Config {
	return mirror.Config{
		Source: from, Store: store, Policy: s.policy, Origin: origin, Now: time.Now,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func newMirror(t testing.TB, c mirror.Config) *mirror.Mirror {
	t.Helper()
	m, err := mirror.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sameLog checks that a store holds what the source's does, byte for byte, at the
// published checkpoint: the mirror computed the hash tiles itself.
func (s *source) sameLog(t *testing.T, store blob.Store) {
	t.Helper()
	for _, prefix := range []string{"tile/", "tail/", "checkpoint"} {
		want, got := keysOf(t, s.store, prefix), keysOf(t, store, prefix)
		if !slices.Equal(want, got) {
			t.Errorf("the mirror has %v, expected %v", got, want)
		}
		for _, key := range want {
			a, errA := s.store.Get(t.Context(), key)
			b, errB := store.Get(t.Context(), key)
			if errA != nil || errB != nil || !bytes.Equal(a, b) {
				t.Errorf("%s differs from the source's: %v, %v", key, errA, errB)
			}
		}
	}
}

// holds checks that a store serves the log at the size of a note: the whole tree
// verifies, and the note is the published one.
func (s *source) holds(t *testing.T, store blob.Store, note []byte) {
	t.Helper()
	published, err := store.Get(t.Context(), "checkpoint")
	if err != nil || !bytes.Equal(published, note) {
		t.Errorf("the mirror has published another note: %v", err)
		return
	}
	parsed, err := checkpoint.Parse(note)
	if err != nil {
		t.Fatal(err)
	}
	c := parsed.Checkpoint()
	tree, err := tile.NewReader(store).Tree(t.Context(), c.Size, c.Root)
	if err != nil {
		t.Errorf("the mirror's tree: %v", err)
		return
	}
	if list, err := tree.Entries(t.Context(), 0, int(c.Size)); err != nil || uint64(len(list)) != c.Size {
		t.Errorf("the mirror's entries: %d, %v", len(list), err)
	}
}

var errAway = errors.New("the source is away")

// flawed is a Source that changes what a store gives.
type flawed struct {
	blob.Store

	mu   sync.Mutex
	flaw func(key string, data []byte, err error) ([]byte, error)
}

func (f *flawed) At(uint64) blob.Store { return f }

func (f *flawed) set(flaw func(key string, data []byte, err error) ([]byte, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flaw = flaw
}

func (f *flawed) Get(ctx context.Context, key string) ([]byte, error) {
	f.mu.Lock()
	flaw := f.flaw
	f.mu.Unlock()
	data, err := f.Store.Get(ctx, key)
	if flaw == nil {
		return data, err
	}
	return flaw(key, data, err)
}

func (f *flawed) List(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("", errors.New("a source is not listed")) }
}

// served is the part of keys that a mirror reads: not what only writers use.
func served(list []string) []string {
	return slices.DeleteFunc(list, func(key string) bool { return strings.HasSuffix(key, "/head") })
}

// evidence reads the one file of evidence that a mirror's store has of a reason.
func (s *source) evidence(t *testing.T, store blob.Store, reason string) ([]*checkpoint.Note, *evidence.Finding) {
	t.Helper()
	keys := keysOf(t, store, "evidence/"+reason+"/")
	if len(keys) != 1 || !strings.HasSuffix(keys[0], evidence.Ending) {
		t.Fatalf("evidence %v", keys)
	}
	raw, err := store.Get(t.Context(), keys[0])
	if err != nil {
		t.Fatal(err)
	}
	e, err := evidence.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return e.Notes, e.Judge(s.policy)
}

func sameNote(raw []byte) func(*checkpoint.Note) bool {
	return func(n *checkpoint.Note) bool { return bytes.Equal(n.Bytes(), raw) }
}
