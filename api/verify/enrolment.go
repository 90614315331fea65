package verify

import (
	"slices"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

// enrolment is a key as a proven statement of kind "key" enrols it.
type enrolment struct {
	key      *statement.PublicKey
	roles    []statement.Role
	recovery *statement.PublicKey // if the enrolment names one
	org      string
	origin   string
	index    uint64
	// authorities are who entitled it: none for an organisation's first one.
	authorities []authority
	// named is set for a recovery key, which is never enrolled itself: the
	// enrolment that names it.
	named *enrolment
}

// authority is a key that signed the enrolment of another one and is entitled
// to: an admin's, or the recovery key that an enrolment names.
type authority struct {
	by       *enrolment
	recovery bool
}

// checkEnrolments proves the enrolment of every signer. The log is trusted for
// order only, so an enrolment counts if it is rooted: it is an organisation's
// first one (which names the recovery key), or it is signed by that recovery
// key or by a key with the role admin that is itself so rooted. Whether a first
// enrolment really was the organisation's first only a keyring can tell.
func (c *checker) checkEnrolments() *Failure {
	c.enrolled = map[statement.KeyID]*enrolment{}
	// An enrolment may rest on another one of the receipt, so they are taken in
	// the order of the log.
	sorted := slices.Clone(c.receipt.Enrolments)
	slices.SortStableFunc(sorted, c.compareEnrolments)
	for _, e := range sorted {
		if f := c.proveEnrolment(e); f != nil {
			return f
		}
	}
	// The enrolment of a key is signed by that key: it proves itself.
	if _, ok := c.stmt.EnrolledKey(); ok {
		if f := c.enrol(c.envelope, c.stmt, c.cosigned.Origin, c.receipt.Proof.Index); f != nil {
			return f
		}
	}
	for i, signer := range c.stmt.Signers {
		e := c.signer(signer.Key)
		if e == nil {
			return fail(LinkEnrolment, "the receipt does not prove the enrolment of signer %s", signer.Key)
		}
		if f := c.mayHaveSigned(e, i == 0); f != nil {
			return f
		}
	}
	if c.stmt.Kind == statement.KindKey && c.stmt.TextAttribute("action") == "revoke" && !c.recovered {
		return fail(LinkEnrolment, "a revocation needs the signature of the organisation's recovery key")
	}
	return nil
}

// signer returns the enrolment behind a signer's key. A recovery key may sign
// statements of kind "key" of its organisation.
func (c *checker) signer(id statement.KeyID) *enrolment {
	if c.stmt.Kind == statement.KindKey {
		if by := c.recoveryOf(c.stmt.Organisation); by != nil && by.recovery.ID() == id {
			c.recovered = true
			if c.enrolled[id] == nil {
				c.enrolled[id] = &enrolment{key: by.recovery, org: by.org, origin: by.origin, index: by.index, named: by}
			}
		}
	}
	return c.enrolled[id]
}

// recoveryOf returns the enrolment that names the recovery key of org which is
// in force, as far as the evidence goes.
func (c *checker) recoveryOf(org string) *enrolment {
	for _, e := range slices.Backward(c.proven) {
		if e.org == org && e.recovery != nil {
			return e
		}
	}
	return nil
}

// compareEnrolments orders by shard, then by index.
func (c *checker) compareEnrolments(a, b receipt.Enrolment) int {
	originA, originB := a.Proof.Note.Checkpoint().Origin, b.Proof.Note.Checkpoint().Origin
	switch {
	case c.before(originA, a.Proof.Index, originB, b.Proof.Index):
		return -1
	case c.before(originB, b.Proof.Index, originA, a.Proof.Index):
		return 1
	}
	return 0
}

// mayHaveSigned checks that a signer's key belongs to who the statement says
// speaks, and that the writer's roles let it say this.
func (c *checker) mayHaveSigned(e *enrolment, writer bool) *Failure {
	if c.stmt.Received != nil {
		if !slices.Contains(e.roles, statement.Gateway) {
			return fail(LinkEnrolment, "key %s signs a reception but was not enrolled as a gateway", e.key.ID())
		}
		if rule, _ := statement.RuleOf(c.stmt.Kind); !rule.MaySay(statement.Receivable()) {
			return fail(LinkEnrolment, "a gateway cannot receive a %q", c.stmt.Kind)
		}
		return nil
	}
	if e.org != c.stmt.Organisation {
		return fail(LinkEnrolment, "key %s was enrolled for organisation %q, the statement speaks for %q",
			e.key.ID(), e.org, c.stmt.Organisation)
	}
	rule, _ := statement.RuleOf(c.stmt.Kind) // Decode has checked the kind
	if writer && c.stmt.Kind != statement.KindKey && !rule.MaySay(e.roles) {
		return fail(LinkEnrolment, "key %s was enrolled for %v, who may not say %q", e.key.ID(), e.roles, c.stmt.Kind)
	}
	return nil
}

// proveEnrolment checks an enrolment's inclusion, place and signatures and adds
// it.
func (c *checker) proveEnrolment(e receipt.Enrolment) *Failure {
	cosigned, err := c.note(e.Proof.Note.Bytes(), e.Proof.Note.Digest())
	if err != nil {
		return fail(LinkEnrolment, "the checkpoint of an enrolment: %w", err)
	}
	if err := included(entry.LeafHash(e.Entry), e.Proof, cosigned); err != nil {
		return fail(LinkEnrolment, "the enrolment is not at index %d: %w", e.Proof.Index, err)
	}
	if c.before(c.cosigned.Origin, c.receipt.Proof.Index, cosigned.Origin, e.Proof.Index) {
		return fail(LinkEnrolment, "the enrolment at index %d comes after the statement at index %d",
			e.Proof.Index, c.receipt.Proof.Index)
	}
	framed, err := entry.Parse(e.Entry)
	if err != nil {
		return fail(LinkEnrolment, "%w", err)
	}
	env, s, err := statement.Parse(framed.Envelope)
	if err != nil {
		return fail(LinkEnrolment, "the enrolment's statement: %w", err)
	}
	if s.Log != c.policy.trust.Log {
		return fail(LinkEnrolment, "the enrolment is meant for log %q", s.Log)
	}
	return c.enrol(env, s, cosigned.Origin, e.Proof.Index)
}

// enrol checks who signed an enrolment and, if it is rooted, adds the key.
func (c *checker) enrol(env *statement.Envelope, s *statement.Statement, origin string, index uint64) *Failure {
	key, ok := s.EnrolledKey()
	if !ok {
		return fail(LinkEnrolment, "a statement of kind %q enrols no key", s.Kind)
	}
	if s.Received != nil {
		return fail(LinkEnrolment, "a gateway's word enrols no key")
	}
	if slices.ContainsFunc(c.proven, func(e *enrolment) bool { return e.origin == origin && e.index == index }) {
		return nil // the receipt repeats it
	}
	e := &enrolment{key: key, roles: s.RolesAttribute(), org: s.Organisation, origin: origin, index: index}
	if recovery, names := s.RecoveryKey(); names {
		e.recovery = recovery
	}
	keys := c.authorise(e, s.SignerIDs())
	if f := c.checkRoot(e); f != nil {
		return f
	}
	message := statement.PAE(statement.PayloadType, env.Payload)
	if err := statement.VerifySignatures(message, env.Signatures, s.SignerIDs(), keys); err != nil {
		return fail(LinkEnrolment, "the enrolment of key %s: %w", key.ID(), err)
	}
	c.enrolled[key.ID()] = e
	c.proven = append(c.proven, e)
	return nil
}

// authorise finds the public keys of those who signed an enrolment, and who of
// them entitle it.
func (c *checker) authorise(e *enrolment, signers []statement.KeyID) map[statement.KeyID]*statement.PublicKey {
	keys := map[statement.KeyID]*statement.PublicKey{}
	if e.recovery != nil {
		keys[e.recovery.ID()] = e.recovery
	}
	keys[e.key.ID()] = e.key
	for _, id := range signers {
		if by := c.recoveryOf(e.org); by != nil && by.recovery.ID() == id {
			keys[id] = by.recovery
			e.authorities = append(e.authorities, authority{by: by, recovery: true})
			continue
		}
		by := c.enrolled[id]
		if by == nil || by.org != e.org || id == e.key.ID() {
			continue // nobody entitles itself
		}
		keys[id] = by.key
		if slices.Contains(by.roles, statement.Admin) {
			e.authorities = append(e.authorities, authority{by: by})
		}
	}
	return keys
}

// checkRoot tells whether an enrolment is rooted.
func (c *checker) checkRoot(e *enrolment) *Failure {
	force := c.recoveryOf(e.org)
	switch {
	case force == nil && e.recovery != nil:
		return nil // the organisation's first, as far as the evidence goes
	case len(e.authorities) == 0:
		return fail(LinkEnrolment, "nobody entitled to it signed the enrolment of key %s: "+
			"expected an organisation's first enrolment, its recovery key, or an admin's key", e.key.ID())
	case e.recovery == nil || e.recovery.ID() == force.recovery.ID():
		return nil
	case !slices.ContainsFunc(e.authorities, func(a authority) bool { return a.recovery }):
		// Else a stolen admin's key could rid itself of who may revoke it.
		return fail(LinkEnrolment, "the enrolment of key %s names another recovery key: "+
			"only the recovery key may", e.key.ID())
	}
	return nil
}
