// Package receipt is what a submitter keeps: the C2SP tlog-proof of an entry
// and, in the .receipt file, everything else that an offline verifier needs
// beside the document and the policy.
//
// A receipt is evidence, not authority: nothing in it is believed before
// package verify has checked it. It never carries an opening.
package receipt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/trialog/trialog/api/internal/strictjson"
)

// Format is the value of the member format of a .receipt file.
const Format = "trialog-receipt@v1"

// Limits of a receipt file.
const (
	MaxSize       = 4 << 20 // bytes
	maxEnrolments = 32      // the signers, and whom their enrolments rest on
	maxTokens     = 16
)

// Receipt is the content of a .receipt file.
type Receipt struct {
	// Proof is the inclusion of Entry, under a cosigned checkpoint.
	Proof *Proof
	// Entry is the leaf, as package entry frames it.
	Entry []byte
	// Beacon is the cosigned checkpoint note that the statement names; nil if
	// the statement names none.
	Beacon []byte
	// Enrolments prove when and for whom the signers' keys were enrolled.
	Enrolments []Enrolment
	// Tokens are DER time-stamp tokens (RFC 3161) over the SHA-256 of the
	// text of the checkpoint in Proof: the note without its signatures, so that
	// cosignatures may be added later.
	Tokens [][]byte
	// Record is the one record of a batch that this receipt is about; nil for
	// the entry as a whole.
	Record *Record
}

// Enrolment is a logged statement of kind "key" with the proof of its inclusion.
type Enrolment struct {
	Entry []byte
	Proof *Proof
}

// Record is a record with its path to the root that its batch commits to.
type Record struct {
	Data  []byte // as statement.Record encodes it
	Index uint64
	Path  [][32]byte // RFC 6962 inclusion path, leaf to root
}

// file is the JSON shape. []byte members are standard base64.
type file struct {
	Format     string          `json:"format"`
	Proof      string          `json:"proof"`
	Entry      []byte          `json:"entry"`
	Beacon     string          `json:"beacon,omitempty"`
	Enrolments []fileEnrolment `json:"enrolments,omitempty"`
	Tokens     [][]byte        `json:"tokens,omitempty"`
	Record     *fileRecord     `json:"record,omitempty"`
}

type fileEnrolment struct {
	Entry []byte `json:"entry"`
	Proof string `json:"proof"`
}

type fileRecord struct {
	Data  []byte   `json:"data"`
	Index uint64   `json:"index"`
	Path  [][]byte `json:"path"`
}

// Encode writes the receipt as a .receipt file. It fails for what Parse would
// not read back.
func (r *Receipt) Encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("encode the receipt: %w", err)
	}
	f := file{
		Format: Format, Proof: string(r.Proof.Encode()), Entry: r.Entry, Beacon: string(r.Beacon), Tokens: r.Tokens,
	}
	for _, e := range r.Enrolments {
		f.Enrolments = append(f.Enrolments, fileEnrolment{Entry: e.Entry, Proof: string(e.Proof.Encode())})
	}
	if r.Record != nil {
		f.Record = &fileRecord{Data: r.Record.Data, Index: r.Record.Index, Path: [][]byte{}}
		for _, h := range r.Record.Path {
			f.Record.Path = append(f.Record.Path, h[:])
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(f); err != nil {
		return nil, fmt.Errorf("encode the receipt: %w", err)
	}
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("encode the receipt: %d bytes, expected at most %d", b.Len(), MaxSize)
	}
	return b.Bytes(), nil
}

// check refuses what Parse would not read back.
func (r *Receipt) check() error {
	if err := r.Proof.check(); err != nil {
		return err
	}
	switch {
	case len(r.Entry) == 0:
		return errors.New("entry: is empty")
	case !utf8.Valid(r.Beacon):
		return errors.New("beacon: is not valid UTF-8")
	case len(r.Enrolments) > maxEnrolments:
		return fmt.Errorf("enrolments: expected 1 to %d, found %d", maxEnrolments, len(r.Enrolments))
	case len(r.Tokens) > maxTokens:
		return fmt.Errorf("tokens: expected 1 to %d, found %d", maxTokens, len(r.Tokens))
	}
	for i, e := range r.Enrolments {
		if err := e.Proof.check(); err != nil {
			return fmt.Errorf("enrolments[%d]: %w", i, err)
		}
		if len(e.Entry) == 0 {
			return fmt.Errorf("enrolments[%d].entry: is empty", i)
		}
	}
	for i, token := range r.Tokens {
		if len(token) == 0 {
			return fmt.Errorf("tokens[%d]: is empty", i)
		}
	}
	return r.Record.check()
}

