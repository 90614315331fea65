package strictjson

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// Parse reads one JSON text.
func Parse(data []byte) (Value, error) {
	if !utf8.Valid(data) {
		return Value{}, &Error{Reason: "the text is not valid UTF-8"}
	}
	room, _ := rooms.Get().(*room)
	p := parser{text: string(data), plain: isPlain(data), room: *room}
	p.finished.left = bytes.Count(data, []byte{':'})
	defer room.back(&p)
	p.space()
	v, err := p.value()
	if err != nil {
		return Value{}, err
	}
	p.space()
	if p.at != len(p.text) {
		return Value{}, p.fail("unexpected bytes after the end of the JSON text")
	}
	return v, nil
}

// isPlain tells whether data has neither backslashes nor control characters, not
// even as white space: then every string in it ends at the next quotation mark.
// So it is with what programs write, and to know it saves looking at each byte
// of a string.
func isPlain(data []byte) bool {
	if bytes.IndexByte(data, '\\') >= 0 {
		return false
	}
	const every, high = 0x0101010101010101, 0x8080808080808080
	for ; len(data) >= 8; data = data[8:] {
		// Subtracting a space from each of eight bytes borrows into a high bit
		// that was not set if, and only if, one of them was less.
		word := binary.LittleEndian.Uint64(data)
		if (word-every*' ')&^word&high != 0 {
			return false
		}
	}
	return !slices.ContainsFunc(data, func(c byte) bool { return c < ' ' })
}

// ParseObject reads one JSON text that is an object.
func ParseObject(data []byte) (*Object, error) {
	v, err := Parse(data)
	if err != nil {
		return nil, err
	}
	o := NewObject("", v)
	if err := o.Err(); err != nil {
		return nil, err
	}
	return o, nil
}

// room is what a parser needs while it works, and hands on to the next one.
type room struct {
	// steps lead from the top to the value being read.
	steps []step
	// members and items hold those of every open object and array, outermost
	// first, so that a finished one takes one allocation of the right size.
	members []Member
	items   []Value
}

var rooms = sync.Pool{New: func() any { //nolint:gochecknoglobals // a cache without content
	return &room{steps: make([]step, 0, MaxDepth), members: make([]Member, 0, 64), items: make([]Value, 0, 16)}
}}

// maxRoom is the greatest number of members or items for which room is kept.
const maxRoom = 256

// back gives the room back, with nothing of the text in it.
func (r *room) back(p *parser) {
	if cap(p.members) > maxRoom || cap(p.items) > maxRoom {
		return
	}
	clear(p.steps[:cap(p.steps)])
	clear(p.members[:cap(p.members)])
	clear(p.items[:cap(p.items)])
	*r = room{steps: p.steps[:0], members: p.members[:0], items: p.items[:0]}
	rooms.Put(r)
}

// parser stands at byte at of text. A path is only put together for an error:
// were it carried along as a string, a long name around many small values would
// cost the square of the text's length.
type parser struct {
	room

	text     string
	plain    bool // see isPlain
	at       int
	values   int
	finished members
}

// members cuts those of finished objects out of larger slices, as most objects
// are small.
type members struct {
	free []Member
	left int // members that are still to come, about: colons
}

// maxRun is for how many members there is room in a slice for several objects.
const maxRun = 32

// clone returns a copy of list, of exactly its length.
func (m *members) clone(list []Member) []Member {
	n := len(list)
	if n > len(m.free) {
		m.free = make([]Member, max(n, min(m.left, maxRun)))
	}
	own := m.free[:n:n]
	m.free, m.left = m.free[n:], m.left-n
	copy(own, list)
	return own
}

// step is the name of a member, or the index of an item if isItem is set.
type step struct {
	name   string
	index  int
	isItem bool
}

func (p *parser) fail(reason string) *Error {
	var path []byte
	for _, s := range p.steps {
		switch {
		case s.isItem:
			path = append(strconv.AppendInt(append(path, '['), int64(s.index), 10), ']')
		case len(path) > 0:
			path = append(append(path, '.'), s.name...)
		default:
			path = append(path, s.name...)
		}
		if len(path) > maxField {
			break
		}
	}
	return Errorf(string(path), "%s (at byte %d)", reason, p.at)
}

func (p *parser) push(s step) { p.steps = append(p.steps, s) }

func (p *parser) pop() { p.steps = p.steps[:len(p.steps)-1] }

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

func (p *parser) value() (Value, error) {
	p.values++
	if p.values > max(MaxValues, len(p.text)/16) {
		return Value{}, p.fail("too many values in one text")
	}
	if p.at == len(p.text) {
		return Value{}, p.fail("the JSON text ends too early")
	}
	switch c := p.text[p.at]; {
	case c == '{' || c == '[':
		// The steps lead through the containers around this one.
		if len(p.steps) == MaxDepth {
			return Value{}, p.fail("nested too deeply")
		}
		if c == '{' {
			return p.object()
		}
		return p.array()
	case c == '"':
		s, err := p.str()
		return Value{Kind: String, Text: s}, err
	case c == '-' || '0' <= c && c <= '9':
		return p.integer()
	case p.word("true"):
		return Value{Kind: Bool, Truth: true}, nil
	case p.word("false"):
		return Value{Kind: Bool}, nil
	case p.word("null"):
		return Value{Kind: Null}, nil
	}
	return Value{}, p.fail("expected a JSON value")
}

