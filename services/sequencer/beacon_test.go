package sequencer

import (
	"context"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
)

// cosigned makes a note as the log and all witnesses would sign it.
func (w *world) cosigned(c checkpoint.Checkpoint, at uint64) *checkpoint.Note {
	w.t.Helper()
	n, err := checkpoint.SignLog(c, at, w.logKeys...)
	if err != nil {
		w.t.Fatal(err)
	}
	var sigs []checkpoint.Signature
	for _, k := range w.witness.keys {
		sig, err := k.SignCheckpoint(n.Text(), at)
		if err != nil {
			w.t.Fatal(err)
		}
		sigs = append(sigs, sig)
	}
	if n, err = n.With(sigs...); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// foreign makes a note of another origin, cosigned all the same.
func (w *world) foreign(origin string, c checkpoint.Checkpoint) []byte {
	w.t.Helper()
	c.Origin = origin
	n, err := checkpoint.SignLog(c, 1, noteKey(w.t, 1, origin, checkpoint.AlgEd25519), noteKey(w.t, 2, origin, checkpoint.AlgMLDSA44))
	if err != nil {
		w.t.Fatal(err)
	}
	return n.Bytes()
}

func TestBeaconRefused(t *testing.T) {
	c := newCast(t)
	good := c.seq.Checkpoint()
	head := good.Checkpoint()
	// Another note on the same checkpoint, which the log has not seen.
	other := c.cosigned(head, 1_700_000_000)
	ahead := c.cosigned(checkpoint.Checkpoint{Origin: head.Origin, Size: head.Size + 5, Root: head.Root}, 1)
	contrary := c.cosigned(checkpoint.Checkpoint{Origin: head.Origin, Size: head.Size, Root: checkpoint.Hash{1}}, 1)
	older := c.cosigned(checkpoint.Checkpoint{Origin: head.Origin, Size: head.Size - 1, Root: head.Root}, 1)
	unsigned, err := checkpoint.SignLog(head, 1, c.logKeys...)
	if err != nil {
		t.Fatal(err)
	}
	oneKey, err := checkpoint.NewNote(other.Text(), other.Signatures()[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	abroad := c.foreign("other.test/trials/1", head)
	stranger, err := noteKey(t, 99, "stranger.test", checkpoint.AlgEd25519Cosignature).SignCheckpoint(other.Text(), 1)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.witness.keys[0].SignCheckpoint(other.Text(), 1_700_000_001)
	if err != nil {
		t.Fatal(err)
	}
	with := func(line checkpoint.Signature) *checkpoint.Note {
		n, err := other.With(line)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	strange, twice := with(stranger), with(again)
	named := beaconOf
	change := func(b *statement.Beacon, f func(*statement.Beacon)) *statement.Beacon { f(b); return b }
	before := c.size()
	for _, tt := range []struct {
		name   string
		beacon *statement.Beacon
		note   []byte
		field  string
	}{
		{"missing", nil, nil, "predicate.beacon"},
		{"given, not named", nil, good.Bytes(), "beacon"},
		{"unknown", named(other), nil, "beacon"},
		{"another note than the named one", named(other), good.Bytes(), "beacon"},
		{"no note", named(other), []byte("hello"), "beacon"},
		{"a byte too much", named(other), append(other.Bytes(), '\n'), "beacon"},
		{"too long", named(other), []byte(strings.Repeat("x", maxBeacon+1)), "beacon"},
		{"no cosignatures", named(unsigned), unsigned.Bytes(), "beacon"},
		{"one signature of the log missing", named(oneKey), oneKey.Bytes(), "beacon"},
		{"a checkpoint to come", named(ahead), ahead.Bytes(), "beacon"},
		{"contradicts the log", named(contrary), contrary.Bytes(), "beacon"},
		{"contradicts an earlier size", named(older), older.Bytes(), "beacon"},
		{"foreign note", &statement.Beacon{Origin: head.Origin, Size: head.Size, Note: sum(string(abroad))}, abroad, "beacon"},
		{"says another origin", change(named(good), func(b *statement.Beacon) { b.Origin = testLog + "/2" }), good.Bytes(), "predicate.beacon"},
		{"line of a stranger", named(strange), strange.Bytes(), "beacon"},
		{"two lines of one witness", named(twice), twice.Bytes(), "beacon"},
		{"says another size", change(named(good), func(b *statement.Beacon) { b.Size-- }), good.Bytes(), "predicate.beacon"},
		{"says another size of a new note", change(named(other), func(b *statement.Beacon) { b.Size++ }), other.Bytes(), "predicate.beacon"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := c.world.protocol("T1", "with a bad beacon")
			s.Beacon = tt.beacon
			_, err := c.seq.Add(context.Background(), Request{Envelope: c.sign(s, c.admin).Bytes(), Beacon: tt.note})
			if kind, field := refusal(err); kind != "wrong" || field != tt.field {
				t.Errorf("%s, field %q (%v); expected field %q", kind, field, err, tt.field)
			}
		})
	}
	if after := c.size(); after != before {
		t.Errorf("the log went from %d to %d entries", before, after)
	}
}

func TestBeaconAccepted(t *testing.T) {
	c := newCast(t)
	note := c.cosigned(c.seq.Checkpoint().Checkpoint(), 1_700_000_000)
	name := func(s *statement.Statement) *statement.Statement {
		s.Beacon = beaconOf(note)
		return s
	}
	add := func(text string, beacon []byte) {
		t.Helper()
		s := name(c.world.protocol("T1", text))
		a, err := c.seq.Add(context.Background(), Request{Envelope: c.sign(s, c.admin).Bytes(), Beacon: beacon})
		if err != nil {
			t.Fatal(err)
		}
		c.advance(s, a.Identity)
		if v := c.check(a.Receipt, text); v.NotBefore == nil || v.NotBefore.Time.Unix() != 1_700_000_000 {
			t.Errorf("not before %+v, expected the beacon's time", v.NotBefore)
		}
	}
	add("with its note", note.Bytes())
	add("the log remembers the note", nil)
	if err := c.halt(); err != nil {
		t.Fatal(err)
	}
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	add("the log has stored the note", nil)
	clear(c.seq.beacons.by)
	add("and reads it back", note.Bytes())
}

// TestBeaconOfARetry: a statement that is in the log is never refused for its
// beacon, not even one that came before there was any checkpoint.
func TestBeaconOfARetry(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	s, keys := enrolment{org: "acme", key: w.admin, roles: []string{"sponsor"}, recovery: w.recovery}.draft(w)
	r := Request{Envelope: w.sign(s, keys...).Bytes(), Granted: statement.Roles()}
	for i := range 3 {
		a, err := w.seq.Add(context.Background(), r)
		if err != nil || a.Index != 0 || a.Duplicate != (i > 0) {
			t.Fatalf("submission %d: %+v, %v", i, a, err)
		}
		w.check(a.Receipt, "")
		r.Beacon = w.beacon() // given, but not named
	}
}
