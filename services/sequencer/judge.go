package sequencer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

// earlier finds statements that are on their way into the log before the one
// that is judged.
type earlier func(statement.Identity) *statement.Statement

// judge decides whether a well-formed and well-signed statement may be said now:
// what it takes for its beacon, who may say it, what must precede it, whether a
// shard begins or ends as it must, and whether it continues its chain.
func (s *Sequencer) judge(ctx context.Context, view ledger.View, sub *submission, before earlier) error {
	if sub.refused != nil {
		return sub.refused
	}
	stmt := sub.stmt
	if err := judgeKeys(view, sub); err != nil {
		return err
	}
	if err := s.judgeSuccession(view, stmt); err != nil {
		return err
	}
	if err := judgeTrial(view, stmt); err != nil {
		return err
	}
	if err := s.judgeReferences(ctx, stmt, before); err != nil {
		return err
	}
	head, err := view.Chain(stmt.Trial, stmt.Writer())
	if err != nil {
		return err
	}
	if stmt.Chain.Number != head.Number+1 || stmt.Chain.Previous != head.Identity {
		return &ChainError{Number: head.Number, Identity: head.Identity}
	}
	return nil
}

// judgeKeys checks that every signer may sign for the organisation.
func judgeKeys(view ledger.View, sub *submission) error {
	stmt := sub.stmt
	if stmt.Kind == statement.KindKey {
		return judgeKeyStatement(view, sub)
	}
	rule, _ := statement.RuleOf(stmt.Kind) // Decode has checked the kind
	for i, signer := range stmt.Signers {
		field := fmt.Sprintf("predicate.signers[%d].key", i)
		key, err := view.Key(signer.Key)
		if err != nil {
			return err
		}
		switch {
		case key == nil:
			return forbid(field, "the key is not enrolled")
		case key.Revoked:
			return forbid(field, "the key is revoked")
		case stmt.Received != nil && !slices.Contains(key.Roles, statement.Gateway):
			return forbid(field, "only a gateway's key may sign what it received")
		case stmt.Received == nil && key.Organisation != stmt.Organisation:
			return forbid(field, "the key is not enrolled for organisation %q", stmt.Organisation)
		}
		if i > 0 {
			continue
		}
		roles, err := effectiveRoles(view, stmt, key)
		if err != nil {
			return err
		}
		if !rule.MaySay(roles) {
			return forbid("predicate.kind", "the signer's roles %v may not say %q here", roles, stmt.Kind)
		}
	}
	return nil
}

// effectiveRoles are the writer's roles in this trial: only its owner, and who
// the owner delegated to, speaks as its sponsor.
func effectiveRoles(view ledger.View, stmt *statement.Statement, key *ledger.Key) ([]statement.Role, error) {
	roles := key.Roles
	if stmt.Received != nil {
		// The gateway answers for what its principals may be.
		roles = statement.Receivable()
	}
	if stmt.Trial == "" || stmt.Kind == statement.KindTrial {
		return roles, nil
	}
	trial, err := view.Trial(stmt.Trial)
	if err != nil || trial == nil || trial.Owner == stmt.Organisation {
		return roles, err
	}
	if delegated, err := view.Delegated(stmt.Trial, stmt.Organisation); err != nil || delegated {
		return roles, err
	}
	return slices.DeleteFunc(slices.Clone(roles), func(r statement.Role) bool {
		return r == statement.Sponsor || r == statement.CRO
	}), nil
}

// judgeKeyStatement: a first enrolment needs the gateway's grant and names the
// recovery key; a further one needs an admin's or the recovery key's signature;
// a revocation needs the recovery key's.
func judgeKeyStatement(view ledger.View, sub *submission) error {
	stmt := sub.stmt
	org, err := view.Organisation(stmt.Organisation)
	if err != nil {
		return err
	}
	_, names := stmt.RecoveryKey()
	if org == nil {
		return judgeFirstKey(view, sub, names)
	}
	recovery, err := statement.ParsePublicKey(org.Recovery)
	if err != nil {
		return fmt.Errorf("read the recovery key of an organisation: %w", err)
	}
	enrolled, enrols := stmt.EnrolledKey()
	authorised := false
	for i, id := range stmt.SignerIDs() {
		field := fmt.Sprintf("predicate.signers[%d].key", i)
		key, err := view.Key(id)
		if err != nil {
			return err
		}
		switch {
		case id == recovery.ID():
			authorised = true
		case enrols && id == enrolled.ID():
		case key == nil || key.Organisation != stmt.Organisation:
			return forbid(field, "the key is not enrolled for organisation %q", stmt.Organisation)
		case key.Revoked:
			return forbid(field, "the key is revoked")
		default:
			authorised = authorised || enrols && slices.Contains(key.Roles, statement.Admin)
		}
	}
	if !enrols {
		return judgeRevocation(view, stmt, authorised)
	}
	if names {
		return forbid("predicate.attributes.recovery", "organisation %q has a recovery key already", stmt.Organisation)
	}
	if !authorised {
		return forbid("predicate.signers", "a further key needs the signature of the organisation's recovery key or of a key with the role admin")
	}
	if enrolled.ID() == recovery.ID() {
		return forbid("predicate.attributes.publicKey", "is the organisation's recovery key, which signs nothing but statements about keys")
	}
	if err := judgeFurtherRoles(view, org, sub); err != nil {
		return err
	}
	return notEnrolled(view, enrolled.ID())
}

