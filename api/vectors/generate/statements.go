package generate

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/statement"
)

// change is one change of a good text, and the field that is then at fault.
type change struct{ id, what, field, old, by string }

// statements adds vectors of op payload.
func (g *set) statements() {
	good := g.TwoSigned.Envelope.Payload
	accept := func(id, what string, data []byte) { g.accept(g.one("payload", "payload", id, what, data, "")) }
	accept("protocol", "a protocol by two signers", good)
	accept("enrolment", "an enrolment", testlog.Must(statement.ParseEnvelope(g.First.Entries[g.Device.EnrolledAt][9:])).Payload)
	accept("received", "grade received", g.Received.Envelope.Payload)
	accept("batch", "a batch", g.Consents.Envelope.Payload)
	accept("spaces", "white space between members: another statement, as the bytes are what is signed",
		bytes.Replace(good, []byte(`"kind":`), []byte(`"kind" : `), 1))
	accept("escaped", "a letter written as an escape: another statement",
		bytes.Replace(good, []byte(`"sponsor-a"`), []byte(`"sponsor-\u0061"`), 1))
	accept("surrogates", "a pair of surrogates in a text", g.swapped(g.Late, `"mediaType"`,
		`"attributes":{"reason":"\ud83d\ude00"},"mediaType"`))
	accept("largest-integer", "2^53-1", g.swapped(g.Revoked, fmt.Sprintf(`"suspectFrom":%d`, g.Late.Index),
		`"suspectFrom":9007199254740991`))

	for _, c := range g.changes() {
		g.swap("payload", "payload", good, c)
	}
	g.otherPayloads(good)
}

// changes are those of the payload of TwoSigned, one each.
func (g *set) changes() []change {
	number := fmt.Sprintf(`"number":%d`, g.TwoSigned.Statement.Chain.Number)
	return []change{
		{"duplicate", "a member twice", "predicate.kind", `"kind":`, `"kind":"sap","kind":`},
		{"duplicate-escaped", "a member twice, once with an escape in its name", "predicate.kind", `"kind":`, `"k\u0069nd":"sap","kind":`},
		{"case-variant", "a member whose name differs in case", "predicate.Kind", `"kind":`, `"Kind":"sap","kind":`},
		{"unknown-member", "an unknown member", "predicate.fileName", `"kind":`, `"fileName":"x.pdf","kind":`},
		{"type", "another in-toto type", "_type", "Statement/v1", "Statement/v0.1"},
		{"predicate-type", "another predicate type", "predicateType", "statement/v1\"", "statement/v2\""},
		{"fraction", "a number with a fraction", "predicate.chain.number", number, number + ".0"},
		{"exponent", "a number with an exponent", "predicate.chain.number", number, number + "e0"},
		{"integer-2-53", "2^53", "predicate.chain.number", number, `"number":9007199254740992`},
		{"negative-zero", "a negative zero", "predicate.chain.number", number, `"number":-0`},
		{"chain-zero", "number 0", "predicate.chain.number", number, `"number":0`},
		{"chain-first", "number 1 with a previous statement", "predicate.chain.previous", number, `"number":1`},
		{"surrogate-alone", "a surrogate without its pair", "predicate.version", `"version":"2.0"`, `"version":"\ud83d"`},
		{"surrogates-swapped", "a pair of surrogates the wrong way round", "predicate.version", `"version":"2.0"`, `"version":"\ude00\ud83d"`},
		{"control", "a control character in a string", "predicate.version", `"version":"2.0"`, "\"version\":\"2\n0\""},
		{"empty-optional", "an empty string in the place of an absent member", "predicate.version", `"version":"2.0"`, `"version":""`},
		{"null", "null in the place of an absent member", "predicate.version", `"version":"2.0"`, `"version":null`},
		{"log", "a log's name with a scheme", "predicate.log", `"log":"log.`, `"log":"https://log.`},
		{"organisation", "an organisation with a space", "predicate.organisation", "sponsor-a", "sponsor a"},
		{"kind-unknown", "an unknown kind", "predicate.kind", `"kind":"protocol"`, `"kind":"Protocol"`},
		{"kind-batch-only", "a consent outside a batch", "predicate.kind", `"kind":"protocol"`, `"kind":"consent"`},
		{"subject-name", "a file name as the subject's name", "subject[0].name", `"name":"document"`, `"name":"protocol.pdf"`},
		{"digest-case", "a digest with capital letters", "predicate.amends", `"amends":"`, `"amends":"A`},
		{"digest-zero", "a digest of zeros", "predicate.amends", g.TwoSigned.Statement.Amends.String(), strings.Repeat("0", 64)},
		{"digest-algorithm", "a digest by another algorithm", "subject[0].digest", `"sha256":`, `"sha512":`},
		{"media-type", "a media type with a parameter", "predicate.mediaType", `"application/pdf"`, `"text/html;charset=utf-8"`},
		{
			"media-type-attributes", "the media type that is kept for sealed attributes", "predicate.mediaType",
			`"application/pdf"`, `"application/vnd.trialog.attributes+json"`,
		},
		{
			"attribute-unknown", "an attribute that the kind does not have", "predicate.attributes.subject", `"attributes":{`,
			`"attributes":{"subject":"S-1",`,
		},
		{
			"attribute-empty", "an empty object in the place of no attributes", "predicate.attributes",
			`"attributes":{"amendment":"1"}`, `"attributes":{}`,
		},
		{"signer-twice", "a key that is named twice", "predicate.signers[1].key", g.Device.Key.ID().String(), g.Admin.Key.ID().String()},
		{"signer-meaning", "an unknown meaning", "predicate.signers[1].meaning", `"approval"`, `"applause"`},
		{"signer-reception", "the gateway's meaning in a signed statement", "predicate.signers[1].meaning", `"approval"`, `"reception"`},
		{"signer-date", "a date that does not exist", "predicate.signers[0].at", `"at":"2026-03-01T`, `"at":"2026-02-30T`},
		{"signer-offset", "a time with an offset", "predicate.signers[0].at", `:00Z"`, `:00+00:00"`},
		{"beacon-empty", "a beacon of an empty tree", "predicate.beacon.size", `"size":9`, `"size":0`},
	}
}

