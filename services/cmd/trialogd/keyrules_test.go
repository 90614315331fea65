package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/keyring"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/sequencer"
)

// keyHistory is what random organisations say about their keys to a log that runs.
type keyHistory struct {
	*running
	t       *testing.T
	auditor *statement.PrivateKey
	state   *keyring.State
	entries [][]byte
	cases   int
}

// house is one organisation of a random history.
type house struct {
	h        *keyHistory
	name     string
	recovery *statement.PrivateKey
	keys     []*statement.PrivateKey // known to the log or not
	chain    map[statement.KeyID]statement.Link
	admitted []statement.Identity
	first    int // how many entries the log had before
	refusals []refusal
}

// refusal is a statement that the log refused, behind so many entries.
type refusal struct {
	envelope []byte
	behind   int
	why      error
}

func drawnKey(t rapid.TB) *statement.PrivateKey {
	k, err := statement.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// say signs a statement about keys, or a plain one, and has the log judge it.
func (o *house) say(t *rapid.T, s *statement.Statement, signers []*statement.PrivateKey) {
	seq := o.h.active().seq
	note := seq.Checkpoint()
	c := note.Checkpoint()
	s.Log, s.Organisation = o.h.policy.Trust().Log, o.name
	s.Beacon = &statement.Beacon{Origin: c.Origin, Size: c.Size, Note: statement.Digest(note.Digest())}
	for _, k := range signers {
		s.Signers = append(s.Signers, statement.Signer{
			Key: k.ID(), Meaning: statement.Responsibility, At: statement.Date(time.Now().UTC().Format("2006-01-02T15:04:05Z")),
		})
	}
	last := o.chain[s.Writer()]
	s.Chain = statement.Link{Number: last.Number + 1, Previous: last.Previous}
	payload, err := statement.Build(s)
	if err != nil {
		return // not even a client would send it
	}
	env, err := statement.Sign(payload, signers...)
	if err != nil {
		t.Fatal(err)
	}
	_, err = seq.Add(context.Background(), sequencer.Request{Envelope: env.Bytes(), Beacon: note.Bytes(), Granted: statement.Roles(), Pending: true})
	var forbidden *sequencer.ForbiddenError
	switch {
	case err == nil:
		id := s.Identity(payload)
		o.chain[s.Writer()] = statement.Link{Number: s.Chain.Number, Previous: id}
		o.admitted = append(o.admitted, id)
	case !errors.As(err, &forbidden):
		if _, field := errors.AsType[*statement.FieldError](err); !field { // such as a revoked key that is none
			t.Fatal(err)
		}
	case s.Kind == statement.KindKey && forbidden.Field != "predicate.attributes.recovery":
		// The log is stricter about recovery keys: it takes no second one.
		o.refusals = append(o.refusals, refusal{env.Bytes(), o.first + len(o.admitted), err})
	}
}

// refused checks that what the log refuses because of its signers counts in no
// keyring either.
func (o *house) refused(t *rapid.T) {
	for _, r := range o.refusals {
		again := keyring.New(o.h.policy.Trust().Log)
		if err := again.Begin(o.h.active().place.Origin); err != nil {
			t.Fatal(err)
		}
		raw, err := entry.Encode(time.Now(), r.envelope)
		if err != nil {
			t.Fatal(err)
		}
		// Only this house's entries speak of its keys.
		for _, e := range append(slices.Clone(o.h.entries[o.first:r.behind]), raw) {
			if err := again.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		if _, left := again.Ignored(); left == 0 {
			t.Fatalf("the log refuses what a keyring counts: %v", r.why)
		}
	}
}

// read waits until all that was admitted is published and feeds it to the keyring.
func (o *house) read(t *rapid.T) {
	h, seq := o.h, o.h.active().seq
	for _, id := range o.admitted {
		var raw []byte
		var index uint64
		var err error
		await(h.t, "what was admitted is published", func() bool {
			raw, index, err = seq.Find(context.Background(), id)
			return !errors.Is(err, sequencer.ErrNotFound)
		})
		if err != nil {
			t.Fatal(err)
		}
		r, err := receipt.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if index != uint64(len(h.entries)) {
			t.Fatalf("entry %d, expected %d: somebody else speaks", index, len(h.entries))
		}
		h.entries = append(h.entries, r.Entry)
		if err := h.state.Add(r.Entry); err != nil {
			t.Fatal(err)
		}
	}
}

// step says one random thing.
func (o *house) step(t *rapid.T) {
	anyKey := func(label string) *statement.PrivateKey {
		all := append([]*statement.PrivateKey{o.recovery}, o.keys...)
		return rapid.SampledFrom(all).Draw(t, label)
	}
	fresh := drawnKey(t)
	switch rapid.SampledFrom([]string{"enrol", "enrol", "enrol", "again", "revoke", "revoke", "say"}).Draw(t, "step") {
	case "enrol":
		roles := rapid.SampledFrom([][]string{{"sponsor"}, {"admin"}, {"sponsor", "admin"}}).Draw(t, "roles")
		s := enrolmentOf(fresh, roles, nil)
		if len(o.keys) == 0 || rapid.IntRange(0, 9).Draw(t, "names a recovery key") == 0 {
			s = enrolmentOf(fresh, roles, o.recovery)
		}
		signers := []*statement.PrivateKey{fresh}
		if len(o.keys) > 0 {
			signers = append(signers, anyKey("cosigner"))
		}
		o.say(t, s, signers)
		o.keys = append(o.keys, fresh)
	case "again":
		if k := anyKey("key"); len(o.keys) > 0 && k != o.recovery {
			o.say(t, enrolmentOf(k, []string{"admin"}, nil), distinctKeys(k, anyKey("cosigner")))
		}
	case "revoke":
		k := anyKey("revoked")
		o.say(t, &statement.Statement{
			Kind: statement.KindKey, Subject: statement.SubjectKey, Digest: k.ID(), Attributes: o.revocation(t, k),
		}, distinctKeys(rapid.SampledFrom([]*statement.PrivateKey{o.recovery, o.recovery, anyKey("revoker")}).Draw(t, "by")))
	case "say":
		k := anyKey("speaker")
		o.say(t, &statement.Statement{
			Kind: statement.KindCredential, Subject: statement.SubjectKey, Digest: k.ID(),
			Attributes: []statement.Member{statement.TextMember("credential", "gcp-training")},
		}, distinctKeys(k, anyKey("second")))
	}
}

func (o *house) revocation(t *rapid.T, k *statement.PrivateKey) []statement.Member {
	n := uint64(o.first + len(o.admitted))
	back := rapid.Uint64Range(0, 6).Draw(t, "entries back")
	return []statement.Member{
		statement.TextMember("action", "revoke"), statement.TextMember("revokes", k.ID().String()),
		statement.TextMember("suspectOrigin", o.h.active().place.Origin), statement.CountMember("suspectFrom", n-min(n, back)),
	}
}

func distinctKeys(keys ...*statement.PrivateKey) []*statement.PrivateKey {
	if len(keys) > 1 && keys[0] == keys[1] {
		return keys[:1]
	}
	return keys
}

func enrolmentOf(k *statement.PrivateKey, roles []string, recovery *statement.PrivateKey) *statement.Statement {
	s := &statement.Statement{Kind: statement.KindKey, Subject: statement.SubjectKey, Digest: k.ID(), Attributes: []statement.Member{
		statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", k.Public()), statement.ListMember("roles", roles...),
	}}
	if recovery != nil {
		s.Attributes = append(s.Attributes, statement.KeyMember("recovery", recovery.Public()))
	}
	return s
}

// agree holds what the ledger, the keyring and verify say of an organisation
// against each other.
func (o *house) agree(t *rapid.T) {
	h := o.h
	if left, n := h.state.Ignored(); n > 0 {
		t.Fatalf("the log holds what counts in no keyring: %+v", left)
	}
	ring := h.state.Keyring()
	rows := map[statement.KeyID]verify.KeyringKey{}
	for _, row := range ring.Keys {
		rows[row.Key] = row
	}
	for _, k := range o.keys {
		known, err := h.active().seq.Ledger().Key(k.ID())
		if err != nil {
			t.Fatal(err)
		}
		row, found := rows[k.ID()]
		if (known != nil) != found {
			t.Fatalf("key %s: in the ledger %t, in the keyring %t", k.ID(), known != nil, found)
		}
		if found && (known.Organisation != row.Organisation || known.Origin != row.Origin || known.Index != row.Enrolled ||
			known.Revoked != row.Revoked || known.SuspectOrigin != row.SuspectOrigin || known.SuspectFrom != row.SuspectFrom) {
			t.Fatalf("the ledger has %+v, the keyring %+v", known, row)
		}
	}
	signed, err := statement.SignDSSE(verify.KeyringPayloadType, ring.Encode(), h.auditor)
	if err != nil {
		t.Fatal(err)
	}
	for n, id := range o.admitted {
		o.judged(t, id, uint64(o.first+n), signed, rows)
	}
}

// judged verifies an admitted statement: it is rooted for everybody, and with the
// keyring it holds unless the row of a signer, or of all who entitled one, says
// that it is suspect.
func (o *house) judged(t *rapid.T, id statement.Identity, index uint64, signed []byte, rows map[statement.KeyID]verify.KeyringKey) {
	raw, _, err := o.h.active().seq.Find(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	in := verify.Input{Policy: o.h.policy, Receipt: raw, StatementOnly: true, Now: time.Now().Add(time.Minute)}
	if _, err := verify.Verify(in); err != nil {
		t.Fatalf("the log admitted what does not verify: %v", err)
	}
	stmt, err := saidBy(raw)
	if err != nil {
		t.Fatal(err)
	}
	suspect := false
	for _, signer := range stmt.SignerIDs() {
		suspect = suspect || o.suspect(signer, index, rows)
	}
	in.Keyring = signed
	v, err := verify.Verify(in)
	if suspect != (err != nil) || err != nil && v.Failure.Link != verify.LinkKeyStatus {
		t.Fatalf("entry %d, suspect by the rows: %t; by verify: %v", index, suspect, err)
	}
}

// suspect tells by the rows of a keyring alone whether a key was suspect at an
// index, or all who entitled it when it was enrolled.
func (o *house) suspect(id statement.KeyID, index uint64, rows map[statement.KeyID]verify.KeyringKey) bool {
	if id == o.recovery.ID() {
		return false
	}
	row := rows[id]
	if row.Revoked && index >= row.SuspectFrom {
		return true
	}
	framed, err := entry.Parse(o.h.entries[row.Enrolled])
	if err != nil {
		return true
	}
	_, stmt, err := statement.Parse(framed.Envelope)
	if err != nil {
		return true
	}
	entitled, good := 0, 0
	for _, by := range stmt.SignerIDs() {
		if by == id || by != o.recovery.ID() && !o.admin(by, rows) {
			continue
		}
		entitled++
		if !o.suspect(by, row.Enrolled, rows) {
			good++
		}
	}
	return entitled > 0 && good == 0
}

// admin tells whether a key was enrolled in the role admin.
func (o *house) admin(id statement.KeyID, rows map[statement.KeyID]verify.KeyringKey) bool {
	row, ok := rows[id]
	if !ok {
		return false
	}
	framed, err := entry.Parse(o.h.entries[row.Enrolled])
	if err != nil {
		return false
	}
	_, stmt, err := statement.Parse(framed.Envelope)
	return err == nil && slices.Contains(stmt.RolesAttribute(), statement.Admin)
}

// TestKeyRulesAgree lets organisations say random things about their keys to a
// running log. The log's judgement and ledger, an auditor's keyring and verify know
// the same keys, with the same places and revocations.
func TestKeyRulesAgree(t *testing.T) {
	l, s := newData(t)
	auditor, err := statement.GenerateKey(rand.Reader)
	must(t, err)
	d := drafted(t, l)
	d.trust["auditors"] = []string{spki(auditor.Public())}
	must(t, d.set(t, l))
	startWitnesses(t, l, s)
	h := &keyHistory{running: start(t, l, s), t: t, auditor: auditor, state: keyring.New(s.Log)}
	must(t, h.state.Begin(h.active().place.Origin))
	await(t, "the policy is logged", func() bool { return len(said(t.Context(), t, h.running)) == 1 })
	head, err := h.active().seq.Ledger().Chain("", h.gatewayKey.ID())
	must(t, err)
	var first [][]byte
	for id := head.Identity; !id.IsZero(); { // the operator's own: the enrolment and the policy
		raw, _, err := h.active().seq.Find(t.Context(), id)
		must(t, err)
		r, err := receipt.Parse(raw)
		must(t, err)
		first = append(first, r.Entry)
		stmt, err := saidBy(raw)
		must(t, err)
		id = stmt.Chain.Previous
	}
	for _, e := range slices.Backward(first) {
		h.entries = append(h.entries, e)
		must(t, h.state.Add(e))
	}
	admitted, refused, revoked := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		h.cases++
		o := &house{h: h, name: fmt.Sprintf("house-%d", h.cases), recovery: drawnKey(t), first: len(h.entries), chain: map[statement.KeyID]statement.Link{}}
		if rapid.IntRange(0, 9).Draw(t, "begins in order") > 0 {
			first := drawnKey(t)
			o.say(t, enrolmentOf(first, []string{"sponsor", "admin"}, o.recovery), []*statement.PrivateKey{first})
			o.keys = append(o.keys, first)
		}
		for range rapid.IntRange(2, 8).Draw(t, "steps") {
			o.step(t)
		}
		o.read(t)
		o.refused(t)
		o.agree(t)
		admitted += len(o.admitted)
		refused += len(o.refusals)
	})
	for _, row := range h.state.Keyring().Keys {
		if row.Revoked {
			revoked++
		}
	}
	if admitted < h.cases || revoked < h.cases/10 || refused < h.cases/10 {
		t.Error("too few to tell")
	}
	t.Logf("%d organisations: %d statements admitted, %d refused, %d keys revoked", h.cases, admitted, refused, revoked)
}
