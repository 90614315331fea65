package witness

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
)

// requestCase is one request to a witness that has cosigned size 5, and what it
// must be answered with.
type requestCase struct {
	name   string
	rule   string // what the specification, or the limit of ours, says
	fresh  bool   // to a witness that has cosigned nothing instead
	method string // POST if empty
	path   string // /add-checkpoint if empty
	header http.Header
	body   string

	status int
	// kind, field and detail of the problem; detail is a part of it. Empty kind
	// means that the answer is no problem.
	kind, field, detail string
	// answer is the whole body of an answer that is neither cosignatures nor a
	// problem.
	answer string
}

const (
	ruleShape   = "The request body MUST be a sequence of an old size line, zero or more consistency proof lines, and an empty line, followed by a checkpoint. Each line MUST terminate in a newline character."
	ruleOld     = "The old size line MUST consist of the string old, a single space (0x20), and the tree size of the previous checkpoint encoded as an ASCII decimal with no leading zeroes."
	ruleHash    = "Each consistency proof line MUST encode a single hash in base64."
	rule63      = "The client MUST NOT send more than 63 consistency proof lines."
	rule404     = "If the checkpoint origin is unknown, the witness MUST respond with a 404 Not Found HTTP status code."
	rule403     = "The witness MUST respond with a 403 Forbidden HTTP status code if either no signature from a trusted key for the origin is present, or a signature line's key name and ID match a trusted key but the signature itself fails to verify."
	ruleIgnore  = "It MUST ignore signatures from unknown keys."
	rule400     = "The old size MUST be equal to or lower than the checkpoint size. Otherwise, the witness MUST respond with a 400 Bad Request HTTP status code."
	rule409     = "The witness MUST check that the old size matches the size of the latest checkpoint it cosigned for the checkpoint's origin (or zero if it never cosigned a checkpoint for that origin). If it doesn't match, the witness MUST respond with a 409 Conflict. The response body MUST consist of the tree size of the latest cosigned checkpoint in decimal, followed by a newline. The response MUST have a Content-Type of text/x.tlog.size."
	ruleEmpty   = "A checkpoint of size zero MUST have the root hash of the empty tree. Otherwise, the witness MUST respond with a 422 Unprocessable Entity HTTP status code."
	rule422     = "If the proof is not empty when the old size is zero, or if a Merkle Consistency Proof doesn't verify, the witness MUST respond with a 422 Unprocessable Entity HTTP status code."
	rule422Same = "If the old size matches the checkpoint size, the witness MUST check that the root hashes are also identical. If they don't match, the witness MUST respond with a 422 Unprocessable Entity HTTP status code."
	rule200     = "If all the checks above pass, the witness MUST update its record of the latest cosigned checkpoint and respond with a 200 Success HTTP status code. The response body MUST be a sequence of one or more note signature lines."
	rulePost    = "The request MUST be an HTTP POST."
	ruleGet     = "The request MUST be an HTTP GET. The origin hash is the SHA-256 hash of the log's origin, hex encoded, in lowercase."
	rule404Get  = "If the witness has never cosigned a checkpoint for that log, it MUST respond with a 404 Not Found HTTP status code instead."
	ruleNote    = "The response body MUST be a checkpoint for the log identified by the origin, and it MUST include the cosignature(s) from the witness's key(s) that were returned from add-checkpoint and the cosignature from the log key(s) that the witness verified."
	ruleNoteFmt = "Signed notes MUST be valid UTF-8 and MUST NOT contain any ASCII control characters other than newline."
	ruleOurs    = "Limit of this witness."
)

// problemCases is where the answer is a problem; ok are the others. fixture
// holds the pieces that they are made of.
type fixture struct {
	*testing.T
	good       string      // from size 5 to 8
	note8      []byte      // the checkpoint of size 8
	five       *tree       // what was cosigned
	eight, alt *tree       // its growth, and a tree that forks from it at leaf 3
	proof      []string    // 5 to 8
	logPQ, log *signingKey // the trusted keys
	stranger   *signingKey
}

type signingKey = checkpoint.SigningKey

