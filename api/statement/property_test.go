package statement_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/trialog/trialog/api/statement"
)

// TestRandomStatements holds that every statement that Build takes comes back
// from its payload, alone and in a signed envelope, and that its payload is the
// only one that Build writes for it.
func TestRandomStatements(t *testing.T) {
	keys := make([]*statement.PrivateKey, statement.MaxSigners)
	for i := range keys {
		if name := fmt.Sprint("signer ", i); i%2 == 0 {
			keys[i] = edKey(t, name)
		} else {
			keys[i] = ecKey(t, name)
		}
	}
	ring := keyring(keys...)
	var alone []statement.Rule
	for _, r := range statement.Kinds() {
		if r.Placement != statement.BatchOnly && r.Kind != statement.KindKey && r.Kind != statement.KindBatch && r.Kind != statement.KindReveal {
			alone = append(alone, r)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		rule := rapid.SampledFrom(alone).Draw(rt, "kind")
		signers := rapid.Permutation(keys).Draw(rt, "signers")[:rapid.IntRange(1, len(keys)).Draw(rt, "number of signers")]
		s := drawStatement(rt, rule, ids(signers...))
		payload, err := statement.Build(s)
		if err != nil {
			rt.Fatalf("Build: %v", err)
		}
		if s.Received != nil {
			signers = signers[:1]
		}
		e, err := statement.Sign(payload, signers...)
		if err != nil {
			rt.Fatalf("Sign: %v", err)
		}
		e, got, err := statement.Parse(e.Bytes())
		if err != nil {
			rt.Fatalf("Parse: %v", err)
		}
		if diff := cmp.Diff(s, got, cmpopts.EquateEmpty()); diff != "" {
			rt.Fatalf("(-want +got):\n%s", diff)
		}
		if again, err := statement.Build(got); err != nil || !bytes.Equal(again, payload) {
			rt.Fatalf("Build writes %s, then %s, %v", payload, again, err)
		}
		if err := statement.VerifySignatures(statement.PAE(statement.PayloadType, e.Payload), e.Signatures, got.SignerIDs(), ring); err != nil {
			rt.Fatal(err)
		}
	})
}

func drawDigest(rt *rapid.T, label string) statement.Digest {
	d := statement.Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, label))
	d[rapid.IntRange(0, 31).Draw(rt, label)] |= 1 // not zero
	return d
}

