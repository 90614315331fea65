package evidence_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/internal/strictjson"
	"github.com/trialog/trialog/api/internal/testlog"
)

func TestRoundTrip(t *testing.T) {
	w := tell(t)
	never := map[evidence.Kind]bool{evidence.KindUnproven: true, evidence.KindOverdue: true}
	for kind, e := range w.all() {
		for _, claims := range []struct {
			by string
			at time.Time
		}{{"", time.Time{}}, {"the mirror of University U", at(5)}} {
			e.By, e.At = claims.by, claims.at
			raw := encode(t, e)
			got, err := evidence.Parse(raw)
			if err != nil || !reflect.DeepEqual(got, e) {
				t.Errorf("%s: %v\n%+v\n%+v", kind, err, got, e)
				continue
			}
			if again := encode(t, got); !bytes.Equal(again, raw) {
				t.Errorf("%s: written in two ways", kind)
			}
			if f := got.Judge(w.policy); f.By != claims.by || !f.At.Equal(claims.at) || f.Conclusive == never[kind] {
				t.Errorf("%s: %+v", kind, f)
			}
		}
	}
}

// TestParseRejects: every rule of the form, broken once.
func TestParseRejects(t *testing.T) {
	w := tell(t)
	all := w.all()
	all[evidence.KindFork].By, all[evidence.KindFork].At = "somebody", at(5)
	for _, tt := range []struct {
		name, field string
		kind        evidence.Kind
		change      func(map[string]any)
	}{
		{"no format", "format", evidence.KindFork, drop("format")},
		{"another format", "format", evidence.KindFork, set("format", "trialog-evidence@v2")},
		{"no kind", "kind", evidence.KindFork, drop("kind")},
		{"another kind", "kind", evidence.KindFork, set("kind", "Fork")},
		{"unknown member", "note", evidence.KindFork, set("note", "x")},
		{"no notes", "notes", evidence.KindFork, drop("notes")},
		{"notes as text", "notes", evidence.KindFork, set("notes", "x")},
		{"no note", "notes", evidence.KindFork, set("notes", []any{})},
		{"a note as a number", "notes[0]", evidence.KindFork, set("notes", []any{1})},
		{"three notes", "notes", evidence.KindFork, repeat("notes", 3)},
		{"one note to compare", "notes", evidence.KindInconsistent, repeat("notes", 1)},
		{"one note of a witness", "notes", evidence.KindWitnessFork, repeat("notes", 1)},
		{"two notes of a promise", "notes", evidence.KindPromise, repeat("notes", 2)},
		{"what is no note", "notes[1]", evidence.KindFork, func(m map[string]any) { m["notes"].([]any)[1] = "x\n" }},
		{"hashes of a fork", "hashes", evidence.KindFork, set("hashes", []any{hashOf32})},
		{"no hashes", "hashes", evidence.KindInconsistent, drop("hashes")},
		{"hashes, but none", "hashes", evidence.KindUnproven, set("hashes", []any{})},
		{"65 hashes", "hashes", evidence.KindUnproven, func(m map[string]any) {
			m["hashes"] = bytesList(65)
		}},
		{"a hash as a number", "hashes[0]", evidence.KindUnproven, set("hashes", []any{1})},
		{"a hash of 31 bytes", "hashes[0]", evidence.KindUnproven, set("hashes", []any{strings.Repeat("A", 42) + "=="})},
		{"a hash with unused bits", "hashes[0]", evidence.KindUnproven, set("hashes", []any{strings.Repeat("A", 42) + "B="})},
		{"a hash with a line break", "hashes[0]", evidence.KindUnproven, set("hashes", []any{"\n" + hashOf32})},
		{"no promise", "promise", evidence.KindPromise, drop("promise")},
		{"a promise of a fork", "promise", evidence.KindFork, set("promise", "x")},
		{"what is no promise", "promise", evidence.KindOverdue, set("promise", "{}")},
		{"a list for a promise", "promise", evidence.KindOverdue, set("promise", string(w.list(w.lists, 1, nil)))},
		{"no leaf", "leafHash", evidence.KindPromise, drop("leafHash")},
		{"a leaf of an overdue promise", "leafHash", evidence.KindOverdue, set("leafHash", strings.Repeat("01", 32))},
		{"a leaf in capitals", "leafHash", evidence.KindPromise, set("leafHash", strings.Repeat("0A", 32))},
		{"no promises", "promises", evidence.KindPromiseFork, drop("promises")},
		{"one promise of two", "promises", evidence.KindPromiseFork, repeat("promises", 1)},
		{"three promises", "promises", evidence.KindPromiseFork, repeat("promises", 3)},
		{"a list for one of two promises", "promises[1]", evidence.KindPromiseFork, func(m map[string]any) {
			m["promises"].([]any)[1] = string(w.list(w.lists, 1, nil))
		}},
		{"two promises of a fork", "promises", evidence.KindFork, set("promises", []any{"x", "y"})},
		{"a promise beside two", "promise", evidence.KindPromiseFork, set("promise", "x")},
		{"no lists", "lists", evidence.KindLogList, drop("lists")},
		{"one list", "lists", evidence.KindLogList, repeat("lists", 1)},
		{"three lists", "lists", evidence.KindLogList, repeat("lists", 3)},
		{"what is no list", "lists[0]", evidence.KindLogList, set("lists", []any{"{}", "{}"})},
		{"a promise for a list", "lists[0]", evidence.KindLogList, set("lists", []any{string(w.pending(1, nil)), "{}"})},
		{"notes with lists", "notes", evidence.KindLogList, set("notes", []any{})},
		{"nobody", "by", evidence.KindFork, set("by", "")},
		{"a name of 201 bytes", "by", evidence.KindFork, set("by", strings.Repeat("x", 201))},
		{"a name with an escape", "by", evidence.KindFork, set("by", "\x1b[31m")},
		{"in 1970", "atMillis", evidence.KindFork, set("atMillis", 0)},
		{"before 1970", "atMillis", evidence.KindFork, set("atMillis", -1)},
		{"in the year 10000", "atMillis", evidence.KindFork, set("atMillis", 253402300800000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m map[string]any
			if err := json.Unmarshal(encode(t, all[tt.kind]), &m); err != nil {
				t.Fatal(err)
			}
			tt.change(m)
			raw, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			e, err := evidence.Parse(raw)
			var field *strictjson.Error
			if e != nil || !errors.As(err, &field) || field.Field != tt.field {
				t.Errorf("%v, expected the member %q", err, tt.field)
			}
			if f, err := evidence.Verify(raw, w.policy); f != nil || err == nil {
				t.Errorf("judged as %+v", f)
			}
		})
	}
}

