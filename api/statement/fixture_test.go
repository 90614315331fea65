package statement_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/internal/strictjson"
	"github.com/trialog/trialog/api/statement"
)

const logName = "log.example.org/trials"

// digest derives a digest from a name.
func digest(name string) statement.Digest { return sha256.Sum256([]byte(name)) }

// edKey derives an Ed25519 key from a name.
func edKey(tb testing.TB, name string) *statement.PrivateKey {
	tb.Helper()
	seed := digest(name)
	k, err := statement.NewPrivateKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// ecSigner derives a P-256 key from a name.
func ecSigner(tb testing.TB, name string) *ecdsa.PrivateKey {
	tb.Helper()
	seed := digest(name)
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func ecKey(tb testing.TB, name string) *statement.PrivateKey {
	tb.Helper()
	k, err := statement.NewPrivateKey(ecSigner(tb, name))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// sealedProtocol is a statement that has every optional member of a signed one
// but sealed attributes.
func sealedProtocol(tb testing.TB) *statement.Statement {
	tb.Helper()
	return &statement.Statement{
		Log: logName, Organisation: "acme", Trial: "NCT-1", Kind: statement.KindProtocol, Version: "2.0",
		Signers: []statement.Signer{
			{Key: edKey(tb, "author").ID(), Meaning: statement.Authorship, At: "2026-01-02T03:04:05Z"},
			{Key: ecKey(tb, "approver").ID(), Meaning: statement.Approval, At: "2026-01-03T10:00:00Z"},
		},
		Chain:      statement.Link{Number: 2, Previous: digest("previous")},
		Amends:     digest("amended"),
		Supersedes: digest("superseded"),
		Dates:      []statement.NamedDate{{Name: "approved", Date: "2026-01"}, {Name: "effective", Date: "2027"}},
		MediaType:  "application/pdf",
		Beacon:     &statement.Beacon{Origin: logName + "/2026", Size: 7, Note: digest("note")},
		Attributes: []statement.Member{
			statement.TextMember("amendment", "A1"), statement.TextMember("reason", "dose “halved” <&> \u2028 😀"),
		},
		Subject: statement.SubjectCommit, Digest: digest("commitment"),
	}
}

// sample returns a good value of an attribute.
func sample(tb testing.TB, a statement.Attribute) statement.Member {
	tb.Helper()
	switch a.Type {
	case statement.Text:
		return statement.TextMember(a.Name, "Some text, with a comma.")
	case statement.Token:
		return statement.TextMember(a.Name, "token-1")
	case statement.Choice:
		return statement.TextMember(a.Name, a.Options[0])
	case statement.Count:
		return statement.CountMember(a.Name, 1)
	case statement.DateValue:
		return statement.TextMember(a.Name, "2026-02-28")
	case statement.DigestHex, statement.NonceHex:
		return statement.TextMember(a.Name, digest(a.Name).String())
	case statement.TokenList:
		return statement.ListMember(a.Name, "one", "two")
	case statement.DigestSet:
		return statement.ListMember(a.Name, digest("one").String(), digest("two").String())
	case statement.KeyDER:
		return statement.TextMember(a.Name, base64.StdEncoding.EncodeToString(edKey(tb, "author").Public().DER()))
	case statement.LogName:
		return statement.TextMember(a.Name, logName+"/2027")
	case statement.Base64:
		return statement.TextMember(a.Name, base64.StdEncoding.EncodeToString([]byte(`{"subject":"S-1"}`)))
	}
	tb.Fatalf("no sample of type %d", a.Type)
	return statement.Member{}
}

// members returns good attributes of a kind, the sealed or the public ones.
func members(tb testing.TB, rule statement.Rule, sealed, optional bool) []statement.Member {
	tb.Helper()
	var out []statement.Member
	for _, a := range rule.Attributes {
		if a.Sealed == sealed && (a.Required || optional) {
			out = append(out, sample(tb, a))
		}
	}
	return out
}

// minimal is the smallest statement of a kind, whether it may stand alone or
// not.
func minimal(tb testing.TB, kind statement.Kind) *statement.Statement {
	tb.Helper()
	rule, ok := statement.RuleOf(kind)
	if !ok {
		tb.Fatalf("no kind %q", kind)
	}
	s := &statement.Statement{
		Log: logName, Organisation: "acme", Kind: kind, Chain: statement.Link{Number: 1},
		Signers:    []statement.Signer{{Key: edKey(tb, "author").ID(), Meaning: statement.Authorship, At: "2026-01-02T10:00:00Z"}},
		Attributes: members(tb, rule, false, false),
		Subject:    statement.SubjectStatement, Digest: digest("first"),
	}
	if _, required := rule.HasSealed(); required {
		s.Sealed = digest("sealed attributes")
	}
	switch rule.Scope {
	case statement.InTrial, statement.InTrialOrLog:
		s.Trial = "NCT-1"
	case statement.InOrganisation:
		s.Subject, s.Digest = statement.SubjectKey, edKey(tb, "author").ID()
	case statement.InLog:
		s.Subject, s.Digest = statement.SubjectLog, statement.LogDigest(logName)
	}
	switch rule.Content {
	case statement.SealedDocument:
		s.Subject, s.Digest, s.MediaType = statement.SubjectCommit, digest("commitment"), "application/pdf"
	case statement.PublicDocument, statement.AnyDocument:
		s.Subject, s.Digest, s.MediaType = statement.SubjectSHA256, digest("document"), "application/pdf"
	case statement.NoDocument, statement.OptionalDocument:
	}
	switch kind {
	case statement.KindTrial:
		s.Subject, s.Digest = statement.SubjectTrial, statement.TrialDigest(s.Log, s.Organisation, s.Trial)
	case statement.KindKey:
		der := base64.StdEncoding.EncodeToString(edKey(tb, "author").Public().DER())
		s.Attributes = append(s.Attributes,
			statement.TextMember("publicKey", der), statement.ListMember("roles", "sponsor", "admin"))
	default:
	}
	return s
}

// received makes s a statement of grade received.
func received(s *statement.Statement) *statement.Statement {
	s.Signers = s.Signers[:1]
	s.Signers[0].Meaning = statement.Reception
	s.Received = &statement.ReceptionInfo{Principal: "p-17", Method: "token"}
	return s
}

func build(tb testing.TB, s *statement.Statement) []byte {
	tb.Helper()
	payload, err := statement.Build(s)
	if err != nil {
		tb.Fatal(err)
	}
	return payload
}

// with replaces the one place in text where old stands.
func with(tb testing.TB, text, old, replacement string) string {
	tb.Helper()
	if n := strings.Count(text, old); n != 1 {
		tb.Fatalf("%q stands %d times in %s", old, n, text)
	}
	return strings.Replace(text, old, replacement, 1)
}

// setMember sets one member of the predicate to a JSON text, or removes it if
// the text is empty.
func setMember(tb testing.TB, payload []byte, name, text string) []byte {
	tb.Helper()
	var top, predicate map[string]json.RawMessage
	if err := json.Unmarshal(payload, &top); err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(top["predicate"], &predicate); err != nil {
		tb.Fatal(err)
	}
	predicate[name] = json.RawMessage(text)
	if text == "" {
		delete(predicate, name)
	}
	var err error
	if top["predicate"], err = json.Marshal(predicate); err != nil {
		tb.Fatal(err)
	}
	out, err := json.Marshal(top)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// checkField fails unless err is a *FieldError of this field whose reason
// contains the words.
func checkField(tb testing.TB, err error, field, words string) {
	tb.Helper()
	var e *statement.FieldError
	if !errors.As(err, &e) {
		tb.Fatalf("got error %v, want a *FieldError of %q with %q", err, field, words)
	}
	if e.Field != field || !strings.Contains(e.Reason, words) {
		tb.Errorf("got field %q, reason %q; want field %q, a reason with %q", e.Field, e.Reason, field, words)
	}
}

// checkReason is checkField with the whole reason.
func checkReason(tb testing.TB, err error, field, reason string) {
	tb.Helper()
	checkField(tb, err, field, "")
	var e *statement.FieldError
	if errors.As(err, &e) && e.Reason != reason {
		tb.Errorf("got reason %q of %q, want %q", e.Reason, field, reason)
	}
}

// keyring returns the public halves by id.
func keyring(keys ...*statement.PrivateKey) map[statement.KeyID]*statement.PublicKey {
	ring := make(map[statement.KeyID]*statement.PublicKey)
	for _, k := range keys {
		ring[k.ID()] = k.Public()
	}
	return ring
}

// ids returns the ids of keys.
func ids(keys ...*statement.PrivateKey) []statement.KeyID {
	var out []statement.KeyID
	for _, k := range keys {
		out = append(out, k.ID())
	}
	return out
}

// remove returns attributes without the one of this name.
func remove(list []statement.Member, name string) []statement.Member {
	return slices.DeleteFunc(slices.Clone(list), func(m statement.Member) bool { return m.Name == name })
}

// encodeMembers writes attributes as a JSON object.
func encodeMembers(tb testing.TB, list []statement.Member) string {
	tb.Helper()
	out := make(map[string]any, len(list))
	for _, m := range list {
		switch m.Value.Kind {
		case strictjson.String:
			out[m.Name] = m.Value.Text
		case strictjson.Integer:
			out[m.Name] = m.Value.Number
		default:
			var texts []string
			for _, item := range m.Value.Items {
				texts = append(texts, item.Text)
			}
			out[m.Name] = texts
		}
	}
	raw, err := json.Marshal(out)
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw)
}
