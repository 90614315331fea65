package statement_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/trialog/trialog/api/statement"
)

// TestEveryKind builds the smallest and the fullest statement of each kind.
func TestEveryKind(t *testing.T) {
	for _, rule := range statement.Kinds() {
		t.Run(string(rule.Kind), func(t *testing.T) {
			full := minimal(t, rule.Kind)
			if rule.Kind != statement.KindKey {
				full.Attributes = members(t, rule, false, true)
			}
			if some, _ := rule.HasSealed(); some {
				full.Sealed = digest("sealed attributes")
			}
			if rule.Content == statement.OptionalDocument {
				full.Subject, full.Digest, full.MediaType = statement.SubjectCommit, digest("commitment"), "text/plain"
			}
			if rule.Kind == statement.KindReveal {
				full = reveal(t, "attributes", []byte("{}"), []byte("{}"))
			}
			for name, s := range map[string]*statement.Statement{"minimal": minimal(t, rule.Kind), "full": full} {
				payload, err := statement.Build(s)
				if rule.Placement == statement.BatchOnly {
					checkField(t, err, "predicate.kind", "only inside a batch")
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				got, err := statement.Decode(payload)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				if diff := cmp.Diff(s, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s: (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

// TestTableOfKinds holds what the table promises as a whole.
func TestTableOfKinds(t *testing.T) {
	// SPEC: "consent", "consent-withdrawal", "subject-event", "unblinding",
	// "access" go only inside batches, so that position and time reveal no
	// enrolment; and so do the authority's tokens.
	batchOnly := []statement.Kind{"access", "consent", "consent-withdrawal", "subject-event", "token", "unblinding"}
	// SPEC: Names of persons, subject, site of a consent and its date are
	// always sealed.
	personal := []string{"subject", "person", "holder", "takenBy", "signedOn", "withdrawnOn", "occurredOn", "unblindedOn", "accessedOn"}
	var found []statement.Kind
	for _, rule := range statement.Kinds() {
		if got, ok := statement.RuleOf(rule.Kind); !ok || got.Kind != rule.Kind {
			t.Errorf("RuleOf(%q) = %q, %v", rule.Kind, got.Kind, ok)
		}
		if n := len(slices.DeleteFunc(slices.Clone(statement.Kinds()), func(r statement.Rule) bool { return r.Kind != rule.Kind })); n != 1 {
			t.Errorf("%q has %d rows", rule.Kind, n)
		}
		if err := statement.CheckToken("", string(rule.Kind)); err != nil {
			t.Errorf("%q: %v", rule.Kind, err)
		}
		if rule.Placement == statement.BatchOnly {
			found = append(found, rule.Kind)
		}
		names := make(map[string]bool)
		for _, a := range rule.Attributes {
			if names[a.Name] || (a.Type == statement.Choice) != (len(a.Options) > 0) {
				t.Errorf("%q: attribute %q is there twice, or a choice of nothing", rule.Kind, a.Name)
			}
			names[a.Name] = true
			if slices.Contains(personal, a.Name) && !a.Sealed {
				t.Errorf("%q: attribute %q must be sealed", rule.Kind, a.Name)
			}
			if rule.Placement == statement.BatchOnly && rule.Scope == statement.InTrial && a.Name == "site" && !a.Sealed {
				t.Errorf("%q: the site must be sealed", rule.Kind)
			}
		}
		for _, role := range rule.Sayers {
			if !slices.Contains(statement.Roles(), role) {
				t.Errorf("%q: unknown role %q", rule.Kind, role)
			}
		}
		for _, kind := range rule.After {
			if _, ok := statement.RuleOf(kind); !ok {
				t.Errorf("%q comes after %q, which is no kind", rule.Kind, kind)
			}
		}
	}
	slices.Sort(found)
	if diff := cmp.Diff(batchOnly, found); diff != "" {
		t.Errorf("kinds that stand only in a batch (-want +got):\n%s", diff)
	}
	if n := len(statement.Kinds()); n != 31 {
		t.Errorf("%d kinds, want 31", n)
	}
	if _, ok := statement.RuleOf(""); ok {
		t.Error("the empty kind has a row")
	}
}

func TestMaySay(t *testing.T) {
	policy, _ := statement.RuleOf(statement.KindPolicy)
	review, _ := statement.RuleOf(statement.KindReview)
	for _, tt := range []struct {
		rule  statement.Rule
		roles []statement.Role
		want  bool
	}{
		{policy, []statement.Role{statement.Sponsor, statement.Operator}, true},
		{policy, []statement.Role{statement.Sponsor}, false},
		{policy, nil, false},
		{review, []statement.Role{statement.Auditor}, true},
		{review, nil, false},
	} {
		if got := tt.rule.MaySay(tt.roles); got != tt.want {
			t.Errorf("%q said by %v: %v, want %v", tt.rule.Kind, tt.roles, got, tt.want)
		}
	}
}

// TestSchemaRejects changes, for every attribute of every kind, one thing that
// its row does not allow.
func TestSchemaRejects(t *testing.T) {
	for _, rule := range statement.Kinds() {
		if rule.Placement == statement.BatchOnly {
			continue // see TestItemRejects
		}
		good := minimal(t, rule.Kind)
		payload := build(t, good)
		reject := func(list []statement.Member, field, words string) {
			t.Helper()
			text := ""
			if len(list) > 0 {
				text = encodeMembers(t, list)
			}
			_, err := statement.Decode(setMember(t, payload, "attributes", text))
			checkField(t, err, field, words)
		}
		path := "predicate.attributes."
		reject(append(slices.Clone(good.Attributes), statement.TextMember("colour", "red")), path+"colour", "has no such attribute that this version knows")
		for _, a := range rule.Attributes {
			if a.Sealed {
				reject(append(slices.Clone(good.Attributes), sample(t, a)), path+a.Name, "must be sealed")
				continue
			}
			others := remove(good.Attributes, a.Name)
			if a.Required {
				reject(others, path+a.Name, "missing, a \""+string(rule.Kind)+"\" needs it")
			}
			variant := sample(t, a)
			variant.Name = strings.ToUpper(a.Name[:1]) + a.Name[1:]
			reject(append(slices.Clone(others), variant), path+variant.Name, "has no such attribute that this version knows")
			for value, words := range badValues(a) {
				bad := setMember(t, payload, "attributes", strings.Replace(
					encodeMembers(t, append(slices.Clone(others), statement.TextMember(a.Name, "REPLACED"))), `"REPLACED"`, value, 1))
				_, err := statement.Decode(bad)
				checkField(t, err, fieldOf(path+a.Name, value, a), words)
			}
		}
	}
}

// fieldOf is the field of an error about value: an item where there is one.
func fieldOf(path, value string, a statement.Attribute) string {
	list := a.Type == statement.TokenList || a.Type == statement.DigestSet
	if list && strings.HasPrefix(value, "[") && value != "[]" && !strings.HasPrefix(value, `["many`) {
		return fmt.Sprintf("%s[%d]", path, strings.Count(value, ","))
	}
	return path
}

// badValues returns JSON texts that are no value of the attribute, with words of
// the reason.
func badValues(a statement.Attribute) map[string]string {
	if a.Type == statement.Count {
		words := "an integer from 0 to 2^53-1"
		return map[string]string{`"1"`: words, `-1`: words, `null`: words, `true`: words, `[1]`: words}
	}
	many := func(n int) string {
		items := make([]string, n)
		for i := range items {
			items[i] = `"many-` + strconv.Itoa(i) + `"`
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	d := `"` + digest("x").String() + `"`
	switch a.Type {
	case statement.TokenList:
		words := "an array of 1 to 32 strings"
		return map[string]string{
			`"one"`: words, `[]`: words, `{}`: words, many(33): words,
			`[1]`: "expected a string", `[""]`: "1 to 64", `["a b"]`: "1 to 64", `["one","one"]`: "there twice",
		}
	case statement.DigestSet:
		words := "an array of 1 to 64 strings"
		return map[string]string{
			d: words, `[]`: words, many(65): words,
			`[null]`: "found null", `["ab"]`: "64 lower-case", "[" + d + "," + d + "]": "there twice",
		}
	default: // a string, below
	}
	bad := map[string]string{`1`: "expected a string, found an integer", `null`: "found null", `["x"]`: "found an array", `{}`: "found an object"}
	switch a.Type {
	case statement.Text:
		words := "1 to 500 characters"
		bad[`""`], bad[`"a\nb"`], bad[`"a\u0085b"`], bad[`"\u0000"`] = words, words, words, words
		bad[`"`+strings.Repeat("é", 501)+`"`] = words
	case statement.Token:
		bad[`""`], bad[`"two words"`], bad[`"`+strings.Repeat("x", 65)+`"`], bad[`"_x"`] = "1 to 64", "1 to 64", "1 to 64", "1 to 64"
	case statement.Choice:
		words := fmt.Sprintf("expected one of %v", a.Options)
		bad[`""`], bad[`"`+strings.ToUpper(a.Options[0])+`"`] = words, words
	case statement.DateValue:
		bad[`""`], bad[`"yesterday"`], bad[`"2025-02-29"`] = "expected a date", "expected a date", "expected a date"
	case statement.DigestHex, statement.NonceHex:
		bad[`""`], bad[strings.ToUpper(d)], bad[`"`+d[2:]] = "64 lower-case", "64 lower-case", "64 lower-case"
	case statement.KeyDER:
		bad[`""`], bad[`"AAAA"`], bad[`"AA\nAA"`], bad[`"AB=="`] = "SubjectPublicKeyInfo", "SubjectPublicKeyInfo", "base64", "base64"
	case statement.LogName:
		words := "expected a schema-less URL in lower case without a trailing slash"
		for _, v := range []string{"", "Log.example.org/a", "https://log.example.org/a", "log.example.org/", "log.example.org/a b", "the next shard"} {
			bad[`"`+v+`"`] = words
		}
	case statement.Base64:
		words := "expected the standard base64 of 1 to 16384 bytes"
		// Without padding, with a bit behind the end, of two lines, URL-safe, with a space.
		for _, v := range []string{"", "AA", "AB==", `AA\nAA`, `AAAA\n`, "__-_", "AA AA", "{}"} {
			bad[`"`+v+`"`] = words
		}
		bad[`"`+base64.StdEncoding.EncodeToString(make([]byte, 16<<10+1))+`"`] = words
	default: // no string, above
	}
	return bad
}

// TestTextLimits holds the greatest text, counted in characters.
func TestTextLimits(t *testing.T) {
	s := minimal(t, statement.KindTrial)
	s.Attributes = []statement.Member{statement.TextMember("publicTitle", strings.Repeat("é", 500))}
	build(t, s)
	s = minimal(t, statement.KindMilestone)
	s.Attributes = []statement.Member{statement.TextMember("milestone", strings.Repeat("x", 64))}
	build(t, s)
}

// TestBase64Limits holds the least and the greatest content of a reveal.
func TestBase64Limits(t *testing.T) {
	for n, ok := range map[int]bool{0: false, 1: true, 16<<10 - 1: true, 16 << 10: true, 16<<10 + 1: false} {
		content := bytes.Repeat([]byte{0xfb}, n)
		s, text := reveal(t, "attributes", content, content), base64.StdEncoding.EncodeToString(content)
		payload, err := statement.Build(s)
		if !ok {
			checkReason(t, err, "predicate.attributes.content", "expected the standard base64 of 1 to 16384 bytes")
			continue
		}
		if err != nil {
			t.Errorf("%d bytes: %v", n, err)
			continue
		}
		if got, err := statement.Decode(payload); err != nil || got.TextAttribute("content") != text {
			t.Errorf("%d bytes do not come back: %v", n, err)
		}
	}
}

// TestShardNames: the shard before or after is a log's name, no sentence.
func TestShardNames(t *testing.T) {
	for kind, name := range map[statement.Kind]string{statement.KindShardEnd: "successor", statement.KindShardStart: "predecessor"} {
		s := minimal(t, kind)
		for value, ok := range map[string]bool{logName + "/2027": true, "the next shard": false, "https://" + logName: false} {
			s.Attributes = append(remove(s.Attributes, name), statement.TextMember(name, value))
			if _, err := statement.Build(s); !ok {
				checkField(t, err, "predicate.attributes."+name, "expected a schema-less URL")
			} else if err != nil {
				t.Errorf("%s %q: %v", name, value, err)
			}
		}
	}
}

// TestReceivable: what is about the log, and who holds which key, nobody but the
// signers themselves can say; a gateway receives every other kind.
func TestReceivable(t *testing.T) {
	own := []statement.Kind{"key", "policy", "rule", "shard-end", "shard-start"}
	for _, rule := range statement.Kinds() {
		t.Run(string(rule.Kind), func(t *testing.T) {
			s := received(minimal(t, rule.Kind))
			_, err := statement.Build(s)
			switch {
			case rule.Placement == statement.BatchOnly:
				checkField(t, err, "predicate.kind", "only inside a batch")
			case slices.Contains(own, rule.Kind):
				checkReason(t, err, "predicate.received", fmt.Sprintf("a %q is said by its own signers only", rule.Kind))
			case err != nil:
				t.Error(err)
			}
		})
	}
	// SPEC: a principal is one of sponsor, cro, site, ethics.
	want := []statement.Role{"sponsor", "cro", "site", "ethics"}
	if got := statement.Receivable(); !slices.Equal(got, want) {
		t.Errorf("Receivable = %v, want %v", got, want)
	}
}

// TestContent holds, for each kind, which subjects it may have.
func TestContent(t *testing.T) {
	words := map[statement.Content]string{
		statement.NoDocument: "has no document", statement.PublicDocument: "has a public document, expected sha256",
		statement.AnyDocument: "has a document, expected sha256 or trialogCommitV1",
	}
	for _, rule := range statement.Kinds() {
		if rule.Placement == statement.BatchOnly {
			continue
		}
		bare := statement.Statement{Subject: statement.SubjectStatement, Digest: digest("first")}
		switch {
		case rule.Kind == statement.KindTrial:
			bare.Subject, bare.Digest = statement.SubjectTrial, statement.TrialDigest(logName, "acme", "NCT-1")
		case rule.Scope != statement.InTrial && rule.Scope != statement.InTrialOrLog:
			m := minimal(t, rule.Kind)
			bare.Subject, bare.Digest = m.Subject, m.Digest
			if rule.Scope == statement.InLog {
				bare.Subject, bare.Digest = statement.SubjectLog, statement.LogDigest(logName)
			}
		}
		for _, tt := range []struct {
			subject statement.SubjectKind
			ok      bool
		}{
			{statement.SubjectSHA256, rule.Content != statement.NoDocument && rule.Content != statement.SealedDocument},
			{statement.SubjectCommit, rule.Content != statement.NoDocument && rule.Content != statement.PublicDocument},
			{bare.Subject, rule.Content == statement.NoDocument || rule.Content == statement.OptionalDocument},
		} {
			s := minimal(t, rule.Kind)
			s.Subject, s.Digest, s.MediaType = tt.subject, digest("content"), "text/plain"
			if tt.subject == bare.Subject {
				s.Digest, s.MediaType = bare.Digest, ""
			}
			_, err := statement.Build(s)
			if tt.ok && err != nil {
				t.Errorf("%q with %s: %v", rule.Kind, tt.subject, err)
			}
			if !tt.ok {
				checkField(t, err, "subject[0].digest", words[rule.Content])
			}
		}
	}
}

// TestBareSubject holds what a statement without a document is about.
func TestBareSubject(t *testing.T) {
	tests := map[string]struct {
		kind         statement.Kind
		change       func(s *statement.Statement)
		field, words string
	}{
		"first statement of another trial": {statement.KindTrial, func(s *statement.Statement) {
			s.Digest = statement.TrialDigest(s.Log, s.Organisation, "NCT-2")
		}, "subject[0].digest.trialogTrialV1", "not the digest of what"},
		"first statement in another log": {statement.KindTrial, func(s *statement.Statement) {
			s.Digest = statement.TrialDigest("log.example.org/other", s.Organisation, s.Trial)
		}, "subject[0].digest.trialogTrialV1", "not the digest of what"},
		"first statement that points back": {statement.KindTrial, func(s *statement.Statement) {
			s.Subject, s.Digest = statement.SubjectStatement, digest("first")
		}, "subject[0].digest", "expected trialogTrialV1"},
		"second statement that does not": {statement.KindTrial, func(s *statement.Statement) {
			s.Chain = statement.Link{Number: 2, Previous: digest("p")}
		}, "subject[0].digest", "expected trialogStatementV1"},
		"amendment that does not": {statement.KindTrial, func(s *statement.Statement) {
			s.Amends = digest("a")
		}, "subject[0].digest", "expected trialogStatementV1"},
		"milestone of a trial's name": {statement.KindMilestone, func(s *statement.Statement) {
			s.Subject, s.Digest = statement.SubjectTrial, statement.TrialDigest(s.Log, s.Organisation, s.Trial)
		}, "subject[0].digest", "expected trialogStatementV1"},
		"milestone about a key": {statement.KindMilestone, func(s *statement.Statement) {
			s.Subject = statement.SubjectKey
		}, "subject[0].digest", "expected trialogStatementV1"},
		"milestone with a media type": {statement.KindMilestone, func(s *statement.Statement) {
			s.MediaType = "text/plain"
		}, "predicate.mediaType", "for statements with a document"},
		"credential about a trial": {statement.KindCredential, func(s *statement.Statement) {
			s.Subject = statement.SubjectStatement
		}, "subject[0].digest", "expected trialogKeyV1"},
		"end of another log's shard": {statement.KindShardEnd, func(s *statement.Statement) {
			s.Digest = statement.LogDigest("log.example.org/other")
		}, "subject[0].digest.trialogLogV1", "not the digest of what"},
		"shard's end with a trial": {statement.KindShardEnd, func(s *statement.Statement) {
			s.Trial = "NCT-1"
		}, "predicate.trial", "names no trial"},
		"milestone without a trial": {statement.KindMilestone, func(s *statement.Statement) {
			s.Trial = ""
		}, "predicate.trial", "1 to 64"},
		"sealed attributes of a kind without": {statement.KindMilestone, func(s *statement.Statement) {
			s.Sealed = digest("s")
		}, "predicate.sealedAttributes", "no sealed attributes"},
		"batch of no records": {statement.KindBatch, func(s *statement.Statement) {
			s.Attributes = append(remove(s.Attributes, "count"), statement.CountMember("count", 0))
		}, "predicate.attributes.count", "expected 1 to 16777216 records, found 0"},
		"batch of too many": {statement.KindBatch, func(s *statement.Statement) {
			s.Attributes = append(remove(s.Attributes, "count"), statement.CountMember("count", statement.MaxRecords+1))
		}, "predicate.attributes.count", "found 16777217"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := minimal(t, tt.kind)
			tt.change(s)
			_, err := statement.Build(s)
			checkField(t, err, tt.field, tt.words)
		})
	}
	s := minimal(t, statement.KindTrial)
	s.Amends, s.Subject, s.Digest = digest("a"), statement.SubjectStatement, digest("first")
	build(t, s)
	s = minimal(t, statement.KindBatch)
	s.Attributes = append(remove(s.Attributes, "count"), statement.CountMember("count", statement.MaxRecords))
	build(t, s)
}

// TestKeyStatements holds which attributes go together.
func TestKeyStatements(t *testing.T) {
	author, other := edKey(t, "author"), ecKey(t, "other")
	der := func(k *statement.PrivateKey) statement.Member {
		return statement.TextMember("publicKey", base64.StdEncoding.EncodeToString(k.Public().DER()))
	}
	action := func(a string) statement.Member { return statement.TextMember("action", a) }
	roles := statement.ListMember("roles", "site")
	revokes := statement.TextMember("revokes", other.ID().String())
	from := statement.CountMember("suspectFrom", 0)
	recovery := der(edKey(t, "recovery"))
	recovery.Name = "recovery"
	reason := statement.TextMember("reason", "lost")
	shard := statement.TextMember("suspectOrigin", logName+"/2026")
	elsewhere := func(origin string) statement.Member { return statement.TextMember("suspectOrigin", origin) }
	const enrolment = "an enrolment has publicKey and roles, and no revokes, suspectOrigin or suspectFrom"
	const revocation = "a revocation has revokes, suspectOrigin and suspectFrom, and no publicKey, roles or recovery"
	const another = "expected the origin of a shard of " + logName
	tests := map[string]struct {
		attributes   []statement.Member
		subject      statement.Digest
		field, words string // none: it is good
	}{
		"enrolment":               {[]statement.Member{action("enrol"), der(author), roles}, author.ID(), "", ""},
		"enrolment with recovery": {[]statement.Member{action("enrol"), der(author), roles, recovery}, author.ID(), "", ""},
		"revocation":              {[]statement.Member{action("revoke"), revokes, shard, from}, other.ID(), "", ""},
		"revocation with reason":  {[]statement.Member{action("revoke"), revokes, shard, from, reason}, other.ID(), "", ""},

		"no action":                  {[]statement.Member{der(author), roles}, author.ID(), "action", "missing"},
		"unknown action":             {[]statement.Member{action("renew"), der(author), roles}, author.ID(), "action", "[enrol revoke]"},
		"enrolment without key":      {[]statement.Member{action("enrol"), roles}, author.ID(), "publicKey", enrolment},
		"enrolment without roles":    {[]statement.Member{action("enrol"), der(author)}, author.ID(), "publicKey", enrolment},
		"enrolment that revokes":     {[]statement.Member{action("enrol"), der(author), roles, revokes}, author.ID(), "publicKey", enrolment},
		"enrolment with an index":    {[]statement.Member{action("enrol"), der(author), roles, from}, author.ID(), "publicKey", enrolment},
		"enrolment with a shard":     {[]statement.Member{action("enrol"), der(author), roles, shard}, author.ID(), "publicKey", enrolment},
		"enrolment of unknown role":  {[]statement.Member{action("enrol"), der(author), statement.ListMember("roles", "site", "god")}, author.ID(), "roles", "expected roles out of"},
		"revocation without key":     {[]statement.Member{action("revoke"), shard, from}, other.ID(), "revokes", revocation},
		"revocation without index":   {[]statement.Member{action("revoke"), revokes, shard}, other.ID(), "revokes", revocation},
		"revocation without shard":   {[]statement.Member{action("revoke"), revokes, from}, other.ID(), "revokes", revocation},
		"revocation, another log's":  {[]statement.Member{action("revoke"), revokes, elsewhere("log.example.org/other/2026"), from}, other.ID(), "suspectOrigin", another},
		"revocation, the log itself": {[]statement.Member{action("revoke"), revokes, elsewhere(logName), from}, other.ID(), "suspectOrigin", another},
		"revocation, longer name":    {[]statement.Member{action("revoke"), revokes, elsewhere(logName + "2/2026"), from}, other.ID(), "suspectOrigin", another},
		"revocation, no log's name":  {[]statement.Member{action("revoke"), revokes, elsewhere(logName + "/"), from}, other.ID(), "suspectOrigin", "schema-less URL"},
		"revocation that enrols":     {[]statement.Member{action("revoke"), revokes, shard, from, der(author)}, other.ID(), "revokes", revocation},
		"revocation with roles":      {[]statement.Member{action("revoke"), revokes, shard, from, roles}, other.ID(), "revokes", revocation},
		"revocation with recovery":   {[]statement.Member{action("revoke"), revokes, shard, from, recovery}, other.ID(), "revokes", revocation},
		"holder in clear":            {[]statement.Member{action("enrol"), der(author), roles, statement.TextMember("holder", "Jo")}, author.ID(), "holder", "must be sealed"},
		"enrolment of another key":   {[]statement.Member{action("enrol"), der(author), roles}, other.ID(), "subject", "not the id of the enrolled key"},
		"revocation of another key":  {[]statement.Member{action("revoke"), revokes, shard, from}, author.ID(), "subject", "not the id of the revoked key"},
		"enrolled key does not sign": {[]statement.Member{action("enrol"), der(other), roles}, other.ID(), "signers", "must sign its own enrolment"},
		"enrolment of a weak key":    {[]statement.Member{action("enrol"), statement.TextMember("publicKey", base64.StdEncoding.EncodeToString(spki(make([]byte, 32)))), roles}, author.ID(), "publicKey", "small order"},
	}
	fields := map[string]string{"subject": "subject[0].digest", "signers": "predicate.signers"}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := minimal(t, statement.KindKey)
			s.Attributes, s.Digest = tt.attributes, tt.subject
			_, err := statement.Build(s)
			if tt.field == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			field := fields[tt.field]
			if field == "" {
				field = "predicate.attributes." + tt.field
			}
			checkField(t, err, field, tt.words)
		})
	}
	s := minimal(t, statement.KindKey)
	if k, ok := s.EnrolledKey(); !ok || k.ID() != author.ID() {
		t.Errorf("EnrolledKey = %v, %v", k, ok)
	}
	if got := s.RolesAttribute(); !slices.Equal(got, []statement.Role{statement.Sponsor, statement.Admin}) {
		t.Errorf("RolesAttribute = %v", got)
	}
	if k, ok := s.RecoveryKey(); ok {
		t.Errorf("RecoveryKey without one = %v", k)
	}
	s.Attributes = append(s.Attributes, recovery)
	if k, ok := s.RecoveryKey(); !ok || k.ID() != edKey(t, "recovery").ID() {
		t.Errorf("RecoveryKey = %v, %v", k, ok)
	}
	s.Kind = statement.KindMilestone
	if _, ok := s.RecoveryKey(); ok {
		t.Error("RecoveryKey of a milestone: want none")
	}
	s.Kind = statement.KindKey
	s.Attributes = []statement.Member{action("revoke"), revokes, shard, from}
	if k, ok := s.EnrolledKey(); ok || k != nil || s.DigestAttribute("revokes") != other.ID() || !s.DigestAttribute("absent").IsZero() {
		t.Errorf("a revocation: EnrolledKey = %v, %v", k, ok)
	}
}

// TestBatchOutsideTrials: records that belong to no trial have a batch too; it is
// about the log.
func TestBatchOutsideTrials(t *testing.T) {
	s := minimal(t, statement.KindBatch)
	s.Trial = ""
	checkField(t, s.Check(), "subject[0].digest", "expected trialogLogV1")
	s.Subject, s.Digest = statement.SubjectLog, statement.LogDigest(logName)
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	s.Trial = "NCT-1"
	checkField(t, s.Check(), "subject[0].digest", "expected trialogStatementV1")
}
