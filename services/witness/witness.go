// Package witness is a C2SP tlog-witness: it cosigns checkpoints of the logs it
// is configured with, each at most one root for a size and always consistent
// with what it cosigned before.
//
// Trust: the state file is trusted to give back what was committed; the clock is
// trusted for the times in cosignatures, within bounds; senders of requests are
// trusted for nothing. What a lying witness can do is outvoted by the policy of
// whoever relies on it.
//
// Written from https://c2sp.org/tlog-witness at C2SP revision 5ba5ee8
// (2026-07-22), without sign-subtree, which is optional.
package witness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// Config is what a witness is made from.
type Config struct {
	// Keys are the witness's keys, one or both of Ed25519 cosignature (0x04)
	// and ML-DSA-44 (0x06), all of one name: the cosigner name. Each answer has
	// a line by each, in this order.
	Keys []*checkpoint.SigningKey

	// Logs are the logs that are followed.
	Logs []Log

	// StatePath is the state file; it is created when absent, and then every
	// log begins at size 0. One process at a time may have it open.
	StatePath string

	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// Logger may be nil: nothing is logged then.
	Logger *slog.Logger
}

// Log is a log that a witness follows.
type Log struct {
	// Origin is the first line of the log's checkpoints, at most 255 bytes.
	Origin string
	// Keys are the log's keys, Ed25519 (0x01) or ML-DSA-44 (0x06), named like
	// the origin.
	Keys []*checkpoint.VerifierKey
	// Rate may be nil: no limit.
	Rate *Rate
}

// Witness cosigns checkpoints. Make one with New, serve its Handler, watch its
// Run, and Close it last. It may be used concurrently.
type Witness struct {
	keys   []*checkpoint.SigningKey
	logs   map[string]*followed // by origin; fixed, so that strangers cost no memory
	byHash map[string]*followed // by lower-case hex SHA-256 of the origin
	state  *state
	now    func() time.Time
	log    *slog.Logger

	closing sync.Once
	closed  chan struct{}
}

// followed is a log as it is used.
type followed struct {
	origin string
	keys   []*checkpoint.VerifierKey
	bucket *bucket // nil: no limit
}

// maxOrigin is the longest origin that an ML-DSA-44 cosignature covers.
const maxOrigin = math.MaxUint8

// New checks the configuration and opens the state file. The witness is ready to
// answer when New returns.
func New(c Config) (*Witness, error) {
	w := &Witness{
		keys:   c.Keys,
		logs:   make(map[string]*followed, len(c.Logs)),
		byHash: make(map[string]*followed, len(c.Logs)),
		now:    c.Now,
		log:    c.Logger,
		closed: make(chan struct{}),
	}
	if w.now == nil {
		w.now = time.Now //nolint:forbidigo // the default of the clock that is handed in
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if err := checkKeys(c.Keys); err != nil {
		return nil, fmt.Errorf("making a witness: %w", err)
	}
	if len(c.Logs) == 0 {
		return nil, errors.New("making a witness: expected at least one log")
	}
	for _, l := range c.Logs {
		if err := w.follow(l); err != nil {
			return nil, fmt.Errorf("making a witness: log %q: %w", l.Origin, err)
		}
	}
	s, err := openState(c.StatePath, false)
	if err != nil {
		return nil, fmt.Errorf("making a witness: %w", err)
	}
	w.state = s
	return w, nil
}

func checkKeys(keys []*checkpoint.SigningKey) error {
	if len(keys) == 0 {
		return errors.New("expected at least one key")
	}
	seen := make(map[checkpoint.Algorithm]bool)
	for _, k := range keys {
		v := k.Verifier()
		if a := v.Algorithm(); a != checkpoint.AlgEd25519Cosignature && a != checkpoint.AlgMLDSA44 {
			return fmt.Errorf("expected cosignature keys, got one for %s", a)
		}
		if v.Name() != keys[0].Verifier().Name() {
			return fmt.Errorf("expected keys of one name, got %q and %q", keys[0].Verifier().Name(), v.Name())
		}
		if seen[v.Algorithm()] {
			return fmt.Errorf("expected one %s key, got two", v.Algorithm())
		}
		seen[v.Algorithm()] = true
	}
	return nil
}

func (w *Witness) follow(l Log) error {
	if l.Origin == "" || len(l.Origin) > maxOrigin {
		return fmt.Errorf("expected an origin of 1 to %d bytes, got %d", maxOrigin, len(l.Origin))
	}
	if w.logs[l.Origin] != nil {
		return errors.New("configured twice")
	}
	if len(l.Keys) == 0 {
		return errors.New("expected at least one key")
	}
	for i, k := range l.Keys {
		if a := k.Algorithm(); a != checkpoint.AlgEd25519 && a != checkpoint.AlgMLDSA44 {
			return fmt.Errorf("expected log keys, got one for %s", a)
		}
		// SPEC (tlog-checkpoint): "The log's key name in its signature line
		// SHOULD match the origin line." Another name here is most likely a key
		// put under the wrong log.
		if k.Name() != l.Origin {
			return fmt.Errorf("expected keys named like the origin, got %q", k.Name())
		}
		for _, other := range l.Keys[:i] {
			if other.ID() == k.ID() {
				return fmt.Errorf("key %08x is given twice", k.ID())
			}
		}
	}
	f := &followed{origin: l.Origin, keys: l.Keys}
	if l.Rate != nil {
		b, err := newBucket(*l.Rate, w.now())
		if err != nil {
			return err
		}
		f.bucket = b
	}
	w.logs[l.Origin] = f
	w.byHash[originHash(l.Origin)] = f
	return nil
}

// originHash names a log in the read interface.
//
// SPEC (tlog-witness): "The origin hash is the SHA-256 hash of the log's origin,
// hex encoded, in lowercase."
func originHash(origin string) string {
	h := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(h[:])
}

// VerifierKeys returns the public halves of the witness's keys, to be put into
// policies.
func (w *Witness) VerifierKeys() []*checkpoint.VerifierKey {
	out := make([]*checkpoint.VerifierKey, len(w.keys))
	for i, k := range w.keys {
		out[i] = k.Verifier()
	}
	return out
}

// Handler serves add-checkpoint and the read interface of tlog-witness under one
// prefix. Time-outs and TLS are the server's.
func (w *Witness) Handler() http.Handler { return w.routes() }

// Run waits until ctx is done or the witness is closed, and then returns nil. It
// returns an error when a write to the state file failed: nothing is cosigned
// any more then, and only a new process can find out what the disk holds.
func (w *Witness) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-w.closed:
		return nil
	case <-w.state.failed:
		return fmt.Errorf("running the witness: %w", w.state.err())
	}
}

// Close closes the state file after the requests under way. Later requests are
// refused.
func (w *Witness) Close() (err error) {
	w.closing.Do(func() {
		close(w.closed)
		err = w.state.close()
	})
	return err
}
