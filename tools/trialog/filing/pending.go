package filing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/tools/trialog/folder"
)

// Endings of the files beside a document.
const (
	ReceiptEnding = ".receipt"
	OpeningEnding = ".opening"
	PromiseEnding = ".promise"
	PendingEnding = ".trialog-pending"
)

// maxWork bounds a .trialog-pending file, in bytes: a batch with its records.
const maxWork = 1 << 30

const workFormat = "trialog-work@v1"

// work is a signed statement on its way: the content of a .trialog-pending file,
// which is durable before the statement is sent for the first time. Whoever
// finds it sends the same bytes again.
type work struct {
	Format   string   `json:"format"`
	Envelope []byte   `json:"envelope"`
	Beacon   []byte   `json:"beacon,omitempty"`
	Records  [][]byte `json:"records,omitempty"`

	statement *statement.Statement
	// found tells that another process wrote it, which may have sent it.
	found bool
}

// readWork reads a .trialog-pending file; nil if there is none.
func readWork(path string) (*work, error) {
	raw, err := folder.Read(path, maxWork)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	if err != nil {
		return nil, err
	}
	w := &work{found: true}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	err = dec.Decode(w)
	if _, more := dec.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("bytes behind its end")
	}
	if err == nil && w.Format != workFormat {
		err = fmt.Errorf("format: expected %q", workFormat)
	}
	if err == nil {
		_, w.statement, err = statement.Parse(w.Envelope)
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	return w, nil
}

// encode writes the file's content.
func (w *work) encode() ([]byte, error) {
	w.Format = workFormat
	raw, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	return append(raw, '\n'), nil
}
