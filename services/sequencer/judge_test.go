package sequencer

import (
	"context"
	"testing"

	"github.com/trialog/trialog/api/statement"
)

// judgement is a submission and how it ends.
type judgement struct {
	name  string
	kind  string // see refusal
	field string
	make  func() Request
}

func (c *cast) keyJudgements() []judgement {
	spare, other := testKey(c.t, 40), testKey(c.t, 41)
	enrol := func(e enrolment, granted ...statement.Role) func() Request {
		return func() Request {
			s, keys := e.draft(c.world)
			r := c.request(s, keys...)
			r.Granted = granted
			return r
		}
	}
	revoke := func(id statement.KeyID, by *statement.PrivateKey) func() Request {
		return func() Request {
			s, keys := c.revocation(id, by)
			return c.request(s, keys...)
		}
	}
	return []judgement{
		{"first key without a recovery key", "wrong", "predicate.attributes.recovery", enrol(enrolment{org: "new", key: spare, roles: []string{"sponsor"}}, statement.Sponsor)},
		{"first key that is its own recovery key", "wrong", "predicate.attributes.recovery", enrol(enrolment{org: "new", key: spare, roles: []string{"sponsor"}, recovery: spare}, statement.Sponsor)},
		{"first key without a grant", "forbidden", "predicate.attributes.roles", enrol(enrolment{org: "new", key: spare, roles: []string{"sponsor"}, recovery: other})},
		{"first key with a role beyond the grant", "forbidden", "predicate.attributes.roles", enrol(enrolment{org: "new", key: spare, roles: []string{"sponsor", "gateway"}, recovery: other}, statement.Sponsor)},
		{"first key that another organisation has enrolled", "forbidden", "predicate.attributes.publicKey", enrol(enrolment{org: "new", key: c.rival, roles: []string{"sponsor"}, recovery: other}, statement.Sponsor)},
		{"first key with another organisation's signature", "forbidden", "predicate.signers[1].key", enrol(enrolment{org: "new", key: spare, roles: []string{"sponsor"}, recovery: other, by: c.rival}, statement.Sponsor)},
		{"revocation in an organisation without keys", "forbidden", "predicate.organisation", func() Request {
			s, keys := c.revocation(c.more.ID(), c.admin)
			s.Organisation = "new"
			return c.request(s, keys...)
		}},
		{"further key signed by itself alone", "forbidden", "predicate.signers", enrol(enrolment{org: "acme", key: spare, roles: []string{"sponsor"}})},
		{"further key signed by one that is no admin", "forbidden", "predicate.signers", enrol(enrolment{org: "acme", key: spare, roles: []string{"sponsor"}, by: c.more})},
		{"further key signed by another organisation's admin", "forbidden", "predicate.signers[1].key", enrol(enrolment{org: "acme", key: spare, roles: []string{"sponsor"}, by: c.site})},
		{"further key signed by a stranger", "forbidden", "predicate.signers[1].key", enrol(enrolment{org: "acme", key: spare, roles: []string{"sponsor"}, by: c.stranger})},
		{"further key signed by a revoked key", "forbidden", "predicate.signers[1].key", enrol(enrolment{org: "acme", key: spare, roles: []string{"sponsor"}, by: c.revoked})},
		{"further key that names another recovery key", "forbidden", "predicate.attributes.recovery", enrol(enrolment{org: "acme", key: spare, roles: []string{"sponsor"}, recovery: other, by: c.admin})},
		{"further key in a role that was never granted", "forbidden", "predicate.attributes.roles", enrol(enrolment{org: "acme", key: spare, roles: []string{"gateway"}, by: c.admin})},
		{"the same by the recovery key", "forbidden", "predicate.attributes.roles", enrol(enrolment{org: "acme", key: spare, roles: []string{"operator"}, by: c.recovery})},
		{"key that is enrolled", "forbidden", "predicate.attributes.publicKey", enrol(enrolment{org: "acme", key: c.more, roles: []string{"sponsor"}, by: c.admin})},
		{"key that was revoked, again", "forbidden", "predicate.attributes.publicKey", enrol(enrolment{org: "acme", key: c.revoked, roles: []string{"sponsor"}, by: c.recovery})},
		{"recovery key as an ordinary one", "forbidden", "predicate.attributes.publicKey", enrol(enrolment{org: "acme", key: c.recovery, roles: []string{"sponsor"}})},
		{"revocation by an admin", "forbidden", "predicate.signers", revoke(c.more.ID(), c.admin)},
		{"revocation by another organisation", "forbidden", "predicate.signers[0].key", revoke(c.more.ID(), c.rival)},
		{"revocation by a revoked key", "forbidden", "predicate.signers[0].key", revoke(c.more.ID(), c.revoked)},
		{"revocation of an unknown key", "wrong", "predicate.attributes.revokes", revoke(c.stranger.ID(), c.recovery)},
		{"revocation of another organisation's key", "wrong", "predicate.attributes.revokes", revoke(c.rival.ID(), c.recovery)},
	}
}

