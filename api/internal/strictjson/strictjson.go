// Package strictjson reads JSON the way signed data has to be read: one
// meaning for every reader, or none.
//
// It refuses what other readers of the same bytes may see differently:
// duplicate members, members that nobody asked for, members that differ only in
// case, invalid UTF-8, unpaired surrogates, trailing bytes, numbers that are
// not integers of at most 53 bits (RFC 8259 section 6, "interoperable"), and
// nesting deeper than MaxDepth. A value is read through an Object, which knows
// its path, so that every error names the member and what was expected.
//
// The cost of reading is linear in the length of the text, and what is kept of
// it is bounded by MaxValues, so that a stranger's text is not expensive.
package strictjson

import (
	"fmt"
	"strings"
)

// MaxDepth is the deepest nesting of arrays and objects that Parse accepts.
const MaxDepth = 16

// MaxMembers is the greatest number of members of one object. It also bounds
// the cost of the search for duplicates.
const MaxMembers = 256

// MaxValues is the greatest number of values of all kinds in one text. A text
// longer than 16 times that may have one for each 16 of its bytes.
const MaxValues = 1 << 16

// maxField is the length in bytes at which the path in an Error is cut off: its
// names may come from a stranger.
const maxField = 200

// MaxInteger is the greatest magnitude of an integer, 2^53 - 1.
const MaxInteger = 1<<53 - 1

// Error says which member was wrong and what was expected of it.
type Error struct {
	// Field is the path of the member, such as "predicate.signers[1].key";
	// empty for the text as a whole. A long one is cut off and ends in "…".
	Field string
	// Reason says what was expected and, where that is safe, what was found.
	Reason string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Field == "" {
		return e.Reason
	}
	return e.Field + ": " + e.Reason
}

