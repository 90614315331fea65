package receipt_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/strictjson"
	"github.com/trialog/trialog/api/receipt"
)

// same compares two receipts by what they say.
func same(a, b *receipt.Receipt) bool {
	flat := func(r *receipt.Receipt) []any {
		list := []any{string(r.Proof.Encode()), string(r.Entry), string(r.Beacon), fmt.Sprintf("%x", r.Tokens)}
		for _, e := range r.Enrolments {
			list = append(list, string(e.Entry), string(e.Proof.Encode()))
		}
		if r.Record != nil {
			list = append(list, fmt.Sprintf("%x %d %x", r.Record.Data, r.Record.Index, r.Record.Path))
		}
		return list
	}
	return reflect.DeepEqual(flat(a), flat(b))
}

func TestReceiptRoundTrip(t *testing.T) {
	most := full(t)
	most.Enrolments = slices.Repeat(most.Enrolments[:1], 8)
	most.Tokens = slices.Repeat(most.Tokens[:1], 16)
	most.Record.Path = hashes(63)
	only := full(t)
	only.Record.Index, only.Record.Path = 0, nil
	for name, r := range map[string]*receipt.Receipt{"full": full(t), "bare": bare(t), "most": most, "batch of one": only} {
		text := encode(t, r)
		got, err := receipt.Parse([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !same(got, r) {
			t.Errorf("%s: Parse = %+v", name, got)
		}
		if again := encode(t, got); again != text {
			t.Errorf("%s: Encode writes %s, then %s", name, text, again)
		}
	}
	got, err := receipt.Parse([]byte(encode(t, bare(t))))
	if err != nil || got.Beacon != nil || got.Enrolments != nil || got.Tokens != nil || got.Record != nil {
		t.Errorf("bare: %+v, %v; want the optional members absent", got, err)
	}
}

func TestReceiptRejects(t *testing.T) {
	text := encode(t, full(t))
	entry := `"entry": "` + b64([]byte("entry\x00\xff")) + `"`
	record := text[strings.Index(text, `"record"`) : len(text)-3]
	hash := b64(hashes(1)[0][:])
	const base = "standard base64"
	list := func(name, item string, n int) (old, replacement string) {
		start := strings.Index(text, `"`+name+`"`)
		end := start + strings.Index(text[start:], "\n ]") + 3
		return text[start:end], `"` + name + `": [` + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + `]`
	}
	tokens, noTokens := list("tokens", "", 0)
	_, manyTokens := list("tokens", `"AAAA"`, 17)
	enrolments, noEnrolments := list("enrolments", "", 0)
	_, manyEnrolments := list("enrolments", "{}", 33)
	for name, tt := range map[string]struct{ old, replacement, field, words string }{
		"no format":                {`"format": "trialog-receipt@v1",`, ``, "format", "missing"},
		"other format":             {`receipt@v1`, `receipt@v2`, "format", "trialog-receipt@v1"},
		"format's case":            {`"format"`, `"Format"`, "format", `found "Format"`},
		"no proof":                 {`"proof": "c2sp`, `"prof": "c2sp`, "proof", "missing"},
		"bad proof":                {`"proof": "c2sp`, `"proof": "C2sp`, "proof", "tlog-proof: expected the first line"},
		"bad note":                 {`\n109482\n`, `\n0109482\n`, "proof", "tlog-proof:"},
		"proof as an object":       {`"proof": "`, `"proof": {}, "x": "`, "proof", "found an object"},
		"no entry":                 {entry + ",", ``, "entry", "missing"},
		"empty entry":              {entry, `"entry": ""`, "entry", "not empty"},
		"entry is null":            {entry, `"entry": null`, "entry", "found null"},
		"entry without padding":    {entry, `"entry": "AA"`, "entry", base},
		"entry with trailing bit":  {entry, `"entry": "AB=="`, "entry", base},
		"entry with a newline":     {entry, `"entry": "AA\nAA"`, "entry", base},
		"entry URL-safe":           {entry, `"entry": "__-_"`, "entry", base},
		"empty beacon":             {`"beacon": "`, `"beacon": "", "x": "`, "beacon", "leave it out"},
		"beacon is null":           {`"beacon": "`, `"beacon": null, "x": "`, "beacon", "found null"},
		"no enrolments":            {enrolments, noEnrolments, "enrolments", "1 to 32 items"},
		"33 enrolments":            {enrolments, manyEnrolments, "enrolments", "1 to 32 items"},
		"enrolments are an object": {enrolments, `"enrolments": {}`, "enrolments", "1 to 32 items"},
		"enrolment is a string":    {enrolments, `"enrolments": ["x"]`, "enrolments[0]", "expected an object"},
		"enrolment without entry":  {enrolments, `"enrolments": [{"proof": "x"}]`, "enrolments[0].entry", "missing"},
		"enrolment without proof":  {enrolments, `"enrolments": [{"entry": "AAAA"}]`, "enrolments[0].proof", "missing"},
		"enrolment's bad proof":    {enrolments, `"enrolments": [{"entry": "AAAA", "proof": ""}]`, "enrolments[0].proof", "tlog-proof"},
		"enrolment's extra":        {`"entry": "Zmlyc3Q="`, `"entry": "Zmlyc3Q=", "key": ""`, "enrolments[0].key", "unknown member"},
		"no tokens":                {tokens, noTokens, "tokens", "1 to 16 items"},
		"17 tokens":                {tokens, manyTokens, "tokens", "1 to 16 items"},
		"token is a number":        {tokens, `"tokens": ["AAAA", 1]`, "tokens[1]", "expected a string"},
		"token is empty":           {tokens, `"tokens": [""]`, "tokens[0]", "not empty"},
		"record is null":           {record, `"record": null`, "record", "expected an object"},
		"record without data":      {record, `"record": {"index": 0, "path": []}`, "record.data", "missing"},
		"record without index":     {record, `"record": {"data": "AAAA", "path": []}`, "record.index", "missing"},
		"record below 0":           {record, `"record": {"data": "AAAA", "index": -1, "path": []}`, "record.index", "at least 0"},
		"record at 2^53":           {record, `"record": {"data": "AAAA", "index": 9007199254740992, "path": []}`, "record.index", "2^53-1"},
		"record without path":      {record, `"record": {"data": "AAAA", "index": 0}`, "record.path", "missing"},
		"record's path is null":    {record, `"record": {"data": "AAAA", "index": 0, "path": null}`, "record.path", "found null"},
		"64 hashes": {
			record, `"record": {"data": "AAAA", "index": 0, "path": [` + strings.Repeat(`"`+hash+`",`, 63) + `"` + hash + `"]}`,
			"record.path", "64 hashes, expected at most 63",
		},
		"short hash":       {record, `"record": {"data": "AAAA", "index": 0, "path": ["` + hash + `", "AAAA"]}`, "record.path[1]", "32 bytes"},
		"hash is a number": {record, `"record": {"data": "AAAA", "index": 0, "path": [1]}`, "record.path[0]", "32 bytes"},
		"record's extra":   {record, `"record": {"data": "AAAA", "index": 0, "path": [], "nonce": ""}`, "record.nonce", "unknown member"},
		"an opening":       {`{`, `{"opening": {},`, "opening", "unknown member"},
		"entry twice":      {`{`, `{"entry": "AAAA",`, "entry", "duplicate"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := receipt.Parse([]byte(with(t, text, tt.old, tt.replacement)))
			var e *strictjson.Error
			if !errors.As(err, &e) || r != nil {
				t.Fatalf("got %v, error %v; want an *Error of %q", r, err, tt.field)
			}
			if e.Field != tt.field || !strings.Contains(e.Reason, tt.words) {
				t.Errorf("got field %q, reason %q; want field %q, a reason with %q", e.Field, e.Reason, tt.field, tt.words)
			}
		})
	}
	for name, bad := range map[string]string{
		"empty": "", "an array": "[]", "two": text + text, "invalid UTF-8": text + "\xff",
		"too long": text + strings.Repeat(" ", receipt.MaxSize-len(text)+1),
	} {
		if _, err := receipt.Parse([]byte(bad)); err == nil || !strings.HasPrefix(err.Error(), "receipt: ") {
			t.Errorf("%s: %v, want an error", name, err)
		}
	}
	if _, err := receipt.Parse([]byte(text + strings.Repeat("\n", receipt.MaxSize-len(text)))); err != nil {
		t.Errorf("a receipt of the greatest length: %v", err)
	}
}

// TestEncodeRejects holds that nothing is written that cannot be read.
func TestEncodeRejects(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(r *receipt.Receipt)
		words  string
	}{
		"no proof":           {func(r *receipt.Receipt) { r.Proof = nil }, "no proof"},
		"no note":            {func(r *receipt.Receipt) { r.Proof.Note = nil }, "no proof"},
		"enrolment no proof": {func(r *receipt.Receipt) { r.Enrolments[1].Proof = nil }, "enrolments[1]: there is no proof"},
		"no entry":           {func(r *receipt.Receipt) { r.Entry = nil }, "entry"},
		"beacon in UTF-16":   {func(r *receipt.Receipt) { r.Beacon = []byte("\xff\xfel\x00") }, "not valid UTF-8"},
		"33 enrolments":      {func(r *receipt.Receipt) { r.Enrolments = slices.Repeat(r.Enrolments[:1], 33) }, "1 to 32"},
		"17 tokens":          {func(r *receipt.Receipt) { r.Tokens = make([][]byte, 17) }, "1 to 16"},
		"empty token":        {func(r *receipt.Receipt) { r.Tokens[0] = nil }, "tokens[0]"},
		"64 hashes":          {func(r *receipt.Receipt) { r.Proof.Path = hashes(64) }, "at most 63"},
		"index of 2^63":      {func(r *receipt.Receipt) { r.Proof.Index = 1 << 63 }, "below 2^63"},
		"record at 2^53":     {func(r *receipt.Receipt) { r.Record.Index = 1 << 53 }, "record.index"},
		"too long":           {func(r *receipt.Receipt) { r.Record.Data = make([]byte, receipt.MaxSize) }, "at most 4194304"},
	} {
		r := full(t)
		tt.change(r)
		if raw, err := r.Encode(); err == nil || !strings.Contains(err.Error(), tt.words) || raw != nil {
			t.Errorf("%s: %d bytes, %v; want an error with %q", name, len(raw), err, tt.words)
		}
	}
}

// FuzzParse holds that what Parse accepts, Encode writes so that it means the
// same.
func FuzzParse(f *testing.F) {
	// Short signatures, or the fuzzer changes nothing but these.
	small := full(f)
	note := noteBy(f, 9, checkpoint.AlgEd25519)
	small.Proof.Note, small.Beacon, small.Enrolments[0].Proof.Note = note, note.Bytes(), note
	small.Enrolments = small.Enrolments[:1]
	f.Add([]byte(encode(f, small)))
	f.Add([]byte(encode(f, &receipt.Receipt{Proof: &receipt.Proof{Note: note}, Entry: []byte{1}})))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := receipt.Parse(raw)
		if err != nil {
			return
		}
		text, err := r.Encode()
		if err != nil {
			if len(raw) > receipt.MaxSize/2 { // indented, it may be too long
				return
			}
			t.Fatal(err)
		}
		again, err := receipt.Parse(text)
		if err != nil || !same(again, r) {
			t.Fatalf("Parse of what Encode wrote: %+v, %v", again, err)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(twice, text) {
			t.Fatalf("Encode writes %s, then %s, %v", text, twice, err)
		}
	})
}
