package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/sequencer"
)

// policyMediaType is that of a policy as a document: see policyDocument.
const policyMediaType = "application/vnd.trialog.policy"

// policyDocument returns a policy as one document: what its fingerprint is the
// SHA-256 of, so that the statement's digest is the fingerprint.
func policyDocument(text, sidecar []byte) []byte {
	var doc []byte
	for _, half := range [][]byte{text, sidecar} {
		doc = binary.BigEndian.AppendUint64(doc, uint64(len(half)))
		doc = append(doc, half...)
	}
	return doc
}

// keepPolicyLogged has the operator say by which policy the log publishes, unless
// the log holds that already. Nothing waits for it.
func (e *engine) keepPolicyLogged(ctx context.Context) error {
	for failures := 0; ; failures++ {
		err := e.logPolicy(ctx)
		if err == nil {
			e.offerTrust(ctx)
			<-ctx.Done()
			return nil
		}
		if ctx.Err() == nil && !errors.Is(err, sequencer.ErrNotReady) && !errors.Is(err, sequencer.ErrNotFound) {
			e.log.Warn("the policy in force is not logged yet", "fingerprint", e.policy.Fingerprint(), "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(enrolmentPause(failures)):
		}
	}
}

// offerTrust issues the log's first trust bundle, and says if the newest one is not
// of the policy in force.
func (e *engine) offerTrust(ctx context.Context) {
	l := e.list.layout
	b, err := l.lastBundle()
	if err == nil && b == nil {
		b, err = l.issueTrust(e.now(), trustValid, "")
	}
	switch {
	case err != nil:
		e.log.WarnContext(ctx, "no trust bundle can be offered", "error", err)
	case b.Policy().Fingerprint() != e.policy.Fingerprint():
		e.log.WarnContext(ctx, `the trust bundle is not of the policy in force; issue another: "trialogd trust issue"`,
			"version", b.Content().Version)
	case b.Expired(e.now()):
		e.log.WarnContext(ctx, `the trust bundle has expired; issue another: "trialogd trust issue"`, "version", b.Content().Version)
	}
}

// logPolicy submits the policy in force as a statement of the operator, its
// document first. What the operator said before is in the log, so that no file has
// to remember it.
func (e *engine) logPolicy(ctx context.Context) error {
	seq := e.active().seq
	if err := seq.Ready(); err != nil {
		return errors.Join(sequencer.ErrNotReady, err)
	}
	digest, err := statement.ParseDigest(e.policy.Fingerprint())
	if err != nil {
		return err
	}
	head, err := seq.Ledger().Chain("", e.gatewayKey.ID())
	if err != nil {
		return err
	}
	link := statement.Link{Number: head.Number + 1, Previous: head.Identity}
	if last, err := saidPolicy(ctx, seq, head.Identity); err != nil || last == digest {
		return err
	}
	if err := e.keepPolicyDocument(ctx); err != nil {
		return err
	}
	env, beacon, err := e.policyStatement(seq, digest, link)
	if err != nil {
		return err
	}
	answer, err := seq.Add(ctx, sequencer.Request{Envelope: env, Beacon: beacon, Pending: true})
	if err != nil {
		return err // somebody else was quicker, or not ready: the next try reads the chain again
	}
	e.log.Info("the policy is logged", "fingerprint", e.policy.Fingerprint(), "index", answer.Index)
	return nil
}

// finder is what of a sequencer a chain is read by.
type finder interface {
	Find(ctx context.Context, id statement.Identity) ([]byte, uint64, error)
}

// saidPolicy goes back along the operator's chain from the statement with identity
// id and returns the digest of the last one of kind "policy"; zero if there is none.
// The operator says little: policies, ends and beginnings of shards. One that was
// said before another is said again when the log goes back to it, since whoever
// reads the log takes the last one to be in force.
func saidPolicy(ctx context.Context, seq finder, id statement.Identity) (last statement.Digest, err error) {
	for !id.IsZero() {
		raw, _, err := seq.Find(ctx, id)
		if err != nil {
			return last, fmt.Errorf("read what the operator said: %w", err)
		}
		stmt, err := saidBy(raw)
		if err != nil {
			return last, fmt.Errorf("read what the operator said: %w", err)
		}
		if stmt.Kind == statement.KindPolicy {
			return stmt.Digest, nil
		}
		id = stmt.Chain.Previous
	}
	return last, nil
}

// saidBy returns the statement of a receipt of our own.
func saidBy(raw []byte) (*statement.Statement, error) {
	r, err := receipt.Parse(raw)
	if err != nil {
		return nil, err
	}
	framed, err := entry.Parse(r.Entry)
	if err != nil {
		return nil, err
	}
	_, stmt, err := statement.Parse(framed.Envelope)
	return stmt, err
}

// keepPolicyDocument puts the policy where the gateway finds public documents.
func (e *engine) keepPolicyDocument(ctx context.Context) (err error) {
	l := e.list.layout
	text, err := os.ReadFile(l.policy())
	if err != nil {
		return err
	}
	sidecar, err := os.ReadFile(l.sidecar())
	if err != nil {
		return err
	}
	if p, err := verify.ParsePolicy(text, sidecar); err != nil || p.Fingerprint() != e.policy.Fingerprint() {
		return errors.Join(errors.New("the files of the policy are not those that the log was started with"), err)
	}
	store, err := blob.OpenDir(l.documents())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	name := e.policy.Fingerprint()
	return store.Put(ctx, blob.Object{Key: "documents/" + name[:2] + "/" + name, Data: policyDocument(text, sidecar)})
}

// policyStatement builds and signs the statement, with the note that it names.
func (e *engine) policyStatement(
	seq *sequencer.Sequencer, digest statement.Digest, link statement.Link,
) (envelope, beacon []byte, err error) {
	s := &statement.Statement{
		Log: e.policy.Trust().Log, Organisation: operatorOrganisation, Kind: statement.KindPolicy,
		Signers: []statement.Signer{{
			Key: e.gatewayKey.ID(), Meaning: statement.Responsibility,
			At: statement.Date(e.now().UTC().Format("2006-01-02T15:04:05Z")),
		}},
		Chain: link, Subject: statement.SubjectSHA256, Digest: digest, MediaType: policyMediaType,
	}
	note := seq.Checkpoint()
	if note == nil {
		return nil, nil, sequencer.ErrNotReady
	}
	c := note.Checkpoint()
	s.Beacon = &statement.Beacon{Origin: c.Origin, Size: c.Size, Note: statement.Digest(note.Digest())}
	payload, err := statement.Build(s)
	if err != nil {
		return nil, nil, err
	}
	env, err := statement.Sign(payload, e.gatewayKey)
	if err != nil {
		return nil, nil, err
	}
	return env.Bytes(), note.Bytes(), nil
}