func newFixture(t *testing.T) *fixture {
	f := &fixture{T: t, five: grown(t, 5, 5, ""), eight: grown(t, 8, 8, ""), alt: grown(t, 8, 3, "x")}
	f.log, f.logPQ = logKey(t), logKeyPQ(t)
	f.stranger = testKey(t, testOrigin, checkpoint.AlgEd25519, 77)
	f.proof = f.eight.proof(t, 5)
	f.note8 = signed(t, f.eight.checkpoint(t), f.log)
	f.good = addBody(5, f.proof, f.note8)
	return f
}

// swap replaces a part of the good request that has to be in it.
func (f *fixture) swap(old, with string) string {
	if !strings.Contains(f.good, old) {
		f.Fatalf("the good request has no %q", old)
	}
	return strings.Replace(f.good, old, with, 1)
}

// flipped is the note with one bit of its i-th signature turned.
func (f *fixture) flipped(note []byte, i int) []byte {
	n, err := checkpoint.Parse(note)
	if err != nil {
		f.Fatal(err)
	}
	sigs := n.Signatures()
	sigs[i].Bytes[20] ^= 1
	n, err = checkpoint.NewNote(n.Text(), sigs...)
	if err != nil {
		f.Fatal(err)
	}
	return n.Bytes()
}

func hashes(n int) []string {
	one := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	out := make([]string, n)
	for i := range out {
		out[i] = one
	}
	return out
}

