package sequencer

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

// TestSuccessionJudged: who may end and begin a shard, and with which words.
func TestSuccessionJudged(t *testing.T) {
	h := newShards(t, 3)
	first, second := h.list[0], h.list[1]
	if err := first.start(); err != nil {
		t.Fatal(err)
	}
	first.populate()
	say := func(s *shard, kind statement.Kind, key *statement.PrivateKey, org string, change func(*statement.Statement), attributes ...statement.Member) error {
		stmt := s.draft(kind, "", []*statement.PrivateKey{key}, func(st *statement.Statement) {
			st.Organisation, st.Subject, st.Digest, st.Attributes = org, statement.SubjectLog, statement.LogDigest(testLog), attributes
			head, err := s.seq.Ledger().Chain("", key.ID())
			if err != nil {
				t.Fatal(err)
			}
			st.Chain = statement.Link{Number: head.Number + 1, Previous: head.Identity}
			if final := s.seq.last(); final != nil && final.final.Load() != nil && st.Beacon == nil {
				st.Beacon = beaconOf(final.final.Load().note)
			}
			if change != nil {
				change(st)
			}
		})
		r := Request{Envelope: s.sign(stmt, key).Bytes()}
		if note := s.seq.Checkpoint(); note != nil && stmt.Beacon != nil && stmt.Beacon.Origin == s.origin {
			r.Beacon = note.Bytes()
		}
		_, err := s.seq.Add(t.Context(), r)
		return err
	}
	expect := func(name string, err error, kind, field string) {
		t.Helper()
		if k, f := refusal(err); k != kind || f != field {
			t.Errorf("%s: %v, expected %s at %s", name, err, kind, field)
		}
	}
	successor := func(origin string) statement.Member { return statement.TextMember("successor", origin) }
	const field = "predicate.attributes.successor"
	for name, origin := range map[string]string{
		"another log's": "other.test/trials/2027", "itself": first.origin, "one of no policy": testLog + "/1999", "the log": testLog,
	} {
		expect(name, say(first, statement.KindShardEnd, h.operator, "hub", nil, successor(origin)), "wrong", field)
		if _, err := first.seq.EndStatement(t.Context(), h.operator, origin); err == nil {
			t.Errorf("%s: built", name)
		}
	}
	expect("by a sponsor", say(first, statement.KindShardEnd, first.admin, "acme", nil, successor(second.origin)), "forbidden", "predicate.kind")
	predecessor := func(origin string) statement.Member { return statement.TextMember("predecessor", origin) }
	expect("start of the first shard", say(first, statement.KindShardStart, h.operator, "hub", nil), "wrong", "predicate.kind")
	if _, err := first.seq.StartStatement(t.Context(), h.operator); err == nil {
		t.Error("the first shard has a shard-start")
	}
	if _, err := first.seq.EndStatement(t.Context(), testKey(t, 99), second.origin); err == nil {
		t.Error("signed with a key that nobody knows")
	}
	first.end(second.origin)
	if err := second.start(); err != nil {
		t.Fatal(err)
	}
	digest := statement.Digest(first.seq.Checkpoint().Digest())
	note := statement.TextMember("checkpoint", digest.String())
	early, err := first.seq.statementAt(t.Context(), first.seq.head().size()-2)
	if err != nil || early.Beacon == nil {
		t.Fatal(early, err)
	}
	for _, tt := range []struct {
		name, kind, field string
		err               error
	}{
		{"by a sponsor", "forbidden", "predicate.kind", say(second, statement.KindShardStart, second.admin, "acme", nil, predecessor(first.origin), note)},
		{"without a predecessor", "wrong", "predicate.attributes.predecessor", say(second, statement.KindShardStart, h.operator, "hub", nil, note)},
		{
			"another predecessor", "wrong", "predicate.attributes.predecessor",
			say(second, statement.KindShardStart, h.operator, "hub", nil, predecessor(shardOrigin(2)), note),
		},
		{
			"another checkpoint", "wrong", "predicate.attributes.checkpoint",
			say(second, statement.KindShardStart, h.operator, "hub", nil, predecessor(first.origin), statement.TextMember("checkpoint", sum("x").String())),
		},
		{"without a checkpoint", "wrong", "predicate.attributes.checkpoint", say(second, statement.KindShardStart, h.operator, "hub", nil, predecessor(first.origin))},
		{
			"without a beacon", "wrong", "predicate.beacon",
			say(second, statement.KindShardStart, h.operator, "hub", func(s *statement.Statement) { s.Beacon = nil }, predecessor(first.origin), note),
		},
		{
			"an early beacon", "wrong", "predicate.beacon",
			say(second, statement.KindShardStart, h.operator, "hub", func(s *statement.Statement) { s.Beacon = early.Beacon }, predecessor(first.origin), note),
		},
	} {
		expect(tt.name, tt.err, tt.kind, tt.field)
	}
	if err := say(second, statement.KindShardEnd, h.operator, "hub", nil, successor(shardOrigin(2))); !errors.Is(err, ErrNotReady) {
		t.Errorf("ended before it has started: %v", err)
	}
	if second.seq.head().size() != 0 {
		t.Fatal("something was taken in")
	}
	second.begin()
	expect("again", say(second, statement.KindShardStart, h.operator, "hub", nil, predecessor(first.origin), note), "wrong", "predicate.kind")
	expect("back to the first one", say(second, statement.KindShardEnd, h.operator, "hub", nil, successor(first.origin)), "wrong", field)
	rec := register.Record{Origin: second.origin, Root: tlog.EmptyRoot().Hash}
	if got, err := second.register.Read(t.Context()); err != nil || got == rec || got.Sealed {
		t.Errorf("the second shard's register is %+v, %v", got, err)
	}
}

