package generate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/vectors"
)

// accept adds a vector whose values are those that the packages of api find.
func (g *set) accept(v vectors.Vector) {
	v.Expect = vectors.Accept
	out := g.run(v)
	if out.Err != nil {
		g.wrongf("%s is refused: %w", v.ID, out.Err)
	}
	if len(out.Values) > 0 {
		v.Values = out.Values
	}
	g.add(v)
}

// reject adds a vector that states which field is at fault.
func (g *set) reject(v vectors.Vector) {
	v.Expect = vectors.Reject
	out := g.run(v)
	if out.Err == nil || out.Field != v.Field || out.Link != "" {
		g.wrongf("%s is to fail at %q, found %q: %v", v.ID, v.Field, out.Field, out.Err)
	}
	g.add(v)
}

func (g *set) run(v vectors.Vector) *Outcome {
	return testlog.Must(Run(v, func(name string) ([]byte, error) {
		raw, ok := g.files[name]
		if !ok {
			return nil, fmt.Errorf("no file %s", name)
		}
		return raw, nil
	}))
}

// one is a vector with one input in a file of its own.
func (g *set) one(op, input, id, what string, data []byte, field string) vectors.Vector {
	id = op + "-" + id
	return vectors.Vector{
		ID: id, What: what, Op: op, Field: field, Inputs: map[string]string{input: g.file(op+"/"+id, data)},
	}
}

// envelopes adds vectors of the ops envelope, identity, key, signature and entry.
func (g *set) envelopes() {
	raw := g.TwoSigned.Envelope.Bytes()
	accept := func(id, what string, data []byte) { g.accept(g.one("envelope", "envelope", id, what, data, "")) }
	reject := func(id, what, field string, data []byte) {
		g.reject(g.one("envelope", "envelope", id, what, data, field))
	}
	swap := func(old, by string) []byte { return bytes.Replace(raw, []byte(old), []byte(by), 1) }
	accept("two", "two signatures", raw)
	accept("spaces", "white space between members", swap(`"payload":`, "\n \"payload\" : "))
	accept("no-keyid", "keyid may be absent", statementOnlySigs(g))
	reject("type", "another payload type", "payloadType", swap("in-toto", "out-of"))
	reject("unknown-member", "a member that DSSE does not know", "extra", swap(`{"payloadType"`, `{"extra":1,"payloadType"`))
	reject("base64-line-break", "a line break within the base64", "payload", swap(`"payload":"eyJf`, `"payload":"eyJf\n`))
	reject("base64-url", "URL-safe base64", "signatures[0].sig", urlSafe(g))
	reject("base64-unused-bits", "base64 with unused bits that are set", "payload",
		[]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e31=","signatures":[{"sig":"AA=="}]}`))
	reject("no-signature", "no signature", "signatures",
		[]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}`))
	nine := strings.TrimSuffix(strings.Repeat(`{"sig":"AA=="},`, 9), ",")
	reject("nine-signatures", "nine signatures", "signatures",
		[]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[`+nine+`]}`))
	large := bytes.Repeat([]byte("x"), statement.MaxPayload+1)
	reject("payload-too-large", "a payload of 45 KiB and one byte", "payload",
		statement.EncodeDSSE(statement.PayloadType, large, []statement.Signature{{Sig: []byte{0}}}))

	payload := g.file("common/two-signers.payload", g.TwoSigned.Envelope.Payload)
	ids := []string{g.Admin.Key.ID().String(), g.Device.Key.ID().String()}
	identity := func(id, what string, signers ...string) {
		g.accept(vectors.Vector{
			ID: "identity-" + id, What: what, Op: "identity", Inputs: map[string]string{"payload": payload},
			Args: map[string]string{"signers": strings.Join(signers, " ")},
		})
	}
	identity("two", "the identity of a statement by two signers", ids...)
	identity("reordered", "the same two keys in the other order: the same identity", ids[1], ids[0])
	identity("one", "the same payload by one of them: another identity", ids[0])
	g.keys()
	g.frames()
}

