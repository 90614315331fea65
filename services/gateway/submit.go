package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trialog/trialog/api/entry"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// maxBeacon bounds a beacon in bytes: a note with the signatures of some twenty
// witnesses, ML-DSA-44 included, has half of it.
const maxBeacon = 128 << 10

func (g *Gateway) getLog(ctx context.Context, _ *caller, _ *trialogv1.GetLogRequest) (*trialogv1.GetLogResponse, error) {
	head, err := g.head(ctx)
	if err != nil {
		return nil, err
	}
	return &trialogv1.GetLogResponse{
		Log: g.log, Origin: head.origin, Checkpoint: head.text(),
		Policy: string(g.cfg.Policy), PolicySidecar: string(g.cfg.Sidecar), PolicyFingerprint: g.policy.Fingerprint(),
		Clock: cmp.Or(head.clock, "unverified"),
	}, nil
}

// admission is a submission that was read, and is in order as far as the gateway
// can tell.
type admission struct {
	request   *trialogv1.SubmitRequest
	statement *statement.Statement
	id        statement.Identity
}

// admit reads a submission.
func (g *Gateway) admit(req *trialogv1.SubmitRequest) (*admission, error) {
	if err := checkSubmission(req); err != nil {
		return nil, err
	}
	env, s, err := parseEnvelope(req.GetEnvelope())
	if err != nil {
		return nil, err
	}
	if s.Log != g.log {
		return nil, invalid("envelope.payload.predicate.log", fmt.Sprintf("expected %q, the name of this log", g.log))
	}
	return &admission{request: req, statement: s, id: s.Identity(env.Payload)}, nil
}

// submission is what Submit and SubmitStream have in common.
type submission interface {
	GetEnvelope() []byte
	GetBeacon() string
	GetWait() trialogv1.Wait
}

// checkSubmission checks a submission from outside, without reading the envelope.
func checkSubmission(s submission) error {
	if err := checkWait(s.GetWait()); err != nil {
		return err
	}
	if len(s.GetEnvelope()) == 0 {
		return invalid("envelope", "missing, expected a DSSE envelope")
	}
	if len(s.GetBeacon()) > maxBeacon {
		return invalid("beacon", fmt.Sprintf("expected a checkpoint note of at most %d bytes", maxBeacon))
	}
	return nil
}

func (g *Gateway) submit(ctx context.Context, who *caller, req *trialogv1.SubmitRequest) (*trialogv1.SubmitResponse, error) {
	a, err := g.admit(req)
	if err != nil {
		return nil, err
	}
	// A caller who hangs up has not decided how the statement ends: what became of
	// it is what the quota counts.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.limits.CallTimeout)
	defer cancel()
	add := &trialogv1.AddRequest{Submit: req}
	if lacks := mayEnrol(who, a.statement); lacks != nil {
		return g.again(ctx, a.id, add, lacks)
	}
	if _, first := a.statement.RecoveryKey(); first {
		add.GrantedRoles = who.roles
	}
	undo, err := g.quota.statement(a.statement.Organisation)
	if err != nil {
		return nil, err
	}
	resp, err := g.add(ctx, a.id, add)
	if !maybeNew(resp, err) {
		undo()
	}
	if err != nil {
		return nil, sequencerFault(err, submitted)
	}
	return resp, nil
}

// again answers for a statement that the caller may not bring in as a new one:
// the same statement is never an error, whoever sends it again. The sequencer
// knows it by its identity, also before a checkpoint holds it; a new one it
// refuses, as nothing is granted. lacks is what the caller would have needed.
func (g *Gateway) again(
	ctx context.Context, id statement.Identity, add *trialogv1.AddRequest, lacks error,
) (*trialogv1.SubmitResponse, error) {
	resp, err := g.add(ctx, id, add)
	switch {
	case status.Code(err) == codes.PermissionDenied:
		return nil, lacks
	case err != nil:
		return nil, sequencerFault(err, submitted)
	case !resp.GetDuplicate():
		g.logUngranted(ctx, id)
		return nil, lacks
	}
	return resp, nil
}

