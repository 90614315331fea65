package generate

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/timestamp"
	tt "github.com/trialog/trialog/api/timestamp/timestamptest"
	"github.com/trialog/trialog/api/vectors"
	"github.com/trialog/trialog/api/verify"
)

// timeStamps adds tokens, receipts with tokens, and policies of the second
// version.
func (g *set) timeStamps() {
	a := tt.New("Time Authority A")
	g.singleTokens(a)
	g.stampedReceipts(a, tt.New("Time Authority B"))
	g.endings()
	g.policiesVersion2(a)
}

// second returns a sidecar of the second version.
func (g *set) second(change func(*testlog.Sidecar)) []byte {
	s := g.Sidecar()
	s.Format = verify.TrustFormat2
	if change != nil {
		change(&s)
	}
	return s.Encode()
}

// token is a vector of op token: a good one but for a change.
type token struct {
	id, what string
	refused  bool
	change   func(*tt.Draft)
}

// contentTokens are about what a token says.
func contentTokens() []token {
	return []token{
		{"good", "a good token", false, nil},
		{"no-accuracy", "a token that states no accuracy", false, func(d *tt.Draft) { d.Accuracy = nil }},
		{"imprint-other", "the imprint is of something else", true, func(d *tt.Draft) {
			other := sha256.Sum256([]byte("other"))
			d.Imprint = tt.Sequence(tt.Algorithm(tt.SHA256, tt.Null()), tt.Octets(other[:]))
		}},
		{"imprint-sha-1", "the imprint is made with SHA-1", true, func(d *tt.Draft) {
			d.Imprint = tt.Sequence(tt.Algorithm(tt.SHA1, tt.Null()), tt.Octets(make([]byte, 20)))
		}},
		{"nonce-other", "another nonce than the request's", true, func(d *tt.Draft) { d.Nonce = tt.Int(1) }},
		{"nonce-missing", "the request's nonce is not repeated", true, func(d *tt.Draft) { d.Nonce = nil }},
		{"policy-other", "made under another policy", true, func(d *tt.Draft) { d.Policy = tt.OID(tt.Policy + ".2") }},
		{"accuracy-of-a-day", "an accuracy of a day", true, func(d *tt.Draft) { d.Accuracy = tt.Sequence(tt.Int(86400)) }},
		{"critical-extension", "an extension that must be understood", true, func(d *tt.Draft) {
			d.Extensions = tt.TLV(0xa1, tt.Sequence(tt.OID(tt.Policy), []byte{1, 1, 0xff}, tt.Octets(nil)))
		}},
		{"ber", "the content is put together from parts, as BER allows", true, func(d *tt.Draft) {
			d.WrapContent = func(b []byte) []byte { return tt.TLV(0x24, tt.Octets(b[:10]), tt.Octets(b[10:])) }
		}},
	}
}

// signerTokens are about who signed it, and how.
func signerTokens(a *tt.Authority, at time.Time) []token {
	twin := tt.Issue(a.Issuer, "twin", tt.P256Key("twin"), tt.Purpose(true, tt.TimeStamping))
	by := func(e *tt.Entity) func(*tt.Draft) {
		return func(d *tt.Draft) { d.As(e); d.Certificates = [][]byte{a.Issuer.Cert.Raw, e.Cert.Raw} }
	}
	unit := func(name string, changes ...tt.Change) func(*tt.Draft) {
		return by(tt.Issue(a.Issuer, name, tt.P256Key(name), changes...))
	}
	return []token{
		{"signature-altered", "the signature does not verify", true, func(d *tt.Draft) {
			d.ChangeSignature = func(s []byte) []byte { s[len(s)-1] ^= 1; return s }
		}},
		{"no-signed-attributes", "the content is signed without attributes", true, func(d *tt.Draft) { d.SignPlain = true }},
		{"two-signers", "two signerInfos", true, func(d *tt.Draft) {
			d.ChangeSigners = func(infos [][]byte) [][]byte { return append(infos, infos[0]) }
		}},
		{"certificate-identifier-sha-1", "the certificate is identified by SHA-1 alone", true, func(d *tt.Draft) {
			d.ChangeAttributes = func(l [][]byte) [][]byte {
				l[2] = tt.Attribute(tt.SigningCert, tt.CertIDs(tt.CertIDv1(a.Unit.Cert)))
				return l
			}
		}},
		{"certificate-identifier-other", "a good certificate is identified and travels along; another one signed", true, func(d *tt.Draft) {
			d.As(twin)
			d.CertID = tt.CertIDs(tt.CertIDv2(a.Unit.Cert))
			d.Certificates = append(d.Certificates, twin.Cert.Raw)
		}},
		{"purpose-not-critical", "the extended key usage is not critical", true, unit("meek", tt.Purpose(false, tt.TimeStamping))},
		{"two-purposes", "the certificate is for more than time-stamping", true, unit("two", tt.Purpose(true, tt.TimeStamping, tt.CodeSigning))},
		{"expired", "the certificate had expired at the token's time", true, unit("old",
			tt.Purpose(true, tt.TimeStamping), tt.Valid(tt.Start(), at.Add(-time.Second)))},
		{"chain-broken", "the issuer's certificate is missing", true, func(d *tt.Draft) { d.Certificates = d.Certificates[1:] }},
		{"unsigned-attributes", "attributes that nobody signed", true, func(d *tt.Draft) {
			d.Unsigned = tt.TLV(0xa1, tt.Attribute(tt.Policy, tt.Null()))
		}},
	}
}

