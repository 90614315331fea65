package checkpoint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Cosignature is one verified signature by a witness of a policy.
type Cosignature struct {
	// Witness is the witness's name in the policy.
	Witness string
	// Key is the key that signed; its name is the cosigner name.
	Key *VerifierKey
	// Time is when it was signed by the witness's clock, in Unix seconds; 0 if
	// the witness states no time.
	Time uint64
}

// Cosigned is a checkpoint that satisfies a policy, with who vouches for it.
type Cosigned struct {
	Checkpoint
	// LogKeys are the policy's log keys, named like the origin, that signed:
	// at least one, in the order of the signature lines.
	LogKeys []*VerifierKey
	// Witnesses are the cosignatures by the policy's witnesses in the order of
	// the signature lines. A key that signed at several times is here several
	// times; count [Cosigned.Operators] instead.
	Witnesses []Cosignature

	policy *Policy
}

// Check judges a note by the policy: by every signature line that names a key
// of the policy, and by no other.
//
// It fails with a [*SignatureError] if a line that names a known key does not
// verify, with an [*OriginError] if no listed log of the note's origin signed
// it, with a [*QuorumError] if the cosignatures are not enough, and with
// [ErrEmptyRoot]. Cosignatures that state no time count towards the quorum.
func (p *Policy) Check(n *Note) (*Cosigned, error) {
	c := &Cosigned{Checkpoint: n.checkpoint, policy: p}
	if err := c.CheckRoot(); err != nil {
		return nil, fmt.Errorf("checking note: %w", err)
	}
	for _, s := range n.signatures {
		// SPEC (signed-note): Verifiers MUST ignore signatures from unknown
		// keys, even if they share a name or ID (but not both) with a known
		// key.
		role, ok := p.keys[keyName{s.Name, s.KeyID}]
		if !ok {
			continue
		}
		// SPEC (signed-note): If the key name and ID match a known key,
		// verifiers MUST verify the signature. If a signature from a known key
		// fails to verify, clients SHOULD reject the whole note.
		t, err := role.key.VerifyCheckpoint(n, s)
		if err != nil {
			return nil, err
		}
		c.add(role, t)
	}
	// SPEC (tlog-policy): a checkpoint is considered valid if it is signed by
	// any one of the listed logs […]. This name MUST correspond to the log's
	// origin line.
	if len(c.LogKeys) == 0 {
		return nil, &OriginError{Note: n, Listed: p.logKeys(n.checkpoint.Origin)}
	}
	if !p.Quorum(signedBy(c.Witnesses)) {
		return nil, p.quorumError(n, c.Witnesses)
	}
	return c, nil
}

// add notes a verified signature, once if a key says the same thing again.
func (c *Cosigned) add(role keyRole, t uint64) {
	if role.witness >= 0 {
		s := Cosignature{Witness: c.policy.witnesses[role.witness].Name, Key: role.key, Time: t}
		if !slices.Contains(c.Witnesses, s) {
			c.Witnesses = append(c.Witnesses, s)
		}
		return
	}
	// A log that signs in another log's name says nothing about that log.
	if role.key.name == c.Origin && !slices.Contains(c.LogKeys, role.key) {
		c.LogKeys = append(c.LogKeys, role.key)
	}
}

func (p *Policy) logKeys(origin string) []*VerifierKey {
	var out []*VerifierKey
	for _, l := range p.logs {
		if l.Key.name == origin {
			out = append(out, l.Key)
		}
	}
	return out
}

func (p *Policy) quorumError(n *Note, signed []Cosignature) error {
	by := signedBy(signed)
	var b strings.Builder
	p.describe(&b, p.quorum)
	return &QuorumError{
		Note:    n,
		Signed:  signed,
		Missing: slices.DeleteFunc(p.counting(), by),
		Quorum:  b.String(),
	}
}

// signedBy returns whether a witness is among those that cosigned.
func signedBy(cosignatures []Cosignature) func(string) bool {
	names := make(map[string]bool, len(cosignatures))
	for _, c := range cosignatures {
		names[c.Witness] = true
	}
	return func(name string) bool { return names[name] }
}

// Operators returns the operators that cosigned, each with those of its
// witnesses that did. See [Policy.Operators].
func (c *Cosigned) Operators() []Operator {
	if c.policy == nil {
		return nil
	}
	by := signedBy(c.Witnesses)
	var out []Operator
	for _, o := range c.policy.Operators() {
		o.Witnesses = slices.DeleteFunc(o.Witnesses, func(w string) bool { return !by(w) })
		if len(o.Witnesses) > 0 {
			out = append(out, o)
		}
	}
	return out
}

// NotBefore returns the greatest time t, in Unix seconds, such that the
// cosignatures dated t or later satisfy the policy by themselves: the note with
// all its signatures did not exist before t, unless a quorum of witnesses had
// clocks that run ahead.
//
// It returns false if no such time is to be had: the policy wants no
// cosignatures, or those that state a time are not enough.
func (c *Cosigned) NotBefore() (uint64, bool) {
	return c.bound(func(a, b Cosignature) int { return cmp.Compare(b.Time, a.Time) })
}

// NotAfter returns the least time t, in Unix seconds, such that the
// cosignatures dated t or earlier satisfy the policy by themselves: the
// checkpoint existed at t, unless a quorum of witnesses had clocks that run
// behind. It returns false as [Cosigned.NotBefore] does.
//
// A cosignature without a time is left out of both bounds. Were it taken for
// one dated 1970, whoever holds such cosignatures, as witnesses give on
// subtrees, could date any checkpoint back.
func (c *Cosigned) NotAfter() (uint64, bool) {
	return c.bound(func(a, b Cosignature) int { return cmp.Compare(a.Time, b.Time) })
}

// bound takes dated cosignatures in the given order until they satisfy the
// policy and returns the time of the last one taken. A quorum never breaks by
// more signatures, so that this is the extreme time sought.
func (c *Cosigned) bound(order func(a, b Cosignature) int) (uint64, bool) {
	if c.policy == nil || c.policy.quorum == noQuorum {
		return 0, false
	}
	dated := slices.DeleteFunc(slices.Clone(c.Witnesses), func(s Cosignature) bool { return s.Time == 0 })
	slices.SortFunc(dated, order)
	for i, s := range dated {
		if c.policy.Quorum(signedBy(dated[:i+1])) {
			return s.Time, true
		}
	}
	return 0, false
}
