package filing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/tools/trialog/folder"
)

// finish puts down what the log answered. The .trialog-pending file is removed
// last, so that whatever is left out by a crash is done by the next call.
func (d *Desk) finish(ctx context.Context, r *Request, w *work, ack *client.Acknowledgement) (*Result, error) {
	res := &Result{Request: r, Index: ack.Index, Identity: ack.Identity}
	if ack.Promise != nil {
		earlier, err := d.checkPromise(ctx, r, ack)
		if err != nil {
			return nil, err
		}
		if earlier != nil { // it has the earlier deadline
			res.Promise, res.Index = earlier, earlier.Index
			return res, nil
		}
		res.Promise = ack.Promise
		return res, folder.WriteFile(r.Base+PromiseEnding, ack.Pending, 0o644)
	}
	if err := d.putRecords(r, w, ack.Receipt); err != nil {
		return nil, err
	}
	var err error
	if res.Verdict, err = d.verify(r, ack.Receipt); err != nil {
		return nil, &client.UntrueError{What: "receipt", Err: err, Answer: ack.Receipt}
	}
	check := func(raw []byte) (*verify.Verdict, error) { return d.verify(r, raw) }
	if res.Verdict, err = putReceipt(r.Base+ReceiptEnding, ack.Receipt, res.Verdict, check); err != nil {
		return nil, err
	}
	// The receipt is there by now, whatever became of an earlier promise.
	if _, err := d.checkPromise(ctx, r, ack); err != nil {
		return res, err
	}
	if r.Document != nil && !r.Sealed {
		err := d.Client.PutDocument(ctx, r.Document, r.Statement.MediaType, ack.Identity)
		var p *client.Problem
		switch {
		case errors.As(err, &p) && !p.Temporary():
			res.NotStored = p.Error()
		case err != nil:
			return res, fmt.Errorf("the receipt is there, but the log has not taken the document yet: %w", err)
		}
	}
	return res, errors.Join(folder.Remove(r.Base+PromiseEnding), folder.Remove(r.Base+PendingEnding))
}

// putReceipt writes a receipt that was verified, unless there is one of the same
// entry that proves an earlier time: "logged not after" is the earlier the
// better, and it cannot be had again. It returns the verdict on the one that is
// there now.
func putReceipt(
	path string, raw []byte, v *verify.Verdict, check func([]byte) (*verify.Verdict, error),
) (*verify.Verdict, error) {
	old, err := folder.Read(path, receipt.MaxSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		was, err := check(old)
		if err == nil && sameEntry(old, raw) && was.NotAfter.Time.Before(v.NotAfter.Time) {
			return was, nil
		}
	}
	return v, folder.WriteFile(path, raw, 0o644)
}

// sameEntry tells whether two receipts are of the same entry, and of the same
// record of it.
func sameEntry(a, b []byte) bool {
	one, errOne := receipt.Parse(a)
	other, errOther := receipt.Parse(b)
	if errOne != nil || errOther != nil || !bytes.Equal(one.Entry, other.Entry) {
		return false
	}
	if one.Record == nil || other.Record == nil {
		return one.Record == other.Record
	}
	return one.Record.Index == other.Record.Index && bytes.Equal(one.Record.Data, other.Record.Data)
}

// verify judges a receipt with the document that it is of.
func (d *Desk) verify(r *Request, raw []byte) (*verify.Verdict, error) {
	in := verify.Input{Receipt: raw, Policy: d.Policy, Document: r.Document, Now: d.Now()}
	if r.needsOpening() {
		var err error
		if in.Opening, err = folder.Read(r.Base+OpeningEnding, statement.MaxOpening); err != nil {
			return nil, err
		}
	}
	return verify.Verify(in)
}

// putRecords writes a receipt for each record of a batch: that of the batch with
// the path inside.
func (d *Desk) putRecords(r *Request, w *work, raw []byte) error {
	check := func(raw []byte) (*verify.Verdict, error) {
		return verify.Verify(verify.Input{Receipt: raw, Policy: d.Policy, StatementOnly: true, Now: d.Now()})
	}
	paths := newPaths(w.Records)
	for i, data := range w.Records {
		rec, err := receipt.Parse(raw)
		if err != nil {
			return err
		}
		rec.Record = &receipt.Record{Data: data, Index: uint64(i), Path: paths.of(i)}
		out, err := rec.Encode()
		if err != nil {
			return err
		}
		v, err := check(out)
		if err != nil {
			return &client.UntrueError{What: "receipt", Err: err, Answer: raw}
		}
		if _, err := putReceipt(r.Records[i].Base+ReceiptEnding, out, v, check); err != nil {
			return err
		}
	}
	return nil
}

