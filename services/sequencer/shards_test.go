package sequencer

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/pebblestore"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

// shards are the shards of one log, each a world of its own, in one process.
type shards struct {
	t        testing.TB
	policy   *verify.Policy
	operator *statement.PrivateKey
	list     []*shard
}

// shard is one of them. Its register and tiles stay open when it stops, as its
// successors read them.
type shard struct {
	*world
	all      *shards
	origin   string
	register *register.File
	tiles    *blob.Dir
	before   []Predecessor
}

func shardKeys(t testing.TB, n int) []*checkpoint.SigningKey {
	return []*checkpoint.SigningKey{
		noteKey(t, byte(100+2*n), shardOrigin(n), checkpoint.AlgEd25519), noteKey(t, byte(101+2*n), shardOrigin(n), checkpoint.AlgMLDSA44),
	}
}

func shardOrigin(n int) string { return fmt.Sprintf("%s/%d", testLog, 2026+n) }

// newShards makes n shards; the policy names one more.
func newShards(t testing.TB, n int) *shards {
	t.Helper()
	h := &shards{t: t, operator: testKey(t, 23)}
	var keys []*checkpoint.SigningKey
	for i := range n + 1 {
		keys = append(keys, shardKeys(t, i)...)
	}
	h.policy = shardsPolicy(t, keys)
	chain := map[string]statement.Link{}
	for i := range n {
		w := &world{
			t: t, dir: t.TempDir(), now: time.Now, chain: chain, logKeys: keys[2*i : 2*i+2], witness: newWitnesses(t, 3), policy: h.policy,
			pending: testKey(t, 3), admin: testKey(t, 4), recovery: testKey(t, 5),
			limits: Limits{Interval: time.Millisecond, RetryQuorum: 5 * time.Millisecond, RetryProbe: 5 * time.Millisecond, BatchDelay: time.Millisecond},
		}
		s := &shard{world: w, all: h, origin: shardOrigin(i)}
		var err error
		if s.register, err = register.OpenFile(filepath.Join(w.dir, "register")); err != nil {
			t.Fatal(err)
		}
		if err := s.register.Create(t.Context(), register.Record{Origin: s.origin, Root: tlog.EmptyRoot().Hash}); err != nil {
			t.Fatal(err)
		}
		if s.tiles, err = blob.OpenDir(filepath.Join(w.dir, "tiles")); err != nil {
			t.Fatal(err)
		}
		for _, other := range h.list {
			s.before = append(s.before, Predecessor{Origin: other.origin, Tiles: other.tiles, Register: other.register})
		}
		h.list = append(h.list, s)
		t.Cleanup(func() {
			_ = s.halt()
			if err := errors.Join(s.register.Close(), s.tiles.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	return h
}

// shardsPolicy names the keys in this order, and the witnesses of newWitnesses.
func shardsPolicy(t testing.TB, keys []*checkpoint.SigningKey) *verify.Policy {
	t.Helper()
	return policyBy(t, keys, newWitnesses(t, 3).keys, nil)
}

// policyBy names these keys and witnesses, two of which are a quorum. more goes
// into the sidecar.
func policyBy(t testing.TB, keys, witnesses []*checkpoint.SigningKey, more map[string]any) *verify.Policy {
	t.Helper()
	var text strings.Builder
	var required []string
	for _, k := range keys {
		fmt.Fprintf(&text, "log %s\n", k.Verifier())
		required = append(required, k.Verifier().String())
	}
	operators := map[string]string{}
	var groups []string
	for i, k := range witnesses {
		groups = append(groups, fmt.Sprintf("g%d", i))
		fmt.Fprintf(&text, "witness w%d %s https://w%d.test\ngroup g%d all w%d\n", i, k.Verifier(), i, i, i)
		operators[fmt.Sprintf("g%d", i)] = fmt.Sprintf("operator %d", i)
	}
	fmt.Fprintf(&text, "group q 2 %s\nquorum q\n", strings.Join(groups, " "))
	trust := map[string]any{
		"format": verify.TrustFormat, "log": testLog, "logOperator": "log operator", "acceptReceived": true,
		"requiredLogKeys": required, "operators": operators,
		"pendingKeys": []string{base64.StdEncoding.EncodeToString(testKey(t, 3).Public().DER())},
		"gateways":    []string{testKey(t, 23).ID().String()},
	}
	maps.Copy(trust, more)
	sidecar, err := json.Marshal(trust)
	if err != nil {
		t.Fatal(err)
	}
	p, err := verify.ParsePolicy([]byte(text.String()), sidecar)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// launch opens the shard's stores and runs it; it does not wait.
func (s *shard) launch() {
	s.t.Helper()
	check := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	store, err := pebblestore.Open(filepath.Join(s.dir, "store"), pebblestore.Options{})
	check(err)
	log, err := trillian.Open(context.Background(), trillian.Config{
		Storage: store, Admin: store.Admin(), Origin: s.origin, Create: true, CloseStorage: store.Close,
	})
	check(err)
	book, err := ledger.Open(filepath.Join(s.dir, "ledger"), nil)
	check(err)
	s.closers = []func() error{log.Close, book.Close}
	c := Config{
		Log: testLog, Origin: s.origin, Tree: log, Tiles: s.tiles, Register: s.register, Ledger: book, Witness: s.witness,
		Policy: s.policy, LogKeys: s.logKeys, PendingKey: s.pending, Now: s.now, Limits: s.limits, Predecessors: s.before,
	}
	if s.wrap != nil {
		s.wrap(&c)
	}
	s.seq, err = New(c)
	check(err)
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.done, s.err = cancel, make(chan struct{}), nil
	go func() {
		defer close(s.done)
		s.err = s.seq.Run(ctx)
	}()
}

// ready waits until the shard takes statements in, has ended, or has refused.
func (s *shard) ready() error {
	for {
		err := s.seq.Ready()
		if err == nil || errors.Is(err, ErrEnded) {
			return nil
		}
		select {
		case <-s.done:
			return s.err
		case <-time.After(time.Millisecond):
		}
	}
}

// start runs the shard and waits for it.
func (s *shard) start() error {
	s.t.Helper()
	s.launch()
	return s.ready()
}

// waits waits until the shard says that it stands by.
func (s *shard) waits() *RefusedError {
	s.t.Helper()
	for {
		if r, ok := errors.AsType[*RefusedError](s.seq.Ready()); ok {
			return r
		}
		select {
		case <-s.done:
			s.t.Fatalf("the shard has ended with %v", s.err)
		case <-time.After(time.Millisecond):
		}
	}
}

// populate enrols who the tests need, and opens trial T1 with a protocol.
func (s *shard) populate() (protocol *Answer, request Request) {
	s.t.Helper()
	s.enrol()
	stmt, keys := enrolment{org: "hub", key: s.all.operator, roles: []string{"gateway", "operator"}, recovery: testKey(s.t, 25)}.draft(s.world)
	env := s.sign(stmt, keys...)
	a, err := s.seq.Add(s.t.Context(), Request{Envelope: env.Bytes(), Beacon: s.beacon(), Granted: statement.Roles()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.advance(stmt, a.Identity)
	p := s.protocol("T1", "version 1")
	request = Request{Envelope: s.sign(p, s.admin).Bytes(), Beacon: s.beacon()}
	a, err = s.seq.Add(s.t.Context(), request)
	if err != nil {
		s.t.Fatal(err)
	}
	s.advance(p, a.Identity)
	return a, request
}

// end ends the shard with the next one as its successor, and waits until its
// register is sealed.
func (s *shard) end(next string) *Answer {
	s.t.Helper()
	env, err := s.seq.EndStatement(s.t.Context(), s.all.operator, next)
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := s.seq.Add(s.t.Context(), Request{Envelope: env})
	if err != nil {
		s.t.Fatal(err)
	}
	await(func() bool { return errors.Is(s.seq.Ready(), ErrEnded) })
	return a
}

// begin says the shard's first statement.
func (s *shard) begin() *Answer {
	s.t.Helper()
	env, err := s.seq.StartStatement(s.t.Context(), s.all.operator)
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := s.seq.Add(s.t.Context(), Request{Envelope: env})
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// rolledOver returns n shards, all but the last one ended, with the last one at
// work; and the first protocol.
func rolledOver(t testing.TB, n int) (h *shards, protocol *Answer, request Request) {
	t.Helper()
	h = newShards(t, n)
	for i, s := range h.list {
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			protocol, request = s.populate()
		} else {
			s.check(s.begin().Receipt, "")
		}
		if i+1 < n {
			s.check(s.end(h.list[i+1].origin).Receipt, "")
		}
	}
	return h, protocol, request
}

// place is where a receipt says that its entry lies.
func place(t testing.TB, raw []byte) ledger.Place {
	t.Helper()
	r, err := receipt.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Place{Origin: r.Proof.Note.Checkpoint().Origin, Index: r.Proof.Index}
}

// forgetLedger removes the ledger of a stopped shard.
func (s *shard) forgetLedger() {
	s.t.Helper()
	if err := os.RemoveAll(filepath.Join(s.dir, "ledger")); err != nil {
		s.t.Fatal(err)
	}
}
