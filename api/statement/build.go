package statement

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"

	"github.com/trialog/trialog/api/internal/strictjson"
)

// Build checks s and writes its payload in the form that this library
// produces. Decode of the result gives s back.
func Build(s *Statement) ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	w := &writer{}
	w.open()
	w.text("_type", InTotoType)
	w.name("subject")
	w.b.WriteString(`[{"name":`)
	writeString(&w.b, s.Subject.name())
	w.b.WriteString(`,"digest":{`)
	writeString(&w.b, string(s.Subject))
	w.b.WriteByte(':')
	writeString(&w.b, s.Digest.String())
	w.b.WriteString("}}]")
	w.text("predicateType", PredicateType)
	w.name("predicate")
	w.open()
	s.writePredicate(w)
	w.shut()
	w.shut()
	payload := w.b.Bytes()
	if _, err := Decode(payload); err != nil {
		return nil, err
	}
	return payload, nil
}

func (s *Statement) writePredicate(w *writer) {
	w.text("log", s.Log)
	w.text("organisation", s.Organisation)
	w.text("trial", s.Trial)
	w.text("kind", string(s.Kind))
	w.text("version", s.Version)
	w.name("signers")
	w.b.WriteByte('[')
	for i, signer := range s.Signers {
		if i > 0 {
			w.b.WriteByte(',')
		}
		w.open()
		w.text("key", signer.Key.String())
		w.text("meaning", string(signer.Meaning))
		w.text("at", string(signer.At))
		w.shut()
	}
	w.b.WriteByte(']')
	w.name("chain")
	w.open()
	w.number("number", s.Chain.Number)
	w.digest("previous", s.Chain.Previous)
	w.shut()
	w.digest("amends", s.Amends)
	w.digest("supersedes", s.Supersedes)
	if len(s.Dates) > 0 {
		w.name("dates")
		w.open()
		for _, d := range s.Dates {
			w.text(d.Name, string(d.Date))
		}
		w.shut()
	}
	w.text("mediaType", s.MediaType)
	if b := s.Beacon; b != nil {
		w.name("beacon")
		w.open()
		w.text("origin", b.Origin)
		w.number("size", b.Size)
		w.digest("sha256", b.Note)
		w.shut()
	}
	if len(s.Attributes) > 0 {
		w.name("attributes")
		writeValue(&w.b, strictjson.Value{Kind: strictjson.ObjectKind, Members: s.Attributes})
	}
	if !s.Sealed.IsZero() {
		w.name("sealedAttributes")
		w.open()
		w.digest(string(SubjectCommit), s.Sealed)
		w.shut()
	}
	if r := s.Received; r != nil {
		w.name("received")
		w.open()
		w.text("principal", r.Principal)
		w.text("method", r.Method)
		w.digest("request", r.Request)
		w.shut()
	}
}

// writer writes nested objects; members with empty values are left out.
type writer struct {
	b     bytes.Buffer
	fresh bool
}

func (w *writer) open() { w.b.WriteByte('{'); w.fresh = true }

func (w *writer) shut() { w.b.WriteByte('}'); w.fresh = false }

func (w *writer) name(name string) {
	if !w.fresh {
		w.b.WriteByte(',')
	}
	w.fresh = false
	writeString(&w.b, name)
	w.b.WriteByte(':')
}

func (w *writer) text(name, value string) {
	if value != "" {
		w.name(name)
		writeString(&w.b, value)
	}
}

func (w *writer) digest(name string, d Digest) {
	if !d.IsZero() {
		w.text(name, d.String())
	}
}

func (w *writer) number(name string, n uint64) {
	w.name(name)
	w.b.WriteString(strconv.FormatUint(n, 10))
}

// writeString writes s as a JSON string without escaping more than it must.
func writeString(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil { // a string in memory always encodes
		return
	}
	b.Truncate(b.Len() - 1) // Encode ends with a newline
}

// writeValue writes a parsed value back.
func writeValue(b *bytes.Buffer, v strictjson.Value) {
	switch v.Kind {
	case strictjson.Null:
		b.WriteString("null")
	case strictjson.Bool:
		b.WriteString(strconv.FormatBool(v.Truth))
	case strictjson.Integer:
		b.WriteString(strconv.FormatInt(v.Number, 10))
	case strictjson.String:
		writeString(b, v.Text)
	case strictjson.Array:
		b.WriteByte('[')
		for i, item := range v.Items {
			if i > 0 {
				b.WriteByte(',')
			}
			writeValue(b, item)
		}
		b.WriteByte(']')
	case strictjson.ObjectKind:
		b.WriteByte('{')
		for i, m := range v.Members {
			if i > 0 {
				b.WriteByte(',')
			}
			writeString(b, m.Name)
			b.WriteByte(':')
			writeValue(b, m.Value)
		}
		b.WriteByte('}')
	}
}

// Constructors of attributes.

// TextMember makes an attribute that is a string.
func TextMember(name, value string) Member {
	return Member{Name: name, Value: strictjson.Value{Kind: strictjson.String, Text: value}}
}

// CountMember makes an attribute that is an integer. Above 2^53-1 it makes one
// that Build refuses.
func CountMember(name string, n uint64) Member {
	return Member{Name: name, Value: strictjson.Value{Kind: strictjson.Integer, Number: int64(min(n, math.MaxInt64))}}
}

// KeyMember makes an attribute that is a public key.
func KeyMember(name string, key *PublicKey) Member {
	return TextMember(name, base64.StdEncoding.EncodeToString(key.DER()))
}

// ListMember makes an attribute that is a list of strings.
func ListMember(name string, values ...string) Member {
	v := strictjson.Value{Kind: strictjson.Array}
	for _, s := range values {
		v.Items = append(v.Items, strictjson.Value{Kind: strictjson.String, Text: s})
	}
	return Member{Name: name, Value: v}
}

// ParseMembers reads a JSON object of attributes, such as a client's file.
func ParseMembers(text []byte) ([]Member, error) {
	v, err := strictjson.Parse(text)
	if err != nil {
		return nil, err
	}
	if v.Kind != strictjson.ObjectKind {
		return nil, fieldErrorf("", "expected an object, found %s", v.Kind)
	}
	return v.Members, nil
}
