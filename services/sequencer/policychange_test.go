package sequencer

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/blob/blobtest"
	"github.com/trialog/trialog/services/internal/register"
)

// others replaces the first n of three witnesses by new ones, which have seen
// nothing.
func (w *witnesses) others(n int) *witnesses {
	next := newWitnesses(w.t, len(w.keys))
	copy(next.last[n:], w.last[n:])
	for i := range n {
		next.keys[i] = noteKey(w.t, byte(60+i), "new"+string(rune('0'+i))+".test", checkpoint.AlgEd25519Cosignature)
	}
	return next
}

// TestPolicyChanged: the log goes on with other witnesses. What was published is
// cosigned by them, at the same size, and until then nothing is final.
func TestPolicyChanged(t *testing.T) {
	for _, n := range []int{1, 2, 3} { // of three witnesses are new
		w := newWorld(t)
		if err := w.start(); err != nil {
			t.Fatal(err)
		}
		w.enrol()
		first := w.newTrial("P")
		a, err := w.seq.Add(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		old := w.seq.Checkpoint()
		if err := w.halt(); err != nil {
			t.Fatal(err)
		}
		w.witness = w.witness.others(n)
		w.policy = w.makePolicy()
		w.witness.setDown(true, true, true)
		if _, err := w.policy.CheckNote(old.Bytes()); (err == nil) != (n == 1) {
			t.Fatalf("%d new witnesses: the old note is judged %v", n, err)
		}
		w.wrap = func(c *Config) { c.Limits.FinalWait = 20 * time.Millisecond }
		if err := w.start(); err != nil {
			t.Fatalf("%d new witnesses: %v", n, err)
		}
		if got := w.seq.Checkpoint(); got == nil || !bytes.Equal(got.Bytes(), old.Bytes()) {
			t.Errorf("%d new witnesses: the published checkpoint is another one: %v", n, got)
		}
		_, _, err = w.seq.Find(t.Context(), a.Identity)
		again, addErr := w.seq.Add(t.Context(), first)
		if addErr != nil || !again.Duplicate || again.Index != a.Index {
			t.Errorf("%d new witnesses: the statement again: %+v, %v", n, again, addErr)
		}
		if outdated := n > 1; outdated != errors.Is(err, ErrNotFound) || outdated != (again.Receipt == nil) {
			t.Errorf("%d new witnesses are down: found with %v, added with receipt %t", n, err, again.Receipt != nil)
		}
		w.witness.setDown(false, false, false)
		await(func() bool { return w.seq.head().covers(a.Index) })
		if got := w.seq.Checkpoint(); got.Checkpoint() != old.Checkpoint() {
			t.Errorf("%d new witnesses: size %d was published, expected %d again", n, got.Checkpoint().Size, old.Checkpoint().Size)
		}
		raw, _, err := w.seq.Find(t.Context(), a.Identity)
		if err != nil {
			t.Fatal(err)
		}
		w.acceptable(raw)
		w.seq.c.Limits.FinalWait = time.Minute
		w.acceptable(w.openTrial("Q").Receipt)
		if err := w.halt(); err != nil {
			t.Error(err)
		}
	}
}

// TestPolicyDeniesTheLog: what a policy cannot be right about is refused.
func TestPolicyDeniesTheLog(t *testing.T) {
	final := func(w *world, size uint64, root checkpoint.Hash) *verify.Policy {
		return policyBy(t, w.logKeys, w.witness.keys, map[string]any{
			"format": verify.TrustFormat2,
			"finals": []any{map[string]any{"origin": testOrigin, "size": size, "root": base64.StdEncoding.EncodeToString(root[:])}},
		})
	}
	for name, c := range map[string]struct {
		policy func(w *world, now checkpoint.Checkpoint) *verify.Policy
		reason Reason
	}{
		"ended earlier": {func(w *world, now checkpoint.Checkpoint) *verify.Policy { return final(w, now.Size-1, now.Root) }, Fork},
		"ended with other root": {func(w *world, now checkpoint.Checkpoint) *verify.Policy {
			return final(w, now.Size, checkpoint.Hash{1})
		}, Fork},
		"ended now": {func(w *world, now checkpoint.Checkpoint) *verify.Policy { return final(w, now.Size, now.Root) }, ""},
	} {
		w := newWorld(t)
		if err := w.start(); err != nil {
			t.Fatal(err)
		}
		w.enrol()
		now := w.seq.Checkpoint().Checkpoint()
		if err := w.halt(); err != nil {
			t.Fatal(err)
		}
		w.policy = c.policy(w, now)
		err := w.start()
		if refused, ok := errors.AsType[*RefusedError](err); c.reason != "" && (!ok || refused.Reason != c.reason) || c.reason == "" && err != nil {
			t.Errorf("%s: %v, expected the reason %q", name, err, c.reason)
		}
		if c.reason != "" {
			continue
		}
		// It has not ended by itself: nothing beyond its end is registered or signed.
		r := w.newTrial("beyond")
		r.Pending = true
		if _, err := w.seq.Add(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		<-w.done
		if refused, ok := errors.AsType[*RefusedError](w.err); !ok || refused.Reason != Fork {
			t.Errorf("%s, and growing: %v", name, w.err)
		}
		reg, err := w.seq.c.Register.Read(t.Context())
		if err != nil || reg.Size != now.Size {
			t.Errorf("%s: size %d is registered, %v", name, reg.Size, err)
		}
	}
}

// TestPolicyDeniesTheRegister: a body beyond the end that the policy names is not
// signed, even if it was registered before a crash.
func TestPolicyDeniesTheRegister(t *testing.T) {
	g := newGrown(t, "a")
	g.remove(t, signedParts...)
	g.policy = policyBy(t, g.logKeys, g.witness.keys, map[string]any{
		"format": verify.TrustFormat2,
		"finals": []any{map[string]any{"origin": testOrigin, "size": g.sizes[2] - 1, "root": base64.StdEncoding.EncodeToString(make([]byte, 32))}},
	})
	clear(g.witness.offered)
	err := g.start()
	if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Reason != Fork {
		t.Errorf("started with %v", err)
	}
	if _, err := g.seq.c.Tiles.Get(t.Context(), candidateKey); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a checkpoint was signed: %v", err)
	}
	if g.witness.bodies() != 0 {
		t.Error("the witnesses were shown it")
	}
}

// TestPolicyChangedForEndedShard: the last checkpoint of a sealed shard that still
// has a sequencer is cosigned by the new witnesses.
func TestPolicyChangedForEndedShard(t *testing.T) {
	h, old, request := rolledOver(t, 2)
	first := h.list[0]
	if err := first.halt(); err != nil {
		t.Fatal(err)
	}
	h.change(3)
	first.witness.setDown(true, true, true)
	if err := first.start(); err != nil {
		t.Fatal(err)
	}
	last := first.seq.Checkpoint()
	if _, _, err := first.seq.Find(t.Context(), old.Identity); last == nil || !errors.Is(err, ErrNotFound) {
		t.Errorf("without the new witnesses: %v, %v", last, err)
	}
	first.witness.setDown(false, false, false)
	await(func() bool { return first.seq.head().covers(old.Index) })
	raw, _, err := first.seq.Find(t.Context(), old.Identity)
	if err != nil || first.seq.Checkpoint().Checkpoint() != last.Checkpoint() {
		t.Fatal(err)
	}
	first.acceptable(raw)
	if again, err := first.seq.Add(t.Context(), request); err != nil || !again.Duplicate {
		t.Errorf("the statement again: %+v, %v", again, err)
	}
	if err := first.seq.Ready(); !errors.Is(err, ErrEnded) {
		t.Errorf("ready: %v", err)
	}
}

// change gives all shards, which must be stopped when they are to notice, a policy
// with n new witnesses.
func (h *shards) change(n int) {
	var keys []*checkpoint.SigningKey
	for i := range len(h.list) + 1 {
		keys = append(keys, shardKeys(h.t, i)...)
	}
	for _, s := range h.list {
		s.witness = s.witness.others(n)
	}
	h.policy = policyBy(h.t, keys, h.list[0].witness.keys, nil)
	for _, s := range h.list {
		s.policy = h.policy
	}
}

// TestPolicyChangedForPredecessor: the successor of an ended shard starts with the
// new policy. Receipts of the earlier shard come under its renewed checkpoint as
// soon as there is one.
func TestPolicyChangedForPredecessor(t *testing.T) {
	h, old, request := rolledOver(t, 2)
	first, second := h.list[0], h.list[1]
	for _, s := range h.list {
		if err := s.halt(); err != nil {
			t.Fatal(err)
		}
	}
	h.change(2)
	second.limits.RetryQuorum = time.Millisecond
	if err := second.start(); err != nil {
		t.Fatal(err)
	}
	await(func() bool { return second.seq.Checkpoint() != nil && !second.seq.head().outdated })
	// What no verifier would take is not handed out: neither the receipt of an entry
	// there, nor one here whose signer is enrolled there.
	raw, err := second.seq.ancestor(first.origin).final.Load().tree.Entry(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	e, err := entry.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	enrolment := Request{Envelope: e.Envelope} // it proves itself
	for name, add := range map[string]func(context.Context, *Sequencer, Request) (*Answer, error){
		"call": func(ctx context.Context, s *Sequencer, r Request) (*Answer, error) { return s.Add(ctx, r) }, "stream": addByStream,
	} {
		for i, r := range []Request{request, enrolment} {
			if _, err := add(t.Context(), second.seq, r); !errors.Is(err, ErrNotReady) {
				t.Errorf("%s: statement %d again: %v", name, i, err)
			}
		}
	}
	if _, _, err := second.seq.Find(t.Context(), old.Identity); !errors.Is(err, ErrNotReady) {
		t.Errorf("found with %v", err)
	}
	draft := second.protocol("T1", "early")
	early := Request{Envelope: second.sign(draft, second.admin).Bytes(), Beacon: second.beacon()}
	second.advance(draft, identityOf(t, early))
	for range 2 {
		if a, err := addByStream(t.Context(), second.seq, early); err != nil || a.Promise == nil || a.Receipt != nil {
			t.Errorf("a signer of the predecessor: final %t, %v", a != nil && a.Receipt != nil, err)
		}
		if a, err := second.seq.Add(t.Context(), early); err != nil || a.Promise == nil || a.Receipt != nil {
			t.Errorf("a signer of the predecessor: final %t, %v", a != nil && a.Receipt != nil, err)
		}
	}
	lines := &bytes.Buffer{}
	r := &Renewal{
		Origin: first.origin, Tiles: first.tiles, Register: first.register, Witness: first.witness, Policy: h.policy,
		Logger: slog.New(slog.NewTextHandler(lines, nil)),
	}
	first.witness.setDown(true, true, false)
	before, err := first.tiles.Get(t.Context(), CheckpointKey)
	if note, perr := checkpoint.Parse(before); perr != nil {
		t.Fatal(perr)
	} else if _, err := second.seq.checkBeacon(t.Context(), beaconOf(note), nil); !errors.Is(err, errOutdated) {
		t.Errorf("as a beacon: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Step(t.Context()); err == nil {
		t.Error("renewed without a quorum")
	}
	first.witness.setDown(false, false, false)
	if err := r.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := first.tiles.Get(t.Context(), CheckpointKey)
	if err != nil || bytes.Equal(before, after) {
		t.Fatalf("nothing was published: %v", err)
	}
	if c, err := h.policy.CheckNote(after); err != nil || c.Size != old.Index+2 {
		t.Errorf("published is %+v, %v", c, err)
	}
	if err := r.Step(t.Context()); err != nil {
		t.Errorf("nothing to do: %v", err)
	}
	await(func() bool { return !second.seq.ancestor(first.origin).final.Load().outdated })
	for _, r := range []Request{request, enrolment, early} {
		a, err := second.seq.Add(t.Context(), r)
		if err != nil || !a.Duplicate {
			t.Fatal(err)
		}
		second.acceptable(a.Receipt)
		if raw, _, err := second.seq.Find(t.Context(), a.Identity); err != nil {
			t.Error(err)
		} else {
			second.acceptable(raw)
		}
	}
	// New entries carry the enrolment under the renewed checkpoint.
	next := second.protocol("T1", "version 2")
	second.acceptable(second.add(next, second.admin).Receipt)
}

// TestPredecessorIsNotRenewedYet: a predecessor that has not ended and waits for
// its new witnesses is waited for.
func TestPredecessorIsNotRenewedYet(t *testing.T) {
	h := newShards(t, 2)
	first, second := h.list[0], h.list[1]
	if err := first.start(); err != nil {
		t.Fatal(err)
	}
	first.populate()
	if err := first.halt(); err != nil {
		t.Fatal(err)
	}
	h.change(3)
	first.witness.setDown(true, true, true)
	if err := first.start(); err != nil {
		t.Fatal(err)
	}
	second.launch()
	if r := second.waits(); r.Reason != Standby {
		t.Errorf("it waits with %v", r)
	}
	first.witness.setDown(false, false, false)
	await(func() bool { return !first.seq.head().outdated })
	first.acceptable(first.end(second.origin).Receipt)
	if err := second.ready(); err != nil {
		t.Fatal(err)
	}
	second.acceptable(second.begin().Receipt)
}

// acceptable expects that the policy of today accepts each checkpoint in a receipt.
// The beacon is the statement's, and is what it was: for that, a policy retires
// keys instead of dropping them.
func (w *world) acceptable(raw []byte) {
	w.t.Helper()
	r, err := receipt.Parse(raw)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range append(r.Enrolments, receipt.Enrolment{Proof: r.Proof}) {
		if _, err := w.policy.CheckNote(e.Proof.Note.Bytes()); err != nil {
			w.t.Errorf("a checkpoint in the receipt: %v", err)
		}
	}
}

// TestRetiredKeys: a policy that retires the keys of replaced witnesses lets all
// earlier receipts stand, with their beacons, and the log goes on at once.
func TestRetiredKeys(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	p := w.protocol("T1", "old")
	before := w.add(p, w.admin)
	old := w.seq.Checkpoint()
	if err := w.halt(); err != nil {
		t.Fatal(err)
	}
	given := w.witness.keys
	w.witness = w.witness.others(3)
	var retired []any
	for _, k := range given {
		retired = append(retired, map[string]any{
			"key": k.Verifier().String(), "until": []any{map[string]any{"origin": testOrigin, "size": old.Checkpoint().Size}},
		})
	}
	w.policy = policyBy(t, w.logKeys, append(append([]*checkpoint.SigningKey{}, given...), w.witness.keys...), map[string]any{
		"format": verify.TrustFormat2, "retired": retired,
	})
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	if w.seq.head().outdated {
		t.Error("the published checkpoint is outdated")
	}
	w.check(before.Receipt, "old")
	next := w.protocol("T1", "new")
	a := w.add(next, w.admin)
	w.check(a.Receipt, "new")
	raw, _, err := w.seq.Find(t.Context(), before.Identity)
	if err != nil {
		t.Fatal(err)
	}
	w.check(raw, "old")
}

// TestRenewalRefuses what the register was not sealed with.
func TestRenewalRefuses(t *testing.T) {
	h, _, _ := rolledOver(t, 2)
	first, second := h.list[0], h.list[1]
	good, err := first.tiles.Get(t.Context(), CheckpointKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range h.list {
		if err := s.halt(); err != nil {
			t.Fatal(err)
		}
	}
	h.change(3)
	note, err := checkpoint.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	strip := func(n int) []byte {
		short, err := checkpoint.NewNote(note.Text(), note.Signatures()[n:]...)
		if err != nil {
			t.Fatal(err)
		}
		return short.Bytes()
	}
	sealed := register.Record{Origin: first.origin, Size: note.Checkpoint().Size, Root: note.Checkpoint().Root, Sealed: true}
	open, smaller, other := sealed, sealed, sealed
	open.Sealed, other.Root[0] = false, other.Root[0]^1
	smaller.Size--
	for name, c := range map[string]struct {
		note []byte
		reg  register.Record
	}{
		"register not sealed":   {good, open},
		"smaller register":      {good, smaller},
		"other root":            {good, other},
		"other shard":           {good, register.Record{Origin: second.origin, Size: sealed.Size, Root: sealed.Root, Sealed: true}},
		"no Ed25519 signature":  {strip(1), sealed},
		"no signature of a log": {strip(2), sealed},
		"damaged":               {append(bytes.Clone(good), 'x'), sealed},
	} {
		tiles := &otherNote{Store: first.tiles, note: c.note}
		asked := false
		first.witness.cosigned = func(int, checkpoint.Checkpoint) { asked = true }
		r := &Renewal{
			Origin: first.origin, Tiles: tiles, Register: fixed(c.reg), Witness: first.witness, Policy: h.policy,
			Logger: slog.New(slog.DiscardHandler),
		}
		if err := r.Step(t.Context()); err == nil {
			t.Errorf("%s: renewed", name)
		}
		if asked || tiles.put {
			t.Errorf("%s: asked for: %t, published: %t", name, asked, tiles.put)
		}
	}
	// What the policy denies, nobody is asked to sign.
	keys := append(shardKeys(t, 0), shardKeys(t, 1)...)
	denied := policyBy(t, keys, first.witness.keys, map[string]any{
		"format": verify.TrustFormat2,
		"finals": []any{map[string]any{"origin": first.origin, "size": sealed.Size, "root": base64.StdEncoding.EncodeToString(other.Root[:])}},
	})
	asked := false
	first.witness.cosigned = func(int, checkpoint.Checkpoint) { asked = true }
	r := &Renewal{
		Origin: first.origin, Tiles: first.tiles, Register: fixed(sealed), Witness: first.witness, Policy: denied,
		Logger: slog.New(slog.DiscardHandler),
	}
	if err := r.Step(t.Context()); err == nil || asked {
		t.Errorf("%v; the witnesses were asked: %t", err, asked)
	}
	first.witness.cosigned = nil
	// A failed write is made again.
	for _, fault := range []blobtest.Fault{blobtest.Lost, blobtest.Persisted} {
		faulty := &faultyPuts{Store: first.tiles, fault: fault}
		if err := first.tiles.Put(t.Context(), blob.Object{Key: CheckpointKey, Data: good}); err != nil {
			t.Fatal(err)
		}
		r := &Renewal{
			Origin: first.origin, Tiles: faulty, Register: fixed(sealed), Witness: first.witness, Policy: h.policy,
			Logger: slog.New(slog.DiscardHandler),
		}
		if err := r.Step(t.Context()); !errors.Is(err, blobtest.ErrInjected) {
			t.Errorf("%s: %v", fault, err)
		}
		if err := r.Step(t.Context()); err != nil {
			t.Errorf("%s, again: %v", fault, err)
		}
		now, err := first.tiles.Get(t.Context(), CheckpointKey)
		if err == nil {
			_, err = h.policy.CheckNote(now)
		}
		if err != nil {
			t.Errorf("%s: %v", fault, err)
		}
	}
}

// TestReplacedWhilePublishing: another sequencer's newer note, published after this
// one has made sure of the register, is not overwritten.
func TestReplacedWhilePublishing(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	now := w.seq.Checkpoint().Checkpoint()
	newer, err := checkpoint.SignLog(checkpoint.Checkpoint{Origin: testOrigin, Size: now.Size + 7, Root: checkpoint.Hash{7}}, 1, w.logKeys...)
	if err != nil {
		t.Fatal(err)
	}
	w.witness.mu.Lock()
	w.witness.cosigned = func(int, checkpoint.Checkpoint) { put(t, w.seq.c.Tiles, newer.Bytes()) }
	w.witness.mu.Unlock()
	r := w.newTrial("R")
	r.Pending = true
	if _, err := w.seq.Add(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	<-w.done
	var refused *RefusedError
	if !errors.As(w.err, &refused) || refused.Reason != Owned || !strings.Contains(w.err.Error(), "has published size") {
		t.Errorf("ended with %v, expected the reason %q", w.err, Owned)
	}
	if got, err := w.seq.c.Tiles.Get(t.Context(), CheckpointKey); err != nil || !bytes.Equal(got, newer.Bytes()) {
		t.Errorf("the newer note is gone: %v\n%s", err, got)
	}
}

func put(t testing.TB, s blob.Store, note []byte) {
	t.Helper()
	if err := s.Put(t.Context(), blob.Object{Key: CheckpointKey, Data: note}); err != nil {
		t.Error(err)
	}
}

// fixed is a register that says always the same.
type fixed register.Record

// Read implements what a Renewal needs.
func (f fixed) Read(context.Context) (register.Record, error) { return register.Record(f), nil }

// otherNote is a store with another published note than it holds.
type otherNote struct {
	blob.Store

	note []byte
	put  bool
}

// Get implements blob.Store.
func (o *otherNote) Get(ctx context.Context, key string) ([]byte, error) {
	if key == CheckpointKey {
		return o.note, nil
	}
	return o.Store.Get(ctx, key)
}

// Put implements blob.Store.
func (o *otherNote) Put(context.Context, ...blob.Object) error {
	o.put = true
	return nil
}

// faultyPuts is a store whose first Put fails.
type faultyPuts struct {
	blob.Store

	fault  blobtest.Fault
	failed bool
}

// Put implements blob.Store.
func (f *faultyPuts) Put(ctx context.Context, objects ...blob.Object) error {
	if f.failed {
		return f.Store.Put(ctx, objects...)
	}
	f.failed = true
	if f.fault == blobtest.Persisted {
		if err := f.Store.Put(ctx, objects...); err != nil {
			return err
		}
	}
	return blobtest.ErrInjected
}
