package sequencer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

// Reasons that come with predecessors.
const (
	// Standby: the shard waits for its predecessor to end, or for its own first
	// statement. It goes away by itself.
	Standby Reason = "standby"
	// Succession: what a predecessor left does not lead to this shard.
	Succession Reason = "succession"
)

// Bounds of the pause between two looks at a predecessor that has not ended,
// which is part of the time in which neither shard takes statements in. Between
// them it is followShare times what a look takes: a store far away is not asked
// all the time.
const (
	minFollow   = 25 * time.Millisecond
	maxFollow   = 400 * time.Millisecond
	followShare = 10
)

// Predecessor is an earlier shard of the same log. Nothing is written to it. It
// is trusted for being there, and its register for what it is there for anyway:
// that nothing is signed any more once it is sealed. What its tiles hold is
// verified against a checkpoint that a quorum has cosigned.
type Predecessor struct {
	Origin string
	Tiles  blob.Store
	// Register is that of the predecessor's sequencer.
	Register interface {
		Read(ctx context.Context) (register.Record, error)
	}
}

// ancestor is a predecessor as its successor knows it.
type ancestor struct {
	Predecessor
	reader *tile.Reader
	// final is the last checkpoint, with the tree that all is read from; nil until
	// the shard has ended and all of it is in the ledger.
	final atomic.Pointer[published]
	// seen is the newest checkpoint that was read into the ledger, and successor
	// what its last entry names if that is a shard-end. Only Run has them.
	seen      *published
	successor string
}

// newLineage checks the predecessors of a shard, and that who verifies by the
// policy can tell their order: a log line is older than the next.
func newLineage(c *Config) ([]*ancestor, error) {
	var list []*ancestor
	last := -1
	for i := range len(c.Predecessors) + 1 {
		origin := c.Origin
		if i < len(c.Predecessors) {
			p := c.Predecessors[i]
			origin = p.Origin
			list = append(list, &ancestor{Predecessor: p, reader: tile.NewReader(p.Tiles)})
		}
		at := slices.Index(policyShards(c), origin)
		switch {
		case !statement.IsShardOf(origin, c.Log):
			return nil, fmt.Errorf("%q is not a shard of %s", origin, c.Log)
		case at < 0:
			return nil, fmt.Errorf("the policy does not name the shard %q", origin)
		case at <= last:
			return nil, fmt.Errorf("the policy does not name the shard %q after those that precede it", origin)
		}
		last = at
	}
	return list, nil
}

// policyShards returns the origins that the policy names, oldest first.
func policyShards(c *Config) []string {
	var list []string
	for _, l := range c.Policy.Notes().Logs() {
		if !slices.Contains(list, l.Key.Name()) {
			list = append(list, l.Key.Name())
		}
	}
	return list
}

// ancestor returns the predecessor with this origin; nil if there is none.
func (s *Sequencer) ancestor(origin string) *ancestor {
	for _, a := range s.lineage {
		if a.Origin == origin {
			return a
		}
	}
	return nil
}

// last returns the shard that this one succeeds; nil if it is the first.
func (s *Sequencer) last() *ancestor {
	if len(s.lineage) == 0 {
		return nil
	}
	return s.lineage[len(s.lineage)-1]
}

// inherit reads all predecessors into the ledger, oldest first, and begins the
// shard's own part of it. If own is 0, the shard has not opened yet: then it
// follows a predecessor that is still at work, until that has ended.
func (s *Sequencer) inherit(ctx context.Context, own uint64) error {
	if err := s.alignLedger(ctx, own); err != nil {
		return err
	}
	for i, a := range s.lineage {
		next := s.c.Origin
		if i+1 < len(s.lineage) {
			next = s.lineage[i+1].Origin
		}
		if err := s.followToEnd(ctx, a, next, own > 0); err != nil {
			return err
		}
	}
	if s.c.Ledger.Shard().Origin == s.c.Origin {
		return nil
	}
	return s.c.Ledger.Begin(s.c.Origin, false)
}

// alignLedger empties the ledger if it stands on other shards than this one, or on
// another log of its name. own is the size of the shard's store.
func (s *Sequencer) alignLedger(ctx context.Context, own uint64) error {
	for i, known := range s.c.Ledger.Shards() {
		stands := false
		switch {
		case i < len(s.lineage):
			stands = known.Origin == s.lineage[i].Origin && known.Indexed
		case i == len(s.lineage) && known.Origin == s.c.Origin:
			var err error
			if stands, err = s.readFromStore(ctx, known, own); err != nil {
				return err
			}
		}
		if !stands {
			s.log.Warn("the ledger stands on other shards, or on another log, and is made again", "shard", known.Origin)
			return s.c.Ledger.Reset()
		}
	}
	return nil
}

