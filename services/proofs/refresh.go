package proofs

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
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
// the published checkpoint. What the receipt is about does not change: an entry
// that is not in the log at its index is refused.
func (p *Proofs) serveRefresh(rw http.ResponseWriter, r *http.Request) answer {
	if r.Method != http.MethodPost {
		a := refuse(http.StatusMethodNotAllowed, "method", "", "expected POST")
		a.allow = http.MethodPost
		return a
	}
	if r.ContentLength > receipt.MaxSize {
		return tooLarge()
	}
	select {
	case p.renewing <- struct{}{}:
		defer func() { <-p.renewing }()
	default:
		a := refuse(http.StatusServiceUnavailable, "busy", "", "too many receipts are being renewed, expected this one later")
		a.retryAfter = renewWait
		return a
	}
	raw, bad := p.readReceipt(rw, r)
	if bad != nil {
		return *bad
	}
	rec, err := receipt.Parse(raw)
	if err != nil {
		return refuse(http.StatusBadRequest, "receipt", "body", "%v", err)
	}
	if len(rec.Tokens) > 0 {
		// They are over the receipt's own checkpoint note, and would be lost.
		return refuse(http.StatusBadRequest, "tokens", "tokens", "expected a receipt without time-stamp tokens; keep this one as it is")
	}
	return p.refresh(r.Context(), rec)
}

// readReceipt reads the body.
func (p *Proofs) readReceipt(rw http.ResponseWriter, r *http.Request) ([]byte, *answer) {
	control := http.NewResponseController(rw)
	// Recorders of tests cannot; servers can.
	_ = control.SetReadDeadline(p.cfg.Now().Add(receiptTime))
	raw, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, receipt.MaxSize))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		a := tooLarge()
		return nil, &a
	}
	if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() {
		a := refuse(http.StatusRequestTimeout, "body", "body", "expected a receipt file within %s", receiptTime)
		return nil, &a
	}
	if err != nil {
		a := refuse(http.StatusBadRequest, "body", "body", "expected a receipt file, the request ended early")
		return nil, &a
	}
	// net/http goes on reading, to notice that the client has gone.
	_ = control.SetReadDeadline(time.Time{})
	return raw, nil
}

func tooLarge() answer {
	return refuse(http.StatusRequestEntityTooLarge, "too-large", "body", "expected at most %d bytes", receipt.MaxSize)
}

// refresh renews the proof of the entry and those of the enrolments that are in
// this shard.
func (p *Proofs) refresh(ctx context.Context, rec *receipt.Receipt) answer {
	at, err := p.covering(ctx, func(t *tile.Tree) bool { return rec.Proof.Index < t.Size() })
	if err != nil {
		return unavailable(err)
	}
	note, err := checkpoint.Parse(at.raw)
	if err != nil {
		return p.fail(ctx, err)
	}
	if origin := rec.Proof.Note.Checkpoint().Origin; origin != p.cfg.Origin {
		return refuse(http.StatusBadRequest, "origin", "proof", "expected a receipt of %s", p.cfg.Origin)
	}
	renew := func(entry []byte, proof *receipt.Proof) (*receipt.Proof, *answer) {
		if proof.Index >= at.tree.Size() {
			a := refuse(http.StatusNotFound, "not-published", "proof", "expected an index below the published size %d", at.tree.Size())
			return nil, &a
		}
		leaf, err := at.tree.LeafHash(ctx, proof.Index)
		if err != nil {
			a := p.fail(ctx, err)
			return nil, &a
		}
		if leaf != tile.LeafHash(entry) {
			a := refuse(http.StatusNotFound, "other-entry", "entry", "the log holds another entry at index %d", proof.Index)
			return nil, &a
		}
		path, err := at.tree.Inclusion(ctx, proof.Index, at.tree.Size())
		if err != nil {
			a := p.fail(ctx, err)
			return nil, &a
		}
		return &receipt.Proof{Index: proof.Index, Path: path, Note: note}, nil
	}
	var bad *answer
	if rec.Proof, bad = renew(rec.Entry, rec.Proof); bad != nil {
		return *bad
	}
	for i, e := range rec.Enrolments {
		if e.Proof.Note.Checkpoint().Origin != p.cfg.Origin {
			continue // of an earlier shard: its proof stands
		}
		if rec.Enrolments[i].Proof, bad = renew(e.Entry, e.Proof); bad != nil {
			return *bad
		}
	}
	body, err := rec.Encode()
	if err != nil {
		return p.fail(ctx, err)
	}
	return answer{status: http.StatusOK, contentType: typeJSON, cache: cacheNever, body: body}
}
