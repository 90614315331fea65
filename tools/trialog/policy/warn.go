package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/verify"
)

// Warnings returns what is allowed and unwise about a policy, each in a sentence.
func Warnings(p *verify.Policy) []string {
	var list []string
	warn := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	trust, notes := p.Trust(), p.Notes()
	if notes.QuorumName() == noQuorum {
		warn("no witness has to have seen a checkpoint: the log alone decides what you are shown")
	} else {
		warnQuorum(p, warn)
	}
	for _, origin := range Shards(p) {
		if !slices.ContainsFunc(trust.RequiredLogKeys, func(k *checkpoint.VerifierKey) bool {
			return k.Name() == origin && k.Algorithm() == checkpoint.AlgMLDSA44
		}) {
			warn("no ML-DSA-44 key is required of %s: a quantum computer could forge its checkpoints", origin)
		}
	}
	for _, r := range trust.Retired {
		warn("the witness key %s is retired: %s", lineName(notes, r.Key), limits(r))
	}
	if len(trust.Auditors) == 0 {
		warn("no auditor is named: whether a signer's key was reported lost or stolen cannot be checked")
	}
	return list
}

// warnQuorum says what is unwise about who must have signed.
func warnQuorum(p *verify.Policy, warn func(string, ...any)) {
	trust, notes := p.Trust(), p.Notes()
	by := runBy(p)
	organisations := distinct(by)
	if len(organisations) == 1 {
		warn("all witnesses are run by %s: that is a demonstration, not assurance", organisations[0])
	}
	for _, alone := range organisations {
		if !notes.Quorum(func(w string) bool { return by[w] == alone }) {
			continue
		}
		if alone == trust.LogOperator {
			warn("%s, which runs the log, is a quorum by itself: it can show you whatever it likes", alone)
		} else if len(organisations) > 1 {
			warn("%s is a quorum by itself: nobody else need have seen a checkpoint", alone)
		}
	}
	if !notes.Quorum(func(w string) bool { return !retired(p, w) }) {
		warn("the quorum cannot be reached without retired keys: no new checkpoint can satisfy this policy")
	}
	if !notes.Quorum(func(w string) bool { return algorithm(notes, w) == checkpoint.AlgMLDSA44 }) {
		warn("the quorum cannot be reached by ML-DSA-44 keys alone: a quantum computer could forge part of every quorum")
	}
	counting := counted(notes)
	for _, w := range notes.Witnesses() {
		if !counting[w.Name] {
			warn("the witness %s is not part of the quorum: its cosignatures never count", w.Name)
		}
	}
	for _, g := range notes.Groups() {
		if g.K > 1 && len(g.Members) > 1 && onlyWitnesses(notes, g) {
			warn("the group %s holds witness keys only and asks for %d of them: it is taken for one operator; "+
				"if these are several, give each a group of its own", g.Name, g.K)
		}
	}
}

// Shards returns the origins of a policy in the order of its log lines, oldest first.
func Shards(p *verify.Policy) []string {
	var list []string
	for _, l := range p.Notes().Logs() {
		if !slices.Contains(list, l.Key.Name()) {
			list = append(list, l.Key.Name())
		}
	}
	return list
}

// runBy tells for each witness which organisation runs it.
func runBy(p *verify.Policy) map[string]string {
	by := map[string]string{}
	for _, op := range p.Notes().Operators() {
		for _, w := range op.Witnesses {
			by[w] = p.Trust().RunBy[op.Name]
		}
	}
	return by
}

// distinct returns the values of a map, sorted, each once.
func distinct(m map[string]string) []string {
	list := make([]string, 0, len(m))
	for _, v := range m {
		list = append(list, v)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func algorithm(notes *checkpoint.Policy, witness string) checkpoint.Algorithm {
	for _, w := range notes.Witnesses() {
		if w.Name == witness {
			return w.Key.Algorithm()
		}
	}
	return 0
}

// retired tells whether a witness line is one of a retired key.
func retired(p *verify.Policy, witness string) bool {
	for _, w := range p.Notes().Witnesses() {
		if w.Name == witness {
			return slices.ContainsFunc(p.Trust().Retired, func(r verify.Retired) bool { return r.Key.String() == w.Key.String() })
		}
	}
	return false
}

// lineName is the name that the policy has for a key.
func lineName(notes *checkpoint.Policy, key *checkpoint.VerifierKey) string {
	for _, w := range notes.Witnesses() {
		if w.Key.String() == key.String() {
			return w.Name
		}
	}
	return key.Name()
}

// limits says up to where a retired key counts.
func limits(r verify.Retired) string {
	parts := make([]string, len(r.Until))
	for i, u := range r.Until {
		parts[i] = fmt.Sprintf("up to %d entries of %s", u.Size, u.Origin)
	}
	return "its cosignatures count " + strings.Join(parts, ", ") + ", and nowhere else"
}

// counted are the witnesses on which the quorum depends.
func counted(notes *checkpoint.Policy) map[string]bool {
	groups := map[string]checkpoint.GroupEntry{}
	for _, g := range notes.Groups() {
		groups[g.Name] = g
	}
	in := map[string]bool{}
	for open := []string{notes.QuorumName()}; len(open) > 0; open = open[1:] {
		in[open[0]] = true
		open = append(open, groups[open[0]].Members...)
	}
	return in
}

func onlyWitnesses(notes *checkpoint.Policy, g checkpoint.GroupEntry) bool {
	return !slices.ContainsFunc(g.Members, func(m string) bool {
		return slices.ContainsFunc(notes.Groups(), func(o checkpoint.GroupEntry) bool { return o.Name == m })
	})
}
