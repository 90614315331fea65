package fsck_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/fsck"
	"github.com/trialog/trialog/api/fsck/fscktest"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/statement"
)

// sealed signs whatever the world's first shard holds by now.
func sealed(t testing.TB, w *testlog.World, s *testlog.Shard) *log {
	t.Helper()
	l := &log{world: w, shard: s}
	return l.at(t, len(s.Entries))
}

func milestone() statement.Statement {
	return statement.Statement{
		Kind: statement.KindMilestone, Attributes: []statement.Member{statement.TextMember("milestone", "last-visit")},
	}
}

func admin() *testlog.Member {
	return &testlog.Member{Org: "sponsor-a", Key: testlog.Ed25519Key("admin of sponsor-a")}
}

// TestStatements: what the log has signed for and should not hold.
func TestStatements(t *testing.T) {
	t.Parallel()
	const n = 5 // entries before the bad one
	for name, tt := range map[string]struct {
		say  func(w *testlog.World)
		kind fsck.Kind
	}{
		"no entry":     {func(w *testlog.World) { w.First.AddEntry([]byte("x")) }, fsck.KindFormat},
		"no envelope":  {func(w *testlog.World) { w.First.Add([]byte("{}")) }, fsck.KindFormat},
		"no statement": {func(w *testlog.World) { w.Say(milestone(), member(), testlog.Swapped(`"milestone"`, `"milestones"`)) }, fsck.KindFormat},
		"another log": {func(w *testlog.World) {
			w.Say(milestone(), member(), testlog.Swapped(testlog.Log, "log.example.org/others"), testlog.WithBeacon(nil))
		}, fsck.KindLog},
		"twice":   {func(w *testlog.World) { w.First.AddEntry(w.First.Entries[n-1]) }, fsck.KindDuplicate},
		"a gap":   {func(w *testlog.World) { w.Say(milestone(), member(), numbered(9)) }, fsck.KindChain},
		"a twin":  {func(w *testlog.World) { w.Say(milestone(), member(), numbered(3)) }, fsck.KindChain},
		"no link": {func(w *testlog.World) { w.Say(milestone(), member(), linked(statement.Identity{7})) }, fsck.KindChain},
		"stranger": {func(w *testlog.World) {
			w.Say(milestone(), []*testlog.Member{{Org: "sponsor-a", Key: testlog.Ed25519Key("stranger")}})
		}, fsck.KindKey},
		"forged": {func(w *testlog.World) {
			w.Say(milestone(), member(), testlog.SignedBy(testlog.Ed25519Key("stranger")))
		}, fsck.KindSignature},
		"a start in the middle": {func(w *testlog.World) { w.Say(aboutLog(statement.KindShardStart), member()) }, fsck.KindShard},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := fscktest.Said(n - 2)
			var l *log
			if err := testlog.Do(func() {
				tt.say(w)
				l = sealed(t, w, w.First)
			}); err != nil {
				t.Fatal(err)
			}
			r := l.check(t, nil)
			found := false
			for _, f := range r.Findings {
				if f.Entry == nil || *f.Entry != n {
					t.Errorf("found %v", f)
				}
				found = found || f.Kind == tt.kind
			}
			if !found {
				t.Errorf("want a finding of kind %s, found\n%s", tt.kind, places(r))
			}
			if strings.Contains(places(r), "last-visit") || strings.Contains(places(r), "sponsor-a") {
				t.Errorf("a finding repeats what an entry says: %s", places(r))
			}
			if shallow := l.check(t, nil, func(c *fsck.Config) { c.Shallow = true }); (len(shallow.Findings) == 0) != (tt.kind == fsck.KindSignature) {
				t.Errorf("without signatures found\n%s", places(shallow))
			}
		})
	}
}

func member() []*testlog.Member { return []*testlog.Member{admin()} }

func numbered(n uint64) testlog.Option {
	return testlog.Changed(func(s *statement.Statement) { s.Chain.Number = n })
}

func linked(id statement.Identity) testlog.Option {
	return testlog.Changed(func(s *statement.Statement) { s.Chain.Previous = id })
}

func aboutLog(kind statement.Kind, attributes ...statement.Member) statement.Statement {
	return statement.Statement{
		Kind: kind, Subject: statement.SubjectLog, Digest: statement.LogDigest(testlog.Log), Attributes: attributes,
	}
}