func (f *fixture) shapeCases() []requestCase {
	c8 := string(f.eight.checkpoint(f).Body())
	bad := func(name, rule, body, field, detail string) requestCase {
		return requestCase{name: name, rule: rule, body: body, status: 400, kind: "malformed", field: field, detail: detail}
	}
	lines := strings.Join(f.proof, "\n") + "\n"
	cases := []requestCase{
		bad("empty body", ruleShape, "", "old", "ends in a newline"),
		bad("garbage", ruleShape, "\x00\x01garbage\n", "old", `"old <size>"`),
		bad("only an old line", ruleShape, "old 5\n", "proof", "empty line before the checkpoint"),
		bad("old line without newline", ruleShape, "old 5", "old", "ends in a newline"),
		bad("no empty line", ruleShape, "old 0\n"+string(f.note8), "proof[0]", "base64 of 32 bytes"),
		bad("no checkpoint", ruleShape, "old 5\n"+lines+"\n", "checkpoint", ""),
		bad("two empty lines", ruleShape, f.swap("\n\n"+testOrigin, "\n\n\n"+testOrigin), "checkpoint", ""),
		bad("CRLF", ruleShape, strings.ReplaceAll(f.good, "\n", "\r\n"), "old", "decimal"),
		bad("bytes before", ruleShape, "\n"+f.good, "old", `"old <size>"`),
		bad("bytes behind", ruleShape, f.good+"x\n", "checkpoint", ""),
		bad("last newline missing", ruleShape, strings.TrimSuffix(f.good, "\n"), "checkpoint", ""),
		bad("upper case Old", ruleOld, f.swap("old 5", "Old 5"), "old", `"old <size>"`),
		bad("two spaces", ruleOld, f.swap("old 5", "old  5"), "old", "decimal"),
		bad("junk behind old", ruleOld, f.swap("old 5", "old 5 junk"), "old", "decimal"),
		bad("leading zero", ruleOld, f.swap("old 5", "old 05"), "old", "decimal"),
		bad("two zeroes", ruleOld, f.swap("old 5", "old 00"), "old", "decimal"),
		bad("plus sign", ruleOld, f.swap("old 5", "old +5"), "old", "decimal"),
		bad("minus sign", ruleOld, f.swap("old 5", "old -5"), "old", "decimal"),
		bad("hexadecimal", ruleOld, f.swap("old 5", "old 0x5"), "old", "decimal"),
		bad("no number", ruleOld, f.swap("old 5", "old "), "old", "decimal"),
		bad("old of 2^64", ruleOld, f.swap("old 5", "old 18446744073709551616"), "old", "below 2^64"),
		bad("proof line not base64", ruleHash, f.swap(f.proof[1], "not base64"), "proof[1]", "base64 of 32 bytes"),
		bad("proof line of 31 bytes", ruleHash, f.swap(f.proof[0], base64.StdEncoding.EncodeToString(make([]byte, 31))), "proof[0]", "32 bytes"),
		bad("proof line of 33 bytes", ruleHash, f.swap(f.proof[0], base64.StdEncoding.EncodeToString(make([]byte, 33))), "proof[0]", "32 bytes"),
		bad("proof line in URL alphabet", ruleHash, f.swap(f.proof[0], strings.Repeat("_", 43)+"="), "proof[0]", "base64"),
		bad("proof line without padding", ruleHash, f.swap(f.proof[0], strings.TrimSuffix(f.proof[0], "=")), "proof[0]", "base64"),
		bad("proof line not canonical", ruleHash, f.swap(f.proof[0], strings.Repeat("A", 42)+"B="), "proof[0]", "base64"),
		bad("proof line with a carriage return", ruleHash, f.swap(f.proof[0], f.proof[0]+"\r"), "proof[0]", "base64"),
		bad("64 proof lines", rule63, addBody(5, hashes(64), f.note8), "proof[63]", "at most 63"),
		bad("checkpoint not UTF-8", ruleNoteFmt, f.swap(c8, testOrigin+"\xff\n"+c8[len(testOrigin)+1:]), "checkpoint", "UTF-8"),
		bad("control character", ruleNoteFmt, f.swap(testOrigin+"\n8", testOrigin+"\t\n8"), "checkpoint", "control"),
		bad("checkpoint without signature", ruleShape, addBody(5, f.proof, []byte(c8+"\n")), "checkpoint", ""),
		bad("checkpoint size with zero", ruleShape, f.swap("\n8\n", "\n08\n"), "checkpoint", ""),
		bad("checkpoint root of 31 bytes", ruleShape, f.swap(strings.Split(c8, "\n")[2], base64.StdEncoding.EncodeToString(make([]byte, 31))), "checkpoint", ""),
		bad("101 signature lines", ruleOurs, f.good+strings.Repeat(f.good[strings.LastIndex(f.good, "\n\n")+2:], 100), "checkpoint", "100"),
		{
			name: "body above 64 KiB", rule: ruleOurs, body: f.good + strings.Repeat("x", maxBody),
			status: 413, kind: "too-large", detail: "65536",
		},
		{
			name: "compressed body", rule: ruleOurs, body: f.good, header: http.Header{"Content-Encoding": {"gzip"}},
			status: 415, kind: "encoding", detail: "content encoding",
		},
		{name: "GET add-checkpoint", rule: rulePost, method: "GET", status: 405, kind: "method", detail: "POST"},
		{name: "PUT add-checkpoint", rule: rulePost, method: "PUT", body: f.good, status: 405, kind: "method", detail: "POST"},
		{name: "other path", rule: ruleOurs, path: "/sign-subtree", body: f.good, status: 404, kind: "no-such-path", detail: "/add-checkpoint"},
	}
	return cases
}

