package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
)

// reception is what the gateway needs to sign by itself.
type reception struct {
	key   *statement.PrivateKey
	box   outbox
	locks *locks
}

// maxRebuilds bounds how often a statement is signed anew because another
// writer with the gateway's key was faster. Such a writer should not exist.
const maxRebuilds = 3

// method is how principals without a key are authenticated, as statements
// state it.
const method = "token"

// receive signs a statement for a principal who has no key. What is signed is
// durable before it is sent: a crash, or a caller who hears nothing and asks
// again, leads to the same bytes and so to the same entry.
func (g *Gateway) receive(
	ctx context.Context, who *caller, req *trialogv1.ReceiveRequest,
) (*trialogv1.ReceiveResponse, error) {
	if g.reception == nil {
		return nil, &fault{code: codes.Unimplemented, detail: "this gateway takes no statements without a submitter's signature"}
	}
	if err := checkWait(req.GetWait()); err != nil {
		return nil, err
	}
	if err := checkRequestID(req.GetRequestId()); err != nil {
		return nil, err
	}
	draft, err := receivable(who, req.GetDraft())
	if err != nil {
		return nil, err
	}
	undo, err := g.quota.statement(draft.GetOrganisation())
	if err != nil {
		return nil, err
	}
	d := &dispatch{
		// Neither part holds the separator.
		request: who.principal + "/" + req.GetRequestId(), draft: draft, wait: req.GetWait(),
		received: statement.ReceptionInfo{
			Principal: who.principal, Method: method,
			Request: statement.RequestDigest(who.principal, req.GetRequestId()),
		},
	}
	resp, err := g.dispatch(ctx, d)
	if !d.maybeNew {
		undo()
	}
	if err != nil {
		return nil, sequencerFault(err, draftField(draft))
	}
	return &trialogv1.ReceiveResponse{Submitted: resp}, nil
}

func checkRequestID(id string) error {
	ok := len(id) >= 1 && len(id) <= 64 && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._:-", r)
	})
	if !ok {
		return invalid("request_id", "expected 1 to 64 of the characters A-Z a-z 0-9 . _ : -")
	}
	return nil
}

// receivable checks that the draft is the caller's to have received, and fills
// in the organisation.
func receivable(who *caller, d *trialogv1.Draft) (*trialogv1.Draft, error) {
	if d == nil {
		return nil, invalid("draft", "missing, expected an object")
	}
	if d.GetOrganisation() == "" {
		d.Organisation = who.organisation
	}
	if err := who.speaksFor("draft.organisation", d.GetOrganisation()); err != nil {
		return nil, err
	}
	// Who may say which kind, the sequencer checks. But no token makes the
	// gateway speak about keys or about the log itself.
	rule, ok := statement.RuleOf(statement.Kind(d.GetKind()))
	if ok && (rule.Scope == statement.InLog || rule.Kind == statement.KindKey) {
		return nil, forbidden("draft.kind", fmt.Sprintf("a %q needs the signature of who says it", rule.Kind))
	}
	return d, nil
}

// dispatch is one received statement on its way.
type dispatch struct {
	request  string // principal and request id
	draft    *trialogv1.Draft
	received statement.ReceptionInfo
	wait     trialogv1.Wait
	maybeNew bool // whether it has made a new entry, or may have; set on the way
}

// dispatch signs what was not signed before and sends it. Its errors are faults
// or those of add.
func (g *Gateway) dispatch(ctx context.Context, d *dispatch) (*trialogv1.SubmitResponse, error) {
	done, err := g.reception.locks.acquire(ctx, "request "+d.request)
	if err != nil {
		return nil, err
	}
	defer done()
	rec, err := g.reception.box.load(d.request)
	if err != nil {
		return nil, g.stateFault(ctx, "load", err)
	}
	if rec != nil && !g.says(rec, d) {
		return nil, &fault{code: codes.AlreadyExists, violations: []violation{{
			"request_id", "was used for another draft; choose another one",
		}}}
	}
	resp, rec, err := g.enchain(ctx, d, rec)
	if err != nil || d.wait == trialogv1.Wait_WAIT_PENDING || resp.GetState() == trialogv1.State_STATE_FINAL {
		return resp, err
	}
	// The place in the chain is taken: the next statement of the trial need not
	// wait for the witnesses.
	final, err := g.sendRecord(ctx, rec, trialogv1.Wait_WAIT_FINAL)
	if err != nil {
		return nil, err
	}
	final.Duplicate = resp.GetDuplicate()
	return final, nil
}

