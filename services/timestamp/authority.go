package timestamp

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	api "github.com/trialog/trialog/api/timestamp"
	"github.com/trialog/trialog/services/internal/clock"
	"github.com/trialog/trialog/services/internal/run"
)

// MaxAccuracy is the worst accuracy that an authority may state.
const MaxAccuracy = time.Second

// maxAtOnce is how many requests are worked on at once; each holds a place in
// the queue of a commit.
const maxAtOnce = 1024

// Clock gives the time with what it may be off, or says that nobody knows.
// *clock.Guard is one. Read is called by many goroutines at once.
type Clock interface {
	Read() (clock.Reading, error)
}

// Config is what an Authority is made of. All but Journal, Registerer, Random and
// Pause is needed.
type Config struct {
	// Key signs tokens, and nothing else. It is on P-256, and may be used
	// concurrently.
	Key crypto.Signer
	// Chain is PEM: the certificate of Key, and its issuers behind it.
	Chain []byte
	// Policy is the policy under which tokens are made.
	Policy asn1.ObjectIdentifier
	// Accuracy is the worst one that a token may state, 1 ms to MaxAccuracy.
	Accuracy time.Duration
	Clock    Clock
	// StateFile is created when it is absent. One process has it at a time.
	StateFile string
	// Journal is where the records of tokens are logged; nil for nowhere.
	Journal *JournalConfig
	// Registerer takes the metrics; nil: none.
	Registerer prometheus.Registerer
	// Random is crypto/rand if nil.
	Random io.Reader
	// Pause waits; another one in tests only.
	Pause  func(context.Context, time.Duration) error
	Logger *slog.Logger
}

// Authority issues time-stamp tokens. Make it with Open, then Run it; Issue may be
// called by several goroutines at once.
type Authority struct {
	c       Config
	unit    *unit
	state   *state
	life    life
	journal *journal // nil for none
	metrics *metrics
	places  chan struct{}
}

// Open opens the state file and returns an authority, complete but for Run.
func Open(c Config) (*Authority, error) {
	switch {
	case c.Key == nil || c.Clock == nil || c.Logger == nil || len(c.Policy) == 0:
		return nil, errors.New("timestamp: expected a key, a clock, a policy and a logger")
	case c.Accuracy < time.Millisecond || c.Accuracy > MaxAccuracy:
		return nil, fmt.Errorf("timestamp: accuracy: expected 1ms to %s, got %s", MaxAccuracy, c.Accuracy)
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Pause == nil {
		c.Pause = run.Pause
	}
	u, err := newUnit(c.Key, c.Chain)
	if err != nil {
		return nil, fmt.Errorf("timestamp: %w", err)
	}
	a := &Authority{c: c, unit: u, places: make(chan struct{}, maxAtOnce)}
	if a.state, err = openState(c.StateFile); err != nil {
		return nil, fmt.Errorf("timestamp: %w", err)
	}
	if c.Journal != nil {
		a.journal, err = newJournal(*c.Journal, a.state, c)
	}
	if err == nil {
		a.metrics, err = newMetrics(c.Registerer, a)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("timestamp: %w", err), a.state.close())
	}
	return a, nil
}

// Close closes the state file, when no call of Issue is under way any more.
func (a *Authority) Close() error { return a.state.close() }

// Chain returns the certificates as PEM, that of the key first.
func (a *Authority) Chain() []byte { return a.unit.chain }

// Issue answers one TimeStampReq with a TimeStampResp that grants a token. The
// error is a *RefusalError, whose Reply is what to answer instead.
//
// The token's record is durable before there is a token. The time in it is one
// that was itself held against the sources, and they are asked once more before
// the token is let out: one that was made while the clock went wrong is dropped,
// and only its record remains.
func (a *Authority) Issue(query []byte) ([]byte, error) {
	reply, err := a.issue(query)
	a.metrics.answered(err)
	return reply, err
}

func (a *Authority) issue(query []byte) ([]byte, error) {
	req, err := parseRequest(query)
	if err != nil {
		return nil, err
	}
	// SPEC (RFC 3161, 2.4.1): "If the reqPolicy … is not accepted: unacceptedPolicy".
	if req.Policy != nil && !req.Policy.Equal(a.c.Policy) {
		return nil, &RefusalError{Failure: api.UnacceptedPolicy, Text: fmt.Sprintf("reqPolicy: expected none, or %s", a.c.Policy)}
	}
	select {
	case a.places <- struct{}{}:
		defer func() { <-a.places }()
	default:
		return nil, &RefusalError{Failure: api.SystemFailure, Text: "too many requests at once; try again"}
	}
	info, err := a.info(req)
	if err != nil {
		return nil, err
	}
	token, err := a.make(req, info)
	if err != nil {
		return nil, &RefusalError{Failure: api.SystemFailure, Text: "the token could not be made; try again", Err: err}
	}
	if _, _, err := a.read(); err != nil {
		return nil, err
	}
	return token, nil
}

