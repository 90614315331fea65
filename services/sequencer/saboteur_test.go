package sequencer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/sequencer/ledger"
	"github.com/trialog/trialog/services/sequencer/witnessing"
)

// harm is what happens to a durable write that fails.
type harm string

const (
	refused   harm = "refused"   // it says that nothing was done, and nothing was
	lost      harm = "lost"      // it fails, nothing was done
	partly    harm = "partly"    // it fails, half of it was done
	persisted harm = "persisted" // it fails, all of it was done
)

var errSabotage = errors.New("sabotaged")

// saboteur lets one durable write fail: the at-th one of a kind.
type saboteur struct {
	mu   sync.Mutex
	kind string
	at   int
	how  harm
	seen map[string]int
}

// hit counts a write and says how it fails, if it does.
func (s *saboteur) hit(kind string) (harm, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]int{}
	}
	s.seen[kind]++
	return s.how, s.kind == kind && s.seen[kind] == s.at
}

func (s *saboteur) disarm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kind = ""
}

// hits returns how many writes of the kind there were.
func (s *saboteur) hits(kind string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[kind]
}

// wrap puts the saboteur between a sequencer and its stores.
func (s *saboteur) wrap(c *Config) {
	c.Tree = sabotagedTree{c.Tree, s}
	store, ok := c.Tiles.(interface {
		blob.Store
		blob.Extender
	})
	if ok {
		c.Tiles = sabotagedTiles{store, store, s}
	}
	c.Register = sabotagedRegister{c.Register, s}
	c.Witness = sabotagedWitnesses{c.Witness, s}
	c.commitLedger = s.commitLedger
}

func (s *saboteur) commitLedger(change *ledger.Change) error {
	how, fails := s.hit("ledger")
	if !fails {
		return change.Commit()
	}
	if how == persisted {
		return errors.Join(change.Commit(), errSabotage)
	}
	return errors.Join(change.Discard(), errSabotage)
}

type sabotagedTree struct {
	tlog.Log
	s *saboteur
}

func (t sabotagedTree) Append(ctx context.Context, first uint64, leaves []tlog.Leaf) error {
	how, fails := t.s.hit("append")
	if !fails {
		return t.Log.Append(ctx, first, leaves)
	}
	switch how {
	case refused:
		return errSabotage
	case partly:
		leaves = leaves[:(len(leaves)+1)/2]
	case lost:
		leaves = nil
	case persisted:
	}
	if len(leaves) > 0 {
		if err := t.Log.Append(ctx, first, leaves); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %w", tlog.ErrUnknownOutcome, errSabotage)
}

func (t sabotagedTree) Integrate(ctx context.Context) (tlog.Root, error) {
	how, fails := t.s.hit("integrate")
	if !fails {
		return t.Log.Integrate(ctx)
	}
	if how == persisted {
		if _, err := t.Log.Integrate(ctx); err != nil {
			return tlog.Root{}, err
		}
	}
	return tlog.Root{}, fmt.Errorf("%w: %w", tlog.ErrUnknownOutcome, errSabotage)
}

type sabotagedTiles struct {
	blob.Store
	grow blob.Extender
	s    *saboteur
}

func (t sabotagedTiles) Put(ctx context.Context, objects ...blob.Object) error {
	kind, _, _ := strings.Cut(objects[0].Key, "/")
	if objects[0].Key == "tail/head" {
		kind = "head"
	}
	how, fails := t.s.hit("put " + kind)
	if !fails {
		return t.Store.Put(ctx, objects...)
	}
	switch how {
	case refused, lost:
		objects = nil
	case partly:
		objects = objects[:len(objects)/2]
	case persisted:
	}
	if len(objects) > 0 {
		if err := t.Store.Put(ctx, objects...); err != nil {
			return err
		}
	}
	return errSabotage
}

func (t sabotagedTiles) Extend(ctx context.Context, list ...blob.Extension) error {
	how, fails := t.s.hit("extend")
	if !fails {
		return t.grow.Extend(ctx, list...)
	}
	for _, e := range list {
		switch how {
		case refused, lost:
			continue
		case partly:
			e.Data = e.Data[:len(e.Data)/2]
		case persisted:
		}
		if err := t.grow.Extend(ctx, e); err != nil {
			return err
		}
	}
	return errSabotage
}

type sabotagedRegister struct {
	register.Register
	s *saboteur
}

func (r sabotagedRegister) Swap(ctx context.Context, old, next register.Record) error {
	how, fails := r.s.hit("register")
	if !fails {
		return r.Register.Swap(ctx, old, next)
	}
	if how == persisted {
		if err := r.Register.Swap(ctx, old, next); err != nil {
			return err
		}
	}
	return errSabotage
}

type sabotagedWitnesses struct {
	Witnesses
	s *saboteur
}

func (w sabotagedWitnesses) Cosign(ctx context.Context, n *checkpoint.Note, prove witnessing.ProveFunc) (*checkpoint.Note, error) {
	how, fails := w.s.hit("cosign")
	if !fails {
		return w.Witnesses.Cosign(ctx, n, prove)
	}
	none := &witnessing.NoQuorumError{Checkpoint: n.Checkpoint()}
	switch how {
	case lost:
		return nil, none
	case persisted:
		if _, err := w.Witnesses.Cosign(ctx, n, prove); err != nil {
			return nil, err
		}
		return nil, none
	case refused, partly:
	}
	return nil, errSabotage
}
