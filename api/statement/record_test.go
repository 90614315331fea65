package statement_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/trialog/trialog/api/statement"
)

// minimalItem is the smallest item of a kind that may stand in a batch.
func minimalItem(tb testing.TB, rule statement.Rule) *statement.Item {
	tb.Helper()
	it := &statement.Item{
		Context:    statement.Context{Organisation: "acme", Kind: rule.Kind},
		Attributes: members(tb, rule, false, false),
	}
	if rule.Scope == statement.InTrial {
		it.Trial = "NCT-1"
	}
	if rule.Content == statement.SealedDocument {
		it.Document, it.MediaType = digest("commitment"), "application/pdf"
	}
	if _, required := rule.HasSealed(); required {
		it.Sealed = digest("sealed")
	}
	return it
}

func rule(tb testing.TB, kind statement.Kind) statement.Rule {
	tb.Helper()
	r, ok := statement.RuleOf(kind)
	if !ok {
		tb.Fatalf("no kind %q", kind)
	}
	return r
}

func TestEveryItem(t *testing.T) {
	for _, r := range statement.Kinds() {
		if r.Placement == statement.Alone {
			it := minimalItem(t, r)
			_, err := statement.DecodeItem(it.Encode())
			checkField(t, err, "kind", "may stand in a batch")
			continue
		}
		it := minimalItem(t, r)
		full := minimalItem(t, r)
		full.Attributes = members(t, r, false, true)
		if r.Content == statement.OptionalDocument {
			full.Public, full.MediaType = digest("document"), "text/plain"
		}
		for _, it := range []*statement.Item{it, full} {
			got, err := statement.DecodeItem(it.Encode())
			if diff := cmp.Diff(it, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Errorf("%q: %v (-want +got):\n%s", r.Kind, err, diff)
			}
			rec, err := statement.NewRecord(string(r.Kind), it.Encode(), bytes.NewReader(make([]byte, 32)))
			if err != nil || rec.Type != string(r.Kind) {
				t.Errorf("%q: NewRecord: %v", r.Kind, err)
			}
		}
	}
}

