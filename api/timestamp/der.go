package timestamp

import (
	"bytes"
	encoding "encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// maxDepth is the deepest nesting of values that is looked at: a token with
// its certificates needs about half of it.
const maxDepth = 32

// checkDER refuses everything but one value in DER (X.690, sections 10 and 11),
// at every depth that shows its types: two encodings of one value would be two
// tokens that say the same. Values under an IMPLICIT tag do not show their
// type; who reads them checks them.
func checkDER(der []byte) error {
	rest := cryptobyte.String(der)
	if err := checkValue(&rest, 0); err != nil {
		return err
	}
	if !rest.Empty() {
		return fmt.Errorf("%d bytes behind the end", len(rest))
	}
	return nil
}

// checkValue takes one value off rest.
func checkValue(rest *cryptobyte.String, depth int) error {
	if depth > maxDepth {
		return errors.New("nested too deeply")
	}
	var body cryptobyte.String
	var tag asn1.Tag
	// Refuses lengths that are indefinite or longer than needed.
	if !rest.ReadAnyASN1(&body, &tag) {
		return errors.New("not DER: a value's tag or length is not as it must be")
	}
	if tag&0x20 == 0 {
		return checkPrimitive(tag, body)
	}
	if tag < 0x40 && tag != asn1.SEQUENCE && tag != asn1.SET {
		return fmt.Errorf("not DER: a value of type %d is put together from parts", tag&0x1f)
	}
	var last []byte
	for !body.Empty() {
		here := body
		if err := checkValue(&body, depth+1); err != nil {
			return err
		}
		element := here[:len(here)-len(body)]
		if tag == asn1.SET && bytes.Compare(last, element) > 0 {
			return errors.New("not DER: the members of a set are not in order")
		}
		last = element
	}
	return nil
}

// checkPrimitive checks the content of a value that has no parts.
func checkPrimitive(tag asn1.Tag, body []byte) error {
	ok := true
	switch tag { //nolint:exhaustive // the others have one form, or package x509 reads them
	case asn1.BOOLEAN:
		ok = len(body) == 1 && (body[0] == 0 || body[0] == 0xff)
	case asn1.INTEGER, asn1.ENUM:
		ok = minimal(body)
	case asn1.BIT_STRING:
		// The first byte says how many bits of the last one are not used.
		ok = len(body) == 1 && body[0] == 0 ||
			len(body) > 1 && body[0] < 8 && body[len(body)-1]&(1<<body[0]-1) == 0
	case asn1.NULL:
		ok = len(body) == 0
	case asn1.OBJECT_IDENTIFIER:
		ok = len(body) > 0 && body[len(body)-1] < 0x80
		for i, b := range body {
			ok = ok && (b != 0x80 || i > 0 && body[i-1] >= 0x80)
		}
	case asn1.GeneralizedTime:
		_, err := parseTime(string(body))
		ok = err == nil
	case asn1.SEQUENCE & 0x1f, asn1.SET & 0x1f:
		ok = false
	}
	if !ok {
		return fmt.Errorf("not DER: a value of type %d has not its one form", tag)
	}
	return nil
}

// minimal tells whether an integer has no byte more than it needs.
func minimal(body []byte) bool {
	switch {
	case len(body) == 0:
		return false
	case len(body) == 1:
		return true
	}
	return !(body[0] == 0 && body[1] < 0x80 || body[0] == 0xff && body[1] >= 0x80)
}

// parseTime reads a GeneralizedTime.
//
// RFC 3161, section 2.4.2: The syntax is: YYYYMMDDhhmmss[.s...]Z […] The
// encoding MUST terminate with a "Z" […]. The fractional-seconds elements, if
// present, MUST omit all trailing 0's.
func parseTime(s string) (time.Time, error) {
	const layout = "20060102150405"
	whole, ok := strings.CutSuffix(s, "Z")
	if !ok {
		return time.Time{}, errors.New("a time does not end in Z")
	}
	whole, fraction, ok := strings.Cut(whole, ".")
	if ok {
		if fraction == "" || len(fraction) > 9 || fraction[len(fraction)-1] == '0' || strings.Trim(fraction, "0123456789") != "" {
			return time.Time{}, errors.New("the fraction of a time is not 1 to 9 digits that end in none of 0")
		}
	}
	// time.Parse would take a fraction, and a comma before it, unasked.
	if len(whole) != len(layout) {
		return time.Time{}, errors.New("a time is not in whole seconds")
	}
	t, err := time.Parse(layout, whole)
	if err != nil {
		return time.Time{}, errors.New("a time is none of the calendar")
	}
	var nanos time.Duration
	for i := range 9 {
		nanos *= 10
		if i < len(fraction) {
			nanos += time.Duration(fraction[i] - '0')
		}
	}
	return t.Add(nanos), nil
}

// reader takes a value apart, member by member. After the first failure there
// is nothing to be read, and what was wrong stays in err.
type reader struct {
	rest cryptobyte.String
	path string
	err  *error // shared by a reader and those of its members
}

// newReader reads der, which is one SEQUENCE.
func newReader(name string, der []byte) *reader {
	var err error
	r := &reader{rest: cryptobyte.String(der), path: name, err: &err}
	inner := r.member("", asn1.SEQUENCE)
	r.end()
	return inner
}

// failf records that a member is not as expected.
func (r *reader) failf(name, format string, args ...any) {
	r.rest = nil
	if *r.err == nil {
		*r.err = fmt.Errorf("%s: %s", join(r.path, name), fmt.Sprintf(format, args...))
	}
}

func join(path, name string) string {
	switch {
	case name == "":
		return path
	case path == "":
		return name
	}
	return path + "." + name
}

// member takes the next member, which must have the tag, and returns a reader
// of its content.
func (r *reader) member(name string, tag asn1.Tag) *reader {
	inner := &reader{path: join(r.path, name), err: r.err}
	if *r.err == nil && !r.rest.ReadASN1(&inner.rest, tag) {
		r.failf(name, "expected %s", tagName(tag))
	}
	return inner
}

func tagName(tag asn1.Tag) string {
	if tag&0xc0 == 0x80 {
		return fmt.Sprintf("[%d]", tag&0x1f)
	}
	names := map[asn1.Tag]string{
		asn1.BOOLEAN: "a BOOLEAN", asn1.INTEGER: "an INTEGER", asn1.OCTET_STRING: "an OCTET STRING",
		asn1.BIT_STRING: "a BIT STRING", asn1.OBJECT_IDENTIFIER: "an OBJECT IDENTIFIER", asn1.SEQUENCE: "a SEQUENCE",
		asn1.SET: "a SET", asn1.GeneralizedTime: "a GeneralizedTime", asn1.UTF8String: "a UTF8String",
	}
	return names[tag]
}

// has tells whether the next member has the tag.
func (r *reader) has(tag asn1.Tag) bool { return *r.err == nil && r.rest.PeekASN1Tag(tag) }

// more tells whether there is another member.
func (r *reader) more() bool { return *r.err == nil && !r.rest.Empty() }

// end wants no further member.
func (r *reader) end() {
	if r.more() {
		r.failf("", "a member too many")
	}
}

// content takes the next member's content.
func (r *reader) content(name string, tag asn1.Tag) []byte { return r.member(name, tag).rest }

// element takes the next member whole, whatever it is, tag and length included.
func (r *reader) element(name string) []byte {
	var out cryptobyte.String
	var tag asn1.Tag
	if *r.err == nil && !r.rest.ReadAnyASN1Element(&out, &tag) {
		r.failf(name, "missing")
	}
	return out
}

// integer takes an INTEGER of at most size bytes.
func (r *reader) integer(name string, size int) *big.Int {
	return r.taggedInteger(name, asn1.INTEGER, size)
}

// taggedInteger takes an INTEGER under an IMPLICIT tag.
func (r *reader) taggedInteger(name string, tag asn1.Tag, size int) *big.Int {
	body := r.content(name, tag)
	n := new(big.Int)
	switch {
	case *r.err != nil:
	case !minimal(body):
		r.failf(name, "an INTEGER has not its one form")
	case len(body) > size:
		r.failf(name, "an INTEGER of %d bytes, expected at most %d", len(body), size)
	default:
		n.SetBytes(body)
		if body[0] >= 0x80 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(body))*8))
		}
	}
	return n
}

