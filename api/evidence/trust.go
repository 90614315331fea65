package evidence

import (
	"slices"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/verify"
)

// counts tells whether a witness key's signature on a checkpoint counts. One that
// was given up counts only as far as the policy says: whoever has it now is not
// the witness.
func (j *judge) counts(key *checkpoint.VerifierKey, c checkpoint.Checkpoint) bool {
	r := j.retired(key)
	return r == nil || slices.ContainsFunc(r.Until, func(l verify.Limit) bool { return l.Origin == c.Origin && c.Size <= l.Size })
}

// retired returns what the policy says of a key that was given up; nil if it was
// not.
func (j *judge) retired(key *checkpoint.VerifierKey) *verify.Retired {
	for i := range j.trust.Retired {
		if r := &j.trust.Retired[i]; r.Key.String() == key.String() {
			return r
		}
	}
	return nil
}

// accuseWitness adds the witness whose key made a signature, once. It tells whether
// it is the first.
func (j *judge) accuseWitness(c Cosignature) (Party, bool) {
	p := j.witness(c.Witness)
	if j.retired(c.key) == nil {
		j.firm = append(j.firm, p)
	}
	return p, j.accuse(p)
}

// warnRetired adds a caveat for each witness that is accused by nothing but keys
// which it has given up: they may have been stolen.
func (j *judge) warnRetired() {
	for _, p := range j.f.Against {
		if p.Role == RoleWitness && !slices.Contains(j.firm, p) {
			j.caveatf("The policy says that the key of %s is retired. If it was stolen, whoever has it may have signed this.", p)
		}
	}
}
