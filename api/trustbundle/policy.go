package trustbundle

import (
	"errors"
	"fmt"
	"slices"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/verify"
)

// shards returns the origins of a policy in the order of its log lines.
func shards(p *verify.Policy) []string {
	var list []string
	for _, l := range p.Notes().Logs() {
		if origin := l.Key.Name(); !slices.Contains(list, origin) {
			list = append(list, origin)
		}
	}
	return list
}

// place returns the place of a shard in the order of a policy; -1 if it is not
// there.
func place(p *verify.Policy, origin string) int { return slices.Index(shards(p), origin) }

// logKeys returns the keys of a shard, sorted: those of the log lines, and those
// that the sidecar requires.
func logKeys(p *verify.Policy, origin string) (listed, required []string) {
	for _, l := range p.Notes().Logs() {
		if l.Key.Name() == origin {
			listed = append(listed, l.Key.String())
		}
	}
	for _, k := range p.Trust().RequiredLogKeys {
		if k.Name() == origin {
			required = append(required, k.String())
		}
	}
	slices.Sort(listed)
	slices.Sort(required)
	return listed, required
}

// FollowsPolicy returns nil if next may take the place of old: it is of the same
// log, has the shards of old at the same places with the same keys, listed and
// required, and holds every end of a shard and every retirement of a key that old
// holds, none of them loosened. Shards come at the end; a shard's address may
// change. What it does not ask for is that receipts go on to verify: see
// KeepsReceipts. The error is a *HistoryError.
func FollowsPolicy(old, next *verify.Policy) error {
	was, is := old.Trust(), next.Trust()
	if was.Log != is.Log {
		return broken("policy", "is about log %q, not %q", is.Log, was.Log)
	}
	before, after := shards(old), shards(next)
	for i, origin := range before {
		if i >= len(after) || after[i] != origin {
			return broken("policy", "shard %s is not at its place any more", origin)
		}
		oldListed, oldRequired := logKeys(old, origin)
		listed, required := logKeys(next, origin)
		if !slices.Equal(oldListed, listed) {
			return broken("policy", "shard %s has other log lines", origin)
		}
		if !slices.Equal(oldRequired, required) {
			return broken("policy", "other keys are required of shard %s", origin)
		}
	}
	for _, f := range was.Finals {
		if !slices.Contains(is.Finals, f) {
			return broken("policy", "shard %s ended at %d, which is not said any more", f.Origin, f.Size)
		}
	}
	for i := range was.Retired {
		if err := stillRetired(&was.Retired[i], is.Retired); err != nil {
			return err
		}
	}
	return nil
}

// stillRetired looks for the retirement of a key that counts no further than was.
func stillRetired(was *verify.Retired, list []verify.Retired) error {
	i := slices.IndexFunc(list, func(r verify.Retired) bool { return r.Key.String() == was.Key.String() })
	if i < 0 {
		return broken("policy", "witness key %s was retired, and is not any more", was.Key.Name())
	}
	for _, until := range list[i].Until {
		bound, ok := sizeOf(was, until.Origin)
		if !ok || until.Size > bound {
			return broken("policy", "the retired witness key %s is to count up to %d of %s, and was up to %d",
				was.Key.Name(), until.Size, until.Origin, bound)
		}
	}
	return nil
}

func sizeOf(r *verify.Retired, origin string) (uint64, bool) {
	for _, u := range r.Until {
		if u.Origin == origin {
			return u.Size, true
		}
	}
	return 0, false
}

// maxQuorums bounds the sets of witnesses that KeepsReceipts looks at.
const maxQuorums = 1 << 14

// errManyQuorums says that nobody can tell.
var errManyQuorums = errors.New("the old policy can be satisfied in too many ways to look at each")

// KeepsReceipts tells whether what satisfied old still satisfies next: every set
// of witnesses that was a quorum is one, retired keys counted as they were up to
// their sizes, and what gateways said is still accepted. The error says which set
// is none any more.
func KeepsReceipts(old, next *verify.Policy) error {
	was, is := old.Trust(), next.Trust()
	if was.AcceptReceived && !is.AcceptReceived {
		return broken("policy", "statements that a gateway received are not accepted any more")
	}
	for _, g := range was.Gateways {
		if is.AcceptReceived && !slices.Contains(is.Gateways, g) {
			return broken("policy", "gateway %s is not named any more: what it received is not accepted", g)
		}
	}
	sets, err := quorums(old.Notes())
	if err != nil {
		return fmt.Errorf("compare the policies: %w", err)
	}
	byKey := map[string]string{} // a witness of next by its key
	for _, w := range next.Notes().Witnesses() {
		byKey[w.Key.String()] = w.Name
	}
	keyOf := map[string]string{}
	for _, w := range old.Notes().Witnesses() {
		keyOf[w.Name] = w.Key.String()
	}
	for _, set := range sets {
		signed := map[string]bool{}
		for _, name := range set {
			signed[byKey[keyOf[name]]] = true
		}
		if !next.Notes().Quorum(func(name string) bool { return signed[name] }) {
			return broken("policy", "%v were a quorum and are none any more: receipts with their cosignatures would not verify; "+
				"keep their keys, and retire those that are not to cosign any more", set)
		}
	}
	return nil
}

// quorums returns the least sets of witnesses, by their names in the policy, that
// satisfy its quorum.
func quorums(p *checkpoint.Policy) ([][]string, error) {
	name := p.QuorumName()
	sets := map[string][][]string{}
	for _, w := range p.Witnesses() {
		sets[w.Name] = [][]string{{w.Name}}
	}
	for _, g := range p.Groups() { // members come first
		// least[k] are the sets in which k of the members seen so far have signed.
		least := make([][][]string, g.K+1)
		least[0] = [][]string{{}}
		for i, m := range g.Members {
			// Fewer than need of the members so far cannot become K of all.
			need := g.K - (len(g.Members) - 1 - i)
			for k := g.K; k > 0 && k >= need; k-- {
				for _, some := range least[k-1] {
					if len(least[k])+len(sets[m]) > maxQuorums {
						return nil, errManyQuorums
					}
					for _, more := range sets[m] {
						least[k] = append(least[k], slices.Concat(some, more))
					}
				}
			}
		}
		sets[g.Name] = least[g.K]
	}
	if all, ok := sets[name]; ok {
		return all, nil
	}
	return [][]string{{}}, nil // none: nobody needs to sign
}
