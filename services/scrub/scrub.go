// Package scrub reads a shard's tiles, and its store, again and again in the
// background, slowly, and says when something in them is wrong: damage is to be
// found while there is still a good copy.
//
// It trusts the checkpoint that the policy accepts and nothing else, like
// package fsck, which does the looking.
package scrub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/fsck"
	"github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/internal/tlog"
)

const (
	defaultCycle = 24 * time.Hour
	// defaultMinRate passes over 100,000 entries in less than ten minutes.
	defaultMinRate     = 200
	defaultMaxFindings = 1000
	// step is how many bundles are looked at between two pauses.
	step = 4
	// saveEvery is after how many steps the position is kept.
	saveEvery = 64
	// idle is the pause while there is nothing to read.
	idle = time.Minute
	// yield is the pause while others are busy, longest how often it is made
	// before a step: damage must not hide behind load.
	yield, longest = time.Second, 30

	checkpointKey = "checkpoint"
)

// Config says what to scrub. Origin, Policy and Tiles are required.
type Config struct {
	Origin string
	Policy *verify.Policy
	Tiles  blob.Store
	// Log is the store of the shard, if this process has it: its leaves and its
	// identity index are held against the tiles.
	Log tlog.Log
	// Identity computes the identity of a leaf from its value; nil leaves the
	// identity index out.
	Identity func(value []byte) ([32]byte, bool)
	// State keeps the position across restarts, in the object "scrub"; nil begins
	// anew each time. It is trusted for nothing: a wrong position makes one cycle
	// shorter.
	State blob.Store
	// Cycle is in what time the whole log is passed over; 0: a day.
	Cycle time.Duration
	// MinRate is how many entries a second are read at least; 0: 200.
	MinRate int
	// MaxFindings is after how many findings a cycle is given up: one that finds
	// so many would say no more than that. 0: 1000.
	MaxFindings int
	// Busy tells whether others need the machine more; nil: they never do.
	Busy func() bool
	// Registerer takes the metrics; nil: none.
	Registerer prometheus.Registerer
	Logger     *slog.Logger // nil: none
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Wait pauses; nil: a timer.
	Wait func(ctx context.Context, d time.Duration) error
}

// Scrubber is the background scrub of one shard.
type Scrubber struct {
	c       Config
	log     *slog.Logger
	metrics *metrics
	at      position
}

// New returns a Scrubber. It reads nothing yet.
func New(cfg Config) (*Scrubber, error) {
	if cfg.Origin == "" || cfg.Policy == nil || cfg.Tiles == nil {
		return nil, errors.New("scrub: origin, policy and tiles are required")
	}
	if cfg.Cycle < 0 || cfg.MinRate < 0 || cfg.MaxFindings < 0 {
		return nil, errors.New("scrub: cycle, rate and findings are not negative")
	}
	if cfg.Cycle == 0 {
		cfg.Cycle = defaultCycle
	}
	if cfg.MinRate == 0 {
		cfg.MinRate = defaultMinRate
	}
	if cfg.MaxFindings == 0 {
		cfg.MaxFindings = defaultMaxFindings
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now //nolint:forbidigo // the default of the clock that is handed in
	}
	if cfg.Wait == nil {
		cfg.Wait = run.Pause
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("scrub: %w", err)
	}
	return &Scrubber{c: cfg, log: cfg.Logger, metrics: m}, nil
}

// Part is the scrub as a part of a process.
func (s *Scrubber) Part() run.Part { return run.Part{Name: "scrub", Run: s.Run} }

// Run scrubs until ctx ends, and returns nil then. It ends for no other reason:
// what it cannot read is reported and tried again with the next cycle.
func (s *Scrubber) Run(ctx context.Context) error {
	s.load(ctx)
	for ctx.Err() == nil {
		if err := s.Cycle(ctx); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "the scrub cannot go on", "position", s.at.next, "error", err)
			if s.c.Wait(ctx, idle) != nil {
				break
			}
		}
	}
	s.save(context.WithoutCancel(ctx))
	return nil //nolint:nilerr // it was told to end
}

