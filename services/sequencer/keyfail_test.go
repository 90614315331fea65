package sequencer

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
)

// device has a private key, and signs with it unless it is out of order.
type device struct {
	crypto.Signer

	broken atomic.Bool
	asked  atomic.Int64 // while it was broken
}

var errDevice = errors.New("the token was pulled out")

// Sign implements crypto.Signer.
func (d *device) Sign(random io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if d.broken.Load() {
		d.asked.Add(1)
		return nil, errDevice
	}
	return d.Signer.Sign(random, message, opts)
}

// awaitAsked returns when the broken device was asked n times more.
func (w *world) awaitAsked(d *device, n int64) {
	w.t.Helper()
	n += d.asked.Load()
	await(func() bool {
		select {
		case <-w.done:
			w.t.Fatalf("it has ended with %v", w.err)
		default:
		}
		return d.asked.Load() >= n
	})
}

func deviceOf(t testing.TB, seed byte) *device {
	t.Helper()
	var raw [ed25519.SeedSize]byte
	if _, err := (&seeded{seed: seed}).Read(raw[:]); err != nil {
		t.Fatal(err)
	}
	return &device{Signer: ed25519.NewKeyFromSeed(raw[:])}
}

// logDevice moves the log's Ed25519 key into a device.
func (w *world) logDevice() *device {
	w.t.Helper()
	d := deviceOf(w.t, 1)
	k, err := checkpoint.NewRemoteKey(testOrigin, checkpoint.AlgEd25519, d)
	if err != nil || k.Verifier().String() != w.logKeys[0].Verifier().String() {
		w.t.Fatalf("another key: %v, %v", k, err)
	}
	w.logKeys[0] = k
	return d
}

// pendingDevice moves the key for promises into a device.
func (w *world) pendingDevice() *device {
	w.t.Helper()
	d := deviceOf(w.t, 3)
	k, err := statement.NewPrivateKey(d)
	if err != nil || k.ID() != w.pending.ID() {
		w.t.Fatalf("another key: %v, %v", k, err)
	}
	w.pending = k
	return d
}

// promised submits a statement and expects a promise.
func (w *world) promised(env *statement.Envelope) *Answer {
	w.t.Helper()
	a, err := w.seq.Add(w.t.Context(), Request{Envelope: env.Bytes(), Beacon: w.beacon(), Pending: true})
	if err != nil || a.Promise == nil || a.Receipt != nil {
		w.t.Fatalf("answer %+v, %v; expected a promise", a, err)
	}
	return a
}

// received submits a statement again and checks its receipt.
func (w *world) received(env *statement.Envelope, before *Answer, document string) {
	w.t.Helper()
	a, err := w.seq.Add(w.t.Context(), Request{Envelope: env.Bytes()})
	if err != nil || a.Receipt == nil || a.Index != before.Index {
		w.t.Fatalf("answer %+v, %v; expected a receipt of entry %d", a, err, before.Index)
	}
	w.check(a.Receipt, document)
}

// TestLogKeyFails: while a key of the log does not sign, whichever is asked first,
// promises go on and nothing is published; what was registered is signed later.
func TestLogKeyFails(t *testing.T) {
	for _, first := range []bool{true, false} {
		w := newWorld(t)
		d := w.logDevice()
		if !first {
			slices.Reverse(w.logKeys)
		}
		if err := w.start(); err != nil {
			t.Fatal(err)
		}
		w.enrol()
		head, bodies := w.seq.Checkpoint(), w.witness.bodies()
		d.broken.Store(true)
		one := w.protocol("T1", "one")
		env1 := w.sign(one, w.admin)
		a1 := w.promised(env1)
		w.advance(one, a1.Identity)
		w.awaitAsked(d, 2) // it is asked again
		env2 := w.sign(w.protocol("T1", "two"), w.admin)
		a2 := w.promised(env2)
		w.awaitAsked(d, 2)
		if err := w.seq.Ready(); err != nil || w.seq.Checkpoint() != head || w.witness.bodies() != bodies {
			t.Errorf("ready: %v; published anew: %t; %d bodies, were %d", err, w.seq.Checkpoint() != head, w.witness.bodies(), bodies)
		}
		d.broken.Store(false)
		w.received(env1, a1, "one")
		w.received(env2, a2, "two")
		if err := w.halt(); err != nil {
			t.Error(err)
		}
	}
}

