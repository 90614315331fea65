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
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// Config is what New needs. Store, Policy, Origin, Now and Logger must be set.
type Config struct {
	// Store holds the tiles, the published note under the key "checkpoint", and
	// beacon notes under "beacon/<sha256 of the note, in hex>".
	Store blob.Store
	// Policy is what the published checkpoint must satisfy, both halves: the
	// quorum, every required log key, and no extension lines. It is the one by
	// which verifiers judge, so nothing is handed out that they would refuse.
	Policy *verify.Policy
	// Origin is the log's. The policy must list it; it may list others.
	Origin string
	// CacheTiles is how many verified hash tiles, of 16 KiB each, are kept in
	// memory. 0 means 1,024.
	CacheTiles int
	// Refresh is for how long a verified checkpoint is taken to be the
	// published one without looking. Reads beyond it look again at once. 0
	// looks with every request, which is right for a store in a directory.
	Refresh time.Duration
	// Now is the clock; it is used for Refresh, and for how long a receipt may
	// take to arrive.
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

	// renewing holds a token for each receipt that is being read and renewed.
	renewing chan struct{}
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
	case cfg.Policy == nil:
		return nil, errors.New("proofs: no policy: nothing could be verified")
	case !slices.ContainsFunc(cfg.Policy.Notes().Logs(), func(l checkpoint.LogEntry) bool { return l.Key.Name() == cfg.Origin }):
		return nil, fmt.Errorf("proofs: the policy has no key of the log %q", cfg.Origin)
	case cfg.CacheTiles < 0 || cfg.Refresh < 0:
		return nil, errors.New("proofs: cache size and refresh interval must not be negative")
	}
	var opts []tile.Option
	if cfg.CacheTiles > 0 {
		opts = append(opts, tile.WithCache(cfg.CacheTiles))
	}
	return &Proofs{
		cfg: cfg, reader: tile.NewReader(cfg.Store, opts...), renewing: make(chan struct{}, maxRenewing),
	}, nil
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
