package generate

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/vectors"
)

// rules adds vectors of op payload for the rules that tie one member to another,
// and the digest of a request.
func (g *set) rules() {
	g.signingTimes()
	g.beaconOrigins()
	g.keyStatements()
	g.receptions()
	g.reveals()
	end := g.ShardEnd.Envelope.Payload
	g.payload("shard-end", "the end of a shard, with the origin of the next", end)
	for _, c := range []change{
		{"shard-end-sentence", "words in the place of a log's name", "predicate.attributes.successor", g.Second.Origin, "the shard of 2027"},
		{"shard-end-scheme", "a log's name with a scheme", "predicate.attributes.successor", g.Second.Origin, "https://" + g.Second.Origin},
		{"shard-end-received", "the end of a shard that a gateway received", "predicate.received", `"authorship"`, `"reception"`},
	} {
		from := end
		if c.field == "predicate.received" {
			from = addReceived(end, "")
		}
		g.swap("payload", "payload", from, c)
	}
}

// payload adds an accepted vector of op payload.
func (g *set) payload(id, what string, data []byte) {
	g.accept(g.one("payload", "payload", id, what, data, ""))
}

// addReceived adds the member received to a payload.
func addReceived(payload []byte, more string) []byte {
	return append(bytes.TrimSuffix(bytes.Clone(payload), []byte("}}")), `,"received":{"principal":"p-7f3a","method":"token"`+more+`}}}`...)
}

// signingTimes: 21 CFR 11.50(a)(2) asks for date and time of a signature.
func (g *set) signingTimes() {
	at := string(g.TwoSigned.Statement.Signers[1].At)
	for i, short := range []string{"2026-03-01", "2026-03", "2026"} {
		g.swap("payload", "payload", g.TwoSigned.Envelope.Payload, change{
			"signer-at-" + []string{"day", "month", "year"}[i], "a signer states no time of day", "predicate.signers[0].at",
			`"at":"` + at + `"`, `"at":"` + short + `"`,
		})
	}
}

func (g *set) beaconOrigins() {
	for _, c := range [][3]string{
		{"other-log", "a beacon of another log", "log.example.org/others/2026"},
		{"log-itself", "the log's name in the place of a shard's origin", testlog.Log},
		{"no-slash", "an origin that begins with the log's name, without a slash", testlog.Log + "-2026"},
	} {
		g.swap("payload", "payload", g.TwoSigned.Envelope.Payload, change{
			"beacon-" + c[0], c[1], "predicate.beacon.origin", `"origin":"` + g.First.Origin + `"`, `"origin":"` + c[2] + `"`,
		})
	}
}

func (g *set) keyStatements() {
	revoked := g.Revoked.Envelope.Payload
	origin := `"suspectOrigin":"` + g.First.Origin + `"`
	g.payload("revocation", "a revocation", revoked)
	for _, c := range []change{
		{"revocation-without-origin", "a revocation that names no shard", "predicate.attributes.revokes", origin + ",", ""},
		{
			"revocation-of-other-log", "a revocation from a place in another log on", "predicate.attributes.suspectOrigin",
			origin, `"suspectOrigin":"log.example.org/others/2026"`,
		},
		{
			"revocation-origin-scheme", "an origin that is no log's name", "predicate.attributes.suspectOrigin",
			origin, `"suspectOrigin":"https://log.example.org/trials/2026"`,
		},
	} {
		g.swap("payload", "payload", revoked, c)
	}
	enrolment := testlog.Must(statement.ParseEnvelope(g.First.Entries[g.Site.EnrolledAt][9:])).Payload
	g.swap("payload", "payload", enrolment, change{
		"enrolment-with-origin", "an enrolment with an attribute of a revocation", "predicate.attributes.publicKey",
		`"action":"enrol"`, `"action":"enrol",` + origin,
	})
	g.swap("payload", "payload", addReceived(enrolment, ""), change{
		"enrolment-received", "an enrolment that a gateway received", "predicate.received", `"authorship"`, `"reception"`,
	})
}

