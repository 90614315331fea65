package scenario

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/e2e/harness"
)

// object is a JSON object that a case may bend.
type object = map[string]any

// bad is a request that the log must refuse.
type bad struct {
	name string
	// bend changes the payload of a good statement before it is signed.
	bend func(p, predicate object)
	// rewrite changes the signed request.
	rewrite func(r *request)
	status  int
	field   string // of the problem
}

// request is what is sent.
type request struct {
	contentType string
	envelope    []byte
	beacon      string
	body        []byte // if set, it is sent as it is
}

// TestBadInput sends wrong requests to a real log: each gets a 4xx that names the
// field, and the log does not grow.
func TestBadInput(t *testing.T) {
	ctx := context.Background()
	l := harness.NewLog(t)
	l.Start()
	sub := harness.NewSubmitter(t, l, "acme")
	if err := sub.Enrol(ctx, l.Token("enrol")); err != nil {
		t.Fatal(err)
	}
	fill(ctx, t, sub, 1)
	other := harness.NewSubmitter(t, l, "other")
	if err := other.Enrol(ctx, l.Token("enrol")); err != nil {
		t.Fatal(err)
	}
	if err := sub.FetchBeacon(ctx); err != nil {
		t.Fatal(err)
	}
	before := sizeOf(t, l)
	cases := badCases(t, sub, other, before)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { refuse(t, l, sub, c) })
	}
	t.Logf("%d cases", len(cases))
	if len(cases) < 80 {
		t.Errorf("%d cases, expected at least 80", len(cases))
	}
	if after := sizeOf(t, l); after != before {
		t.Errorf("the log has grown from %d to %d entries", before, after)
	}
	// The good statement that every case was bent from is taken in.
	x := goodStatement(t, sub)
	if _, err := sub.Send(ctx, x, "WAIT_FINAL", ""); err != nil {
		t.Errorf("the good statement is refused: %v", err)
	}
}

