package generate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/trustbundle"
	"github.com/trialog/trialog/api/vectors"
	"github.com/trialog/trialog/api/verify"
)

// trusting is what the vectors of trust bundles are made of.
type trusting struct {
	set     *set
	sidecar []byte
	signers []*statement.PrivateKey
	listKey *statement.PrivateKey
	list    []byte
}

func (g *set) trusting() *trusting {
	w := &trusting{set: g, listKey: testlog.Ed25519Key("log lists"), signers: []*statement.PrivateKey{
		testlog.Ed25519Key("trust 1"), testlog.P256Key("trust 2"), testlog.Ed25519Key("trust 3"),
	}}
	var members map[string]any
	testlog.Check(json.Unmarshal(g.Sidecar().Encode(), &members))
	members["format"] = verify.TrustFormat2
	members["logListKeys"] = []string{base64.StdEncoding.EncodeToString(w.listKey.Public().DER())}
	w.sidecar = testlog.Must(json.MarshalIndent(members, "", " "))
	day := func(n int) time.Time { return time.Unix(testlog.Start, 0).UTC().AddDate(0, 0, n) }
	w.list = testlog.Must((&loglist.List{Log: testlog.Log, Version: 1, Issued: day(320), Shards: []loglist.Shard{
		listed(g.First, loglist.Active, day(0), day(0)), listed(g.Second, loglist.Announced, day(320), day(365)),
	}}).Sign(w.listKey))
	return w
}

// content is a first bundle.
func (w *trusting) content() trustbundle.Content {
	c := trustbundle.Content{
		Log: testlog.Log, Version: 1, Issued: time.Unix(testlog.Start, 0).UTC().AddDate(0, 0, 330),
		Threshold: 2, PolicyText: w.set.policyText, Sidecar: w.sidecar, LogListRaw: w.list,
		KeyringRaw: w.set.Keyring(&verify.Keyring{
			Log: testlog.Log, Origin: w.set.First.Origin, Size: 20,
			Keys: []verify.KeyringKey{{Key: w.set.Admin.Key.ID(), Organisation: "sponsor-a", Origin: w.set.First.Origin}},
		}),
	}
	c.Expires = c.Issued.AddDate(1, 0, 0)
	for _, k := range w.signers {
		c.Signers = append(c.Signers, k.Public())
	}
	return c
}

func sealed(payload []byte, keys ...*statement.PrivateKey) []byte {
	return testlog.Must(statement.SignDSSE(trustbundle.PayloadType, payload, keys...))
}

// trustBundles adds vectors of the ops trust-bundle and trust-bundle-follows.
func (g *set) trustBundles() {
	w := g.trusting()
	first := w.content()
	payload := testlog.Must(first.Encode())
	one := func(id, what, field string, data []byte) vectors.Vector {
		return g.one("trust-bundle", "bundle", id, what, data, field)
	}
	g.accept(one("first", "version 1, signed by two of three", "", sealed(payload, w.signers[:2]...)))
	stranger := testlog.Ed25519Key("pending records")
	g.accept(one("all", "signed by all three, and by a stranger", "", sealed(payload, append(w.signers, stranger)...)))
	bare := first
	bare.KeyringRaw, bare.LogListRaw = nil, nil
	g.accept(one("policy-only", "without keyring and log list", "", sealed(testlog.Must(bare.Encode()), w.signers...)))
	second := base64.StdEncoding.EncodeToString(w.signers[1].Public().DER())
	for _, c := range []change{
		{"version-zero", "version 0", "version", `"version":1`, `"version":0`},
		{"unknown", "an unknown member", "note", `"version"`, `"note":"","version"`},
		{"no-previous", "version 2 without the digest of the bundle before", "previous", `"version":1`, `"version":2`},
		{
			"previous-of-first", "version 1 with a bundle before it", "previous",
			`"threshold"`, `"previous":"` + strings.Repeat("a", 64) + `","threshold"`,
		},
		{"threshold-zero", "nobody has to sign", "threshold", `"threshold":2`, `"threshold":0`},
		{"threshold-high", "more must sign than may", "threshold", `"threshold":2`, `"threshold":4`},
		{
			"signer-twice", "a signer that is named twice", "signers[1]", second,
			base64.StdEncoding.EncodeToString(w.signers[0].Public().DER()),
		},
		{
			"expires-first", "expires when it is issued", "expiresMillis",
			fmt.Sprintf(`"expiresMillis":%d`, first.Expires.UnixMilli()), fmt.Sprintf(`"expiresMillis":%d`, first.Issued.UnixMilli()),
		},
		{"other-log", "another log than the policy's", "log", `"log":"` + testlog.Log, `"log":"` + testlog.Log + "s"},
		{"empty-keyring", "an empty keyring", "keyring", `"keyring":"`, `"keyring":"","was":"`},
	} {
		changed := bytes.Replace(payload, []byte(c.old), []byte(c.by), 1)
		if bytes.Equal(changed, payload) {
			g.wrongf("trust-bundle-%s changes nothing", c.id)
		}
		g.reject(one(c.id, c.what, c.field, sealed(changed, w.signers...)))
	}
	g.reject(one("too-few", "signed by one of the two that it asks for", "", sealed(payload, w.signers[0])))
	g.reject(one("one-twice", "signed twice by one", "", sealed(payload, w.signers[0], w.signers[0])))
	g.reject(one("as-log-list", "signed under the payload type of log lists", "payloadType",
		testlog.Must(statement.SignDSSE(loglist.PayloadType, payload, w.signers...))))
	foreign := first
	foreign.LogListRaw = nil
	foreign.Sidecar = g.sidecar // of the first version: names no key of lists
	unnamed := bytes.Replace(testlog.Must(foreign.Encode()), []byte(`}`),
		[]byte(`,"logList":"`+base64.StdEncoding.EncodeToString(w.list)+`"}`), 1)
	g.reject(one("list-unnamed", "a log list whose key the policy does not name", "", sealed(unnamed, w.signers...)))
	g.trustHistory(w, first)
}