func (c *cast) speakerJudgements() []judgement {
	protocol := func(change func(*statement.Statement), keys ...*statement.PrivateKey) func() Request {
		return func() Request {
			s := c.draft(statement.KindProtocol, "T1", keys, func(s *statement.Statement) {
				s.MediaType, s.Subject, s.Digest = "text/plain", statement.SubjectSHA256, sum("p")
			})
			if change != nil {
				change(s)
			}
			return c.request(s, keys...)
		}
	}
	of := func(org string) func(*statement.Statement) {
		return func(s *statement.Statement) { s.Organisation = org }
	}
	return []judgement{
		{"stranger", "forbidden", "predicate.signers[0].key", protocol(nil, c.stranger)},
		{"stranger as the second signer", "forbidden", "predicate.signers[1].key", protocol(nil, c.admin, c.stranger)},
		{"revoked key", "forbidden", "predicate.signers[0].key", protocol(nil, c.revoked)},
		{"revoked key as the second signer", "forbidden", "predicate.signers[1].key", protocol(nil, c.admin, c.revoked)},
		{"another organisation's key", "forbidden", "predicate.signers[0].key", protocol(nil, c.rival)},
		{"another organisation's key as the second signer", "forbidden", "predicate.signers[1].key", protocol(nil, c.admin, c.rival)},
		{"the recovery key", "forbidden", "predicate.signers[0].key", protocol(nil, c.recovery)},
		{"a gateway's key in its own name for another", "forbidden", "predicate.signers[0].key", protocol(nil, c.gateway)},
		{"received by who is no gateway", "forbidden", "predicate.signers[0].key", protocol(func(s *statement.Statement) { received(s) }, c.admin)},
		{"role that may not say it", "forbidden", "predicate.kind", protocol(of("clinic"), c.site)},
		{"sponsor of another trial", "forbidden", "predicate.kind", protocol(of("rival"), c.rival)},
		{"received for the sponsor of another trial", "forbidden", "predicate.kind", protocol(func(s *statement.Statement) {
			received(s).Organisation = "rival"
		}, c.gateway)},
		{"statement about the log by a sponsor", "forbidden", "predicate.kind", func() Request {
			s := c.draft(statement.KindShardEnd, "", []*statement.PrivateKey{c.admin}, func(s *statement.Statement) {
				s.Subject, s.Digest = statement.SubjectLog, statement.LogDigest(testLog)
				s.Attributes = []statement.Member{statement.TextMember("successor", "log.test/trials/2")}
			})
			return c.request(s, c.admin)
		}},
		{"another log", "wrong", "predicate.log", protocol(func(s *statement.Statement) { s.Log, s.Beacon = "other.test/trials", nil }, c.admin)},
		{"no envelope", "wrong", "", func() Request { return Request{Envelope: []byte("{")} }},
		{"signature by another key", "wrong", "signatures[0].sig", func() Request {
			r := protocol(nil, c.admin)()
			env, err := statement.ParseEnvelope(r.Envelope)
			if err != nil {
				c.t.Fatal(err)
			}
			forged, err := statement.Sign(env.Payload, c.more)
			if err != nil {
				c.t.Fatal(err)
			}
			r.Envelope = forged.Bytes()
			return r
		}},
	}
}