// check refuses what Parse would not read back.
func (r *Record) check() error {
	switch {
	case r == nil:
		return nil
	case len(r.Data) == 0:
		return errors.New("record.data: is empty")
	case r.Index > strictjson.MaxInteger:
		return errors.New("record.index: expected an index below 2^53")
	case len(r.Path) > maxPath:
		return fmt.Errorf("record.path: %d hashes, expected at most %d", len(r.Path), maxPath)
	}
	return nil
}

// Parse reads a .receipt file strictly.
func Parse(raw []byte) (*Receipt, error) {
	if len(raw) > MaxSize {
		return nil, fmt.Errorf("receipt: %d bytes, expected at most %d", len(raw), MaxSize)
	}
	o, err := strictjson.ParseObject(raw)
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	if got := o.Text("format"); got != Format {
		o.Fail("format", "expected %q", Format)
	}
	r := &Receipt{Proof: takeProof(o, "proof"), Entry: takeBytes(o, "entry")}
	if beacon := o.OptionalText("beacon"); beacon != "" {
		r.Beacon = []byte(beacon)
	}
	for _, v := range optionalArray(o, "enrolments", maxEnrolments) {
		e := strictjson.NewObject(v.path, v.value)
		r.Enrolments = append(r.Enrolments, Enrolment{Entry: takeBytes(e, "entry"), Proof: takeProof(e, "proof")})
		o.Join(e)
	}
	for _, v := range optionalArray(o, "tokens", maxTokens) {
		b, err := base64Value(v.value)
		if err != nil {
			o.Take(strictjson.Errorf(v.path, "%s", err))
		}
		r.Tokens = append(r.Tokens, b)
	}
	if v, ok := o.Optional("record"); ok {
		r.Record = takeRecord(o, v)
	}
	if err := o.Done(); err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	return r, nil
}

func takeRecord(o *strictjson.Object, v strictjson.Value) *Record {
	q := strictjson.NewObject("record", v)
	rec := &Record{Data: takeBytes(q, "data"), Index: q.Unsigned("index")}
	list := q.Required("path", strictjson.Array)
	if len(list.Items) > maxPath {
		q.Fail("path", "%d hashes, expected at most %d", len(list.Items), maxPath)
	}
	for i, item := range list.Items {
		h, err := base64Value(item)
		if err != nil || len(h) != 32 {
			q.Fail(fmt.Sprintf("path[%d]", i), "expected the base64 of 32 bytes")
			break
		}
		rec.Path = append(rec.Path, [32]byte(h))
	}
	o.Join(q)
	return rec
}

type placed struct {
	path  string
	value strictjson.Value
}

// optionalArray returns the items of an array that is absent rather than empty.
func optionalArray(o *strictjson.Object, name string, most int) []placed {
	v, ok := o.Optional(name)
	if !ok {
		return nil
	}
	if v.Kind != strictjson.Array || len(v.Items) < 1 || len(v.Items) > most {
		o.Fail(name, "expected an array of 1 to %d items, or nothing", most)
		return nil
	}
	items := make([]placed, len(v.Items))
	for i, item := range v.Items {
		items[i] = placed{path: fmt.Sprintf("%s[%d]", name, i), value: item}
	}
	return items
}

func base64Value(v strictjson.Value) ([]byte, error) {
	if v.Kind != strictjson.String || v.Text == "" {
		return nil, errors.New("expected a string of standard base64, not empty")
	}
	b, ok := strictjson.Base64(v.Text)
	if !ok {
		return nil, errors.New("expected standard base64 with padding")
	}
	return b, nil
}

func takeBytes(o *strictjson.Object, name string) []byte {
	v := o.Required(name, strictjson.String)
	b, err := base64Value(v)
	if err != nil {
		o.Fail(name, "%s", err)
	}
	return b
}

func takeProof(o *strictjson.Object, name string) *Proof {
	text := o.Text(name)
	if o.Err() != nil {
		return nil
	}
	p, err := ParseProof([]byte(text))
	if err != nil {
		o.Fail(name, "%s", err)
	}
	return p
}