func (g *set) receptions() {
	for _, c := range [][3]string{
		{"plain", "p-7f3a", "5f0c"}, {"other-principal", "p-7f3b", "5f0c"}, {"border", "p-7f3a5", "f0c"},
	} {
		g.accept(vectors.Vector{
			ID: "request-" + c[0], What: "the digest of principal " + c[1] + "'s request " + c[2], Op: "request",
			Args: map[string]string{"principal": c[1], "requestId": c[2]},
		})
	}
	with := func(request string) []byte {
		return g.swapped(g.Received, `"method":"token"`, `"method":"token","request":"`+request+`"`)
	}
	request := statement.RequestDigest("p-7f3a", "5f0c").String()
	g.payload("received-request", "grade received, with the digest of the request", with(request))
	for _, c := range [][3]string{
		{"short", "a digest of 63 digits", request[1:]}, {"zero", "a digest of zeros", strings.Repeat("0", 64)},
	} {
		g.reject(g.one("payload", "payload", "received-request-"+c[0], c[1], with(c[2]), "predicate.received.request"))
	}
}

func (g *set) reveals() {
	say := func(l *testlog.Logged, attributes ...statement.Member) []byte {
		return g.Say(statement.Statement{Kind: statement.KindReveal, Attributes: append([]statement.Member{
			statement.TextMember("opens", l.Statement.Identity(l.Envelope.Payload).String()),
		}, attributes...)}, []*testlog.Member{g.Admin}).Envelope.Payload
	}
	o := g.SAPSealed.Opening
	document := say(g.SAP, statement.TextMember("part", "document"), statement.TextMember("nonce", statement.Digest(o.Nonce).String()),
		statement.TextMember("sha256", o.SHA256.String()), statement.TextMember("sha3256", o.SHA3.String()))
	g.payload("reveal-document", "a reveal of a sealed document", document)
	a := g.Naming.Opening
	sum2, sum3 := sha256.Sum256(a.Attributes), sha3.Sum256(a.Attributes)
	content := base64.StdEncoding.EncodeToString(a.Attributes)
	attributes := say(g.Delegated, statement.TextMember("part", "attributes"),
		statement.TextMember("nonce", statement.Digest(a.AttributesNonce).String()),
		statement.TextMember("sha256", statement.Digest(sum2).String()), statement.TextMember("sha3256", statement.Digest(sum3).String()),
		statement.TextMember("content", content))
	g.payload("reveal-attributes", "a reveal of sealed attributes, whose bytes stand in content", attributes)
	at := "predicate.attributes."
	for _, c := range []change{
		{"reveal-without-part", "a reveal that does not say of what", at + "part", `"part":"attributes",`, ""},
		{"reveal-part", "a reveal of something else", at + "part", `"part":"attributes"`, `"part":"subject"`},
		{"reveal-content-empty", "an empty content", at + "content", content, ""},
		{"reveal-content-url", "URL-safe base64", at + "content", content, "-_-_"},
		{"reveal-content-unused-bits", "base64 with unused bits that are set", at + "content", content, "e31="},
		{"reveal-content-line-break", "a line break within the base64", at + "content", content, content[:4] + "\\n" + content[4:]},
		{
			"reveal-content-large", "a content of 16 KiB and one byte", at + "content", content,
			base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{' '}, 16<<10+1)),
		},
	} {
		g.swap("payload", "payload", attributes, c)
	}
}

