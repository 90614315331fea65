package evidence

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/strictjson"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

// shape says which members a kind has, all of them needed but where least is 0.
type shape struct {
	notesLeast, notesMost int
	hashesLeast           int
	hashes                bool
	promise, leaf         bool
	promises, lists       bool
}

func shapeOf(k Kind) (shape, bool) {
	switch k {
	case KindFork:
		return shape{notesLeast: 1, notesMost: 2}, true
	case KindInconsistent:
		return shape{notesLeast: 2, notesMost: 2, hashes: true, hashesLeast: 1}, true
	case KindUnproven:
		return shape{notesLeast: 2, notesMost: 2, hashes: true}, true
	case KindPromise:
		return shape{notesLeast: 1, notesMost: 1, hashes: true, promise: true, leaf: true}, true
	case KindOverdue:
		return shape{notesLeast: 1, notesMost: 1, promise: true}, true
	case KindPromiseFork:
		return shape{promises: true}, true
	case KindWitnessFork, KindWitnessRollback:
		return shape{notesLeast: 2, notesMost: 2}, true
	case KindLogList:
		return shape{lists: true}, true
	}
	return shape{}, false
}

// Parse reads an evidence file and checks its form, and that the notes, the
// pending record and the lists in it can be read. What they show is Verify's to
// say. The error names the member that is wrong and what was expected.
func Parse(raw []byte) (*Evidence, error) {
	if len(raw) > MaxSize {
		return nil, fmt.Errorf("evidence: %d bytes, expected at most %d", len(raw), MaxSize)
	}
	o, err := strictjson.ParseObject(raw)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	if got := o.Text("format"); got != Format {
		o.Fail("format", "expected %q", Format)
	}
	e := &Evidence{Kind: Kind(o.Text("kind"))}
	s, ok := shapeOf(e.Kind)
	if !ok {
		o.Fail("kind", "expected one of those that %s has", Format)
	}
	if s.notesMost > 0 {
		e.readNotes(o, s)
	}
	if s.hashes {
		e.readHashes(o, s)
	}
	if s.promise {
		e.Promise = []byte(o.Text("promise"))
		_, _, err := statement.ParseDSSE(e.Promise, receipt.PendingPayloadType, statement.MaxEnvelope)
		o.Take(within(o.Path("promise"), err))
	}
	if s.promises {
		for i, text := range texts(o, "promises", 2, 2) {
			_, _, err := statement.ParseDSSE([]byte(text), receipt.PendingPayloadType, statement.MaxEnvelope)
			o.Take(within(o.Path(fmt.Sprintf("promises[%d]", i)), err))
			e.Promises = append(e.Promises, []byte(text))
		}
	}
	if s.leaf {
		leaf, err := statement.ParseDigest(o.Text("leafHash"))
		o.Take(within(o.Path("leafHash"), err))
		e.Leaf = (*[32]byte)(&leaf)
	}
	if s.lists {
		e.readLists(o)
	}
	e.readClaims(o)
	if err := o.Done(); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	return e, nil
}

// within makes an error one of a member.
func within(path string, err error) error {
	if err == nil {
		return nil
	}
	return strictjson.Errorf(path, "%s", err)
}

// texts reads the required array of least to most strings.
func texts(o *strictjson.Object, name string, least, most int) []string {
	var list []string
	v := o.Required(name, strictjson.Array)
	if n := len(v.Items); n < least || n > most {
		o.Fail(name, "expected %d to %d, found %d", least, most, n)
		return nil
	}
	for i, item := range v.Items {
		if item.Kind != strictjson.String {
			o.Fail(fmt.Sprintf("%s[%d]", name, i), "expected a string, found %s", item.Kind)
			return nil
		}
		list = append(list, item.Text)
	}
	return list
}

func (e *Evidence) readNotes(o *strictjson.Object, s shape) {
	for i, text := range texts(o, "notes", s.notesLeast, s.notesMost) {
		n, err := checkpoint.Parse([]byte(text))
		o.Take(within(o.Path(fmt.Sprintf("notes[%d]", i)), err))
		e.Notes = append(e.Notes, n)
	}
}

// readHashes reads the hashes. None has one form, which is absence.
func (e *Evidence) readHashes(o *strictjson.Object, s shape) {
	if _, there := o.Optional("hashes"); !there && s.hashesLeast == 0 {
		return
	}
	for i, text := range texts(o, "hashes", 1, maxHashes) {
		h, ok := strictjson.Base64(text)
		if !ok || len(h) != 32 {
			o.Fail(fmt.Sprintf("hashes[%d]", i), "expected the base64 of 32 bytes")
			return
		}
		e.Hashes = append(e.Hashes, [32]byte(h))
	}
}

func (e *Evidence) readLists(o *strictjson.Object) {
	for i, text := range texts(o, "lists", 2, 2) {
		_, _, err := statement.ParseDSSE([]byte(text), loglist.PayloadType, loglist.MaxSize)
		o.Take(within(o.Path(fmt.Sprintf("lists[%d]", i)), err))
		e.Lists = append(e.Lists, []byte(text))
	}
}

// readClaims reads who wrote the file, and when.
func (e *Evidence) readClaims(o *strictjson.Object) {
	e.By = o.OptionalText("by")
	// It is shown on terminals.
	if len(e.By) > maxBy || strings.ContainsFunc(e.By, func(r rune) bool { return !unicode.IsPrint(r) }) {
		o.Fail("by", "expected at most %d bytes of printable characters", maxBy)
	}
	if _, there := o.Optional("atMillis"); !there {
		return
	}
	e.At = time.UnixMilli(int64(o.Unsigned("atMillis"))).UTC() //nolint:gosec // at most 2^53-1
	if e.At.UnixMilli() == 0 || e.At.Year() > 9999 {
		o.Fail("atMillis", "expected a time from 1970 to the end of the year 9999")
	}
}
