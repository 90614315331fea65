package words

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

func verdict() *verify.Verdict {
	at := time.Date(2026, 11, 21, 9, 14, 2, 0, time.UTC)
	return &verify.Verdict{
		Verified: true,
		Statement: &verify.Statement{
			Organisation: "demo-sponsor", Trial: "NCT00000001", Kind: statement.KindProtocol, Version: "2", Grade: statement.Signed,
		},
		Inclusion: &verify.Inclusion{
			Operators: 3, OperatorsSeen: 2,
			Witnesses: []verify.Witness{{RunBy: "University"}, {RunBy: "Ethics"}, {RunBy: "University"}},
		},
		NotBefore: &verify.Bound{Time: at},
		NotAfter:  &verify.Bound{Time: at.Add(time.Second)},
		Document:  &verify.Document{MediaType: "application/pdf", Checked: true},
	}
}

func TestVerified(t *testing.T) {
	const times = "signed not before 2026-11-21 09:14:02 UTC and logged not after 2026-11-21 09:14:03 UTC, seen by 2 of 3 witnesses"
	for name, tt := range map[string]struct {
		change func(*verify.Verdict)
		want   string
	}{
		"document": {
			func(*verify.Verdict) {},
			"VERIFIED  protocol v2 of NCT00000001 by demo-sponsor: this document, unchanged, was " + times,
		},
		"without a document": {
			func(v *verify.Verdict) {
				v.Document, v.Statement.Kind, v.Statement.Version = nil, statement.KindTrial, ""
			},
			"VERIFIED  trial record of NCT00000001 by demo-sponsor: this statement was " + times,
		},
		"not looked at": {
			func(v *verify.Verdict) { v.Document.Checked = false },
			"VERIFIED  protocol v2 of NCT00000001 by demo-sponsor: this statement, its document not looked at, was " + times,
		},
		"without an earliest time": {
			func(v *verify.Verdict) { v.NotBefore = nil },
			"VERIFIED  protocol v2 of NCT00000001 by demo-sponsor: this document, unchanged, was " +
				"logged not after 2026-11-21 09:14:03 UTC, seen by 2 of 3 witnesses",
		},
		"received": {
			func(v *verify.Verdict) { v.Statement.Grade = statement.Received },
			"VERIFIED  protocol v2 of NCT00000001 by demo-sponsor: this document, unchanged, was " +
				strings.Replace(times, "signed", "received by the log's gateway", 1),
		},
		"record": {
			func(v *verify.Verdict) {
				v.Record = &verify.Record{Label: "week-10", Type: "consent", Index: 0, Count: 1}
			},
			"VERIFIED  consent, record 1 of 1 in batch week-10, of NCT00000001 by demo-sponsor: this record, unchanged, was " + times,
		},
		"sealed details alone": {
			func(v *verify.Verdict) {
				v.Document = &verify.Document{Sealed: true, Checked: true}
				v.Statement.Kind, v.Statement.Version = statement.KindDelegation, ""
			},
			"VERIFIED  delegation of NCT00000001 by demo-sponsor: this statement with its sealed details was " + times,
		},
		"named version, one witness": {
			func(v *verify.Verdict) {
				v.Statement.Kind, v.Statement.Version = statement.KindSAP, "final"
				v.Inclusion.Operators, v.Inclusion.OperatorsSeen = 1, 1
			},
			"VERIFIED  statistical analysis plan version final of NCT00000001 by demo-sponsor: this document, unchanged, was " +
				strings.Replace(times, "2 of 3 witnesses", "1 of 1 witness", 1),
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := verdict()
			tt.change(v)
			if got := Verified(v); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// Every link is explained in words of its own.
func TestEveryLinkIsExplained(t *testing.T) {
	seen := map[string]bool{}
	for _, link := range []verify.Link{
		verify.LinkPolicy, verify.LinkReceipt, verify.LinkCheckpoint, verify.LinkInclusion, verify.LinkEntry,
		verify.LinkEnrolment, verify.LinkSignature, verify.LinkGrade, verify.LinkKeyStatus, verify.LinkBeacon, verify.LinkTime,
		verify.LinkRecord, verify.LinkOpening, verify.LinkDocument,
	} {
		f := Failed(&verify.Verdict{Failure: &verify.Failure{Link: link, Reason: "why"}})
		if f.Link == string(link) && link != "policy" || f.Found == "" || f.Meaning == "" || seen[f.Found] {
			t.Errorf("%s is explained as %+v", link, f)
		}
		seen[f.Found] = true
	}
	f := Failed(&verify.Verdict{Failure: &verify.Failure{Link: "new", Reason: "why"}})
	if f.Link != "new" || f.Meaning == "" {
		t.Errorf("an unknown link is explained as %+v", f)
	}
	altered := Failed(&verify.Verdict{Failure: &verify.Failure{
		Link: verify.LinkTime, Reason: "time-stamp token 1: it names itself as one of A: the signature does not verify",
	}})
	if clock := Failed(&verify.Verdict{Failure: &verify.Failure{Link: verify.LinkTime}}); altered.Found == clock.Found ||
		!strings.Contains(altered.Meaning, "altered") {
		t.Errorf("an altered time-stamp is explained as %+v", altered)
	}
	needed := Failed(&verify.Verdict{Failure: &verify.Failure{
		Link: verify.LinkOpening, Reason: "the document is sealed, its opening is needed",
	}})
	if !strings.Contains(needed.Meaning, "Nothing is known to be wrong") {
		t.Errorf("a missing opening is explained as %+v", needed)
	}
}

func TestCaveatsArePlain(t *testing.T) {
	v := &verify.Verdict{Caveats: []string{
		"all witnesses under one operator: demonstration, not assurance",
		"key status unknown: no keyring was given; not known are a revocation",
		"key status unknown: the keyring ends before the statement",
		"the statement names no beacon: nothing is known of when it was signed",
		"sealed attributes were not opened",
		"1 of 1 time-stamp tokens were not evaluated: they cannot be read",
		"1 of 2 time-stamp tokens were not evaluated: they cannot be read",
		"something new",
	}}
	got := Caveats(v)
	if len(got) != len(v.Caveats) || got[0] != v.Caveats[0] || got[7] != "something new" {
		t.Fatalf("got %q", got)
	}
	for i := 1; i < 7; i++ {
		if got[i] == v.Caveats[i] || strings.Contains(got[i], "beacon") {
			t.Errorf("%q was left as it is", got[i])
		}
	}
	if got[5] == got[6] {
		t.Error("one time-stamp and some of them read alike")
	}
	if got[1] == got[2] {
		t.Error("the two reasons for an unknown key status read alike")
	}
}

func TestWitnessesAndGrade(t *testing.T) {
	v := verdict()
	if got := Witnesses(v); got != "Ethics, University" {
		t.Errorf("witnesses: %s", got)
	}
	if got := Grade(v); got != "signed by demo-sponsor with its own key" {
		t.Errorf("grade: %s", got)
	}
	v.Statement.Grade, v.Statement.ReceivedFrom = statement.Received, "p-1"
	if got := Grade(v); !strings.Contains(got, "p-1") || !strings.Contains(got, "did not sign") {
		t.Errorf("grade: %s", got)
	}
	if got := What(&verify.Verdict{}); got != "a statement" {
		t.Errorf("nothing is %s", got)
	}
}

func TestAttribute(t *testing.T) {
	for _, tt := range []struct {
		m    statement.Member
		text string
		ok   bool
	}{
		{statement.TextMember("reason", "sample size too small"), "sample size too small", true},
		{statement.CountMember("count", 3), "3", true},
		{statement.ListMember("registryIds", "A", "B"), "A, B", true},
		{statement.TextMember("root", strings.Repeat("ab", 32)), "", false},
		{statement.ListMember("covers", strings.Repeat("ab", 32)), "", false},
	} {
		text, ok := Attribute(tt.m)
		if ok != tt.ok || ok && text != tt.text {
			t.Errorf("%s is %q, %t", tt.m.Name, text, ok)
		}
	}
}

func TestTimeStamps(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 250_000_000, time.UTC)
	stamps := []verify.TimeStamp{
		{Authority: "A", Status: verify.StampNarrows, Time: at, AccuracyMicroseconds: 100_000},
		{Authority: "A", Status: verify.StampVerified, Time: at, AccuracyMicroseconds: 1_500_001},
		{Authority: "A", Status: verify.StampContradicted, Time: at, AccuracyMicroseconds: 1_000_000},
		{Authority: "B", Status: verify.StampVerified, Time: at},
		{Status: verify.StampNotEvaluated, Time: at, AccuracyMicroseconds: 1},
		{Status: verify.StampNotEvaluated},
	}
	want := []string{
		"a time-stamp by A, 2026-05-01 12:00:00 UTC, accurate to 0.1 s",
		"a time-stamp by A, 2026-05-01 12:00:00 UTC, accurate to 1.500001 s",
		"a time-stamp by A, 2026-05-01 12:00:00 UTC, accurate to 1 s",
		"a time-stamp by B, 2026-05-01 12:00:00 UTC, which states no accuracy",
		"a time-stamp by somebody whom your policy does not name, 2026-05-01 12:00:00 UTC, not looked at",
		"a time-stamp by somebody whom your policy does not name, not looked at",
	}
	for i, s := range stamps {
		if got := TimeStamp(s); got != want[i] {
			t.Errorf("got  %s\nwant %s", got, want[i])
		}
	}
	v := verdict()
	if got := TimeStamps(v); got != nil {
		t.Errorf("without any: %q", got)
	}
	v.TimeStamps = stamps
	if got := TimeStamps(v); !slices.Equal(got, []string{want[0], want[1], want[3]}) {
		t.Errorf("those that count: %q", got)
	}
}
