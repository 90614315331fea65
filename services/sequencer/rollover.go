package sequencer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

// Attributes of a shard-end and of a shard-start.
const (
	attrSuccessor   = "successor"
	attrPredecessor = "predecessor"
	attrCheckpoint  = "checkpoint"
)

// utcTime is the layout of a signer's time (statement.CheckTime).
const utcTime = "2006-01-02T15:04:05Z"

// endOf returns the successor that the last entry of a tree names; "" if that is
// not a shard-end.
func endOf(ctx context.Context, tree *tile.Tree) (string, error) {
	if tree.Size() == 0 {
		return "", nil
	}
	raw, err := tree.Entry(ctx, tree.Size()-1)
	if err != nil {
		return "", err
	}
	_, stmt, _, err := readEntry(raw)
	if err != nil {
		return "", errors.Join(tile.ErrCorrupt, err)
	}
	return successorOf(stmt), nil
}

func successorOf(stmt *statement.Statement) string {
	if stmt.Kind != statement.KindShardEnd {
		return ""
	}
	return stmt.TextAttribute(attrSuccessor)
}

// checkEnd tells whether the shard has ended. Once it has, somebody may have
// opened the next one, so that nothing may follow whatever else is there.
func (s *Sequencer) checkEnd(ctx context.Context, root tlog.Root, registered register.Record) (bool, error) {
	if root.Size == 0 {
		return registered.Sealed, nil
	}
	last, err := s.statementAt(ctx, root.Size-1)
	if err != nil {
		return false, err
	}
	ended := successorOf(last) != ""
	switch {
	case registered.Sealed && s.head().size() != root.Size:
		return false, refuse(Rollback, "the register is sealed at size %d, the published checkpoint is at %d: the tiles were put back",
			root.Size, s.head().size())
	case registered.Sealed && !ended:
		s.log.Warn("the register is sealed, but the last entry is not a shard-end", "size", root.Size)
	}
	return ended || registered.Sealed, nil
}

// checkOpening holds the first entry of a shard that has opened against its
// predecessor: the end that it named then must be the one that is found now.
func (s *Sequencer) checkOpening(ctx context.Context, size uint64) error {
	if size == 0 {
		return nil
	}
	first, err := s.statementAt(ctx, 0)
	if err != nil {
		return err
	}
	before := s.last()
	switch starts := first.Kind == statement.KindShardStart; {
	case !starts && before == nil:
		return nil
	case starts && before == nil:
		return refuse(Succession, "the shard succeeds %q, which it was not given", first.TextAttribute(attrPredecessor))
	case !starts:
		return refuse(Succession, "the shard is the log's first one, and was given the predecessor %q", before.Origin)
	case first.TextAttribute(attrPredecessor) != before.Origin:
		return refuse(Succession, "the shard succeeds %q, not %q", first.TextAttribute(attrPredecessor), before.Origin)
	}
	final := before.final.Load().note
	digest := first.DigestAttribute(attrCheckpoint)
	if digest == statement.Digest(final.Digest()) {
		return nil
	}
	// The predecessor's note may have more signatures by now. The one that was
	// named is the shard-start's beacon, which is kept with the shard's own tiles.
	raw, err := s.c.Tiles.Get(ctx, BeaconPrefix+digest.String())
	if errors.Is(err, blob.ErrNotFound) {
		return refuse(Corrupt, "the note that the shard-start names is not there")
	} else if err != nil {
		return fmt.Errorf("read the note that the shard-start names: %w", err)
	}
	named, err := checkpoint.Parse(raw)
	if err != nil || statement.Digest(named.Digest()) != digest {
		return refuse(Corrupt, "the note that the shard-start names is damaged")
	}
	if named.Checkpoint() != final.Checkpoint() {
		return refuse(Fork, "the shard began behind size %d of %q, which has ended at size %d or with another root",
			named.Checkpoint().Size, before.Origin, final.Checkpoint().Size)
	}
	return nil
}

// judgeSuccession: the first entry of a shard that succeeds another is its
// shard-start, and only that; a shard-end names a shard that everybody can
// verify.
func (s *Sequencer) judgeSuccession(view ledger.View, stmt *statement.Statement) error {
	switch before := s.last(); {
	case stmt.Kind == statement.KindShardEnd:
		if err := s.checkSuccessor(stmt.TextAttribute(attrSuccessor)); err != nil {
			return err
		}
		fallthrough
	case stmt.Kind != statement.KindShardStart:
		if before == nil || s.stored.Load() > 0 {
			return nil
		}
		size, err := view.Size()
		if err == nil && size == 0 {
			err = errors.Join(ErrNotReady, refuse(Standby, "the shard's first statement is its shard-start"))
		}
		return err
	case before == nil:
		return &statement.FieldError{Field: "predicate.kind", Reason: "the first shard of a log has no shard-start"}
	default:
		return s.judgeStart(view, stmt, before)
	}
}

