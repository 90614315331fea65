package strictjson_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"testing"

	"github.com/trialog/trialog/api/internal/strictjson"
)

// FuzzParse holds that what Parse accepts is JSON to encoding/json too, and
// means the same.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-2,true,null,"x\n\u00e9\ud83d\ude00"],"b":{}}`, `[]`, ` "s" `, `9007199254740991`, `{"a":1,"a":2}`,
		`"\ud800"`, "\"\xff\"", `1e5`, `[[[[]]]]`, `{"":0,"\u0000":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := strictjson.Parse(data)
		// With white space that is no space, strings are read in the other way.
		if other, err2 := strictjson.Parse(append(bytes.Clone(data), '\n')); (err == nil) != (err2 == nil) || !reflect.DeepEqual(v, other) {
			t.Fatalf("Parse gives %+v, %v, and with a line feed behind it %+v, %v", v, err, other, err2)
		}
		if err != nil {
			return
		}
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil || !json.Valid(data) {
			t.Fatalf("Parse accepts what encoding/json refuses: %v", err)
		}
		if !same(v, want) {
			t.Fatalf("Parse gives %+v, encoding/json gives %+v", v, want)
		}
	})
}

// same compares with a value of encoding/json.
func same(v strictjson.Value, want any) bool {
	switch w := want.(type) {
	case nil:
		return v.Kind == strictjson.Null
	case bool:
		return v.Kind == strictjson.Bool && v.Truth == w
	case json.Number:
		return v.Kind == strictjson.Integer && strconv.FormatInt(v.Number, 10) == w.String()
	case string:
		return v.Kind == strictjson.String && v.Text == w
	case []any:
		if v.Kind != strictjson.Array || len(v.Items) != len(w) {
			return false
		}
		for i := range w {
			if !same(v.Items[i], w[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		if v.Kind != strictjson.ObjectKind || len(v.Members) != len(w) {
			return false
		}
		for _, m := range v.Members {
			if inner, ok := w[m.Name]; !ok || !same(m.Value, inner) {
				return false
			}
		}
		return true
	}
	return false
}