func (c *cast) orderJudgements() []judgement {
	release := []statement.Member{statement.TextMember("site", "S1"), statement.ListMember("releases", sum("f").String())}
	milestone := statement.TextMember("milestone", "first-patient-in")
	with := func(change func(*statement.Statement)) func() Request {
		return func() Request {
			s := c.world.protocol("T1", "version 2")
			change(s)
			return c.request(s, c.admin)
		}
	}
	return []judgement{
		{"trial that is unknown", "missing", "predicate.trial", with(func(s *statement.Statement) {
			s.Trial, s.Chain = "T9", statement.Link{Number: 1}
		})},
		{"trial of another organisation", "forbidden", "predicate.trial", func() Request {
			return c.request(c.trial("rival", "T1", c.rival), c.rival)
		}},
		{"trial opened twice", "missing", "predicate.amends", func() Request {
			return c.request(c.trial("acme", "T1", c.more), c.more)
		}},
		{"subject is not the trial's first statement", "wrong", "subject[0].digest.trialogStatementV1", func() Request {
			s := c.bare(statement.KindMilestone, c.admin, milestone)
			s.Digest = c.protocol
			return c.request(s, c.admin)
		}},
		{"site release before an approval", "missing", "predicate.kind", func() Request {
			return c.request(c.bare(statement.KindSiteRelease, c.admin, release...), c.admin)
		}},
		{"amends what is not in the log", "wrong", "predicate.amends", with(func(s *statement.Statement) { s.Amends = sum("x") })},
		{"amends a statement of another kind", "wrong", "predicate.amends", with(func(s *statement.Statement) { s.Amends = c.first })},
		{"amends a statement of another trial", "wrong", "predicate.amends", with(func(s *statement.Statement) { s.Amends = c.theirs })},
		{"supersedes what is not in the log", "wrong", "predicate.supersedes", with(func(s *statement.Statement) { s.Supersedes = sum("x") })},
		{"supersedes a statement of another kind", "wrong", "predicate.supersedes", with(func(s *statement.Statement) { s.Supersedes = c.first })},
		{"chain begins anew", "chain", "", with(func(s *statement.Statement) { s.Chain = statement.Link{Number: 1} })},
		{"chain leaves a hole", "chain", "", with(func(s *statement.Statement) { s.Chain.Number++ })},
		{"chain repeats a number", "chain", "", with(func(s *statement.Statement) { s.Chain.Number-- })},
		{"chain continues another statement", "chain", "", with(func(s *statement.Statement) { s.Chain.Previous = c.first })},
		{"chain of another key", "chain", "", func() Request {
			s := c.draft(statement.KindProtocol, "T1", []*statement.PrivateKey{c.more}, func(s *statement.Statement) {
				s.MediaType, s.Subject, s.Digest = "text/plain", statement.SubjectSHA256, sum("p")
				s.Chain = c.world.protocol("T1", "p").Chain
			})
			return c.request(s, c.more)
		}},
	}
}

func TestRefused(t *testing.T) {
	c := newCast(t)
	before, bodies := c.size(), c.witness.bodies()
	var cases []judgement
	cases = append(cases, c.keyJudgements()...)
	cases = append(cases, c.speakerJudgements()...)
	cases = append(cases, c.orderJudgements()...)
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			a, err := c.seq.Add(context.Background(), tt.make())
			if kind, field := refusal(err); kind != tt.kind || field != tt.field {
				t.Errorf("%s, field %q (%v); expected %s, field %q", kind, field, err, tt.kind, tt.field)
			}
			if a != nil {
				t.Errorf("answer %+v beside an error", a)
			}
		})
	}
	if after := c.size(); after != before || c.witness.bodies() != bodies {
		t.Errorf("the log went from %d to %d entries", before, after)
	}
	// Nothing of what was refused is left in the ledger.
	c.check(c.put(c.world.protocol("T1", "version 2"), c.admin).Receipt, "version 2")
}

