package verify

import (
	"encoding/asn1"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/strictjson"
)

// FinalError says that a checkpoint contradicts the end of its shard: two heads
// signed by one log that cannot both be true.
type FinalError struct {
	// Final is what the policy says the shard ended with.
	Final Final
	// Checkpoint is what was presented.
	Checkpoint checkpoint.Checkpoint
}

// Error says how the two differ.
func (e *FinalError) Error() string {
	if e.Checkpoint.Size > e.Final.Size {
		return fmt.Sprintf("the policy says that %s ended at size %d, the checkpoint is of size %d",
			e.Final.Origin, e.Final.Size, e.Checkpoint.Size)
	}
	return fmt.Sprintf("the policy says that %s ended at size %d with another root than the checkpoint's",
		e.Final.Origin, e.Final.Size)
}

// checkFinal holds a checkpoint against the end of its shard.
func (p *Policy) checkFinal(c checkpoint.Checkpoint) error {
	f, ended := p.finals[c.Origin]
	if ended && (c.Size > f.Size || c.Size == f.Size && c.Root != f.Root) {
		return &FinalError{Final: f, Checkpoint: c}
	}
	return nil
}

// retiredKey is what a signature line says of its key.
type retiredKey struct {
	name string
	id   uint32
}

// withoutRetired returns the note as the tlog-policy may see it: without the
// lines of keys that do not count for its origin and size. Such a line is
// ignored, not refused: whoever holds the given-up key could otherwise spoil
// any note by adding one.
func (p *Policy) withoutRetired(n *checkpoint.Note) (*checkpoint.Note, error) {
	if len(p.retired) == 0 {
		return n, nil
	}
	head, all := n.Checkpoint(), n.Signatures()
	counted := slices.DeleteFunc(slices.Clone(all), func(s checkpoint.Signature) bool {
		until, retired := p.retired[retiredKey{s.Name, s.KeyID}]
		return retired && !slices.ContainsFunc(until, func(l Limit) bool {
			return l.Origin == head.Origin && head.Size <= l.Size
		})
	})
	switch len(counted) {
	case len(all):
		return n, nil
	case 0:
		return nil, fmt.Errorf("the checkpoint of %s at size %d is signed by retired keys only", head.Origin, head.Size)
	}
	return checkpoint.NewNote(n.Text(), counted...)
}

// readFinals reads the optional array of ended shards.
func (p *Policy) readFinals(o *strictjson.Object) []Final {
	items := someItems(o, "finals")
	list := make([]Final, 0, len(items))
	for i, item := range items {
		q := o.NestedItem("finals", i, item)
		f := Final{Origin: p.origin(q), Size: q.Unsigned("size")}
		if slices.ContainsFunc(list, func(other Final) bool { return other.Origin == f.Origin }) {
			q.Fail("origin", "is there twice")
		}
		if root, ok := strictjson.Base64(q.Text("root")); !ok || len(root) != len(f.Root) {
			q.Fail("root", "expected the base64 of %d bytes", len(f.Root))
		} else {
			f.Root = checkpoint.Hash(root)
		}
		o.Join(q)
		list = append(list, f)
	}
	return list
}

// readRetired reads the optional array of witness keys that were given up.
func (p *Policy) readRetired(o *strictjson.Object) []Retired {
	items := someItems(o, "retired")
	list := make([]Retired, 0, len(items))
	for i, item := range items {
		q := o.NestedItem("retired", i, item)
		r := Retired{Until: p.readLimits(q)}
		text := q.Text("key")
		key, err := checkpoint.ParseVerifierKey(text)
		switch {
		case err != nil:
			q.Fail("key", "%s", err)
		case !slices.ContainsFunc(p.notes.Witnesses(), func(w checkpoint.WitnessEntry) bool { return w.Key.String() == text }):
			// Else it would not count anyway, or somebody mistyped it.
			q.Fail("key", "the policy lists no witness with this key")
		case slices.ContainsFunc(list, func(other Retired) bool { return other.Key != nil && other.Key.String() == text }):
			q.Fail("key", "is there twice")
		default:
			r.Key = key
		}
		o.Join(q)
		list = append(list, r)
	}
	return list
}

// readLimits reads up to where a retired key counts.
func (p *Policy) readLimits(q *strictjson.Object) []Limit {
	items := someItems(q, "until")
	list := make([]Limit, 0, len(items))
	if _, ok := q.Optional("until"); !ok {
		q.Fail("until", "missing, expected an array")
	}
	for i, item := range items {
		u := q.NestedItem("until", i, item)
		l := Limit{Origin: p.origin(u), Size: u.Unsigned("size")}
		if slices.ContainsFunc(list, func(other Limit) bool { return other.Origin == l.Origin }) {
			u.Fail("origin", "is there twice")
		}
		q.Join(u)
		list = append(list, l)
	}
	return list
}

// origin reads the member origin, one of the policy's log lines.
func (p *Policy) origin(o *strictjson.Object) string {
	origin := o.Text("origin")
	if !slices.ContainsFunc(p.notes.Logs(), func(l checkpoint.LogEntry) bool { return l.Key.Name() == origin }) {
		o.Fail("origin", "the policy lists no log %q", origin)
	}
	return origin
}

// someItems returns the items of an array that is absent rather than empty.
func someItems(o *strictjson.Object, name string) []strictjson.Value {
	v, ok := o.Optional(name)
	if ok && (v.Kind != strictjson.Array || len(v.Items) == 0) {
		o.Fail(name, "expected an array with at least one member, or nothing")
	}
	return v.Items
}

// dotted reads an optional object identifier in dotted decimal.
func dotted(o *strictjson.Object, name string) asn1.ObjectIdentifier {
	text := o.OptionalText(name)
	if text == "" {
		return nil
	}
	var id asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(text, ".") {
		n, err := strconv.ParseUint(arc, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != arc {
			o.Fail(name, "expected an object identifier such as 1.2.840.113549")
			return nil
		}
		id = append(id, int(n))
	}
	if len(id) < 2 || id[0] > 2 || id[0] < 2 && id[1] > 39 {
		o.Fail(name, "expected an object identifier such as 1.2.840.113549")
		return nil
	}
	return id
}