// maybeNew tells whether a call of add may have made a new entry, going by what
// it returned: it has, or the outcome is not known.
func maybeNew(resp *trialogv1.SubmitResponse, err error) bool {
	if err == nil {
		return !resp.GetDuplicate()
	}
	return !rejected(err) && !busy(err)
}

func checkWait(w trialogv1.Wait) error {
	if _, ok := trialogv1.Wait_name[int32(w)]; !ok {
		return invalid("wait", "expected WAIT_FINAL or WAIT_PENDING")
	}
	return nil
}

// parseEnvelope reads an envelope and its statement and says where in the
// request an error is. Who signed, the sequencer checks: it knows the keys.
func parseEnvelope(raw []byte) (*statement.Envelope, *statement.Statement, error) {
	env, err := statement.ParseEnvelope(raw)
	if err != nil {
		return nil, nil, invalidField(err, submittedEnvelope)
	}
	s, err := statement.Decode(env.Payload)
	if err != nil {
		return nil, nil, invalidField(err, under("envelope.payload"))
	}
	return env, s, nil
}

// submittedEnvelope rewrites a path inside an envelope.
func submittedEnvelope(path string) string {
	if path == "envelope" { // its length
		return path
	}
	return under("envelope")(path)
}

// mayEnrol checks that the caller may bring in a statement if it is the first
// enrolment of an organisation. That is the one statement that no enrolled key
// can vouch for, so the caller has to.
func mayEnrol(who *caller, s *statement.Statement) error {
	if _, first := s.RecoveryKey(); !first {
		return nil
	}
	if err := who.require(who.rule.sometimes); err != nil {
		return err
	}
	return who.speaksFor("envelope.payload.predicate.organisation", s.Organisation)
}

// errUnproven says that the sequencer answered with what does not hold.
var errUnproven = errors.New("the answer does not verify")

// sequencerFault is fromSequencer for errors that may be the gateway's own.
func sequencerFault(err error, path func(string) string) error {
	var f *fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, errUnproven):
		return unavailable("the log gave no receipt that verifies; its operator has been told")
	}
	return fromSequencer(err, path)
}