// timeAuthorities adds sidecars that name time-stamp authorities.
func (g *set) timeAuthorities(both func(id, what, field string, policy, trust []byte)) {
	side := g.Sidecar()
	der := testlog.Certificate("Time Authority T")
	side.TimeAuthorities = []testlog.TimeAuthority{{Name: "Time Authority T", Certificate: der}}
	good := side.Encode()
	both("time-authority", "a time-stamp authority", "", g.policyText, good)
	text, key := base64.StdEncoding.EncodeToString(der), base64.StdEncoding.EncodeToString(g.Admin.Key.Public().DER())
	for _, c := range []change{
		{"list", "one authority without the array", "timeAuthorities", `"timeAuthorities": [`, `"timeAuthorities": "T", "x": [`},
		{"name", "an authority without a name", "timeAuthorities[0].name", `"name": "Time Authority T"`, `"name": ""`},
		{"unknown", "an unknown member", "timeAuthorities[0].url", `"name": "Time`, `"url": "https://tsa.example", "name": "Time`},
		{"key", "a key in the place of a certificate", "timeAuthorities[0].certificate", text, key},
		{
			"trailing", "bytes after the certificate", "timeAuthorities[0].certificate", text,
			base64.StdEncoding.EncodeToString(append(bytes.Clone(der), 0, 0)),
		},
		{"line-break", "a line break within the base64", "timeAuthorities[0].certificate", text, text[:4] + "\\n" + text[4:]},
	} {
		changed := bytes.Replace(good, []byte(c.old), []byte(c.by), 1)
		if bytes.Equal(changed, good) {
			g.wrongf("time-authority-%s changes nothing", c.id)
		}
		both("time-authority-"+c.id, c.what, c.field, g.policyText, changed)
	}
	empty := bytes.Replace(g.sidecar, []byte(`"log":`), []byte(`"timeAuthorities": [], "log":`), 1)
	both("time-authority-none", "an empty list in the place of none", "timeAuthorities", g.policyText, empty)
}

// promises adds vectors of op pending.
func (g *set) promises() {
	key := testlog.Ed25519Key("pending records")
	raw := g.First.Entries[g.Plain.Index]
	at := time.Unix(int64(g.First.Time(g.Plain.Index)), 0) //nolint:gosec // small
	p := &receipt.Pending{
		Log: testlog.Log, Origin: g.First.Origin, Identity: g.Plain.Statement.Identity(g.Plain.Envelope.Payload),
		Index: g.Plain.Index, LeafHash: statement.Digest(entry.LeafHash(raw)), Received: at, Deadline: at.Add(time.Minute),
	}
	good := testlog.Must(p.Sign(key))
	payload, _, err := statement.ParseDSSE(good, receipt.PendingPayloadType, statement.MaxEnvelope)
	testlog.Check(err)
	one := func(id, what, field string, data []byte) vectors.Vector {
		v := g.one("pending", "pending", id, what, data, field)
		v.Inputs["policy"], v.Inputs["trust"] = "common/policy", "common/trust.json"
		return v
	}
	signed := func(c change) []byte {
		changed := bytes.Replace(payload, []byte(c.old), []byte(c.by), 1)
		if bytes.Equal(changed, payload) {
			g.wrongf("pending-%s changes nothing", c.id)
		}
		return testlog.Must(statement.SignDSSE(receipt.PendingPayloadType, changed, key))
	}
	millis := func(name string, t time.Time) string { return fmt.Sprintf("%q:%d", name, t.UnixMilli()) }
	deadline := millis("deadlineMillis", p.Deadline)
	g.accept(one("plain", "a pending record", "", good))
	g.accept(one("deadline-now", "a deadline that is the receive time", "",
		signed(change{"deadline-now", "", "", deadline, millis("deadlineMillis", p.Received)})))
	g.accept(one("deadline-last", "the last deadline that can be written", "",
		signed(change{"deadline-last", "", "", deadline, `"deadlineMillis":253402300799999`})))
	origin := `"origin":"` + g.First.Origin + `"`
	for _, c := range []change{
		{"origin-other-log", "a shard of another log", "origin", origin, `"origin":"log.example.org/others/2026"`},
		{"origin-log-itself", "the log's name in the place of a shard's origin", "origin", origin, `"origin":"` + testlog.Log + `"`},
		{
			"deadline-early", "a deadline before the receive time", "deadlineMillis", deadline,
			millis("deadlineMillis", p.Received.Add(-time.Millisecond)),
		},
		{"deadline-late", "a deadline in the year 10000", "deadlineMillis", deadline, `"deadlineMillis":253402300800000`},
		{"unknown", "an unknown member", "note", `"index"`, `"note":"","index"`},
	} {
		g.reject(one(c.id, c.what, c.field, signed(c)))
	}
	g.reject(one("other-key", "signed by a key that the sidecar does not name", "", testlog.Must(p.Sign(g.Admin.Key))))
	g.reject(one("as-statement", "signed under the payload type of statements", "payloadType",
		testlog.Must(statement.SignDSSE(statement.PayloadType, payload, key))))
}
