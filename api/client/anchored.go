package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

// Anchored has a receipt renewed under the newest checkpoint that was anchored:
// the one with the cosignatures of public witnesses, and with time-stamp tokens,
// which come in the receipt. The receipt must be of an entry as a whole: a record
// is nobody's business but its submitter's.
//
// While no anchored checkpoint holds the entry it returns a *Problem with status
// 404, whose RetryAfter says when one is due.
func (c *Client) Anchored(ctx context.Context, old []byte) (*Acknowledgement, error) {
	if c.policy == nil {
		return nil, ErrNoPolicy
	}
	before, err := receipt.Parse(old)
	if err != nil {
		return nil, err
	}
	framed, err := entry.Parse(before.Entry)
	if err != nil {
		return nil, err
	}
	env, stmt, err := statement.Parse(framed.Envelope)
	if err != nil {
		return nil, err
	}
	// The record stays here, and the tokens of an earlier checkpoint are of no use.
	before.Record, before.Tokens = nil, nil
	body, err := before.Encode()
	if err != nil {
		return nil, err
	}
	got, err := c.call(ctx, request{
		method: http.MethodPost, path: "/v1/receipts:refresh", query: url.Values{"anchored": {"true"}}, body: body,
		header: http.Header{"Content-Type": {"application/json"}}, limit: receipt.MaxSize,
		extra: transfer(int64(len(body))),
	})
	if err != nil {
		return nil, err
	}
	a := &Acknowledgement{Identity: stmt.Identity(env.Payload), Index: before.Proof.Index, Receipt: got.body}
	a.Verdict, err = checkReceipt(c.policy, a.Receipt, a.Identity, a.Index, c.now())
	if err == nil {
		err = c.meetReceipt(a.Receipt)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}
