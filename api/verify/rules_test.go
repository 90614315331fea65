package verify_test

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// trusting is the policy that accepts what the story's gateway received.
func trusting(t *testing.T, s *testlog.Story) *verify.Policy {
	t.Helper()
	side := s.Sidecar()
	side.AcceptReceived, side.Gateways = true, []string{s.Gateway.Key.ID().String()}
	p, err := verify.ParsePolicy(s.PolicyText(), side.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// say logs a statement and returns its receipt under the newest checkpoint.
func say(t *testing.T, s *testlog.Story, by *testlog.Member, st statement.Statement, options ...testlog.Option) []byte {
	t.Helper()
	var r *receipt.Receipt
	if err := testlog.Do(func() {
		l := s.Say(st, []*testlog.Member{by}, options...)
		r = s.Receipt(l, s.Note(s.First, s.First.Size()))
	}); err != nil {
		t.Fatal(err)
	}
	return encode(t, r)
}

// failsAt checks where and why a verdict fails.
func failsAt(t *testing.T, in verify.Input, link verify.Link, words string) {
	t.Helper()
	v, err := verify.Verify(in)
	var f *verify.Failure
	if !errors.As(err, &f) || v.Verified || f.Link != link || !strings.Contains(f.Reason, words) {
		t.Errorf("error %v, want link %s and %q", err, link, words)
	}
}

// TestReceivedKinds: what a trusted gateway cannot receive does not verify,
// whichever organisation it is said for.
func TestReceivedKinds(t *testing.T) {
	s := tell(t)
	p := trusting(t, s)
	in := verify.Input{Policy: p, Receipt: encode(t, s.Receipt(s.Received, s.Final)), Document: s.Pdf, Now: testlog.Now()}
	if _, err := verify.Verify(in); err != nil {
		t.Fatalf("what the gateway may receive: %v", err)
	}
	in.Document = nil
	for _, org := range []string{"operator-l", "gateway-g", "sponsor-a"} {
		in.Receipt = say(t, s, s.Gateway, statement.Statement{
			Organisation: org, Kind: statement.KindShardEnd,
			Subject: statement.SubjectLog, Digest: statement.LogDigest(testlog.Log),
			Attributes: []statement.Member{statement.TextMember("successor", s.Second.Origin)},
		}, testlog.AsReceived())
		failsAt(t, in, verify.LinkEntry, "predicate.received")
	}
	in.Receipt = say(t, s, s.Gateway, statement.Statement{
		Organisation: "sponsor-a", Kind: statement.KindKey, Subject: statement.SubjectKey, Digest: s.Stolen.Key.ID(),
		Attributes: s.Revoked.Statement.Attributes,
	}, testlog.AsReceived())
	failsAt(t, in, verify.LinkEntry, "predicate.received")
}

// TestReceivedRecord: the kind of a record is held against what a gateway can
// receive, as the log does not see it.
func TestReceivedRecord(t *testing.T) {
	s := tell(t)
	item := &statement.Item{
		Context: statement.Context{Organisation: "operator-l", Kind: statement.KindToken},
		Attributes: []statement.Member{
			statement.TextMember("serial", "1"), statement.TextMember("time", "2026-03-01T05:00:00Z"),
			statement.TextMember("imprint", s.Site.Key.ID().String()),
		},
	}
	token, err := statement.NewRecord(string(statement.KindToken), item.Encode(), testlog.NewStream("token"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		org, trial, kind string
		data             []byte
		link             verify.Link
	}{
		{"site-b", testlog.Trial, "consent", s.Consents.Records[0], ""},
		{"operator-l", "", "token", token.Encode(), verify.LinkRecord},
	} {
		root, err := statement.BatchRoot([][]byte{c.data})
		if err != nil {
			t.Fatal(err)
		}
		batch := statement.Statement{
			Organisation: c.org, Kind: statement.KindBatch, Received: &statement.ReceptionInfo{Principal: "p-1", Method: "mtls"},
			Attributes: []statement.Member{
				statement.TextMember("label", "b"), statement.TextMember("recordType", c.kind),
				statement.CountMember("count", 1), statement.TextMember("root", root.String()),
			},
		}
		raw := say(t, s, s.Gateway, batch, testlog.Changed(func(st *statement.Statement) {
			if c.trial == "" {
				st.Trial, st.Subject, st.Digest = "", statement.SubjectLog, statement.LogDigest(testlog.Log)
			}
		}))
		r, err := receipt.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		r.Record = &receipt.Record{Data: c.data}
		in := verify.Input{Policy: trusting(t, s), Receipt: encode(t, r), StatementOnly: true, Now: testlog.Now()}
		if c.link != "" {
			failsAt(t, in, c.link, `who may not say "token"`)
		} else if _, err := verify.Verify(in); err != nil {
			t.Errorf("a received %s: %v", c.kind, err)
		}
	}
}

// TestUnreadable: what the log should have refused is an entry that cannot be
// read, and the reason names the member.
func TestUnreadable(t *testing.T) {
	s := tell(t)
	document := testlog.Document(statement.KindDocument, s.Pdf, testlog.TMF()...)
	revocation := statement.Statement{
		Kind: statement.KindKey, Subject: statement.SubjectKey, Digest: s.Stolen.Key.ID(), Attributes: s.Revoked.Statement.Attributes,
	}
	suspect := `"suspectOrigin":"` + s.First.Origin + `",`
	for _, c := range []struct {
		st              statement.Statement
		by              *testlog.Member
		old, with, want string
	}{
		{document, s.Site, `:00Z"}]`, `:00+00:00"}]`, "predicate.signers[0].at"},
		{document, s.Site, `"origin":"` + testlog.Log, `"origin":"log.example.org/others`, "predicate.beacon.origin"},
		{document, s.Site, `"kind":"document"`, `"kind":"novelty"`, "that this version knows"},
		{document, s.Site, `"attributes":{`, `"attributes":{"novelty":"x",`, "that this version knows"},
		{revocation, s.Recovery, suspect, ``, "suspectOrigin"},
		{revocation, s.Recovery, suspect, `"suspectOrigin":"log.example.org/others/2026",`, "predicate.attributes.suspectOrigin"},
	} {
		in := verify.Input{
			Policy: s.Policy(), Receipt: say(t, s, c.by, c.st, testlog.Swapped(c.old, c.with)), StatementOnly: true, Now: testlog.Now(),
		}
		failsAt(t, in, verify.LinkEntry, c.want)
	}
}

// TestTimeAuthorities: a sidecar may name them.
func TestTimeAuthorities(t *testing.T) {
	s := tell(t)
	side := s.Sidecar()
	der := testlog.Certificate("Time Authority T")
	side.TimeAuthorities = []testlog.TimeAuthority{{Name: "T", Certificate: der}}
	p, err := verify.ParsePolicy(s.PolicyText(), side.Encode())
	if err != nil {
		t.Fatal(err)
	}
	list := p.Trust().TimeAuthorities
	if len(list) != 1 || list[0].Name != "T" || !slices.Equal(list[0].Certificate.Raw, der) {
		t.Errorf("time authorities %+v", list)
	}
	r := s.Receipt(s.Plain, s.Final)
	r.Tokens = [][]byte{[]byte("not a token")}
	v, err := verify.Verify(verify.Input{Policy: p, Receipt: encode(t, r), Document: s.Pdf, Now: testlog.Now()})
	if err != nil || !strings.Contains(strings.Join(v.Caveats, "\n"), "1 of 1 time-stamp tokens were not evaluated") {
		t.Errorf("verdict %+v, %v", v, err)
	}
	text := base64.StdEncoding.EncodeToString(der)
	good := string(side.Encode())
	for _, c := range []struct{ old, by, words string }{
		{`"timeAuthorities": [`, `"timeAuthorities": 1, "x": [`, "timeAuthorities: expected an array"},
		{`"timeAuthorities": [`, `"timeAuthorities": [], "x": [`, "timeAuthorities: expected an array"},
		{`"timeAuthorities": [`, `"timeAuthorities": ["T", `, "timeAuthorities[0]: expected an object"},
		{`"name": "T"`, `"name": ""`, "timeAuthorities[0].name"},
		{`"name": "T"`, `"Name": "T"`, "timeAuthorities[0].name: missing"},
		{`"name": "T"`, `"name": "T", "url": "u"`, "timeAuthorities[0].url: unknown member"},
		{text, text[:8] + `\n` + text[8:], "timeAuthorities[0].certificate"},
		{text, text[:len(text)-4], "timeAuthorities[0].certificate"},
		{text, base64.StdEncoding.EncodeToString(append(slices.Clone(der), 0)), "timeAuthorities[0].certificate"},
		{text, base64.StdEncoding.EncodeToString(s.Admin.Key.Public().DER()), "timeAuthorities[0].certificate"},
	} {
		changed := strings.Replace(good, c.old, c.by, 1)
		if changed == good {
			t.Fatalf("nothing to change: %s", c.old)
		}
		if _, err := verify.ParsePolicy(s.PolicyText(), []byte(changed)); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: error %v, want %q", c.by, err, c.words)
		}
	}
}
