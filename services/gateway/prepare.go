package gateway

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
)

// prepare writes the payload of a statement for others to sign.
func (g *Gateway) prepare(
	ctx context.Context, _ *caller, req *trialogv1.PrepareRequest,
) (*trialogv1.PrepareResponse, error) {
	signers, err := g.signers(req.GetSigners())
	if err != nil {
		return nil, err
	}
	prepared, err := g.write(ctx, req.GetDraft(), signers, nil)
	if err != nil {
		return nil, err
	}
	return &trialogv1.PrepareResponse{
		Payload:  prepared.payload,
		ToSign:   statement.PAE(statement.PayloadType, prepared.payload),
		Identity: prepared.statement.Identity(prepared.payload).String(),
		Beacon:   prepared.beacon,
	}, nil
}

// signers reads who will sign.
func (g *Gateway) signers(list []*trialogv1.Signer) ([]statement.Signer, error) {
	if len(list) < 1 || len(list) > statement.MaxSigners {
		return nil, invalid("signers", fmt.Sprintf("expected 1 to %d signers, found %d", statement.MaxSigners, len(list)))
	}
	signers := make([]statement.Signer, len(list))
	for i, s := range list {
		key, err := digestField(fmt.Sprintf("signers[%d].key", i), s.GetKey())
		if err != nil {
			return nil, err
		}
		signers[i] = statement.Signer{Key: key, Meaning: statement.Meaning(s.GetMeaning()), At: statement.Date(s.GetAt())}
		if s.GetAt() == "" {
			signers[i].At = g.today()
		}
	}
	return signers, nil
}

// today is the gateway's time as statements state it.
func (g *Gateway) today() statement.Date {
	return statement.Date(g.cfg.Now().UTC().Format("2006-01-02T15:04:05Z"))
}

// written is a payload with what belongs to it.
type written struct {
	statement *statement.Statement
	payload   []byte
	beacon    string // the note that the payload names; empty if none
}

// write fills in the chain of the first signer, the beacon, and the subject if
// there is no document, and builds the payload.
func (g *Gateway) write(
	ctx context.Context, d *trialogv1.Draft, signers []statement.Signer, received *statement.ReceptionInfo,
) (*written, error) {
	s, rule, err := g.fromDraft(d)
	if err != nil {
		return nil, err
	}
	s.Signers, s.Received = signers, received
	if rule.Scope == statement.InTrial {
		// Asked about before Build would notice.
		if err := statement.CheckToken("draft.trial", s.Trial); err != nil {
			return nil, invalidField(err, func(string) string { return "draft.trial" })
		}
	} else if s.Trial != "" {
		return nil, invalid("draft.trial", fmt.Sprintf("a statement of kind %q names no trial", s.Kind))
	}
	chain, err := g.chain(ctx, &trialogv1.GetChainRequest{Key: s.Writer().String(), Trial: s.Trial})
	if err != nil {
		return nil, err
	}
	s.Chain.Number = chain.GetNumber() + 1
	if chain.GetNumber() > 0 {
		if s.Chain.Previous, err = statement.ParseDigest(chain.GetIdentity()); err != nil {
			return nil, internal()
		}
	}
	if err := g.setSubject(s, rule, chain); err != nil {
		return nil, err
	}
	head, err := g.head(ctx)
	if err != nil {
		return nil, err
	}
	w := &written{statement: s}
	if s.Beacon = head.beacon(); s.Beacon != nil {
		w.beacon = head.text()
	}
	if w.payload, err = statement.Build(s); err != nil {
		return nil, invalidField(err, draftField(d))
	}
	return w, nil
}

// setSubject fills in what a statement without a document is about.
func (g *Gateway) setSubject(s *statement.Statement, rule statement.Rule, chain *trialogv1.GetChainResponse) error {
	if s.HasDocument() || rule.Content != statement.NoDocument && rule.Content != statement.OptionalDocument {
		if !s.HasDocument() {
			return invalid("draft.document_sha256", fmt.Sprintf("missing, a %q has a document: its SHA-256, or a commitment", s.Kind))
		}
		return nil
	}
	switch {
	case rule.Scope == statement.InLog:
		s.Subject, s.Digest = statement.SubjectLog, statement.LogDigest(s.Log)
	case rule.Scope == statement.InOrganisation:
		s.Subject, s.Digest = statement.SubjectKey, keySpokenOf(s)
	case s.Kind == statement.KindTrial && s.Chain.Number == 1 && s.Amends.IsZero():
		s.Subject, s.Digest = statement.SubjectTrial, statement.TrialDigest(s.Log, s.Organisation, s.Trial)
	case chain.GetTrialIdentity() == "":
		return &fault{code: codes.FailedPrecondition, violations: []violation{{
			"draft.trial", `the trial is not in the log: its first statement is of kind "trial"`,
		}}}
	default:
		first, err := statement.ParseDigest(chain.GetTrialIdentity())
		if err != nil {
			return internal()
		}
		s.Subject, s.Digest = statement.SubjectStatement, first
	}
	return nil
}

// keySpokenOf is the key that a statement of an organisation is about: the one
// that is enrolled or revoked, else the writer's. If the attributes that name it
// are wrong, Build says so.
func keySpokenOf(s *statement.Statement) statement.KeyID {
	if key, ok := s.EnrolledKey(); ok {
		return key.ID()
	}
	if id := s.DigestAttribute("revokes"); !id.IsZero() {
		return id
	}
	return s.Writer()
}
