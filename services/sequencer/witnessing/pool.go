// Package witnessing asks witnesses to cosign a log's checkpoints: one candidate
// at a time, to all witnesses at once, until the policy's quorum is met.
//
// Trust: nobody. A witness can withhold its cosignature and nothing else. What
// it answers is used for two things only: cosignatures, each verified under the
// one key that the policy gives it, and the size from which it wants a
// consistency proof, which is the log's own to compute. Nothing that a witness
// says makes a log go back.
//
// The protocol is https://c2sp.org/tlog-witness at C2SP revision 5ba5ee8
// (2026-07-22), with the deviations of witnesses that are deployed today.
package witnessing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// ProveFunc returns the RFC 6962 consistency proof between two sizes of the log,
// 0 < old < size; size is that of a candidate given to Cosign. It is called
// concurrently, also after Cosign returned, until the Pool is closed.
type ProveFunc = func(ctx context.Context, old, size uint64) ([][32]byte, error)

// Config is what a Pool is made from.
type Config struct {
	// Policy names the log's keys, the witnesses with their URLs, and the
	// quorum. Witness lines with one URL are the keys of one witness, which is
	// asked once for all of them.
	Policy *checkpoint.Policy

	// HTTP does the requests; nil means a client of the package's own. Its
	// redirect rule is not used: redirects are not followed.
	HTTP *http.Client

	// Now is the clock that cosignatures' times are held against; nil means
	// time.Now.
	Now func() time.Time

	// Logger may be nil: nothing is logged then.
	Logger *slog.Logger

	// Timeout bounds one call of Cosign, Gather or Probe; 0 means 5 s. A single
	// request may take four times as long, so that a slow witness is late, not
	// lost.
	Timeout time.Duration

	// Without tells which lines of the policy this Pool has nothing to do with:
	// witnesses that are asked elsewhere, and keys that no longer count. They are
	// not asked, and the quorum is to be met without them. nil: none.
	Without func(checkpoint.WitnessEntry) bool

	// MaxBackoff bounds the pause after failures one after the other, which is
	// doubled each time; 0 means 5 s.
	MaxBackoff time.Duration
}

// defaultTimeout is used when the configuration says nothing.
const defaultTimeout = 5 * time.Second

// MaxSkew is how far the time of a new cosignature may be from the log's clock,
// in either direction. One dated back would prove that entries existed before
// they did; one dated ahead would prove that beacons were seen later than they
// were.
const MaxSkew = 5 * time.Minute

// ErrClosed is returned by a Pool that was closed.
var ErrClosed = errors.New("the witness pool is closed")

// ErrBackwards is returned for a candidate that is behind, or at the size of, an
// earlier candidate with another text: the log would contradict itself.
var ErrBackwards = errors.New("the candidate does not follow the one before it")

// Pool is the witnesses of one log. It may be used concurrently; of two
// candidates the newer one is worked on.
type Pool struct {
	policy  *checkpoint.Policy
	client  *http.Client
	now     func() time.Time
	log     *slog.Logger
	timeout time.Duration
	// ownClient: nobody else uses the client's connections.
	ownClient bool
	// lines are the policy's witness lines, but for those of Config.Without.
	lines      []checkpoint.WitnessEntry
	maxBackoff time.Duration

	// witnesses is fixed; what is in them is guarded by mu.
	witnesses []*endpoint

	ctx    context.Context //nolint:containedctx // the life of the background work, ended by Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	latest *round
	closed bool
}

// endpoint is one witness: a URL and the policy's lines with it.
type endpoint struct {
	url     string // submission prefix
	entries []checkpoint.WitnessEntry

	// The rest is guarded by Pool.mu.

	size      uint64 // its latest cosigned size, as far as known; 0 if not
	running   bool   // a worker is on it
	notBefore time.Time
	failures  int // one after the other; for backing off
	// settled is the attempt of the newest round after which there is nothing
	// more to ask for, and 0 if there is.
	settled uint64
	last    reply // to the newest round
}

// round is the work on one candidate.
type round struct {
	note  *checkpoint.Note // text and the log's signatures, nothing else
	prove ProveFunc
	// attempt is counted up when the same candidate is given again.
	attempt uint64
	// signed holds verified cosignatures by the names of witness lines.
	signed map[string]checkpoint.Signature
	// changed is closed and replaced when signed grows.
	changed chan struct{}
}

