// Package filing brings statements into the log: it builds and signs one, keeps
// the signed bytes on disk while it is under way, sends them until the outcome
// is known, and puts the receipt beside the document.
//
// A process may be killed at any moment, and the same request made again ends in
// one entry: what was signed is sent again, before anything is signed anew.
package filing

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"

	"github.com/trialog/trialog/api/statement"
)

// Request is what somebody wants to say.
type Request struct {
	// Base is the path that the endings of the files are appended to.
	Base string
	// Statement holds organisation, trial, kind, version, dates, attributes,
	// what it amends or supersedes, and the media type. The rest is filled in.
	Statement statement.Statement
	// Meaning is the signer's; authorship if empty.
	Meaning statement.Meaning
	// Cosigners sign too, behind the writer.
	Cosigners []*statement.PrivateKey
	// Document is what is submitted; nil if there is none.
	Document []byte
	// Sealed keeps the document to whoever has the opening.
	Sealed bool
	// SealedAttributes are committed to, not shown.
	SealedAttributes []statement.Member
	// Records are those of a batch.
	Records []Record
}

// Record is one record of a batch.
type Record struct {
	// Base is the path that the endings of the record's files are appended to.
	Base string
	// Body is the record's bytes, of a type of the submitter's own.
	Body []byte
	// Item is the record if its type is a kind of statement; else nil.
	Item *Item
}

// Item is a record that is a statement of a kind which stands in batches.
type Item struct {
	MediaType        string
	Document         []byte // nil if there is none
	Attributes       []statement.Member
	SealedAttributes []statement.Member
}

func (r *Request) meaning() statement.Meaning {
	if r.Meaning == "" {
		return statement.Authorship
	}
	return r.Meaning
}

// context is what a commitment of the request is bound to.
func (r *Request) context() statement.Context {
	return statement.Context{Organisation: r.Statement.Organisation, Trial: r.Statement.Trial, Kind: r.Statement.Kind}
}

// needsOpening tells whether anything is sealed.
func (r *Request) needsOpening() bool { return r.Sealed || len(r.SealedAttributes) > 0 }

// says tells whether s is what the request asks for; opening opens it, and
// records are a batch's. The chain, the beacon and the time of signing are not
// the request's.
func (r *Request) says(s *statement.Statement, opening *statement.Opening, records, bodies [][]byte) bool {
	want := &r.Statement
	if s.Organisation != want.Organisation || s.Trial != want.Trial || s.Kind != want.Kind || s.Version != want.Version ||
		s.Amends != want.Amends || s.Supersedes != want.Supersedes || s.MediaType != want.MediaType || s.Received != nil ||
		!slices.Equal(s.Dates, want.Dates) || s.Signers[0].Meaning != r.meaning() {
		return false
	}
	if want.Kind == statement.KindBatch {
		return r.saysBatch(s, records, bodies)
	}
	if len(s.Attributes)+len(want.Attributes) > 0 && !reflect.DeepEqual(s.Attributes, want.Attributes) {
		return false
	}
	if r.needsOpening() != (opening != nil) {
		return false
	}
	if r.needsOpening() && (!r.seals(opening) || s.Sealed != opening.AttributesCommitment()) {
		return false
	}
	switch {
	case r.Document == nil:
		return !s.HasDocument()
	case r.Sealed:
		return s.Subject == statement.SubjectCommit && s.Digest == opening.Commitment()
	}
	return s.Subject == statement.SubjectSHA256 && s.Digest == sha256.Sum256(r.Document)
}

// saysBatch compares what a batch commits to.
func (r *Request) saysBatch(s *statement.Statement, records, bodies [][]byte) bool {
	for _, name := range []string{"label", "recordType"} {
		if s.TextAttribute(name) != r.Statement.TextAttribute(name) {
			return false
		}
	}
	if len(records) != len(bodies) {
		return false
	}
	root, err := statement.BatchRoot(records)
	if err != nil || s.DigestAttribute("root") != root || s.CountAttribute("count") != uint64(len(records)) {
		return false
	}
	for i, raw := range records {
		rec, err := statement.ParseRecord(raw)
		if err != nil || rec.Type != s.TextAttribute("recordType") || !bytes.Equal(rec.Body, bodies[i]) {
			return false
		}
	}
	return true
}

// seals tells whether an opening is of exactly what the request seals.
func (r *Request) seals(o *statement.Opening) bool {
	return sealed{r.context(), r.Statement.MediaType, r.document(), r.SealedAttributes}.by(o)
}

// document is the document that is sealed; nil if none is.
func (r *Request) document() []byte {
	if r.Sealed {
		return r.Document
	}
	return nil
}

// sealed is what an opening is to open.
type sealed struct {
	context    statement.Context
	mediaType  string
	document   []byte
	attributes []statement.Member
}

// by tells whether an opening opens exactly that.
func (s sealed) by(o *statement.Opening) bool {
	if o.Context != s.context || (s.document != nil) != (o.MediaType != "") {
		return false
	}
	if s.document != nil && (o.MediaType != s.mediaType || !o.MatchesDocument(s.document)) {
		return false
	}
	if len(s.attributes) == 0 {
		return o.Attributes == nil
	}
	want := statement.Opening{Context: s.context}
	if err := want.SealAttributes(s.attributes, zeros{}); err != nil {
		return false
	}
	return bytes.Equal(o.Attributes, want.Attributes)
}

// zeros is a source of bytes for what is only compared.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TakenError says that a file beside the document belongs to something else.
type TakenError struct{ Path, Reason string }

// Error implements error.
func (e *TakenError) Error() string { return fmt.Sprintf("%s %s", e.Path, e.Reason) }
