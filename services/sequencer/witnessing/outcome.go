package witnessing

import (
	"errors"
	"fmt"
	"strings"

	"github.com/trialog/trialog/api/checkpoint"
)

// Outcome is how a witness answered, in a word that may go into metrics.
type Outcome string

const (
	// Cosigned means: a verified cosignature by each of the witness's keys.
	Cosigned Outcome = "cosigned"
	// NotAsked means: no request was made yet, or none has ended.
	NotAsked Outcome = "not-asked"
	// NoURL means: the policy does not say where the witness is.
	NoURL Outcome = "no-url"
	// Unreachable means: no answer came; what the witness did is unknown.
	Unreachable Outcome = "unreachable"
	// Unavailable means: a 5xx or another status that the protocol does not know;
	// what the witness did is unknown.
	Unavailable Outcome = "unavailable"
	// Quarantined means: 503 with a Retry-After: the witness signs nothing yet, as
	// one that was started with a fresh or restored state until it has caught up.
	Quarantined Outcome = "quarantined"
	// NotConfigured means: 403 or 404. Deployed witnesses use both for a log that
	// they do not follow.
	NotConfigured Outcome = "not-configured"
	// RateLimited means: 429.
	RateLimited Outcome = "rate-limited"
	// Refused means: 400 or 422: the witness holds the request to be wrong, or the
	// candidate to be inconsistent with what it cosigned.
	Refused Outcome = "refused"
	// OtherRoot means: 409 without a size. Witnesses that follow the specification of
	// March 2026 say so that they cosigned another root at this size.
	OtherRoot Outcome = "other-root"
	// Ahead means: 409 with a size above the candidate's.
	Ahead Outcome = "ahead"
	// Behind means: 409 with a size up to the candidate's, again after a proof from
	// that size was sent; from Probe, a size below.
	Behind Outcome = "behind"
	// KnowsNothing means: 409 with size 0. From Probe only.
	KnowsNothing Outcome = "knows-nothing"
	// BadAnswer means: a 200 whose body is not what the protocol says, or too long.
	BadAnswer Outcome = "bad-answer"
	// BadSignature means: a 200 without a line that verifies under each of the
	// witness's keys in the policy.
	BadSignature Outcome = "bad-signature"
	// BadTime means: a cosignature whose time is missing or too far from the log's.
	BadTime Outcome = "bad-time"
	// NoProof means: the log could not compute the proof that the witness needs.
	NoProof Outcome = "no-proof"
)

// WitnessResult is how one witness of the policy stands.
type WitnessResult struct {
	// Witness is the name of its line in the policy, URL the line's.
	Witness string
	URL     string
	Outcome Outcome
	// Size is what the witness says its newest checkpoint has, if the outcome
	// is Ahead, Behind or Cosigned. It is not authenticated unless Cosigned.
	Size uint64
	// Err says more; nil for Cosigned.
	Err error
}

// NoQuorumError says that a candidate did not get enough cosignatures in time,
// and where each witness of the policy stands, in the policy's order.
type NoQuorumError struct {
	Checkpoint checkpoint.Checkpoint
	Witnesses  []WitnessResult
}

func (e *NoQuorumError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no quorum for size %d of %q", e.Checkpoint.Size, e.Checkpoint.Origin)
	sep := ": "
	for _, w := range e.Witnesses {
		fmt.Fprintf(&b, "%s%s: %s", sep, w.Witness, w.Outcome)
		if w.Err != nil {
			fmt.Fprintf(&b, " (%v)", w.Err)
		}
		sep = "; "
	}
	return b.String()
}

// noQuorum collects where the witnesses stand.
func (p *Pool) noQuorum(r *round) *NoQuorumError {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &NoQuorumError{Checkpoint: r.note.Checkpoint()}
	superseded := p.latest != r
	for _, entry := range p.lines {
		w := WitnessResult{Witness: entry.Name, URL: entry.URL, Outcome: NoURL}
		if ep := p.endpointOf(entry); ep != nil {
			w.Outcome, w.Size, w.Err = ep.last.outcome, ep.last.size, ep.last.err
			if superseded {
				w.Outcome, w.Size, w.Err = NotAsked, 0, errors.New("a newer candidate took this one's place")
			}
			if _, ok := r.signed[entry.Name]; ok {
				w.Outcome, w.Size, w.Err = Cosigned, r.note.Checkpoint().Size, nil
			}
		}
		e.Witnesses = append(e.Witnesses, w)
	}
	return e
}

func (p *Pool) endpointOf(entry checkpoint.WitnessEntry) *endpoint {
	for _, e := range p.witnesses {
		for _, own := range e.entries {
			if own.Name == entry.Name {
				return e
			}
		}
	}
	return nil
}
