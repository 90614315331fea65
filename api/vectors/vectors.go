// Package vectors holds static test vectors for every format of api, accepted
// and refused ones, as files that a program in any language can read. The
// format of the list is in README.md.
//
// They are made by tools/genvectors from fixed seeds. A change of any byte is a
// change of a format, and a test fails on it.
package vectors

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
)

//go:embed README.md index.json files
var content embed.FS

// FS returns the files: README.md, index.json, and what the list names, below
// the folder files.
func FS() fs.FS { return content }

// Vector is one entry of index.json.
type Vector struct {
	// ID names the vector; it does not change.
	ID string `json:"id"`
	// What says in words what is shown.
	What string `json:"what"`
	// Op is the operation, as README.md lists them.
	Op string `json:"op"`
	// Inputs names the file of each input, relative to the folder files.
	Inputs map[string]string `json:"inputs,omitempty"`
	// Args are inputs that are short, as text.
	Args map[string]string `json:"args,omitempty"`
	// Expect is "accept" or "reject".
	Expect string `json:"expect"`
	// Link is the failing link of a refused op verify.
	Link string `json:"link,omitempty"`
	// Field is the offending member of another refused op, where it has one.
	Field string `json:"field,omitempty"`
	// Values are results of an accepted op, as text.
	Values map[string]string `json:"values,omitempty"`
	// Verdict names the file of the verdict of an accepted op verify.
	Verdict string `json:"verdict,omitempty"`
}

// Accept and Reject are the values of Vector.Expect.
const (
	Accept = "accept"
	Reject = "reject"
)

// List returns the vectors in their order.
func List() ([]Vector, error) {
	raw, err := content.ReadFile("index.json")
	if err != nil {
		return nil, fmt.Errorf("read the vectors: %w", err)
	}
	var list []Vector
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("read the vectors: %w", err)
	}
	return list, nil
}

// File returns the content of a file that a vector names.
func File(name string) ([]byte, error) {
	raw, err := content.ReadFile("files/" + name)
	if err != nil {
		return nil, fmt.Errorf("read a vector's file: %w", err)
	}
	return raw, nil
}