// otherPayloads adds what is no JSON text, is too large, or is of another kind.
func (g *set) otherPayloads(good []byte) {
	reject := func(id, what, field string, data []byte) {
		g.reject(g.one("payload", "payload", id, what, data, field))
	}
	reject("trailing", "bytes after the end", "", append(bytes.Clone(good), ' ', '0'))
	reject("byte-order-mark", "a byte order mark", "", append([]byte("\xef\xbb\xbf"), good...))
	reject("not-utf-8", "bytes that are not UTF-8", "", bytes.Replace(good, []byte("protocol"), []byte("prot\xf3col"), 1))
	reject("array", "an array", "", []byte("[]"))
	reject("too-large", "45 KiB and one byte", "payload", append(bytes.Clone(good), bytes.Repeat([]byte(" "),
		statement.MaxPayload+1-len(good))...))
	largest := append(bytes.Clone(good), bytes.Repeat([]byte(" "), statement.MaxPayload-len(good))...)
	g.accept(g.one("payload", "payload", "largest", "45 KiB", largest, ""))

	delegated := g.Delegated.Envelope.Payload
	g.swap("payload", "payload", delegated, change{
		"sealed-in-clear", "a person's name in clear", "predicate.attributes.person",
		`"attributes":{`, `"attributes":{"person":"Study Nurse N",`,
	})
	received := g.Received.Envelope.Payload
	g.swap("payload", "payload", received, change{
		"principal", "an e-mail address as the principal", "predicate.received.principal", `"p-7f3a"`, `"nurse@example.org"`,
	})
	enrolment := testlog.Must(statement.ParseEnvelope(g.First.Entries[g.Site.EnrolledAt][9:])).Payload
	g.swap("payload", "payload", enrolment, change{
		"role", "an unknown role", "predicate.attributes.roles", `"roles":["site"`, `"roles":["owner"`,
	})
	weak := base64.StdEncoding.EncodeToString(ed25519DER(make([]byte, 32)))
	g.swap("payload", "payload", enrolment, change{
		"key-small-order", "the enrolment of an Ed25519 key of small order", "predicate.attributes.publicKey",
		base64.StdEncoding.EncodeToString(g.Site.Key.Public().DER()), weak,
	})
	g.swap("payload", "payload", enrolment, change{
		"key-other-subject", "an enrolment whose subject is another key", "subject[0].digest",
		`"trialogKeyV1":"` + g.Site.Key.ID().String(), `"trialogKeyV1":"` + g.Admin.Key.ID().String(),
	})
}

// swap adds a refused vector with one change.
func (g *set) swap(op, input string, good []byte, c change) {
	changed := bytes.Replace(good, []byte(c.old), []byte(c.by), 1)
	if bytes.Equal(changed, good) {
		g.wrongf("%s-%s changes nothing: %s", op, c.id, good)
	}
	g.reject(g.one(op, input, c.id, c.what, changed, c.field))
}

// swapped is the payload of a statement with one change.
func (g *set) swapped(l *testlog.Logged, old, by string) []byte {
	changed := strings.Replace(string(l.Envelope.Payload), old, by, 1)
	if changed == string(l.Envelope.Payload) {
		stopf("nothing to change in %s", changed)
	}
	return []byte(changed)
}
