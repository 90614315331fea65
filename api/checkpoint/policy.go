package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// LogEntry is one log line of a policy.
type LogEntry struct {
	// Key is the log's key; its name is the origin.
	Key *VerifierKey
	// URL is how to reach the log; empty if the line has none.
	URL string
}

// WitnessEntry is one witness line of a policy: one key. A witness with two keys
// has two lines.
type WitnessEntry struct {
	// Name names the line inside the policy, nowhere else. It is a string of
	// octets, perhaps not UTF-8.
	Name string
	// Key is the witness's key; its name is the cosigner name.
	Key *VerifierKey
	// URL is the submission prefix; empty if the line has none.
	URL string
}

// GroupEntry is one group line of a policy.
type GroupEntry struct {
	// Name names the group inside the policy.
	Name string
	// K is how many members must have signed: 1 for any, all of them for all.
	K int
	// Members are names of witnesses and groups defined before.
	Members []string
}

// Operator is who a policy holds to be one party: see [Policy.Operators].
type Operator struct {
	// Name is the group's name, or that of a witness alone.
	Name string
	// Witnesses are policy names of witnesses.
	Witnesses []string
}

// Policy says which logs are known and which cosignatures are enough
// (c2sp.org/tlog-policy). It cannot be changed and may be used concurrently.
type Policy struct {
	raw       []byte
	logs      []LogEntry
	witnesses []WitnessEntry
	groups    []GroupEntry // in the order of definition: members come first
	quorum    string       // noQuorum, or the name of a witness or group

	witnessByName map[string]int // index in witnesses
	groupByName   map[string]int // index in groups
	parent        map[string]int // member name to index in groups
	keys          map[keyName]keyRole
}

// keyName is what a signature line says about its key.
type keyName struct {
	name string
	id   uint32
}

// keyRole is what a policy says about a key.
type keyRole struct {
	key     *VerifierKey
	witness int // index in witnesses, or -1 for a log key
}

// noQuorum is the predefined name for wanting no cosignatures.
const noQuorum = "none"

// Logs returns the log lines in their order.
func (p *Policy) Logs() []LogEntry { return slices.Clone(p.logs) }

// Witnesses returns the witness lines in their order.
func (p *Policy) Witnesses() []WitnessEntry { return slices.Clone(p.witnesses) }

// Groups returns the group lines in their order; members are defined before the
// groups they are in.
func (p *Policy) Groups() []GroupEntry {
	out := slices.Clone(p.groups)
	for i := range out {
		out[i].Members = slices.Clone(out[i].Members)
	}
	return out
}

// QuorumName returns the name on the quorum line: that of a witness or group,
// or "none".
func (p *Policy) QuorumName() string { return p.quorum }

// Bytes returns the policy as it was read.
func (p *Policy) Bytes() []byte { return bytes.Clone(p.raw) }

// Digest returns SHA-256 over the policy as it was read. It is not the
// fingerprint that verdicts print, which covers the sidecar too.
func (p *Policy) Digest() Hash { return sha256.Sum256(p.raw) }

// Operators returns who stands behind the witnesses, in the order of their
// first witness: a group all of whose members are witnesses is one operator; a
// witness in no such group is an operator of its own.
//
// So several keys of one party count once if the policy puts them in a group. A
// policy that puts the witnesses of several parties directly into one group
// shows one operator: give each a group, even of one.
func (p *Policy) Operators() []Operator {
	var out []Operator
	at := make(map[int]int) // index in groups to index in out
	for _, w := range p.witnesses {
		g, ok := p.parent[w.Name]
		if !ok || !p.onlyWitnesses(g) {
			out = append(out, Operator{Name: w.Name, Witnesses: []string{w.Name}})
			continue
		}
		i, ok := at[g]
		if !ok {
			i = len(out)
			at[g] = i
			out = append(out, Operator{Name: p.groups[g].Name})
		}
		out[i].Witnesses = append(out[i].Witnesses, w.Name)
	}
	return out
}

func (p *Policy) onlyWitnesses(group int) bool {
	return !slices.ContainsFunc(p.groups[group].Members, func(m string) bool {
		_, ok := p.witnessByName[m]
		return !ok
	})
}

// Quorum reports whether the witnesses for which signed returns true, by policy
// name, are enough. It calls signed at most once for each witness.
func (p *Policy) Quorum(signed func(witnessName string) bool) bool {
	if p.quorum == noQuorum {
		return true
	}
	holds := make(map[string]bool, len(p.witnesses)+len(p.groups))
	for _, w := range p.witnesses {
		holds[w.Name] = signed(w.Name)
	}
	// Members are defined before their groups, so one pass settles all
	// without recursion, however deep the file nests.
	for _, g := range p.groups {
		n := 0
		for _, m := range g.Members {
			if holds[m] {
				n++
			}
		}
		// SPEC (tlog-policy): the group is considered to witness a checkpoint
		// if and only if at least k of its n members have witnessed that
		// checkpoint
		holds[g.Name] = n >= g.K
	}
	return holds[p.quorum]
}

// counting returns the policy names of the witnesses that the quorum depends
// on, in the order of their lines.
func (p *Policy) counting() []string {
	var out []string
	for _, w := range p.witnesses {
		name := w.Name
		for name != p.quorum {
			g, ok := p.parent[name]
			if !ok {
				break
			}
			name = p.groups[g].Name
		}
		if name == p.quorum {
			out = append(out, w.Name)
		}
	}
	return out
}

// describe writes what a name stands for, for a person to read. Groups are
// trees in which every name occurs once, so the text is no longer than the
// policy.
func (p *Policy) describe(b *strings.Builder, name string) {
	i, ok := p.groupByName[name]
	if !ok {
		b.WriteString(name)
		return
	}
	g := p.groups[i]
	switch g.K {
	case len(g.Members):
		b.WriteString("all of (")
	case 1:
		b.WriteString("any of (")
	default:
		fmt.Fprintf(b, "%d of (", g.K)
	}
	for i, m := range g.Members {
		if i > 0 {
			b.WriteString(", ")
		}
		p.describe(b, m)
	}
	b.WriteString(")")
}