func statementOnlySigs(g *set) []byte {
	env := g.Plain.Envelope
	return fmt.Appendf(nil, `{"payloadType":%q,"payload":%q,"signatures":[{"sig":%q}]}`, statement.PayloadType,
		base64.StdEncoding.EncodeToString(env.Payload), base64.StdEncoding.EncodeToString(env.Signatures[0].Sig))
}

func urlSafe(g *set) []byte {
	return fmt.Appendf(nil, `{"payloadType":%q,"payload":%q,"signatures":[{"sig":"-_-_"}]}`, statement.PayloadType,
		base64.StdEncoding.EncodeToString(g.Plain.Envelope.Payload))
}

// ed25519DER puts a raw Ed25519 key into a SubjectPublicKeyInfo.
func ed25519DER(public []byte) []byte {
	return append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}, public...)
}

// compressed rewrites a P-256 SubjectPublicKeyInfo with a compressed point.
func compressed(der []byte) []byte {
	out := bytes.Clone(der[:len(der)-64])
	out[1] -= 32                            // length of the whole
	out[len(out)-3] -= 32                   // length of the bit string
	out[len(out)-1] = 2 | der[len(der)-1]&1 // the sign of y
	return append(out, der[len(der)-64:len(der)-32]...)
}

func (g *set) keys() {
	accept := func(id, what string, der []byte) { g.accept(g.one("key", "key", id, what, der, "")) }
	reject := func(id, what string, der []byte) { g.reject(g.one("key", "key", id, what, der, "")) }
	ed, p256 := g.Admin.Key.Public().DER(), g.Device.Key.Public().DER()
	accept("ed25519", "an Ed25519 key", ed)
	accept("p256", "an ECDSA P-256 key", p256)
	seed := testlog.Seed("P-384")
	p384 := testlog.Must(ecdsa.ParseRawPrivateKey(elliptic.P384(), append(make([]byte, 16), seed[:]...)))
	reject("p384", "an ECDSA P-384 key", testlog.Must(x509.MarshalPKIXPublicKey(&p384.PublicKey)))
	reject("p256-compressed", "a P-256 key as a compressed point", compressed(p256))
	reject("trailing", "bytes after the key", append(bytes.Clone(ed), 0))
	reject("small-order-zero", "an Ed25519 key of order 4, y = 0", ed25519DER(make([]byte, 32)))
	reject("small-order-one", "the neutral point as an Ed25519 key", ed25519DER(append([]byte{1}, make([]byte, 31)...)))
	reject("not-reduced", "an Ed25519 key whose y is not reduced",
		ed25519DER(append(append([]byte{0xf0}, bytes.Repeat([]byte{0xff}, 30)...), 0x7f)))

	message := []byte("DSSEv1 1 x 1 y")
	sign := func(id, what string, m *testlog.Member, change func([]byte) []byte, ok bool) {
		sig := change(testlog.Must(m.Key.Sign(message)))
		v := vectors.Vector{ID: "signature-" + id, What: what, Op: "signature", Inputs: map[string]string{
			"key":       g.file("common/"+m.Org+"-"+m.Key.Public().Algorithm()[:2]+".der", m.Key.Public().DER()),
			"message":   g.file("common/message", message),
			"signature": g.file("signature/signature-"+id, sig),
		}}
		if ok {
			g.accept(v)
		} else {
			g.reject(v)
		}
	}
	same := func(sig []byte) []byte { return sig }
	sign("ed25519", "Ed25519", g.Admin, same, true)
	sign("p256", "ECDSA P-256 with low S", g.Device, same, true)
	sign("p256-high-s", "ECDSA P-256 with high S", g.Device, highS, false)
	sign("p256-altered", "an altered ECDSA signature", g.Device, flipLast, false)
	sign("p256-trailing", "a byte after the DER", g.Device, func(sig []byte) []byte { return append(sig, 0) }, false)
	sign("ed25519-altered", "an altered Ed25519 signature", g.Admin, flipLast, false)
	sign("ed25519-short", "63 bytes", g.Admin, func(sig []byte) []byte { return sig[:63] }, false)
}