func drawToken(rt *rapid.T, label string) string {
	return rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._:-]{0,63}`).Draw(rt, label)
}

func drawDate(rt *rapid.T, label string) statement.Date {
	at := time.Unix(rapid.Int64Range(-2208988800, 253402300799).Draw(rt, label), 0).UTC()
	layout := rapid.SampledFrom([]string{"2006", "2006-01", time.DateOnly, "2006-01-02T15:04:05Z"}).Draw(rt, label)
	return statement.Date(at.Format(layout))
}

func drawTime(rt *rapid.T, label string) statement.Date {
	at := time.Unix(rapid.Int64Range(-2208988800, 253402300799).Draw(rt, label), 0).UTC()
	return statement.Date(at.Format("2006-01-02T15:04:05Z"))
}

func drawStatement(rt *rapid.T, rule statement.Rule, signers []statement.KeyID) *statement.Statement {
	s := &statement.Statement{
		Log: "log.example.org", Organisation: drawToken(rt, "organisation"), Kind: rule.Kind,
		Chain: statement.Link{Number: rapid.Uint64Range(1, 1<<53-1).Draw(rt, "number")},
	}
	if s.Chain.Number > 1 {
		s.Chain.Previous = drawDigest(rt, "previous")
	}
	if rule.Scope != statement.InLog && rapid.Bool().Draw(rt, "received") {
		s.Received = &statement.ReceptionInfo{Principal: drawToken(rt, "principal"), Method: drawToken(rt, "method")}
		if rapid.Bool().Draw(rt, "has request") {
			s.Received.Request = statement.RequestDigest(s.Received.Principal, drawToken(rt, "request"))
		}
		signers = signers[:1]
	}
	for _, id := range signers {
		meaning := statement.Reception
		if s.Received == nil {
			meaning = rapid.SampledFrom(statement.Meanings()[:4]).Draw(rt, "meaning")
		}
		s.Signers = append(s.Signers, statement.Signer{Key: id, Meaning: meaning, At: drawTime(rt, "at")})
	}
	if rule.Scope == statement.InTrial || rule.Scope == statement.InTrialOrLog {
		s.Trial = drawToken(rt, "trial")
	}
	for label, field := range map[string]*statement.Identity{"amends": &s.Amends, "supersedes": &s.Supersedes} {
		if rapid.Bool().Draw(rt, "has "+label) {
			*field = drawDigest(rt, label)
		}
	}
	if rapid.Bool().Draw(rt, "has version") {
		s.Version = drawToken(rt, "version")
	}
	for i := range rapid.IntRange(0, 16).Draw(rt, "dates") {
		s.Dates = append(s.Dates, statement.NamedDate{Name: fmt.Sprint("d", i), Date: drawDate(rt, "date")})
	}
	if rapid.Bool().Draw(rt, "has beacon") {
		s.Beacon = &statement.Beacon{
			Origin: "log.example.org/2026", Size: rapid.Uint64Range(1, 1<<53-1).Draw(rt, "size"), Note: drawDigest(rt, "note"),
		}
	}
	if some, required := rule.HasSealed(); required || some && rapid.Bool().Draw(rt, "sealed") {
		s.Sealed = drawDigest(rt, "sealed attributes")
	}
	for _, a := range rule.Attributes {
		if !a.Sealed && (a.Required || rapid.Bool().Draw(rt, "has "+a.Name)) {
			s.Attributes = append(s.Attributes, drawAttribute(rt, a))
		}
	}
	drawSubject(rt, rule, s)
	return s
}

func drawSubject(rt *rapid.T, rule statement.Rule, s *statement.Statement) {
	var subjects []statement.SubjectKind
	bare := statement.SubjectStatement
	s.Digest = drawDigest(rt, "digest")
	switch {
	case rule.Scope == statement.InLog:
		bare = statement.SubjectLog
	case rule.Scope == statement.InOrganisation:
		bare = statement.SubjectKey
	case rule.Kind == statement.KindTrial && s.Chain.Number == 1 && s.Amends.IsZero():
		bare = statement.SubjectTrial
	}
	switch rule.Content {
	case statement.NoDocument:
		subjects = []statement.SubjectKind{bare}
	case statement.PublicDocument:
		subjects = []statement.SubjectKind{statement.SubjectSHA256}
	case statement.SealedDocument:
		subjects = []statement.SubjectKind{statement.SubjectCommit}
	case statement.AnyDocument:
		subjects = []statement.SubjectKind{statement.SubjectSHA256, statement.SubjectCommit}
	case statement.OptionalDocument:
		subjects = []statement.SubjectKind{statement.SubjectSHA256, statement.SubjectCommit, bare}
	}
	s.Subject = rapid.SampledFrom(subjects).Draw(rt, "subject")
	switch s.Subject {
	case statement.SubjectSHA256, statement.SubjectCommit:
		s.MediaType = rapid.StringMatching(`[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,95}`).Draw(rt, "media type")
	case statement.SubjectLog:
		s.Digest = statement.LogDigest(s.Log)
	case statement.SubjectTrial:
		s.Digest = statement.TrialDigest(s.Log, s.Organisation, s.Trial)
	default: // drawn above
	}
}

func drawAttribute(rt *rapid.T, a statement.Attribute) statement.Member {
	switch a.Type {
	case statement.Token:
		return statement.TextMember(a.Name, drawToken(rt, a.Name))
	case statement.Choice:
		return statement.TextMember(a.Name, rapid.SampledFrom(a.Options).Draw(rt, a.Name))
	case statement.Count:
		return statement.CountMember(a.Name, rapid.Uint64Range(0, 1<<53-1).Draw(rt, a.Name))
	case statement.DateValue:
		return statement.TextMember(a.Name, string(drawDate(rt, a.Name)))
	case statement.DigestHex, statement.NonceHex:
		return statement.TextMember(a.Name, drawDigest(rt, a.Name).String())
	case statement.TokenList:
		return statement.ListMember(a.Name, rapid.SliceOfNDistinct(
			rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._:-]{0,63}`), 1, 32, rapid.ID).Draw(rt, a.Name)...)
	case statement.DigestSet:
		return statement.ListMember(a.Name, rapid.SliceOfNDistinct(rapid.StringMatching(`[0-9a-f]{64}`), 1, 64, rapid.ID).Draw(rt, a.Name)...)
	case statement.LogName:
		return statement.TextMember(a.Name, rapid.StringMatching(`[a-z0-9][a-z0-9.-]{0,40}(/[a-z0-9][a-z0-9._-]{0,20}){0,4}`).Draw(rt, a.Name))
	case statement.Base64:
		return statement.TextMember(a.Name, base64.StdEncoding.EncodeToString(rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(rt, a.Name)))
	default: // text, below
	}
	printable := rapid.Rune().Filter(func(r rune) bool { return !unicode.IsControl(r) })
	return statement.TextMember(a.Name, rapid.StringOfN(printable, 1, 500, -1).Draw(rt, a.Name))
}
