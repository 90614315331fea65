// Package proofs serves one log to the public: the published checkpoint, tiles
// and entries as C2SP tlog-tiles, and proofs as JSON.
//
// The store that it reads from is trusted for durability only. Everything is
// verified against the published checkpoint before it is handed out, and the
// checkpoint against the policy. What does not verify is answered with 503, and
// the place is logged, never the content. There is nothing to configure about
// that.
package proofs

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// Config is what New needs. Store, one of Policy and LogKeys, Now and Logger
// must be set.
type Config struct {
	// Store holds the tiles, the published note under the key "checkpoint", and
	// beacon notes under "beacon/<sha256 of the note, in hex>".
	Store blob.Store
	// Policy is what the published checkpoint must satisfy.
	Policy *checkpoint.Policy
	// LogKeys is used if Policy is nil: each of these keys must have signed the
	// published checkpoint. Nothing is asked of witnesses then.
	LogKeys []*checkpoint.VerifierKey
	// Origin is the log's. It may be empty if Policy or LogKeys name one origin
	// only.
	Origin string
	// CacheTiles is how many verified hash tiles, of 16 KiB each, are kept in
	// memory. 0 means 1,024.
	CacheTiles int
	// Refresh is for how long a verified checkpoint is taken to be the
	// published one without looking. Reads beyond it look again at once. 0
	// looks with every request, which is right for a store in a directory.
	Refresh time.Duration
	// Now is the clock; it is used for Refresh only.
	Now func() time.Time
	// Logger gets a line, level ERROR, for everything that does not verify.
	Logger *slog.Logger
}

// Proofs serves one log. It keeps nothing that it could not read again.
type Proofs struct {
	cfg    Config
	reader *tile.Reader

	held atomic.Pointer[published] // nil until a checkpoint has verified
	mu   sync.Mutex                // serialises changes of held
	// refused is the note that was refused last, and why, so that a bad note
	// costs its signature checks, and its log line, once. Guarded by mu.
	refused    [32]byte
	refusedErr error
}

// New checks the configuration and returns the service. It reads nothing yet.
func New(cfg Config) (*Proofs, error) {
	switch {
	case cfg.Store == nil:
		return nil, errors.New("proofs: no store")
	case cfg.Now == nil:
		return nil, errors.New("proofs: no clock")
	case cfg.Logger == nil:
		return nil, errors.New("proofs: no logger")
	case cfg.Policy == nil && len(cfg.LogKeys) == 0:
		return nil, errors.New("proofs: neither a policy nor log keys: nothing could be verified")
	case cfg.CacheTiles < 0 || cfg.Refresh < 0:
		return nil, errors.New("proofs: cache size and refresh interval must not be negative")
	}
	var err error
	if cfg.Origin, err = cfg.origin(); err != nil {
		return nil, fmt.Errorf("proofs: %w", err)
	}
	var opts []tile.Option
	if cfg.CacheTiles > 0 {
		opts = append(opts, tile.WithCache(cfg.CacheTiles))
	}
	return &Proofs{cfg: cfg, reader: tile.NewReader(cfg.Store, opts...)}, nil
}

// origin returns the one origin that the configuration names.
func (c Config) origin() (string, error) {
	keys := c.LogKeys
	if c.Policy != nil {
		keys = nil
		for _, l := range c.Policy.Logs() {
			keys = append(keys, l.Key)
		}
	}
	origin, found := c.Origin, false
	for _, k := range keys {
		if origin == "" {
			origin = k.Name()
		}
		if k.Name() == origin {
			found = true
			continue
		}
		// A policy may list other logs, a list of this log's keys may not.
		if c.Origin == "" || c.Policy == nil {
			return "", fmt.Errorf("keys of %q and of %q: say which log it is", origin, k.Name())
		}
	}
	if !found {
		return "", fmt.Errorf("no key of the log %q", origin)
	}
	return origin, nil
}

// Handler returns the HTTP surface:
//
//	GET /checkpoint
//	GET /tile/<L>/<N>[.p/<W>]
//	GET /tile/entries/<N>[.p/<W>]
//	GET /v1/proofs/inclusion?index=<index>[&size=<size>]
//	GET /v1/proofs/consistency?first=<size>[&second=<size>]
//	GET /v1/entries/<index>
//	GET /v1/beacons/<sha256>
//	POST /v1/receipts:refresh
//
// It expects these paths at its root; http.StripPrefix puts a log under a prefix.
func (p *Proofs) Handler() http.Handler { return http.HandlerFunc(p.serve) }
