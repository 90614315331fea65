package main

import (
	"context"
	"errors"
	"time"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/sequencer"
)

// enrolGateway makes the enrolment of the gateway's key the first entry of a new
// log: without it nothing that the gateway receives could be verified. The second
// one says by which policy the log publishes.
func (e *engine) enrolGateway(ctx context.Context) error {
	for failures := 0; ; {
		err := e.tryEnrolment(ctx)
		if err == nil {
			e.enrolled.Store(true)
			return e.keepPolicyLogged(ctx)
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		// While the sequencer starts, nothing has failed.
		if !errors.Is(err, sequencer.ErrNotReady) {
			e.log.Warn("the gateway's key is not enrolled yet", "error", err)
			failures++
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(enrolmentPause(failures)):
		}
	}
}

// enrolmentPause is for how long the enrolment is left alone after so many
// failures: witnesses that are down stay down for longer than a moment.
func enrolmentPause(failures int) time.Duration {
	const first, longest = 100 * time.Millisecond, 5 * time.Second
	return min(first<<min(failures, 10), longest)
}

func (e *engine) tryEnrolment(ctx context.Context) error {
	seq := e.active().seq
	if err := seq.Ready(); err != nil {
		return errors.Join(sequencer.ErrNotReady, err)
	}
	known, err := seq.Ledger().Key(e.gatewayKey.ID())
	if err != nil {
		return err
	}
	if known == nil {
		env, err := e.enrolment()
		if err != nil {
			return err
		}
		if _, err := seq.Add(ctx, sequencer.Request{
			Envelope: env, Granted: []statement.Role{statement.Gateway, statement.Operator},
		}); err != nil {
			return err
		}
		// If this fails it is tried again behind the enrolment.
		if err := e.logPolicy(ctx); err != nil {
			return err
		}
	}
	if seq.Checkpoint() == nil {
		return errors.New("no checkpoint is published yet")
	}
	return nil
}

func (e *engine) enrolment() ([]byte, error) {
	s := &statement.Statement{
		Log: e.policy.Trust().Log, Organisation: operatorOrganisation, Kind: statement.KindKey,
		Signers: []statement.Signer{{
			Key: e.gatewayKey.ID(), Meaning: statement.Responsibility,
			At: statement.Date(e.now().UTC().Format("2006-01-02T15:04:05Z")),
		}},
		Chain: statement.Link{Number: 1}, Subject: statement.SubjectKey, Digest: e.gatewayKey.ID(),
		Attributes: []statement.Member{
			statement.TextMember("action", "enrol"),
			statement.KeyMember("publicKey", e.gatewayKey.Public()),
			statement.ListMember("roles", string(statement.Gateway), string(statement.Operator)),
			statement.KeyMember("recovery", e.operator.Public()),
		},
	}
	payload, err := statement.Build(s)
	if err != nil {
		return nil, err
	}
	env, err := statement.Sign(payload, e.gatewayKey)
	if err != nil {
		return nil, err
	}
	return env.Bytes(), nil
}