// New makes a Pool. It refuses a policy whose quorum cannot be met by witnesses
// that have a URL.
func New(c Config) (*Pool, error) {
	p := &Pool{
		policy: c.Policy, now: c.Now, log: c.Logger, timeout: c.Timeout, ownClient: c.HTTP == nil, maxBackoff: c.MaxBackoff,
	}
	if p.policy == nil {
		return nil, errors.New("making a witness pool: expected a policy")
	}
	if p.now == nil {
		p.now = time.Now //nolint:forbidigo // the default of the clock that is handed in
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.timeout <= 0 {
		p.timeout = defaultTimeout
	}
	if p.maxBackoff <= 0 {
		p.maxBackoff = maxBackoff
	}
	client := http.Client{Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}}
	if c.HTTP != nil {
		client = *c.HTTP
	}
	// A redirect would let a witness point the log's requests anywhere.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	p.client = &client
	reachable, err := p.addAll(c.Without)
	if err != nil {
		return nil, fmt.Errorf("making a witness pool: %w", err)
	}
	if !p.policy.Quorum(func(name string) bool { return reachable[name] }) {
		return nil, errors.New("making a witness pool: the witnesses with a URL cannot meet the policy's quorum")
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// addAll takes the policy's lines up and returns the names of those that can be
// asked.
func (p *Pool) addAll(without func(checkpoint.WitnessEntry) bool) (reachable map[string]bool, err error) {
	reachable = make(map[string]bool)
	for _, entry := range p.policy.Witnesses() {
		if without != nil && without(entry) {
			continue
		}
		p.lines = append(p.lines, entry)
		if entry.URL == "" {
			continue
		}
		u, err := url.Parse(entry.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("witness %s: expected an http or https URL, got %q", entry.Name, entry.URL)
		}
		reachable[entry.Name] = true
		p.add(entry)
	}
	return reachable, nil
}

func (p *Pool) add(entry checkpoint.WitnessEntry) {
	prefix := strings.TrimRight(entry.URL, "/")
	i := slices.IndexFunc(p.witnesses, func(e *endpoint) bool { return e.url == prefix })
	if i < 0 {
		i = len(p.witnesses)
		p.witnesses = append(p.witnesses, &endpoint{url: prefix})
	}
	p.witnesses[i].entries = append(p.witnesses[i].entries, entry)
}

// Close stops what goes on in the background and waits for it. Calls of Cosign
// and Probe under way return.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.work.Wait()
	if p.ownClient {
		p.client.CloseIdleConnections()
	}
	return nil
}

// Cosign gives the candidate to every witness and returns as soon as the
// policy's quorum is met: the candidate's text, the log's signatures, and all
// cosignatures gathered until then, checked by the policy. Other signatures on
// the candidate are dropped.
//
// If there is no quorum within the time-out, or when all witnesses have answered,
// it returns a *NoQuorumError. In either case witnesses that have not answered go on being asked in the
// background, for the newest candidate only; giving the same candidate again
// keeps what was gathered.
func (p *Pool) Cosign(ctx context.Context, note *checkpoint.Note, prove ProveFunc) (*checkpoint.Note, error) {
	ctx, cancel := p.callContext(ctx)
	defer cancel()
	r, err := p.begin(note, prove) //nolint:contextcheck // what it starts outlives the caller; Close ends it
	if err != nil {
		return nil, fmt.Errorf("cosigning: %w", err)
	}
	for {
		cosigned, changed, err := p.quorum(r)
		if cosigned != nil || err != nil {
			return cosigned, err
		}
		if changed == nil {
			return nil, p.noQuorum(r)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, p.gaveUp(ctx, r)
		}
	}
}

// errTimeout ends a call of Cosign or Probe.
var errTimeout = errors.New("the time-out of the call has passed")

// callContext is the context of a call: it ends with the caller's, after the
// time-out and when the pool is closed.
func (p *Pool) callContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	timed, stop := context.WithTimeoutCause(ctx, p.timeout, errTimeout)
	release := context.AfterFunc(p.ctx, func() { cancel(ErrClosed) })
	return timed, func() { release(); stop(); cancel(nil) }
}

// gaveUp is why a round ended without a quorum.
func (p *Pool) gaveUp(ctx context.Context, r *round) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, errTimeout) {
		return p.noQuorum(r)
	}
	return fmt.Errorf("waiting for cosignatures: %w: %w", cause, p.noQuorum(r))
}

