package proofs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/services/internal/tile"
)

// refreshPath is where a receipt is brought up to date.
const refreshPath = "/v1/receipts:refresh"

const (
	// maxRenewing bounds the receipts that are in memory at once, of up to
	// receipt.MaxSize bytes each: anybody may send them.
	maxRenewing = 8
	// renewWait is when to ask again if there are as many. It is no promise.
	renewWait = time.Second
	// receiptTime is for how long a receipt may be on its way, so that a few
	// slow senders do not keep everybody else out.
	receiptTime = 15 * time.Second
)

// serveRefresh answers with the receipt in the body, its proofs made anew under
// the published checkpoints.
func (p *Proofs) serveRefresh(rw http.ResponseWriter, r *http.Request) (*answer, *fault) {
	if r.Method != http.MethodPost {
		f := refuse(http.StatusMethodNotAllowed, "method", "", "expected POST")
		f.allow = http.MethodPost
		return nil, f
	}
	wantsAnchored, bad := parseAnchored(r.URL.RawQuery)
	if bad != nil {
		return nil, bad
	}
	if r.ContentLength > receipt.MaxSize {
		return nil, tooLarge("body")
	}
	done, bad := p.beginRenewal()
	if bad != nil {
		return nil, bad
	}
	defer done()
	raw, bad := p.readReceipt(rw, r)
	if bad != nil {
		return nil, bad
	}
	body, bad := p.refresh(r.Context(), raw, "body", wantsAnchored)
	if bad != nil {
		return nil, bad
	}
	return &answer{contentType: typeJSON, cache: cacheNever, body: body}, nil
}

// parseAnchored reads the query of a refresh: nothing, or anchored=true or false.
func parseAnchored(query string) (bool, *fault) {
	switch query {
	case "", "anchored=false":
		return false, nil
	case "anchored=true":
		return true, nil
	}
	// What was sent is not repeated: it is the client's, and of any length.
	return false, refuse(http.StatusBadRequest, "query", "anchored", "expected no other parameter than anchored=true or anchored=false")
}

// beginRenewal takes one of the places for receipts in memory; done gives it back.
func (p *Proofs) beginRenewal() (done func(), bad *fault) {
	select {
	case p.renewing <- struct{}{}:
		return func() { <-p.renewing }, nil
	default:
		bad = refuse(http.StatusServiceUnavailable, "busy", "", "too many receipts are being renewed, expected this one later")
		bad.retryAfter = renewWait
		return nil, bad
	}
}

// readReceipt reads the body.
func (p *Proofs) readReceipt(rw http.ResponseWriter, r *http.Request) ([]byte, *fault) {
	control := http.NewResponseController(rw)
	// Recorders of tests cannot; servers can.
	_ = control.SetReadDeadline(p.cfg.Now().Add(receiptTime))
	raw, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, receipt.MaxSize))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge("body")
	}
	if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() {
		return nil, refuse(http.StatusRequestTimeout, "body", "body", "expected a receipt file within %s", receiptTime)
	}
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "body", "body", "expected a receipt file, the request ended early")
	}
	// net/http goes on reading, to notice that the client has gone.
	_ = control.SetReadDeadline(time.Time{})
	return raw, nil
}

func tooLarge(field string) *fault {
	return refuse(http.StatusRequestEntityTooLarge, "too-large", field, "expected at most %d bytes", receipt.MaxSize)
}

// refresh returns a receipt with its proofs made anew, each under the published
// checkpoint of its own shard. An enrolment of a log that is not served here
// keeps its proof. What the receipt is about does not change: an entry that is
// not in the log at its index is refused. If the newest anchored checkpoint is
// asked for, the proof is under that, with its tokens. field is what the caller
// sent the receipt in.
func (p *Proofs) refresh(ctx context.Context, raw []byte, field string, wantsAnchored bool) ([]byte, *fault) {
	rec, s, bad := p.parseReceipt(raw, field, wantsAnchored)
	if bad != nil {
		return nil, bad
	}
	var under *anchor // nil for the published checkpoint
	if wantsAnchored {
		if under, bad = s.anchorOf(ctx, rec.Proof.Index); bad != nil {
			return nil, bad
		}
		rec.Tokens = under.tokens
	}
	if rec.Proof, bad = s.renew(ctx, rec.Entry, rec.Proof, under); bad != nil {
		return nil, bad
	}
	for i, e := range rec.Enrolments {
		in := p.of(e.Proof.Note.Checkpoint().Origin)
		if in == nil {
			continue
		}
		with := under
		if in != s || with != nil && e.Proof.Index >= with.size() {
			with = nil
		}
		if rec.Enrolments[i].Proof, bad = in.renew(ctx, e.Entry, e.Proof, with); bad != nil {
			return nil, bad
		}
	}
	body, err := rec.Encode()
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	return body, nil
}

// parseReceipt reads a receipt that is to be renewed, and finds its shard.
func (p *Proofs) parseReceipt(raw []byte, field string, wantsAnchored bool) (*receipt.Receipt, *shard, *fault) {
	if len(raw) > receipt.MaxSize {
		return nil, nil, tooLarge(field)
	}
	rec, err := receipt.Parse(raw)
	if err != nil {
		return nil, nil, refuse(http.StatusBadRequest, "receipt", field, "%v", err)
	}
	if len(rec.Tokens) > 0 && !wantsAnchored {
		// They are over the receipt's own checkpoint, and would be lost.
		return nil, nil, refuse(http.StatusBadRequest, "tokens", "tokens",
			"expected a receipt without time-stamp tokens; keep this one as it is, or ask for an anchored one")
	}
	s := p.of(rec.Proof.Note.Checkpoint().Origin)
	if s == nil {
		return nil, nil, refuse(http.StatusBadRequest, "origin", "proof",
			"expected a receipt of a shard of this log, such as %s", p.active.Load().origin)
	}
	return rec, s, nil
}

// renew returns the proof of an entry of this shard under the published
// checkpoint, or under an anchored one.
func (s *shard) renew(ctx context.Context, entry []byte, old *receipt.Proof, under *anchor) (*receipt.Proof, *fault) {
	at, err := s.covering(ctx, func(t *tile.Tree) bool { return old.Index < t.Size() && (under == nil || under.size() <= t.Size()) })
	if err != nil {
		return nil, unavailable(err)
	}
	size, note := at.tree.Size(), at.note
	if under != nil {
		if under.size() > size {
			return nil, s.fail(ctx, fmt.Errorf("%w: a checkpoint of size %d was anchored, the published one is at %d",
				tile.ErrCorrupt, under.size(), size))
		}
		size, note = under.size(), under.note
	}
	if old.Index >= size {
		return nil, refuse(http.StatusNotFound, "not-published", "proof", "expected an index below the published size %d", size)
	}
	leaf, root, path, err := at.tree.Prove(ctx, old.Index, size)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	if root != note.Checkpoint().Root {
		return nil, s.fail(ctx, fmt.Errorf("%w: the anchored checkpoint of size %d has another root", tile.ErrCorrupt, size))
	}
	if leaf != tile.LeafHash(entry) {
		return nil, refuse(http.StatusNotFound, "other-entry", "entry", "the log holds another entry at index %d", old.Index)
	}
	return &receipt.Proof{Index: old.Index, Path: path, Note: note}, nil
}