// singleTokens adds vectors of op token.
func (g *set) singleTokens(a *tt.Authority) {
	digest := testlog.Seed("stamped")
	at := time.Unix(testlog.Start, 250_000_000).UTC()
	anchor := g.file("token/token-anchor.der", a.Root.Cert.Raw)
	nonce := big.NewInt(0x1234_5678_9abc)
	for _, c := range slices.Concat(contentTokens(), signerTokens(a, at)) {
		raw := a.Stamp(digest, at, func(d *tt.Draft) { d.Nonce = tt.BigInt(nonce) }, orNothing(c.change))
		v := vectors.Vector{
			ID: "token-" + c.id, What: c.what, Op: "token",
			Inputs: map[string]string{"token": g.file("token/token-"+c.id+".der", raw), "anchor": anchor},
			Args:   map[string]string{"digest": hex.EncodeToString(digest[:]), "nonce": nonce.String(), "policy": tt.Policy},
		}
		if c.refused {
			g.reject(v)
		} else {
			g.accept(v)
		}
	}
}

func orNothing(change func(*tt.Draft)) func(*tt.Draft) {
	if change == nil {
		return func(*tt.Draft) {}
	}
	return change
}

// stampedReceipts adds receipts with tokens. The second witness of the quorum
// cosigns a day after the first.
func (g *set) stampedReceipts(a, b *tt.Authority) {
	side := g.second(func(s *testlog.Sidecar) {
		s.TimeAuthorities = []testlog.TimeAuthority{{Name: "Time Authority A", Certificate: a.Root.Cert.Raw, Policy: tt.Policy}}
	})
	t := g.First.Time(g.Final.Checkpoint().Size)
	slow := g.noteAt(t+1, t+86400)
	stamp := func(by *tt.Authority, after time.Duration, change func(*tt.Draft)) []byte {
		digest := sha256.Sum256(g.Final.Text())
		at := time.Unix(int64(t), 0).UTC().Add(after) //nolint:gosec // far below the limit
		return by.Stamp(digest, at, orNothing(change))
	}
	with := func(note *checkpoint.Note, tokens ...[]byte) judged {
		in := g.plain(note, func(r *receipt.Receipt) { r.Tokens = tokens })
		in.sidecar = side
		return in
	}
	minute := stamp(a, time.Minute, nil)
	g.verify("token-narrows", "a time-stamp a minute after the first of two cosignatures, the second of which is a day late", "",
		with(slow, minute))
	g.verify("token-no-accuracy", "a time-stamp without an accuracy counts with a margin of five minutes", "",
		with(slow, stamp(a, time.Minute, func(d *tt.Draft) { d.Accuracy = nil })))
	g.verify("token-later", "a time-stamp that is later than the cosignatures changes nothing", "", with(g.Final, minute))
	g.verify("token-not-named", "a time-stamp of an authority that the policy does not name is not evaluated", "",
		with(slow, stamp(b, time.Minute, nil)))
	g.verify("token-policy-other", "a time-stamp under another of the authority's policies is not evaluated", "",
		with(slow, stamp(a, time.Minute, func(d *tt.Draft) { d.Policy = tt.OID(tt.Policy + ".2") })))
	g.verify("token-back-dated", "a time-stamp a year before the first cosignature does not count", "",
		with(g.Final, stamp(a, -365*24*time.Hour, nil)))
	g.verify("token-signature-altered", "a time-stamp that names itself as one of the named authority's and does not verify", verify.LinkTime,
		with(slow, stamp(a, time.Minute, func(d *tt.Draft) {
			d.ChangeSignature = func(s []byte) []byte { s[len(s)-1] ^= 1; return s }
		})))
	g.verify("token-of-other-checkpoint", "the time-stamp of another checkpoint", verify.LinkTime,
		with(slow, a.Stamp(sha256.Sum256(g.Note(g.First, 5).Text()), time.Unix(testlog.Start, 0).UTC())))
}

