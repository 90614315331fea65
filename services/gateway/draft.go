package gateway

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
)

// maxExact is the greatest integer that a JSON number holds for every reader,
// 2^53 - 1.
const maxExact = 1<<53 - 1

// fromDraft makes a statement of a draft, without signers, chain, beacon and,
// if there is no document, subject. What a statement's own rules say about the
// values is left to statement.Build; see draftField.
func (g *Gateway) fromDraft(d *trialogv1.Draft) (*statement.Statement, statement.Rule, error) {
	var rule statement.Rule
	if d == nil {
		return nil, rule, invalid("draft", "missing, expected an object")
	}
	rule, ok := statement.RuleOf(statement.Kind(d.GetKind()))
	if !ok {
		return nil, rule, invalid("draft.kind", "unknown kind, expected one of those in the table of kinds")
	}
	s := &statement.Statement{
		Log: g.log, Organisation: d.GetOrganisation(), Trial: d.GetTrial(), Kind: rule.Kind,
		Version: d.GetVersion(), MediaType: d.GetMediaType(),
	}
	for name, date := range d.GetDates() {
		s.Dates = append(s.Dates, statement.NamedDate{Name: name, Date: statement.Date(date)})
	}
	slices.SortFunc(s.Dates, func(a, b statement.NamedDate) int { return strings.Compare(a.Name, b.Name) })
	var public, sealed statement.Digest
	for _, f := range []struct {
		field, text string
		into        *statement.Digest
	}{
		{"draft.amends", d.GetAmends(), &s.Amends},
		{"draft.supersedes", d.GetSupersedes(), &s.Supersedes},
		{"draft.sealed_attributes", d.GetSealedAttributes(), &s.Sealed},
		{"draft.document_sha256", d.GetDocumentSha256(), &public},
		{"draft.document_commitment", d.GetDocumentCommitment(), &sealed},
	} {
		if f.text == "" {
			continue
		}
		var err error
		if *f.into, err = digestField(f.field, f.text); err != nil {
			return nil, rule, err
		}
	}
	switch {
	case !public.IsZero() && !sealed.IsZero():
		return nil, rule, invalid("draft.document_commitment", "a document is public or sealed, document_sha256 is there too")
	case !public.IsZero():
		s.Subject, s.Digest = statement.SubjectSHA256, public
	case !sealed.IsZero():
		s.Subject, s.Digest = statement.SubjectCommit, sealed
	}
	attributes, err := attributesOf(d.GetAttributes())
	s.Attributes = attributes
	return s, rule, err
}

// attributesOf reads attributes: strings, integers and lists of these, in the
// order of their names.
func attributesOf(s *structpb.Struct) ([]statement.Member, error) {
	fields := s.GetFields()
	if len(fields) == 0 {
		return nil, nil
	}
	plain := make(map[string]any, len(fields))
	for name, v := range fields {
		value, problem := plainValue(v, true)
		if problem != "" {
			return nil, invalid("draft.attributes."+name, problem)
		}
		plain[name] = value
	}
	// The strict reader of statements makes members of it, which also holds
	// them against its bounds.
	text, err := json.Marshal(plain) // sorts the names
	if err != nil {
		return nil, invalid("draft.attributes", "expected strings, integers and lists of these")
	}
	members, err := statement.ParseMembers(text)
	if err != nil {
		return nil, invalidField(err, under("draft.attributes"))
	}
	return members, nil
}

// plainValue returns what encoding/json writes for v, or a problem. Numbers of
// a Struct are floating point: one that is not exactly an integer is refused,
// as nobody could tell which integer was meant.
func plainValue(v *structpb.Value, lists bool) (value any, problem string) {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return k.StringValue, ""
	case *structpb.Value_BoolValue:
		return k.BoolValue, ""
	case *structpb.Value_NumberValue:
		n := k.NumberValue
		if n != math.Trunc(n) || math.Abs(n) > maxExact || n == 0 && math.Signbit(n) {
			return nil, "expected an integer between -(2^53-1) and 2^53-1"
		}
		return json.Number(strconv.FormatInt(int64(n), 10)), ""
	case *structpb.Value_ListValue:
		if !lists {
			break
		}
		list := make([]any, 0, len(k.ListValue.GetValues()))
		for i, item := range k.ListValue.GetValues() {
			value, problem := plainValue(item, false)
			if problem != "" {
				return nil, fmt.Sprintf("item %d: %s", i, problem)
			}
			list = append(list, value)
		}
		return list, ""
	}
	return nil, "expected a string, an integer, or a list of these"
}

// draftField rewrites the path of a field in a statement to that in a request
// with a draft.
func draftField(d *trialogv1.Draft) func(string) string {
	return func(path string) string {
		path = strings.TrimPrefix(path, "envelope.")
		path = strings.TrimPrefix(path, "payload.")
		name, isPredicate := strings.CutPrefix(path, "predicate.")
		if !isPredicate {
			switch {
			case strings.HasPrefix(path, "subject") && d.GetDocumentCommitment() != "":
				return "draft.document_commitment"
			case strings.HasPrefix(path, "subject"):
				return "draft.document_sha256"
			}
			return "draft"
		}
		first, rest, _ := strings.Cut(name, ".")
		switch first {
		case "mediaType":
			return "draft.media_type"
		case "sealedAttributes":
			return "draft.sealed_attributes"
		case "organisation", "trial", "kind", "version", "amends", "supersedes":
			return "draft." + first
		case "dates", "attributes":
			return strings.TrimSuffix("draft."+first+"."+rest, ".")
		}
		if strings.HasPrefix(first, "signers") {
			return name
		}
		return "draft"
	}
}