func (p *parser) word(w string) bool {
	if !strings.HasPrefix(p.text[p.at:], w) {
		return false
	}
	p.at += len(w)
	return true
}

// next skips white space and takes the byte c if it comes next.
func (p *parser) next(c byte) bool {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *parser) object() (Value, error) {
	p.at++
	if p.next('}') {
		return Value{Kind: ObjectKind}, nil
	}
	first := len(p.members)
	for {
		if err := p.member(first); err != nil {
			return Value{}, err
		}
		if p.next(',') {
			continue
		}
		if p.next('}') {
			v := Value{Kind: ObjectKind, Members: p.finished.clone(p.members[first:])}
			p.members = p.members[:first]
			return v, nil
		}
		return Value{}, p.fail("expected ',' or '}'")
	}
}

// member reads one member of the object whose members begin at first.
func (p *parser) member(first int) error {
	p.space()
	if p.at == len(p.text) || p.text[p.at] != '"' {
		return p.fail("expected the name of a member")
	}
	name, err := p.str()
	if err != nil {
		return err
	}
	p.push(step{name: name})
	for i := range p.members[first:] {
		if p.members[first+i].Name == name {
			return p.fail("duplicate member")
		}
	}
	if len(p.members)-first == MaxMembers {
		return p.fail("too many members")
	}
	if !p.next(':') {
		return p.fail("expected ':'")
	}
	p.space()
	v, err := p.value()
	if err != nil {
		return err
	}
	p.pop()
	p.members = append(p.members, Member{Name: name, Value: v})
	return nil
}

func (p *parser) array() (Value, error) {
	p.at++
	if p.next(']') {
		return Value{Kind: Array}, nil
	}
	first := len(p.items)
	for {
		p.push(step{index: len(p.items) - first, isItem: true})
		p.space()
		item, err := p.value()
		if err != nil {
			return Value{}, err
		}
		p.pop()
		p.items = append(p.items, item)
		if p.next(',') {
			continue
		}
		if p.next(']') {
			v := Value{Kind: Array, Items: slices.Clone(p.items[first:])}
			p.items = p.items[:first]
			return v, nil
		}
		return Value{}, p.fail("expected ',' or ']'")
	}
}

// integer reads an integer of at most 53 bits in its one canonical form.
func (p *parser) integer() (Value, error) {
	start := p.at
	for p.at < len(p.text) && strings.IndexByte("+-.0123456789eE", p.text[p.at]) >= 0 {
		p.at++
	}
	digits := p.text[start:p.at]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != digits || n > MaxInteger || n < -MaxInteger {
		return Value{}, p.fail("expected an integer between -(2^53-1) and 2^53-1 without fraction or exponent")
	}
	return Value{Kind: Integer, Number: n}, nil
}

// str reads a string; p.at stands on its first quotation mark.
func (p *parser) str() (string, error) {
	p.at++
	start := p.at
	if p.plain {
		n := strings.IndexByte(p.text[start:], '"')
		if n < 0 {
			p.at = len(p.text)
			return "", p.fail("the string does not end")
		}
		p.at += n + 1
		return p.text[start : start+n], nil
	}
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			s := p.text[start:p.at]
			p.at++
			return s, nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return "", p.fail("control character in a string")
		default:
			p.at++
		}
	}
	return "", p.fail("the string does not end")
}

// escaped reads on from the first backslash of a string that began at start.
func (p *parser) escaped(start int) (string, error) {
	var b strings.Builder
	b.WriteString(p.text[start:p.at])
	for p.at < len(p.text) {
		c := p.text[p.at]
		switch {
		case c == '"':
			p.at++
			return b.String(), nil
		case c < 0x20:
			return "", p.fail("control character in a string")
		case c != '\\':
			b.WriteByte(c)
			p.at++
			continue
		}
		r, ok := p.escape()
		if !ok {
			return "", p.fail("bad escape in a string")
		}
		b.WriteRune(r)
	}
	return "", p.fail("the string does not end")
}

// escape reads one escape, a surrogate pair included.
func (p *parser) escape() (rune, bool) {
	if p.at+1 >= len(p.text) {
		return 0, false
	}
	c := p.text[p.at+1]
	if c != 'u' {
		i := strings.IndexByte(`"\/bfnrt`, c)
		if i < 0 {
			return 0, false
		}
		p.at += 2
		return rune("\"\\/\b\f\n\r\t"[i]), true
	}
	r, ok := p.hex4()
	if !ok {
		return 0, false
	}
	if !utf16.IsSurrogate(r) {
		return r, true
	}
	// RFC 8259 section 8.2: an unpaired surrogate has no agreed meaning.
	if !strings.HasPrefix(p.text[p.at:], `\u`) {
		return 0, false
	}
	low, ok := p.hex4()
	if !ok {
		return 0, false
	}
	r = utf16.DecodeRune(r, low)
	return r, r != utf8.RuneError
}

// hex4 reads "\uXXXX".
func (p *parser) hex4() (rune, bool) {
	if p.at+6 > len(p.text) {
		return 0, false
	}
	n, err := strconv.ParseUint(p.text[p.at+2:p.at+6], 16, 16)
	if err != nil {
		return 0, false
	}
	p.at += 6
	return rune(n), true
}
