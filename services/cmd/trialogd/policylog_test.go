package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/sequencer"
)

// said are the identities of the policies that the log's operator has said.
func said(ctx context.Context, t *testing.T, r *running) []statement.Digest {
	t.Helper()
	seq := r.active().seq
	head, err := seq.Ledger().Chain("", r.gatewayKey.ID())
	must(t, err)
	var list []statement.Digest
	for id := head.Identity; !id.IsZero(); {
		raw, _, err := seq.Find(ctx, id)
		if errors.Is(err, sequencer.ErrNotFound) {
			return nil // not published yet
		}
		must(t, err)
		s, err := saidBy(raw)
		must(t, err)
		if s.Kind == statement.KindPolicy {
			list = append(list, s.Digest)
		}
		id = s.Chain.Previous
	}
	return list
}

// TestPolicyIsLogged: each policy that was in force is in the log once, however
// often the log is started, and its document can be fetched.
func TestPolicyIsLogged(t *testing.T) {
	l, s := newData(t)
	startWitnesses(t, l, s)
	r := start(t, l, s)
	first := r.policy.Fingerprint()
	await(t, "the policy is logged", func() bool { return len(said(t.Context(), t, r)) == 1 })
	await(t, "the trust bundle is offered", func() bool { b, err := l.lastBundle(); return err == nil && b != nil })
	if got := said(t.Context(), t, r); got[0].String() != first {
		t.Errorf("logged is %s, in force %s", got[0], first)
	}
	checkPolicyDocument(t, l, first)
	checkPolicyReceipt(t, r)
	size := r.active().seq.Checkpoint().Checkpoint().Size
	if size != 2 {
		t.Errorf("a new log has %d entries, expected the enrolment and the policy", size)
	}
	r.stop()

	r = start(t, l, s)
	// A second round of the same says nothing.
	must(t, r.logPolicy(t.Context()))
	must(t, r.logPolicy(t.Context()))
	if got := said(t.Context(), t, r); len(got) != 1 {
		t.Errorf("after a restart the policies %v are logged", got)
	}
	r.stop()

	d := drafted(t, l)
	d.retire(d.key(t, "witness-3-ed25519"), 1)
	if err := d.set(t, l); err == nil || !strings.Contains(err.Error(), "up to 2 or more") {
		t.Errorf("a key is retired below the log's size: %v", err)
	}
	d.retire(d.key(t, "witness-3-ed25519"), 2)
	must(t, d.set(t, l))
	r = start(t, l, s)
	second := r.policy.Fingerprint()
	await(t, "the new policy is logged", func() bool { return len(said(t.Context(), t, r)) == 2 })
	if got := said(t.Context(), t, r); got[0].String() != second || got[1].String() != first {
		t.Errorf("logged are %v, expected %s behind %s", got, second, first)
	}
	checkPolicyDocument(t, l, second)
	r.stop()

	// Back to an earlier one, which is to be read from the log as well.
	named := drafted(t, l)
	auditor, err := statement.GenerateKey(rand.Reader)
	must(t, err)
	named.trust["auditors"] = []string{spki(auditor.Public())}
	must(t, named.set(t, l))
	r = start(t, l, s)
	await(t, "the third policy is logged", func() bool { return len(said(t.Context(), t, r)) == 3 })
	r.stop()
	must(t, d.set(t, l))
	r = start(t, l, s)
	await(t, "the second policy is logged again", func() bool { return len(said(t.Context(), t, r)) == 4 })
	if got := said(t.Context(), t, r); got[0].String() != second {
		t.Errorf("logged is %v, in force %s", got, second)
	}
	r.stop()
}

// TestPolicyDocumentFirst: a policy whose document cannot be kept is not said, and
// holds nobody up; when it can be, it is said.
func TestPolicyDocumentFirst(t *testing.T) {
	l, s := newData(t)
	startWitnesses(t, l, s)
	must(t, os.Remove(l.documents()))
	must(t, os.WriteFile(l.documents(), nil, 0o600))
	r := start(t, l, s)
	if err := r.logPolicy(t.Context()); err == nil {
		t.Error("a policy is said whose document is nowhere")
	}
	if got := said(t.Context(), t, r); len(got) != 0 {
		t.Errorf("logged are %v", got)
	}
	must(t, os.Remove(l.documents()))
	await(t, "the policy is logged", func() bool { return len(said(t.Context(), t, r)) == 1 })
	checkPolicyDocument(t, l, r.policy.Fingerprint())
}

// checkPolicyReceipt verifies the newest statement of the operator as anybody would.
func checkPolicyReceipt(t *testing.T, r *running) {
	t.Helper()
	seq := r.active().seq
	head, err := seq.Ledger().Chain("", r.gatewayKey.ID())
	must(t, err)
	raw, _, err := seq.Find(t.Context(), head.Identity)
	must(t, err)
	text, err := os.ReadFile(r.list.layout.policy())
	must(t, err)
	sidecar, err := os.ReadFile(r.list.layout.sidecar())
	must(t, err)
	v, err := verify.Verify(verify.Input{
		Policy: r.policy, Receipt: raw, Document: policyDocument(text, sidecar), Now: time.Now().Add(time.Minute),
	})
	if err != nil || v.Statement.Kind != statement.KindPolicy || !v.Document.Checked {
		t.Errorf("the operator's statement of the policy: %v", err)
	}
}

func checkPolicyDocument(t *testing.T, l layout, fingerprint string) {
	t.Helper()
	store, err := blob.OpenDir(l.documents())
	must(t, err)
	doc, err := store.Get(t.Context(), "documents/"+fingerprint[:2]+"/"+fingerprint)
	if err != nil || fmt.Sprintf("%x", sha256.Sum256(doc)) != fingerprint {
		t.Errorf("the document of policy %s: %v", fingerprint, err)
	}
	must(t, store.Close())
}
