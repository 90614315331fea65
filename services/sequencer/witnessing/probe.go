package witnessing

import (
	"context"
	"fmt"
	"sync"

	"github.com/trialog/trialog/api/checkpoint"
)

// Probe sends a checkpoint that the log has registered and signed before to
// every witness once more, with its own size as the old one and no proof, and
// returns where each witness of the policy stands, in the policy's order, but for
// those of Config.Without. It is how a log that starts finds out whether it was put back.
//
//   - Cosigned: the witness holds this very checkpoint. Some deployed witnesses
//     answer so on first contact too; then it is no evidence.
//   - KnowsNothing, Behind: it holds less, as it says.
//   - Ahead: it says that it holds more. The log was put back, or it lies: a
//     size is not signed.
//   - OtherRoot, Refused: it holds another root at this size: a fork, or a lie.
//   - Anything else: it has not answered; see Pool.Unasked.
//
// Nothing that is learnt here changes what Cosign does, except for the size of
// witnesses that cosigned.
func (p *Pool) Probe(ctx context.Context, note *checkpoint.Note) ([]WitnessResult, error) {
	own, err := p.logSigned(note)
	if err != nil {
		return nil, fmt.Errorf("probing witnesses: %w", err)
	}
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("probing witnesses: %w", ErrClosed)
	}
	ctx, cancel := p.callContext(ctx)
	defer cancel()
	replies := make([]reply, len(p.witnesses))
	var wg sync.WaitGroup
	for i, e := range p.witnesses {
		wg.Go(func() { replies[i] = p.probe(ctx, e, own) })
	}
	wg.Wait()
	byName := make(map[string]reply)
	for i, e := range p.witnesses {
		for _, entry := range e.entries {
			byName[entry.Name] = replies[i]
		}
	}
	var out []WitnessResult
	for _, entry := range p.lines {
		w := WitnessResult{Witness: entry.Name, URL: entry.URL, Outcome: NoURL}
		if rep, ok := byName[entry.Name]; ok {
			w.Outcome, w.Size, w.Err = rep.outcome, rep.size, rep.err
			if _, signed := rep.signed[entry.Name]; signed {
				w.Outcome, w.Size, w.Err = Cosigned, own.Checkpoint().Size, nil
			}
		}
		out = append(out, w)
	}
	return out, nil
}

func (p *Pool) probe(ctx context.Context, e *endpoint, note *checkpoint.Note) reply {
	size := note.Checkpoint().Size
	rep := p.post(ctx, e, size, nil, note)
	switch {
	case len(rep.signed) > 0:
		p.mu.Lock()
		e.size = max(e.size, size)
		p.mu.Unlock()
	case rep.outcome == Behind && rep.size == 0:
		rep.outcome = KnowsNothing
	case rep.outcome == Behind && rep.size > size:
		rep.outcome = Ahead
	case rep.outcome == Behind && rep.size == size:
		// It was asked with this size as the old one.
		rep.outcome = BadAnswer
	}
	return rep
}

// Unasked says whether the witnesses that have not answered a Probe could form a
// quorum by themselves: then they may hold, all of them, a checkpoint that this
// log has forgotten, and nothing new may be signed.
func (p *Pool) Unasked(results []WitnessResult) bool {
	if p.policy.Quorum(func(string) bool { return false }) {
		return false // nobody is needed
	}
	open := make(map[string]bool)
	for _, w := range results {
		switch w.Outcome {
		case Cosigned, KnowsNothing, Behind, Ahead, OtherRoot, Refused:
		default:
			open[w.Witness] = true
		}
	}
	return p.policy.Quorum(func(name string) bool { return open[name] })
}