// TestLogKeyFailsAtStart: the registered body was not signed before a crash, and
// cannot be signed now.
func TestLogKeyFailsAtStart(t *testing.T) {
	g := newGrown(t, "a")
	d := g.logDevice()
	d.broken.Store(true)
	g.remove(t, signedParts...)
	bodies := g.witness.bodies()
	if err := g.start(); err != nil {
		t.Fatal(err)
	}
	env := g.sign(g.protocol("T1", "meanwhile"), g.admin)
	a, err := g.seq.Add(t.Context(), Request{Envelope: env.Bytes(), Beacon: g.beacon(), Pending: true})
	if err != nil || a.Promise == nil {
		t.Fatalf("%+v, %v; expected a promise", a, err)
	}
	g.awaitAsked(d, 2)
	if n := g.witness.bodies(); n != bodies {
		t.Error("the witnesses were shown a body that was not signed")
	}
	d.broken.Store(false)
	g.received(env, a, "meanwhile")
}

// TestRollbackSeenAfterKey: a register that was put back ends the sequencer as soon
// as the key can sign what the witnesses are asked with.
func TestRollbackSeenAfterKey(t *testing.T) {
	g := newGrown(t, "a")
	d := g.logDevice()
	d.broken.Store(true)
	g.remove(t, signedParts...)
	g.restore(t, g.copies[1], "register")
	bodies := g.witness.bodies()
	if err := g.start(); err != nil {
		t.Fatal(err)
	}
	g.awaitAsked(d, 1)
	d.broken.Store(false)
	<-g.done
	if refused, ok := errors.AsType[*RefusedError](g.err); !ok || refused.Reason != Rollback {
		t.Errorf("ended with %v, expected %q", g.err, Rollback)
	}
	if n := g.witness.bodies(); n != bodies {
		t.Error("a new body was signed")
	}
}

// lockedLines is what was logged.
type lockedLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLines) count(words string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), words)
}

// TestPendingKeyFails: nothing is acknowledged that is not signed, and the same
// statement again finds its entry. FINAL needs no promise.
func TestPendingKeyFails(t *testing.T) {
	w := newWorld(t)
	d := w.pendingDevice()
	var lines lockedLines
	w.wrap = func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&lines, nil)) }
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	w.seq.c.Limits.FinalWait = 20 * time.Millisecond // from now on
	d.broken.Store(true)
	w.witness.setDown(true, true, true)
	s := w.protocol("T1", "document")
	env := w.sign(s, w.admin)
	for _, pending := range []bool{true, false, true} {
		a, err := w.seq.Add(t.Context(), Request{Envelope: env.Bytes(), Beacon: w.beacon(), Pending: pending})
		if !errors.Is(err, ErrNotReady) || !errors.Is(err, errDevice) || a.Promise != nil || a.Receipt != nil {
			t.Fatalf("pending %t: %+v, %v", pending, a, err)
		}
		if got := read(w.seq.status(t.Context(), "add", err)); got != (told{code: codes.Unavailable, retry: retryAfter}) {
			t.Errorf("a gateway is told %+v", got)
		}
	}
	if err := w.seq.Ready(); err != nil {
		t.Error(err)
	}
	// A stream says so of the statement.
	r := Request{Envelope: env.Bytes(), Beacon: w.beacon(), Pending: true}
	if a, err := addByStream(t.Context(), w.seq, r); status.Code(err) != codes.Unavailable {
		t.Errorf("a stream answers %+v, %v", a, err)
	}
	d.broken.Store(false)
	if a, err := addByStream(t.Context(), w.seq, r); err != nil || a.Promise == nil || !a.Duplicate {
		t.Errorf("a stream answers %+v, %v", a, err)
	}
	a := w.promised(env)
	if !a.Duplicate {
		t.Errorf("%+v", a)
	}
	if failed, again := lines.count("does not sign"), lines.count("signs again"); failed != 1 || again != 1 {
		t.Errorf("%d and %d lines\n%s", failed, again, lines.b.String())
	}
	d.broken.Store(true)
	w.witness.setDown(false, false, false)
	await(func() bool { return w.seq.head().covers(a.Index) })
	w.received(env, a, "document")
}