// begin makes the candidate the newest one and wakes the witnesses' workers.
func (p *Pool) begin(note *checkpoint.Note, prove ProveFunc) (*round, error) {
	own, err := p.logSigned(note)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	r := p.latest
	switch {
	case r != nil && bytes.Equal(r.note.Text(), own.Text()):
		r.note, r.prove = own, prove
		r.attempt++
	case r != nil && own.Checkpoint().Size <= r.note.Checkpoint().Size:
		return nil, fmt.Errorf("%w: size %d after size %d", ErrBackwards, own.Checkpoint().Size, r.note.Checkpoint().Size)
	default:
		r = &round{note: own, prove: prove, attempt: 1, signed: make(map[string]checkpoint.Signature), changed: make(chan struct{})}
		p.latest = r
		for _, e := range p.witnesses {
			e.settled, e.last = 0, reply{outcome: NotAsked}
		}
	}
	for _, e := range p.witnesses {
		if !e.running && p.wants(e, r) {
			e.running = true
			p.work.Go(func() { p.follow(e) })
		}
	}
	return r, nil
}

// logSigned is the note with the signatures of the policy's log keys only: other
// witnesses' lines are none of a witness's business and may not fit its limits.
func (p *Pool) logSigned(note *checkpoint.Note) (*checkpoint.Note, error) {
	origin := note.Checkpoint().Origin
	var sigs []checkpoint.Signature
	for _, sig := range note.Signatures() {
		for _, l := range p.policy.Logs() {
			if l.Key.Name() != origin || sig.Name != l.Key.Name() || sig.KeyID != l.Key.ID() {
				continue
			}
			if _, err := l.Key.VerifyCheckpoint(note, sig); err != nil {
				return nil, err
			}
			sigs = append(sigs, sig)
		}
	}
	if len(sigs) == 0 {
		return nil, fmt.Errorf("the candidate has no signature by a key of log %q in the policy", origin)
	}
	return checkpoint.NewNote(note.Text(), sigs...)
}

// Gather gives the candidate to every witness, and returns the cosignatures that
// came when all witnesses have answered or the time-out has passed, whether or not
// they are a quorum. missing is nil if every key of every witness has signed, else
// it is why not: a *NoQuorumError, or that nobody could be asked.
//
// As with Cosign, who has not answered goes on being asked in the background, and
// giving the same candidate again keeps what was gathered.
func (p *Pool) Gather(ctx context.Context, note *checkpoint.Note, prove ProveFunc) (signed []checkpoint.Signature, missing error) {
	ctx, cancel := p.callContext(ctx)
	defer cancel()
	r, err := p.begin(note, prove) //nolint:contextcheck // what it starts outlives the caller; Close ends it
	if err != nil {
		return nil, fmt.Errorf("gathering cosignatures: %w", err)
	}
	for {
		p.mu.Lock()
		changed, asking := r.changed, p.asking(r)
		signed = signed[:0]
		for _, entry := range p.lines {
			if sig, ok := r.signed[entry.Name]; ok {
				signed = append(signed, sig)
			}
		}
		p.mu.Unlock()
		switch {
		case len(signed) == len(p.lines):
			return signed, nil
		case !asking:
			return signed, p.noQuorum(r)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return signed, p.gaveUp(ctx, r)
		}
	}
}

// asking tells whether some witness is still to answer. Pool.mu is held.
func (p *Pool) asking(r *round) bool {
	return p.latest == r && slices.ContainsFunc(p.witnesses, func(e *endpoint) bool { return p.wants(e, r) })
}

// quorum returns the cosigned note if the policy is satisfied, else what to wait
// for, which is nil once every witness has answered.
func (p *Pool) quorum(r *round) (*checkpoint.Note, <-chan struct{}, error) {
	p.mu.Lock()
	changed := r.changed
	var sigs []checkpoint.Signature
	signed := make(map[string]bool)
	for _, entry := range p.lines {
		if sig, ok := r.signed[entry.Name]; ok {
			sigs, signed[entry.Name] = append(sigs, sig), true
		}
	}
	asking := p.asking(r)
	own := r.note
	p.mu.Unlock()
	if !p.policy.Quorum(func(name string) bool { return signed[name] }) {
		if !asking {
			changed = nil
		}
		return nil, changed, nil
	}
	cosigned, err := own.With(sigs...)
	if err != nil {
		return nil, nil, fmt.Errorf("adding cosignatures: %w", err)
	}
	// What is published is judged once more, as its readers will judge it.
	if _, err := p.policy.Check(cosigned); err != nil {
		return nil, nil, fmt.Errorf("checking the cosigned checkpoint: %w", err)
	}
	return cosigned, nil, nil
}
