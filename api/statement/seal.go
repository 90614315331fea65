package statement

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/base64"
	"fmt"
	"io"

	"github.com/trialog/trialog/api/internal/strictjson"
)

// NonceSize is the length in bytes of the random value in a commitment.
const NonceSize = 32

// MaxOpening is the greatest length of an .opening file in bytes.
const MaxOpening = 256 << 10

// OpeningFormat is the value of the member format of an .opening file.
const OpeningFormat = "trialog-opening@v1"

// Context is what a commitment is bound to, so that it cannot be copied to
// another organisation, trial or kind.
type Context struct {
	Organisation string
	Trial        string
	Kind         Kind
}

// check holds the names against the kind's row.
func (c Context) check(rule Rule) error {
	if err := CheckToken("organisation", c.Organisation); err != nil {
		return err
	}
	if rule.Scope == InTrial {
		return CheckToken("trial", c.Trial)
	}
	if c.Trial != "" {
		return fieldErrorf("trial", "a statement of kind %q names no trial", c.Kind)
	}
	return nil
}

// Commit computes trialogCommitV1: SHA-256 over the parts "trialog/commit/v1",
// organisation, trial, kind, 32 random bytes, SHA-256 of the document, SHA3-256
// of the document, media type. It is hiding because of the random bytes, and
// binding under either hash.
func Commit(c Context, nonce [NonceSize]byte, sha256Sum, sha3Sum Digest, mediaType string) Digest {
	return hashParts([]byte("trialog/commit/v1"), []byte(c.Organisation), []byte(c.Trial), []byte(c.Kind),
		nonce[:], sha256Sum[:], sha3Sum[:], []byte(mediaType))
}

// Opening opens the commitments of one statement or record. It stays with the
// submitter, in an .opening file; it never travels in a receipt.
type Opening struct {
	Context
	// MediaType of the sealed document; empty if there is none.
	MediaType string
	Nonce     [NonceSize]byte // of the document's commitment
	SHA256    Digest
	SHA3      Digest
	// Attributes are the sealed attributes as the exact bytes that were
	// committed to, a JSON object; nil if there are none.
	Attributes      []byte
	AttributesNonce [NonceSize]byte
}

// SealDocument fills in the opening of document with a nonce from random.
func (o *Opening) SealDocument(document []byte, mediaType string, random io.Reader) error {
	if err := CheckMediaType("mediaType", mediaType); err != nil {
		return err
	}
	if _, err := io.ReadFull(random, o.Nonce[:]); err != nil {
		return fmt.Errorf("make the nonce of a document's commitment: %w", err)
	}
	o.MediaType = mediaType
	o.SHA256 = sha256.Sum256(document)
	o.SHA3 = sha3.Sum256(document)
	return nil
}

// SealAttributes fills in the opening of the sealed attributes, after holding
// them against the table of kinds.
func (o *Opening) SealAttributes(members []Member, random io.Reader) error {
	rule, ok := RuleOf(o.Kind)
	if !ok {
		return fieldErrorf("kind", "unknown kind")
	}
	if err := checkAttributes("sealed", rule, members, true); err != nil {
		return err
	}
	if _, err := io.ReadFull(random, o.AttributesNonce[:]); err != nil {
		return fmt.Errorf("make the nonce of the attributes' commitment: %w", err)
	}
	var b bytes.Buffer
	writeValue(&b, strictjson.Value{Kind: strictjson.ObjectKind, Members: members})
	o.Attributes = b.Bytes()
	return nil
}

// Commitment returns the commitment to the document.
func (o *Opening) Commitment() Digest {
	return Commit(o.Context, o.Nonce, o.SHA256, o.SHA3, o.MediaType)
}

// AttributesCommitment returns the commitment to the sealed attributes, the
// zero digest if there are none.
func (o *Opening) AttributesCommitment() Digest {
	if o.Attributes == nil {
		return Digest{}
	}
	return Commit(o.Context, o.AttributesNonce, sha256.Sum256(o.Attributes), sha3.Sum256(o.Attributes),
		AttributesMediaType)
}