// number takes an INTEGER from least to most.
func (r *reader) number(name string, tag asn1.Tag, least, most int64) int64 {
	n := r.taggedInteger(name, tag, 9)
	if *r.err == nil && (!n.IsInt64() || n.Int64() < least || n.Int64() > most) {
		expected := fmt.Sprintf("%d to %d", least, most)
		if least == most {
			expected = strconv.FormatInt(most, 10)
		}
		r.failf(name, "found %v, expected %s", n, expected)
		return 0
	}
	return n.Int64()
}

// oid takes an OBJECT IDENTIFIER.
func (r *reader) oid(name string) encoding.ObjectIdentifier {
	var id encoding.ObjectIdentifier
	if *r.err == nil && !r.rest.ReadASN1ObjectIdentifier(&id) {
		r.failf(name, "expected an OBJECT IDENTIFIER with numbers below 2^31")
	}
	return id
}

// flag takes an optional BOOLEAN whose default is false, which DER leaves out.
func (r *reader) flag(name string) bool {
	if !r.has(asn1.BOOLEAN) {
		return false
	}
	if body := r.content(name, asn1.BOOLEAN); len(body) != 1 || body[0] != 0xff {
		r.failf(name, "FALSE is written, expected it to be left out")
		return false
	}
	return true
}

// algorithm is an AlgorithmIdentifier.
type algorithm struct {
	id     string // dotted
	params []byte // the whole element; nil if there is none
}

// algorithm takes an AlgorithmIdentifier.
func (r *reader) algorithm(name string) algorithm {
	inner := r.member(name, asn1.SEQUENCE)
	a := algorithm{id: inner.oid("algorithm").String()}
	if inner.more() {
		a.params = inner.element("parameters")
	}
	inner.end()
	return a
}

// plain tells whether an algorithm has no parameters, in either way to write
// that (RFC 5754, section 2: implementations MUST accept both).
func (a algorithm) plain() bool {
	return a.params == nil || bytes.Equal(a.params, []byte{byte(asn1.NULL), 0})
}