// hashOf32 is the base64 of 32 zeros.
const hashOf32 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

func set(name string, value any) func(map[string]any) {
	return func(m map[string]any) { m[name] = value }
}

func drop(name string) func(map[string]any) { return func(m map[string]any) { delete(m, name) } }

// repeat makes an array of n times its first item.
func repeat(name string, n int) func(map[string]any) {
	return func(m map[string]any) {
		first := m[name].([]any)[0]
		list := make([]any, n)
		for i := range list {
			list[i] = first
		}
		m[name] = list
	}
}

func bytesList(n int) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = hashOf32
	}
	return list
}

func TestParseRejectsTexts(t *testing.T) {
	w := tell(t)
	good := encode(t, w.all()[evidence.KindFork])
	for name, raw := range map[string][]byte{
		"nothing":        {},
		"trailing bytes": append(bytes.Clone(good), '{', '}'),
		"no object":      []byte("[]"),
		"member twice":   bytes.Replace(good, []byte(`"kind"`), []byte(`"kind":"fork","kind"`), 1),
		"too large":      append(bytes.Clone(good), bytes.Repeat([]byte{' '}, evidence.MaxSize)...),
	} {
		if e, err := evidence.Parse(raw); e != nil || err == nil {
			t.Errorf("%s: %v", name, e)
		}
	}
	most := append(bytes.Clone(good), bytes.Repeat([]byte{' '}, evidence.MaxSize-len(good))...)
	if _, err := evidence.Parse(most); err != nil {
		t.Errorf("%d bytes: %v", len(most), err)
	}
}

