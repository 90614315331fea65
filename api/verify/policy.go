package verify

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/strictjson"
)

// The values of the member format of a policy's sidecar. The second version
// has members for what has come to an end: shards and witness keys.
const (
	TrustFormat  = "trialog-trust@v1"
	TrustFormat2 = "trialog-trust@v2"
)

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
	finals      map[string]Final       // by origin
	retired     map[retiredKey][]Limit // by what a signature line says of the key
	judged      *noteCache             // nil unless Remembering
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
	p.finals = map[string]Final{}
	for _, f := range p.trust.Finals {
		p.finals[f.Origin] = f
	}
	p.retired = map[retiredKey][]Limit{}
	for _, r := range p.trust.Retired {
		p.retired[retiredKey{r.Key.Name(), r.Key.ID()}] = r.Until
	}
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

// CheckNote judges a checkpoint note: the quorum of the tlog-policy without the
// keys that are retired at this size, every required log key, no extension
// lines, and nothing that contradicts the end of a shard. The caller must not change what it
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
	if err := p.checkFinal(n.Checkpoint()); err != nil {
		return nil, err
	}
	counted, err := p.withoutRetired(n)
	if err != nil {
		return nil, err
	}
	c, err := p.notes.Check(counted)
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
