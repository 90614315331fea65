package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/strictjson"
	"github.com/trialog/trialog/api/statement"
)

// TrustFormat is the value of the member format of a policy's sidecar.
const TrustFormat = "trialog-trust@v1"

// maxPolicy bounds the size of either half of a policy, in bytes.
const maxPolicy = 1 << 20

// Policy is what a verifier believes: a C2SP tlog-policy, which names the log's
// keys, the witnesses and the quorum, and a sidecar, which says what a
// tlog-policy cannot. It reaches the verifier by another way than the evidence.
type Policy struct {
	notes *checkpoint.Policy
	text  []byte
	json  []byte
	trust Trust

	// What follows from the rest, for every Verify to use.
	fingerprint string
	shards      map[string]int    // origin to its place in the order of the log lines
	runBy       map[string]string // witness to the organisation that runs it
	operators   int
	judged      *noteCache // nil unless Remembering
}

// noteCache remembers notes that a policy has judged good, by the SHA-256 of
// their bytes.
type noteCache struct {
	mu sync.Mutex
	by map[checkpoint.Hash]*checkpoint.Cosigned
}

// maxJudged bounds the notes that a policy remembers.
const maxJudged = 64

func (c *noteCache) get(digest checkpoint.Hash) *checkpoint.Cosigned {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[digest]
}

func (c *noteCache) put(digest checkpoint.Hash, good *checkpoint.Cosigned) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for old := range c.by {
		if len(c.by) < maxJudged {
			break
		}
		delete(c.by, old) // any one: it costs a second look
	}
	c.by[digest] = good
}

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
}

// TimeAuthority is a time-stamp authority (RFC 3161).
type TimeAuthority struct {
	Name        string
	Certificate *x509.Certificate // that its tokens' certificates lead to
}

// ParsePolicy reads a tlog-policy and its sidecar. Both are needed: without the
// sidecar nothing says which log keys must have signed and who runs a witness.
func ParsePolicy(text, sidecar []byte) (*Policy, error) {
	if len(text) > maxPolicy || len(sidecar) > maxPolicy {
		return nil, fmt.Errorf("policy: larger than %d bytes", maxPolicy)
	}
	notes, err := checkpoint.ParsePolicy(text)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	p := &Policy{notes: notes, text: slices.Clone(text), json: slices.Clone(sidecar)}
	o, err := strictjson.ParseObject(sidecar)
	if err != nil {
		return nil, fmt.Errorf("policy sidecar: %w", err)
	}
	if err := p.readTrust(o); err != nil {
		return nil, fmt.Errorf("policy sidecar: %w", err)
	}
	p.derive()
	return p, nil
}

// derive computes what follows from the two halves.
func (p *Policy) derive() {
	h := sha256.New()
	for _, half := range [][]byte{p.text, p.json} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(half)))
		h.Write(n[:])
		h.Write(half)
	}
	p.fingerprint = hex.EncodeToString(h.Sum(nil))
	p.shards = map[string]int{}
	for _, l := range p.notes.Logs() {
		if _, ok := p.shards[l.Key.Name()]; !ok {
			p.shards[l.Key.Name()] = len(p.shards)
		}
	}
	p.runBy = map[string]string{}
	operators := p.notes.Operators()
	for _, op := range operators {
		for _, w := range op.Witnesses {
			p.runBy[w] = p.trust.RunBy[op.Name]
		}
	}
	p.operators = len(operators)
}