// Members returns the sealed attributes, checked against the table of kinds.
func (o *Opening) Members() ([]Member, error) {
	if o.Attributes == nil {
		return nil, nil
	}
	members, err := ParseMembers(o.Attributes)
	if err != nil {
		return nil, err
	}
	rule, ok := RuleOf(o.Kind)
	if !ok {
		return nil, fieldErrorf("kind", "unknown kind")
	}
	if err := checkAttributes("attributes", rule, members, true); err != nil {
		return nil, err
	}
	return members, nil
}

// MatchesDocument tells whether document is the one that was sealed.
func (o *Opening) MatchesDocument(document []byte) bool {
	return o.MediaType != "" && o.SHA256 == sha256.Sum256(document) && o.SHA3 == sha3.Sum256(document)
}

// Encode writes the opening as an .opening file.
func (o *Opening) Encode() []byte {
	w := &writer{}
	w.open()
	w.text("format", OpeningFormat)
	w.text("organisation", o.Organisation)
	w.text("trial", o.Trial)
	w.text("kind", string(o.Kind))
	if o.MediaType != "" {
		w.name("document")
		w.open()
		w.text("mediaType", o.MediaType)
		w.text("nonce", Digest(o.Nonce).String())
		w.digest("sha256", o.SHA256)
		w.digest("sha3-256", o.SHA3)
		w.shut()
	}
	if o.Attributes != nil {
		w.name("attributes")
		w.open()
		w.text("nonce", Digest(o.AttributesNonce).String())
		w.text("json", base64.StdEncoding.EncodeToString(o.Attributes))
		w.shut()
	}
	w.shut()
	w.b.WriteByte('\n')
	return w.b.Bytes()
}

// ParseOpening reads an .opening file strictly.
func ParseOpening(raw []byte) (*Opening, error) {
	if len(raw) > MaxOpening {
		return nil, fieldErrorf("opening", "is %d bytes, expected at most %d", len(raw), MaxOpening)
	}
	o, err := strictjson.ParseObject(raw)
	if err != nil {
		return nil, err
	}
	if got := o.Text("format"); got != OpeningFormat {
		o.Fail("format", "expected %q", OpeningFormat)
	}
	op := &Opening{Context: Context{
		Organisation: o.Text("organisation"), Trial: o.OptionalText("trial"), Kind: Kind(o.Text("kind")),
	}}
	if v, ok := o.Optional("document"); ok {
		d := strictjson.NewObject("document", v)
		op.MediaType = d.Text("mediaType")
		d.Take(CheckMediaType("document.mediaType", op.MediaType))
		op.Nonce = [NonceSize]byte(takeDigest(d, "nonce", d.Text("nonce")))
		op.SHA256 = digestMember(d, "sha256", true)
		op.SHA3 = digestMember(d, "sha3-256", true)
		o.Join(d)
	}
	if v, ok := o.Optional("attributes"); ok {
		a := strictjson.NewObject("attributes", v)
		op.AttributesNonce = [NonceSize]byte(takeDigest(a, "nonce", a.Text("nonce")))
		op.Attributes = decodeBase64(a, "json", nil, a.Text("json"))
		o.Join(a)
	}
	if err := o.Done(); err != nil {
		return nil, err
	}
	if err := op.check(); err != nil {
		return nil, err
	}
	return op, nil
}

// check tells whether a statement of this kind can be what op opens.
func (o *Opening) check() error {
	rule, ok := RuleOf(o.Kind)
	if !ok {
		return fieldErrorf("kind", "unknown kind, expected one of those in the table of kinds")
	}
	if err := o.Context.check(rule); err != nil {
		return err
	}
	if o.MediaType == "" && o.Attributes == nil {
		return fieldErrorf("document", "an opening opens a document, attributes, or both")
	}
	if o.MediaType != "" && (rule.Content == NoDocument || rule.Content == PublicDocument) {
		return fieldErrorf("document", "a %q has no sealed document", o.Kind)
	}
	if some, _ := rule.HasSealed(); o.Attributes != nil && !some {
		return fieldErrorf("attributes", "a %q has no sealed attributes", o.Kind)
	}
	_, err := o.Members()
	return err
}