func (f *fixture) trustCases() []requestCase {
	of := func(origin string) checkpoint.Checkpoint {
		return checkpoint.Checkpoint{Origin: origin, Size: 8, Root: f.eight.root(f)}
	}
	unknown := of("log.example/unknown")
	forbidden := func(name string, note []byte) requestCase {
		return requestCase{name: name, rule: rule403, body: addBody(5, f.proof, note), status: 403, kind: "untrusted", field: "checkpoint"}
	}
	both := signed(f, of(testOrigin), f.log, f.logPQ)
	return []requestCase{
		{
			name: "unknown origin", rule: rule404, body: addBody(5, f.proof, signed(f, unknown, f.log)),
			status: 404, kind: "unknown-origin", field: "checkpoint",
		},
		{
			name: "unknown origin before a too great old size", rule: rule404, body: addBody(9, nil, signed(f, unknown, f.log)),
			status: 404, kind: "unknown-origin", field: "checkpoint",
		},
		forbidden("unknown key of the right name", signed(f, of(testOrigin), f.stranger)),
		forbidden("key of another configured log", signed(f, of(testOrigin), testKey(f, otherOrigin, checkpoint.AlgEd25519, 9))),
		forbidden("signature for another configured origin", signed(f, of(otherOrigin), f.log)),
		forbidden("only our own cosignature", signedText(f, of(testOrigin).Body(), witnessKeys(f)[1])),
		forbidden("failing signature", f.flipped(f.note8, 0)),
		forbidden("second trusted key fails", f.flipped(both, 1)),
		forbidden("first trusted key fails", f.flipped(both, 0)),
		{
			name: "failing signature before a too great old size", rule: rule403, body: addBody(9, nil, f.flipped(f.note8, 0)),
			status: 403, kind: "untrusted", field: "checkpoint",
		},
		{name: "failing signature of an unknown key", rule: ruleIgnore, body: addBody(5, f.proof, f.flipped(signed(f, of(testOrigin), f.stranger, f.log), 0)), status: 200},
		{name: "both log keys", rule: rule200, body: addBody(5, f.proof, both), status: 200},
		{name: "ML-DSA-44 log key alone", rule: rule200, body: addBody(5, f.proof, signed(f, of(testOrigin), f.logPQ)), status: 200},
	}
}

func (f *fixture) stateCases() []requestCase {
	c := func(tr *tree) []byte { return signed(f, tr.checkpoint(f), f.log) }
	zero := checkpoint.Checkpoint{Origin: testOrigin, Root: (&tree{}).root(f)}
	// SigningKey refuses to sign a false empty root, so the log's hand is forced
	// with the bare Ed25519 key behind it.
	falseZero := signedByHand(f.T, checkpoint.Checkpoint{Origin: testOrigin, Root: checkpoint.Hash{1}})
	conflict := func(name string, fresh bool, body, size string) requestCase {
		return requestCase{name: name, rule: rule409, fresh: fresh, body: body, status: 409, answer: size + "\n"}
	}
	no := func(name, rule, body, detail string) requestCase {
		return requestCase{name: name, rule: rule, body: body, status: 422, kind: "inconsistent", field: "checkpoint", detail: detail}
	}
	twisted := append([]string{}, f.proof...)
	twisted[0], twisted[1] = twisted[1], twisted[0]
	fresh := func(rc requestCase) requestCase { rc.fresh = true; return rc }
	return []requestCase{
		{name: "old above size", rule: rule400, body: addBody(9, nil, f.note8), status: 400, kind: "old-above-size", field: "old", detail: "9"},
		{name: "old above size on first contact", rule: rule400, fresh: true, body: addBody(9, nil, f.note8), status: 400, kind: "old-above-size", field: "old"},
		{name: "old of 2^64-1", rule: rule400, body: addBody("18446744073709551615", nil, f.note8), status: 400, kind: "old-above-size", field: "old"},
		conflict("old 0 when 5 is known", false, addBody(0, nil, f.note8), "5"),
		conflict("stale old", false, addBody(3, f.eight.proof(f, 3), f.note8), "5"),
		conflict("old ahead of the witness", false, addBody(6, f.eight.proof(f, 6), f.note8), "5"),
		conflict("smaller checkpoint", false, addBody(3, nil, c(grown(f, 3, 3, ""))), "5"),
		conflict("smaller checkpoint from the known size's past", false, addBody(2, grown(f, 3, 3, "").proof(f, 2), c(grown(f, 3, 3, ""))), "5"),
		conflict("old on first contact", true, f.good, "0"),
		conflict("same size and old on first contact", true, addBody(5, nil, c(f.five)), "0"),
		conflict("stale old with a fork", false, addBody(0, nil, c(grown(f, 5, 3, "x"))), "5"),
		conflict("size 0 when 5 is known", false, addBody(0, nil, signed(f, zero, f.log)), "5"),
		conflict("63 proof lines are read", false, addBody(4, hashes(63), f.note8), "5"),
		fresh(no("size 0 with another root", ruleEmpty, addBody(0, nil, falseZero), "empty")),
		fresh(no("proof from size 0", rule422, addBody(0, hashes(1), f.note8), "not empty")),
		fresh(no("proof from size 0 to size 0", rule422, addBody(0, hashes(1), signed(f, zero, f.log)), "not empty")),
		no("missing proof", rule422, addBody(5, nil, f.note8), "does not verify"),
		no("random proof", rule422, addBody(5, hashes(len(f.proof)), f.note8), "does not verify"),
		no("63 random hashes", rule422, addBody(5, hashes(63), f.note8), "does not verify"),
		no("proof with two hashes exchanged", rule422, addBody(5, twisted, f.note8), "does not verify"),
		no("proof with a hash too many", rule422, addBody(5, append(hashes(1), f.proof...), f.note8), "does not verify"),
		no("fork with its own proof", rule422, addBody(5, f.alt.proof(f, 5), c(f.alt)), "does not verify"),
		no("same size, other root", rule422Same, addBody(5, nil, c(grown(f, 5, 3, "x"))), "another root"),
		no("same size with a proof", rule422, addBody(5, hashes(1), c(f.five)), "not empty"),
		{name: "growth", rule: rule200, body: f.good, status: 200},
		{name: "same size again", rule: rule200, body: addBody(5, nil, c(f.five)), status: 200},
		{name: "first contact", rule: rule200, fresh: true, body: addBody(0, nil, f.note8), status: 200},
		{name: "first contact with size 0", rule: rule200, fresh: true, body: addBody(0, nil, signed(f, zero, f.log)), status: 200},
		{name: "growth by one", rule: rule200, body: grown(f, 6, 6, "").step(f, 5), status: 200},
	}
}