// judgeStart judges a shard-start.
func (s *Sequencer) judgeStart(view ledger.View, stmt *statement.Statement, before *ancestor) error {
	size, err := view.Size()
	if err != nil {
		return err
	}
	final := before.final.Load().note
	digest := statement.Digest(final.Digest())
	wrong := func(field, format string, args ...any) error {
		return &statement.FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case size > 0:
		return wrong("predicate.kind", "the shard has started, a shard-start is its first entry")
	case stmt.TextAttribute(attrPredecessor) != before.Origin:
		return wrong("predicate.attributes."+attrPredecessor, "expected %q", before.Origin)
	case stmt.DigestAttribute(attrCheckpoint) != digest:
		return wrong("predicate.attributes."+attrCheckpoint, "expected %s, the SHA-256 of the predecessor's last checkpoint", digest)
	case stmt.Beacon == nil || stmt.Beacon.Note != digest:
		return wrong("predicate.beacon", "expected the predecessor's last checkpoint")
	}
	return nil
}

// checkSuccessor checks that origin may come after this shard: a shard of the
// log that the policy names after it, with both keys. Nobody could verify
// another one.
func (s *Sequencer) checkSuccessor(origin string) error {
	wrong := func(format string, args ...any) error {
		return &statement.FieldError{Field: "predicate.attributes." + attrSuccessor, Reason: fmt.Sprintf(format, args...)}
	}
	shards := policyShards(&s.c)
	at := slices.Index(shards, origin)
	switch {
	case !statement.IsShardOf(origin, s.c.Log):
		return wrong("expected a shard of %s", s.c.Log)
	case origin == s.c.Origin:
		return wrong("is this shard itself")
	case at < 0:
		return wrong("the policy that the log publishes by names no key of %q", origin)
	case at < slices.Index(shards, s.c.Origin) || s.ancestor(origin) != nil:
		return wrong("%q is an earlier shard", origin)
	}
	signs := map[checkpoint.Algorithm]bool{}
	for _, k := range s.c.Policy.Trust().RequiredLogKeys {
		if k.Name() == origin {
			signs[k.Algorithm()] = true
		}
	}
	if !signs[checkpoint.AlgEd25519] || !signs[checkpoint.AlgMLDSA44] {
		return wrong("the policy does not require an Ed25519 and an ML-DSA-44 key of %q", origin)
	}
	return nil
}

// EndStatement builds and signs the statement that ends the shard, for Add: key
// is that of an operator, successor the origin of the next shard. Its beacon is
// kept by the log, so that Add needs no note.
func (s *Sequencer) EndStatement(ctx context.Context, key *statement.PrivateKey, successor string) ([]byte, error) {
	if err := s.checkSuccessor(successor); err != nil {
		return nil, err
	}
	return s.said(ctx, key, statement.KindShardEnd, s.head(), statement.TextMember(attrSuccessor, successor))
}

// StartStatement builds and signs the statement that opens the shard behind its
// predecessor, for Add. The predecessor must have ended: Ready tells.
func (s *Sequencer) StartStatement(ctx context.Context, key *statement.PrivateKey) ([]byte, error) {
	before := s.last()
	if before == nil {
		return nil, errors.New("the first shard of a log has no shard-start")
	}
	final := before.final.Load()
	if final == nil {
		return nil, errors.Join(ErrNotReady, refuse(Standby, "predecessor %q has not ended", before.Origin))
	}
	digest := statement.Digest(final.note.Digest())
	return s.said(ctx, key, statement.KindShardStart, final,
		statement.TextMember(attrPredecessor, before.Origin), statement.TextMember(attrCheckpoint, digest.String()))
}

// said builds and signs a statement of the log's operator about the log.
func (s *Sequencer) said(
	ctx context.Context, key *statement.PrivateKey, kind statement.Kind, seen *published, attributes ...statement.Member,
) ([]byte, error) {
	enrolled, err := s.c.Ledger.Key(key.ID())
	if err != nil {
		return nil, err
	}
	if enrolled == nil {
		return nil, fmt.Errorf("sign a %s: key %s is not enrolled", kind, key.ID())
	}
	head, err := s.c.Ledger.Chain("", key.ID())
	if err != nil {
		return nil, err
	}
	stmt := &statement.Statement{
		Log: s.c.Log, Organisation: enrolled.Organisation, Kind: kind,
		Subject: statement.SubjectLog, Digest: statement.LogDigest(s.c.Log),
		Chain: statement.Link{Number: head.Number + 1, Previous: head.Identity},
		Signers: []statement.Signer{{
			Key: key.ID(), Meaning: statement.Authorship, At: statement.Date(s.c.Now().UTC().Format(utcTime)),
		}},
		Attributes: attributes,
	}
	if seen != nil {
		c := seen.note.Checkpoint()
		stmt.Beacon = &statement.Beacon{Origin: c.Origin, Size: c.Size, Note: statement.Digest(seen.note.Digest())}
		if err := s.c.Tiles.Put(ctx, blob.Object{Key: BeaconPrefix + stmt.Beacon.Note.String(), Data: seen.note.Bytes()}); err != nil {
			return nil, fmt.Errorf("keep the beacon of a %s: %w", kind, err)
		}
	}
	payload, err := statement.Build(stmt)
	if err != nil {
		return nil, fmt.Errorf("build a %s: %w", kind, err)
	}
	env, err := statement.Sign(payload, key)
	if err != nil {
		return nil, fmt.Errorf("sign a %s: %w", kind, err)
	}
	return env.Bytes(), nil
}