// trustHistory adds vectors of op trust-bundle-follows.
func (g *set) trustHistory(w *trusting, first trustbundle.Content) {
	before := sealed(testlog.Must(first.Encode()), w.signers...)
	old := testlog.Must(trustbundle.Parse(before))
	name := g.file("trust-bundle/trust-bundle-before", before)
	pair := func(id, what string, change func(*trustbundle.Content), keys ...*statement.PrivateKey) vectors.Vector {
		c := first
		c.Version, c.Previous = 2, old.Digest()
		c.Issued, c.Expires = c.Issued.AddDate(0, 1, 0), c.Expires.AddDate(0, 1, 0)
		change(&c)
		if keys == nil {
			keys = w.signers[1:]
		}
		v := g.one("trust-bundle-follows", "next", id, what, sealed(testlog.Must(c.Encode()), keys...), "")
		v.Inputs["old"] = name
		return v
	}
	same := func(*trustbundle.Content) {}
	others := []*statement.PrivateKey{testlog.Ed25519Key("trust 4"), testlog.Ed25519Key("trust 5")}
	replaced := func(c *trustbundle.Content) {
		c.Signers = []*statement.PublicKey{others[0].Public(), others[1].Public()}
	}
	g.accept(pair("next", "a later version that says the same", same))
	g.accept(pair("signers", "other signers, and two of the old ones vouch for them", replaced, append(w.signers[:2:2], others...)...))
	g.reject(pair("signers-alone", "other signers for whom one of the old ones vouches", replaced, append(w.signers[:1:1], others...)...))
	g.reject(pair("digest", "another bundle is named as the one before", func(c *trustbundle.Content) { c.Previous[31]++ }))
	g.reject(pair("issued", "issued before the old one", func(c *trustbundle.Content) { c.Issued = first.Issued.Add(-time.Millisecond) }))
	g.reject(pair("no-keyring", "the keyring is not there any more", func(c *trustbundle.Content) { c.KeyringRaw = nil }))
	g.reject(pair("older-keyring", "a keyring that ends before the old one", func(c *trustbundle.Content) {
		c.KeyringRaw = g.Keyring(&verify.Keyring{
			Log: testlog.Log, Origin: g.First.Origin, Size: 19,
			Keys: []verify.KeyringKey{{Key: g.Admin.Key.ID(), Organisation: "sponsor-a", Origin: g.First.Origin}},
		})
	}))
	g.reject(pair("other-keyring", "another keyring that was read no further", func(c *trustbundle.Content) {
		c.KeyringRaw = g.Keyring(&verify.Keyring{
			Log: testlog.Log, Origin: g.First.Origin, Size: 20, Keys: []verify.KeyringKey{
				{Key: g.Admin.Key.ID(), Organisation: "sponsor-a", Origin: g.First.Origin},
				{Key: g.Site.Key.ID(), Organisation: "site-b", Origin: g.First.Origin, Enrolled: 1},
			},
		})
	}))
	g.reject(pair("no-list", "the log list is not there any more", func(c *trustbundle.Content) { c.LogListRaw = nil }))
	g.reject(pair("log-line", "a log line of a known shard is not there any more", func(c *trustbundle.Content) {
		line := "log " + g.First.Keys[1].String() + "\n"
		c.PolicyText = bytes.Replace(c.PolicyText, []byte(line), nil, 1)
	}))
}

func runTrustBundle(in *inputs, out *Outcome) error {
	b, err := trustbundle.Parse(in.get("bundle"))
	if err != nil {
		return err
	}
	c := b.Content()
	out.Values["log"], out.Values["version"] = c.Log, strconv.FormatUint(c.Version, 10)
	out.Values["fingerprint"], out.Values["policyFingerprint"] = b.Fingerprint(), b.Policy().Fingerprint()
	out.Values["threshold"], out.Values["signers"] = strconv.Itoa(c.Threshold), strconv.Itoa(len(c.Signers))
	out.Values["signed"] = strconv.Itoa(len(b.Signers()))
	return nil
}

func runTrustBundleFollows(in *inputs, _ *Outcome) error {
	old, err := trustbundle.Parse(in.get("old"))
	if err != nil {
		return err
	}
	next, err := trustbundle.Parse(in.get("next"))
	if err != nil {
		return err
	}
	return trustbundle.Follows(old, next)
}