// enchain sends a statement until it has its place in the chain of the
// gateway's key, one statement of a trial at a time. rec is what was signed
// before, or nil; what was sent in the end is returned.
func (g *Gateway) enchain(ctx context.Context, d *dispatch, rec *record) (*trialogv1.SubmitResponse, *record, error) {
	next, err := g.reception.locks.acquire(ctx, "trial "+d.draft.GetTrial())
	if err != nil {
		return nil, nil, err
	}
	defer next()
	mine := rec == nil // whether every sending of the request was in this call
	for attempt := 0; ; attempt++ {
		if rec == nil {
			if rec, err = g.sign(ctx, d); err != nil {
				return nil, nil, err
			}
			// SPEC: persisted before it is sent. A crash behind this line
			// resends it; one before it leaves nothing signed that anybody saw.
			if err := g.reception.box.save(d.request, rec); err != nil {
				return nil, nil, g.stateFault(ctx, "save", err)
			}
		}
		resp, err := g.sendRecord(ctx, rec, trialogv1.Wait_WAIT_PENDING)
		// What was sent before was rejected, or this would not be sent.
		d.maybeNew = maybeNew(resp, err)
		switch {
		case err == nil:
			return resp, rec, nil
		case chainMoved(err) && attempt < maxRebuilds:
			// REJECTED, so nothing is stored under this identity: a new
			// statement cannot become a second one.
			rec = nil
		case mine && rejected(err):
			// The request left no trace; a corrected draft may take its id.
			if err := g.reception.box.drop(d.request); err != nil {
				_ = g.stateFault(ctx, "drop", err) // the id stays taken, no more
			}
			return nil, nil, err
		default:
			return nil, nil, err
		}
	}
}

// sign writes and signs a statement anew.
func (g *Gateway) sign(ctx context.Context, d *dispatch) (*record, error) {
	signers := []statement.Signer{{Key: g.reception.key.ID(), Meaning: statement.Reception, At: g.today()}}
	w, err := g.write(ctx, d.draft, signers, &d.received)
	if err != nil {
		return nil, err
	}
	env, err := statement.Sign(w.payload, g.reception.key)
	if err != nil {
		g.cfg.Log.LogAttrs(ctx, slog.LevelError, "signing failed")
		return nil, unavailable("the gateway cannot sign at the moment")
	}
	return &record{envelope: env.Bytes(), beacon: w.beacon}, nil
}

func (g *Gateway) sendRecord(ctx context.Context, rec *record, wait trialogv1.Wait) (*trialogv1.SubmitResponse, error) {
	env, s, err := statement.Parse(rec.envelope)
	if err != nil {
		return nil, g.stateFault(ctx, "parse", errRecord) // err may tell what it says
	}
	return g.add(ctx, s.Identity(env.Payload), &trialogv1.AddRequest{
		Submit: &trialogv1.SubmitRequest{Envelope: rec.envelope, Beacon: rec.beacon, Wait: wait},
	})
}

// says tells whether a record is of the same draft: the draft, with the
// record's own chain, beacon and time, gives the record's payload.
func (g *Gateway) says(rec *record, d *dispatch) bool {
	env, old, err := statement.Parse(rec.envelope)
	if err != nil {
		return false
	}
	s, _, err := g.fromDraft(d.draft)
	if err != nil {
		return false
	}
	received := d.received
	if old.Received != nil && old.Received.Request.IsZero() {
		received.Request = statement.Digest{} // written before statements named the request
	}
	s.Signers, s.Chain, s.Beacon, s.Received = old.Signers, old.Chain, old.Beacon, &received
	if !s.HasDocument() && !old.HasDocument() {
		s.Subject, s.Digest = old.Subject, old.Digest
	}
	payload, err := statement.Build(s)
	return err == nil && bytes.Equal(payload, env.Payload)
}

// chainMoved tells whether a statement was rejected because its chain has
// another head.
func chainMoved(err error) bool {
	var f *fault
	return !errors.As(err, &f) && !errors.Is(err, errUnproven) && fromSequencer(err, submitted).head != nil
}

// rejected tells whether the sequencer has answered that nothing is stored.
func rejected(err error) bool {
	var f *fault
	if errors.As(err, &f) || errors.Is(err, errUnproven) {
		return false
	}
	switch status.Code(err) { //nolint:exhaustive // all others leave the outcome open
	case codes.InvalidArgument, codes.FailedPrecondition, codes.PermissionDenied, codes.Aborted:
		return true
	}
	return false
}

// busy tells whether the sequencer took nothing in because its queues are full.
// gRPC uses the code too, also for an answer that is too long, but says never
// when to ask again.
func busy(err error) bool {
	s := status.Convert(err)
	return s.Code() == codes.ResourceExhausted && slices.ContainsFunc(s.Details(), func(d any) bool {
		_, retry := d.(*errdetails.RetryInfo)
		return retry
	})
}

// stateFault records that the state file failed; nothing was sent.
func (g *Gateway) stateFault(ctx context.Context, step string, err error) error {
	// The reason is the file system's or the file format's; it holds no content.
	g.cfg.Log.LogAttrs(ctx, slog.LevelError, "state file failed",
		slog.String("step", step), slog.String("reason", err.Error()))
	return unavailable("the gateway cannot write down what it signs at the moment; send the same request again")
}