func goodStatement(t *testing.T, sub *harness.Submitter) *harness.Signed {
	t.Helper()
	x, err := sub.Say(statement.KindProtocol, "fill-0", harness.Document([]byte("good"), "text/plain"))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// refuse sends one bad request and checks the problem.
func refuse(t *testing.T, l *harness.Log, sub *harness.Submitter, c bad) {
	t.Helper()
	x := goodStatement(t, sub)
	r := &request{contentType: "application/json", envelope: x.Envelope, beacon: string(x.Beacon)}
	if c.bend != nil {
		r.envelope = resign(t, x.Envelope, c.bend, sub.Key)
	}
	if c.rewrite != nil {
		c.rewrite(r)
	}
	body := r.body
	if body == nil {
		var err error
		if body, err = json.Marshal(object{"envelope": r.envelope, "beacon": r.beacon, "wait": "WAIT_PENDING"}); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.URL+"/v1/statements", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", r.contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	var p harness.Problem
	if err := json.Unmarshal(raw, &p); err != nil || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("status %d and no problem: %.200q", resp.StatusCode, raw)
	}
	if resp.StatusCode != c.status || p.Field != c.field || p.Detail == "" {
		t.Errorf("status %d, field %q (%s); expected %d, %q", resp.StatusCode, p.Field, p.Detail, c.status, c.field)
	}
	for _, inner := range []string{"goroutine", ".go:", "pebble", "trillian", "rpc error", l.Dir} {
		if strings.Contains(string(raw), inner) {
			t.Errorf("the problem tells of the inside: %s", raw)
		}
	}
}

// resign decodes an envelope's payload, bends it, and signs it again.
func resign(t *testing.T, envelope []byte, bend func(p, predicate object), key *statement.PrivateKey) []byte {
	t.Helper()
	e, err := statement.ParseEnvelope(envelope)
	if err != nil {
		t.Fatal(err)
	}
	var p object
	if err := json.Unmarshal(e.Payload, &p); err != nil {
		t.Fatal(err)
	}
	bend(p, p["predicate"].(object))
	payload, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return signRaw(t, payload, key)
}

// signRaw signs any bytes as a payload.
func signRaw(t *testing.T, payload []byte, keys ...*statement.PrivateKey) []byte {
	t.Helper()
	raw, err := statement.SignDSSE(statement.PayloadType, payload, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func sizeOf(t *testing.T, l *harness.Log) uint64 {
	t.Helper()
	status, body, err := l.Get("/checkpoint")
	if err != nil || status != http.StatusOK {
		t.Fatalf("no checkpoint: %d, %v", status, err)
	}
	n, err := checkpoint.Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	return n.Checkpoint().Size
}

// at walks into nested objects and arrays.
func at(v any, path ...any) object {
	for _, step := range path {
		switch s := step.(type) {
		case string:
			v = v.(object)[s]
		case int:
			v = v.([]any)[s]
		}
	}
	return v.(object)
}

const payload, predicate = "envelope.payload", "envelope.payload.predicate"

// badCases is the table.
func badCases(t *testing.T, sub, other *harness.Submitter, size uint64) []bad {
	t.Helper()
	cases := memberCases()
	cases = append(cases, ruleCases(other, size)...)
	cases = append(cases, documentCases()...)
	cases = append(cases, envelopeCases(t, sub, other)...)
	return append(cases, requestCases()...)
}

// memberCases bend single members of the payload.
func memberCases() []bad {
	set := func(name string, value any) func(p, q object) {
		return func(_, q object) { q[name] = value }
	}
	drop := func(name string) func(p, q object) {
		return func(_, q object) { delete(q, name) }
	}
	var cases []bad
	add := func(name, field string, bend func(p, q object)) {
		cases = append(cases, bad{name: name, bend: bend, status: http.StatusBadRequest, field: field})
	}
	for _, name := range []string{"log", "organisation", "kind", "signers", "chain", "mediaType"} {
		field := predicate + "." + name
		add("no "+name, field, drop(name))
		add(name+" is a number", field, set(name, 1))
		add(name+" is null", field, set(name, nil))
	}
	for _, name := range []string{"trial", "version", "amends", "supersedes", "dates", "beacon", "attributes", "sealedAttributes", "received"} {
		add(name+" is a boolean", predicate+"."+name, set(name, true))
	}
	for name, value := range map[string]any{
		"organisation": "a b", "trial": "../etc", "version": strings.Repeat("1", 65), "mediaType": "Text/Plain",
		"kind": "Protocol",
	} {
		add(fmt.Sprintf("%s %.10q", name, value), predicate+"."+name, set(name, value))
	}
	add("meant for another log", predicate+".log", func(_, q object) {
		q["log"] = "other.example/log"
		delete(q, "beacon")
	})
	add("unknown member", predicate+".surprise", set("surprise", 1))
	add("case variant", predicate+".Trial", set("Trial", "x"))
	add("no type", payload+"._type", func(p, _ object) { delete(p, "_type") })
	add("other type", payload+"._type", func(p, _ object) { p["_type"] = "https://in-toto.io/Statement/v0.1" })
	add("other predicate", payload+".predicateType", func(p, _ object) { p["predicateType"] = "https://slsa.dev/provenance/v1" })
	add("two subjects", payload+".subject", func(p, _ object) { p["subject"] = append(p["subject"].([]any), p["subject"].([]any)[0]) })
	add("no subject", payload+".subject", func(p, _ object) { p["subject"] = []any{} })
	add("free subject name", payload+".subject[0].name", func(p, _ object) { at(p, "subject", 0)["name"] = "jane-doe.pdf" })
	add("upper-case digest", payload+".subject[0].digest.sha256", func(p, _ object) {
		at(p, "subject", 0)["digest"] = object{"sha256": strings.Repeat("AB", 32)}
	})
	add("short digest", payload+".subject[0].digest.sha256", func(p, _ object) {
		at(p, "subject", 0)["digest"] = object{"sha256": "abcd"}
	})
	add("zero digest", payload+".subject[0].digest", func(p, _ object) {
		at(p, "subject", 0)["digest"] = object{"sha256": strings.Repeat("0", 64)}
	})
	add("two digests", payload+".subject[0].digest", func(p, _ object) {
		at(p, "subject", 0, "digest")["sha512"] = strings.Repeat("0", 128)
	})
	add("other digest", payload+".subject[0].digest.md5", func(p, _ object) {
		at(p, "subject", 0)["digest"] = object{"md5": strings.Repeat("0", 32)}
	})
	add("unknown meaning", predicate+".signers[0].meaning", func(_, q object) { at(q, "signers", 0)["meaning"] = "agreement" })
	add("no time of signing", predicate+".signers[0].at", func(_, q object) { delete(at(q, "signers", 0), "at") })
	add("local time of signing", predicate+".signers[0].at", func(_, q object) { at(q, "signers", 0)["at"] = "2026-03-03T09:14:02+01:00" })
	add("29 February 2026", predicate+".dates.document", set("dates", object{"document": "2026-02-29"}))
	add("date in words", predicate+".dates.document", set("dates", object{"document": "yesterday"}))
	add("unknown attribute", predicate+".attributes.colour", set("attributes", object{"colour": "red"}))
	add("fraction", predicate+".chain.number", func(_, q object) { at(q, "chain")["number"] = 1.5 })
	add("negative number", predicate+".chain.number", func(_, q object) { at(q, "chain")["number"] = -1 })
	add("2^53", predicate+".chain.number", func(_, q object) { at(q, "chain")["number"] = json.Number("9007199254740992") })
	return cases
}

// ruleCases break rules that need the log's state.
func ruleCases(other *harness.Submitter, size uint64) []bad {
	strange := strings.Repeat("ab", 32)
	return []bad{
		{name: "number skipped", status: http.StatusConflict, field: predicate + ".chain", bend: func(_, q object) {
			at(q, "chain")["number"] = 7
		}},
		{name: "other previous", status: http.StatusConflict, field: predicate + ".chain", bend: func(_, q object) {
			at(q, "chain")["previous"] = strange
		}},
		{name: "chain begun again", status: http.StatusConflict, field: predicate + ".chain", bend: func(_, q object) {
			q["chain"] = object{"number": 1}
		}},
		{name: "no previous", status: http.StatusBadRequest, field: predicate + ".chain.previous", bend: func(_, q object) {
			delete(at(q, "chain"), "previous")
		}},
		{name: "no beacon", status: http.StatusBadRequest, field: "beacon", bend: func(_, q object) { delete(q, "beacon") }},
		{name: "beacon not sent", status: http.StatusBadRequest, field: "beacon", bend: func(_, q object) {
			at(q, "beacon")["sha256"] = strange
		}, rewrite: func(r *request) { r.beacon = "" }},
		{name: "other note", status: http.StatusBadRequest, field: "beacon", bend: func(_, q object) { at(q, "beacon")["sha256"] = strange }},
		{name: "beacon of another size", status: http.StatusBadRequest, field: predicate + ".beacon", bend: func(_, q object) {
			at(q, "beacon")["size"] = size + 1
		}},
		{name: "beacon of another log", status: http.StatusBadRequest, field: predicate + ".beacon.origin", bend: func(_, q object) {
			at(q, "beacon")["origin"] = "other.example/log/1"
		}},
		{name: "beacon without witnesses", status: http.StatusBadRequest, field: "beacon", rewrite: func(r *request) {
			r.beacon = strings.Join(strings.SplitAfter(r.beacon, "\n")[:6], "")
		}},
		{name: "unknown trial", status: http.StatusConflict, field: predicate + ".trial", bend: func(_, q object) {
			q["trial"], q["chain"] = "unheard-of", object{"number": 1}
		}},
		{name: "amends nothing", status: http.StatusBadRequest, field: predicate + ".amends", bend: func(_, q object) { q["amends"] = strange }},
		{name: "supersedes nothing", status: http.StatusBadRequest, field: predicate + ".supersedes", bend: func(_, q object) {
			q["supersedes"] = strange
		}},
		{name: "key of nobody", status: http.StatusForbidden, field: predicate + ".signers[0].key", bend: func(_, q object) {
			at(q, "signers", 0)["key"] = strange
		}},
		{name: "key of another", status: http.StatusBadRequest, field: "envelope.signatures[0].sig", bend: func(_, q object) {
			at(q, "signers", 0)["key"] = other.Key.ID().String()
		}},
		{name: "for another organisation", status: http.StatusForbidden, field: predicate + ".signers[0].key", bend: func(_, q object) {
			q["organisation"] = "other"
		}},
		{name: "role not held", status: http.StatusForbidden, field: predicate + ".kind", bend: func(p, q object) {
			q["kind"] = "policy"
			delete(q, "trial")
			q["chain"] = object{"number": 1}
		}},
		{name: "said too early", status: http.StatusConflict, field: predicate + ".kind", bend: func(p, q object) {
			q["kind"] = "database-lock"
			q["attributes"] = object{"state": "locked"}
		}},
		{name: "received without a gateway", status: http.StatusForbidden, field: predicate + ".signers[0].key", bend: func(_, q object) {
			q["received"] = object{"principal": "p", "method": "token"}
			at(q, "signers", 0)["meaning"] = "reception"
		}},
	}
}

// documentCases concern documents and what must be sealed.
func documentCases() []bad {
	return []bad{
		{name: "consent standing alone", status: http.StatusBadRequest, field: predicate + ".kind", bend: func(_, q object) { q["kind"] = "consent" }},
		{name: "sealed attribute in clear", status: http.StatusBadRequest, field: predicate + ".attributes.person", bend: func(_, q object) {
			q["kind"], q["attributes"] = "delegation", object{"task": "consent", "person": "somebody"}
		}},
		{name: "attribute missing", status: http.StatusBadRequest, field: predicate + ".attributes.registryId", bend: func(_, q object) {
			q["kind"], q["attributes"] = "registration", object{"registry": "R"}
		}},
		{name: "document where there is none", status: http.StatusBadRequest, field: payload + ".subject[0].digest", bend: func(_, q object) {
			q["kind"], q["attributes"] = "milestone", object{"milestone": "m"}
		}},
		{name: "no document where there is one", status: http.StatusBadRequest, field: payload + ".subject[0].digest", bend: func(p, q object) {
			p["subject"] = []any{object{"name": "trial", "digest": object{"trialogStatementV1": strings.Repeat("ab", 32)}}}
			delete(q, "mediaType")
		}},
		{name: "media type of attributes", status: http.StatusBadRequest, field: predicate + ".mediaType", bend: func(_, q object) {
			q["mediaType"] = statement.AttributesMediaType
		}},
		{name: "choice out of range", status: http.StatusBadRequest, field: predicate + ".attributes.status", bend: func(_, q object) {
			q["kind"], q["attributes"] = "sap", object{"status": "perhaps"}
		}},
		{name: "batch of nothing", status: http.StatusBadRequest, field: predicate + ".attributes.count", bend: func(p, q object) {
			q["kind"] = "batch"
			delete(q, "mediaType")
			p["subject"] = []any{object{"name": "trial", "digest": object{"trialogStatementV1": strings.Repeat("ab", 32)}}}
			q["attributes"] = object{"label": "l", "recordType": "t", "count": 0, "root": strings.Repeat("ab", 32)}
		}},
	}
}

// envelopeCases concern the envelope and its signatures.
func envelopeCases(t *testing.T, sub, other *harness.Submitter) []bad {
	t.Helper()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := statement.NewPrivateKey(p256)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(change func(e object)) func(*request) {
		return func(r *request) {
			var e object
			if err := json.Unmarshal(r.envelope, &e); err != nil {
				t.Error(err)
			}
			change(e)
			if r.envelope, err = json.Marshal(e); err != nil {
				t.Error(err)
			}
		}
	}
	replaced := func(old, with string) func(*request) {
		return func(r *request) { r.envelope = bytes.Replace(r.envelope, []byte(old), []byte(with), 1) }
	}
	raw := func(text string) func(*request) {
		return func(r *request) { r.envelope = signRaw(t, []byte(text), sub.Key) }
	}
	resigned := func(keys ...*statement.PrivateKey) func(*request) {
		return func(r *request) {
			e, err := statement.ParseEnvelope(r.envelope)
			if err != nil {
				t.Error(err)
				return
			}
			r.envelope = signRaw(t, e.Payload, keys...)
		}
	}
	var cases []bad
	add := func(name, field string, rewrite func(*request)) {
		cases = append(cases, bad{name: name, rewrite: rewrite, status: http.StatusBadRequest, field: field})
	}
	add("signed by another", "envelope.signatures[0].sig", resigned(other.Key))
	add("signed by another algorithm", "envelope.signatures[0].sig", resigned(foreign))
	add("one signature too many", "envelope.signatures", resigned(sub.Key, other.Key))
	add("no signatures", "envelope.signatures", edit(func(e object) { e["signatures"] = []any{} }))
	add("signature altered", "envelope.signatures[0].sig", edit(func(e object) {
		at(e, "signatures", 0)["sig"] = base64.StdEncoding.EncodeToString(make([]byte, 64))
	}))
	add("signature not base64", "envelope.signatures[0].sig", edit(func(e object) { at(e, "signatures", 0)["sig"] = "?" }))
	add("signature empty", "envelope.signatures[0].sig", edit(func(e object) { at(e, "signatures", 0)["sig"] = "" }))
	add("payload altered", "envelope.payload", edit(func(e object) { e["payload"] = "AAAA" }))
	add("payload not base64", "envelope.payload", edit(func(e object) { e["payload"] = "%%%" }))
	add("payload in URL base64", "envelope.payload", edit(func(e object) { e["payload"] = "_-_-" }))
	add("other payload type", "envelope.payloadType", edit(func(e object) { e["payloadType"] = "text/plain" }))
	add("unknown member of the envelope", "envelope.extra", edit(func(e object) { e["extra"] = 1 }))
	add("duplicate member of the envelope", "envelope.payloadType",
		replaced(`{"payloadType"`, `{"payloadType":"application/vnd.in-toto+json","payloadType"`))
	add("bytes after the envelope", "envelope", func(r *request) { r.envelope = append(r.envelope, "{}"...) })
	add("envelope not JSON", "envelope", func(r *request) { r.envelope = []byte("envelope") })
	add("envelope empty", "envelope", func(r *request) { r.envelope = nil })
	add("envelope in invalid UTF-8", "envelope", func(r *request) { r.envelope = append(r.envelope, 0xff) })
	add("envelope too large", "envelope", func(r *request) { r.envelope = append(r.envelope, bytes.Repeat([]byte(" "), 66_000)...) })
	add("payload too large", "envelope.payload", raw(`{"x":"`+strings.Repeat("x", statement.MaxPayload)+`"}`))
	add("payload an array", payload, raw(`[]`))
	add("payload with duplicate members", payload+"._type", raw(`{"_type":"a","_type":"b"}`))
	add("payload with a lone surrogate", payload+"._type", raw(`{"_type":"\ud800"}`))
	add("payload with invalid UTF-8", payload, raw("{\"_type\":\"\xff\"}"))
	add("payload nested deeply", payload+"._type"+strings.Repeat("[0]", 15), raw(`{"_type":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`}`))
	return cases
}

// requestCases concern the request around the envelope.
func requestCases() []bad {
	body := func(text string) func(*request) { return func(r *request) { r.body = []byte(text) } }
	return []bad{
		{name: "no body", status: http.StatusBadRequest, field: "body", rewrite: body("")},
		{name: "body not JSON", status: http.StatusBadRequest, field: "body", rewrite: body("<xml/>")},
		{name: "body an array", status: http.StatusBadRequest, field: "body", rewrite: body("[]")},
		{name: "body without envelope", status: http.StatusBadRequest, field: "envelope", rewrite: body("{}")},
		{name: "unknown member of the body", status: http.StatusBadRequest, field: "envelop", rewrite: body(`{"envelop":"e30="}`)},
		{name: "unknown wait", status: http.StatusBadRequest, field: "wait", rewrite: body(`{"envelope":"e30=","wait":"LATER"}`)},
		{name: "content type", status: http.StatusUnsupportedMediaType, field: "Content-Type", rewrite: func(r *request) { r.contentType = "text/xml" }},
		{name: "body too large", status: http.StatusRequestEntityTooLarge, field: "body", rewrite: body(
			`{"envelope":"` + strings.Repeat("A", 2<<20) + `"}`)},
	}
}
