package recovery_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	apitile "github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/register/registertest"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tilehttp"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/pebblestore"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
	"github.com/trialog/trialog/services/recovery"
)

const (
	logName = "log.test/trials"
	origin  = logName + "/1"
)

// The story of every test: a first checkpoint, which later statements name as
// their beacon; a published one; one that the log has signed but no quorum has
// cosigned; and entries that were promised but not signed for.
const (
	first     = 300
	published = 600
	candidate = 650
	all       = 700
)

// history is a log of which everything is known.
type history struct {
	leaves  []tlog.Leaf
	roots   map[uint64][32]byte
	tiles   map[uint64]*blob.Memory // the tile store when the log had this size
	policy  *verify.Policy
	keys    []*checkpoint.SigningKey
	witness *checkpoint.SigningKey
	beacon  []byte
	sizes   [4]uint64
}

func noteKey(t testing.TB, name string, alg checkpoint.Algorithm) *checkpoint.SigningKey {
	t.Helper()
	seed := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, alg))
	k, err := checkpoint.GenerateKey(bytes.NewReader(seed[:]), name, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newHistory makes a log of which base, if it is not nil, has the same entries
// before index from.
func newHistory(t testing.TB, of string, base *history, from uint64) *history {
	t.Helper()
	return newHistoryOf(t, of, base, from, [4]uint64{first, published, candidate, all})
}

// newHistoryOf makes a log whose story has other sizes.
func newHistoryOf(t testing.TB, of string, base *history, from uint64, sizes [4]uint64) *history {
	t.Helper()
	h := &history{
		keys: []*checkpoint.SigningKey{
			noteKey(t, of, checkpoint.AlgEd25519), noteKey(t, of, checkpoint.AlgMLDSA44),
		},
		witness: noteKey(t, "witness.test", checkpoint.AlgEd25519Cosignature),
		roots:   map[uint64][32]byte{}, tiles: map[uint64]*blob.Memory{}, sizes: sizes,
	}
	h.policy = h.makePolicy(t)
	store := blob.NewMemory()
	w, err := tile.OpenWriter(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	h.roots[0] = w.Root()
	seed := sha256.Sum256([]byte("submitter"))
	submitter, err := statement.GenerateKey(bytes.NewReader(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	link := statement.Link{Number: 1}
	var beacon *statement.Beacon
	for stage, size := range sizes {
		var values [][]byte
		for i := uint64(len(h.leaves)); i < size; i++ {
			organisation := "sponsor"
			if base != nil && i >= from {
				organisation += ".two"
			}
			leaf := makeLeaf(t, submitter, organisation, link, beacon)
			link = statement.Link{Number: link.Number + 1, Previous: leaf.Identity}
			h.leaves, values = append(h.leaves, leaf), append(values, leaf.Value)
		}
		if h.roots[size], err = w.Append(t.Context(), values); err != nil {
			t.Fatal(err)
		}
		c := checkpoint.Checkpoint{Origin: of, Size: size, Root: h.roots[size]}
		switch stage {
		case 0:
			if h.beacon = h.cosign(t, c); base != nil {
				h.beacon = base.beacon // no two signatures by one ML-DSA key are equal
			}
			put(t, store, "checkpoint", h.beacon)
			digest := sha256.Sum256(h.beacon)
			put(t, store, "beacon/"+hex.EncodeToString(digest[:]), h.beacon)
			beacon = &statement.Beacon{Origin: of, Size: size, Note: digest}
		case 1:
			put(t, store, "checkpoint", h.cosign(t, c))
		case 2:
			put(t, store, "candidate", h.sign(t, c).Bytes())
		}
		h.tiles[size] = clone(t, store)
	}
	return h
}

// append adds one statement of a kind and returns the new size.
func (h *history) append(t testing.TB, kind statement.Kind) uint64 {
	t.Helper()
	seed := sha256.Sum256([]byte("operator"))
	k, err := statement.GenerateKey(bytes.NewReader(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	leaf := encode(t, k, &statement.Statement{
		Log: logName, Organisation: "operator", Kind: kind,
		Signers: []statement.Signer{{Key: k.ID(), Meaning: statement.Responsibility, At: "2026-11-21T12:00:00Z"}},
		Chain:   statement.Link{Number: 1}, Subject: statement.SubjectLog, Digest: statement.LogDigest(logName),
		Attributes: []statement.Member{statement.TextMember("successor", logName+"/2")},
	})
	store := clone(t, h.tiles[uint64(len(h.leaves))])
	w, err := tile.OpenWriter(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	h.leaves = append(h.leaves, leaf)
	size := uint64(len(h.leaves))
	if h.roots[size], err = w.Append(t.Context(), [][]byte{leaf.Value}); err != nil {
		t.Fatal(err)
	}
	h.tiles[size] = store
	return size
}

func makeLeaf(t testing.TB, k *statement.PrivateKey, organisation string, link statement.Link, b *statement.Beacon) tlog.Leaf {
	t.Helper()
	return encode(t, k, &statement.Statement{
		Log: logName, Organisation: organisation, Kind: statement.KindKey,
		Signers: []statement.Signer{{Key: k.ID(), Meaning: statement.Responsibility, At: "2026-11-21T12:00:00Z"}},
		Chain:   link, Subject: statement.SubjectKey, Digest: k.ID(), Beacon: b,
		Attributes: []statement.Member{
			statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", k.Public()),
			statement.ListMember("roles", string(statement.Sponsor)), statement.KeyMember("recovery", k.Public()),
		},
	})
}

// encode builds and signs a statement and makes an entry of it.
func encode(t testing.TB, k *statement.PrivateKey, stmt *statement.Statement) tlog.Leaf {
	t.Helper()
	payload, err := statement.Build(stmt)
	if err != nil {
		t.Fatal(err)
	}
	env, err := statement.Sign(payload, k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := entry.Encode(time.UnixMilli(1_790_000_000_000+int64(stmt.Chain.Number)), env.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return tlog.Leaf{Identity: statement.Identify(payload, []statement.KeyID{k.ID()}), Value: raw}
}

func (h *history) makePolicy(t testing.TB) *verify.Policy {
	t.Helper()
	var text strings.Builder
	var required []string
	for _, k := range h.keys {
		fmt.Fprintf(&text, "log %s\n", k.Verifier())
		required = append(required, k.Verifier().String())
	}
	fmt.Fprintf(&text, "witness w %s\nquorum w\n", h.witness.Verifier())
	sidecar, err := json.Marshal(map[string]any{
		"format": verify.TrustFormat, "log": logName, "logOperator": "operator", "acceptReceived": true,
		"requiredLogKeys": required, "operators": map[string]string{"w": "operator"},
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := verify.ParsePolicy([]byte(text.String()), sidecar)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (h *history) sign(t testing.TB, c checkpoint.Checkpoint) *checkpoint.Note {
	t.Helper()
	n, err := checkpoint.SignLog(c, 1_790_000_000, h.keys...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (h *history) cosign(t testing.TB, c checkpoint.Checkpoint) []byte {
	t.Helper()
	n := h.sign(t, c)
	sig, err := h.witness.SignCheckpoint(n.Text(), 1_790_000_001)
	if err != nil {
		t.Fatal(err)
	}
	if n, err = n.With(sig); err != nil {
		t.Fatal(err)
	}
	return n.Bytes()
}

// mirrorAt returns what a mirror holds that has followed the log to a size: the
// tiles and a cosigned checkpoint, no head beyond it and no candidate.
func (h *history) mirrorAt(t testing.TB, size uint64) *blob.Memory {
	t.Helper()
	m := clone(t, h.tiles[size])
	put(t, m, "checkpoint", h.cosign(t, checkpoint.Checkpoint{Origin: h.keys[0].Verifier().Name(), Size: size, Root: h.roots[size]}))
	if err := m.Delete(t.Context(), "candidate"); err != nil {
		t.Fatal(err)
	}
	return m
}

func (h *history) record(size uint64) register.Record {
	return register.Record{Origin: origin, Size: size, Root: h.roots[size]}
}

// store returns a real store with the first entries, integrated.
func (h *history) store(t testing.TB, size uint64) tlog.Log {
	t.Helper()
	s, err := pebblestore.Open("log", pebblestore.Options{FS: vfs.NewMem(), CacheBytes: 8 << 20, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	l, err := trillian.Open(context.Background(), trillian.Config{
		Storage: s, Admin: s.Admin(), Origin: origin, Create: true, CloseStorage: s.Close,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := l.Append(t.Context(), 0, h.leaves[:size]); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Integrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func put(t testing.TB, s blob.Store, key string, data []byte) {
	t.Helper()
	if err := s.Put(context.Background(), blob.Object{Key: key, Data: data}); err != nil {
		t.Fatal(err)
	}
}

func keysOf(t testing.TB, s blob.Store) []string {
	t.Helper()
	var keys []string
	for key, err := range s.List(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

func clone(t testing.TB, s blob.Store) *blob.Memory {
	t.Helper()
	m := blob.NewMemory()
	for _, key := range keysOf(t, s) {
		data, err := s.Get(context.Background(), key)
		if err != nil {
			t.Fatal(err)
		}
		put(t, m, key, data)
	}
	return m
}

// flip changes one byte in the middle of an object.
func flip(t testing.TB, s blob.Store, key string) {
	t.Helper()
	data, err := s.Get(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	put(t, s, key, data)
}

// web serves a mirror's store as C2SP tlog-tiles, and beacons as the log does.
func web(t testing.TB, store blob.Store, size uint64) tile.Source {
	t.Helper()
	reader := tile.NewReader(store)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/")
		if digest, ok := strings.CutPrefix(path, "v1/beacons/"); ok {
			path = "beacon/" + digest
		}
		data, err := store.Get(r.Context(), path)
		if p, bad := apitile.ParsePath(path); bad == nil && p.Width < apitile.FullWidth {
			if p.Entries {
				data, err = reader.BundleBytes(r.Context(), p, size)
			} else {
				data, err = reader.TileBytes(r.Context(), p, size)
			}
		}
		if err != nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(server.Close)
	s, err := tilehttp.New(tilehttp.Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shard is what is to be recovered.
type shard struct {
	h      *history
	config recovery.Config
	log    tlog.Log
	tiles  *blob.Memory
	reg    *registertest.Memory
}

// shardOf returns a shard whose stores are of these sizes; tiles of size 0 were
// lost with everything beside them.
func (h *history) shardOf(t testing.TB, store, tiles, reg uint64) *shard {
	t.Helper()
	s := &shard{h: h, log: h.store(t, store), tiles: blob.NewMemory(), reg: registertest.NewMemory(h.record(reg))}
	if tiles > 0 {
		s.tiles = clone(t, h.tiles[tiles])
	}
	s.config = recovery.Config{
		Origin: origin, Policy: h.policy, Log: s.log, Register: s.reg, Tiles: s.tiles, Logger: slog.New(slog.DiscardHandler),
	}
	return s
}

// holds checks that store, tiles and register agree on the log of this size, as
// the start of the sequencer demands.
func (s *shard) holds(t testing.TB, size, registered uint64) {
	t.Helper()
	ctx := context.Background()
	root, err := s.log.Root(ctx)
	if err != nil || root.Size != size || root.Hash != s.h.roots[size] {
		t.Fatalf("the store is at size %d with root %x, %v; expected size %d", root.Size, root.Hash, err, size)
	}
	for next := uint64(0); next < size; {
		leaves, err := s.log.Leaves(ctx, next, 256)
		if err != nil || len(leaves) == 0 {
			t.Fatalf("entry %d: %v", next, err)
		}
		for _, l := range leaves {
			if want := s.h.leaves[next]; l.Identity != want.Identity || !bytes.Equal(l.Value, want.Value) {
				t.Fatalf("entry %d differs", next)
			}
			next++
		}
	}
	w, err := tile.OpenWriter(ctx, s.tiles)
	if err != nil || w.Size() != size || w.Root() != root.Hash {
		t.Fatalf("the tiles are at size %d, %v; expected %d", w.Size(), err, size)
	}
	// The full objects are those that the log itself wrote, no more and no fewer.
	full := func(m blob.Store) []string {
		return slices.DeleteFunc(keysOf(t, m), func(key string) bool { return !strings.HasPrefix(key, "tile/") })
	}
	whole := s.h.tiles[s.h.sizes[3]]
	for _, key := range full(s.tiles) {
		got, _ := s.tiles.Get(ctx, key)
		want, err := whole.Get(ctx, key)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("object %s is not what the log wrote", key)
		}
	}
	tree, err := tile.NewReader(s.tiles).Tree(ctx, size, root.Hash)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := tree.Entries(ctx, 0, int(size))
	if err != nil || len(entries) != int(size) {
		t.Errorf("%d entries in the tiles: %v", len(entries), err)
	}
	got, err := s.reg.Read(ctx)
	got.Sealed = false
	if err != nil || got != s.h.record(registered) {
		t.Errorf("the register is at size %d, %v; expected %d", got.Size, err, registered)
	}
	raw, err := s.tiles.Get(ctx, "checkpoint")
	if err != nil {
		t.Fatalf("the published checkpoint: %v", err)
	}
	if c, err := s.config.Policy.CheckNote(raw); err != nil || c.Size > registered {
		t.Errorf("the published checkpoint: %v", err)
	}
	digest := sha256.Sum256(s.h.beacon)
	if note, err := s.tiles.Get(ctx, "beacon/"+hex.EncodeToString(digest[:])); err != nil || !bytes.Equal(note, s.h.beacon) {
		t.Errorf("the beacon: %v", err)
	}
}

// state is everything durable of a shard, to see that nothing was written.
func (s *shard) state(t testing.TB) string {
	t.Helper()
	ctx := context.Background()
	h := sha256.New()
	for _, key := range keysOf(t, s.tiles) {
		data, err := s.tiles.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(h, "%s %d %s", key, len(data), data)
	}
	root, err := s.log.Root(ctx)
	if err != nil {
		t.Fatal(err)
	}
	behind, err := s.log.Leaves(ctx, root.Size, 1000)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := s.reg.Read(ctx)
	fmt.Fprintf(h, "%v %d %v %v", root, len(behind), rec, err)
	return hex.EncodeToString(h.Sum(nil))
}

// theHistory is made once: every test only reads it.
var theHistory = sync.OnceValue(func() func(t testing.TB) *history {
	var h *history
	var once sync.Once
	return func(t testing.TB) *history {
		t.Helper()
		once.Do(func() { h = newHistory(t, origin, nil, 0) })
		return h
	}
})
