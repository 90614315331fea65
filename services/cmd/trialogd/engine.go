package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/clock"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/sequencer"
)

// engine is the log itself: its shards, and what they have in common.
type engine struct {
	c      *config.Log
	shards []*shard // oldest first
	policy *verify.Policy
	// unopened says why an announced shard is not among them; nil if all are.
	unopened error

	pendingKey *statement.PrivateKey
	gatewayKey *statement.PrivateKey // it speaks for the operator too
	operator   *statement.PrivateKey // recovery key of the operator's organisation

	list     *listing
	activate func(origin string) error // has reads that name no shard answered from another one
	guard    *clock.Guard              // nil without sources
	anchors  *anchors                  // nil without any
	metrics  *prometheus.Registry
	now      func() time.Time
	log      *slog.Logger
	enrolled atomic.Bool
}

// operatorOrganisation is under what name the operator's keys are enrolled.
const operatorOrganisation = "log-operator"

func openEngine(ctx context.Context, l layout, c *config.Log, now func() time.Time, logger *slog.Logger) (_ *engine, err error) {
	e := &engine{c: c, now: now, log: logger, metrics: newRegistry()}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if e.policy, err = readPolicy(l); err != nil {
		return nil, err
	}
	for file, key := range map[string]**statement.PrivateKey{
		pendingKey: &e.pendingKey, gatewayKey: &e.gatewayKey, recoveryKey: &e.operator,
	} {
		if *key, err = readKey(l.key(file)); err != nil {
			return nil, err
		}
	}
	if e.guard, err = newGuard(l, c.ClockSources, now, logger); err != nil {
		return nil, err
	}
	if e.list, err = openListing(l, now); err != nil {
		return nil, err
	}
	if e.anchors, err = openAnchors(c.Anchors.Under(l.dir)); err != nil {
		return nil, err
	}
	if err := e.openShards(ctx, l, c.Shards); err != nil {
		return nil, err
	}
	return e, nil
}

// readPolicy reads the policy by which the log publishes.
func readPolicyFiles(policy, sidecar string) (*verify.Policy, error) {
	text, err := os.ReadFile(policy)
	if err != nil {
		return nil, err
	}
	trust, err := os.ReadFile(sidecar)
	if err != nil {
		return nil, err
	}
	p, err := verify.ParsePolicy(text, trust)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", policy, err)
	}
	return p.Remembering(), nil
}

func newGuard(l layout, addresses []string, now func() time.Time, logger *slog.Logger) (*clock.Guard, error) {
	if len(addresses) == 0 {
		return nil, nil //nolint:nilnil // nothing to compare with
	}
	parser := clock.Parser{Now: now, Dir: l.dir}
	sources := make([]clock.Source, 0, len(addresses))
	for _, address := range addresses {
		s, err := parser.Parse(address)
		if err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	return clock.New(clock.Config{Sources: sources, Now: now, Logger: logger})
}

// clock tells whether the machine's clock was compared with others, and what
// they say against it.
func (e *engine) clock() (verified bool, err error) {
	if e.guard == nil {
		return false, nil
	}
	return e.guard.Check()
}

// predecessors are the shards that are open so far.
func (e *engine) predecessors() []sequencer.Predecessor {
	list := make([]sequencer.Predecessor, 0, len(e.shards))
	for _, sh := range e.shards {
		list = append(list, sequencer.Predecessor{Origin: sh.place.Origin, Tiles: sh.tiles, Register: sh.register})
	}
	return list
}

// run works until ctx ends.
func (e *engine) run(ctx context.Context) error {
	parts := []run.Part{
		{Name: "enrolment", Run: e.enrolGateway},
		{Name: "opening", Run: e.startShards},
	}
	if e.guard != nil {
		e.guard.Poll(ctx) // before anything is taken in
		parts = append(parts, run.Part{Name: "clock", Run: e.guard.Run})
	}
	for _, sh := range e.shards {
		if sh.seq != nil {
			parts = append(parts, run.Part{Name: "shard " + sh.place.Name(), Run: func(ctx context.Context) error { return e.runShard(ctx, sh) }})
		} else {
			renewal, err := e.renewal(sh)
			if err != nil {
				return err
			}
			parts = append(parts, renewal)
		}
		scrubbing, err := e.scrubber(sh)
		if err != nil {
			return err
		}
		parts = append(parts, scrubbing)
		if e.anchors != nil {
			anchoring, err := e.anchoring(sh)
			if err != nil {
				return err
			}
			parts = append(parts, anchoring)
		}
	}
	return run.All(ctx, parts...)
}

// active is the shard that takes statements in: the first one that has not
// ended, or the last one.
func (e *engine) active() *shard {
	for _, sh := range e.shards {
		if sh.seq != nil && !errors.Is(sh.seq.Ready(), sequencer.ErrEnded) {
			return sh
		}
	}
	return e.shards[len(e.shards)-1]
}

// reading is the shard that reads are answered from: the active one, or the one
// before while that has not opened.
func (e *engine) reading() *shard {
	sh := e.active()
	i := slices.Index(e.shards, sh)
	if i > 0 && sh.seq.Checkpoint() == nil && e.shards[i-1].seq != nil {
		return e.shards[i-1]
	}
	return sh
}

// ready tells whether statements are taken in.
func (e *engine) ready() error {
	if err := e.active().seq.Ready(); err != nil {
		return err
	}
	if !e.enrolled.Load() {
		return fmt.Errorf("%w: the gateway's key is not enrolled yet", errStarting)
	}
	return nil
}

// close closes everything that was opened, the newest first.
func (e *engine) close() {
	for _, sh := range slices.Backward(e.shards) {
		sh.close()
	}
	e.shards = nil
}