func TestItemRejects(t *testing.T) {
	consent := string(minimalItem(t, rule(t, statement.KindConsent)).Encode())
	product := string(minimalItem(t, rule(t, statement.KindProductEvent)).Encode())
	token := string(minimalItem(t, rule(t, statement.KindToken)).Encode())
	commitment, sealed := digest("commitment").String(), digest("sealed").String()
	commit := `{"trialogCommitV1":"` + sealed + `"}`
	document := `"mediaType":"application/pdf","document":{"trialogCommitV1":"` + commitment + `"},`
	for name, tt := range map[string]struct{ text, old, replacement, field, words string }{
		"no organisation":          {consent, `"organisation":"acme",`, ``, "organisation", "missing"},
		"empty organisation":       {consent, `"acme"`, `""`, "organisation", "1 to 64"},
		"bad organisation":         {consent, `"acme"`, `"a c"`, "organisation", "1 to 64"},
		"no trial":                 {consent, `"trial":"NCT-1",`, ``, "trial", "1 to 64"},
		"bad trial":                {consent, `"NCT-1"`, `"NCT 1"`, "trial", "1 to 64"},
		"trial of a log's kind":    {token, `"kind"`, `"trial":"T","kind"`, "trial", "names no trial"},
		"no kind":                  {consent, `"kind":"consent",`, ``, "kind", "missing"},
		"unknown kind":             {consent, `"kind":"consent"`, `"kind":"poem"`, "kind", "may stand in a batch"},
		"a kind that stands alone": {consent, `"kind":"consent"`, `"kind":"protocol"`, "kind", "may stand in a batch"},
		"no document":              {consent, document, ``, "document", "must be sealed"},
		"document, no media type":  {consent, `"mediaType":"application/pdf",`, ``, "document", "together with mediaType"},
		"media type, no document":  {product, `"attributes"`, `"mediaType":"text/plain","attributes"`, "document", "together with mediaType"},
		"plain digest":             {consent, `"document":{"trialogCommitV1"`, `"document":{"sha256"`, "document", "must be sealed"},
		"both digests":             {consent, `"document":{"trialogCommitV1"`, `"document":{"sha256":"` + commitment + `","trialogCommitV1"`, "document", "exactly one digest"},
		"empty document":           {product, `"attributes"`, `"document":{},"attributes"`, "document", "exactly one digest"},
		"document is text":         {consent, `{"trialogCommitV1":"` + commitment + `"}`, `"x"`, "document", "expected exactly one digest"},
		"unknown algorithm":        {consent, `"document":{"trialogCommitV1"`, `"document":{"md5"`, "document.md5", "unknown member"},
		"zero digest":              {consent, commitment, zeros, "document.trialogCommitV1", "not zero"},
		"bad media type":           {consent, `application/pdf`, `pdf`, "mediaType", "expected a media type"},
		"document of none":         {token, `"attributes"`, `"mediaType":"text/plain","document":{"sha256":"` + commitment + `"},"attributes"`, "document", "has no document"},
		"no sealed attributes":     {consent, `,"sealedAttributes":` + commit, ``, "sealedAttributes", "missing, a \"consent\""},
		"zero sealed attributes":   {consent, sealed, zeros, "sealedAttributes.trialogCommitV1", "not zero"},
		"bare sealed attributes":   {consent, commit, `"` + sealed + `"`, "sealedAttributes", "expected an object, found a string"},
		"sealed is null":           {consent, commit, `null`, "sealedAttributes", "expected an object, found null"},
		"sealed is empty":          {consent, commit, `{}`, "sealedAttributes.trialogCommitV1", "missing"},
		"sealed by plain digest":   {consent, commit, `{"sha256":"` + sealed + `"}`, "sealedAttributes.trialogCommitV1", "missing"},
		"sealed by two digests":    {consent, commit, `{"sha256":"` + sealed + `","trialogCommitV1":"` + sealed + `"}`, "sealedAttributes.sha256", "unknown member"},
		"sealed is short":          {consent, sealed, sealed[1:], "sealedAttributes.trialogCommitV1", "64 lower-case"},
		"sealed of none":           {token, `"attributes"`, `"sealedAttributes":` + commit + `,"attributes"`, "sealedAttributes", "has no sealed"},
		"sealed in clear":          {consent, `"sealedAttributes"`, `"attributes":{"subject":"S-1"},"sealedAttributes"`, "attributes.subject", "must be sealed"},
		"unknown attribute":        {product, `"event"`, `"evnt"`, "attributes.evnt", "no such attribute that this version knows"},
		"missing attribute":        {product, `"event":"token-1"`, `"lot":"x"`, "attributes.event", "missing"},
		"attributes are text":      {consent, `"sealedAttributes"`, `"attributes":"x","sealedAttributes"`, "attributes", "an object with at least one member"},
		"empty attributes":         {consent, `"sealedAttributes"`, `"attributes":{},"sealedAttributes"`, "attributes", "an object with at least one member"},
		"attributes in a list":     {consent, `"sealedAttributes"`, `"attributes":[],"sealedAttributes"`, "attributes", "an object with at least one member"},
		"signers":                  {consent, `"sealedAttributes"`, `"signers":[],"sealedAttributes"`, "signers", "unknown member"},
		"duplicate":                {consent, `"sealedAttributes"`, `"kind":"consent","sealedAttributes"`, "kind", "duplicate"},
	} {
		t.Run(name, func(t *testing.T) {
			it, err := statement.DecodeItem([]byte(with(t, tt.text, tt.old, tt.replacement)))
			checkField(t, err, tt.field, tt.words)
			if it != nil {
				t.Error("DecodeItem returned an item beside its error")
			}
		})
	}
}

