package vectors_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/statement"
)

// TestKindTable holds the table of kinds in docs/formats.md against the code.
// With TRIALOG_UPDATE set it is written anew.
func TestKindTable(t *testing.T) {
	const path, from, to = "../../docs/formats.md", "<!-- kinds -->\n", "<!-- /kinds -->"
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	a, b := strings.Index(page, from)+len(from), strings.Index(page, to)
	if a < len(from) || b < a {
		t.Fatal("docs/formats.md has no table of kinds")
	}
	want := "\n" + kindTable() + "\n"
	if page[a:b] == want {
		return
	}
	if os.Getenv("TRIALOG_UPDATE") == "" {
		t.Fatalf("the table of kinds in docs/formats.md is not that of the code; want\n%s", want)
	}
	if err := os.WriteFile(path, []byte(page[:a]+want+page[b:]), 0o644); err != nil {
		t.Fatal(err)
	}
}

// kindTable writes the table of kinds in Markdown.
func kindTable() string {
	var b strings.Builder
	b.WriteString("| kind | within | where | document | who may say it | after | attributes |\n|---|---|---|---|---|---|---|\n")
	scopes := []string{"trial", "organisation", "log", "trial or log"}
	contents := []string{"none", "public", "sealed", "public or sealed", "public, sealed or none"}
	placements := []string{"alone", "batch", "any"}
	types := []string{"text", "token", "", "count", "date", "digest", "tokens", "digests", "key", "nonce", "log name", "base64"}
	for _, r := range statement.Kinds() {
		sayers := "any role"
		if len(r.Sayers) > 0 {
			sayers = join(r.Sayers)
		}
		attributes := make([]string, len(r.Attributes))
		for i, a := range r.Attributes {
			kind := types[a.Type]
			if a.Type == statement.Choice {
				kind = strings.Join(a.Options, " / ")
			}
			attributes[i] = "`" + a.Name + "`"
			if a.Required {
				attributes[i] += "\\*"
			}
			attributes[i] += " " + kind
			if a.Sealed {
				attributes[i] += " (sealed)"
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", r.Kind, scopes[r.Scope], placements[r.Placement],
			contents[r.Content], sayers, join(r.After), strings.Join(attributes, "; "))
	}
	return b.String()
}

func join[T ~string](list []T) string {
	words := make([]string, len(list))
	for i, w := range list {
		words[i] = string(w)
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}