// TestStepsBack: the log's own clock may step back; that is worth a note.
func TestStepsBack(t *testing.T) {
	t.Parallel()
	w := fscktest.Said(3)
	e, err := entry.Parse(w.First.Entries[1])
	if err != nil {
		t.Fatal(err)
	}
	late, err := entry.Encode(e.Received.AddDate(0, 0, 1), e.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	w.First.Entries[1] = late
	r := sealed(t, w, w.First).check(t, nil)
	if !r.Clean() || len(r.Notes) != 1 || r.Notes[0].Kind != fsck.KindTime || *r.Notes[0].Entry != 2 || r.Notes[0].Entries != 3 {
		t.Errorf("notes %v\n%s", r.Notes, places(r))
	}
}

// TestExpect: what somebody holds from earlier must still be there.
func TestExpect(t *testing.T) {
	t.Parallel()
	l := statements().at(t, 700)
	other := bytesLog(300)
	for name, tt := range map[string]struct {
		expect []byte
		log    *log
		found  int
		err    string
	}{
		"the same":     {expect: l.files["checkpoint"], log: l},
		"earlier":      {expect: l.world.Note(l.shard, 300).Bytes(), log: l},
		"at a border":  {expect: l.world.Note(l.shard, 512).Bytes(), log: l},
		"first":        {expect: l.world.Note(l.shard, 1).Bytes(), log: l},
		"put back":     {expect: l.files["checkpoint"], log: statements().at(t, 600), found: 1},
		"rewritten":    {expect: other.world.Note(other.shard, 300).Bytes(), log: l, found: 1},
		"other shard":  {expect: otherShard(l), log: l, err: "is of shard"},
		"no note":      {expect: []byte("x"), log: l, err: "neither a cosigned checkpoint nor a receipt"},
		"not cosigned": {expect: l.shard.Note(10).Bytes(), log: l, err: "neither a cosigned checkpoint nor a receipt"},
	} {
		cfg := tt.log.config()
		cfg.Expect = tt.expect
		r, err := fsck.Check(t.Context(), cfg)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: error %v, want one with %q", name, err, tt.err)
			}
			continue
		}
		if err != nil || len(r.Findings) != tt.found || tt.found > 0 && r.Findings[0].Kind != fsck.KindHistory {
			t.Errorf("%s: %v\n%s", name, err, places(r))
		}
	}
}

// TestExpectReceipt: an entry that a receipt proves must be in the log.
func TestExpectReceipt(t *testing.T) {
	t.Parallel()
	var w *testlog.World
	var held []byte
	if err := testlog.Do(func() {
		w = fscktest.Said(300)
		said := w.Say(milestone(), member())
		note := w.Note(w.First, w.First.Size())
		held = testlog.Must(w.Receipt(said, note).Encode())
		w.Say(milestone(), member())
	}); err != nil {
		t.Fatal(err)
	}
	l := sealed(t, w, w.First)
	if r := l.check(t, nil, func(c *fsck.Config) { c.Expect = held }); !r.Clean() {
		t.Errorf("found\n%s", places(r))
	}
	// The same log with another entry in its place.
	w.First.Entries = slices.Clone(w.First.Entries)
	w.First.Entries[302] = w.First.Entries[301]
	r := sealed(t, w, w.First).check(t, nil, func(c *fsck.Config) { c.Expect = held })
	histories := 0
	for _, f := range r.Findings {
		if f.Kind == fsck.KindHistory {
			histories++
		}
	}
	if histories != 2 {
		t.Errorf("found\n%s", places(r))
	}
}

// TestShards: each shard goes on where the one before ended.
func TestShards(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		successor, predecessor string
		digest                 func(first *log) string
		found                  string
	}{
		"linked":            {digest: digestOf},
		"other successor":   {successor: testlog.Log + "/2099", digest: digestOf, found: "names another successor"},
		"other predecessor": {predecessor: testlog.Log + "/1999", digest: digestOf, found: "names another predecessor"},
		"other checkpoint":  {digest: func(*log) string { return strings.Repeat("ab", 32) }, found: "does not name the last checkpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var first, second *log
			if err := testlog.Do(func() { first, second = twoShards(t, tt.successor, tt.predecessor, tt.digest) }); err != nil {
				t.Fatal(err)
			}
			reports, err := fsck.CheckShards(t.Context(), first.config(), second.config())
			if err != nil || len(reports) != 2 {
				t.Fatalf("%d reports, %v", len(reports), err)
			}
			all := places(reports[0]) + places(reports[1])
			if (tt.found == "") != (all == "") || !strings.Contains(all, tt.found) {
				t.Errorf("found %q, want %q", all, tt.found)
			}
			// Alone, the second one lacks what came before: that is no finding.
			if r := second.check(t, nil); !r.Clean() || len(r.Notes) != 2 {
				t.Errorf("alone: %v\n%s", r.Notes, places(r))
			}
		})
	}
	reports, err := fsck.CheckShards(t.Context(), statements().at(t, 5).config(), statements().at(t, 7).config())
	if err != nil || !strings.Contains(places(reports[0]), "not the shard's end") || !strings.Contains(places(reports[1]), "not a shard's start") {
		t.Errorf("shards without links: %v, %v", reports, err)
	}
}

func digestOf(first *log) string {
	note := testlog.Must(parseNote(first.files["checkpoint"]))
	return fmt.Sprintf("%x", note.Digest())
}

func twoShards(t testing.TB, successor, predecessor string, digest func(*log) string) (first, second *log) {
	w := fscktest.Said(3)
	if successor == "" {
		successor = w.Second.Origin
	}
	if predecessor == "" {
		predecessor = w.First.Origin
	}
	w.Say(aboutLog(statement.KindShardEnd, statement.TextMember("successor", successor)), member())
	first = sealed(t, w, w.First)
	w.Say(aboutLog(statement.KindShardStart, statement.TextMember("predecessor", predecessor),
		statement.TextMember("checkpoint", digest(first))), member(), testlog.In(w.Second), testlog.WithBeacon(w.Note(w.First, 1)))
	w.Say(milestone(), member(), testlog.In(w.Second))
	return first, sealed(t, w, w.Second)
}

// otherShard is a note of the world's second shard.
func otherShard(l *log) []byte {
	s := testlog.NewShard(l.world.Second.Origin, testlog.Start)
	s.AddEntry([]byte("x"))
	return l.world.Note(s, 1).Bytes()
}

func parseNote(raw []byte) (*checkpoint.Note, error) { return checkpoint.Parse(raw) }
