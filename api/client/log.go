package client

import (
	"context"
	"fmt"
	"net/url"

	"github.com/trialog/trialog/api/checkpoint"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
)

// Description is what the log says about itself. None of it is evidence.
type Description struct {
	Log    string // name, which statements carry
	Origin string // of the shard that takes statements in
	// Policy and Sidecar are those that the log itself publishes by. A verifier
	// takes them from elsewhere.
	Policy, Sidecar []byte
	// Checkpoint is the newest cosigned note; empty before the first one. It was
	// not verified; see Beacon.
	Checkpoint []byte
}

// Describe asks the log about itself.
func (c *Client) Describe(ctx context.Context) (*Description, error) {
	resp := &trialogv1.GetLogResponse{}
	if err := c.get(ctx, "/v1/log", nil, resp); err != nil {
		return nil, err
	}
	d := &Description{
		Log: resp.GetLog(), Origin: resp.GetOrigin(), Policy: []byte(resp.GetPolicy()),
		Sidecar: []byte(resp.GetPolicySidecar()), Checkpoint: []byte(resp.GetCheckpoint()),
	}
	if err := statement.CheckLog("log", d.Log); err != nil {
		return nil, &UntrueError{What: "answer", Err: err}
	}
	return d, nil
}

// Beacon fetches the newest checkpoint and verifies it, for a statement to name.
// Both results are nil if the log has none yet.
func (c *Client) Beacon(ctx context.Context) (*statement.Beacon, []byte, error) {
	if c.policy == nil {
		return nil, nil, ErrNoPolicy
	}
	d, err := c.Describe(ctx)
	if err != nil || len(d.Checkpoint) == 0 {
		return nil, nil, err
	}
	cosigned, err := c.policy.CheckNote(d.Checkpoint)
	if err != nil {
		return nil, nil, &UntrueError{What: "checkpoint", Answer: d.Checkpoint, Err: err}
	}
	note, err := checkpoint.Parse(d.Checkpoint)
	if err != nil {
		return nil, nil, &UntrueError{What: "checkpoint", Answer: d.Checkpoint, Err: err}
	}
	if err := c.heads.meet(note); err != nil {
		return nil, nil, err
	}
	return &statement.Beacon{
		Origin: cosigned.Origin, Size: cosigned.Size, Note: statement.Digest(note.Digest()),
	}, note.Bytes(), nil
}

// Chain is where a writer's next statement in a trial belongs.
type Chain struct {
	Head
	// Trial is the identity of the trial's first statement; zero if the log does
	// not know the trial.
	Trial statement.Identity
	// Organisation is the one that the key is enrolled for; empty if it is not.
	Organisation string
}

// Next returns the place behind the head.
func (h Head) Next() statement.Link {
	return statement.Link{Number: h.Number + 1, Previous: h.Identity}
}

// Chain asks for the head of a writer's chain; trial is empty for the chain
// outside trials. A wrong answer costs a rejection, nothing else.
func (c *Client) Chain(ctx context.Context, key statement.KeyID, trial string) (*Chain, error) {
	query := url.Values{}
	if trial != "" {
		query.Set("trial", trial)
	}
	resp := &trialogv1.GetChainResponse{}
	if err := c.get(ctx, "/v1/chains/"+key.String(), query, resp); err != nil {
		return nil, err
	}
	chain := &Chain{Head: Head{Number: resp.GetNumber()}, Organisation: clean(resp.GetOrganisation())}
	for _, d := range []struct {
		name, text string
		into       *statement.Digest
	}{{"identity", resp.GetIdentity(), &chain.Identity}, {"trial_identity", resp.GetTrialIdentity(), &chain.Trial}} {
		if d.text == "" {
			continue
		}
		var err error
		if *d.into, err = statement.ParseDigest(d.text); err != nil {
			return nil, &UntrueError{What: "answer", Err: fmt.Errorf("%s: %w", d.name, err)}
		}
	}
	if (chain.Number == 0) != chain.Identity.IsZero() {
		return nil, untrue("answer", nil, "a chain of %d statements without a head", chain.Number)
	}
	return chain, nil
}
