package statement

import (
	"fmt"
	"io"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/internal/strictjson"
)

// RecordVersion is the first byte of a record.
const RecordVersion = 1

// MaxRecord is the greatest length of a record in bytes.
const MaxRecord = 1 << 20

// MaxRecords is the greatest count of a batch.
const MaxRecords = 1 << 24

// Record is one record of a batch. The client keeps it; the batch commits to it
// through an RFC 6962 Merkle tree whose leaves are the encoded records:
//
//	u8 version = 1 ‖ salt[32] ‖ u8 length of type ‖ type ‖ body
//
// The salt hides the record from whoever holds its siblings' inclusion proofs.
type Record struct {
	Salt [NonceSize]byte
	// Type is the batch's record type, a token. If it names a kind of the table
	// that may stand in a batch, the body is an Item.
	Type string
	Body []byte
}

// NewRecord makes a record with a salt from random.
func NewRecord(recordType string, body []byte, random io.Reader) (*Record, error) {
	// Encode has one byte for the length, which a long type would overflow.
	if err := CheckToken("record.type", recordType); err != nil {
		return nil, err
	}
	r := &Record{Type: recordType, Body: body}
	if _, err := io.ReadFull(random, r.Salt[:]); err != nil {
		return nil, fmt.Errorf("make a record's salt: %w", err)
	}
	if _, err := ParseRecord(r.Encode()); err != nil {
		return nil, err
	}
	return r, nil
}

// Encode returns the record's bytes, a leaf of the batch's tree. The record is
// one that NewRecord or ParseRecord gave.
func (r *Record) Encode() []byte {
	b := make([]byte, 0, 2+NonceSize+len(r.Type)+len(r.Body))
	b = append(b, RecordVersion)
	b = append(b, r.Salt[:]...)
	b = append(b, byte(len(r.Type))) //nolint:gosec // a token is at most 64 bytes
	b = append(b, r.Type...)
	return append(b, r.Body...)
}

// ParseRecord reads a record's bytes.
func ParseRecord(raw []byte) (*Record, error) {
	if len(raw) > MaxRecord {
		return nil, fieldErrorf("record", "is %d bytes, expected at most %d", len(raw), MaxRecord)
	}
	if len(raw) < 2+NonceSize || raw[0] != RecordVersion {
		return nil, fieldErrorf("record", "expected version %d, %d bytes of salt, a type and a body", RecordVersion, NonceSize)
	}
	r := &Record{Salt: [NonceSize]byte(raw[1:])}
	n, rest := int(raw[1+NonceSize]), raw[2+NonceSize:]
	if len(rest) <= n {
		return nil, fieldErrorf("record", "ends within its type, or has no body")
	}
	r.Type, r.Body = string(rest[:n]), rest[n:]
	if err := CheckToken("record.type", r.Type); err != nil {
		return nil, err
	}
	if rule, ok := RuleOf(Kind(r.Type)); ok && rule.Placement != Alone {
		item, err := DecodeItem(r.Body)
		if err != nil {
			return nil, err
		}
		if item.Kind != rule.Kind {
			return nil, fieldErrorf("kind", "expected %q, the type of the record", rule.Kind)
		}
	}
	return r, nil
}

// Item is the body of a record that is a statement of a kind which may stand in
// a batch. Signers, chain and beacon are those of the batch.
type Item struct {
	Context
	MediaType  string // with a document only
	Public     Digest // SHA-256 of a public document
	Document   Digest // commitment of a sealed document
	Attributes []Member
	Sealed     Digest // commitment to the sealed attributes
}

// Encode writes the item as JSON.
func (it *Item) Encode() []byte {
	w := &writer{}
	w.open()
	w.text("organisation", it.Organisation)
	w.text("trial", it.Trial)
	w.text("kind", string(it.Kind))
	w.text("mediaType", it.MediaType)
	if it.MediaType != "" {
		w.name("document")
		w.open()
		w.digest(string(SubjectSHA256), it.Public)
		w.digest(string(SubjectCommit), it.Document)
		w.shut()
	}
	if len(it.Attributes) > 0 {
		w.name("attributes")
		writeValue(&w.b, strictjson.Value{Kind: strictjson.ObjectKind, Members: it.Attributes})
	}
	if !it.Sealed.IsZero() {
		w.name("sealedAttributes")
		w.open()
		w.digest(string(SubjectCommit), it.Sealed)
		w.shut()
	}
	w.shut()
	return w.b.Bytes()
}