func (p *Policy) readTrust(o *strictjson.Object) error {
	if got := o.Text("format"); got != TrustFormat {
		o.Fail("format", "expected %q", TrustFormat)
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
	t.TimeAuthorities = timeAuthorities(o)
	t.PendingKeys = keyList(o, "pendingKeys")
	t.Auditors = keyList(o, "auditors")
	if err := o.Done(); err != nil {
		return err
	}
	return p.checkLogs()
}

// keyList reads an optional array of keys, base64 of SubjectPublicKeyInfo.
func keyList(o *strictjson.Object, name string) []*statement.PublicKey {
	var keys []*statement.PublicKey
	for i, text := range stringList(o, name, false) {
		der, err := base64.StdEncoding.Strict().DecodeString(text)
		var key *statement.PublicKey
		if err == nil && base64.StdEncoding.EncodedLen(len(der)) != len(text) {
			err = errors.New("line breaks in the base64")
		}
		if err == nil {
			key, err = statement.ParsePublicKey(der)
		}
		if err != nil {
			o.Fail(fmt.Sprintf("%s[%d]", name, i), "expected the base64 of a SubjectPublicKeyInfo: %s", err)
			break
		}
		keys = append(keys, key)
	}
	return keys
}

// timeAuthorities reads the optional array of time-stamp authorities.
func timeAuthorities(o *strictjson.Object) []TimeAuthority {
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
		text := a.Text("certificate")
		der, err := base64.StdEncoding.Strict().DecodeString(text)
		if err == nil && base64.StdEncoding.EncodedLen(len(der)) == len(text) {
			authority.Certificate, err = x509.ParseCertificate(der)
		}
		if err != nil || authority.Certificate == nil {
			a.Fail("certificate", "expected the base64 of a DER X.509 certificate")
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

func (p *Policy) requiredKeys(origin string) []*checkpoint.VerifierKey {
	var keys []*checkpoint.VerifierKey
	for _, k := range p.trust.RequiredLogKeys {
		if k.Name() == origin {
			keys = append(keys, k)
		}
	}
	return keys
}

// shard returns the place of origin in the order of the policy's log lines,
// which is the order of the shards; -1 if the policy does not list it.
func (p *Policy) shard(origin string) int {
	if i, ok := p.shards[origin]; ok {
		return i
	}
	return -1
}

// Trust returns the content of the sidecar.
func (p *Policy) Trust() Trust { return p.trust }

// Notes returns the tlog-policy.
func (p *Policy) Notes() *checkpoint.Policy { return p.notes }

// Fingerprint names the policy: SHA-256 over both halves, each preceded by its
// length as a 64-bit big-endian integer, as 64 hexadecimal digits.
func (p *Policy) Fingerprint() string { return p.fingerprint }

// Remembering returns the same policy with a memory of the notes that it has
// judged good, for servers: many receipts share one checkpoint, and its
// signatures are most of the work. Verdicts are the same.
func (p *Policy) Remembering() *Policy {
	r := *p
	r.judged = &noteCache{by: map[checkpoint.Hash]*checkpoint.Cosigned{}}
	return &r
}

// CheckNote judges a checkpoint note: the quorum of the tlog-policy, every
// required log key, and no extension lines. The caller must not change what it
// gets. It may be called concurrently.
func (p *Policy) CheckNote(raw []byte) (*checkpoint.Cosigned, error) {
	digest := checkpoint.Hash(sha256.Sum256(raw))
	if good := p.judged.get(digest); good != nil {
		return good, nil
	}
	c, err := p.judge(raw)
	if err != nil {
		return nil, err
	}
	p.judged.put(digest, c)
	return c, nil
}

// judge is CheckNote without its memory.
func (p *Policy) judge(raw []byte) (*checkpoint.Cosigned, error) {
	n, err := checkpoint.Parse(raw)
	if err != nil {
		return nil, err
	}
	// ML-DSA-44 does not sign extension lines, and no log of ours writes any.
	if len(n.Extensions()) > 0 {
		return nil, errors.New("the checkpoint has extension lines, expected none")
	}
	c, err := p.notes.Check(n)
	if err != nil {
		return nil, err
	}
	for _, want := range p.requiredKeys(c.Origin) {
		if !slices.ContainsFunc(c.LogKeys, func(k *checkpoint.VerifierKey) bool { return k.String() == want.String() }) {
			// The policy may list the key as a log line or not: verify by name.
			if err := verifyRequired(n, want); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// verifyRequired looks for a signature of want that the tlog-policy did not ask
// for.
func verifyRequired(n *checkpoint.Note, want *checkpoint.VerifierKey) error {
	for _, sig := range n.Signatures() {
		if sig.Name == want.Name() && sig.KeyID == want.ID() {
			_, err := want.VerifyCheckpoint(n, sig)
			return err
		}
	}
	return fmt.Errorf("the log's required key %s (%s) has not signed the checkpoint", want.Name(), want.Algorithm())
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
