package witness

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// gateState says whether a log's checkpoints are cosigned.
type gateState int

const (
	cosigning   gateState = iota // they are
	quarantined                  // not before its sources were heard
	held                         // never again: see heldBucket
)

func (s gateState) String() string {
	switch s {
	case cosigning:
		return "cosigning"
	case quarantined:
		return "quarantine"
	case held:
		return "held"
	default:
		return "unknown"
	}
}

// gate is what stands between a log and a cosignature after a start.
type gate struct {
	kick chan struct{} // somebody waits: look now

	mu      sync.Mutex
	sources []source
	state   gateState
	reason  string // why nothing is cosigned; empty while it is
	// floor is a checkpoint beyond the record that the log signed and for which
	// there is no proof yet: other witnesses have it, the log has not published
	// it. The log itself may prove it, by asking for this one checkpoint; were it
	// not so, witnesses would wait for the log's tiles and the log, which
	// publishes what a quorum has signed, for its witnesses.
	floor *checkpoint.Checkpoint
}

// retryQuarantine is when to ask again during the quarantine.
const retryQuarantine = time.Second

// refusal returns the answer to a checkpoint that carries the log's signature,
// while it cannot be judged; false if it can.
func (g *gate) refusal(c checkpoint.Checkpoint) (answer, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.state == cosigning, g.state == quarantined && g.floor != nil && *g.floor == c:
		return answer{}, false
	case g.state == held:
		return heldAnswer(g.reason), true
	}
	select {
	case g.kick <- struct{}{}:
	default: // it is known already
	}
	a := refuse(http.StatusServiceUnavailable, "quarantine", "", errors.New("nothing of this log is cosigned yet: "+g.reason))
	a.retryAfter = retryQuarantine
	return a, true
}

func heldAnswer(reason string) answer {
	return refuse(http.StatusServiceUnavailable, "held", "", errors.New("nothing of this log is cosigned any more: "+reason))
}

// passed ends the quarantine when the checkpoint was cosigned that it waited for.
func (g *gate) passed(c checkpoint.Checkpoint) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == quarantined && g.floor != nil && *g.floor == c {
		g.state, g.reason, g.floor = cosigning, "", nil
	}
}

func (g *gate) wait(reason string, floor *checkpoint.Checkpoint) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == quarantined {
		g.reason, g.floor = reason, floor
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == quarantined {
		g.state, g.reason, g.floor = cosigning, "", nil
	}
}

func (g *gate) hold(reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state, g.reason, g.floor = held, reason, nil
}

// now returns the state and the reason.
func (g *gate) now() (gateState, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state, g.reason
}

func (g *gate) asked() []source {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sources
}