// done returns the result if the receipts are there already; nil if there are
// none.
func (d *Desk) done(r *Request) (*Result, error) {
	path := r.Base + ReceiptEnding
	raw, err := folder.Read(path, receipt.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, d.noRecords(r)
	}
	if err != nil {
		return nil, err
	}
	if _, err := verify.Verify(verify.Input{Receipt: raw, Policy: d.Policy, StatementOnly: true, Now: d.Now()}); err != nil {
		return nil, &TakenError{path, "is there, but does not verify; look at it with trialog verify, then move it away"}
	}
	_, s, err := StatementOf(raw)
	if err != nil {
		return nil, err
	}
	taken := &TakenError{path, fmt.Sprintf(
		"is the receipt of something else (%s); move it away, or use --out", s.Kind)}
	opening, records, bodies, err := d.kept(r)
	if err != nil {
		return nil, err
	}
	if !r.says(s, opening, records, bodies) {
		return nil, taken
	}
	verdict, err := d.verify(r, raw)
	if err != nil {
		return nil, taken
	}
	return &Result{
		Request: r, Already: true, Index: verdict.Inclusion.Index, Verdict: verdict, Identity: verdict.Statement.Identity,
	}, nil
}

// kept reads, without making anything, what an earlier call left beside the
// documents.
func (d *Desk) kept(r *Request) (opening *statement.Opening, records, bodies [][]byte, err error) {
	if r.needsOpening() {
		if opening, err = readOpening(r.Base + OpeningEnding); err != nil || opening == nil {
			return nil, nil, nil, err
		}
	}
	for _, rec := range r.Records {
		raw, err := folder.Read(rec.Base+ReceiptEnding, receipt.MaxSize)
		if errors.Is(err, fs.ErrNotExist) {
			return opening, nil, nil, nil
		}
		if err != nil {
			return nil, nil, nil, err
		}
		parsed, err := receipt.Parse(raw)
		if err != nil || parsed.Record == nil {
			return opening, nil, nil, nil //nolint:nilerr // it is no receipt of a record of this batch
		}
		records = append(records, parsed.Record.Data)
	}
	if len(r.Records) > 0 {
		bodies, err = r.bodies(nothing{})
	}
	return opening, records, bodies, err
}

// nothing is a source that fails: what is there is looked at, nothing is made.
type nothing struct{}

// Read implements io.Reader.
func (nothing) Read([]byte) (int, error) { return 0, errors.New("an .opening file is missing") }

// noRecords refuses a batch whose records have receipts of other batches.
func (d *Desk) noRecords(r *Request) error {
	for _, rec := range r.Records {
		if folder.Exists(rec.Base + ReceiptEnding) {
			return &TakenError{rec.Base + ReceiptEnding, "is the receipt of another batch; move it away, or use --out"}
		}
	}
	return nil
}

// StatementOf reads the statement in a receipt, which it does not verify.
func StatementOf(raw []byte) (statement.Identity, *statement.Statement, error) {
	r, err := receipt.Parse(raw)
	if err != nil {
		return statement.Identity{}, nil, err
	}
	e, err := entry.Parse(r.Entry)
	if err != nil {
		return statement.Identity{}, nil, err
	}
	env, s, err := statement.Parse(e.Envelope)
	if err != nil {
		return statement.Identity{}, nil, err
	}
	id := s.Identity(env.Payload)
	return id, s, nil
}

// Refresh fetches an up-to-date receipt and puts it in the place of an older
// one of the same entry, whose record it keeps.
func Refresh(ctx context.Context, c *client.Client, old []byte) (*client.Acknowledgement, []byte, error) {
	id, _, err := StatementOf(old)
	if err != nil {
		return nil, nil, err
	}
	ack, err := c.Receipt(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	before, err := receipt.Parse(old)
	if err != nil {
		return nil, nil, err
	}
	after, err := receipt.Parse(ack.Receipt)
	if err != nil {
		return nil, nil, err
	}
	// Two receipts are two tree heads, and one must begin with the other.
	if before.Proof.Note.Checkpoint().Origin == after.Proof.Note.Checkpoint().Origin {
		// What could not be found out is no contradiction; the receipt was verified.
		if e, _ := c.Compare(ctx, before.Proof.Note, after.Proof.Note); e != nil {
			return nil, nil, &client.UntrueError{
				What: "checkpoint", Answer: ack.Receipt, Evidence: e, Err: errors.New("it contradicts the one of the receipt in the file"),
			}
		}
	}
	if !bytes.Equal(before.Entry, after.Entry) {
		return nil, nil, &client.UntrueError{
			What: "receipt", Answer: ack.Receipt, Err: errors.New("it is of another entry than the one in the file"),
		}
	}
	if before.Record == nil {
		return ack, ack.Receipt, nil
	}
	after.Record = before.Record
	raw, err := after.Encode()
	return ack, raw, err
}
