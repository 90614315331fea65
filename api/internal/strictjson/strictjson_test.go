package strictjson_test

import (
	"errors"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/trialog/trialog/api/internal/strictjson"
)

// nested returns n containers around the text inner.
func nested(n int, inner string) string {
	return strings.Repeat("[", n) + inner + strings.Repeat("]", n)
}

// manyMembers returns an object of n members.
func manyMembers(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = `"m` + strconv.Itoa(i) + `":0`
	}
	return "{" + strings.Join(names, ",") + "}"
}

// manyItems returns an array of n items.
func manyItems(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("0,", n), ",") + "]" }

func TestParseRejects(t *testing.T) {
	tests := map[string]struct{ text, field, reason string }{
		"empty":                       {``, "", "ends too early"},
		"white space only":            {" \n", "", "ends too early"},
		"byte order mark":             {"\ufeff{}", "", "expected a JSON value"},
		"two texts":                   {`{} {}`, "", "after the end"},
		"trailing NUL":                {"{}\x00", "", "after the end"},
		"comment":                     {`{}//`, "", "after the end"},
		"form feed as space":          {"{\f}", "", "name of a member"},
		"no-break space":              {"{\u00a0}", "", "name of a member"},
		"bare word":                   {`nul`, "", "expected a JSON value"},
		"capital word":                {`True`, "", "expected a JSON value"},
		"word with a tail":            {`{"a":truex}`, "", "expected ',' or '}'"},
		"infinity":                    {`{"a":Infinity}`, "a", "expected a JSON value"},
		"single quotes":               {`{'a':1}`, "", "name of a member"},
		"unquoted name":               {`{a:1}`, "", "name of a member"},
		"no colon":                    {`{"a" 1}`, "a", "expected ':'"},
		"no value":                    {`{"a":}`, "a", "expected a JSON value"},
		"comma before the end":        {`{"a":1,}`, "", "name of a member"},
		"comma first":                 {`{,"a":1}`, "", "name of a member"},
		"comma before the array ends": {`{"a":[1,]}`, "a[1]", "expected a JSON value"},
		"array not closed":            {`{"a":[1}`, "a", "expected ',' or ']'"},
		"array ends early":            {`{"a":[1`, "a", "expected ',' or ']'"},
		"object ends early":           {`{"a":1`, "", "expected ',' or '}'"},
		"object ends in a name":       {`{"a":1,`, "", "name of a member"},

		"duplicate member":              {`{"a":1,"a":1}`, "a", "duplicate"},
		"duplicate member, escaped":     {`{"a":1,"\u0061":2}`, "a", "duplicate"},
		"duplicate member, inner":       {`{"o":[{"b":{}},{"b":1,"c":2,"b":3}]}`, "o[1].b", "duplicate"},
		"duplicate member, far apart":   {manyMembers(200)[:len(manyMembers(200))-1] + `,"m0":1}`, "m0", "duplicate"},
		"duplicate of the empty member": {`{"":1,"":2}`, "", "duplicate"},

		"one member too many": {`{"o":` + manyMembers(strictjson.MaxMembers+1) + `}`, "o.m256", "too many members"},
		"one value too many":  {manyItems(strictjson.MaxValues), "[65535]", "too many values"},
		"one level too deep":  {nested(strictjson.MaxDepth+1, ""), strings.Repeat("[0]", strictjson.MaxDepth), "too deeply"},
		"an object too deep":  {nested(strictjson.MaxDepth, "{}"), strings.Repeat("[0]", strictjson.MaxDepth), "too deeply"},

		"2^53":             {`{"n":9007199254740992}`, "n", "2^53-1"},
		"-2^53":            {`{"n":-9007199254740992}`, "n", "2^53-1"},
		"2^63":             {`{"n":9223372036854775808}`, "n", "2^53-1"},
		"2^64":             {`{"n":18446744073709551616}`, "n", "2^53-1"},
		"fraction":         {`{"n":1.0}`, "n", "without fraction"},
		"exponent":         {`{"n":1e2}`, "n", "without fraction"},
		"leading zero":     {`{"n":01}`, "n", "an integer"},
		"minus zero":       {`{"n":-0}`, "n", "an integer"},
		"plus":             {`{"n":+1}`, "n", "expected a JSON value"},
		"minus only":       {`{"n":-}`, "n", "an integer"},
		"two minuses":      {`{"n":--1}`, "n", "an integer"},
		"hexadecimal":      {`{"n":0x1}`, "", "expected ',' or '}'"},
		"digit separators": {`{"n":1_000}`, "", "expected ',' or '}'"},

		"invalid UTF-8":                      {"{\"s\":\"\xff\"}", "", "not valid UTF-8"},
		"overlong UTF-8":                     {"{\"s\":\"\xc0\xaf\"}", "", "not valid UTF-8"},
		"UTF-8 of a surrogate":               {"{\"s\":\"\xed\xa0\x80\"}", "", "not valid UTF-8"},
		"invalid UTF-8 behind the text":      {"{}\xff", "", "not valid UTF-8"},
		"high surrogate alone":               {`{"s":"\ud800"}`, "s", "bad escape"},
		"low surrogate alone":                {`{"s":"\udc00"}`, "s", "bad escape"},
		"surrogates in the wrong order":      {`{"s":"\udc00\ud800"}`, "s", "bad escape"},
		"two high surrogates":                {`{"s":"\ud800\ud800"}`, "s", "bad escape"},
		"high surrogate, then a letter":      {`{"s":"\ud800a"}`, "s", "bad escape"},
		"high surrogate, then an escape":     {`{"s":"\ud800\n"}`, "s", "bad escape"},
		"high surrogate, then half of one":   {`{"s":"\ud800\udc0"}`, "s", "bad escape"},
		"surrogate in a name":                {`{"\ud800":1}`, "", "bad escape"},
		"unknown escape":                     {`{"s":"\x41"}`, "s", "bad escape"},
		"capital escape":                     {`{"s":"\U0041"}`, "s", "bad escape"},
		"escape of three digits":             {`{"s":"\u041"}`, "s", "bad escape"},
		"escape with a sign":                 {`{"s":"\u+041"}`, "s", "bad escape"},
		"escape with an underscore":          {`{"s":"\u0_41"}`, "s", "bad escape"},
		"escape at the end of the text":      {`{"s":"\`, "s", "bad escape"},
		"control character":                  {"{\"s\":\"a\nb\"}", "s", "control character"},
		"control character behind an escape": {"{\"s\":\"\\n\t\"}", "s", "control character"},
		"NUL in a string":                    {"{\"s\":\"\x00\"}", "s", "control character"},
		"string does not end":                {`{"s":"a`, "s", "does not end"},
		"string with escape does not end":    {`{"s":"\na`, "s", "does not end"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v, err := strictjson.Parse([]byte(tt.text))
			checkError(t, err, tt.field, tt.reason)
			if !reflect.DeepEqual(v, strictjson.Value{}) {
				t.Errorf("Parse returned a value beside its error: %+v", v)
			}
		})
	}
}

// checkError fails unless err is an *Error of this field whose reason contains
// the words.
func checkError(t *testing.T, err error, field, words string) {
	t.Helper()
	var e *strictjson.Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want an *Error with %q", err, words)
	}
	if e.Field != field || !strings.Contains(e.Reason, words) {
		t.Errorf("got field %q, reason %q; want field %q, a reason with %q", e.Field, e.Reason, field, words)
	}
}

