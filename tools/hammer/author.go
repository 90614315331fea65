package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/statement"
)

// author is the organisation in whose name everything is said.
type author struct {
	plan   *plan
	rest   *client.Client
	key    *statement.PrivateKey
	random io.Reader
	now    func() time.Time

	free chan *chain // those that nothing is under way in

	mu     sync.Mutex
	beacon *statement.Beacon
	note   []byte
}

// chain is one chain of statements, in a trial of its own. One statement at a
// time is under way in it, as with a submitter who reads the answers: so one that
// the log is too busy for does not take others down with it.
type chain struct {
	trial string
	first statement.Identity // of the trial
	link  statement.Link     // of the next statement
	next  *prepared          // the next statement; nil if it is not made yet
	ahead []*prepared        // those behind it, if they were made before the start
}

// prepared is a statement that is ready to be sent, any number of times.
type prepared struct {
	client.Submission

	link statement.Link // behind it
}

// enrol makes the organisation known to the log.
func (a *author) enrol(ctx context.Context) error {
	recovery, err := statement.GenerateKey(a.random)
	if err != nil {
		return err
	}
	if err := a.refresh(ctx); err != nil {
		return err
	}
	s := &statement.Statement{
		Kind: statement.KindKey, Subject: statement.SubjectKey, Digest: a.key.ID(), Chain: statement.Link{Number: 1},
		Attributes: []statement.Member{
			statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", a.key.Public()),
			statement.ListMember("roles", string(statement.Sponsor)), statement.KeyMember("recovery", recovery.Public()),
		},
	}
	x, err := a.sign(s)
	if err != nil {
		return err
	}
	if _, err := a.rest.Submit(ctx, x.Envelope, x.Beacon, client.Final); err != nil {
		return fmt.Errorf("enrol organisation %s: %w", a.plan.organisation, err)
	}
	return a.refresh(ctx)
}

// open opens a trial for each chain.
func (a *author) open(ctx context.Context) error {
	a.free = make(chan *chain, a.plan.chains)
	for from := 0; from < a.plan.chains; from += client.MaxBatch {
		n := min(client.MaxBatch, a.plan.chains-from)
		var batch []*client.Submission
		opened := map[*client.Submission]*chain{}
		for i := range n {
			c := &chain{trial: fmt.Sprintf("%s.%d", a.plan.organisation, from+i+1)}
			x, err := a.sign(&statement.Statement{
				Trial: c.trial, Kind: statement.KindTrial, Chain: statement.Link{Number: 1}, Subject: statement.SubjectTrial,
				Digest: statement.TrialDigest(a.beaconLog(), a.plan.organisation, c.trial),
			})
			if err != nil {
				return err
			}
			c.first, c.link = x.Identity, x.link
			x.Wait = client.Pending
			batch, opened[&x.Submission] = append(batch, &x.Submission), c
		}
		results, err := a.rest.SubmitBatch(ctx, batch)
		if err != nil {
			return fmt.Errorf("open trials: %w", err)
		}
		for _, r := range results {
			if r.Err != nil {
				return fmt.Errorf("open a trial: %w", r.Err)
			}
			a.free <- opened[r.Submission]
		}
	}
	return nil
}

// beaconLog is the name of the log.
func (a *author) beaconLog() string { return a.plan.believed.Trust().Log }

// refresh takes the newest checkpoint as beacon.
func (a *author) refresh(ctx context.Context) error {
	b, note, err := a.rest.Beacon(ctx)
	if err != nil {
		return fmt.Errorf("fetch a checkpoint: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.beacon, a.note = b, note
	return nil
}

// sign completes a statement and signs it.
func (a *author) sign(s *statement.Statement) (*prepared, error) {
	a.mu.Lock()
	s.Beacon = a.beacon
	note := a.note
	a.mu.Unlock()
	s.Log, s.Organisation = a.beaconLog(), a.plan.organisation
	s.Signers = []statement.Signer{{
		Key: a.key.ID(), Meaning: statement.Authorship, At: statement.Date(a.now().UTC().Format("2006-01-02T15:04:05Z")),
	}}
	payload, err := statement.Build(s)
	if err != nil {
		return nil, fmt.Errorf("build a statement: %w", err)
	}
	env, err := statement.Sign(payload, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign a statement: %w", err)
	}
	id := s.Identity(payload)
	return &prepared{
		Submission: client.Submission{Envelope: env.Bytes(), Beacon: note, Wait: a.plan.waitFor, Identity: id},
		link:       statement.Link{Number: s.Chain.Number + 1, Previous: id},
	}, nil
}

// prepare makes the next statement of a chain, unless it is made.
func (a *author) prepare(c *chain) error {
	if c.next != nil {
		return nil
	}
	if len(c.ahead) > 0 {
		c.next, c.ahead = c.ahead[0], c.ahead[1:]
		return nil
	}
	x, err := a.sign(a.milestone(c, c.link))
	c.next = x
	return err
}

// presign makes n statements of each chain.
func (a *author) presign(n int) error {
	for range len(a.free) {
		c := <-a.free
		link := c.link
		for range n {
			x, err := a.sign(a.milestone(c, link))
			if err != nil {
				return err
			}
			c.ahead, link = append(c.ahead, x), x.link
		}
		a.free <- c
	}
	return nil
}

func (a *author) milestone(c *chain, link statement.Link) *statement.Statement {
	return &statement.Statement{
		Trial: c.trial, Kind: statement.KindMilestone, Chain: link, Subject: statement.SubjectStatement, Digest: c.first,
		Attributes: []statement.Member{statement.TextMember("milestone", fmt.Sprintf("m%d", link.Number))},
	}
}

// spoil makes a statement that must be refused; n says in which way.
func (a *author) spoil(n int) (*prepared, error) {
	s := &statement.Statement{
		Trial: a.plan.organisation + ".none", Kind: statement.KindTrial, Chain: statement.Link{Number: 1},
		Subject: statement.SubjectTrial, Digest: statement.TrialDigest(a.beaconLog(), a.plan.organisation, a.plan.organisation+".none"),
	}
	if n%3 == 0 { // in a trial that is not there
		s = a.milestone(&chain{trial: s.Trial, first: a.key.ID()}, s.Chain)
	}
	x, err := a.sign(s)
	if err != nil {
		return nil, err
	}
	switch n % 3 {
	case 1: // somebody else's signature
		other, err := statement.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		env, err := statement.ParseEnvelope(x.Envelope)
		if err != nil {
			return nil, err
		}
		if x.Envelope, err = statement.SignDSSE(statement.PayloadType, env.Payload, other); err != nil {
			return nil, err
		}
	case 2: // no statement at all
		x.Envelope = []byte(`{"payload":"` + hex.EncodeToString(x.Identity[:8]) + `"}`)
	}
	return x, nil
}

var errStopped = errors.New("stopped")

// take waits for a chain that is free.
func (a *author) take(ctx context.Context) (*chain, error) {
	select {
	case c := <-a.free:
		return c, nil
	case <-ctx.Done():
		return nil, errStopped
	}
}

// settle ends what was under way in a chain: with the next statement behind it if
// it was taken in, and with the same one again if not.
func (a *author) settle(c *chain, taken bool) {
	if taken {
		c.link, c.next = c.next.link, nil
	}
	a.free <- c
}