// judgeFurtherRoles: an organisation gives its keys no role that it was not
// granted itself, or any admin could make a gateway of a key.
func judgeFurtherRoles(view ledger.View, org *ledger.Organisation, sub *submission) error {
	first, err := view.Key(org.First)
	if err != nil {
		return err
	}
	for _, role := range sub.stmt.RolesAttribute() {
		if (first == nil || !slices.Contains(first.Roles, role)) && !slices.Contains(sub.granted, role) {
			return forbid("predicate.attributes.roles", "organisation %q was not granted the role %q", sub.stmt.Organisation, role)
		}
	}
	return nil
}

func judgeFirstKey(view ledger.View, sub *submission, namesRecovery bool) error {
	stmt := sub.stmt
	enrolled, enrols := stmt.EnrolledKey()
	if !enrols {
		return forbid("predicate.organisation", "organisation %q has no key", stmt.Organisation)
	}
	if !namesRecovery {
		return &statement.FieldError{
			Field: "predicate.attributes.recovery", Reason: "missing, the first enrolment of an organisation names its recovery key",
		}
	}
	recovery, _ := stmt.RecoveryKey()
	if recovery.ID() == enrolled.ID() {
		return &statement.FieldError{
			Field: "predicate.attributes.recovery", Reason: "is the enrolled key itself, expected a second key that is kept elsewhere",
		}
	}
	for i, id := range stmt.SignerIDs() {
		if id != enrolled.ID() && id != recovery.ID() {
			return forbid(fmt.Sprintf("predicate.signers[%d].key", i), "the key is not enrolled for organisation %q", stmt.Organisation)
		}
	}
	for _, role := range stmt.RolesAttribute() {
		if !slices.Contains(sub.granted, role) {
			return forbid("predicate.attributes.roles", "a new organisation needs a token that grants the role %q", role)
		}
	}
	return notEnrolled(view, enrolled.ID())
}

func notEnrolled(view ledger.View, id statement.KeyID) error {
	key, err := view.Key(id)
	if err != nil {
		return err
	}
	if key != nil {
		return forbid("predicate.attributes.publicKey", "the key is enrolled already")
	}
	return nil
}

func judgeRevocation(view ledger.View, stmt *statement.Statement, authorised bool) error {
	if !authorised {
		return forbid("predicate.signers", "a revocation needs the signature of the organisation's recovery key")
	}
	key, err := view.Key(stmt.DigestAttribute("revokes"))
	if err != nil {
		return err
	}
	if key == nil || key.Organisation != stmt.Organisation {
		return &statement.FieldError{
			Field: "predicate.attributes.revokes", Reason: fmt.Sprintf("no such key of organisation %q", stmt.Organisation),
		}
	}
	return nil
}

// judgeTrial: 21 CFR 11.10(f), steps come in their order.
func judgeTrial(view ledger.View, stmt *statement.Statement) error {
	if stmt.Trial == "" {
		return nil
	}
	trial, err := view.Trial(stmt.Trial)
	if err != nil {
		return err
	}
	if trial == nil {
		if stmt.Kind == statement.KindTrial {
			return nil
		}
		return &MissingError{
			Field:  "predicate.trial",
			Reason: fmt.Sprintf("the log knows no trial %q, it begins with a statement of kind \"trial\"", stmt.Trial),
		}
	}
	if stmt.Kind == statement.KindTrial && trial.Owner != stmt.Organisation {
		return forbid("predicate.trial", "trial %q belongs to another organisation", stmt.Trial)
	}
	if stmt.Subject == statement.SubjectTrial {
		return &MissingError{
			Field:  "predicate.amends",
			Reason: fmt.Sprintf("trial %q exists, a further statement about it amends an earlier one", stmt.Trial),
		}
	}
	if stmt.Subject == statement.SubjectStatement && stmt.Digest != trial.First {
		return &statement.FieldError{
			Field: "subject[0].digest." + string(statement.SubjectStatement), Reason: "is not the identity of the trial's first statement",
		}
	}
	rule, _ := statement.RuleOf(stmt.Kind)
	for _, before := range rule.After {
		said, err := view.Said(stmt.Trial, before)
		if err != nil || said {
			return err
		}
	}
	if len(rule.After) > 0 {
		return &MissingError{Field: "predicate.kind", Reason: fmt.Sprintf("a %q comes after one of %v", stmt.Kind, rule.After)}
	}
	return nil
}

// judgeReferences: what is amended or superseded must be in the log or on its
// way into it, in the same trial and of the same kind.
func (s *Sequencer) judgeReferences(ctx context.Context, stmt *statement.Statement, before earlier) error {
	for _, ref := range []struct {
		field string
		id    statement.Identity
	}{{"predicate.amends", stmt.Amends}, {"predicate.supersedes", stmt.Supersedes}} {
		if ref.id.IsZero() {
			continue
		}
		other := before(ref.id)
		if other == nil {
			var err error
			if other, err = s.statementOf(ctx, ref.id); err != nil {
				return err
			}
			if other == nil {
				return &statement.FieldError{Field: ref.field, Reason: "the log holds no statement with this identity"}
			}
		}
		if other.Trial != stmt.Trial || other.Kind != stmt.Kind {
			return &statement.FieldError{Field: ref.field, Reason: "names a statement of another trial or kind"}
		}
	}
	return nil
}

// statementAt reads a statement out of the store.
func (s *Sequencer) statementAt(ctx context.Context, index uint64) (*statement.Statement, error) {
	_, e, err := s.entryAt(ctx, index)
	if err != nil {
		return nil, err
	}
	_, stmt, err := statement.Parse(e.Envelope)
	if err != nil {
		return nil, storeError(fmt.Sprintf("read entry %d", index), errors.Join(tlog.ErrCorrupt, err))
	}
	return stmt, nil
}
