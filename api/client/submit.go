package client

import (
	"context"
	"fmt"
	"time"

	"github.com/trialog/trialog/api/entry"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// Wait is which acknowledgement a caller waits for.
type Wait int

// The acknowledgements.
const (
	// Final is a receipt under a checkpoint that a quorum has cosigned. If there
	// is none in time, the log answers with its promise.
	Final Wait = iota
	// Pending is the log's signed promise; Submit may still answer with a
	// receipt.
	Pending
)

// Acknowledgement is what the log said about a statement, verified. Exactly one
// of Receipt and Promise is set; neither with a receipt that a Stream checked by
// InclusionOnly.
type Acknowledgement struct {
	Identity statement.Identity
	Index    uint64
	// Receipt is the .receipt file, and Verdict what was found of it: its
	// document was not looked at.
	Receipt []byte
	Verdict *verify.Verdict
	// Promise is what the pending record says, Pending the record itself.
	Promise *receipt.Pending
	Pending []byte
	// Duplicate tells whether the statement was in the log before this call.
	Duplicate bool
	// Leaf is the leaf hash of the entry and TreeSize the size of the checkpoint
	// that it was proven under; a Stream fills them in with a receipt.
	Leaf     [32]byte
	TreeSize uint64
}

// Submit sends a signed statement. beacon is the note that it names; nil if it
// names none. The same statement again gives the same entry.
func (c *Client) Submit(ctx context.Context, envelope, beacon []byte, wait Wait) (*Acknowledgement, error) {
	if c.policy == nil {
		return nil, ErrNoPolicy
	}
	env, s, err := statement.Parse(envelope)
	if err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	req := &trialogv1.SubmitRequest{Envelope: envelope, Beacon: string(beacon), Wait: wait.wire()}
	resp := &trialogv1.SubmitResponse{}
	if err := c.post(ctx, "/v1/statements", req, resp); err != nil {
		return nil, err
	}
	return c.acknowledge(resp, s.Identity(env.Payload), envelope)
}

// acknowledge verifies what the log answered about a statement. A promise is an
// answer to whoever waits for a receipt too: the entry is durable, and no quorum
// has cosigned it in time.
func (c *Client) acknowledge(
	resp *trialogv1.SubmitResponse, id statement.Identity, envelope []byte,
) (*Acknowledgement, error) {
	if resp.GetIdentity() != id.String() {
		return nil, untrue("answer", nil, "it is about another statement than the one that was sent")
	}
	a := &Acknowledgement{Identity: id, Index: resp.GetIndex(), Duplicate: resp.GetDuplicate()}
	var err error
	switch {
	case resp.GetState() == trialogv1.State_STATE_FINAL:
		a.Receipt = resp.GetReceipt()
		a.Verdict, err = checkReceipt(c.policy, a.Receipt, id, a.Index, c.now())
	case resp.GetState() == trialogv1.State_STATE_PENDING:
		a.Pending = resp.GetPending()
		a.Promise, err = checkPromise(c.policy, a, envelope)
	default:
		err = untrue("answer", nil, "it is in state %s", resp.GetState())
	}
	if err == nil && a.Receipt != nil {
		err = c.meetReceipt(a.Receipt)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// meetReceipt holds the checkpoint of a verified receipt against those that this
// client has met, as far as that takes no further request.
func (c *Client) meetReceipt(raw []byte) error {
	r, err := receipt.Parse(raw)
	if err != nil {
		return &UntrueError{What: "receipt", Answer: raw, Err: err}
	}
	return c.heads.meet(r.Proof.Note)
}

// checkReceipt verifies a receipt and that it is the one that was asked for.
func checkReceipt(
	policy *verify.Policy, raw []byte, id statement.Identity, index uint64, now time.Time,
) (*verify.Verdict, error) {
	verdict, err := verify.Verify(verify.Input{Receipt: raw, Policy: policy, StatementOnly: true, Now: now})
	switch {
	case err != nil:
		return nil, &UntrueError{What: "receipt", Answer: raw, Err: err}
	case verdict.Statement.Identity != id:
		return nil, untrue("receipt", raw, "it is of another statement")
	case verdict.Inclusion.Index != index:
		return nil, untrue("receipt", raw, "it is of index %d, the answer says %d", verdict.Inclusion.Index, index)
	case verdict.Record != nil:
		return nil, untrue("receipt", raw, "it is of a record, which only its submitter has")
	}
	return verdict, nil
}

// checkPromise verifies a pending record.
func checkPromise(policy *verify.Policy, a *Acknowledgement, envelope []byte) (*receipt.Pending, error) {
	trust := policy.Trust()
	p, err := receipt.ParsePending(a.Pending, trust.PendingKeys...)
	switch {
	case err != nil:
		return nil, &UntrueError{What: "promise", Answer: a.Pending, Err: err}
	case p.Log != trust.Log:
		return nil, untrue("promise", a.Pending, "it is about the log %q", p.Log)
	case p.Identity != a.Identity:
		return nil, untrue("promise", a.Pending, "it is about another statement")
	case p.Index != a.Index:
		return nil, untrue("promise", a.Pending, "it is about index %d, the answer says %d", p.Index, a.Index)
	case !p.Deadline.After(p.Received):
		return nil, untrue("promise", a.Pending, "its deadline is not after its receipt")
	}
	if a.Duplicate {
		// The entry may hold the signatures in another order than envelope.
		return p, nil
	}
	framed, err := entry.Encode(p.Received, envelope)
	if err != nil {
		return nil, &UntrueError{What: "promise", Answer: a.Pending, Err: err}
	}
	if p.LeafHash != statement.Digest(entry.LeafHash(framed)) {
		return nil, untrue("promise", a.Pending, "it is about another entry than the one that was sent")
	}
	return p, nil
}

// Receipt fetches an up-to-date receipt of a statement that is in the log.
func (c *Client) Receipt(ctx context.Context, id statement.Identity) (*Acknowledgement, error) {
	if c.policy == nil {
		return nil, ErrNoPolicy
	}
	resp := &trialogv1.GetReceiptResponse{}
	if err := c.get(ctx, "/v1/statements/"+id.String()+"/receipt", nil, resp); err != nil {
		return nil, err
	}
	a := &Acknowledgement{Identity: id, Index: resp.GetIndex(), Receipt: resp.GetReceipt(), Duplicate: true}
	var err error
	if a.Verdict, err = checkReceipt(c.policy, a.Receipt, id, a.Index, c.now()); err != nil {
		return nil, err
	}
	if err := c.meetReceipt(a.Receipt); err != nil {
		return nil, err
	}
	return a, nil
}
