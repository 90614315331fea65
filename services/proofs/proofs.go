// Package proofs serves a log to the public, all its shards: the published
// checkpoints, tiles and entries as C2SP tlog-tiles, and proofs as JSON and over
// gRPC.
//
// The stores that it reads from are trusted for durability only. Everything is
// verified against the published checkpoint before it is handed out, and the
// checkpoint against the policy. What does not verify is answered with 503, and
// the place is logged, never the content. There is nothing to configure about
// that.
package proofs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/anchored"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// Shard is one shard of the log.
type Shard struct {
	// Origin is the first line of its checkpoints. The policy must list it. What
	// follows its last slash is the shard's name in paths.
	Origin string
	// Store holds the tiles, the published note under the key "checkpoint", and
	// beacon notes under "beacon/<sha256 of the note, in hex>".
	Store blob.Store
	// Active is true for the one that takes statements in, which is meant when a
	// request names none. Others have ended, or have not begun.
	Active bool
}

// Config is what New needs. Shards (or Origin and Store), Policy, Now and Logger
// must be set.
type Config struct {
	// Shards are all shards of the log; one of them is active.
	Shards []Shard
	// Origin and Store are those of a log of one shard, instead of Shards.
	Origin string
	Store  blob.Store
	// Policy is what a published checkpoint must satisfy, both halves: the
	// quorum, every required log key, and no extension lines. It is the one by
	// which verifiers judge, so nothing is handed out that they would refuse.
	Policy *verify.Policy
	// CacheTiles is how many verified hash tiles, of 16 KiB each, are kept in
	// memory for each shard. 0 means 1,024.
	CacheTiles int
	// Refresh is for how long a verified checkpoint is taken to be the
	// published one without looking. Reads beyond it look again at once. 0
	// looks with every request, which costs more than most proofs.
	Refresh time.Duration
	// Now is the clock; it is used for Refresh, and for how long a receipt may
	// take to arrive.
	Now func() time.Time
	// Logger gets a line, level ERROR, for everything that does not verify.
	Logger *slog.Logger
	// Anchors are how checkpoints are anchored; nil if they are not, and then no
	// receipt can be refreshed to an anchored one.
	Anchors *Anchors
}

// Anchors is what the service knows of the anchoring.
type Anchors struct {
	// Interval is the time between two anchors. It serves to say when the next one
	// is due.
	Interval time.Duration
	// Authorities are those whose tokens go into receipts, each verified before.
	Authorities []anchored.Authority
}

// Proofs serves the shards of a log. It keeps nothing that it could not read
// again.
type Proofs struct {
	cfg    Config
	shards []*shard
	active atomic.Pointer[shard]

	// renewing holds a token for each receipt that is being read and renewed,
	// reading one for each bundle of entries that is in memory.
	renewing, reading chan struct{}
}

// maxReading bounds the bundles of entries that are in memory at once, of up to
// 16 MiB each: anybody may ask for them.
const maxReading = 16

// New checks the configuration and returns the service. It reads nothing yet.
func New(cfg Config) (*Proofs, error) {
	if cfg.Store != nil && cfg.Shards == nil {
		cfg.Shards = []Shard{{Origin: cfg.Origin, Store: cfg.Store, Active: true}}
	}
	switch {
	case len(cfg.Shards) == 0:
		return nil, errors.New("proofs: no store")
	case cfg.Now == nil:
		return nil, errors.New("proofs: no clock")
	case cfg.Logger == nil:
		return nil, errors.New("proofs: no logger")
	case cfg.Policy == nil:
		return nil, errors.New("proofs: no policy: nothing could be verified")
	case cfg.CacheTiles < 0 || cfg.Refresh < 0:
		return nil, errors.New("proofs: cache size and refresh interval must not be negative")
	}
	p := &Proofs{
		cfg: cfg, renewing: make(chan struct{}, maxRenewing), reading: make(chan struct{}, maxReading),
	}
	for _, s := range cfg.Shards {
		if err := p.add(s); err != nil {
			return nil, err
		}
	}
	if p.active.Load() == nil {
		return nil, errors.New("proofs: no shard is active")
	}
	return p, nil
}

func (p *Proofs) add(s Shard) error {
	name := s.Origin[strings.LastIndexByte(s.Origin, '/')+1:]
	switch {
	case s.Store == nil:
		return fmt.Errorf("proofs: no store of %q", s.Origin)
	case !slices.ContainsFunc(p.cfg.Policy.Notes().Logs(), func(l checkpoint.LogEntry) bool { return l.Key.Name() == s.Origin }):
		return fmt.Errorf("proofs: the policy has no key of the log %q", s.Origin)
	case p.named(name) != nil:
		return fmt.Errorf("proofs: two shards are called %q", name)
	case s.Active && p.active.Load() != nil:
		return errors.New("proofs: two shards are active")
	}
	var opts []tile.Option
	if p.cfg.CacheTiles > 0 {
		opts = append(opts, tile.WithCache(p.cfg.CacheTiles))
	}
	one := &shard{cfg: &p.cfg, origin: s.Origin, name: name, store: s.Store, reader: tile.NewReader(s.Store, opts...)}
	p.shards = append(p.shards, one)
	if s.Active {
		p.active.Store(one)
	}
	return nil
}

// Activate makes another shard the active one, as a rollover does. It may be
// called while the service runs.
func (p *Proofs) Activate(origin string) error {
	s := p.of(origin)
	if s == nil {
		return fmt.Errorf("proofs: no shard %q", origin)
	}
	p.active.Store(s)
	return nil
}

// of returns the shard with the origin, or nil.
func (p *Proofs) of(origin string) *shard {
	for _, s := range p.shards {
		if s.origin == origin {
			return s
		}
	}
	return nil
}

// named returns the shard with the name, or nil.
func (p *Proofs) named(name string) *shard {
	for _, s := range p.shards {
		if s.name == name {
			return s
		}
	}
	return nil
}

// Ready returns nil if the active shard's store holds a checkpoint that verifies,
// and the right edge of the tiles has its root.
func (p *Proofs) Ready(ctx context.Context) error {
	_, err := p.active.Load().latest(ctx)
	return err
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
//	POST /v1/receipts:refresh[?anchored=true]
//
// for the active shard, and all but the last one for each shard below
// /shards/<name>, the last element of its origin. Receipts of every shard are
// renewed, and beacons of every shard are found, at the one place.
//
// It expects these paths at its root; http.StripPrefix puts a log under a prefix.
func (p *Proofs) Handler() http.Handler { return http.HandlerFunc(p.serve) }
