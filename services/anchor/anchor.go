// Package anchor has a shard's published checkpoints seen by others at a slower
// pace than the log's own: public witnesses cosign them (C2SP tlog-witness), and
// time-stamp authorities date them (RFC 3161). What they say is kept beside the
// tiles, and goes into receipts that are refreshed to ANCHORED.
//
// Trust: a witness or an authority can withhold its signature and nothing else;
// what it answers is verified before it is kept. The store is trusted for
// durability: what is read from it is verified against the policy.
//
// Nothing here ever keeps the log waiting, or stops it.
package anchor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/anchored"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/internal/tile"
)

// Witnesses asks witnesses for cosignatures. It is given a checkpoint with the
// signatures of the log and of others, and forwards those of the log only.
type Witnesses interface {
	// Gather returns the cosignatures that came when all witnesses have answered or
	// its time is over, and why others did not come: nil if all did. Checkpoints
	// are given in the order of their sizes; prove returns the consistency proof
	// between two sizes, 0 < old < size, and may be called after Gather returned.
	Gather(
		ctx context.Context, note *checkpoint.Note, prove func(ctx context.Context, old, size uint64) ([][32]byte, error),
	) (signed []checkpoint.Signature, missing error)
}

// Witness is a witness that Config.Witnesses asks.
type Witness struct {
	// Name is for logs and metrics.
	Name string
	// Keys are its keys, of which each is to sign.
	Keys []*checkpoint.VerifierKey
	// URL is its submission prefix.
	URL string
}

// Authority is a time-stamp authority that is asked for tokens.
type Authority struct {
	// Authority is how its tokens are judged. Its name is for logs and metrics, too,
	// and its policy is asked for.
	anchored.Authority

	// URL takes time-stamp queries by POST.
	URL string
}

// Config is what a Worker works with. It owns none of it.
type Config struct {
	// Origin is that of the shard.
	Origin string
	// Store holds the shard's tiles and its published checkpoint, and takes the
	// anchored ones.
	Store blob.Store
	// Policy is the one by which the log publishes, and by which what was anchored
	// must still be acceptable.
	Policy *verify.Policy
	// Gatherer asks Witnesses; nil if there are none.
	Gatherer Witnesses
	// Witnesses are those that Gatherer asks.
	Witnesses []Witness
	// Authorities are asked for tokens.
	Authorities []Authority
	// Interval is the least time between two anchors; 1 min, and not less.
	Interval time.Duration

	// HTTP speaks to the authorities; nil means a client of the package's own.
	// Redirects are not followed.
	HTTP *http.Client
	// Registerer takes the metrics; may be nil.
	Registerer prometheus.Registerer
	Now        func() time.Time
	Logger     *slog.Logger
	// Pause waits; nil means run.Pause. Another one is for tests.
	Pause func(context.Context, time.Duration) error
}

const (
	// leastInterval is how seldom public witnesses and authorities want to be asked.
	leastInterval = time.Minute
	// looks is how often within an interval the worker looks for growth.
	looks = 12
	// longestRetry bounds the pause before those who have not answered are asked
	// again for a checkpoint that others have anchored, or for the first one.
	longestRetry = time.Hour
)

// Worker anchors the checkpoints of one shard. Make it with New, then Run it.
type Worker struct {
	c       Config
	log     *slog.Logger
	client  *http.Client
	reader  *tile.Reader
	metrics *metrics

	// What follows is Step's alone.

	newest *anchored.Record // as far as known; nil if there is none
	loaded bool             // newest was read from the store
	// unsaved is what was gathered and could not be written: nobody is asked for it
	// twice.
	unsaved *anchored.Record
	// last is when somebody was asked last, failures how often one after the other
	// not everybody has answered, and retry the pause that follows from that.
	last     time.Time
	failures int
	retry    time.Duration
	said     map[string]string // what was logged last, by party
}

// New checks the configuration and makes a Worker. It asks and reads nothing.
func New(c Config) (*Worker, error) {
	switch {
	case c.Origin == "" || c.Store == nil || c.Policy == nil || c.Now == nil || c.Logger == nil:
		return nil, errors.New("anchor: expected an origin, a store, a policy, a clock and a logger")
	case len(c.Witnesses) == 0 && len(c.Authorities) == 0:
		return nil, errors.New("anchor: expected a witness or an authority")
	case (c.Gatherer == nil) != (len(c.Witnesses) == 0):
		return nil, errors.New("anchor: expected witnesses and who asks them, or neither")
	case len(c.Authorities) > anchored.MaxTokens:
		return nil, fmt.Errorf("anchor: expected at most %d authorities", anchored.MaxTokens)
	case c.Interval != 0 && c.Interval < leastInterval:
		return nil, fmt.Errorf("anchor: expected an interval of at least %s, got %s", leastInterval, c.Interval)
	}
	if c.Interval == 0 {
		c.Interval = leastInterval
	}
	if c.Pause == nil {
		c.Pause = run.Pause
	}
	w := &Worker{
		c: c, log: c.Logger.With("origin", c.Origin), client: boundedClient(c.HTTP),
		reader: tile.NewReader(c.Store), said: map[string]string{},
	}
	names := map[string]bool{}
	for _, name := range w.parties() {
		if name == "" || names[name] {
			return nil, fmt.Errorf("anchor: %q: expected a name for each witness and authority, each once", name)
		}
		names[name] = true
	}
	for i := range c.Authorities {
		if c.Authorities[i].Certificate == nil {
			return nil, fmt.Errorf("anchor: authority %s: expected a certificate", c.Authorities[i].Name)
		}
	}
	var err error
	w.metrics, err = newMetrics(c.Registerer, w.parties())
	return w, err
}

// parties are the names of all who are asked.
func (w *Worker) parties() []string {
	names := make([]string, 0, len(w.c.Witnesses)+len(w.c.Authorities))
	for i := range w.c.Witnesses {
		names = append(names, w.c.Witnesses[i].Name)
	}
	for i := range w.c.Authorities {
		names = append(names, w.c.Authorities[i].Name)
	}
	return names
}

// Run works until ctx ends. What fails is tried again.
func (w *Worker) Run(ctx context.Context) error {
	told := ""
	for {
		err := w.Step(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != told && err != nil {
			w.log.WarnContext(ctx, "the checkpoint is not anchored", "error", err)
		}
		told = text
		if w.c.Pause(ctx, w.c.Interval/looks) != nil {
			return nil //nolint:nilerr // it was told to end
		}
	}
}

// judges returns the authorities as their tokens are judged.
func (w *Worker) judges() []anchored.Authority {
	list := make([]anchored.Authority, len(w.c.Authorities))
	for i := range list {
		list[i] = w.c.Authorities[i].Authority
	}
	return list
}