// endings adds receipts that a policy of the second version judges otherwise
// than one of the first.
func (g *set) endings() {
	size := g.Final.Checkpoint().Size
	t := g.First.Time(size)
	key := g.Operators[0].Keys[0].String()
	judge := func(note *checkpoint.Note, change func(*testlog.Sidecar)) judged {
		in := g.plain(note)
		in.sidecar = g.second(change)
		return in
	}
	retired := func(origin string, until uint64) func(*testlog.Sidecar) {
		return func(s *testlog.Sidecar) {
			s.Retired = []testlog.Retired{{Key: key, Until: []testlog.Limit{{Origin: origin, Size: until}}}}
		}
	}
	final := func(size uint64, root checkpoint.Hash) func(*testlog.Sidecar) {
		return func(s *testlog.Sidecar) {
			s.Finals = []testlog.Final{{Origin: g.First.Origin, Size: size, Root: root[:]}}
		}
	}
	two := g.noteAt(t+1, t+2)
	g.verify("retired-key-old", "a retired witness key counts at the last size for which it does", "",
		judge(two, retired(g.First.Origin, size)))
	g.verify("retired-key-new", "a retired witness key does not count beyond that size", verify.LinkCheckpoint,
		judge(two, retired(g.First.Origin, size-1)))
	g.verify("retired-key-other-shard", "a retired witness key does not count for a shard that is not named", verify.LinkCheckpoint,
		judge(two, retired(g.Second.Origin, size)))
	root := g.Final.Checkpoint().Root
	g.verify("final", "the last checkpoint of a shard that has ended", "", judge(g.Final, final(size, root)))
	g.verify("final-beyond", "a checkpoint beyond the end of its shard", verify.LinkCheckpoint,
		judge(g.Final, final(size-1, g.First.Checkpoint(size-1).Root)))
	g.verify("final-other-root", "another root than that of the end of its shard", verify.LinkCheckpoint,
		judge(g.Final, final(size, g.First.Checkpoint(size-1).Root)))
}

// policiesVersion2 adds vectors of op policy.
func (g *set) policiesVersion2(a *tt.Authority) {
	head := g.First.Checkpoint(5)
	full := func(s *testlog.Sidecar) {
		s.Finals = []testlog.Final{{Origin: g.First.Origin, Size: head.Size, Root: head.Root[:]}}
		s.Retired = []testlog.Retired{{
			Key: g.Operators[0].Keys[0].String(), Until: []testlog.Limit{{Origin: g.First.Origin, Size: 5}, {Origin: g.Second.Origin}},
		}}
		s.TimeAuthorities = []testlog.TimeAuthority{{Name: "Time Authority A", Certificate: a.Root.Cert.Raw, Policy: tt.Policy}}
		s.LogListKeys = []string{s.PendingKeys[0]}
	}
	good := string(g.second(full))
	add := func(id, what, field string, trust []byte) {
		v := vectors.Vector{ID: "policy-trust-v2-" + id, What: what, Op: "policy", Field: field, Inputs: map[string]string{
			"policy": "common/policy", "trust": g.file("policy/policy-trust-v2-"+id+".trust.json", trust),
		}}
		if field == "" {
			g.accept(v)
		} else {
			g.reject(v)
		}
	}
	add("full", "a sidecar of the second version with all of its members", "", []byte(good))
	add("bare", "a sidecar of the second version with none of them", "", g.second(nil))
	for _, c := range []struct{ id, what, field, old, by string }{
		{"as-v1", "members of the second version in the first", "timeAuthorities[0].policy", "trust@v2", "trust@v1"},
		{"finals-empty", "an empty array where it is to be left out", "finals", `"finals": [`, `"finals": [], "was": [`},
		{"final-origin", "an ended shard that the policy does not list", "finals[0].origin", g.First.Origin + `",
   "size": 5,`, testlog.Log + `/1999",
   "size": 5,`},
		{
			"retired-key", "a retired key that is no witness's", "retired[0].key",
			`"key": "` + g.Operators[0].Keys[0].String(), `"key": "` + g.First.Keys[0].String(),
		},
		{"retired-until", "a retired key without its sizes", "retired[0].until", `"until"`, `"Until"`},
		{"authority-policy", "a policy that is no object identifier", "timeAuthorities[0].policy", `"` + tt.Policy + `"`, `"1.3.06"`},
		{"log-list-key", "a key of log lists that is no key", "logListKeys[0]", `"logListKeys": [`, `"logListKeys": ["AAAA", `},
	} {
		if strings.Count(good, c.old) == 0 {
			stopf("nothing to change: %s", c.old)
		}
		add(c.id, c.what, c.field, []byte(strings.Replace(good, c.old, c.by, 1)))
	}
}

// runToken judges one time-stamp token.
func runToken(in *inputs, out *Outcome) error {
	t, err := timestamp.Parse(in.get("token"))
	if err != nil {
		return err
	}
	anchor, err := x509.ParseCertificate(in.get("anchor"))
	if err != nil {
		return err
	}
	digest, err := statement.ParseDigest(in.v.Args["digest"])
	if err != nil {
		return err
	}
	want := timestamp.Expect{Digest: digest}
	nonce, ok := new(big.Int).SetString(in.v.Args["nonce"], 10)
	if !ok {
		return errors.New("the vector's nonce is no number")
	}
	want.Nonce = nonce
	for arc := range strings.SplitSeq(in.v.Args["policy"], ".") {
		n, err := strconv.Atoi(arc)
		if err != nil {
			return err
		}
		want.Policy = append(want.Policy, n)
	}
	if err := t.Verify(anchor, want); err != nil {
		return err
	}
	out.Values["time"] = t.Time.Format(time.RFC3339Nano)
	out.Values["accuracyMicroseconds"] = strconv.FormatInt(t.Accuracy.Microseconds(), 10)
	out.Values["serial"] = t.Serial.String()
	out.Values["policy"] = t.Policy.String()
	return nil
}
