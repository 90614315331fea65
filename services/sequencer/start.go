package sequencer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/sequencer/ledger"
	"github.com/trialog/trialog/services/sequencer/witnessing"
)

// readAhead is how many entries start-up reads at a time.
const readAhead = 1024

// started is what the start found and brought into line.
type started struct {
	root       tlog.Root
	registered register.Record
	tiles      *tile.Writer
	// settled tells that enough witnesses have been asked to sign a new body.
	settled bool
	// ended tells that the last entry is a shard-end: nothing may follow it.
	ended bool
}

// start applies the start-up rules: witnessed ≤ register ≤ store, and the same
// tree everywhere. It signs nothing but the registered body. A shard that has
// not opened waits here for its predecessor to end.
func (s *Sequencer) start(ctx context.Context) (*started, error) {
	registered, err := s.readRegister(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.checkFinal(tlog.Root{Size: registered.Size, Hash: registered.Root}); err != nil {
		return nil, err
	}
	root, err := s.integrated(ctx, registered)
	if err != nil {
		return nil, err
	}
	note, outdated, err := s.loadPublished(ctx, root, registered)
	if err != nil {
		return nil, err
	}
	if err := s.checkCandidate(ctx, root, registered); err != nil {
		return nil, err
	}
	tiles, err := s.catchUpTiles(ctx, root)
	if err != nil {
		return nil, err
	}
	if note != nil {
		c := note.Checkpoint()
		tree, err := s.reader.Tree(ctx, c.Size, c.Root)
		if err != nil {
			return nil, storeError("read the published tree", err)
		}
		s.publish(&published{note: note, tree: tree, outdated: outdated})
	}
	if err := s.inherit(ctx, root.Size); err != nil {
		return nil, err
	}
	if err := s.checkOpening(ctx, root.Size); err != nil {
		return nil, err
	}
	if err := s.catchUpLedger(ctx, root.Size); err != nil {
		return nil, err
	}
	ended, err := s.checkEnd(ctx, root, registered)
	if err != nil {
		return nil, err
	}
	// A sealed shard signs nothing any more, so there is nothing to ask.
	settled := registered.Sealed
	if !settled {
		if settled, err = s.probe(ctx, registered); err != nil && !isUnsigned(err) {
			return nil, err
		}
	}
	return &started{root: root, registered: registered, tiles: tiles, settled: settled, ended: ended}, nil
}

func (s *Sequencer) readRegister(ctx context.Context) (register.Record, error) {
	registered, err := s.c.Register.Read(ctx)
	switch {
	case errors.Is(err, register.ErrMissing):
		return registered, refuse(RegisterMissing, "only init makes a register; if this shard has run before, its register was lost")
	case errors.Is(err, register.ErrCorrupt):
		return registered, refuse(Corrupt, "%w", err)
	case err != nil:
		return registered, err
	case registered.Origin != s.c.Origin:
		return registered, refuse(Fork, "the register is of origin %q", registered.Origin)
	}
	return registered, nil
}

// integrated returns the root of all that the store holds, which is not less
// than what is registered, and not more once that is sealed.
func (s *Sequencer) integrated(ctx context.Context, registered register.Record) (tlog.Root, error) {
	// Whatever a crash left without a gap behind the root belongs to the log:
	// somebody may hold a promise for it.
	root, err := s.c.Tree.Integrate(ctx)
	if err != nil {
		return root, storeError("integrate what is stored", err)
	}
	if err := s.checkAgainst(ctx, "register", root, registered.Size, registered.Root); err != nil {
		return root, err
	}
	if registered.Sealed && root.Size > registered.Size {
		return root, refuse(Fork, "the register is sealed at size %d, the store holds %d entries", registered.Size, root.Size)
	}
	return root, nil
}

// storeError refuses damaged and contradicting stores by name and hands on
// everything else.
func storeError(doing string, err error) error {
	switch {
	case errors.Is(err, tlog.ErrCorrupt) || errors.Is(err, tile.ErrCorrupt):
		return refuse(Corrupt, "%s: %w", doing, err)
	case errors.Is(err, tile.ErrMismatch):
		return refuse(Fork, "%s: %w", doing, err)
	case errors.Is(err, tlog.ErrOwned):
		return refuse(Owned, "%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// stopped is storeError for a failure that only a restart can resolve.
func stopped(doing string, err error) error {
	named := storeError(doing, err)
	if _, ok := errors.AsType[*RefusedError](named); ok {
		return named
	}
	return refuse(Failed, "%w", named)
}

// checkAgainst holds the store against a size and root that were signed or seen.
func (s *Sequencer) checkAgainst(ctx context.Context, what string, root tlog.Root, size uint64, want [32]byte) error {
	if size > root.Size {
		return refuse(Rollback, "the %s is at size %d, the store holds %d entries: the store was put back", what, size, root.Size)
	}
	got, err := s.c.Tree.RootAt(ctx, size)
	if err != nil {
		return storeError(fmt.Sprintf("compute the root at size %d", size), err)
	}
	if got != want {
		return refuse(Fork, "the store's root at size %d is not that of the %s", size, what)
	}
	return nil
}

// loadPublished reads the published checkpoint back, nil if there is none, and
// holds it against store and register: nothing may have been published that the
// register does not know.
//
// A note that does not satisfy the policy, but that the log has signed, was
// published by another policy: witnesses were replaced since. It is outdated: the
// tree is cosigned anew, at the same size, by the witnesses of today. Until then it
// stands for what was published, and nothing is final.
func (s *Sequencer) loadPublished(
	ctx context.Context, root tlog.Root, registered register.Record,
) (note *checkpoint.Note, outdated bool, err error) {
	raw, err := s.c.Tiles.Get(ctx, CheckpointKey)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, false, nil // nothing is published yet
	} else if err != nil {
		return nil, false, fmt.Errorf("read the published checkpoint: %w", err)
	}
	if note, err = checkpoint.Parse(raw); err != nil {
		return nil, false, refuse(Corrupt, "the published checkpoint: %w", err)
	}
	_, unsatisfied := s.c.Policy.CheckNote(raw)
	if _, ok := errors.AsType[*verify.FinalError](unsatisfied); ok {
		return nil, false, refuse(Fork, "the published checkpoint: %w", unsatisfied)
	}
	cosigned := len(note.Signatures()) > len(s.c.LogKeys) // by whomever
	if unsatisfied != nil && (!cosigned || !s.signedByLog(note)) {
		return nil, false, refuse(Corrupt, "the published checkpoint: %w", unsatisfied)
	}
	c := note.Checkpoint()
	if c.Origin != s.c.Origin {
		return nil, false, refuse(Fork, "the published checkpoint is of origin %q", c.Origin)
	}
	if c.Size > registered.Size {
		return nil, false, refuse(Rollback, "the published checkpoint is at size %d, the register at %d: the register was put back",
			c.Size, registered.Size)
	}
	if err := s.checkAgainst(ctx, "published checkpoint", root, c.Size, c.Root); err != nil {
		return nil, false, err
	}
	if unsatisfied != nil {
		s.log.Warn("the published checkpoint does not satisfy the policy, a new one is needed", "size", c.Size, "error", unsatisfied)
	}
	return note, unsatisfied != nil, nil
}

// checkCandidate holds the newest note that the log itself has signed against
// register and store. A body is registered before it is signed, so a newer one
// means that the register was put back. What the log has not signed says
// nothing: it is signed anew.
func (s *Sequencer) checkCandidate(ctx context.Context, root tlog.Root, registered register.Record) error {
	raw, err := s.c.Tiles.Get(ctx, candidateKey)
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read the signed checkpoint: %w", err)
	}
	n, err := checkpoint.Parse(raw)
	if err != nil || !s.signedByLog(n) {
		s.log.Warn("the newest signed checkpoint cannot be read back", "error", err)
		return nil
	}
	c := n.Checkpoint()
	if c.Size > registered.Size {
		return refuse(Rollback, "the log has signed size %d, the register is at %d: the register was put back", c.Size, registered.Size)
	}
	return s.checkAgainst(ctx, "checkpoint that the log has signed", root, c.Size, c.Root)
}

// catchUpTiles writes the tiles that a crash left unwritten. The tiles live in
// another failure domain than the store, so they are a witness too: tiles ahead
// of the store mean that the store was put back.
func (s *Sequencer) catchUpTiles(ctx context.Context, root tlog.Root) (*tile.Writer, error) {
	w, err := tile.OpenWriter(ctx, s.c.Tiles)
	if err != nil {
		return nil, storeError("open the tiles", err)
	}
	if err := s.checkAgainst(ctx, "tiles", root, w.Size(), w.Root()); err != nil {
		return nil, err
	}
	for w.Size() < root.Size {
		leaves, err := s.c.Tree.Leaves(ctx, w.Size(), readAhead)
		if err != nil {
			return nil, storeError("read entries back", err)
		}
		if len(leaves) == 0 {
			return nil, refuse(Corrupt, "the store has no entry %d below its size %d", w.Size(), root.Size)
		}
		if over := w.Size() + uint64(len(leaves)); over > root.Size {
			leaves = leaves[:root.Size-w.Size()]
		}
		if _, err := w.Append(ctx, values(leaves)); err != nil {
			return nil, storeError("write the tiles again", err)
		}
	}
	if w.Root() != root.Hash {
		return nil, refuse(Fork, "the tiles give another root than the store at size %d", root.Size)
	}
	return w, nil
}

func values(leaves []tlog.Leaf) [][]byte {
	list := make([][]byte, len(leaves))
	for i := range leaves {
		list[i] = leaves[i].Value
	}
	return list
}

// catchUpLedger reads into the ledger what the log holds beyond it.
func (s *Sequencer) catchUpLedger(ctx context.Context, size uint64) error {
	known, err := s.c.Ledger.Size()
	if err != nil {
		return err
	}
	if known > size {
		// The ledger follows the log, so this is another log's.
		return refuse(Rollback, "the ledger has seen %d entries, the store holds %d: the store was put back", known, size)
	}
	for known < size {
		leaves, err := s.c.Tree.Leaves(ctx, known, readAhead)
		if err != nil {
			return storeError("read entries back", err)
		}
		if len(leaves) == 0 {
			return refuse(Corrupt, "the store has no entry %d below its size %d", known, size)
		}
		if over := known + uint64(len(leaves)); over > size {
			leaves = leaves[:size-known]
		}
		if err := s.apply(known, values(leaves), [32]byte{}); err != nil {
			return err
		}
		known += uint64(len(leaves))
	}
	return nil
}

// apply reads the entries from index first on into the ledger. root is that of
// the tree behind them, or zero.
func (s *Sequencer) apply(first uint64, entries [][]byte, root [32]byte) error {
	change := s.c.Ledger.Change()
	for i, raw := range entries {
		index := first + uint64(i)
		e, stmt, id, err := readEntry(raw)
		if err == nil {
			err = change.Apply(index, e, stmt, id)
		} else {
			err = refuse(Corrupt, "entry %d of %q: %w", index, s.c.Ledger.Shard().Origin, err)
		}
		if errors.Is(err, ledger.ErrEnded) {
			err = refuse(Fork, "%q: entries follow its shard-end: %w", s.c.Ledger.Shard().Origin, err)
		}
		if err != nil {
			return errors.Join(err, change.Discard())
		}
	}
	change.Reached(root)
	if n := len(entries); n > 0 {
		change.Ends(tile.LeafHash(entries[n-1]))
	}
	return change.Commit()
}

// readEntry parses an entry, its statement and the identity of that.
func readEntry(raw []byte) (*entry.Entry, *statement.Statement, statement.Identity, error) {
	e, err := entry.Parse(raw)
	if err != nil {
		return nil, nil, statement.Identity{}, err
	}
	env, stmt, err := statement.Parse(e.Envelope)
	if err != nil {
		return nil, nil, statement.Identity{}, err
	}
	id := stmt.Identity(env.Payload)
	return e, stmt, id, nil
}

// probe asks the witnesses what they have seen, by sending the registered
// checkpoint again. It returns true if no quorum is left unasked: until then some
// quorum might hold a checkpoint that this log has forgotten, and no new body may
// be signed. Promises go on meanwhile. While the registered body itself cannot be
// signed, nobody is asked: an *unsignedError.
func (s *Sequencer) probe(ctx context.Context, registered register.Record) (bool, error) {
	note, err := s.sign(ctx, registered)
	if err != nil {
		return false, err
	}
	results, err := s.c.Witness.Probe(ctx, note)
	if err != nil {
		return false, fmt.Errorf("ask the witnesses what they have seen: %w", err)
	}
	if err := s.judgeProbe(results, registered); err != nil {
		return false, err
	}
	if s.c.Witness.Unasked(results) {
		s.log.Info("waiting for witnesses before anything new is signed", "answered", answered(results), "of", len(results))
		return false, nil
	}
	return true, nil
}

// judgeProbe refuses if the witnesses that contradict the register, together
// with those that have not answered, could form a quorum: then a checkpoint may
// have been published that this log has forgotten. Fewer are outvoted: a 409's
// size is not signed, and no single witness may stop the log.
//
// Witnesses of the policy that are not asked, for others ask them at a slower pace,
// count with those that have not answered. By that a single witness can stop no log
// which could be cosigned without it, unless two quorums of the policy have no
// witness in common. Retired keys count for nothing new.
func (s *Sequencer) judgeProbe(results []witnessing.WitnessResult, registered register.Record) error {
	var first *witnessing.WitnessResult
	notes := s.c.Policy.Notes()
	suspect := map[string]bool{}
	for _, w := range notes.Witnesses() {
		asked := slices.ContainsFunc(results, func(r witnessing.WitnessResult) bool { return r.Witness == w.Name })
		retired := slices.ContainsFunc(s.c.Policy.Trust().Retired, func(r verify.Retired) bool { return r.Key.String() == w.Key.String() })
		suspect[w.Name] = !asked && !retired
	}
	if notes.Quorum(func(name string) bool { return suspect[name] }) {
		clear(suspect) // whatever anybody says
	}
	for i, r := range results {
		switch r.Outcome {
		case witnessing.Cosigned, witnessing.Behind, witnessing.KnowsNothing:
			continue
		case witnessing.Ahead, witnessing.OtherRoot, witnessing.Refused:
			s.log.Warn("a witness contradicts the register", "witness", r.Witness, "outcome", r.Outcome,
				"witness_size", r.Size, "registered", registered.Size)
			if first == nil {
				first = &results[i]
			}
		default:
		}
		suspect[r.Witness] = true
	}
	if first == nil || !notes.Quorum(func(name string) bool { return suspect[name] }) {
		return nil
	}
	if first.Outcome == witnessing.Ahead {
		return refuse(Rollback, "witness %s has seen size %d, the register is at %d: the register was put back",
			first.Witness, first.Size, registered.Size)
	}
	return refuse(Fork, "witness %s has seen another tree at size %d", first.Witness, registered.Size)
}

func answered(results []witnessing.WitnessResult) int {
	n := 0
	for _, r := range results {
		if r.Outcome == witnessing.Cosigned || r.Outcome == witnessing.Behind || r.Outcome == witnessing.KnowsNothing {
			n++
		}
	}
	return n
}