// make records a token durably, and then makes it.
func (a *Authority) make(req *request, info *tstInfo) ([]byte, error) {
	der, err := info.encode()
	if err != nil {
		return nil, fmt.Errorf("encode the token's content: %w", err)
	}
	if err := a.state.add(&record{serial: info.serial, time: info.time, imprint: recordImprint(req.Digest)}); err != nil {
		return nil, err
	}
	token, err := a.unit.token(der, req.CertReq)
	if err != nil {
		return nil, err
	}
	return grantedReply(token)
}

// info is what the token for a request says now.
func (a *Authority) info(req *request) (*tstInfo, error) {
	t, accuracy, err := a.read()
	if err != nil {
		return nil, err
	}
	number, err := a.life.next(t, a.c.Random, a.state.beginLife)
	if err != nil {
		return nil, &RefusalError{Failure: api.SystemFailure, Text: "no serial number could be given; try again", Err: err}
	}
	return &tstInfo{
		policy: a.c.Policy, imprint: req.imprint, serial: number, time: t, accuracy: accuracy, nonce: req.Nonce,
	}, nil
}

// read returns the time, cut to the millisecond, and how far it may be off,
// rounded up. An error is a *RefusalError: nothing may be issued now.
func (a *Authority) read() (time.Time, time.Duration, error) {
	now, err := a.c.Clock.Read()
	if err != nil {
		return time.Time{}, 0, &RefusalError{Failure: api.TimeNotAvailable, Text: "the time is not available now; try again later", Err: err}
	}
	t := now.Time.Truncate(time.Millisecond)
	accuracy := now.Bound + now.Time.Sub(t)
	if cut := accuracy.Truncate(time.Millisecond); cut < accuracy {
		accuracy = cut + time.Millisecond
	}
	// RFC 3161, 2.4.2, knows no accuracy of zero.
	accuracy = max(accuracy, time.Millisecond)
	if accuracy > a.c.Accuracy {
		return time.Time{}, 0, &RefusalError{
			Failure: api.TimeNotAvailable, Text: "the time is not available within the stated accuracy now; try again later",
			Err: fmt.Errorf("the clock may be off by %s, expected at most %s", accuracy, a.c.Accuracy),
		}
	}
	if !a.unit.covers(t, accuracy) {
		return time.Time{}, 0, &RefusalError{
			Failure: api.SystemFailure, Text: "the authority's certificate is not valid now",
			Err: fmt.Errorf("the certificates are valid together from %s to %s", a.unit.from, a.unit.until),
		}
	}
	return t, accuracy, nil
}

// Ready returns nil if a token would be issued now, and why not otherwise.
func (a *Authority) Ready() error {
	if err := a.state.Err(); err != nil {
		return err
	}
	_, _, err := a.read()
	return err
}

// watchInterval is the time between two looks at whether tokens are issued.
const watchInterval = time.Second

// Run logs records and tells when the authority stops and goes on, until ctx
// ends. It returns an error when the state file can no longer be written: then the
// process is to be started again.
func (a *Authority) Run(ctx context.Context) error {
	parts := []run.Part{{Name: "state", Run: a.waitForFailure}, {Name: "watch", Run: a.watch}}
	if a.journal != nil {
		parts = append(parts, run.Part{Name: "journal", Run: a.journal.run})
	}
	return run.All(ctx, parts...)
}

func (a *Authority) waitForFailure(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.state.Failed():
		return a.state.Err()
	}
}

// watch logs changes between issuing and not issuing.
func (a *Authority) watch(ctx context.Context) error {
	for issuing, told := false, false; ; told = true {
		err := a.Ready()
		switch {
		case err == nil && (!issuing || !told):
			a.c.Logger.Info("tokens are issued")
		case err != nil && (issuing || !told):
			a.c.Logger.Warn("no tokens are issued", "error", err)
		}
		issuing = err == nil
		if a.c.Pause(ctx, watchInterval) != nil {
			return nil //nolint:nilerr // it was told to end
		}
	}
}
