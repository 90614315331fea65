package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/tools/trialog/filing"
	"github.com/trialog/trialog/tools/trialog/folder"
)

// sayOptions are the flags that say what a statement is to say.
type sayOptions struct {
	trial, kind, version, amends, supersedes, meaning, media, out, name string

	sealed                              bool
	dates, attributes, sealedAttributes []string
}

// place adds the flags that every command has which writes files.
func (o *sayOptions) place(f *pflag.FlagSet) {
	f.StringVar(&o.trial, "trial", "", "the `trial`, by its registry number or your own")
	f.StringVar(&o.out, "out", "", "`folder` for the receipts and openings (default: beside the document)")
}

// content adds the flags that describe a document.
func (o *sayOptions) content(f *pflag.FlagSet) {
	f.StringVar(&o.media, "media-type", "", "media `type` of the document (default: by its ending, such as application/pdf)")
	f.StringArrayVar(&o.sealedAttributes, "sealed-attribute", nil, "detail `name=value` that only the opening shows; may be repeated")
}

// public adds the flag of the public details.
func (o *sayOptions) public(f *pflag.FlagSet) {
	f.StringArrayVar(&o.attributes, "attribute", nil, "public detail `name=value`; may be repeated; see trialog kinds")
}

// statementFlags adds the flags of a statement that stands alone.
func (o *sayOptions) statementFlags(f *pflag.FlagSet) {
	f.StringVar(&o.kind, "kind", "", "`kind` of the statement, such as protocol; see trialog kinds")
	f.BoolVar(&o.sealed, "sealed", false, "keep the document secret: only a commitment to it is logged")
}

// rule returns the row of the kind.
func (o *sayOptions) rule() (statement.Rule, error) {
	if o.kind == "" {
		return statement.Rule{}, fmt.Errorf("--kind: missing, expected one of %s", kindsText())
	}
	rule, ok := statement.RuleOf(statement.Kind(o.kind))
	if !ok {
		return rule, fmt.Errorf("--kind: there is no kind %q, expected one of %s", o.kind, kindsText())
	}
	switch {
	case rule.Placement == statement.BatchOnly:
		return rule, fmt.Errorf("--kind: a %s goes inside a batch, so that its time tells nothing of a person: "+
			"trialog batch --record-type %s", o.kind, o.kind)
	case rule.Kind == statement.KindBatch:
		return rule, errors.New("--kind: a batch is submitted with trialog batch")
	case rule.Kind == statement.KindKey:
		return rule, errors.New("--kind: a key is enrolled with trialog init or trialog key enrol")
	case rule.Scope == statement.InTrial && o.trial == "":
		return rule, fmt.Errorf("--trial: missing, a %s belongs to a trial", o.kind)
	case rule.Scope != statement.InTrial && o.trial != "":
		return rule, fmt.Errorf("--trial: a %s belongs to no trial", o.kind)
	}
	return rule, nil
}

// kindsText lists the kinds that submit takes.
func kindsText() string {
	var names []string
	for _, r := range statement.Kinds() {
		if r.Placement != statement.BatchOnly && r.Scope != statement.InLog &&
			r.Kind != statement.KindBatch && r.Kind != statement.KindKey {
			names = append(names, string(r.Kind))
		}
	}
	return strings.Join(names, ", ")
}

// request makes the request for one document; file is empty for none.
func (o *sayOptions) request(organisation, file string) (*filing.Request, error) {
	rule, err := o.rule()
	if err != nil {
		return nil, err
	}
	s := statement.Statement{
		Organisation: organisation, Trial: o.trial, Kind: rule.Kind, Version: o.version,
	}
	if s.Amends, err = reference("--amends", o.amends); err != nil {
		return nil, err
	}
	if s.Supersedes, err = reference("--supersedes", o.supersedes); err != nil {
		return nil, err
	}
	if s.Dates, err = dates(o.dates); err != nil {
		return nil, err
	}
	if s.Attributes, err = members("--attribute", rule, o.attributes, false); err != nil {
		return nil, err
	}
	r := &filing.Request{Statement: s, Meaning: statement.Meaning(o.meaning)}
	if r.SealedAttributes, err = members("--sealed-attribute", rule, o.sealedAttributes, true); err != nil {
		return nil, err
	}
	if r.Base, err = o.base(rule, file); err != nil {
		return nil, err
	}
	return r, o.document(r, rule, file)
}

// document reads the document, if the kind has one.
func (o *sayOptions) document(r *filing.Request, rule statement.Rule, file string) error {
	switch {
	case file == "" && (rule.Content == statement.NoDocument || rule.Content == statement.OptionalDocument):
		if o.sealed {
			return errors.New("--sealed: there is no document to seal; use --sealed-attribute for details")
		}
		return nil
	case file == "":
		return fmt.Errorf("FILE: missing, a %s has a document", rule.Kind)
	case rule.Content == statement.NoDocument:
		return fmt.Errorf("%s: a %s has no document", file, rule.Kind)
	case o.sealed && rule.Content == statement.PublicDocument:
		return fmt.Errorf("--sealed: the document of a %s is public", rule.Kind)
	}
	var err error
	if r.Document, err = folder.Read(file, maxDocument); err != nil {
		return fmt.Errorf("the document: %w", err)
	}
	r.Sealed = o.sealed || rule.Content == statement.SealedDocument
	r.Statement.MediaType = o.mediaType(file)
	return nil
}