// TestForeignBeacons: a beacon may be of any shard of the log, if that shard
// really had it.
func TestForeignBeacons(t *testing.T) {
	h, _, _ := rolledOver(t, 2)
	first, second := h.list[0], h.list[1]
	final := first.seq.Checkpoint().Checkpoint()
	early := checkpoint.Checkpoint{Origin: first.origin, Size: 2}
	var err error
	if early.Root, err = first.seq.head().tree.RootAt(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	third := &shard{world: &world{t: t, logKeys: shardKeys(t, 2), witness: newWitnesses(t, 3)}}
	for _, tt := range []struct {
		name, words string
		note        []byte
	}{
		{"an early one", "", first.cosigned(early)},
		{"another root", "contradicts", first.cosigned(checkpoint.Checkpoint{Origin: first.origin, Size: 2, Root: checkpoint.Hash{1}})},
		{"behind the end", "expected 1 to", first.cosigned(checkpoint.Checkpoint{Origin: first.origin, Size: final.Size + 1, Root: checkpoint.Hash{1}})},
		{"of the shard to come", "or an earlier shard", third.cosigned(checkpoint.Checkpoint{Origin: shardOrigin(2), Size: 1, Root: checkpoint.Hash{1}})},
	} {
		note, err := checkpoint.Parse(tt.note)
		if err != nil {
			t.Fatal(err)
		}
		for _, origin := range []string{note.Checkpoint().Origin, second.origin} {
			stmt := second.protocol("T1", tt.name)
			stmt.Beacon = beaconOf(note)
			stmt.Beacon.Origin = origin
			a, err := second.seq.Add(t.Context(), Request{Envelope: second.sign(stmt, second.admin).Bytes(), Beacon: tt.note})
			words, field := tt.words, "beacon"
			if tt.words == "" && origin == second.origin {
				words, field = "the note is of "+first.origin, "predicate.beacon"
			}
			if k, f := refusal(err); words != "" && (k != "wrong" || f != field || !strings.Contains(err.Error(), words)) {
				t.Errorf("%s as %s: %v, expected %q", tt.name, origin, err, words)
			}
			if words == "" && err != nil {
				t.Errorf("%s as %s: %v", tt.name, origin, err)
			} else if words == "" {
				second.advance(stmt, a.Identity)
			}
		}
	}
	if err := second.halt(); err != nil {
		t.Fatal(err)
	}
	// Its note is kept by the shard whose receipt needs it.
	if err := second.start(); err != nil {
		t.Fatal(err)
	}
	raw, _, err := second.seq.Find(t.Context(), second.chain["T1/"+second.admin.ID().String()].Previous)
	if err != nil {
		t.Fatal(err)
	}
	second.check(raw, "an early one")
}

// TestLyingLedger: a ledger that names the wrong place of an old statement costs
// the answer, and gives no receipt of another one.
func TestLyingLedger(t *testing.T) {
	h, old, request := rolledOver(t, 2)
	first, second := h.list[0], h.list[1]
	tree := first.seq.head().tree
	if err := second.halt(); err != nil {
		t.Fatal(err)
	}
	second.forgetLedger()
	book, err := ledger.Open(filepath.Join(second.dir, "ledger"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := book.Begin(first.origin, true); err != nil {
		t.Fatal(err)
	}
	entries, err := tree.Entries(t.Context(), 0, int(tree.Size()))
	if err != nil {
		t.Fatal(err)
	}
	change := book.Change()
	for i, raw := range entries {
		e, stmt, id, err := readEntry(raw)
		if err != nil {
			t.Fatal(err)
		}
		switch uint64(i) {
		case old.Index:
			id = statement.Identity{1}
		case old.Index - 1:
			id = old.Identity
		}
		if err := change.Apply(uint64(i), e, stmt, id); err != nil {
			t.Fatal(err)
		}
	}
	change.Reached(tree.Root())
	if err := errors.Join(change.Commit(), book.Close()); err != nil {
		t.Fatal(err)
	}
	if err := second.start(); err != nil {
		t.Fatal(err)
	}
	if a, err := second.seq.Add(t.Context(), request); err == nil {
		t.Errorf("it answers %+v", a)
	}
	if _, _, err := second.seq.Find(t.Context(), old.Identity); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("it finds %v", err)
	}
}
