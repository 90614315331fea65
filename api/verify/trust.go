package verify

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/strictjson"
	"github.com/trialog/trialog/api/statement"
)

// Trust is the content of the sidecar.
type Trust struct {
	// Log is the name of the TrialLog. Origins of its shards begin with it and
	// a slash.
	Log string
	// LogOperator is the organisation that runs the log.
	LogOperator string
	// RequiredLogKeys are the keys that must all have signed a checkpoint of
	// the origin that they name: Ed25519 and ML-DSA-44.
	RequiredLogKeys []*checkpoint.VerifierKey
	// RunBy tells for each operator, a group of the policy, which organisation
	// runs its witnesses.
	RunBy map[string]string
	// AcceptReceived admits statements of grade received.
	AcceptReceived bool
	// Gateways are the keys that may say "received".
	Gateways []statement.KeyID
	// PendingKeys sign the log's promises (receipt.Pending), nothing else.
	PendingKeys []*statement.PublicKey
	// TimeAuthorities are RFC 3161 authorities that the policy holds to be
	// independent of the log: their tokens may narrow a bound.
	TimeAuthorities []TimeAuthority
	// Auditors are the keys whose keyring snapshots are believed.
	Auditors []*statement.PublicKey
	// Finals are the shards that have ended, each with its last tree head.
	Finals []Final
	// Retired are the witness keys that no longer count everywhere.
	Retired []Retired
	// LogListKeys may sign the log list; none: the policy does not say.
	LogListKeys []*statement.PublicKey
}

// TimeAuthority is a time-stamp authority (RFC 3161).
type TimeAuthority struct {
	Name        string
	Certificate *x509.Certificate // that its tokens' certificates lead to
	// Policy is the only one under which its tokens count; nil for any.
	Policy asn1.ObjectIdentifier
}

// Final is the last tree head of a shard that has ended: its log says nothing
// after it, and nothing else at it.
type Final struct {
	Origin string
	Size   uint64
	Root   checkpoint.Hash
}

// Retired is a witness key that was given up. Its cosignatures count up to a
// size of each origin that is named, and not at all for any other: who holds
// the key today can sign whatever is newer, and date it as they like.
type Retired struct {
	Key   *checkpoint.VerifierKey
	Until []Limit
}

// Limit is a size of a shard's tree, the last one for which something holds.
type Limit struct {
	Origin string
	Size   uint64
}

func (p *Policy) readTrust(o *strictjson.Object) error {
	format := o.Text("format")
	if format != TrustFormat && format != TrustFormat2 {
		o.Fail("format", "expected %q or %q", TrustFormat2, TrustFormat)
	}
	t := &p.trust
	t.Log = o.Text("log")
	o.Take(statement.CheckLog("log", t.Log))
	t.LogOperator = o.Text("logOperator")
	for i, vkey := range stringList(o, "requiredLogKeys", true) {
		key, err := checkpoint.ParseVerifierKey(vkey)
		if err != nil {
			o.Fail(fmt.Sprintf("requiredLogKeys[%d]", i), "%s", err)
			break
		}
		t.RequiredLogKeys = append(t.RequiredLogKeys, key)
	}
	p.readOperators(o)
	t.AcceptReceived = o.Required("acceptReceived", strictjson.Bool).Truth
	for i, text := range stringList(o, "gateways", false) {
		id, err := statement.ParseDigest(text)
		if err != nil {
			o.Fail(fmt.Sprintf("gateways[%d]", i), "%s", err)
		}
		t.Gateways = append(t.Gateways, id)
	}
	t.TimeAuthorities = timeAuthorities(o, format == TrustFormat2)
	t.PendingKeys = keyList(o, "pendingKeys")
	t.Auditors = keyList(o, "auditors")
	if format == TrustFormat2 {
		t.Finals = p.readFinals(o)
		t.Retired = p.readRetired(o)
		t.LogListKeys = keyList(o, "logListKeys")
	}
	if err := o.Done(); err != nil {
		return err
	}
	return p.checkLogs()
}

