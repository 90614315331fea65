package verify

import (
	"bytes"
	"crypto/sha256"
	"strconv"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/internal/strictjson"
	"github.com/trialog/trialog/api/statement"
)

// checkRecord proves the record's place in the batch.
func (c *checker) checkRecord() *Failure {
	r := c.receipt.Record
	if r == nil {
		return nil
	}
	if c.stmt.Kind != statement.KindBatch {
		return fail(LinkRecord, "a record needs a batch, the statement is a %q", c.stmt.Kind)
	}
	count, root := c.stmt.CountAttribute("count"), c.stmt.DigestAttribute("root")
	path := make([][]byte, len(r.Path))
	for i := range r.Path {
		path[i] = r.Path[i][:]
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(r.Data)
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, r.Index, count, leaf, path, root[:]); err != nil {
		return fail(LinkRecord, "the record is not at place %d of the batch: %w", r.Index, err)
	}
	rec, err := statement.ParseRecord(r.Data)
	if err != nil {
		return fail(LinkRecord, "%w", err)
	}
	if want := c.stmt.TextAttribute("recordType"); rec.Type != want {
		return fail(LinkRecord, "the record is of type %q, the batch of %q", rec.Type, want)
	}
	c.record = rec
	c.verdict.Record = &Record{Label: c.stmt.TextAttribute("label"), Type: rec.Type, Index: r.Index, Count: count}
	rule, ok := statement.RuleOf(statement.Kind(rec.Type))
	if !ok || rule.Placement == statement.Alone {
		return nil // a record of the submitter's own type is its bytes
	}
	item, err := statement.DecodeItem(rec.Body)
	if err != nil {
		return fail(LinkRecord, "%w", err)
	}
	if item.Organisation != c.stmt.Organisation || item.Trial != c.stmt.Trial || string(item.Kind) != rec.Type {
		return fail(LinkRecord, "the record belongs to another organisation, trial or kind than its batch")
	}
	// The log, which does not see the record, could not hold its kind against
	// the writer's roles.
	e := c.enrolled[c.stmt.Writer()]
	roles := e.roles
	if c.stmt.Received != nil {
		roles = statement.Receivable()
	}
	if !rule.MaySay(roles) {
		return fail(LinkRecord, "key %s was enrolled for %v, who may not say %q", e.key.ID(), e.roles, item.Kind)
	}
	c.item = item
	return nil
}

// content is what a statement or an item commits to.
type content struct {
	context   statement.Context
	mediaType string
	public    statement.Digest // SHA-256 of a public document
	sealed    statement.Digest // commitment to a sealed one
	attrs     statement.Digest // commitment to the sealed attributes
}

func (c *checker) content() content {
	if it := c.item; it != nil {
		return content{context: it.Context, mediaType: it.MediaType, public: it.Public, sealed: it.Document, attrs: it.Sealed}
	}
	s := c.stmt
	got := content{
		context:   statement.Context{Organisation: s.Organisation, Trial: s.Trial, Kind: s.Kind},
		mediaType: s.MediaType, attrs: s.Sealed,
	}
	switch s.Subject {
	case statement.SubjectSHA256:
		got.public = s.Digest
	case statement.SubjectCommit:
		got.sealed = s.Digest
	case statement.SubjectStatement, statement.SubjectTrial, statement.SubjectKey, statement.SubjectLog:
	}
	return got
}

// checkDocument holds the document and the opening against what was logged.
func (c *checker) checkDocument() *Failure {
	got := c.content()
	var opening *statement.Opening
	if c.in.Opening != nil {
		var f *Failure
		if opening, f = openCommitments(c.in.Opening, got); f != nil {
			return f
		}
	}
	if c.receipt.Record != nil && c.item == nil {
		return c.checkRecordBytes()
	}
	if got.public.IsZero() && got.sealed.IsZero() {
		if c.in.Document != nil {
			return fail(LinkDocument, "the statement has no document")
		}
		if opening != nil {
			c.verdict.Document = &Document{Sealed: true, Checked: true, SealedAttributes: opened(opening)}
		}
		return nil
	}
	d := &Document{Sealed: got.public.IsZero(), MediaType: got.mediaType, SealedAttributes: opened(opening)}
	c.verdict.Document = d
	if c.in.StatementOnly {
		return nil
	}
	switch {
	case c.in.Document == nil:
		return fail(LinkDocument, "the statement has a document, none was given")
	case !d.Sealed && statement.Digest(sha256.Sum256(c.in.Document)) != got.public:
		return fail(LinkDocument, "this is not the document that was logged: its SHA-256 differs")
	case d.Sealed && opening == nil:
		return fail(LinkOpening, "the document is sealed, its opening is needed")
	case d.Sealed && !opening.MatchesDocument(c.in.Document):
		return fail(LinkDocument, "this is not the document that was sealed: its digests differ")
	}
	d.Checked = true
	return nil
}

// checkRecordBytes compares a record of the submitter's own type as bytes.
func (c *checker) checkRecordBytes() *Failure {
	c.verdict.Document = &Document{MediaType: "application/octet-stream"}
	if c.in.StatementOnly {
		return nil
	}
	if c.in.Document == nil {
		return fail(LinkDocument, "the receipt is of a record, none was given")
	}
	if !bytes.Equal(c.record.Body, c.in.Document) {
		return fail(LinkDocument, "this is not the record that the batch commits to")
	}
	c.verdict.Document.Checked = true
	return nil
}

// openCommitments checks that an opening opens exactly what was logged.
func openCommitments(raw []byte, got content) (*statement.Opening, *Failure) {
	o, err := statement.ParseOpening(raw)
	if err != nil {
		return nil, fail(LinkOpening, "%w", err)
	}
	if o.Context != got.context {
		return nil, fail(LinkOpening, "the opening is for a %q of %s/%s, the statement is a %q of %s/%s",
			o.Kind, o.Organisation, o.Trial, got.context.Kind, got.context.Organisation, got.context.Trial)
	}
	if !got.sealed.IsZero() && (o.MediaType != got.mediaType || o.Commitment() != got.sealed) {
		return nil, fail(LinkOpening, "the opening does not open the document's commitment")
	}
	if got.sealed.IsZero() && o.MediaType != "" {
		return nil, fail(LinkOpening, "the opening is of a sealed document, the statement has none")
	}
	if o.AttributesCommitment() != got.attrs {
		return nil, fail(LinkOpening, "the opening does not open the commitment to the sealed attributes")
	}
	return o, nil
}

// opened lists the sealed attributes of an opening that was checked.
func opened(o *statement.Opening) map[string]string {
	if o == nil || o.Attributes == nil {
		return nil
	}
	members, err := o.Members()
	if err != nil {
		return nil // ParseOpening has checked them
	}
	list := make(map[string]string, len(members))
	for _, m := range members {
		switch m.Value.Kind {
		case strictjson.Integer:
			list[m.Name] = strconv.FormatInt(m.Value.Number, 10)
		case strictjson.String:
			list[m.Name] = m.Value.Text
		case strictjson.Null, strictjson.Bool, strictjson.Array, strictjson.ObjectKind:
		}
	}
	return list
}