// TestAccepted says, beside each rule, what it lets through; every receipt
// verifies.
func TestAccepted(t *testing.T) {
	c := newCast(t)
	milestone := statement.TextMember("milestone", "first-patient-in")
	say := func(name string, s *statement.Statement, keys ...*statement.PrivateKey) *Answer {
		t.Helper()
		a, err := c.seq.Add(context.Background(), c.request(s, keys...))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c.advance(s, a.Identity)
		if s.HasDocument() {
			c.check(a.Receipt, "a document")
		} else {
			c.check(a.Receipt, "")
		}
		return a
	}
	say("milestone", c.bare(statement.KindMilestone, c.admin, milestone), c.admin)
	say("key that an admin enrolled", c.document(statement.KindProtocol, c.more), c.more)
	say("two signers", c.draft(statement.KindProtocol, "T1", []*statement.PrivateKey{c.admin, c.more}, func(s *statement.Statement) {
		s.MediaType, s.Subject, s.Digest, s.Amends = "text/plain", statement.SubjectSHA256, sum("a document"), c.protocol
	}), c.admin, c.more)
	say("ethics approval", c.document(statement.KindEthicsApproval, c.admin, statement.TextMember("decision", "approved")), c.admin)
	say("site release after it", c.bare(statement.KindSiteRelease, c.admin,
		statement.TextMember("site", "S1"), statement.ListMember("releases", sum("f").String())), c.admin)
	say("results after a protocol", c.document(statement.KindResults, c.admin), c.admin)
	clinic := func(s *statement.Statement) *statement.Statement { s.Organisation = "clinic"; return s }
	say("site in another's trial", clinic(c.bare(statement.KindMilestone, c.site, milestone)), c.site)
	rival := func(s *statement.Statement) *statement.Statement { s.Organisation = "rival"; return s }
	say("delegation", c.bare(statement.KindDelegation, c.admin,
		statement.TextMember("task", "monitoring"), statement.TextMember("toOrganisation", "rival")), c.admin)
	say("sponsor's word by who it delegated to", rival(c.document(statement.KindProtocol, c.rival)), c.rival)
	acme := func(s *statement.Statement) *statement.Statement { s.Organisation = "acme"; return s }
	say("received for the trial's owner", acme(received(c.document(statement.KindProtocol, c.gateway))), c.gateway)
	// The gateway's own enrolment rests on the recovery key of another
	// organisation than the one that the statement is about.
	say("received by a gateway that its recovery key enrolled", acme(received(c.document(statement.KindProtocol, c.gateway2))), c.gateway2)
	say("trial amended", c.draft(statement.KindTrial, "T1", []*statement.PrivateKey{c.admin}, func(s *statement.Statement) {
		s.Subject, s.Digest, s.Amends = statement.SubjectStatement, c.first, c.first
	}), c.admin)
	s, keys := c.revocation(c.more.ID(), c.recovery)
	say("revocation", s, keys...)
	s, keys = c.revocation(c.more.ID(), c.recovery)
	say("a second revocation", s, keys...)
	kind, field := refusal(c.try(c.document(statement.KindProtocol, c.more), c.more))
	if kind != "forbidden" || field != "predicate.signers[0].key" {
		t.Errorf("a statement by the key after its revocation: %s, field %q", kind, field)
	}
}

// try submits a statement and returns the error.
func (c *cast) try(s *statement.Statement, keys ...*statement.PrivateKey) error {
	c.t.Helper()
	_, err := c.seq.Add(context.Background(), c.request(s, keys...))
	return err
}

// TestRecoveryKeyOfTwo: one recovery key may serve two organisations, and be an
// ordinary key of a third; receipts prove each by its own first enrolment.
func TestRecoveryKeyOfTwo(t *testing.T) {
	c := newCast(t)
	shared, third := testKey(t, 50), testKey(t, 51)
	for i, org := range []string{"one", "two"} {
		s, keys := enrolment{org: org, key: testKey(t, byte(60+i)), roles: []string{"site"}, recovery: shared}.draft(c.world)
		c.check(c.put(s, keys...).Receipt, "")
	}
	s, keys := enrolment{org: "three", key: shared, roles: []string{"site"}, recovery: third}.draft(c.world)
	c.put(s, keys...)
	for i, org := range []string{"one", "two"} {
		s, keys := enrolment{org: org, key: testKey(t, byte(70+i)), roles: []string{"site"}, by: shared}.draft(c.world)
		c.check(c.put(s, keys...).Receipt, "")
	}
}