func (o *sayOptions) mediaType(file string) string {
	if o.media != "" {
		return o.media
	}
	return mediaType(file)
}

// base is where the files of a statement go.
func (o *sayOptions) base(rule statement.Rule, file string) (string, error) {
	name := file
	if file == "" {
		name = o.name
		if name == "" {
			name = o.fileName(rule)
		}
	}
	if o.out == "" {
		return name, nil
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return "", fmt.Errorf("--out: %w", err)
	}
	return filepath.Join(o.out, filepath.Base(name)), nil
}

// fileName is the name of the files of a statement that has no document: the
// trial, the kind, and the first detail that tells two of a kind apart.
func (o *sayOptions) fileName(rule statement.Rule) string {
	parts := []string{string(rule.Kind)}
	if o.trial != "" {
		parts = []string{o.trial, string(rule.Kind)}
	}
	for _, a := range rule.Attributes {
		if !a.Required || a.Type != statement.Token && a.Type != statement.Choice {
			continue
		}
		for _, given := range o.attributes {
			if value, ok := strings.CutPrefix(given, a.Name+"="); ok {
				return strings.ReplaceAll(strings.Join(append(parts, value), "-"), ":", "-")
			}
		}
	}
	return strings.ReplaceAll(strings.Join(parts, "-"), ":", "-")
}

// reference reads what names an earlier statement: its receipt, or its identity.
func reference(flag, text string) (statement.Identity, error) {
	if text == "" {
		return statement.Identity{}, nil
	}
	if id, err := statement.ParseDigest(text); err == nil {
		return id, nil
	}
	raw, err := folder.Read(text, receipt.MaxSize)
	if err != nil {
		return statement.Identity{}, fmt.Errorf("%s: expected a receipt file, or an identity of 64 digits: %w", flag, err)
	}
	id, _, err := filing.StatementOf(raw)
	if err != nil {
		return statement.Identity{}, fmt.Errorf("%s: %s: %w", flag, text, err)
	}
	return id, nil
}

// dates reads the stated dates.
func dates(list []string) ([]statement.NamedDate, error) {
	var out []statement.NamedDate
	for _, text := range list {
		name, date, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("--date: expected name=YYYY-MM-DD, found %q", text)
		}
		if err := statement.CheckDate("--date "+name, statement.Date(date)); err != nil {
			return nil, err
		}
		out = append(out, statement.NamedDate{Name: name, Date: statement.Date(date)})
	}
	slices.SortFunc(out, func(a, b statement.NamedDate) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// members reads the details of a kind, public or sealed.
func members(flag string, rule statement.Rule, list []string, sealed bool) ([]statement.Member, error) {
	values := map[string][]string{}
	var names []string
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || value == "" {
			return nil, fmt.Errorf("%s: expected name=value, found %q", flag, text)
		}
		if values[name] == nil {
			names = append(names, name)
		}
		values[name] = append(values[name], value)
	}
	out := make([]statement.Member, 0, len(names))
	for _, name := range names {
		i := slices.IndexFunc(rule.Attributes, func(a statement.Attribute) bool { return a.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("%s: a %s has no detail %q, expected one of %s", flag, rule.Kind, name, details(rule, sealed))
		}
		a := rule.Attributes[i]
		if a.Sealed != sealed {
			other := map[bool]string{true: "--sealed-attribute", false: "--attribute"}[a.Sealed]
			return nil, fmt.Errorf("%s: the detail %q of a %s is given with %s", flag, name, rule.Kind, other)
		}
		m, err := member(flag, a, values[name])
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// member makes a detail of its values.
func member(flag string, a statement.Attribute, values []string) (statement.Member, error) {
	switch a.Type {
	case statement.TokenList, statement.DigestSet:
		all := make([]string, 0, len(values))
		for _, v := range values {
			all = append(all, strings.Split(v, ",")...)
		}
		return statement.ListMember(a.Name, all...), nil
	case statement.Count:
		n, err := strconv.ParseUint(values[0], 10, 53)
		if err != nil || len(values) > 1 {
			return statement.Member{}, fmt.Errorf("%s: %s: expected one number from 0", flag, a.Name)
		}
		return statement.CountMember(a.Name, n), nil
	default:
		if len(values) > 1 {
			return statement.Member{}, fmt.Errorf("%s: %s is there twice", flag, a.Name)
		}
		return statement.TextMember(a.Name, values[0]), nil
	}
}

// details lists the details of a kind.
func details(rule statement.Rule, sealed bool) string {
	var names []string
	for _, a := range rule.Attributes {
		if a.Sealed == sealed {
			names = append(names, a.Name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