func (f *fixture) readCases() []requestCase {
	at := "/" + originHash(testOrigin) + "/checkpoint"
	unknown := func(name, path string) requestCase {
		return requestCase{name: name, rule: ruleGet, method: "GET", path: path, status: 404, kind: "unknown-origin"}
	}
	return []requestCase{
		{name: "read a log never cosigned", rule: rule404Get, fresh: true, method: "GET", path: at, status: 404, kind: "never-cosigned"},
		unknown("read an unknown log", "/"+originHash("log.example/unknown")+"/checkpoint"),
		unknown("read in upper case", "/"+strings.ToUpper(originHash(testOrigin))+"/checkpoint"),
		unknown("read by origin", "/"+strings.ReplaceAll(testOrigin, "/", "%2F")+"/checkpoint"),
		{name: "POST to the read interface", rule: ruleGet, path: at, body: f.good, status: 405, kind: "method", detail: "GET"},
	}
}

func TestRequests(t *testing.T) {
	f := newFixture(t)
	var cases []requestCase
	for _, more := range [][]requestCase{f.shapeCases(), f.trustCases(), f.stateCases(), f.readCases()} {
		cases = append(cases, more...)
	}
	if len(cases) < 80 {
		t.Fatalf("only %d cases", len(cases))
	}
	checkCorpus(t, cases)
	seen := make(map[string]bool)
	for _, rc := range cases {
		if seen[rc.name] {
			t.Errorf("two cases named %q", rc.name)
		}
		seen[rc.name] = true
		t.Run(rc.name, func(t *testing.T) {
			w := open(t, testConfig(t, newClock()))
			if !rc.fresh {
				mustAdd(t, w, f.five.step(t, 0))
			}
			rc.check(t, w)
		})
	}
}

