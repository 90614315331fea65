package main

import (
	"reflect"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/statement"
)

func TestMembers(t *testing.T) {
	rule := func(k statement.Kind) statement.Rule { r, _ := statement.RuleOf(k); return r }
	for _, tt := range []struct {
		name   string
		kind   statement.Kind
		list   []string
		sealed bool
		want   []statement.Member
		err    string
	}{
		{"none", statement.KindProtocol, nil, false, nil, ""},
		{"text with an equals sign", statement.KindProtocol, []string{"reason=a=b, c"}, false, []statement.Member{statement.TextMember("reason", "a=b, c")}, ""},
		{"list", statement.KindTrial, []string{"registryIds=A,B", "registryIds=C"}, false, []statement.Member{statement.ListMember("registryIds", "A", "B", "C")}, ""},
		{"number", statement.KindClose, []string{"statements=3"}, false, []statement.Member{statement.CountMember("statements", 3)}, ""},
		{"sealed", statement.KindConsent, []string{"subject=1"}, true, []statement.Member{statement.TextMember("subject", "1")}, ""},
		{"no value", statement.KindProtocol, []string{"reason="}, false, nil, "expected name=value"},
		{"no name", statement.KindProtocol, []string{"reason"}, false, nil, "expected name=value"},
		{"unknown", statement.KindProtocol, []string{"x=1"}, false, nil, "expected one of amendment, reason, scope"},
		{"twice", statement.KindProtocol, []string{"reason=1", "reason=2"}, false, nil, "is there twice"},
		{"public, must be sealed", statement.KindConsent, []string{"subject=1"}, false, nil, "is given with --sealed-attribute"},
		{"sealed, is public", statement.KindProtocol, []string{"reason=1"}, true, nil, "is given with --attribute"},
		{"no number", statement.KindClose, []string{"statements=many"}, false, nil, "expected one number"},
		{"kind without any", statement.KindReveal, []string{"x=1"}, true, nil, "expected one of none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := members("--x", rule(tt.kind), tt.list, tt.sealed)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, expected an error with %q", err, tt.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Fatalf("got %v, %v", got, err)
			}
		})
	}
}

func TestMediaType(t *testing.T) {
	for name, want := range map[string]string{
		"a.pdf": "application/pdf", "A.PDF": "application/pdf", "a.b.json": "application/json", "a.csv": "text/csv",
		"a": "application/octet-stream", "a.unknown": "application/octet-stream", ".pdf": "application/pdf",
		"dir.pdf/a": "application/octet-stream", "a.docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	} {
		got := mediaType(name)
		if got != want {
			t.Errorf("%s is %s, expected %s", name, got, want)
		}
		if err := statement.CheckMediaType(name, got); err != nil {
			t.Error(err)
		}
	}
}

// Names of receipts tell statements of a kind apart, and fit every file system.
func TestFileName(t *testing.T) {
	for _, tt := range []struct {
		o    sayOptions
		want string
	}{
		{sayOptions{kind: "trial", trial: "NCT1"}, "NCT1-trial"},
		{sayOptions{kind: "milestone", trial: "NCT1", attributes: []string{"milestone=first-visit"}}, "NCT1-milestone-first-visit"},
		{sayOptions{kind: "database-lock", trial: "a:b", attributes: []string{"reason=x", "state=locked"}}, "a-b-database-lock-locked"},
		{sayOptions{kind: "credential", attributes: []string{"credential=gcp"}}, "credential-gcp"},
	} {
		rule, _ := statement.RuleOf(statement.Kind(tt.o.kind))
		if got := tt.o.fileName(rule); got != tt.want {
			t.Errorf("%s, expected %s", got, tt.want)
		}
	}
}

func TestWrap(t *testing.T) {
	text := wrap(strings.Repeat("word ", 40), 40)
	for i, line := range strings.Split(text, "\n") {
		if len(line) > 40 || i == 0 && len(line) > 33 {
			t.Errorf("line %d has %d characters", i, len(line))
		}
	}
	if strings.Join(strings.Fields(text), " ") != strings.TrimSpace(strings.Repeat("word ", 40)) {
		t.Error("words were lost")
	}
}
