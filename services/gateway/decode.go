package gateway

import (
	"encoding/base64"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/trialog/trialog/api/statement"
)

// decodeJSON reads a request from JSON into msg. It is ProtoJSON
// (https://protobuf.dev/programming-guides/json/) without its liberties: no
// unknown or duplicate members, names in their one case (either that of the
// .proto file or its lowerCamelCase), no null, enums by name, bytes in padded
// standard base64, integers without fraction, nesting as bounded as in
// statements. Errors name the member as the caller spelt it.
func decodeJSON(raw []byte, msg proto.Message) error {
	members, err := statement.ParseMembers(raw)
	if err != nil {
		return err
	}
	if err := checkMembers("", members, msg.ProtoReflect().Descriptor()); err != nil {
		return err
	}
	if err := (protojson.UnmarshalOptions{}).Unmarshal(raw, msg); err != nil {
		// Not seen to happen; its text would not name the member.
		return &statement.FieldError{Reason: "expected the JSON of the request's message"}
	}
	return nil
}

func checkMembers(path string, members []statement.Member, d protoreflect.MessageDescriptor) error {
	seen := make(map[protoreflect.Name]string, len(members))
	for _, m := range members {
		at := under(path)(m.Name)
		if path == "" {
			at = m.Name
		}
		f := d.Fields().ByJSONName(m.Name)
		if f == nil {
			f = d.Fields().ByName(protoreflect.Name(m.Name))
		}
		if f == nil {
			return fieldError(at, "unknown member"+suggestion(m.Name, d))
		}
		if other, twice := seen[f.Name()]; twice {
			return fieldError(at, fmt.Sprintf("duplicate member, as %q is the same", other))
		}
		seen[f.Name()] = m.Name
		if err := checkField(at, m, f); err != nil {
			return err
		}
	}
	return nil
}

// checkField checks that a member's value has the form of its field.
func checkField(at string, m statement.Member, f protoreflect.FieldDescriptor) error {
	v := m.Value
	kind := v.Kind.String()
	switch {
	case f.IsMap():
		if kind != anObject {
			return fieldError(at, "expected an object, found "+kind)
		}
		for _, entry := range v.Members {
			if got := entry.Value.Kind.String(); got != aString {
				return fieldError(at+"."+entry.Name, "expected a string, found "+got)
			}
		}
	case f.IsList():
		if kind != "an array" {
			return fieldError(at, "expected an array, found "+kind)
		}
		for i, item := range v.Items {
			if got := item.Kind.String(); got != anObject {
				return fieldError(fmt.Sprintf("%s[%d]", at, i), "expected an object, found "+got)
			}
			if err := checkMembers(fmt.Sprintf("%s[%d]", at, i), item.Members, f.Message()); err != nil {
				return err
			}
		}
	case f.Message() != nil:
		if kind != anObject {
			return fieldError(at, "expected an object, found "+kind)
		}
		if f.Message().FullName() == "google.protobuf.Struct" {
			return nil // its members are read as attributes
		}
		return checkMembers(at, v.Members, f.Message())
	default:
		if kind != aString {
			return fieldError(at, "expected a string, found "+kind)
		}
		return checkText(at, v.Text, f)
	}
	return nil
}

// Kinds of JSON values by what the strict reader calls them in errors: the
// package of its constants is not to be imported from outside of api.
const (
	anObject = "an object"
	aString  = "a string"
)

// checkText checks a string by the type of its field. All scalar fields of
// requests are strings, bytes or enums; a test holds that.
func checkText(at, text string, f protoreflect.FieldDescriptor) error {
	switch f.Kind() { //nolint:exhaustive // see above
	case protoreflect.BytesKind:
		b, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || base64.StdEncoding.EncodedLen(len(b)) != len(text) {
			return fieldError(at, "expected standard base64 with padding, in one line")
		}
	case protoreflect.EnumKind:
		if f.Enum().Values().ByName(protoreflect.Name(text)) == nil {
			names := make([]string, f.Enum().Values().Len())
			for i := range names {
				names[i] = string(f.Enum().Values().Get(i).Name())
			}
			return fieldError(at, "expected one of "+strings.Join(names, ", "))
		}
	}
	return nil
}

// suggestion says which member differs only in case.
func suggestion(name string, d protoreflect.MessageDescriptor) string {
	for i := range d.Fields().Len() {
		if f := d.Fields().Get(i); strings.EqualFold(name, f.JSONName()) || strings.EqualFold(name, string(f.Name())) {
			return fmt.Sprintf(", names are case-sensitive: %q", f.JSONName())
		}
	}
	return ""
}

func fieldError(field, reason string) error {
	if len(field) > 200 {
		field = strings.ToValidUTF8(field[:200], "") + "…" // the names may be a stranger's
	}
	return &statement.FieldError{Field: field, Reason: reason}
}
