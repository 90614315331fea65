package client

import (
	"context"
	"fmt"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
)

// MaxBatch is how many statements SubmitBatch takes at once.
const MaxBatch = 128

// Submission is a signed statement to be sent.
type Submission struct {
	// Envelope is the DSSE envelope. It must not be changed until it is answered.
	Envelope []byte
	// Beacon is the note that the statement names; nil if it names none.
	Beacon []byte
	// Wait is which acknowledgement to wait for.
	Wait Wait
	// Identity is the statement's, if the caller knows it; zero lets the client
	// find it out, which costs reading the statement.
	Identity statement.Identity
}

// Result is what became of a submission. Exactly one of Acknowledgement and Err
// is set. Err is a *Problem if the log refused the statement or could not take
// it, an *UntrueError if its answer does not verify, and an *UnreachableError if
// no answer came.
type Result struct {
	Submission      *Submission
	Acknowledgement *Acknowledgement
	Err             error
}

// SubmitBatch sends 1 to MaxBatch signed statements in one call. Each is answered
// for itself, in the order of the submissions; those of one chain are taken in
// that order. The error is that of the whole call: then nothing is known of any.
func (c *Client) SubmitBatch(ctx context.Context, submissions []*Submission) ([]Result, error) {
	if c.policy == nil {
		return nil, ErrNoPolicy
	}
	if len(submissions) < 1 || len(submissions) > MaxBatch {
		return nil, fmt.Errorf("submit a batch: %d statements, expected 1 to %d", len(submissions), MaxBatch)
	}
	req := &trialogv1.SubmitBatchRequest{}
	ids := make([]statement.Identity, len(submissions))
	for i, s := range submissions {
		var err error
		if ids[i], err = s.identity(); err != nil {
			return nil, fmt.Errorf("submit a batch: statement %d: %w", i, err)
		}
		req.Submissions = append(req.Submissions, &trialogv1.SubmitRequest{
			Envelope: s.Envelope, Beacon: string(s.Beacon), Wait: s.Wait.wire(),
		})
	}
	resp := &trialogv1.SubmitBatchResponse{}
	if err := c.post(ctx, "/v1/statements:batch", req, resp); err != nil {
		return nil, err
	}
	if got := len(resp.GetResults()); got != len(submissions) {
		return nil, untrue("answer", nil, "%d results for %d statements", got, len(submissions))
	}
	results := make([]Result, len(submissions))
	for i, r := range resp.GetResults() {
		results[i].Submission = submissions[i]
		switch r := r.GetResult().(type) {
		case *trialogv1.SubmitResult_Submitted:
			results[i].Acknowledgement, results[i].Err = c.acknowledge(
				r.Submitted, ids[i], submissions[i].Envelope)
		case *trialogv1.SubmitResult_Error:
			results[i].Err = refusal(r.Error)
		default:
			results[i].Err = untrue("answer", nil, "result %d is empty", i)
		}
	}
	return results, nil
}

// identity returns the statement's identity.
func (s *Submission) identity() (statement.Identity, error) {
	if !s.Identity.IsZero() {
		return s.Identity, nil
	}
	env, st, err := statement.Parse(s.Envelope)
	if err != nil {
		return statement.Identity{}, err
	}
	return st.Identity(env.Payload), nil
}

// wire is the acknowledgement as the interface names it.
func (w Wait) wire() trialogv1.Wait {
	if w == Pending {
		return trialogv1.Wait_WAIT_PENDING
	}
	return trialogv1.Wait_WAIT_FINAL
}