// checkCorpus: each request that deployed witnesses were asked, and answered in
// different ways, is in the table, with the status of the specification.
func checkCorpus(t *testing.T, cases []requestCase) {
	for name, status := range map[string]int{
		"first contact":                       200, // valid first, old 0
		"old on first contact":                409, // omniwitness: 200, proof unchecked
		"proof from size 0":                   422, // on first contact; omniwitness: 200
		"stale old":                           409,
		"same size again":                     200,
		"old above size":                      400,
		"old above size on first contact":     400, // omniwitness: 200
		"random proof":                        422,
		"failing signature":                   403, // omniwitness: 500
		"unknown key of the right name":       403,
		"checkpoint without signature":        400, // omniwitness and litewitness: 500
		"bytes behind":                        400,
		"unknown origin":                      404, // omniwitness with a file: 500; litewitness: 403
		"same size, other root":               422, // omniwitness: 409 without a body
		"garbage":                             400,
		"junk behind old":                     400, // omniwitness: 200
		"two zeroes":                          400, // omniwitness: 200
		"size 0 with another root":            422, // omniwitness: 200, signed
		"body above 64 KiB":                   413, // omniwitness: 400 above 16 KiB; litewitness: no limit seen
		"both log keys":                       200,
		"ML-DSA-44 log key alone":             200,
		"read a log never cosigned":           404,
		"POST to the read interface":          405,
		"other path":                          404, // sign-subtree, which is optional
		"63 proof lines are read":             409,
		"64 proof lines":                      400,
		"101 signature lines":                 400,
		"failing signature of an unknown key": 200,
	} {
		if !slices.ContainsFunc(cases, func(rc requestCase) bool { return rc.name == name && rc.status == status }) {
			t.Errorf("no case %q with status %d", name, status)
		}
	}
}

func (rc *requestCase) check(t *testing.T, w *Witness) {
	before, err := w.state.note(testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	method, path := rc.method, rc.path
	if method == "" {
		method = http.MethodPost
	}
	if path == "" {
		path = "/add-checkpoint"
	}
	rec := do(w, method, path, strings.NewReader(rc.body), rc.header)
	if rec.Code != rc.status {
		t.Fatalf("status %d, want %d because: %s\nbody: %s", rec.Code, rc.status, rc.rule, rec.Body)
	}
	wantType := typeProblem
	switch {
	case rc.status == 200:
		wantType = typeNote
		cosignatures(t, rc.body, rec.Body.Bytes(), w.keys...)
	case rc.status == 409:
		wantType = "text/x.tlog.size"
		if rec.Body.String() != rc.answer {
			t.Errorf("body %q, want %q because: %s", rec.Body, rc.answer, rc.rule)
		}
	default:
		rc.checkProblem(t, rec.Body.Bytes())
	}
	rc.checkHeader(t, rec.Header(), wantType, rec.Body.Len())
	after, err := w.state.note(testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	if rc.status != 200 && !bytes.Equal(before, after) {
		t.Errorf("a refused request changed the record to %s", after)
	}
	if rc.status != 200 && strings.Contains(rec.Body.String(), "— ") {
		t.Errorf("a refusal has a signature line: %s", rec.Body)
	}
}

// checkHeader wants exactly these headers, and Allow with 405.
func (rc *requestCase) checkHeader(t *testing.T, got http.Header, contentType string, length int) {
	want := http.Header{
		"Content-Type": {contentType}, "Content-Length": {strconv.Itoa(length)},
		"X-Content-Type-Options": {"nosniff"}, "Cache-Control": {"no-store"},
	}
	got = maps.Clone(got)
	if rc.status == http.StatusMethodNotAllowed {
		got.Del("Allow") // TestMethodNotAllowedNamesMethods
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("headers %v, want %v", got, want)
	}
}

func (rc *requestCase) checkProblem(t *testing.T, body []byte) {
	var got problem
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("body %q is no problem: %v", body, err)
	}
	want := problem{
		Type:  "https://trialog.dev/problems/witness/" + rc.kind,
		Title: http.StatusText(rc.status), Status: rc.status, Field: rc.field, Detail: got.Detail,
	}
	if got != want {
		t.Errorf("problem %+v, want %+v because: %s", got, want, rc.rule)
	}
	if got.Detail == "" || !strings.Contains(got.Detail, rc.detail) {
		t.Errorf("detail %q does not say %q", got.Detail, rc.detail)
	}
}

func TestMethodNotAllowedNamesMethods(t *testing.T) {
	w := open(t, testConfig(t, newClock()))
	for path, want := range map[string]string{
		"/add-checkpoint": "POST",
		fmt.Sprintf("/%s/checkpoint", originHash(testOrigin)): "GET, HEAD",
	} {
		if got := do(w, "DELETE", path, nil, nil).Header().Get("Allow"); got != want {
			t.Errorf("%s: Allow is %q, want %q", path, got, want)
		}
	}
}