// Errorf makes an Error for the member at path field.
func Errorf(field, format string, args ...any) *Error {
	if len(field) > maxField {
		field = strings.ToValidUTF8(field[:maxField], "") + "…"
	}
	return &Error{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Kind is the type of a JSON value.
type Kind byte

// The kinds of JSON values. Numbers are integers only.
const (
	Null Kind = iota
	Bool
	Integer
	String
	Array
	ObjectKind
)

// String names the kind as an error message would.
func (k Kind) String() string {
	names := [...]string{"null", "a boolean", "an integer", "a string", "an array", "an object"}
	if int(k) >= len(names) {
		return "no JSON value"
	}
	return names[k]
}

// Value is a parsed JSON value.
type Value struct {
	Kind    Kind
	Truth   bool   // of a Bool
	Text    string // of a String
	Number  int64  // of an Integer
	Items   []Value
	Members []Member
}

// Member is a member of an object, in the order of the text.
type Member struct {
	Name  string
	Value Value
}

// Object reads the members of one JSON object and notices those that nobody
// read. The first error sticks; Done returns it.
type Object struct {
	// outer and name are where the object was found, and with item > 0 it is that
	// item, counted from 1, of the array there. The path is put together for
	// errors only.
	outer   *Object
	name    string
	item    int
	members []Member
	read    [MaxMembers / 64]uint64 // a bit for each of members
	err     *Error
}

// NewObject starts to read v, found at path (empty for the top).
func NewObject(path string, v Value) *Object {
	o := &Object{name: path, members: v.Members}
	o.begin(v.Kind)
	return o
}

// Nested starts to read v, the value of member name.
func (o *Object) Nested(name string, v Value) *Object {
	n := &Object{outer: o, name: name, members: v.Members}
	n.begin(v.Kind)
	return n
}

// NestedItem starts to read v, which is item i of the array at member name.
func (o *Object) NestedItem(name string, i int, v Value) *Object {
	n := &Object{outer: o, name: name, item: i + 1, members: v.Members}
	n.begin(v.Kind)
	return n
}

// begin refuses a value that is no object, or that Parse would have refused.
func (o *Object) begin(kind Kind) {
	switch {
	case kind != ObjectKind:
		o.members, o.err = nil, Errorf(o.path(), "expected an object, found %s", kind)
	case len(o.members) > MaxMembers:
		o.members, o.err = nil, Errorf(o.path(), "too many members")
	}
}

// path returns the object's own path.
func (o *Object) path() string {
	path := o.name
	if o.outer != nil {
		path = o.outer.Path(o.name)
	}
	if o.item > 0 {
		path = fmt.Sprintf("%s[%d]", path, o.item-1)
	}
	return path
}

// Path returns the path of member name.
func (o *Object) Path(name string) string {
	path := o.path()
	if path == "" {
		return name
	}
	return path + "." + name
}

// Fail records an error at member name, unless there is one already.
func (o *Object) Fail(name, format string, args ...any) { //nolint:goprintffuncname // reads as what it does: o.Fail("origin", "expected …")
	if o.err == nil {
		o.err = Errorf(o.Path(name), format, args...)
	}
}

// Take records err, unless it is nil or there is an error already.
func (o *Object) Take(err error) {
	if err == nil || o.err != nil {
		return
	}
	if e, ok := err.(*Error); ok { //nolint:errorlint // only errors of this package carry a path
		o.err = e
		return
	}
	o.err = &Error{Field: o.path(), Reason: err.Error()}
}

// Err returns the first error so far.
func (o *Object) Err() error {
	if o.err == nil {
		return nil
	}
	return o.err
}

// Optional returns member name and whether it is there.
func (o *Object) Optional(name string) (Value, bool) {
	if v := o.find(name); v != nil {
		return *v, true
	}
	return Value{}, false
}

// find returns member name, which counts as read, or nil.
func (o *Object) find(name string) *Value {
	for i := range o.members {
		if o.members[i].Name == name {
			o.read[i/64] |= 1 << (i % 64)
			return &o.members[i].Value
		}
	}
	return nil
}

// wasRead tells whether somebody has asked for the i-th member.
func (o *Object) wasRead(i int) bool { return o.read[i/64]>>(i%64)&1 == 1 }

// Required returns member name, which must be of kind want.
func (o *Object) Required(name string, want Kind) Value {
	if v := o.required(name, want); v != nil {
		return *v
	}
	return Value{Kind: want}
}

// required returns nil if there is no such member; then it has failed.
func (o *Object) required(name string, want Kind) *Value {
	v := o.find(name)
	switch {
	case v == nil:
		o.Fail(name, "missing, expected %s%s", want, o.caseVariant(name))
		return nil
	case v.Kind != want:
		o.Fail(name, "expected %s, found %s", want, v.Kind)
		return nil
	}
	return v
}

// Text returns the required string member name.
func (o *Object) Text(name string) string {
	if v := o.required(name, String); v != nil {
		return v.Text
	}
	return ""
}

// OptionalText returns the string member name, or "" if it is absent. A
// present but empty string is an error: absence has one form.
func (o *Object) OptionalText(name string) string {
	v := o.find(name)
	if v == nil {
		return ""
	}
	if v.Kind != String {
		o.Fail(name, "expected a string, found %s", v.Kind)
	} else if v.Text == "" {
		o.Fail(name, "is empty, leave it out instead")
	}
	return v.Text
}

// Unsigned returns the required member name, an integer ≥ 0.
func (o *Object) Unsigned(name string) uint64 {
	v := o.Required(name, Integer)
	if v.Number < 0 {
		o.Fail(name, "expected an integer of at least 0, found %d", v.Number)
		return 0
	}
	return uint64(v.Number)
}

// Object returns a reader of the required object member name.
func (o *Object) Object(name string) *Object {
	return o.Nested(name, o.Required(name, ObjectKind))
}

// Join takes over the error of a nested reader and its unread members.
func (o *Object) Join(nested *Object) {
	o.Take(nested.Done())
}

// Done returns the first error: a failed read, else a member nobody read.
func (o *Object) Done() error {
	if o.err != nil {
		return o.err
	}
	for i := range o.members {
		if o.wasRead(i) {
			continue
		}
		name := o.members[i].Name
		o.Fail(name, "unknown member%s", o.suggestion(name))
		return o.err
	}
	return nil
}

// caseVariant says which member differs from the missing one only in case.
func (o *Object) caseVariant(name string) string {
	for i := range o.members {
		if strings.EqualFold(o.members[i].Name, name) {
			return fmt.Sprintf("; names are case-sensitive, found %q", o.members[i].Name)
		}
	}
	return ""
}

// suggestion says which member was read that differs only in case.
func (o *Object) suggestion(name string) string {
	for i := range o.members {
		if o.wasRead(i) && strings.EqualFold(o.members[i].Name, name) {
			return fmt.Sprintf(", names are case-sensitive: %q", o.members[i].Name)
		}
	}
	return ""
}
