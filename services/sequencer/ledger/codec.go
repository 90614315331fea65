package ledger

import (
	"encoding/binary"
	"errors"

	"github.com/trialog/trialog/api/statement"
)

// Values are written as numbers (unsigned varints in their shortest form),
// digests (32 bytes) and strings (a number, then as many bytes), one after the
// other.

// decoder reads a value. The first error sticks; what is read after it is zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(reason string) {
	if d.err == nil {
		d.err = errors.New(reason)
	}
	d.rest = nil
}

// done returns the first error, also that something is left.
func (d *decoder) done() error {
	if d.err == nil && len(d.rest) > 0 {
		d.fail("bytes after its end")
	}
	return d.err
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || size > 1 && d.rest[size-1] == 0 {
		d.fail("not a number")
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.fail("ends too early")
		return nil
	}
	taken := d.rest[:n:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) digest() (out statement.Digest) {
	copy(out[:], d.take(uint64(len(out))))
	return out
}

func (d *decoder) bytes() []byte { return d.take(d.number()) }

func (d *decoder) text() string { return string(d.bytes()) }

func (d *decoder) flag() bool {
	switch d.number() {
	case 0:
		return false
	case 1:
		return true
	}
	d.fail("neither yes nor no")
	return false
}

// list reads a number, then as many values; each takes at least a byte.
func list[T any](d *decoder, one func() T) []T {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.fail("ends too early")
		return nil
	}
	var out []T
	for range n {
		out = append(out, one())
	}
	return out
}

func appendFlag(b []byte, set bool) []byte {
	if set {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendText[T ~string | ~[]byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (s Shard) encode() []byte {
	b := appendText(make([]byte, 0, 96+len(s.Origin)), s.Origin)
	b = append(binary.AppendUvarint(b, s.Size), s.Root[:]...)
	b = append(b, s.LastLeaf[:]...)
	return appendText(appendFlag(b, s.Indexed), s.Successor)
}

func decodeShard(raw []byte) (Shard, error) {
	d := &decoder{rest: raw}
	s := Shard{
		Origin: d.text(), Size: d.number(), Root: d.digest(), LastLeaf: d.digest(), Indexed: d.flag(), Successor: d.text(),
	}
	return s, d.done()
}

func (h Head) encode() []byte {
	b := binary.AppendUvarint(make([]byte, 0, 48), h.Number)
	b = append(b, h.Identity[:]...)
	return binary.AppendUvarint(b, uint64(h.Received))
}

func decodeHead(d *decoder) Head {
	return Head{Number: d.number(), Identity: d.digest(), Received: int64(d.number())}
}

// encodePlace writes a place by its shard's number.
func encodePlace(b []byte, shard int, index uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(shard)), index)
}

// encode writes the key, whose enrolment lies in the shard with this number.
func (k *Key) encode(shard int) []byte {
	b := appendText(nil, k.Organisation)
	b = binary.AppendUvarint(b, uint64(len(k.Roles)))
	for _, r := range k.Roles {
		b = appendText(b, string(r))
	}
	b = encodePlace(b, shard, k.Index)
	b = appendText(b, k.DER)
	b = binary.AppendUvarint(b, uint64(len(k.By)))
	for _, id := range k.By {
		b = append(b, id[:]...)
	}
	b = appendText(appendFlag(b, k.Revoked), k.SuspectOrigin)
	return binary.AppendUvarint(b, k.SuspectFrom)
}

func decodeKey(d *decoder, place func(*decoder) Place) Key {
	return Key{
		Organisation: d.text(), Roles: list(d, func() statement.Role { return statement.Role(d.text()) }),
		Place: place(d), DER: d.bytes(), By: list(d, d.digest),
		Revoked: d.flag(), SuspectOrigin: d.text(), SuspectFrom: d.number(),
	}
}

func (o Organisation) encode() []byte {
	return appendText(append([]byte(nil), o.First[:]...), o.Recovery)
}

func decodeOrganisation(d *decoder) Organisation {
	return Organisation{First: d.digest(), Recovery: d.bytes()}
}

func (c course) encode() []byte {
	b := appendText(append(make([]byte, 0, 64), c.First[:]...), c.Owner)
	b = binary.AppendUvarint(b, uint64(len(c.said)))
	for _, kind := range c.said {
		b = appendText(b, string(kind))
	}
	return b
}

func decodeCourse(d *decoder) course {
	first := d.digest()
	return course{
		Trial: Trial{Owner: d.text(), First: first},
		said:  list(d, func() statement.Kind { return statement.Kind(d.text()) }),
	}
}