// readFromStore tells whether the ledger's part of this shard was read from a log
// that is, up to there, the one in the store. One that is ahead of the store is for
// catchUpLedger to judge.
func (s *Sequencer) readFromStore(ctx context.Context, known ledger.Shard, own uint64) (bool, error) {
	switch {
	case known.Size == 0 || known.Size > own:
		return true, nil
	case known.Root != [32]byte{}:
		root, err := s.c.Tree.RootAt(ctx, known.Size)
		if err != nil {
			return false, storeError("compute the root at the ledger's size", err)
		}
		return root == known.Root, nil
	}
	leaves, err := s.c.Tree.Leaves(ctx, known.Size-1, 1)
	if err != nil {
		return false, storeError("read the ledger's last entry back", err)
	}
	return len(leaves) == 1 && tile.LeafHash(leaves[0].Value) == known.LastLeaf, nil
}

// followToEnd follows a predecessor until it has ended, with next as its
// successor. A shard that has opened finds it ended.
func (s *Sequencer) followToEnd(ctx context.Context, a *ancestor, next string, opened bool) error {
	defer s.setWaiting(nil)
	for {
		begun := s.c.Now()
		waits, err := s.follow(ctx, a, next)
		pause := min(max(minFollow, followShare*s.c.Now().Sub(begun)), maxFollow)
		_, refused := errors.AsType[*RefusedError](err)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case refused:
			return err
		case err != nil:
			waits = err.Error()
			s.log.Warn("a predecessor cannot be read", "predecessor", a.Origin, "error", err)
		case waits == "":
			return nil
		case opened:
			return refuse(Fork, "the shard holds entries, but its predecessor %q has not ended: %s", a.Origin, waits)
		}
		s.setWaiting(refuse(Standby, "predecessor %q: %s", a.Origin, waits))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// setWaiting says by Ready what the shard waits for.
func (s *Sequencer) setWaiting(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = why
}

// follow brings the ledger up to the predecessor's newest published checkpoint.
// It returns what is missing for the predecessor's end, "" if nothing is. An
// error that is no *RefusedError may go away.
func (s *Sequencer) follow(ctx context.Context, a *ancestor, next string) (waits string, err error) {
	// The register is read first: it moves before a checkpoint is published, and
	// is sealed after the last one was.
	reg, err := a.readRegister(ctx)
	if err != nil {
		return "", err
	}
	head, err := s.readPublished(ctx, a, reg)
	if err != nil {
		return "", err
	}
	if head == nil {
		return "nothing is published yet", nil
	}
	if head != a.seen {
		if err := s.absorb(ctx, a, head); err != nil {
			return "", err
		}
		// The ledger says it too, but is not asked: it is not verified.
		if a.successor, err = endOf(ctx, head.tree); err != nil {
			return "", a.readError("read the last entry", err)
		}
		a.seen = head
	}
	switch {
	case a.successor == "" && reg.Sealed:
		return "", refuse(Succession, "the register of %q is sealed at size %d, whose last entry is not a shard-end", a.Origin, reg.Size)
	case a.successor == "":
		return "it has not ended", nil
	case a.successor != next:
		return "", refuse(Succession, "the shard-end of %q names %q as its successor, not %q", a.Origin, a.successor, next)
	case !reg.Sealed:
		return "its register is not sealed", nil
	}
	if head.outdated {
		s.log.Warn("the last checkpoint of a predecessor does not satisfy the policy, a new one is needed",
			"predecessor", a.Origin, "size", head.size())
	}
	a.final.Store(head)
	return "", nil
}

func (a *ancestor) readRegister(ctx context.Context) (register.Record, error) {
	reg, err := a.Register.Read(ctx)
	switch {
	case errors.Is(err, register.ErrMissing):
		return reg, refuse(RegisterMissing, "predecessor %q has no register", a.Origin)
	case errors.Is(err, register.ErrCorrupt):
		return reg, refuse(Corrupt, "predecessor %q: %w", a.Origin, err)
	case err != nil:
		return reg, fmt.Errorf("read the register of %q: %w", a.Origin, err)
	case reg.Origin != a.Origin:
		return reg, refuse(Fork, "the register of %q is of origin %q", a.Origin, reg.Origin)
	}
	return reg, nil
}

// readPublished reads a predecessor's published checkpoint, and holds it against
// the register and what was read before; nil if there is none yet.
func (s *Sequencer) readPublished(ctx context.Context, a *ancestor, reg register.Record) (*published, error) {
	raw, err := a.Tiles.Get(ctx, CheckpointKey)
	if errors.Is(err, blob.ErrNotFound) {
		if reg.Sealed {
			return nil, refuse(Rollback, "the register of %q is sealed at size %d, and nothing is published", a.Origin, reg.Size)
		}
		return nil, nil //nolint:nilnil // the caller waits
	} else if err != nil {
		return nil, fmt.Errorf("read the checkpoint of %q: %w", a.Origin, err)
	}
	if a.seen != nil && bytes.Equal(a.seen.note.Bytes(), raw) && !reg.Sealed {
		return a.seen, nil
	}
	note, err := checkpoint.Parse(raw)
	if err != nil {
		return nil, refuse(Corrupt, "the published checkpoint of %q: %w", a.Origin, err)
	}
	outdated, err := a.judge(s.c.Policy, note)
	if err != nil {
		return nil, err
	}
	c := note.Checkpoint()
	if err := a.agree(ctx, c, reg); err != nil {
		return nil, err
	}
	if a.seen != nil && a.seen.note.Checkpoint() == c {
		return &published{note: note, tree: a.seen.tree, outdated: outdated}, nil
	}
	tree, err := a.reader.Tree(ctx, c.Size, c.Root)
	if err != nil {
		return nil, a.readError("read the published tree", err)
	}
	return &published{note: note, tree: tree, outdated: outdated}, nil
}

// judge holds a predecessor's published note against the policy. One that the
// predecessor has signed, and that does not satisfy the policy, is outdated: it
// was published by another one.
func (a *ancestor) judge(policy *verify.Policy, note *checkpoint.Note) (outdated bool, err error) {
	_, err = policy.CheckNote(note.Bytes())
	if err == nil {
		return false, nil
	}
	if _, ok := errors.AsType[*verify.FinalError](err); ok {
		return false, refuse(Fork, "the published checkpoint of %q: %w", a.Origin, err)
	}
	if !wasPublished(policy, note) {
		return false, refuse(Corrupt, "the published checkpoint of %q: %w", a.Origin, err)
	}
	return true, nil
}

// agree holds a published checkpoint against the register that was read before.
func (a *ancestor) agree(ctx context.Context, c checkpoint.Checkpoint, reg register.Record) error {
	if c.Size > reg.Size && !reg.Sealed { // it may have moved on meanwhile
		var err error
		if reg, err = a.readRegister(ctx); err != nil {
			return err
		}
	}
	switch {
	case c.Origin != a.Origin:
		return refuse(Fork, "the published checkpoint of %q is of origin %q", a.Origin, c.Origin)
	case c.Size > reg.Size:
		return refuse(Rollback, "the published checkpoint of %q is at size %d, its register at %d: the register was put back",
			a.Origin, c.Size, reg.Size)
	case reg.Sealed && c.Size < reg.Size:
		return refuse(Rollback, "the register of %q is sealed at size %d, the published checkpoint is at %d: the tiles were put back",
			a.Origin, reg.Size, c.Size)
	case c.Size == reg.Size && c.Root != reg.Root:
		return refuse(Fork, "register and published checkpoint of %q have different roots at size %d", a.Origin, c.Size)
	}
	return nil
}

// absorb reads what a predecessor's tree holds beyond the ledger into it.
func (s *Sequencer) absorb(ctx context.Context, a *ancestor, head *published) error {
	shards := s.c.Ledger.Shards()
	at := slices.IndexFunc(shards, func(other ledger.Shard) bool { return other.Origin == a.Origin })
	if at < 0 {
		if err := s.c.Ledger.Begin(a.Origin, true); err != nil {
			return err
		}
		shards, at = s.c.Ledger.Shards(), len(shards)
	}
	known := shards[at]
	if at < len(shards)-1 && known.Size < head.size() {
		return refuse(Fork, "%q holds %d entries, and had ended with %d", a.Origin, head.size(), known.Size)
	}
	if known.Size > head.size() {
		return refuse(Rollback, "the published checkpoint of %q is at size %d, and %d entries of it were read before: the tiles were put back",
			a.Origin, head.size(), known.Size)
	}
	if known.Size > 0 {
		root, err := head.tree.RootAt(ctx, known.Size)
		if err != nil {
			return a.readError("compute the root of what was read before", err)
		}
		if root != known.Root {
			return refuse(Fork, "the published tree of %q is another than the one of which %d entries were read before", a.Origin, known.Size)
		}
	}
	for known.Size < head.size() {
		n := int(min(readAhead, head.size()-known.Size))
		entries, err := head.tree.Entries(ctx, known.Size, n)
		if err != nil {
			return a.readError("read its entries", err)
		}
		root, err := head.tree.RootAt(ctx, known.Size+uint64(n))
		if err != nil {
			return a.readError("compute the root", err)
		}
		if err := s.apply(known.Size, entries, root); err != nil {
			return err
		}
		known.Size += uint64(n)
	}
	return nil
}

// readError is storeError for a predecessor. What its store cannot give at the
// moment may come later.
func (a *ancestor) readError(doing string, err error) error {
	if corrupt, ok := errors.AsType[*tile.CorruptError](err); ok && corrupt.Err != nil && !errors.Is(corrupt.Err, blob.ErrNotFound) {
		return fmt.Errorf("predecessor %q: %s: %w", a.Origin, doing, err)
	}
	return storeError(fmt.Sprintf("predecessor %q: %s", a.Origin, doing), err)
}

// publishedOf returns the newest published checkpoint of a shard of the log, as
// far as this shard stands on it: its own, given as own, or the last one of a
// predecessor that has ended; nil if there is none.
func (s *Sequencer) publishedOf(origin string, own *published) *published {
	if origin == s.c.Origin {
		return own
	}
	if a := s.ancestor(origin); a != nil {
		return a.final.Load()
	}
	return nil
}