// add hands a statement to the sequencer and checks what comes back. Its errors
// are those of the sequencer, or wrap errUnproven.
func (g *Gateway) add(
	ctx context.Context, id statement.Identity, req *trialogv1.AddRequest,
) (*trialogv1.SubmitResponse, error) {
	added, err := g.sequencer.Add(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := added.GetSubmitted()
	if got := resp.GetIdentity(); got != id.String() {
		return nil, g.unproven(ctx, id, "identity")
	}
	switch {
	case resp.GetState() == trialogv1.State_STATE_FINAL:
		if _, err := g.check(ctx, id, resp.GetReceipt(), resp.GetIndex()); err != nil {
			return nil, err
		}
	case resp.GetState() == trialogv1.State_STATE_PENDING:
		// Also to a caller who waited in vain for FINAL.
		if err := g.checkPromise(ctx, id, resp); err != nil {
			return nil, g.unproven(ctx, id, "promise")
		}
	default:
		return nil, g.unproven(ctx, id, "state")
	}
	return resp, nil
}

// checkPromise verifies the promise in resp as check does a receipt. It must be
// of the shard that this gateway stands before: one of another shard would be
// held against a tree that the entry is not in.
func (g *Gateway) checkPromise(ctx context.Context, id statement.Identity, resp *trialogv1.SubmitResponse) error {
	if len(resp.GetReceipt()) > 0 {
		return errUnproven
	}
	_, err := g.readPromise(ctx, id, resp.GetPending(), resp.GetIndex())
	return err
}

// readPromise reads a promise and checks that it is about this statement.
func (g *Gateway) readPromise(
	ctx context.Context, id statement.Identity, raw []byte, index uint64,
) (*receipt.Pending, error) {
	promise, err := receipt.ParsePending(raw, g.policy.Trust().PendingKeys...)
	if err != nil {
		return nil, err
	}
	if promise.Identity != id || promise.Index != index || promise.Log != g.log {
		return nil, errUnproven
	}
	if g.notes.isOrigin(promise.Origin) {
		return promise, nil
	}
	head, err := g.head(ctx) // not asked for before, or the shard is another one now
	if err != nil {
		return nil, err
	}
	if promise.Origin != head.origin {
		return nil, errUnproven
	}
	return promise, nil
}

// check verifies a receipt offline before it is given to anybody, and returns
// its statement.
func (g *Gateway) check(ctx context.Context, id statement.Identity, raw []byte, index uint64) (*statement.Statement, error) {
	verdict, err := verify.Verify(verify.Input{
		Receipt: raw, Policy: g.policy, StatementOnly: true, Now: g.cfg.Now(),
	})
	if err != nil {
		// The reason may repeat what the statement says, the link does not.
		return nil, g.unproven(ctx, id, string(verdict.Failure.Link))
	}
	if verdict.Statement.Identity != id || verdict.Inclusion.Index != index {
		return nil, g.unproven(ctx, id, "other statement")
	}
	s, err := statementOf(raw)
	if err != nil {
		return nil, g.unproven(ctx, id, "statement")
	}
	return s, nil
}

// statementOf reads the statement in a receipt that was verified.
func statementOf(raw []byte) (*statement.Statement, error) {
	r, err := receipt.Parse(raw)
	if err != nil {
		return nil, err
	}
	e, err := entry.Parse(r.Entry)
	if err != nil {
		return nil, err
	}
	_, s, err := statement.Parse(e.Envelope)
	return s, err
}

// unproven records that the sequencer's answer does not hold.
func (g *Gateway) unproven(ctx context.Context, id statement.Identity, link string) error {
	g.cfg.Log.LogAttrs(ctx, slog.LevelError, "sequencer's answer does not verify",
		slog.String("identity", id.String()), slog.String("link", link))
	return errUnproven
}

func (g *Gateway) getReceipt(
	ctx context.Context, _ *caller, req *trialogv1.GetReceiptRequest,
) (*trialogv1.GetReceiptResponse, error) {
	id, err := digestField("identity", req.GetIdentity())
	if err != nil {
		return nil, err
	}
	found, _, err := g.find(ctx, id, "identity")
	return found, err
}

// find gets a receipt that verifies, and its statement. field is what the
// caller named the statement in.
func (g *Gateway) find(
	ctx context.Context, id statement.Identity, field string,
) (*trialogv1.GetReceiptResponse, *statement.Statement, error) {
	resp, err := g.sequencer.Find(ctx, &trialogv1.FindRequest{Identity: id.String()})
	if err != nil {
		f := fromSequencer(err, func(string) string { return field })
		if f.code == codes.NotFound {
			f = &fault{code: codes.NotFound, violations: []violation{{field, "no such statement is in the log"}}}
		}
		return nil, nil, f
	}
	found := resp.GetFound()
	s, err := g.check(ctx, id, found.GetReceipt(), found.GetIndex())
	if err != nil {
		return nil, nil, sequencerFault(err, submitted)
	}
	return found, s, nil
}

func (g *Gateway) getChain(
	ctx context.Context, _ *caller, req *trialogv1.GetChainRequest,
) (*trialogv1.GetChainResponse, error) {
	if _, err := digestField("key", req.GetKey()); err != nil {
		return nil, err
	}
	if req.GetTrial() != "" {
		if err := statement.CheckToken("trial", req.GetTrial()); err != nil {
			return nil, invalidField(err, func(string) string { return "trial" })
		}
	}
	return g.chain(ctx, req)
}

// chain asks for the head of a chain.
func (g *Gateway) chain(ctx context.Context, req *trialogv1.GetChainRequest) (*trialogv1.GetChainResponse, error) {
	resp, err := g.sequencer.Chain(ctx, &trialogv1.ChainRequest{Chain: req})
	if err != nil {
		return nil, fromSequencer(err, func(path string) string { return path })
	}
	if resp.GetHead() == nil {
		return nil, internal()
	}
	return resp.GetHead(), nil
}

// digestField reads a digest that is needed. All zeros are the digest of
// nothing that anybody has.
func digestField(field, text string) (statement.Digest, error) {
	d, err := statement.ParseDigest(text)
	if err != nil || d.IsZero() {
		return statement.Digest{}, invalid(field, "expected 64 lower-case hexadecimal digits, not all zero")
	}
	return d, nil
}
