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
	for _, r := range j.trust.Retired {
		if r.Key.String() == key.String() {
			return slices.ContainsFunc(r.Until, func(l verify.Limit) bool { return l.Origin == c.Origin && c.Size <= l.Size })
		}
	}
	return true
}