// Cycle passes over the log once, from the position on. It returns an error if
// it could not come to the end.
func (s *Scrubber) Cycle(ctx context.Context) error {
	head, err := s.head(ctx)
	if err != nil {
		return err
	}
	if head == nil || head.Size == 0 {
		return s.c.Wait(ctx, idle)
	}
	if s.at.next >= head.Size {
		s.at = position{}
	}
	found := 0
	for steps := 1; s.at.next < head.Size; steps++ {
		if err := s.pause(ctx, head.Size); err != nil {
			return err
		}
		to := min(s.at.next+step*tile.FullWidth, head.Size)
		n, err := s.look(ctx, head, to)
		if err != nil {
			return err
		}
		s.at.next = to
		s.metrics.position.Set(float64(to))
		if found += n; found > s.c.MaxFindings {
			s.at = position{}
			return fmt.Errorf("%d findings are too many to go on: check the shard with fsck", found)
		}
		if steps%saveEvery == 0 {
			s.save(ctx)
		}
	}
	s.at = position{}
	s.save(ctx)
	s.metrics.lastCycle.Set(float64(s.c.Now().Unix()))
	s.log.InfoContext(ctx, "scrub cycle done", "origin", s.c.Origin, "entries", head.Size, "findings", found)
	return nil
}

// pause keeps the rate, and lets others go first.
func (s *Scrubber) pause(ctx context.Context, size uint64) error {
	rate := max(float64(s.c.MinRate), float64(size)/s.c.Cycle.Seconds())
	if err := s.c.Wait(ctx, time.Duration(step*tile.FullWidth/rate*float64(time.Second))); err != nil {
		return err
	}
	for n := 0; s.c.Busy != nil && s.c.Busy() && n < longest; n++ {
		if err := s.c.Wait(ctx, yield); err != nil {
			return err
		}
	}
	return nil
}

// head returns the published tree head; nil if there is none or it is damaged,
// which is reported.
func (s *Scrubber) head(ctx context.Context) (*checkpoint.Checkpoint, error) {
	raw, err := s.c.Tiles.Get(ctx, checkpointKey)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, nil //nolint:nilnil // nothing is published yet
	} else if err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	cosigned, err := s.c.Policy.CheckNote(raw)
	if err != nil {
		at := fsck.LocateNote(ctx, s.c.Policy, raw, err)
		s.report(ctx, fsck.Finding{
			Kind: fsck.KindCheckpoint, Object: checkpointKey, Offset: at.Offset, Length: at.Length, Exact: at.Exact,
			Detail: fmt.Sprintf("the policy does not accept it: %v", err),
		})
		return nil, nil //nolint:nilnil // there is nothing to hold the log against
	}
	if cosigned.Origin != s.c.Origin {
		s.report(ctx, fsck.Finding{Kind: fsck.KindCheckpoint, Object: checkpointKey, Detail: "it is of another shard"})
		return nil, nil //nolint:nilnil // as above
	}
	return &cosigned.Checkpoint, nil
}

// look checks the entries from the position up to to, and returns how much was
// found. What is found is looked at twice: between two reads the log goes on,
// and a growing tile becomes a full one.
func (s *Scrubber) look(ctx context.Context, head *checkpoint.Checkpoint, to uint64) (int, error) {
	found, err := s.check(ctx, head, to)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	again, err := s.head(ctx)
	if err != nil {
		return 0, err
	}
	if again != nil && again.Size >= head.Size {
		head = again
	}
	if found, err = s.check(ctx, head, to); err != nil {
		return 0, err
	}
	for _, f := range found {
		s.report(ctx, f)
	}
	return len(found), nil
}

func (s *Scrubber) check(ctx context.Context, head *checkpoint.Checkpoint, to uint64) ([]fsck.Finding, error) {
	var stored []fsck.Finding
	report, err := fsck.Check(ctx, fsck.Config{
		Source: source{s.c.Tiles}, Head: head, From: s.at.next, To: to, Workers: 1,
		OnBundle: func(b fsck.Bundle) error {
			found, err := s.compare(ctx, b)
			stored = append(stored, found...)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return append(report.Findings, stored...), nil
}

// report makes a finding known: a line in the log, and a metric.
func (s *Scrubber) report(ctx context.Context, f fsck.Finding) {
	s.metrics.count(f.Kind)
	attrs := []any{
		"origin", s.c.Origin, "kind", f.Kind, "object", f.Object, "offset", f.Offset, "exact", f.Exact, "detail", f.Detail,
	}
	if f.Entry != nil {
		attrs = append(attrs, "entry", *f.Entry, "entries", f.Entries)
	}
	if f.Supports != "" {
		attrs = append(attrs, "supports", f.Supports)
	}
	s.log.ErrorContext(ctx, "the scrub found damage", attrs...)
}

// source reads the tiles as package fsck wants them.
type source struct{ store blob.Store }

// Get implements fsck.Source.
func (s source) Get(ctx context.Context, path string) ([]byte, error) {
	data, err := s.store.Get(ctx, path)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return data, err
}
