package timestamp

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	api "github.com/trialog/trialog/api/timestamp"
	"github.com/trialog/trialog/services/internal/clock"
)

var policyOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 1}

// handClock is a Clock that a test sets.
type handClock struct {
	mu    sync.Mutex
	now   time.Time
	bound time.Duration
	err   error
	reads int
	after func(reads int) // called behind each reading, with the lock held
}

func (c *handClock) Read() (clock.Reading, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := clock.Reading{Time: c.now, Bound: c.bound}, c.err
	c.reads++
	if c.after != nil {
		c.after(c.reads)
	}
	if err != nil {
		return clock.Reading{}, err
	}
	return r, nil
}

func (c *handClock) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

func (c *handClock) pass(d time.Duration) { c.set(func() { c.now = c.now.Add(d) }) }

func (c *handClock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// world is an authority with what it needs.
type world struct {
	*Authority

	t      testing.TB
	clock  *handClock
	config Config
	anchor *x509.Certificate // the root
}

func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, clock: &handClock{now: time.Date(2026, 3, 1, 10, 0, 0, 123_456_789, time.UTC), bound: 7500 * time.Microsecond}}
	key := newKey(t)
	chain, _, err := Certify("Test TSU", key.Public(), w.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	w.anchor = certificates(t, chain)[1]
	w.config = Config{
		Key: key, Chain: chain, Policy: policyOID, Accuracy: time.Second, Clock: w.clock,
		StateFile: filepath.Join(t.TempDir(), "state"), Logger: slog.New(slog.DiscardHandler),
		Pause: func(ctx context.Context, _ time.Duration) error { <-ctx.Done(); return ctx.Err() },
	}
	for _, f := range change {
		f(&w.config)
	}
	w.open()
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.Authority, err = Open(w.config); err != nil {
		w.t.Fatal(err)
	}
}

// reopen stands for a new process on the same state file.
func (w *world) reopen() {
	w.t.Helper()
	if err := w.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certificates(t testing.TB, chain []byte) []*x509.Certificate {
	t.Helper()
	var list []*x509.Certificate
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	return list
}

// stamp has the authority stamp a text, and verifies what comes.
func (w *world) stamp(text string) *api.Token {
	w.t.Helper()
	token, err := w.tryStamp(text)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

func (w *world) tryStamp(text string) (*api.Token, error) {
	digest, nonce := sha256.Sum256([]byte(text)), big.NewInt(int64(len(text))+1)
	query, err := api.NewRequest(digest, nonce, nil)
	if err != nil {
		return nil, err
	}
	reply, err := w.Issue(query)
	if err != nil {
		return nil, err
	}
	token, err := api.ParseResponse(reply)
	if err != nil {
		return nil, err
	}
	err = token.Verify(w.anchor, api.Expect{Digest: digest, Nonce: nonce, Policy: policyOID})
	return token, err
}

// refusedAs returns the failure of a refusal; -1 if err is none.
func refusedAs(err error) api.Failure {
	if e, ok := errors.AsType[*RefusalError](err); ok {
		return e.Failure
	}
	return -1
}

// signer is a key that a test breaks.
type signer struct {
	crypto.Signer

	err error
}

func (s *signer) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	return s.Signer.Sign(random, digest, opts)
}
