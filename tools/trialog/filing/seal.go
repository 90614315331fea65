package filing

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/tools/trialog/folder"
)

// Seal makes the opening of a request's sealed parts, or finds the one that is
// there, and leaves it in its .opening file, which only its owner may read. It
// never replaces one: what it opened could never be shown again.
func Seal(r *Request, random io.Reader) (*statement.Opening, error) {
	return seal(r.Base+OpeningEnding,
		sealed{r.context(), r.Statement.MediaType, r.document(), r.SealedAttributes}, random)
}

func seal(path string, s sealed, random io.Reader) (*statement.Opening, error) {
	found, err := readOpening(path)
	if err != nil {
		return nil, err
	}
	if found != nil {
		if !s.by(found) {
			return nil, &TakenError{path, "opens something else; move it to a safe place, or use --out"}
		}
		return found, nil
	}
	o := &statement.Opening{Context: s.context}
	if s.document != nil {
		if err := o.SealDocument(s.document, s.mediaType, random); err != nil {
			return nil, err
		}
	}
	if len(s.attributes) > 0 {
		if err := o.SealAttributes(s.attributes, random); err != nil {
			return nil, err
		}
	}
	raw := o.Encode()
	if _, err := statement.ParseOpening(raw); err != nil {
		return nil, err
	}
	if err := folder.WriteNew(path, raw, 0o600); err != nil {
		return nil, err
	}
	return o, nil
}

// readOpening reads an .opening file; nil if there is none.
func readOpening(path string) (*statement.Opening, error) {
	raw, err := folder.Read(path, statement.MaxOpening)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	if err != nil {
		return nil, err
	}
	o, err := statement.ParseOpening(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return o, nil
}

// bodies makes the bytes of a batch's records. Openings that are needed are on
// disk when it returns.
func (r *Request) bodies(random io.Reader) ([][]byte, error) {
	list := make([][]byte, len(r.Records))
	for i, rec := range r.Records {
		if rec.Item == nil {
			list[i] = rec.Body
			continue
		}
		body, err := r.item(rec, random)
		if err != nil {
			return nil, err
		}
		list[i] = body
	}
	return list, nil
}

// item makes the bytes of a record that is a statement. Documents of records
// are always sealed: a batch is for what must not be seen from outside.
func (r *Request) item(rec Record, random io.Reader) ([]byte, error) {
	c := r.context()
	c.Kind = statement.Kind(r.Statement.TextAttribute("recordType"))
	it := &statement.Item{Context: c, Attributes: rec.Item.Attributes}
	s := sealed{c, rec.Item.MediaType, rec.Item.Document, rec.Item.SealedAttributes}
	if s.document != nil || len(s.attributes) > 0 {
		o, err := seal(rec.Base+OpeningEnding, s, random)
		if err != nil {
			return nil, err
		}
		it.Sealed = o.AttributesCommitment()
		if s.document != nil {
			it.MediaType, it.Document = o.MediaType, o.Commitment()
		}
	}
	body := it.Encode()
	if _, err := statement.DecodeItem(body); err != nil {
		return nil, fmt.Errorf("%s: %w", rec.Base, err)
	}
	return body, nil
}

// subject fills in what the statement is about. first is the identity of the
// trial's first statement, zero if the log does not know the trial.
func (r *Request) subject(s *statement.Statement, opening *statement.Opening, first statement.Identity) error {
	rule, ok := statement.RuleOf(s.Kind)
	switch {
	case !ok:
		return fmt.Errorf("kind: there is no kind %q", s.Kind)
	case r.Document != nil && r.Sealed:
		s.Subject, s.Digest = statement.SubjectCommit, opening.Commitment()
	case r.Document != nil:
		s.Subject, s.Digest = statement.SubjectSHA256, sha256.Sum256(r.Document)
	case rule.Scope == statement.InLog:
		s.Subject, s.Digest = statement.SubjectLog, statement.LogDigest(s.Log)
	case rule.Scope == statement.InOrganisation:
		s.Subject, s.Digest = statement.SubjectKey, keySpokenOf(s)
	case s.Kind == statement.KindTrial && s.Chain.Number == 1 && s.Amends.IsZero():
		s.Subject, s.Digest = statement.SubjectTrial, statement.TrialDigest(s.Log, s.Organisation, s.Trial)
	default:
		s.Subject, s.Digest = statement.SubjectStatement, first
	}
	return nil
}

// keySpokenOf is the key that a statement of an organisation is about.
func keySpokenOf(s *statement.Statement) statement.KeyID {
	if key, ok := s.EnrolledKey(); ok {
		return key.ID()
	}
	if id := s.DigestAttribute("revokes"); !id.IsZero() {
		return id
	}
	return s.Writer()
}
