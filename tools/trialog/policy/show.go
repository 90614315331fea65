package policy

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/verify"
)

// noQuorum is the name of a quorum of nobody.
const noQuorum = "none"

// Show writes in plain words whom a policy believes and who must have signed.
func Show(p *verify.Policy) string {
	s := &sheet{policy: p, notes: p.Notes(), trust: p.Trust()}
	s.linef(0, "Policy for the log %s, which %s runs", s.trust.Log, s.trust.LogOperator)
	s.linef(1, "fingerprint %s", p.Fingerprint())
	s.linef(0, "")
	s.linef(0, "A checkpoint counts if")
	s.logKeys()
	s.quorum()
	s.linef(0, "")
	s.received()
	s.tokens()
	s.others()
	s.history()
	return s.b.String()
}

// sheet is the text in the making.
type sheet struct {
	policy *verify.Policy
	notes  *checkpoint.Policy
	trust  verify.Trust
	b      strings.Builder
}

func (s *sheet) linef(indent int, format string, args ...any) {
	text := strings.Repeat("  ", indent) + fmt.Sprintf(format, args...)
	s.b.WriteString(strings.TrimRight(text, " ") + "\n")
}

// logKeys says which keys of the log must have signed.
func (s *sheet) logKeys() {
	s.linef(1, "the log has signed it, with every one of these keys of the part (shard) that it is of:")
	for _, origin := range Shards(s.policy) {
		var algs []string
		for _, k := range s.trust.RequiredLogKeys {
			if k.Name() == origin {
				algs = append(algs, k.Algorithm().String())
			}
		}
		s.linef(2, "%s: %s%s", origin, strings.Join(algs, " and "), at(s.urlOf(origin)))
	}
}

func (s *sheet) urlOf(origin string) string {
	for _, l := range s.notes.Logs() {
		if l.Key.Name() == origin && l.URL != "" {
			return l.URL
		}
	}
	return ""
}

func at(url string) string {
	if url == "" {
		return ""
	}
	return ", at " + url
}

// quorum says which witnesses must have signed, as a tree.
func (s *sheet) quorum() {
	name := s.notes.QuorumName()
	if name == noQuorum {
		s.linef(1, "and nobody else: no witness has to have seen it")
		return
	}
	s.linef(1, "and it was seen and signed by")
	s.branch(2, name)
	by := runBy(s.policy)
	counting := counted(s.notes)
	for w := range by {
		if !counting[w] {
			delete(by, w)
		}
	}
	organisations := distinct(by)
	s.linef(1, "so at least %s of %d must agree: %s",
		plural(s.fewest(by, organisations), "organisation"), len(organisations), strings.Join(organisations, ", "))
	if len(organisations) == 1 {
		s.linef(1, "All witnesses are run by one organisation: that is a demonstration, not assurance.")
	}
}

// branch writes what stands below a name of the policy.
func (s *sheet) branch(indent int, name string) {
	group := slices.IndexFunc(s.notes.Groups(), func(g checkpoint.GroupEntry) bool { return g.Name == name })
	if group < 0 {
		s.witness(indent, name)
		return
	}
	g := s.notes.Groups()[group]
	run := s.trust.RunBy[name]
	switch n := len(g.Members); {
	case run != "" && n == 1:
		s.linef(indent, "%s, run by %s:", name, run)
	case run != "" && g.K == 1:
		s.linef(indent, "%s, run by %s: any of its %d keys", name, run, n)
	case run != "":
		s.linef(indent, "%s, run by %s: %d of its %d keys", name, run, g.K, n)
	case g.K == n:
		s.linef(indent, "%s: all of these %d", name, n)
	case g.K == 1:
		s.linef(indent, "%s: any of these %d", name, n)
	default:
		s.linef(indent, "%s: %d of these %d", name, g.K, n)
	}
	for _, m := range g.Members {
		s.branch(indent+1, m)
	}
}

func (s *sheet) witness(indent int, name string) {
	for _, w := range s.notes.Witnesses() {
		if w.Name != name {
			continue
		}
		text := fmt.Sprintf("%s: %s key of %s%s", name, strings.TrimSuffix(w.Key.Algorithm().String(), " cosignature"), w.Key.Name(), at(w.URL))
		if run := s.trust.RunBy[name]; run != "" {
			text += ", run by " + run
		}
		if retired(s.policy, name) {
			text += " (retired)"
		}
		s.linef(indent, "%s", text)
	}
}

// fewest returns how few organisations can be a quorum. It looks at all sets of up
// to 16; of more it says 1, which is not too many.
func (s *sheet) fewest(by map[string]string, organisations []string) int {
	const most = 16
	if len(organisations) > most {
		return 1
	}
	least := len(organisations)
	for set := range 1 << len(organisations) {
		n := bits.OnesCount(uint(set))
		if n < least && s.notes.Quorum(func(w string) bool {
			i := slices.Index(organisations, by[w])
			return i >= 0 && set>>i&1 == 1
		}) {
			least = n
		}
	}
	return least
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// received says whether a gateway's word is accepted.
func (s *sheet) received() {
	switch n := len(s.trust.Gateways); {
	case !s.trust.AcceptReceived:
		s.linef(0, "Statements that only a gateway signed are not accepted.")
	case n == 0:
		s.linef(0, "Statements that only a gateway signed would be accepted, but no gateway is named.")
	default:
		s.linef(0, "Statements that only a gateway signed are accepted, from %s:", plural(n, "gateway key"))
		for _, g := range s.trust.Gateways {
			s.linef(1, "%s", g)
		}
	}
}

// tokens says which time authorities may narrow a bound.
func (s *sheet) tokens() {
	if len(s.trust.TimeAuthorities) == 0 {
		s.linef(0, "Times are those of the witnesses: no time authority is named.")
		return
	}
	s.linef(0, "Time stamps of these authorities, taken to be independent of the log, may narrow a time:")
	for _, a := range s.trust.TimeAuthorities {
		text := a.Name
		if len(a.Policy) > 0 {
			text += ", under its policy " + a.Policy.String()
		}
		s.linef(1, "%s, certificate until %s", text, a.Certificate.NotAfter.UTC().Format("2006-01-02"))
	}
}

// others lists the keys that serve for other things.
func (s *sheet) others() {
	for _, k := range []struct {
		n          int
		what, none string
	}{
		{
			len(s.trust.Auditors), "Lists of lost and stolen keys are believed from %s.",
			"No auditor is named: whether a key was lost or stolen cannot be checked.",
		},
		{len(s.trust.PendingKeys), "Promises of the log are signed by %s.", "No key is named for promises of the log."},
		{
			len(s.trust.LogListKeys), "The list of the log's parts (shards) is signed by %s.",
			"No key is named for the list of the log's parts (shards).",
		},
	} {
		if k.n == 0 {
			s.linef(0, "%s", k.none)
		} else {
			s.linef(0, k.what, plural(k.n, "key"))
		}
	}
}

// history says what has ended.
func (s *sheet) history() {
	if len(s.trust.Finals) > 0 {
		s.linef(0, "These parts (shards) of the log have ended:")
		for _, f := range s.trust.Finals {
			s.linef(1, "%s with %d entries", f.Origin, f.Size)
		}
	}
	if len(s.trust.Retired) > 0 {
		s.linef(0, "These witness keys are retired:")
		for _, r := range s.trust.Retired {
			s.linef(1, "%s: %s", lineName(s.notes, r.Key), limits(r))
		}
	}
}
