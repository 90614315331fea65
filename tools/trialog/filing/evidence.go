package filing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"time"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/tools/trialog/folder"
)

// EvidenceEnding is that of a file which shows that the log contradicted itself, or
// broke a promise.
const EvidenceEnding = evidence.Ending

// maxEvidence is how many files of evidence one document may have.
const maxEvidence = 16

// EvidenceError is the error of an answer that is evidence against the log. Path is
// where that was kept.
type EvidenceError struct {
	Path string
	Kind evidence.Kind
	Err  error
}

// Error implements error.
func (e *EvidenceError) Error() string { return e.Err.Error() }

// Unwrap returns what was wrong, a *client.UntrueError.
func (e *EvidenceError) Unwrap() error { return e.Err }

// KeepEvidence writes the evidence that an error carries beside base, once, and
// returns the error with its place. Any other error it returns as it is.
func KeepEvidence(base string, err error, now time.Time) error {
	var untrue *client.UntrueError
	if !errors.As(err, &untrue) || untrue.Evidence == nil {
		return err
	}
	e := *untrue.Evidence
	e.By, e.At = "trialog", now.UTC().Truncate(time.Millisecond)
	raw, encodeErr := e.Encode()
	if encodeErr != nil {
		return errors.Join(err, encodeErr)
	}
	for n := 1; n <= maxEvidence; n++ {
		path := evidencePath(base, n)
		old, readErr := folder.Read(path, evidence.MaxSize)
		switch {
		case errors.Is(readErr, fs.ErrNotExist):
			if err := folder.WriteFile(path, raw, 0o644); err != nil {
				return errors.Join(untrue, fmt.Errorf("keep the evidence: %w", err))
			}
			return &EvidenceError{path, e.Kind, err}
		case readErr == nil && sameEvidence(old, &e):
			return &EvidenceError{path, e.Kind, err}
		}
	}
	return err // there is enough
}

// sameEvidence tells whether a file shows what e does, whoever wrote it and when.
func sameEvidence(raw []byte, e *evidence.Evidence) bool {
	old, err := evidence.Parse(raw)
	if err != nil {
		return false
	}
	old.By, old.At = e.By, e.At
	return reflect.DeepEqual(old, e)
}

// promised reads the promise that the log gave before about a statement; nil if there
// is none that still says anything.
func (d *Desk) promised(r *Request, id statement.Identity) (*receipt.Pending, []byte, error) {
	record, err := folder.Read(r.Base+PromiseEnding, maxPromise)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	p, err := receipt.ParsePending(record, d.Policy.Trust().PendingKeys...)
	if err != nil || p.Identity != id {
		return nil, nil, nil //nolint:nilerr // nobody can be held to it
	}
	return p, record, nil
}

// checkPromise finds out whether what the log answered now keeps the promise that
// it gave before. It returns that promise, which is the one that counts; nil if
// there is none.
func (d *Desk) checkPromise(ctx context.Context, r *Request, ack *client.Acknowledgement) (*receipt.Pending, error) {
	p, record, err := d.promised(r, ack.Identity)
	if p == nil || err != nil {
		return nil, err
	}
	if ack.Receipt != nil && sameLeaf(p, ack.Receipt) {
		return p, nil // kept
	}
	if ack.Promise != nil {
		err = client.Promised(d.Policy, record, ack.Pending)
	}
	if err == nil && (ack.Promise == nil || !d.Now().Before(p.Deadline)) {
		_, err = d.Client.Kept(ctx, record)
	}
	if said(r.Base, err) {
		return p, nil
	}
	return p, err
}

// said tells whether there is a file of evidence beside base already which shows of
// the same promise what an error carries. It is said once, even if what the log
// shows changes: what it owes is the same. One kind does not stand for another: a
// late promise may turn out to be a broken one.
func said(base string, err error) bool {
	var untrue *client.UntrueError
	if !errors.As(err, &untrue) || untrue.Evidence == nil {
		return false
	}
	for n := 1; n <= maxEvidence; n++ {
		raw, err := folder.Read(evidencePath(base, n), evidence.MaxSize)
		if err != nil {
			return false
		}
		old, err := evidence.Parse(raw)
		if err == nil && old.Kind == untrue.Evidence.Kind && bytes.Equal(old.Promise, untrue.Evidence.Promise) {
			return true
		}
	}
	return false
}

// evidencePath is that of the n-th file of evidence beside base, from 1.
func evidencePath(base string, n int) string {
	if n == 1 {
		return base + EvidenceEnding
	}
	return fmt.Sprintf("%s-%d%s", base, n, EvidenceEnding)
}

// maxPromise bounds a .promise file, in bytes.
const maxPromise = 1 << 20

// sameLeaf tells whether a receipt is of the entry that was promised.
func sameLeaf(p *receipt.Pending, raw []byte) bool {
	r, err := receipt.Parse(raw)
	return err == nil && r.Proof.Index == p.Index && entry.LeafHash(r.Entry) == [32]byte(p.LeafHash)
}
