package timestamp

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

// TestCheckDER: one encoding of each thing.
func TestCheckDER(t *testing.T) {
	for _, c := range []struct {
		name, der, words string
	}{
		{"boolean", "0101ff", ""},
		{"boolean false", "010100", ""},
		{"boolean of another byte", "010101", "type 1"},
		{"boolean of two bytes", "01020000", "type 1"},
		{"integer", "020100", ""},
		{"integer with its sign", "02020080", ""},
		{"negative integer", "0202ff7f", ""},
		{"integer with a zero too many", "0202007f", "type 2"},
		{"negative integer with a byte too many", "0202ff80", "type 2"},
		{"empty integer", "0200", "type 2"},
		{"enumerated with a zero too many", "0a020001", "type 10"},
		{"bits", "03020780", ""},
		{"no bits", "030100", ""},
		{"bits whose rest is not zero", "03020781", "type 3"},
		{"no bits, of which some are not used", "030101", "type 3"},
		{"eight bits not used", "03020800", "type 3"},
		{"empty bits", "0300", "type 3"},
		{"octets", "040100", ""},
		{"octets from parts", "2403040100", "put together"},
		{"null", "0500", ""},
		{"null with content", "050100", "type 5"},
		{"identifier", "06032a8648", ""},
		{"identifier with a leading zero", "06032a8001", "type 6"},
		{"identifier that begins with a leading zero", "0602802a", "type 6"},
		{"identifier with 80 inside a number", "06042a818001", ""},
		{"identifier that does not end", "06022a86", "type 6"},
		{"empty identifier", "0600", "type 6"},
		{"time", "180f32303236303630313132303030305a", ""},
		{"time that is none", "180f32303236303630313132303030305b", "type 24"},
		{"sequence", "3003020100", ""},
		{"sequence without parts", "1000", "type 16"},
		{"set in order", "3106020100020101", ""},
		{"set with one member twice", "3106020101020101", ""},
		{"set out of order", "3106020101020100", "not in order"},
		{"set without parts", "1100", "type 17"},
		{"context tag", "800100", ""},
		{"context tag with parts", "a003020100", ""},
		{"context tag with parts that are wrong", "a0040202007f", "type 2"},
		{"nested, wrong inside", "300630040202007f", "type 2"},
		{"length longer than needed", "04810100", "tag or length"},
		{"length with a zero too many", "3082000302010000", "tag or length"},
		{"indefinite length", "30800201000000", "tag or length"},
		{"tag of several bytes", "1f1f0100", "tag or length"},
		{"shorter than its length", "040200", "tag or length"},
		{"part longer than the whole", "3003020200", "tag or length"},
		{"nothing", "", "tag or length"},
		{"bytes behind the end", "05000500", "2 bytes behind"},
	} {
		der, err := hex.DecodeString(c.der)
		if err != nil {
			t.Fatal(err)
		}
		err = checkDER(der)
		if (err == nil) != (c.words == "") || err != nil && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.words)
		}
	}
}

// TestDepth: a stranger's nesting is bounded.
func TestDepth(t *testing.T) {
	nested := func(n int) []byte {
		der := []byte{5, 0}
		for range n {
			der = slices.Concat([]byte{0x30, byte(len(der))}, der)
		}
		return der
	}
	if err := checkDER(nested(maxDepth)); err != nil {
		t.Errorf("%d deep: %v", maxDepth, err)
	}
	if err := checkDER(nested(maxDepth + 1)); err == nil || !strings.Contains(err.Error(), "too deeply") {
		t.Errorf("%d deep: %v", maxDepth+1, err)
	}
	long := bytes.Repeat([]byte{0xa0, 0x80}, MaxToken/2)
	if err := checkDER(long); err == nil {
		t.Error("indefinite lengths without end are read")
	}
}

// TestReader: what is left out, or too much, is said with its place.
func TestReader(t *testing.T) {
	der, err := hex.DecodeString("300b0201050202010030020500")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		read  func(r *reader)
		words string
	}{
		{func(r *reader) { r.number("a", 2, 5, 5); r.number("b", 2, 256, 256); r.element("c"); r.end() }, ""},
		{func(r *reader) { r.number("a", 2, 6, 7) }, "top.a: found 5, expected 6 to 7"},
		{func(r *reader) { r.integer("a", 1); r.integer("b", 1) }, "top.b: an INTEGER of 2 bytes, expected at most 1"},
		{func(r *reader) { r.oid("a") }, "top.a: expected an OBJECT IDENTIFIER"},
		{func(r *reader) { r.member("a", tag1c) }, "top.a: expected [1]"},
		{func(r *reader) { r.element("a"); r.end() }, "top: a member too many"},
		{func(r *reader) { r.element("a"); r.element("b"); r.element("c"); r.element("d") }, "top.d: missing"},
		{func(r *reader) { r.element("a"); r.element("b"); r.member("c", 0x30).oid("d") }, "top.c.d: expected an OBJECT IDENTIFIER"},
		{func(r *reader) { r.oid("a"); r.failf("b", "later") }, "top.a: "},
	} {
		r := newReader("top", der)
		c.read(r)
		got := ""
		if *r.err != nil {
			got = (*r.err).Error()
		}
		if (got == "") != (c.words == "") || !strings.Contains(got, c.words) {
			t.Errorf("error %q, want %q", got, c.words)
		}
	}
}