// keyList reads an optional array of keys, base64 of SubjectPublicKeyInfo.
func keyList(o *strictjson.Object, name string) []*statement.PublicKey {
	var keys []*statement.PublicKey
	for i, text := range stringList(o, name, false) {
		der, ok := strictjson.Base64(text)
		if !ok {
			o.Fail(fmt.Sprintf("%s[%d]", name, i), "expected the base64 of a SubjectPublicKeyInfo: not standard base64 with padding")
			break
		}
		key, err := statement.ParsePublicKey(der)
		if err != nil {
			o.Fail(fmt.Sprintf("%s[%d]", name, i), "expected the base64 of a SubjectPublicKeyInfo: %s", err)
			break
		}
		keys = append(keys, key)
	}
	return keys
}

// timeAuthorities reads the optional array of time-stamp authorities.
func timeAuthorities(o *strictjson.Object, mayNamePolicy bool) []TimeAuthority {
	v, ok := o.Optional("timeAuthorities")
	if !ok {
		return nil
	}
	if v.Kind != strictjson.Array || len(v.Items) == 0 {
		o.Fail("timeAuthorities", "expected an array with at least one member, or nothing")
	}
	var list []TimeAuthority
	for i, item := range v.Items {
		a := strictjson.NewObject(fmt.Sprintf("timeAuthorities[%d]", i), item)
		authority := TimeAuthority{Name: a.Text("name")}
		if authority.Name == "" {
			a.Fail("name", "expected the authority's name")
		}
		var err error
		der, ok := strictjson.Base64(a.Text("certificate"))
		if ok {
			authority.Certificate, err = x509.ParseCertificate(der)
		}
		if err != nil || authority.Certificate == nil {
			a.Fail("certificate", "expected the base64 of a DER X.509 certificate")
		}
		if mayNamePolicy {
			authority.Policy = dotted(a, "policy")
		}
		o.Join(a)
		list = append(list, authority)
	}
	return list
}

// readOperators reads who runs each operator's witnesses; every operator of the
// policy must be there, and no other.
func (p *Policy) readOperators(o *strictjson.Object) {
	p.trust.RunBy = map[string]string{}
	v := o.Required("operators", strictjson.ObjectKind)
	known := map[string]bool{}
	operators := p.notes.Operators()
	for _, op := range operators {
		known[op.Name] = true
	}
	for _, m := range v.Members {
		if !known[m.Name] {
			o.Fail("operators."+m.Name, "the policy has no such operator")
		}
		if m.Value.Kind != strictjson.String || m.Value.Text == "" {
			o.Fail("operators."+m.Name, "expected the name of the organisation that runs it")
		}
		p.trust.RunBy[m.Name] = m.Value.Text
	}
	for _, op := range operators {
		if p.trust.RunBy[op.Name] == "" {
			o.Fail("operators."+op.Name, "missing, expected the name of the organisation that runs it")
		}
	}
}

// checkLogs holds the log lines against the sidecar: origins of this log only,
// and required keys for each of them.
func (p *Policy) checkLogs() error {
	for _, l := range p.notes.Logs() {
		origin := l.Key.Name()
		if !statement.IsShardOf(origin, p.trust.Log) {
			return strictjson.Errorf("log", "origin %q of the policy is no shard of %q", origin, p.trust.Log)
		}
		if len(p.requiredKeys(origin)) == 0 {
			return strictjson.Errorf("requiredLogKeys", "none for origin %q", origin)
		}
	}
	for i, k := range p.trust.RequiredLogKeys {
		field := fmt.Sprintf("requiredLogKeys[%d]", i)
		if a := k.Algorithm(); a != checkpoint.AlgEd25519 && a != checkpoint.AlgMLDSA44 {
			return strictjson.Errorf(field, "an %s key is not a log's", a)
		}
		if !slices.ContainsFunc(p.notes.Logs(), func(l checkpoint.LogEntry) bool { return l.Key.Name() == k.Name() }) {
			return strictjson.Errorf(field, "the policy lists no log %q", k.Name())
		}
	}
	return nil
}

// stringList reads an array of strings.
func stringList(o *strictjson.Object, name string, required bool) []string {
	v, ok := o.Optional(name)
	if !ok {
		if required {
			o.Fail(name, "missing, expected an array")
		}
		return nil
	}
	if v.Kind != strictjson.Array {
		o.Fail(name, "expected an array, found %s", v.Kind)
		return nil
	}
	list := make([]string, 0, len(v.Items))
	for i, item := range v.Items {
		if item.Kind != strictjson.String {
			o.Fail(fmt.Sprintf("%s[%d]", name, i), "expected a string, found %s", item.Kind)
		}
		list = append(list, item.Text)
	}
	return list
}