// TestEncodeChecks: what nobody could read is not written.
func TestEncodeChecks(t *testing.T) {
	w := tell(t)
	note := bare(w.honest, 3)
	// A character that the encoder would replace, where the form allows any.
	broken := bytes.Replace(w.pending(1, nil), []byte(`"keyid":"`), []byte("\"keyid\":\"\xff"), 1)
	long := testlog.Must(bare(w.honest, 3).With(many(note)...))
	for name, e := range map[string]*evidence.Evidence{
		"no kind":           {Notes: []*checkpoint.Note{note}},
		"a note is nil":     evidence.NewWitnessFork(note, nil),
		"no UTF-8":          evidence.NewOverdue([]byte("\xff"), note),
		"keyid no UTF-8":    evidence.NewOverdue(broken, note),
		"promises no UTF-8": evidence.NewPromiseFork([]byte("\xff"), broken),
		"lists no UTF-8":    evidence.NewLogList([]byte("\xff"), []byte("\xff")),
		"no pending":        evidence.NewOverdue([]byte("{}"), note),
		"no hashes":         evidence.NewInconsistent(note, note, nil),
		"too long":          {Kind: evidence.KindFork, Notes: []*checkpoint.Note{long, long, long}},
		"leaf of a fork":    {Kind: evidence.KindFork, Notes: []*checkpoint.Note{note}, Leaf: &[32]byte{1}},
		"lists of a fork":   {Kind: evidence.KindFork, Notes: []*checkpoint.Note{note}, Lists: [][]byte{{'x'}}},
		"a name of colour":  {Kind: evidence.KindFork, Notes: []*checkpoint.Note{note}, By: "\x1b"},
		"before 1970":       {Kind: evidence.KindFork, Notes: []*checkpoint.Note{note}, At: time.Unix(-1, 0)},
	} {
		if raw, err := e.Encode(); raw != nil || err == nil {
			t.Errorf("%s: written as %.80s", name, raw)
		}
	}
}

// many are signature lines of keys that nobody knows.
func many(n *checkpoint.Note) []checkpoint.Signature {
	list := make([]checkpoint.Signature, 90)
	for i := range list {
		list[i] = checkpoint.Signature{Name: strings.Repeat("x", 90), KeyID: uint32(i), Bytes: make([]byte, 4000)}
	}
	return list
}

// FuzzParse: what is read is written in one form that reads the same, and is
// judged without a panic.
func FuzzParse(f *testing.F) {
	w := tell(f)
	for _, e := range w.all() {
		for i, n := range e.Notes {
			// Short signatures only: the fuzzer looks at every byte.
			short := slices.DeleteFunc(n.Signatures(), func(s checkpoint.Signature) bool { return len(s.Bytes) > 100 })
			e.Notes[i] = testlog.Must(checkpoint.NewNote(n.Text(), short...))
		}
		f.Add(encode(f, e))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := evidence.Parse(raw)
		if err != nil {
			return
		}
		once, err := e.Encode()
		if err != nil {
			t.Fatalf("Encode refuses what Parse accepts: %v", err)
		}
		again, err := evidence.Parse(once)
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("read as %+v, then as %+v, %v", e, again, err)
		}
		if found := e.Judge(w.policy); found.Conclusive && len(found.Against) == 0 || len(found.Sentences) == 0 {
			t.Fatalf("found %+v", found)
		}
	})
}
