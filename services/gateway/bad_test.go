package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
)

// bad is a request that must be refused: with a 4xx that names the field and
// says something, with nothing stored.
type bad struct {
	name    string
	method  string // POST if empty
	path    string
	body    string
	headers []string
	status  int
	field   string
}

// badCases lists requests that differ from good ones in one thing.
func badCases(t *testing.T, w *world) []bad {
	good := w.protocol([]byte("p"))
	var cases []bad
	add := func(name, path, body string, status int, field string, headers ...string) {
		cases = append(cases, bad{name: name, path: path, body: body, status: status, field: field, headers: headers})
	}
	call := func(name, method, path string, status int, field string, headers ...string) {
		cases = append(cases, bad{name: name, method: method, path: path, status: status, field: field, headers: headers})
	}
	const submit, prepare, receive = "/v1/statements", "/v1/statements:prepare", "/v1/statements:receive"

	// HTTP itself.
	goodJSON := encode(t, submitBody(good))
	call("unknown path", "GET", "/v1/nothing", 404, "")
	call("root", "GET", "/", 404, "")
	call("path with a trailing slash", "GET", "/v1/log/", 404, "")
	call("path with an empty segment", "GET", "/v1//log", 404, "")
	call("path with an escape", "GET", "/v1/%6cog", 404, "")
	call("path with dots", "GET", "/v1/../v1/log", 404, "")
	call("verb of another", "GET", "/v1/log:prepare", 404, "")
	call("empty identity", "GET", "/v1/statements//receipt", 404, "")
	call("DELETE", "DELETE", "/v1/log", 405, "")
	call("TRACE", "TRACE", "/v1/log", 405, "")
	call("PATCH", "PATCH", submit, 405, "")
	call("GET on a POST", "GET", submit, 405, "")
	call("POST on a GET", "POST", "/v1/log", 405, "")
	call("POST on a document", "POST", "/v1/documents/"+hashed("p"), 405, "")
	call("method override", "POST", "/v1/log", 405, "", "X-HTTP-Method-Override: GET", "Content-Type: application/x-www-form-urlencoded")
	call("unknown query", "GET", "/v1/log?verbose=1", 400, "verbose")
	call("unknown query of a chain", "GET", "/v1/chains/"+w.sponsor.ID().String()+"?Trial=T", 400, "Trial")
	call("query twice", "GET", "/v1/chains/"+w.sponsor.ID().String()+"?trial=A&trial=B", 400, "trial")
	call("query in bad encoding", "GET", "/v1/log?%zz", 400, "query")
	call("path parameter in the query", "GET", "/v1/chains/"+w.sponsor.ID().String()+"?key=x", 400, "key")
	add("query on a POST", submit+"?wait=WAIT_PENDING", goodJSON, 400, "wait")
	add("GET with a body", "/v1/log", "{}", 405, "")
	cases = append(cases, bad{name: "body on a GET", method: "GET", path: "/v1/log", body: "{}", status: 400, field: "body"})
	for _, media := range []string{
		"text/plain", "application/x-www-form-urlencoded", "application/xml", "application/grpc", "application/json;charset=latin1",
		"application/json; boundary=x", "multipart/form-data", "application/json, application/json", ";",
	} {
		cases = append(cases, bad{
			name: "content type " + media, path: submit, body: goodJSON, status: 415, field: "Content-Type",
			headers: []string{"Content-Type: " + media},
		})
	}
	cases = append(cases, bad{name: "no content type", path: submit, body: goodJSON, status: 415, field: "Content-Type", headers: []string{"-"}})
	add("compressed", submit, goodJSON, 415, "Content-Encoding", "Content-Encoding: gzip")
	add("large header", submit, goodJSON, 431, "", "X-Large: "+strings.Repeat("x", maxHeaders))
	add("many headers", submit, goodJSON, 431, "", manyHeaders()...)
	add("body too large", submit, `{"envelope":"`+strings.Repeat("A", maxBody)+`"}`, 413, "body")

	// JSON.
	for name, body := range map[string]string{
		"empty":                        "",
		"blank":                        " ",
		"null":                         "null",
		"array":                        "[]",
		"string":                       `"x"`,
		"cut off":                      goodJSON[:len(goodJSON)-1],
		"trailing bytes":               goodJSON + "x",
		"two objects":                  goodJSON + "{}",
		"single quotes":                `{'wait':'WAIT_FINAL'}`,
		"comment":                      `{/* */}`,
		"byte order mark":              "\ufeff" + goodJSON,
		"name that is not UTF-8":       "{\"\xff\":1}",
		"unpaired surrogate in a name": `{"\ud800":1}`,
		"UTF-16":                       "\x00{\x00}",
	} {
		add("json "+name, submit, body, 400, "body")
	}
	add("json too deep", submit, `{"envelope":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`}`, 400, "*")
	add("json unknown member", submit, `{"envelop":"AA=="}`, 400, "envelop")
	add("json duplicate member", submit, `{"wait":"WAIT_FINAL","wait":"WAIT_FINAL"}`, 400, "wait")
	add("json both spellings", receive, `{"requestId":"a","request_id":"b"}`, 400, "request_id", bearer(tokenReceive))
	add("json case variant", submit, `{"Envelope":"AA=="}`, 400, "Envelope")
	add("json case variant of a nested member", prepare, `{"draft":{"Kind":"protocol"}}`, 400, "draft.Kind")
	add("json null member", submit, `{"envelope":null}`, 400, "envelope")
	add("json number for bytes", submit, `{"envelope":1}`, 400, "envelope")
	add("json control character", submit, "{\"beacon\":\"\x01\"}", 400, "beacon")
	add("json value that is not UTF-8", submit, "{\"beacon\":\"\xff\"}", 400, "*")
	add("base64 with a line break", submit, `{"envelope":"AA==\n"}`, 400, "envelope")
	add("base64 without padding", submit, `{"envelope":"AA"}`, 400, "envelope")
	add("base64 of URLs", submit, `{"envelope":"-_-_"}`, 400, "envelope")
	add("base64 with loose bits", submit, `{"envelope":"AB=="}`, 400, "envelope")
	add("enum by number", submit, `{"envelope":"AA==","wait":1}`, 400, "wait")
	add("unknown enum", submit, `{"envelope":"AA==","wait":"WAIT_FOREVER"}`, 400, "wait")
	add("enum in lower case", submit, `{"envelope":"AA==","wait":"wait_final"}`, 400, "wait")

	// Envelopes.
	envelope := func(name string, raw []byte, field string) {
		add("envelope "+name, submit, encode(t, map[string]any{"envelope": raw, "beacon": good.GetBeacon()}), 400, field)
	}
	add("envelope missing", submit, "{}", 400, "envelope")
	envelope("empty", []byte{}, "envelope")
	envelope("no JSON", []byte("hello"), "envelope")
	envelope("too large", bytes.Repeat([]byte(" "), statement.MaxEnvelope+1), "envelope")
	envelope("without members", []byte("{}"), "envelope.*")
	env, s, err := statement.Parse(good.GetEnvelope())
	if err != nil {
		t.Fatal(err)
	}
	for _, edit := range []struct{ name, old, with, field string }{
		{"payload type", statement.PayloadType, "text/plain", "envelope.payloadType"},
		{"unknown member", `{"payloadType"`, `{"x":1,"payloadType"`, "envelope.x"},
		{"duplicate member", `{"payloadType"`, `{"payload":"AA==","payloadType"`, "envelope.payload"},
		{"signature not base64", `"sig":"`, `"sig":"-`, "envelope.signatures[0].sig"},
		{"no signatures", `"signatures":[{`, `"signatures":[],"x":[{`, "envelope.signatures"},
		{"another signature", `"sig":"`, `"sig":"AAAA`, "envelope.signatures[0].sig"},
	} {
		raw := strings.Replace(string(env.Bytes()), edit.old, edit.with, 1)
		if raw == string(env.Bytes()) {
			t.Fatalf("%s changes nothing", edit.name)
		}
		envelope(edit.name, []byte(raw), edit.field)
	}
	twice := statement.EncodeDSSE(statement.PayloadType, env.Payload, append(env.Signatures, env.Signatures...))
	envelope("same signature twice", twice, "envelope.signatures")
	stranger, err := statement.Sign(env.Payload, testKey(t, "stranger"))
	if err != nil {
		t.Fatal(err)
	}
	envelope("signature by another key", stranger.Bytes(), "envelope.signatures[0].sig")

	// Statements, signed as they are.
	for _, edit := range []struct{ name, old, with, field string }{
		{"beacon of another log", `"origin":"` + testLog, `"origin":"log.test/other`, "predicate.beacon.origin"},
		{"log in upper case", `"log":"log.test`, `"log":"LOG.test`, "predicate.log"},
		{"type", statement.InTotoType, "https://in-toto.io/Statement/v2", "_type"},
		{"predicate type", statement.PredicateType, "x", "predicateType"},
		{"unknown member", `"kind":`, `"note":"x","kind":`, "predicate.note"},
		{"duplicate member", `"kind":`, `"kind":"sap","kind":`, "predicate.kind"},
		{"case variant", `"kind":`, `"Kind":`, "predicate.kind"},
		{"unknown kind", `"kind":"protocol"`, `"kind":"protokoll"`, "predicate.kind"},
		{"unsealed consent", `"kind":"protocol"`, `"kind":"consent"`, "predicate.kind"},
		{"kind without a document", `"kind":"protocol"`, `"kind":"milestone"`, "subject[0].digest"},
		{"file name", `"name":"document"`, `"name":"jane.pdf"`, "subject[0].name"},
		{"digest in upper case", `"sha256":"` + s.Digest.String()[:4], `"sha256":"` + strings.ToUpper("abcd"), "subject[0].digest.sha256"},
		{"no organisation", `"organisation":"acme",`, ``, "predicate.organisation"},
		{"organisation with a space", `"organisation":"acme"`, `"organisation":"a cme"`, "predicate.organisation"},
		{"no trial", `"trial":"T-1",`, ``, "predicate.trial"},
		{"empty trial", `"trial":"T-1"`, `"trial":""`, "predicate.trial"},
		{"trial too long", `"trial":"T-1"`, `"trial":"` + strings.Repeat("T", 65) + `"`, "predicate.trial"},
		{"chain number 0", `"number":2`, `"number":0`, "predicate.chain.number"},
		{"chain number with exponent", `"number":2`, `"number":2e0`, "predicate.chain.number"},
		{"chain number negative", `"number":2`, `"number":-2`, "predicate.chain.number"},
		{"no previous", `,"previous":"` + s.Chain.Previous.String() + `"`, ``, "predicate.chain.previous"},
		{"meaning", `"meaning":"authorship"`, `"meaning":"liking"`, "predicate.signers[0].meaning"},
		{"reception by a submitter", `"meaning":"authorship"`, `"meaning":"reception"`, "predicate.signers[0].meaning"},
		{"time of signing", `"at":"2026-01-02T03:04:05Z"`, `"at":"yesterday"`, "predicate.signers[0].at"},
		{"time zone", `"at":"2026-01-02T03:04:05Z"`, `"at":"2026-01-02T03:04:05+01:00"`, "predicate.signers[0].at"},
		{"day that is none", `"at":"2026-01-02T03:04:05Z"`, `"at":"2026-02-30T03:04:05Z"`, "predicate.signers[0].at"},
		{"day of signing without a time", `"at":"2026-01-02T03:04:05Z"`, `"at":"2026-01-02"`, "predicate.signers[0].at"},
		{"media type with parameters", `application/pdf`, `application/pdf; x=y`, "predicate.mediaType"},
		{"no media type", `"mediaType":"application/pdf",`, ``, "predicate.mediaType"},
		{"attribute of no kind", `"beacon":`, `"attributes":{"patient":"x"},"beacon":`, "predicate.attributes.patient"},
		{"empty attributes", `"beacon":`, `"attributes":{},"beacon":`, "predicate.attributes"},
		{"sealed attributes of no kind", `"beacon":`, `"sealedAttributes":{"trialogCommitV1":"` + s.Digest.String() + `"},"beacon":`, "predicate.sealedAttributes"},
		{"beacon of size 0", `"size":3`, `"size":0`, "predicate.beacon.size"},
		{"version with a slash", `"kind":`, `"version":"1/2","kind":`, "predicate.version"},
		{"date", `"beacon":`, `"dates":{"document":"12.3.2026"},"beacon":`, "predicate.dates.document"},
		{"amends nothing", `"beacon":`, `"amends":"` + strings.Repeat("0", 64) + `","beacon":`, "predicate.amends"},
		{"trailing bytes", `"}}}`, `"}}} x`, "*"},
	} {
		payload := strings.Replace(string(env.Payload), edit.old, edit.with, 1)
		if payload == string(env.Payload) {
			t.Fatalf("%s changes nothing", edit.name)
		}
		raw, err := statement.SignDSSE(statement.PayloadType, []byte(payload), w.sponsor)
		if err != nil {
			t.Fatal(err)
		}
		envelope("statement "+edit.name, raw, strings.TrimSuffix("envelope.payload."+edit.field, ".*"))
		if edit.field == "*" {
			cases[len(cases)-1].field = "envelope.payload"
		}
	}
	other := []byte(strings.ReplaceAll(string(env.Payload), testLog, "log.test/other"))
	envelope("statement of another log", resign(t, w, other, "", ""), "envelope.payload.predicate.log")
	// Beacons.
	add("beacon missing", submit, encode(t, map[string]any{"envelope": resign(t, w, env.Payload, `"sha256":"`+s.Beacon.Note.String()[:8], `"sha256":"00000000`)}), 400, "beacon")
	add("beacon of another note", submit, encode(t, map[string]any{"envelope": good.GetEnvelope(), "beacon": "hello"}), 400, "beacon")
	add("beacon too large", submit, encode(t, map[string]any{"envelope": good.GetEnvelope(), "beacon": strings.Repeat("x", maxBeacon+1)}), 400, "beacon")
	return append(cases, badDrafts(t, w)...)
}

// badDrafts are requests to prepare and receive.
func badDrafts(t *testing.T, w *world) []bad {
	var cases []bad
	signer := map[string]any{"key": w.sponsor.ID(), "meaning": "authorship"}
	digest := hashed("p")
	for _, edit := range []struct {
		name, member string
		value        any // nil takes the member away
		field        string
	}{
		{"no organisation", "organisation", nil, "organisation"},
		{"organisation with a space", "organisation", "a b", "organisation"},
		{"no trial", "trial", nil, "trial"},
		{"trial with a slash", "trial", "a/b", "trial"},
		{"no kind", "kind", nil, "kind"},
		{"unknown kind", "kind", "poem", "kind"},
		{"kind only in batches", "kind", "consent", "kind"},
		{"kind without a document", "kind", "milestone", "documentSha256"},
		{"kind without a trial", "kind", "credential", "trial"},
		{"document missing", "documentSha256", nil, "documentSha256"},
		{"document in upper case", "documentSha256", strings.ToUpper(digest), "documentSha256"},
		{"document too short", "documentSha256", digest[:62], "documentSha256"},
		{"document all zero", "documentSha256", strings.Repeat("0", 64), "documentSha256"},
		{"document twice", "documentCommitment", digest, "documentCommitment"},
		{"commitment no digest", "documentCommitment", "x", "documentCommitment"},
		{"no media type", "mediaType", nil, "mediaType"},
		{"media type in upper case", "mediaType", "Application/PDF", "mediaType"},
		{"version with a space", "version", "1 2", "version"},
		{"amends no digest", "amends", "x", "amends"},
		{"supersedes no digest", "supersedes", "x", "supersedes"},
		{"sealed attributes no digest", "sealedAttributes", "x", "sealedAttributes"},
		{"sealed attributes of no kind", "sealedAttributes", digest, "sealedAttributes"},
		{"dates no object", "dates", []string{"x"}, "dates"},
		{"date no string", "dates", map[string]any{"document": 2026}, "dates.document"},
		{"date no date", "dates", map[string]any{"document": "tomorrow"}, "dates.document"},
		{"name of a date", "dates", map[string]any{"my day": "2026"}, "dates"},
		{"attributes no object", "attributes", "x", "attributes"},
		{"unknown attribute", "attributes", map[string]any{"patient": "x"}, "attributes.patient"},
		{"attribute no string", "attributes", map[string]any{"reason": 1}, "attributes.reason"},
		{"attribute null", "attributes", map[string]any{"reason": nil}, "attributes.reason"},
		{"attribute boolean", "attributes", map[string]any{"reason": true}, "attributes.reason"},
		{"attribute an object", "attributes", map[string]any{"reason": map[string]any{}}, "attributes.reason"},
		{"attribute too long", "attributes", map[string]any{"reason": strings.Repeat("x", 501)}, "attributes.reason"},
		{"attribute with a line break", "attributes", map[string]any{"reason": "a\nb"}, "attributes.reason"},
		{"attribute with a fraction", "attributes", json.RawMessage(`{"reason":1.5}`), "attributes.reason"},
		{"attribute too great", "attributes", json.RawMessage(`{"reason":9007199254740992}`), "attributes.reason"},
		{"list in a list", "attributes", map[string]any{"reason": [][]string{{"x"}}}, "attributes.reason"},
		{"unknown member", "patient", "x", "patient"},
		{"organisation no string", "organisation", 7, "organisation"},
	} {
		draft := protocolDraft("p")
		if draft[edit.member] = edit.value; edit.value == nil {
			delete(draft, edit.member)
		}
		cases = append(cases, bad{
			name: "prepare " + edit.name, path: "/v1/statements:prepare", status: 400, field: "draft." + edit.field,
			body: encode(t, map[string]any{"draft": draft, "signers": []any{signer}}),
		})
		if edit.name == "no organisation" {
			continue // the token's is taken
		}
		c := bad{
			name: "receive " + edit.name, path: "/v1/statements:receive", status: 400, field: "draft." + edit.field,
			body:    encode(t, map[string]any{"draft": draft, "requestId": "r"}),
			headers: []string{bearer(tokenReceive)},
		}
		if edit.member == "organisation" && edit.value == "a b" {
			c.status = 403 // whatever it is, it is not the token's
		}
		cases = append(cases, c)
	}
	for _, tc := range []struct {
		name    string
		signers any
		field   string
	}{
		{"no signers", []any{}, "signers"},
		{"signers no array", "x", "signers"},
		{"nine signers", []any{signer, signer, signer, signer, signer, signer, signer, signer, signer}, "signers"},
		{"same signer twice", []any{signer, signer}, "signers[1].key"},
		{"no key", []any{map[string]any{"meaning": "review"}}, "signers[0].key"},
		{"key no digest", []any{map[string]any{"key": "x", "meaning": "review"}}, "signers[0].key"},
		{"no meaning", []any{map[string]any{"key": digest}}, "signers[0].meaning"},
		{"meaning reception", []any{map[string]any{"key": digest, "meaning": "reception"}}, "signers[0].meaning"},
		{"unknown member", []any{map[string]any{"key": digest, "name": "Jane"}}, "signers[0].name"},
		{"time", []any{signer, map[string]any{"key": digest, "meaning": "review", "at": "now"}}, "signers[1].at"},
		{"day without a time", []any{signer, map[string]any{"key": digest, "meaning": "review", "at": "2026-01-01"}}, "signers[1].at"},
		{"time with fractions", []any{map[string]any{"key": digest, "meaning": "review", "at": "2026-01-01T00:00:00.5Z"}}, "signers[0].at"},
		{"signer no object", []any{"x"}, "signers[0]"},
	} {
		cases = append(cases, bad{
			name: "prepare " + tc.name, path: "/v1/statements:prepare", status: 400, field: tc.field,
			body: encode(t, map[string]any{"draft": protocolDraft("p"), "signers": tc.signers}),
		})
	}
	cases = append(cases,
		bad{name: "prepare no draft", path: "/v1/statements:prepare", body: encode(t, map[string]any{"signers": []any{signer}}), status: 400, field: "draft"},
		bad{name: "receive no draft", path: "/v1/statements:receive", body: `{"requestId":"r"}`, status: 400, field: "draft", headers: []string{bearer(tokenReceive)}},
		bad{
			name: "receive unknown trial", path: "/v1/statements:receive", status: 409, field: "draft.trial", headers: []string{bearer(tokenReceive)},
			body: `{"requestId":"r","draft":{"trial":"T-9","kind":"milestone","attributes":{"milestone":"m"}}}`,
		},
	)
	for name, id := range map[string]string{
		"missing": "", "with a space": "a b", "with a slash": "a/b", "too long": strings.Repeat("a", 65), "not ASCII": "ä",
	} {
		cases = append(cases, bad{
			name: "receive request id " + name, path: "/v1/statements:receive", status: 400, field: "requestId",
			body: encode(t, map[string]any{"draft": protocolDraft("p"), "requestId": id}), headers: []string{bearer(tokenReceive)},
		})
	}
	for _, kind := range []string{"key", "policy", "rule", "shard-end", "shard-start"} {
		cases = append(cases, bad{
			name: "receive kind " + kind, path: "/v1/statements:receive", status: 403, field: "draft.kind", headers: []string{bearer(tokenReceive)},
			body: encode(t, map[string]any{"draft": map[string]any{"kind": kind}, "requestId": "r"}),
		})
	}
	for name, id := range map[string]string{
		"short": "ab", "upper case": strings.ToUpper(digest), "not hexadecimal": strings.Repeat("g", 64), "all zero": strings.Repeat("0", 64),
	} {
		cases = append(cases,
			bad{name: "receipt identity " + name, method: "GET", path: "/v1/statements/" + id + "/receipt", status: 400, field: "identity"},
			bad{name: "chain key " + name, method: "GET", path: "/v1/chains/" + id, status: 400, field: "key"},
			bad{name: "document statement " + name, method: "GET", path: "/v1/documents/" + digest + "?statement=" + id, status: 400, field: "statement"},
			bad{name: "document " + name, method: "GET", path: "/v1/documents/" + id, status: 400, field: "sha256"})
	}
	return append(cases,
		bad{name: "receipt of nothing", method: "GET", path: "/v1/statements/" + digest + "/receipt", status: 404, field: "identity"},
		bad{name: "chain trial with a slash", method: "GET", path: "/v1/chains/" + digest + "?trial=a/b", status: 400, field: "trial"},
		bad{name: "document without a statement", method: "GET", path: "/v1/documents/" + digest, status: 400, field: "statement"},
	)
}

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// resign changes a payload and signs it.
func resign(t *testing.T, w *world, payload []byte, old, with string) []byte {
	t.Helper()
	raw, err := statement.SignDSSE(statement.PayloadType, []byte(strings.Replace(string(payload), old, with, 1)), w.sponsor)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func manyHeaders() []string {
	list := make([]string, 600)
	for i := range list {
		list[i] = fmt.Sprintf("X-%d: %s", i, strings.Repeat("x", 20))
	}
	return list
}

func TestBadRequests(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	cases := badCases(t, w)
	if len(cases) < 80 {
		t.Errorf("only %d cases", len(cases))
	}
	before := w.size()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			h.t = t
			if tc.method == "" {
				tc.method = http.MethodPost
			}
			headers := tc.headers
			if tc.method == http.MethodPost && !strings.Contains(strings.Join(headers, "\n"), "Content-Type") {
				headers = append([]string{"Content-Type: application/json"}, headers...)
			}
			if len(tc.headers) == 1 && tc.headers[0] == "-" {
				headers = nil
			}
			got := h.request(tc.method, tc.path, strings.NewReader(tc.body), headers...)
			if got.status != tc.status {
				t.Fatalf("status %d, want %d: %.300s", got.status, tc.status, got.body)
			}
			field := got.problem.Field
			if prefix, ok := strings.CutSuffix(tc.field, "*"); ok && strings.HasPrefix(field, prefix) && field != "" {
				field = tc.field
			}
			if field != tc.field {
				t.Errorf("field %q, want %q: %.300s", got.problem.Field, tc.field, got.body)
			}
			if tc.field != "" && (len(got.problem.Errors) == 0 || got.problem.Errors[0].Reason == "") {
				t.Errorf("no reason in %.300s", got.body)
			}
			if tc.status == 405 && got.header.Get("Allow") == "" {
				t.Error("no Allow")
			}
			for _, internal := range []string{"goroutine", "proto:", "runtime error", "/services/", ".go:", "grpc"} {
				if strings.Contains(string(got.body), internal) {
					t.Errorf("%q in %.300s", internal, got.body)
				}
			}
		})
	}
	h.t = t
	if w.size() != before {
		t.Errorf("%d entries were stored", w.size()-before)
	}
	for key := range h.docs.List(context.Background(), "") {
		t.Errorf("object %s was stored", key)
	}
	if rec, err := h.g.reception.box.load("jane.doe:site-canary/r"); rec != nil || err != nil {
		t.Errorf("a record was left behind: %v, %v", rec, err)
	}
	// The good one that all others were made of.
	h.post("/v1/statements", submitBody(w.protocol([]byte("p")))).want(t, 200, nil)
}

// TestRequestFields holds what decodeJSON takes for granted of the .proto file.
func TestRequestFields(t *testing.T) {
	service := trialogv1.File_trialog_v1_submission_proto.Services().ByName("SubmissionService")
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		if m.IsStreamingClient() {
			continue // over gRPC only
		}
		if err := checkShape(m.Input()); err != nil {
			t.Error(err)
		}
	}
}

// checkShape allows strings, bytes, enums, objects, lists of objects and maps of
// strings.
func checkShape(d protoreflect.MessageDescriptor) error {
	if d.FullName() == "google.protobuf.Struct" {
		return nil
	}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		switch {
		case f.IsMap():
			if f.MapKey().Kind() != protoreflect.StringKind || f.MapValue().Kind() != protoreflect.StringKind {
				return fmt.Errorf("%s is no map of strings", f.FullName())
			}
		case f.Message() != nil:
			if err := checkShape(f.Message()); err != nil {
				return err
			}
		case f.IsList():
			return fmt.Errorf("%s is a list of scalars", f.FullName())
		case f.Kind() != protoreflect.StringKind && f.Kind() != protoreflect.BytesKind && f.Kind() != protoreflect.EnumKind:
			return fmt.Errorf("%s is a %s", f.FullName(), f.Kind())
		}
	}
	return nil
}
