package checkpoint

import (
	"bytes"
	"fmt"
	"strings"
)

// MaxPolicySize is the greatest length of a policy in bytes: room for some
// hundred ML-DSA-44 keys, far more than the 32 logs, witnesses and groups that
// the specification asks for.
const MaxPolicySize = 1 << 20

// ParsePolicy reads a policy file, every rule of c2sp.org/tlog-policy held. The
// error is a [*FormatError].
//
// Stricter than the specification: a numeric threshold has no leading zeros; a
// URL starts with a scheme, which catches a comment at the end of a line; the
// same key may not be that of a log and of a witness, as the log would vouch
// for itself; keys of signature types that this package does not verify are
// refused, and so are two keys with the same name and key id; at most
// [MaxPolicySize] bytes.
func ParsePolicy(text []byte) (*Policy, error) {
	b := policyBuilder{
		p: &Policy{
			raw:           bytes.Clone(text),
			witnessByName: make(map[string]int),
			groupByName:   make(map[string]int),
			parent:        make(map[string]int),
			keys:          make(map[keyName]keyRole),
		},
		publicKeys: make(map[string]bool),
	}
	line, reason := b.read(text)
	if reason != "" {
		return nil, &FormatError{Object: "policy", Line: line, Reason: reason}
	}
	return b.p, nil
}

// policyBuilder is a policy in the making. Its methods return a reason, empty
// if all is well.
type policyBuilder struct {
	p          *Policy
	publicKeys map[string]bool // raw public keys seen, without their types
}

func (b *policyBuilder) read(text []byte) (line int, reason string) {
	if len(text) > MaxPolicySize {
		return 0, fmt.Sprintf("longer than %d bytes", MaxPolicySize)
	}
	for l := range strings.Lines(string(text)) {
		line++
		// SPEC: each line is terminated by ASCII newline
		l, ok := strings.CutSuffix(l, "\n")
		if !ok {
			return line, "line does not end in a newline"
		}
		if reason := b.line(l); reason != "" {
			return line, reason
		}
	}
	// SPEC: A policy file must include exactly one quorum line.
	if b.p.quorum == "" {
		return 0, "no quorum line"
	}
	return 0, ""
}

func (b *policyBuilder) line(l string) string {
	// SPEC: The only allowed control characters are tab and newline, which
	// means that the allowed octet values are 0x09 (tab), 0x0A (newline),
	// 0x20-0x7E, and 0x80-0xFF.
	for i := range len(l) {
		if c := l[i]; c != '\t' && (c < 0x20 || c == 0x7f) {
			return fmt.Sprintf("control character 0x%02x", c)
		}
	}
	// SPEC: sequences of ASCII space and tab characters *only*. Leading and
	// trailing whitespace is allowed.
	f := strings.FieldsFunc(l, func(r rune) bool { return r == ' ' || r == '\t' })
	// SPEC: Empty lines (whitespace only) and comment lines (lines starting
	// with "#", possibly preceded by whitespace) are allowed and ignored.
	if len(f) == 0 || f[0][0] == '#' {
		return ""
	}
	switch args := f[1:]; f[0] {
	case "log":
		return b.log(args)
	case "witness":
		return b.witness(args)
	case "group":
		return b.group(args)
	case "quorum":
		return b.quorum(args)
	default:
		return "unknown keyword, expected log, witness, group or quorum"
	}
}

// log reads: log <vkey> [<url>]
func (b *policyBuilder) log(args []string) string {
	if len(args) != 1 && len(args) != 2 {
		return "expected log <vkey> [<url>]"
	}
	key, url, reason := readKey(args)
	if reason != "" {
		return reason
	}
	if !logAlgorithm(key.alg) {
		return fmt.Sprintf("%s key is not a log's", key.alg)
	}
	if reason := b.addKey(key, -1); reason != "" {
		return reason
	}
	b.p.logs = append(b.p.logs, LogEntry{Key: key, URL: url})
	return ""
}

// witness reads: witness <name> <vkey> [<url>]
func (b *policyBuilder) witness(args []string) string {
	if len(args) != 2 && len(args) != 3 {
		return "expected witness <name> <vkey> [<url>]"
	}
	name := args[0]
	if reason := b.freeName(name); reason != "" {
		return reason
	}
	key, url, reason := readKey(args[1:])
	if reason != "" {
		return reason
	}
	if !witnessAlgorithm(key.alg) {
		return fmt.Sprintf("%s key is not a witness's", key.alg)
	}
	if reason := b.addKey(key, len(b.p.witnesses)); reason != "" {
		return reason
	}
	b.p.witnessByName[name] = len(b.p.witnesses)
	b.p.witnesses = append(b.p.witnesses, WitnessEntry{Name: name, Key: key, URL: url})
	return ""
}