func TestParseAccepts(t *testing.T) {
	text := func(s string) strictjson.Value { return strictjson.Value{Kind: strictjson.String, Text: s} }
	number := func(n int64) strictjson.Value { return strictjson.Value{Kind: strictjson.Integer, Number: n} }
	tests := map[string]strictjson.Value{
		" null\n":                         {Kind: strictjson.Null},
		"true":                            {Kind: strictjson.Bool, Truth: true},
		"false":                           {Kind: strictjson.Bool},
		"0":                               number(0),
		"-1":                              number(-1),
		"9007199254740991":                number(1<<53 - 1),
		"-9007199254740991":               number(-(1<<53 - 1)),
		`""`:                              text(""),
		`"\"\\\/\b\f\n\r\t\u00e9\u00E9x"`: text("\"\\/\b\f\n\r\téé" + "x"),
		`"\ud83d\ude00"`:                  text("😀"),
		`"\ufffd\u0000"`:                  text("\ufffd\x00"),
		"\"\u2028\x7f\"":                  text("\u2028\x7f"),
		"[ ]":                             {Kind: strictjson.Array},
		"{\t}":                            {Kind: strictjson.ObjectKind},
		`[1,"a"]`:                         {Kind: strictjson.Array, Items: []strictjson.Value{number(1), text("a")}},
		"{ \"a\" :\r[ ] , \"A\" : {} }": {Kind: strictjson.ObjectKind, Members: []strictjson.Member{
			{Name: "a", Value: strictjson.Value{Kind: strictjson.Array}},
			{Name: "A", Value: strictjson.Value{Kind: strictjson.ObjectKind}},
		}},
		`{"o":{"x":1,"y":[{"z":2}]},"x":3}`: {Kind: strictjson.ObjectKind, Members: []strictjson.Member{
			{Name: "o", Value: strictjson.Value{Kind: strictjson.ObjectKind, Members: []strictjson.Member{
				{Name: "x", Value: number(1)},
				{Name: "y", Value: strictjson.Value{Kind: strictjson.Array, Items: []strictjson.Value{
					{Kind: strictjson.ObjectKind, Members: []strictjson.Member{{Name: "z", Value: number(2)}}},
				}}},
			}}},
			{Name: "x", Value: number(3)},
		}},
	}
	for in, want := range tests {
		got, err := strictjson.Parse([]byte(in))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for name, in := range map[string]string{
		"deepest":                      nested(strictjson.MaxDepth, "0"),
		"most members":                 manyMembers(strictjson.MaxMembers),
		"most values":                  manyItems(strictjson.MaxValues - 1),
		"more values in a longer text": "[" + strings.Repeat(`"0123456789abcd",`, strictjson.MaxValues+10) + "0]",
	} {
		if _, err := strictjson.Parse([]byte(in)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEveryByteOfAString: wherever it stands, a control character is refused, and
// whatever else a byte may be is taken as it is.
func TestEveryByteOfAString(t *testing.T) {
	for at := range 40 {
		for c := range 256 {
			text := []byte(`["` + strings.Repeat("x", 40) + `"]`)
			text[2+at] = byte(c)
			want := string(text[2:42])
			v, err := strictjson.Parse(text)
			good := c >= 0x20 && c < 0x80 && c != '"' && c != '\\'
			if good != (err == nil) || good && v.Items[0].Text != want {
				t.Errorf("byte %#x at %d: got %+v, %v", c, at, v, err)
			}
			if c < 0x20 {
				checkError(t, err, "[0]", "control character")
			}
		}
	}
}

// TestMembersAreApart: the members of one object have their own room, though they
// are allocated together with those of others.
func TestMembersAreApart(t *testing.T) {
	v, err := strictjson.Parse([]byte(`{"a":{"b":1},"c":{"d":2,"e":"::::"},"f":3}`))
	if err != nil {
		t.Fatal(err)
	}
	inner := v.Members[0].Value.Members
	if len(inner) != 1 || cap(inner) != 1 {
		t.Fatalf("one member takes the room of %d", cap(inner))
	}
	_ = append(inner, strictjson.Member{Name: "z"})
	if next := v.Members[1].Value.Members; next[0].Name != "d" || next[1].Name != "e" {
		t.Errorf("a neighbour was overwritten: %+v", next)
	}
}

// TestParseCost holds that a stranger's text costs memory in proportion to its
// length: a long name around many values once took the square of it.
func TestParseCost(t *testing.T) {
	texts := map[string]string{
		"long name around an array":   `{"` + strings.Repeat("n", 100_000) + `":` + manyItems(50_000) + `}`,
		"colons in strings":           "[" + strings.Repeat(`{"a":"::::::::::::::::::::::::::::::::"},`, 2_000) + "0]",
		"long names in one another":   strings.Repeat(`{"`+strings.Repeat("n", 10_000)+`":`, 16) + "0" + strings.Repeat("}", 16),
		"many objects of few members": "[" + strings.Repeat(`{"a":0},`, 20_000) + "0]",
	}
	for name, text := range texts {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := strictjson.Parse([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		runtime.ReadMemStats(&after)
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(200*len(text)); got > most {
			t.Errorf("%s: %d bytes of text took %d bytes of memory, want at most %d", name, len(text), got, most)
		}
	}
}

func TestErrorFieldIsBounded(t *testing.T) {
	_, err := strictjson.Parse([]byte(`{"` + strings.Repeat("é", 5000) + `":x}`))
	var e *strictjson.Error
	if !errors.As(err, &e) || len(e.Field) > 220 || !strings.HasPrefix(e.Field, "éé") || !strings.HasSuffix(e.Field, "é…") {
		t.Errorf("got %v, want a path cut off at a character", err)
	}
	o, err := strictjson.ParseObject([]byte(`{"` + strings.Repeat("n", 5000) + `":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Done(); !errors.As(err, &e) || len(e.Field) > 220 || e.Reason != "unknown member" {
		t.Errorf("Done: got %.300v, want an unknown member with a path cut off", err)
	}
}

func TestObjectErrors(t *testing.T) {
	tests := map[string]struct {
		text          string
		read          func(o *strictjson.Object)
		field, reason string
	}{
		"unknown member": {`{"a":"x","b":1}`, func(o *strictjson.Object) { o.Text("a") }, "b", "unknown member"},
		"unknown member, last": {`{"a":"x","b":"x","c":"x","d":"x","e":"x","f":"x"}`, func(o *strictjson.Object) {
			for _, name := range []string{"a", "b", "c", "d", "e"} {
				o.Text(name)
			}
		}, "f", "unknown member"},
		"unknown case variant": {
			`{"a":"x","A":"x"}`, func(o *strictjson.Object) { o.Text("a") }, "A",
			`names are case-sensitive: "a"`,
		},
		"missing":               {`{}`, func(o *strictjson.Object) { o.Text("a") }, "a", "missing, expected a string"},
		"missing, case variant": {`{"A":"x"}`, func(o *strictjson.Object) { o.Text("a") }, "a", `found "A"`},
		"wrong type":            {`{"a":1}`, func(o *strictjson.Object) { o.Text("a") }, "a", "expected a string, found an integer"},
		"null":                  {`{"a":null}`, func(o *strictjson.Object) { o.Text("a") }, "a", "found null"},
		"negative":              {`{"a":-1}`, func(o *strictjson.Object) { o.Unsigned("a") }, "a", "at least 0"},
		"boolean for integer":   {`{"a":true}`, func(o *strictjson.Object) { o.Unsigned("a") }, "a", "found a boolean"},
		"optional, wrong type":  {`{"a":[]}`, func(o *strictjson.Object) { o.OptionalText("a") }, "a", "found an array"},
		"optional, empty":       {`{"a":""}`, func(o *strictjson.Object) { o.OptionalText("a") }, "a", "leave it out"},
		"not an object":         {`{"a":1}`, func(o *strictjson.Object) { o.Join(o.Object("a")) }, "a", "expected an object, found an integer"},
		"inner unknown": {`{"a":{"b":1,"c":2}}`, func(o *strictjson.Object) {
			q := o.Object("a")
			q.Unsigned("b")
			o.Join(q)
		}, "a.c", "unknown member"},
		"nested twice": {`{"a":{"b":{"c":true}}}`, func(o *strictjson.Object) {
			a := o.Object("a")
			b := a.Object("b")
			b.Text("c")
			a.Join(b)
			o.Join(a)
		}, "a.b.c", "expected a string, found a boolean"},
		"item": {`{"a":{"l":[{"b":1},{"b":"x"}]}}`, func(o *strictjson.Object) {
			a := o.Object("a")
			item := a.NestedItem("l", 1, a.Required("l", strictjson.Array).Items[1])
			item.Unsigned("b")
			a.Join(item)
			o.Join(a)
		}, "a.l[1].b", "expected an integer, found a string"},
		"item that is no object": {`{"l":[1]}`, func(o *strictjson.Object) {
			o.Join(o.NestedItem("l", 0, o.Required("l", strictjson.Array).Items[0]))
		}, "l[0]", "expected an object, found an integer"},
		"more members than Parse takes": {`{"a":{}}`, func(o *strictjson.Object) {
			many := make([]strictjson.Member, strictjson.MaxMembers+1)
			o.Join(o.Nested("a", strictjson.Value{Kind: strictjson.ObjectKind, Members: many}))
			o.Object("a")
		}, "a", "too many members"},
		"the first error sticks": {`{"a":1,"b":2}`, func(o *strictjson.Object) {
			o.Fail("b", "one")
			o.Text("a")
			o.Take(errors.New("two"))
		}, "b", "one"},
		"foreign error": {`{}`, func(o *strictjson.Object) { o.Take(errors.New("foreign")) }, "", "foreign"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o, err := strictjson.ParseObject([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			tt.read(o)
			checkError(t, o.Done(), tt.field, tt.reason)
		})
	}
}

func TestObjectReads(t *testing.T) {
	o, err := strictjson.ParseObject([]byte(`{"s":"x","n":9007199254740991,"o":{"t":"y"},"v":null}`))
	if err != nil {
		t.Fatal(err)
	}
	inner := o.Object("o")
	if s, y, n, none := o.Text("s"), inner.OptionalText("t"), o.Unsigned("n"), o.OptionalText("absent"); s != "x" || y != "y" || n != 1<<53-1 || none != "" {
		t.Errorf("read %q, %q, %d, %q", s, y, n, none)
	}
	o.Join(inner)
	if err := o.Done(); err == nil {
		t.Error("Done: want an error, as nobody read v")
	}
	if v, ok := o.Optional("v"); !ok || v.Kind != strictjson.Null {
		t.Errorf("Optional = %v, %v", v, ok)
	}
	if _, err := strictjson.ParseObject([]byte(`[]`)); err == nil || err.Error() != "expected an object, found an array" {
		t.Errorf("ParseObject of an array: %v", err)
	}
	if _, err := strictjson.ParseObject([]byte(`{`)); err == nil {
		t.Error("ParseObject of half an object: want an error")
	}
}

func TestNames(t *testing.T) {
	e := strictjson.Errorf("a.b", "expected %d", 1)
	if e.Error() != "a.b: expected 1" || strictjson.Errorf("", "x").Error() != "x" {
		t.Errorf("got %q", e.Error())
	}
	if got := strictjson.Kind(99).String(); got != "no JSON value" {
		t.Errorf("String of a kind that is none: %q", got)
	}
}

// TestRoomIsReused: what one text leaves behind, a text that breaks off in the
// middle included, is not seen by the next one, also not at the same time.
func TestRoomIsReused(t *testing.T) {
	const good = `{"a":[1,{"b":["x","y"]}],"c":{"d":null}}`
	want, err := strictjson.Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if _, err := strictjson.Parse([]byte(`{"z":[9,{"y":["deep",[[[7,`)); err == nil {
					t.Error("a text that ends too early was read")
				}
				got, err := strictjson.Parse([]byte(good))
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("read %+v, %v; expected %+v", got, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
	// What was read stays as it was while others are read.
	if again, err := strictjson.Parse([]byte(good)); err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("now %+v, %v", again, err)
	}
}
