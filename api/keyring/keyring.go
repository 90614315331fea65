// Package keyring finds out which keys a log has enrolled and revoked, from its
// entries alone: what an auditor signs as a keyring snapshot (verify.Keyring).
//
// The log is believed for the order of its entries and for nothing else. A
// statement of kind "key" counts if it is signed as it says and rooted, by the
// rules that docs/formats.md gives for receipts; what an honest log would have
// refused is left out, and named with its place.
package keyring

import (
	"errors"
	"fmt"
	"slices"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// State is what the entries read so far add up to. It must not be used
// concurrently.
type State struct {
	log     string
	origin  string
	size    uint64
	read    []string // origins, oldest first
	keys    map[statement.KeyID]*key
	order   []statement.KeyID // of enrolment
	inForce map[string]*statement.PublicKey
	ignored []Ignored // the first MaxIgnored
	left    int       // how many were ignored
}

// MaxIgnored is how many of the entries that were left out a State remembers: a
// hostile log may hold nothing else.
const MaxIgnored = 1000

// key is an enrolled key.
type key struct {
	public *statement.PublicKey
	roles  []statement.Role
	row    verify.KeyringKey
}

// Ignored is an entry that changes no key although it speaks of keys, or that
// nobody can read. An honest log has none.
type Ignored struct {
	Origin string
	Index  uint64
	Reason string
}

// New makes the state of a log of which nothing was read.
func New(log string) *State {
	return &State{log: log, keys: map[statement.KeyID]*key{}, inForce: map[string]*statement.PublicKey{}}
}

// Begin goes on to the next shard. Shards come in their order, oldest first; the
// caller knows that order from a policy.
func (s *State) Begin(origin string) error {
	switch {
	case !statement.IsShardOf(origin, s.log):
		return fmt.Errorf("read the keys: %q is no shard of %q", origin, s.log)
	case slices.Contains(s.read, origin):
		return fmt.Errorf("read the keys: shard %q was read before", origin)
	}
	s.read = append(s.read, origin)
	s.origin, s.size = origin, 0
	return nil
}

// Add takes the next entry of the shard, which the caller has verified to be in
// its tree at this place.
func (s *State) Add(raw []byte) error {
	if s.origin == "" {
		return errors.New("read the keys: no shard was begun")
	}
	if err := s.take(raw); err != nil {
		s.left++
		if len(s.ignored) < MaxIgnored {
			s.ignored = append(s.ignored, Ignored{Origin: s.origin, Index: s.size, Reason: err.Error()})
		}
	}
	s.size++
	return nil
}

// Ignored returns what was left out, in the order of the log, MaxIgnored entries at
// most, and how many it was.
func (s *State) Ignored() (list []Ignored, all int) { return slices.Clone(s.ignored), s.left }

// Keyring returns the snapshot of what was read so far, keys in the order of their
// enrolment.
func (s *State) Keyring() *verify.Keyring {
	k := &verify.Keyring{Log: s.log, Origin: s.origin, Size: s.size}
	for _, id := range s.order {
		k.Keys = append(k.Keys, s.keys[id].row)
	}
	return k
}

// take applies one entry. The error says why it changes nothing.
func (s *State) take(raw []byte) error {
	framed, err := entry.Parse(raw)
	if err != nil {
		return err
	}
	env, stmt, err := statement.Parse(framed.Envelope)
	if err != nil {
		return fmt.Errorf("the statement cannot be read: %w", err)
	}
	if stmt.Kind != statement.KindKey {
		return nil
	}
	if stmt.Log != s.log {
		return fmt.Errorf("is meant for log %q", stmt.Log)
	}
	if public, enrols := stmt.EnrolledKey(); enrols {
		return s.enrol(env, stmt, public)
	}
	return s.revoke(env, stmt)
}

// signers finds the public keys of those who signed a statement about the keys of
// an organisation, beside those of own; and whether the recovery key in force, or
// an admin, is among them. Revoked keys sign nothing.
func (s *State) signers(
	stmt *statement.Statement, own ...*statement.PublicKey,
) (keys map[statement.KeyID]*statement.PublicKey, recovery, admin bool) {
	keys = map[statement.KeyID]*statement.PublicKey{}
	for _, k := range own {
		keys[k.ID()] = k
	}
	force := s.inForce[stmt.Organisation]
	for _, id := range stmt.SignerIDs() {
		if force != nil && force.ID() == id {
			keys[id], recovery = force, true
			continue
		}
		by := s.keys[id]
		if by == nil || by.row.Organisation != stmt.Organisation || by.row.Revoked {
			continue
		}
		keys[id] = by.public
		admin = admin || slices.Contains(by.roles, statement.Admin)
	}
	return keys, recovery, admin
}

// enrol applies an enrolment.
func (s *State) enrol(env *statement.Envelope, stmt *statement.Statement, public *statement.PublicKey) error {
	id := public.ID()
	if s.keys[id] != nil {
		return fmt.Errorf("key %s is enrolled already", id)
	}
	own := []*statement.PublicKey{public}
	names, hasRecovery := stmt.RecoveryKey()
	if hasRecovery {
		own = append(own, names)
	}
	keys, byRecovery, byAdmin := s.signers(stmt, own...)
	force := s.inForce[stmt.Organisation]
	switch {
	case force == nil && hasRecovery: // the organisation's first
	case !byRecovery && !byAdmin:
		return fmt.Errorf("nobody entitled to it signed the enrolment of key %s", id)
	case hasRecovery && names.ID() != force.ID() && !byRecovery:
		return fmt.Errorf("the enrolment of key %s names another recovery key, and is not signed by the one in force", id)
	}
	if err := statement.VerifySignatures(env.Message(), env.Signatures, stmt.SignerIDs(), keys); err != nil {
		return err
	}
	if hasRecovery {
		s.inForce[stmt.Organisation] = names
	}
	s.keys[id] = &key{public: public, roles: stmt.RolesAttribute(), row: verify.KeyringKey{
		Key: id, Organisation: stmt.Organisation, Origin: s.origin, Enrolled: s.size,
	}}
	s.order = append(s.order, id)
	return nil
}

// revoke applies a revocation. A later one of the same key counts: the recovery
// key's owner has found out more.
func (s *State) revoke(env *statement.Envelope, stmt *statement.Statement) error {
	id := stmt.DigestAttribute("revokes")
	k := s.keys[id]
	if k == nil || k.row.Organisation != stmt.Organisation {
		return fmt.Errorf("revokes key %s, which is not enrolled for %q", id, stmt.Organisation)
	}
	keys, byRecovery, _ := s.signers(stmt)
	if !byRecovery {
		return errors.New("a revocation that the organisation's recovery key has not signed")
	}
	if err := statement.VerifySignatures(env.Message(), env.Signatures, stmt.SignerIDs(), keys); err != nil {
		return err
	}
	k.row.Revoked = true
	k.row.SuspectOrigin, k.row.SuspectFrom = stmt.TextAttribute("suspectOrigin"), stmt.CountAttribute("suspectFrom")
	return nil
}