// group reads: group <name> all|any|<k> <member>…
func (b *policyBuilder) group(args []string) string {
	// SPEC: At least one member must be listed (i.e., n >= 1).
	if len(args) < 3 {
		return "expected group <name> all|any|<k> <member>…"
	}
	name, members := args[0], args[2:]
	if reason := b.freeName(name); reason != "" {
		return reason
	}
	k, reason := readThreshold(args[1], len(members))
	if reason != "" {
		return reason
	}
	g := len(b.p.groups)
	for _, m := range members {
		// SPEC: a group definition can only refer to names defined on
		// preceding lines. (This also rules out circular group definitions).
		if !b.defined(m) {
			return "group has a member that no line above defines"
		}
		// SPEC: Each defined name can be listed as a group member at most
		// once. This ensures that each witness can contribute to a group, or
		// to the quorum in particular, in only one way.
		if _, ok := b.p.parent[m]; ok {
			return "group has a member that is listed already, here or in another group"
		}
		b.p.parent[m] = g
	}
	b.p.groupByName[name] = g
	b.p.groups = append(b.p.groups, GroupEntry{Name: name, K: k, Members: members})
	return ""
}

// quorum reads: quorum <name>|none
func (b *policyBuilder) quorum(args []string) string {
	if len(args) != 1 {
		return "expected quorum <name>|none"
	}
	if b.p.quorum != "" {
		return "second quorum line"
	}
	// SPEC: the name must be properly defined on a line preceding the quorum
	// definition.
	if args[0] != noQuorum && !b.defined(args[0]) {
		return "quorum is a name that no line above defines"
	}
	b.p.quorum = args[0]
	return ""
}

// readThreshold reads all, any or a number.
//
// SPEC: The `any` variant is a shorthand for k = 1, and the `all` variant is a
// shorthand for k = n. If k is given numerically, it must be written in
// decimal, and it is required that 1 <= k <= n.
func readThreshold(s string, n int) (k int, reason string) {
	switch s {
	case "all":
		return n, ""
	case "any":
		return 1, ""
	}
	u, ok := parseDecimal(s)
	if !ok {
		return 0, "threshold is not all, any or a decimal number without leading zeros"
	}
	if u < 1 || u > uint64(n) { //nolint:gosec // n counts members: not negative
		return 0, "threshold is not between 1 and the number of members"
	}
	return int(u), "" //nolint:gosec // at most n
}

// readKey reads <vkey> [<url>].
func readKey(args []string) (key *VerifierKey, url, reason string) {
	key, reason = parseVerifierKey(args[0])
	if reason != "" {
		return nil, "", "verifier key: " + reason
	}
	if len(args) == 2 {
		url = args[1]
		if !hasScheme(url) {
			return nil, "", "URL does not start with a scheme"
		}
	}
	return key, url, ""
}

// hasScheme reports whether s starts like an absolute URL (RFC 3986, section
// 3.1). The rest is the application's affair.
func hasScheme(s string) bool {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || scheme == "" || rest == "" || !isLetter(scheme[0]) {
		return false
	}
	for i := range len(scheme) {
		if c := scheme[i]; !isLetter(c) && (c < '0' || c > '9') && c != '+' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func (b *policyBuilder) defined(name string) bool {
	_, witness := b.p.witnessByName[name]
	_, group := b.p.groupByName[name]
	return witness || group
}

// SPEC: Witnesses and groups share a single namespace. The special name `none`
// is predefined
func (b *policyBuilder) freeName(name string) string {
	if name == noQuorum {
		return "the name none is taken"
	}
	if b.defined(name) {
		return "name is defined already"
	}
	return ""
}

// addKey enters a key.
//
// SPEC: Two vkeys are considered *duplicate* if they wrap the same underlying
// public key, even if they differ by key name and key id. […] Duplicate logs,
// i.e., multiple log lines with the same public key, are not allowed. […]
// Duplicate witnesses, i.e., multiple witness lines with the same public key,
// are not allowed.
func (b *policyBuilder) addKey(key *VerifierKey, witness int) string {
	if b.publicKeys[string(key.public)] {
		return "public key is on another line already"
	}
	b.publicKeys[string(key.public)] = true
	id := keyName{key.name, key.id}
	if _, ok := b.p.keys[id]; ok {
		return "name and key id are those of another key"
	}
	b.p.keys[id] = keyRole{key: key, witness: witness}
	return ""
}
