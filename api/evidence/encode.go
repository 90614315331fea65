package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/trialog/trialog/api/statement"
)

// file is the JSON shape. []byte members are standard base64.
type file struct {
	Format  string   `json:"format"`
	Kind    Kind     `json:"kind"`
	Notes   []string `json:"notes,omitempty"`
	Hashes  [][]byte `json:"hashes,omitempty"`
	Promise string   `json:"promise,omitempty"`
	// Promises are the two of a promise-fork.
	Promises []string          `json:"promises,omitempty"`
	Leaf     *statement.Digest `json:"leafHash,omitempty"`
	Lists    []string          `json:"lists,omitempty"`
	By       string            `json:"by,omitempty"`
	At       int64             `json:"atMillis,omitempty"`
}

// Encode writes the evidence as a file. It fails for what Parse would not read
// back, so that what was written can be shown.
func (e *Evidence) Encode() ([]byte, error) {
	f := file{Format: Format, Kind: e.Kind, Promise: string(e.Promise), Leaf: (*statement.Digest)(e.Leaf), By: e.By}
	if !e.At.IsZero() {
		f.At = e.At.UnixMilli()
	}
	valid := utf8.Valid(e.Promise)
	for _, n := range e.Notes {
		if n == nil {
			return nil, errors.New("encode the evidence: notes: one is missing")
		}
		f.Notes = append(f.Notes, string(n.Bytes()))
	}
	for _, h := range e.Hashes {
		f.Hashes = append(f.Hashes, h[:])
	}
	for _, p := range e.Promises {
		f.Promises = append(f.Promises, string(p))
		valid = valid && utf8.Valid(p)
	}
	for _, l := range e.Lists {
		f.Lists = append(f.Lists, string(l))
		valid = valid && utf8.Valid(l)
	}
	// The encoder would put something else in the place of what is not.
	if !valid {
		return nil, errors.New("encode the evidence: expected UTF-8")
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(f); err != nil {
		return nil, fmt.Errorf("encode the evidence: %w", err)
	}
	if _, err := Parse(b.Bytes()); err != nil {
		return nil, fmt.Errorf("encode the evidence: %w", err)
	}
	return b.Bytes(), nil
}
