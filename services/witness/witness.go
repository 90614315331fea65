// Package witness is a C2SP tlog-witness: it cosigns checkpoints of the logs it
// is configured with, each at most one root for a size and always consistent
// with what it cosigned before.
//
// Trust: the state file is trusted to give back what was committed, as far as
// nobody else can tell: at the start a log's sources are asked for what the
// witness, or the log, has signed beyond it. Sources are trusted for nothing but
// to answer. Who signs a log list says which logs are followed, and cannot change
// what it said. The clock is trusted for the times in cosignatures, within bounds;
// senders of requests are trusted for nothing. What a lying witness can do is outvoted by the policy of
// whoever relies on it.
//
// Written from https://c2sp.org/tlog-witness at C2SP revision 5ba5ee8
// (2026-07-22), without sign-subtree, which is optional.
package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// Config is what a witness is made from.
type Config struct {
	// Keys are the witness's keys, one or both of Ed25519 cosignature (0x04)
	// and ML-DSA-44 (0x06), all of one name: the cosigner name. Each answer has
	// a line by each, in this order.
	Keys []*checkpoint.SigningKey

	// Logs are logs that are followed by name.
	Logs []Log

	// Lists are signed lists of further logs.
	Lists []List

	// Peers are base URLs of other witnesses' read interface; each is a source of
	// every log.
	Peers []string

	// Answers and FreshAnswers are how many sources of a log must have answered
	// before anything of it is cosigned. FreshAnswers is for a witness whose state
	// file held no checkpoint of any log at the start, and logs of which it holds
	// none yet; 0 means all. Otherwise Answers; 0 means a majority. So one peer
	// that is gone does not keep out every shard that opens later. More than there
	// are means all.
	Answers, FreshAnswers int

	// Transport carries requests to sources and for lists; nil means one of the
	// witness's own.
	Transport http.RoundTripper

	// ListInterval is the time between two looks at a list; 0 means five minutes,
	// and five seconds for a file.
	ListInterval time.Duration

	// StatePath is the state file; it is created when absent, and then every log
	// begins at size 0 or at what its sources show. One process at a time may have
	// it open.
	StatePath string

	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// Logger may be nil: nothing is logged then.
	Logger *slog.Logger
}

// Witness cosigns checkpoints. Make one with New, serve its Handler, watch its
// Run, and Close it last. It may be used concurrently.
type Witness struct {
	keys  []*checkpoint.SigningKey
	lists []*listed
	peers []string
	need  [2]int // Answers, FreshAnswers
	fresh bool   // the state file held no checkpoint at the start
	state *state
	now   func() time.Time
	log   *slog.Logger
	web   http.RoundTripper
	pause time.Duration // between two looks at a list; 0 for the default

	table    atomic.Pointer[table]
	changing sync.Mutex    // held while a table is made from the one before
	changed  chan struct{} // there is a table that Run has not seen

	closers []io.Closer // of the keys

	closing sync.Once
	closed  chan struct{}
}

// New checks the configuration and opens the state file. The witness is ready to
// answer when New returns.
func New(c Config) (*Witness, error) {
	w := &Witness{
		keys: c.Keys, peers: c.Peers, need: [2]int{c.Answers, c.FreshAnswers},
		now: c.Now, log: c.Logger, web: c.Transport, pause: c.ListInterval,
		changed: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	if w.now == nil {
		w.now = time.Now //nolint:forbidigo // the default of the clock that is handed in
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if w.web == nil {
		w.web = newTransport()
	}
	if err := checkKeys(c.Keys); err != nil {
		return nil, fmt.Errorf("making a witness: %w", err)
	}
	if len(c.Logs)+len(c.Lists) == 0 {
		return nil, errors.New("making a witness: expected at least one log or list")
	}
	if err := w.configured(c); err != nil {
		return nil, fmt.Errorf("making a witness: %w", err)
	}
	s, err := openState(c.StatePath, false)
	if err != nil {
		return nil, fmt.Errorf("making a witness: %w", err)
	}
	w.state = s
	if err := w.recall(); err != nil {
		return nil, errors.Join(fmt.Errorf("making a witness: %w", err), s.Close())
	}
	return w, nil
}

// configured makes the table and the lists of the configuration.
func (w *Witness) configured(c Config) error {
	logs := make([]*followed, len(c.Logs))
	for i, l := range c.Logs {
		f, err := w.newFollowed(l, "")
		if err != nil {
			return fmt.Errorf("log %q: %w", l.Origin, err)
		}
		logs[i] = f
		w.warnUnchecked(f)
	}
	first, err := (&table{}).with(logs)
	if err != nil {
		return err
	}
	w.table.Store(first)
	for i, l := range c.Lists {
		known, err := newListed(l)
		if err != nil {
			return fmt.Errorf("list %d: %w", i, err)
		}
		w.lists = append(w.lists, known)
	}
	return nil
}

// recall brings back what the state file knows: logs that are held, and the lists
// that were accepted. Lists in files are read too.
func (w *Witness) recall() (err error) {
	if w.fresh, err = w.state.empty(); err != nil {
		return err
	}
	for _, f := range w.table.Load().byOrigin {
		if err := w.restoreHold(f); err != nil {
			return err
		}
	}
	ctx := context.Background()
	if err := w.recallLists(ctx); err != nil {
		return err
	}
	for _, l := range w.lists {
		if l.c.File != "" {
			w.refresh(ctx, l)
		}
	}
	return nil
}

func checkKeys(keys []*checkpoint.SigningKey) error {
	if len(keys) == 0 {
		return errors.New("expected at least one key")
	}
	seen := make(map[checkpoint.Algorithm]bool)
	for _, k := range keys {
		v := k.Verifier()
		if a := v.Algorithm(); a != checkpoint.AlgEd25519Cosignature && a != checkpoint.AlgMLDSA44 {
			return fmt.Errorf("expected cosignature keys, got one for %s", a)
		}
		if v.Name() != keys[0].Verifier().Name() {
			return fmt.Errorf("expected keys of one name, got %q and %q", keys[0].Verifier().Name(), v.Name())
		}
		if seen[v.Algorithm()] {
			return fmt.Errorf("expected one %s key, got two", v.Algorithm())
		}
		seen[v.Algorithm()] = true
	}
	return nil
}

// Handler serves add-checkpoint and the read interface of tlog-witness under one
// prefix. Time-outs and TLS are the server's.
func (w *Witness) Handler() http.Handler { return w.routes() }

// Run asks the sources of logs, keeps up with the lists, and returns nil when ctx
// is done or the witness is closed. It returns an error when a write to the state
// file failed: nothing is cosigned any more then, and only a new process can find
// out what the disk holds.
func (w *Witness) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	for _, l := range w.lists {
		work.Go(func() { w.keepUp(ctx, l) })
	}
	work.Go(func() { w.endQuarantines(ctx) })
	select {
	case <-ctx.Done():
		return nil
	case <-w.closed:
		return nil
	case <-w.state.Failed():
		return fmt.Errorf("running the witness: %w", w.state.Err())
	}
}

// Close closes the state file after the requests under way. Later requests are
// refused.
func (w *Witness) Close() (err error) {
	w.closing.Do(func() {
		close(w.closed)
		err = errors.Join(w.state.Close(), closeAll(w.closers))
	})
	return err
}
