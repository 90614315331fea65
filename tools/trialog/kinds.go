package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/statement"
)

func (p *program) kindsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "kinds [KIND]",
		Short: "List the kinds of statements and their details",
		Long: `List the kinds of statements; with KIND, what it is made of: whether it has a
document, who may say it, and its details for --attribute and --sealed-attribute.`,
		Example: `  trialog kinds
  trialog kinds consent-form`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return p.kinds(args) },
	}
}

func (p *program) kinds(args []string) error {
	if len(args) == 0 {
		for _, r := range statement.Kinds() {
			p.printf("%-20s %s\n", r.Kind, contentText(r))
		}
		return nil
	}
	r, ok := statement.RuleOf(statement.Kind(args[0]))
	if !ok {
		return fmt.Errorf("there is no kind %q; see trialog kinds", args[0])
	}
	p.printf("%s: %s\n", r.Kind, contentText(r))
	who := "any role"
	if len(r.Sayers) > 0 {
		who = join(r.Sayers)
	}
	p.printf("  said by: %s\n", who)
	if len(r.After) > 0 {
		p.printf("  comes after one of: %s\n", join(r.After))
	}
	for _, a := range r.Attributes {
		flag, need := "--attribute", ""
		if a.Sealed {
			flag = "--sealed-attribute"
		}
		if a.Required {
			need = " (needed)"
		}
		p.printf("  %s %s=%s%s\n", flag, a.Name, valueText(a), need)
	}
	return nil
}

func join[T ~string](list []T) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = string(s)
	}
	return strings.Join(words, ", ")
}

// contentText says whether a kind has a document, and where it stands.
func contentText(r statement.Rule) string {
	text := map[statement.Content]string{
		statement.NoDocument: "no document", statement.PublicDocument: "a public document",
		statement.SealedDocument: "a sealed document", statement.AnyDocument: "a document, public or sealed",
		statement.OptionalDocument: "a document or none",
	}[r.Content]
	switch r.Placement {
	case statement.BatchOnly:
		text += ", in batches only"
	case statement.Anywhere:
		text += ", alone or in a batch"
	case statement.Alone:
	}
	return text
}

// valueText says what a detail may be.
func valueText(a statement.Attribute) string {
	if a.Type == statement.Choice {
		return strings.Join(a.Options, "|")
	}
	return map[statement.ValueType]string{
		statement.Text: "TEXT", statement.Token: "NAME", statement.Count: "NUMBER", statement.DateValue: "YYYY-MM-DD",
		statement.DigestHex: "IDENTITY", statement.TokenList: "NAME,NAME…", statement.DigestSet: "IDENTITY,IDENTITY…",
		statement.KeyDER: "KEY", statement.NonceHex: "DIGITS",
	}[a.Type]
}