func record(tb testing.TB, recordType, body string) *statement.Record {
	tb.Helper()
	salt := digest(body)
	r, err := statement.NewRecord(recordType, []byte(body), bytes.NewReader(salt[:]))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestRecordRoundTrip(t *testing.T) {
	salt := digest("x")
	want := "\x01" + raw(salt) + "\x03a.b" + "x"
	r := record(t, "a.b", "x")
	if got := string(r.Encode()); got != want {
		t.Errorf("Encode = %q, want %q", got, want)
	}
	longest := record(t, strings.Repeat("t", 64), strings.Repeat("x", statement.MaxRecord-34-64))
	for _, r := range []*statement.Record{r, longest, record(t, "protocol", "any bytes: the kind stands alone")} {
		got, err := statement.ParseRecord(r.Encode())
		if diff := cmp.Diff(r, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
}

func TestRecordRejects(t *testing.T) {
	salt := raw(digest("salt"))
	item := minimalItem(t, rule(t, statement.KindConsent)).Encode()
	for name, tt := range map[string]struct{ raw, field, words string }{
		"empty":             {"", "record", "expected version 1"},
		"version 0":         {"\x00" + salt + "\x01tx", "record", "expected version 1"},
		"version 2":         {"\x02" + salt + "\x01tx", "record", "expected version 1"},
		"half a salt":       {"\x01" + salt[:16], "record", "expected version 1"},
		"no type":           {"\x01" + salt, "record", "expected version 1"},
		"empty type":        {"\x01" + salt + "\x00x", "record.type", "1 to 64"},
		"type cut off":      {"\x01" + salt + "\x05type", "record", "ends within its type"},
		"no body":           {"\x01" + salt + "\x04type", "record", "has no body"},
		"type with a space": {"\x01" + salt + "\x04ty ex", "record.type", "1 to 64"},
		"type of 65":        {"\x01" + salt + "\x41" + strings.Repeat("t", 65) + "x", "record.type", "1 to 64"},
		"type of 255":       {"\x01" + salt + "\xff" + strings.Repeat("t", 255) + "x", "record.type", "1 to 64"},
		"too long":          {"\x01" + salt + "\x01t" + strings.Repeat("x", statement.MaxRecord-34), "record", "expected at most 1048576"},
		"consent in clear":  {"\x01" + salt + "\x07consentJo Doe", "", "expected a JSON value"},
		"item of another kind": {
			"\x01" + salt + "\x0dsubject-event" + string(item), "kind",
			`expected "subject-event", the type of the record`,
		},
		"bad item": {"\x01" + salt + "\x07consent{}", "organisation", "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := statement.ParseRecord([]byte(tt.raw))
			checkField(t, err, tt.field, tt.words)
		})
	}
	zero := bytes.NewReader(make([]byte, 1<<10))
	// The length of a type is one byte: 257 would be written as 1.
	_, err := statement.NewRecord(strings.Repeat("t", 257), []byte("x"), zero)
	checkField(t, err, "record.type", "1 to 64")
	_, err = statement.NewRecord("t", nil, zero)
	checkField(t, err, "record", "has no body")
	_, err = statement.NewRecord("consent", []byte("{}"), zero)
	checkField(t, err, "organisation", "missing")
	if _, err := statement.NewRecord("t", []byte("x"), bytes.NewReader(nil)); !errors.Is(err, io.EOF) {
		t.Errorf("NewRecord without randomness: %v", err)
	}
}

// batch returns n encoded records.
func batch(tb testing.TB, n int) [][]byte {
	tb.Helper()
	records := make([][]byte, n)
	for i := range records {
		records[i] = record(tb, "t", fmt.Sprint("body ", i)).Encode()
	}
	return records
}

// tree computes a root and a path with golang.org/x/mod/sumdb/tlog.
func tree(tb testing.TB, records [][]byte) (tlog.Hash, tlog.HashReaderFunc) {
	tb.Helper()
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	for i, r := range records {
		hashes, err := tlog.StoredHashes(int64(i), r, reader)
		if err != nil {
			tb.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
	root, err := tlog.TreeHash(int64(len(records)), reader)
	if err != nil {
		tb.Fatal(err)
	}
	return root, reader
}

// TestBatchTree holds root and paths against two other implementations of
// RFC 6962 section 2.1.
func TestBatchTree(t *testing.T) {
	records := batch(t, 66)
	for n := 1; n <= len(records); n++ {
		want, reader := tree(t, records[:n])
		root, err := statement.BatchRoot(records[:n])
		if err != nil || tlog.Hash(root) != want {
			t.Fatalf("%d records: root %s, %v; sumdb says %x", n, root, err, want)
		}
		for i := range n {
			path, err := statement.BatchPath(records[:n], i)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := tlog.ProveRecord(int64(n), int64(i), reader)
			if err != nil || len(theirs) != len(path) {
				t.Fatalf("record %d of %d: path of %d, sumdb's has %d, %v", i, n, len(path), len(theirs), err)
			}
			for j := range path {
				if !bytes.Equal(path[j], theirs[j][:]) {
					t.Errorf("record %d of %d: hash %d differs from sumdb's", i, n, j)
				}
			}
			leaf := rfc6962.DefaultHasher.HashLeaf(records[i])
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(i), uint64(n), leaf, path, root[:]); err != nil {
				t.Errorf("record %d of %d: %v", i, n, err)
			}
		}
	}
}

// TestInnerNodeIsNoRecord presents the hashes under an inner node as a record:
// with a path that is one shorter, and in place of its whole subtree.
func TestInnerNodeIsNoRecord(t *testing.T) {
	records := batch(t, 4)
	root, err := statement.BatchRoot(records)
	if err != nil {
		t.Fatal(err)
	}
	h := rfc6962.DefaultHasher
	node := func(i int) []byte { return append(h.HashLeaf(records[i]), h.HashLeaf(records[i+1])...) }
	left, right := node(0), node(2)
	if got := h.HashChildren(h.HashChildren(left[:32], left[32:]), h.HashChildren(right[:32], right[32:])); !bytes.Equal(got, root[:]) {
		t.Fatal("these are not the inner nodes, the test is void")
	}
	sibling := h.HashChildren(right[:32], right[32:])
	for name, data := range map[string][]byte{"children": left, "preimage": append([]byte{1}, left...)} {
		for size := uint64(1); size <= 4; size++ {
			for _, path := range [][][]byte{nil, {sibling}, {sibling, sibling}} {
				if err := proof.VerifyInclusion(h, 0, size, h.HashLeaf(data), path, root[:]); err == nil {
					t.Errorf("%s of an inner node verifies as record 0 of %d", name, size)
				}
			}
		}
		two, err := statement.BatchRoot([][]byte{data, append([]byte{1}, right...)})
		if err != nil || two == root {
			t.Errorf("%s of inner nodes as two records: root %s, %v", name, two, err)
		}
	}
	// The children themselves are no record, but for one in 256 by their first
	// byte, and of these only by the type's length and letters.
	if _, err := statement.ParseRecord(append([]byte{0xfe}, left[1:]...)); err == nil {
		t.Error("the children of an inner node parse as a record")
	}
}

func TestBatchLimits(t *testing.T) {
	_, err := statement.BatchRoot(nil)
	checkField(t, err, "records", "expected 1 to 16777216 records, found 0")
	_, err = statement.BatchRoot(make([][]byte, statement.MaxRecords+1))
	checkField(t, err, "records", "found 16777217")
	records := batch(t, 3)
	for _, i := range []int{-1, 3} {
		_, err = statement.BatchPath(records, i)
		checkField(t, err, "index", fmt.Sprintf("expected 0 to 2, found %d", i))
	}
	one, err := statement.BatchRoot(records[:1])
	if want := sha256.Sum256(append([]byte{0}, records[0]...)); err != nil || one != want {
		t.Errorf("root of one record = %s, %v; want its leaf hash", one, err)
	}
	swapped := slices.Clone(records)
	swapped[0], swapped[1] = swapped[1], swapped[0]
	a, _ := statement.BatchRoot(records)
	if b, _ := statement.BatchRoot(swapped); a == b {
		t.Error("the order of the records does not change the root")
	}
}