func (g *set) frames() {
	raw := g.First.Entries[g.Plain.Index]
	g.accept(g.one("entry", "entry", "plain", "an entry", raw, ""))
	g.accept(g.one("entry", "entry", "largest", "65,535 bytes; what the frame holds is not judged here",
		append(bytes.Clone(raw[:9]), bytes.Repeat([]byte("x"), 65526)...), ""))
	reject := func(id, what string, data []byte) { g.reject(g.one("entry", "entry", id, what, data, "")) }
	reject("version-0", "version 0", append([]byte{0}, raw[1:]...))
	reject("header-only", "no envelope", raw[:9])
	reject("too-large", "65,536 bytes", append(bytes.Clone(raw[:9]), bytes.Repeat([]byte("x"), 65527)...))
	reject("time", "a receive time beyond the range", append(binary.BigEndian.AppendUint64([]byte{1}, 1<<63), '{', '}'))
}

// notes adds vectors of the ops checkpoint, vkey and cosigned.
func (g *set) notes() {
	raw := g.Final.Bytes()
	accept := func(id, what string, data []byte) { g.accept(g.one("checkpoint", "note", id, what, data, "")) }
	reject := func(id, what, field string, data []byte) {
		g.reject(g.one("checkpoint", "note", id, what, data, field))
	}
	size := g.Final.Checkpoint().Size
	swap := func(old, by string) []byte { return bytes.Replace(raw, []byte(old), []byte(by), 1) }
	line := fmt.Sprintf("\n%d\n", size)
	accept("note", "a checkpoint note with the log's two signatures and three cosignatures", raw)
	accept("extension", "an extension line can be read; op verify refuses it", bytes.Replace(raw, []byte("\n\n"),
		[]byte("\nextension\n\n"), 1))
	reject("crlf", "CRLF line ends", "note, line 1", bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n")))
	reject("leading-zero", "a size with a leading zero", "checkpoint, line 2", swap(line, "\n0"+line[1:]))
	reject("size-2-64", "a size of 2^64", "checkpoint, line 2", swap(line, "\n18446744073709551616\n"))
	reject("size-sign", "a size with a sign", "checkpoint, line 2", swap(line, "\n+"+line[1:]))
	reject("root-short", "a root of 31 bytes", "checkpoint, line 3",
		swap(base64.StdEncoding.EncodeToString(rootOf(g)), base64.StdEncoding.EncodeToString(rootOf(g)[:31])))
	reject("no-signature", "no signature line", "note, line 5", raw[:bytes.Index(raw, []byte("\n\n"))+2])
	reject("no-newline", "no newline at the end", "note", raw[:len(raw)-1])
	reject("blank-at-end", "an empty line at the end", "note, line 11", append(bytes.Clone(raw), '\n'))
	reject("hyphen", "a hyphen in the place of the em dash", "signature line, line 5", swap("— ", "- "))
	reject("not-utf-8", "bytes that are not UTF-8", "note", swap(testlog.Log, "\xff"))

	vkey := func(id, what, text string, ok bool) {
		v := g.one("vkey", "vkey", id, what, []byte(text+"\n"), "")
		if ok {
			g.accept(v)
		} else {
			v.Field = "verifier key"
			g.reject(v)
		}
	}
	ed, ml := g.First.Keys[0].String(), g.First.Keys[1].String()
	vkey("ed25519", "a log's Ed25519 key, type 0x01", ed, true)
	vkey("ml-dsa", "a log's ML-DSA-44 key, type 0x06", ml, true)
	vkey("cosigner", "a witness's Ed25519 key, type 0x04", g.Operators[0].Keys[0].String(), true)
	vkey("id", "a key id that is not the one derived from name and key", strings.Replace(ed, "+", "+0",
		1)[:len(g.First.Origin)+9]+ed[len(g.First.Origin)+9:], false)
	vkey("small-order", "a key of small order with its proper id", smallOrderVkey(), false)

	policy, trust := "common/policy", "common/trust.json"
	cosigned := func(id, what string, note *checkpoint.Note, ok bool) {
		v := vectors.Vector{ID: "cosigned-" + id, What: what, Op: "cosigned", Inputs: map[string]string{
			"policy": policy, "trust": trust, "note": g.file("cosigned/cosigned-"+id, note.Bytes()),
		}}
		if ok {
			g.accept(v)
		} else {
			g.reject(v)
		}
	}
	cosigned("bounds", "times 100, 200 and 300, two of three: not before 200, not after 200", g.noteAt(100, 200, 300), true)
	cosigned("bounds-two", "times 100 and 300: not before 100, not after 300", g.noteAt(100, 0, 300), true)
	cosigned("bounds-key-twice", "one operator signed at 100 and at 900, another at 500: not before 500, not after 500",
		testlog.Must(g.noteAt(100, 500).With(g.Operators[0].Keys[0].Sign(g.Final.Text(), 900))), true)
	cosigned("quorum", "one operator", g.noteAt(100), false)
}

func rootOf(g *set) []byte {
	root := g.Final.Checkpoint().Root
	return root[:]
}

func smallOrderVkey() string {
	const name = "weak.example"
	body := make([]byte, 33)
	body[0] = byte(checkpoint.AlgEd25519)
	id := sha256.Sum256(append([]byte(name+"\n"), body...))
	return fmt.Sprintf("%s+%x+%s", name, id[:4], base64.StdEncoding.EncodeToString(body))
}

// policies adds vectors of op policy.
func (g *set) policies() {
	both := func(id, what, field string, policy, trust []byte) {
		v := vectors.Vector{ID: "policy-" + id, What: what, Op: "policy", Field: field, Inputs: map[string]string{
			"policy": g.file("policy/policy-"+id+".policy", policy), "trust": g.file("policy/policy-"+id+".trust.json", trust),
		}}
		if field == "" {
			g.accept(v)
		} else {
			g.reject(v)
		}
	}
	text := func(id, what, field, old, by string) {
		both(id, what, field, bytes.Replace(g.policyText, []byte(old), []byte(by), 1), g.sidecar)
	}
	both("two-shards", "two shards, three operators of two keys each, quorum of two", "", g.policyText, g.sidecar)
	text("comment", "comments and blank lines mean nothing, but to the fingerprint", "", "# The log's", "\n\t# Our")
	text("crlf", "CRLF line ends", "policy, line 1", "\n", "\r\n")
	text("no-quorum", "no quorum line", "policy", "quorum quorum-of-operators\n", "")
	text("forward-reference", "a group that refers to a name defined below", "policy, line 9", "any ethics-1 ethics-2",
		"any ethics-1 regulator-2")
	text("threshold", "a threshold above the number of members", "policy, line 16", "operators 2 ", "operators 4 ")
	text("key-twice", "a key on two lines", "policy, line 3", "log "+g.First.Keys[1].String(), "log "+g.First.Keys[0].String())
	text("keyword", "an unknown keyword", "policy, line 17", "quorum quorum-of", "majority quorum-of")

	side := func(id, what, field, old, by string) {
		both(id, what, field, g.policyText, bytes.Replace(g.sidecar, []byte(old), []byte(by), 1))
	}
	side("trust-duplicate", "the sidecar has a member twice", "log", `"log":`, `"log": "log.example.org/trials", "log":`)
	side("trust-operator-missing", "an operator of which the sidecar does not say who runs it", "operators.university", `,
  "university": "University U"`, "")
	side("trust-operator-unknown", "an operator that the policy does not have", "operators.pharmacy", `"university": "University U"`,
		`"pharmacy": "P", "university": "University U"`)
	side("trust-other-log", "a log line whose origin is no shard of the sidecar's log", "log",
		`"log": "log.example.org/trials"`, `"log": "log.example.org/others"`)
	side("trust-key-line-break", "a line break in the base64 of a key", "pendingKeys[0]", `"pendingKeys": [
  "MCow`, `"pendingKeys": [
  "MCow\n`)
	no := g.Sidecar()
	no.RequiredLogKeys = no.RequiredLogKeys[:2]
	both("trust-no-required-key", "no required key for the second shard", "requiredLogKeys", g.policyText, no.Encode())
	wit := g.Sidecar()
	wit.RequiredLogKeys = append(wit.RequiredLogKeys, testlog.NewNoteKey(g.First.Origin, checkpoint.AlgEd25519Cosignature).String())
	g.timeAuthorities(both)
	both("trust-witness-key", "a witness's key as a required log key", "requiredLogKeys[4]", g.policyText, wit.Encode())
}

// receipts adds vectors of the ops tlog-proof and receipt.
func (g *set) receipts() {
	proof := g.First.Proof(g.Plain.Index, g.Final).Encode()
	g.accept(g.one("tlog-proof", "proof", "plain", "a proof", proof, ""))
	extra := g.First.Proof(g.Plain.Index, g.Final)
	extra.Extra = []byte("carried along")
	g.accept(g.one("tlog-proof", "proof", "extra", "a proof with an extra line", extra.Encode(), ""))
	index := fmt.Sprintf("index %d", g.Plain.Index)
	for _, c := range []change{
		{"header", "another version", "", "proof@v1", "proof@v2"},
		{"index-zero", "an index with a leading zero", "", index, "index 0" + index[6:]},
		{"index-large", "an index of 2^63", "", index, "index 9223372036854775808"},
		{"extra-after-index", "the extra line after the index", "", index, index + "\nextra AAAA"},
		{"crlf", "a CRLF line end", "", index, index + "\r"},
		{"hash-short", "a hash of 31 bytes", "", index, index + "\n" + base64.StdEncoding.EncodeToString(make([]byte, 31))},
		{"long", "64 hashes", "", index, index + strings.Repeat("\n"+base64.StdEncoding.EncodeToString(make([]byte, 32)), 64)},
	} {
		g.swap("tlog-proof", "proof", proof, c)
	}

	raw := g.receipt(g.Plain, g.Final)
	g.accept(g.one("receipt", "receipt", "plain", "a receipt", raw, ""))
	for _, c := range []change{
		{"format", "another format", "format", "receipt@v1", "receipt@v2"},
		{"duplicate", "a member twice", "entry", `"entry":`, `"entry": "AA==", "entry":`},
		{"unknown", "an unknown member", "opening", `"entry":`, `"opening": "AA==", "entry":`},
		{"case", "a member whose name differs in case", "entry", `"entry":`, `"Entry":`},
		{"proof", "a proof that cannot be read", "proof", "tlog-proof@v1", "tlog-proof@v2"},
		{"enrolments-empty", "an empty list in the place of none", "tokens", `"entry":`, `"tokens": [], "entry":`},
		{"base64", "base64 without padding", "tokens[0]", `"entry":`, `"tokens": ["AA"], "entry":`},
	} {
		g.swap("receipt", "receipt", raw, c)
	}
	g.reject(g.one("receipt", "receipt", "trailing", "a second JSON text behind", append(bytes.Clone(raw), "{}"...), ""))
	with := g.receipt(g.Consents.Logged, g.Final, record(g.Consents, 2))
	g.accept(g.one("receipt", "receipt", "record", "a receipt of a record", with, ""))
	g.swap("receipt", "receipt", with,
		change{"record-index", "a record's index of 2^53", "record.index", `"index": 2`, `"index": 9007199254740992`})
}

// openings adds vectors of the ops opening and commit.
func (g *set) openings() {
	raw := g.Consents.Items[2].Opening.Encode()
	g.accept(g.one("opening", "opening", "consent", "a document and attributes", raw, ""))
	g.accept(g.one("opening", "opening", "attributes", "attributes alone", g.Naming.Opening.Encode(), ""))
	for _, c := range []change{
		{"format", "another format", "format", "opening@v1", "opening@v0"},
		{"nonce", "a nonce of 31 bytes", "document.nonce", `"nonce":"`, `"nonce":"00","x":"`},
		{
			"media-type", "the media type of attributes for a document", "document.mediaType", "application/pdf",
			"application/vnd.trialog.attributes+json",
		},
		{"unknown", "an unknown member", "salt", `"kind"`, `"salt":"","kind"`},
		{"kind", "a kind that has not all of these attributes", "attributes.signedOn", `"kind":"consent"`, `"kind":"subject-event"`},
	} {
		g.swap("opening", "opening", raw, c)
	}
	g.reject(g.one("opening", "opening", "empty", "nothing to open",
		[]byte(`{"format":"trialog-opening@v1","organisation":"a","trial":"t","kind":"sap"}`), "document"))
	commit := func(id, what, document, organisation, trial string) {
		g.accept(vectors.Vector{
			ID: "commit-" + id, What: what, Op: "commit", Inputs: map[string]string{"document": document},
			Args: map[string]string{
				"organisation": organisation, "trial": trial, "kind": "sap", "mediaType": testlog.MediaType,
				"nonce": statement.Digest(testlog.Seed("nonce")).String(),
			},
		})
	}
	commit("sap", "a commitment", "common/sap.pdf", "sponsor-a", testlog.Trial)
	commit("other-organisation", "the same for another organisation", "common/sap.pdf", "sponsor-b", testlog.Trial)
	commit("border", "lengths keep the parts apart: \"sponsor-aT\" and \"-2026-001\"", "common/sap.pdf", "sponsor-aT", testlog.Trial[1:])
	commit("empty", "an empty document", g.file("common/empty", []byte{}), "sponsor-a", testlog.Trial)
}

// records adds vectors of the ops record and batch.
func (g *set) records() {
	raw, own := g.Consents.Records[2], g.Audit.Records[0]
	sealed := g.Consents.Items[2].Opening.AttributesCommitment().String()
	g.accept(g.one("record", "record", "consent", "a consent", raw, ""))
	g.accept(g.one("record", "record", "own-type", "a record of the submitter's own type", own, ""))
	reject := func(id, what, field string, data []byte) { g.reject(g.one("record", "record", id, what, data, field)) }
	reject("version", "version 2", "record", append([]byte{2}, raw[1:]...))
	reject("short", "ends within its type", "record", own[:40])
	reject("no-body", "no body", "record", own[:34+9])
	reject("type", "a type that is no token", "record.type", bytes.Replace(own, []byte("audit-row"), []byte("audit row"), 1))
	reject("item", "the body of a consent is no item", "", append(bytes.Clone(raw[:34+7]), "free text"...))
	reject("item-unsealed", "a consent whose document is not sealed", "document",
		bytes.Replace(raw, []byte(statement.SubjectCommit), []byte(statement.SubjectSHA256), 1))
	reject("item-sealed-bare", "a commitment to sealed attributes that is not in an object", "sealedAttributes",
		bytes.Replace(raw, []byte(`"sealedAttributes":{"trialogCommitV1":"`+sealed+`"}`), []byte(`"sealedAttributes":"`+sealed+`"`), 1))
	reject("item-sealed-algorithm", "a commitment to sealed attributes under another name", "sealedAttributes.trialogCommitV1",
		bytes.Replace(raw, []byte(`"sealedAttributes":{"trialogCommitV1"`), []byte(`"sealedAttributes":{"sha256"`), 1))
	reject("item-attribute-in-clear", "a consent with the subject in clear", "attributes.subject",
		bytes.Replace(raw, []byte(`,"sealedAttributes"`), []byte(`,"attributes":{"subject":"S-1"},"sealedAttributes"`), 1))

	inputs := map[string]string{}
	for i, r := range g.Consents.Records {
		inputs[fmt.Sprintf("record-%d", i)] = g.file(fmt.Sprintf("batch/record-%d", i), r)
	}
	for _, i := range []string{"0", "2", "4"} {
		g.accept(vectors.Vector{
			ID: "batch-" + i, What: "the root of five records and the path of record " + i, Op: "batch",
			Inputs: inputs, Args: map[string]string{"index": i},
		})
	}
	g.reject(vectors.Vector{
		ID: "batch-out-of-range", What: "an index that is the count", Op: "batch", Field: "index",
		Inputs: inputs, Args: map[string]string{"index": "5"},
	})
}