// DecodeItem reads an item strictly and holds it against the table of kinds.
func DecodeItem(raw []byte) (*Item, error) {
	o, err := strictjson.ParseObject(raw)
	if err != nil {
		return nil, err
	}
	it := &Item{Context: Context{
		Organisation: o.Text("organisation"), Trial: o.OptionalText("trial"), Kind: Kind(o.Text("kind")),
	}}
	it.MediaType = o.OptionalText("mediaType")
	if v, ok := o.Optional("document"); ok {
		d := strictjson.NewObject("document", v)
		if len(v.Members) != 1 {
			o.Fail("document", "expected exactly one digest")
		}
		it.Public = digestMember(d, string(SubjectSHA256), false)
		it.Document = digestMember(d, string(SubjectCommit), false)
		o.Join(d)
	}
	it.Attributes = attributesMember(o)
	if v, ok := o.Optional("sealedAttributes"); ok {
		c := strictjson.NewObject("sealedAttributes", v)
		it.Sealed = digestMember(c, string(SubjectCommit), true)
		o.Join(c)
	}
	if err := o.Done(); err != nil {
		return nil, err
	}
	if err := it.check(); err != nil {
		return nil, err
	}
	return it, nil
}

func (it *Item) check() error {
	rule, ok := RuleOf(it.Kind)
	if !ok || rule.Placement == Alone {
		return fieldErrorf("kind", "expected a kind that may stand in a batch")
	}
	if err := it.Context.check(rule); err != nil {
		return err
	}
	documents := 0
	for _, d := range []Digest{it.Public, it.Document} {
		if !d.IsZero() {
			documents++
		}
	}
	switch {
	case documents > 1 || (documents == 1) != (it.MediaType != ""):
		return fieldErrorf("document", "expected one digest together with mediaType, or neither")
	case rule.Content == SealedDocument && it.Document.IsZero():
		return fieldErrorf("document", "the document of a %q must be sealed, expected %s", it.Kind, SubjectCommit)
	case rule.Content == PublicDocument && it.Public.IsZero():
		return fieldErrorf("document", "a %q has a public document, expected sha256", it.Kind)
	case rule.Content == AnyDocument && documents == 0:
		return fieldErrorf("document", "a %q has a document, expected sha256 or %s", it.Kind, SubjectCommit)
	case rule.Content == NoDocument && documents > 0:
		return fieldErrorf("document", "a %q has no document", it.Kind)
	}
	if it.MediaType != "" {
		if err := CheckMediaType("mediaType", it.MediaType); err != nil {
			return err
		}
	}
	return checkContent("", rule, it.Attributes, it.Sealed)
}

// BatchRoot returns the RFC 6962 root over encoded records.
func BatchRoot(records [][]byte) (Digest, error) {
	if len(records) == 0 || len(records) > MaxRecords {
		return Digest{}, fieldErrorf("records", "expected 1 to %d records, found %d", MaxRecords, len(records))
	}
	r := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for _, raw := range records {
		if err := r.Append(rfc6962.DefaultHasher.HashLeaf(raw), nil); err != nil {
			return Digest{}, fmt.Errorf("hash the records: %w", err)
		}
	}
	root, err := r.GetRootHash(nil)
	if err != nil {
		return Digest{}, fmt.Errorf("hash the records: %w", err)
	}
	return Digest(root), nil
}

// BatchPath returns the RFC 6962 inclusion path of record index, leaf to root.
func BatchPath(records [][]byte, index int) ([][]byte, error) {
	if index < 0 || index >= len(records) {
		return nil, fieldErrorf("index", "expected 0 to %d, found %d", len(records)-1, index)
	}
	hashes := make([][]byte, len(records))
	for i, raw := range records {
		hashes[i] = rfc6962.DefaultHasher.HashLeaf(raw)
	}
	return path(hashes, index), nil
}

// path is PATH of RFC 6962 section 2.1.1.
func path(hashes [][]byte, index int) [][]byte {
	if len(hashes) == 1 {
		return nil
	}
	k := 1
	for 2*k < len(hashes) {
		k *= 2
	}
	if index < k {
		return append(path(hashes[:k], index), root(hashes[k:]))
	}
	return append(path(hashes[k:], index-k), root(hashes[:k]))
}

// root is MTH of RFC 6962 section 2.1 over leaf hashes.
func root(hashes [][]byte) []byte {
	if len(hashes) == 1 {
		return hashes[0]
	}
	k := 1
	for 2*k < len(hashes) {
		k *= 2
	}
	return rfc6962.DefaultHasher.HashChildren(root(hashes[:k]), root(hashes[k:]))
}
