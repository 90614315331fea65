package sequencer

import (
	"context"
	"errors"
	"testing"

	"github.com/trialog/trialog/api/statement"
)

// cast is a running shard with organisations, keys and trials in it.
type cast struct {
	*world
	more     *statement.PrivateKey // acme's, enrolled by its admin, sponsor
	site     *statement.PrivateKey // of the organisation clinic
	rival    *statement.PrivateKey // of the organisation rival
	gateway  *statement.PrivateKey // of the organisation hub, as is
	gateway2 *statement.PrivateKey // enrolled by hub's recovery key
	hub      *statement.PrivateKey // hub's recovery key
	revoked  *statement.PrivateKey // acme's, revoked
	stranger *statement.PrivateKey // never enrolled
	first    statement.Identity    // of trial T1
	theirs   statement.Identity    // of trial R1, rival's
	protocol statement.Identity    // in T1
}

func newCast(t testing.TB) *cast {
	t.Helper()
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	c := &cast{
		world: w, more: testKey(t, 20), site: testKey(t, 21), rival: testKey(t, 22), gateway: testKey(t, 23),
		gateway2: testKey(t, 24), hub: testKey(t, 25), revoked: testKey(t, 26), stranger: testKey(t, 27),
	}
	w.enrol()
	trial, err := w.seq.Ledger().Trial("T1")
	if err != nil {
		t.Fatal(err)
	}
	c.first = trial.First
	for _, e := range []enrolment{
		{org: "acme", key: c.more, roles: []string{"sponsor"}, by: w.admin},
		{org: "acme", key: c.revoked, roles: []string{"sponsor"}, by: w.recovery},
		{org: "clinic", key: c.site, roles: []string{"site", "admin"}, recovery: testKey(t, 30)},
		{org: "rival", key: c.rival, roles: []string{"sponsor"}, recovery: testKey(t, 31)},
		{org: "hub", key: c.gateway, roles: []string{"gateway", "operator"}, recovery: c.hub},
		{org: "hub", key: c.gateway2, roles: []string{"gateway"}, by: c.hub},
	} {
		s, keys := e.draft(w)
		w.check(c.put(s, keys...).Receipt, "")
	}
	s, keys := c.revocation(c.revoked.ID(), w.recovery)
	w.check(c.put(s, keys...).Receipt, "")
	c.theirs = c.put(c.trial("rival", "R1", c.rival), c.rival).Identity
	c.protocol = c.put(w.protocol("T1", "version 1"), w.admin).Identity
	return c
}

// enrolment is a statement that enrols a key.
type enrolment struct {
	org      string
	key      *statement.PrivateKey
	roles    []string
	recovery *statement.PrivateKey // named by a first enrolment
	by       *statement.PrivateKey // signs too
}

func (e enrolment) draft(w *world) (*statement.Statement, []*statement.PrivateKey) {
	keys := []*statement.PrivateKey{e.key}
	if e.by != nil {
		keys = append(keys, e.by)
	}
	return w.draft(statement.KindKey, "", keys, func(s *statement.Statement) {
		s.Organisation = e.org
		s.Subject, s.Digest = statement.SubjectKey, e.key.ID()
		s.Attributes = []statement.Member{
			statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", e.key.Public()),
			statement.ListMember("roles", e.roles...),
		}
		if e.recovery != nil {
			s.Attributes = append(s.Attributes, statement.KeyMember("recovery", e.recovery.Public()))
		}
	}), keys
}

// revocation is a statement of acme's that revokes a key.
func (c *cast) revocation(id statement.KeyID, by *statement.PrivateKey) (*statement.Statement, []*statement.PrivateKey) {
	keys := []*statement.PrivateKey{by}
	return c.draft(statement.KindKey, "", keys, func(s *statement.Statement) {
		s.Subject, s.Digest = statement.SubjectKey, id
		s.Attributes = []statement.Member{
			statement.TextMember("action", "revoke"), statement.TextMember("revokes", id.String()),
			statement.TextMember("suspectOrigin", testOrigin), statement.CountMember("suspectFrom", 0),
		}
	}), keys
}

// trial is the first statement of a trial.
func (c *cast) trial(org, name string, key *statement.PrivateKey) *statement.Statement {
	return c.draft(statement.KindTrial, name, []*statement.PrivateKey{key}, func(s *statement.Statement) {
		s.Organisation = org
		s.Subject, s.Digest = statement.SubjectTrial, statement.TrialDigest(testLog, org, name)
	})
}

// bare is a statement about trial T1 without a document.
func (c *cast) bare(kind statement.Kind, key *statement.PrivateKey, attributes ...statement.Member) *statement.Statement {
	return c.draft(kind, "T1", []*statement.PrivateKey{key}, func(s *statement.Statement) {
		s.Subject, s.Digest, s.Attributes = statement.SubjectStatement, c.first, attributes
	})
}

// document is a statement of acme's in trial T1 with a document.
func (c *cast) document(kind statement.Kind, key *statement.PrivateKey, attributes ...statement.Member) *statement.Statement {
	return c.draft(kind, "T1", []*statement.PrivateKey{key}, func(s *statement.Statement) {
		s.MediaType, s.Subject, s.Digest, s.Attributes = "text/plain", statement.SubjectSHA256, sum("a document"), attributes
	})
}

// received makes a statement one that the gateway received.
func received(s *statement.Statement) *statement.Statement {
	s.Received = &statement.ReceptionInfo{Principal: "p1", Method: "token"}
	s.Signers[0].Meaning = statement.Reception
	return s
}

// request is a statement with its beacon, and every grant that a token can give.
func (c *cast) request(s *statement.Statement, keys ...*statement.PrivateKey) Request {
	c.t.Helper()
	r := Request{Envelope: c.sign(s, keys...).Bytes(), Granted: statement.Roles()}
	if s.Beacon != nil {
		r.Beacon = c.beacon()
	}
	return r
}

// put submits a statement and expects success.
func (c *cast) put(s *statement.Statement, keys ...*statement.PrivateKey) *Answer {
	c.t.Helper()
	a, err := c.seq.Add(context.Background(), c.request(s, keys...))
	if err != nil {
		c.t.Fatalf("add a %q of %s: %v", s.Kind, s.Organisation, err)
	}
	c.advance(s, a.Identity)
	return a
}

// size is the number of stored entries, integrated or not.
func (c *cast) size() uint64 {
	c.t.Helper()
	root, err := c.seq.c.Tree.Integrate(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	return root.Size
}

// refusal is what an error says to a client: its type and the field.
func refusal(err error) (kind, field string) {
	var (
		wrong     *statement.FieldError
		forbidden *ForbiddenError
		missing   *MissingError
		chain     *ChainError
	)
	switch {
	case err == nil:
		return "accepted", ""
	case errors.As(err, &wrong):
		return "wrong", wrong.Field
	case errors.As(err, &forbidden):
		return "forbidden", forbidden.Field
	case errors.As(err, &missing):
		return "missing", missing.Field
	case errors.As(err, &chain):
		return "chain", ""
	}
	return "other", err.Error()
}
