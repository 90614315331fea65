package verify_test

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/verify"
)

// ending is a sidecar of the second version, with all that it may have.
func ending(s *testlog.Story) testlog.Sidecar {
	side := s.Sidecar()
	side.Format = verify.TrustFormat2
	head := s.Final.Checkpoint()
	side.Finals = []testlog.Final{{Origin: s.First.Origin, Size: head.Size, Root: head.Root[:]}}
	side.Retired = []testlog.Retired{{
		Key:   s.Operators[0].Keys[0].String(),
		Until: []testlog.Limit{{Origin: s.First.Origin, Size: head.Size - 1}},
	}}
	side.LogListKeys = []string{base64.StdEncoding.EncodeToString(testlog.Ed25519Key("log lists").Public().DER())}
	side.TimeAuthorities = []testlog.TimeAuthority{{Name: "T", Certificate: testlog.Certificate("T"), Policy: "1.3.6.1.4.1.99999.1"}}
	return side
}

func parsePolicy(t *testing.T, s *testlog.Story, side testlog.Sidecar) *verify.Policy {
	t.Helper()
	p, err := verify.ParsePolicy(s.PolicyText(), side.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSidecarVersion2(t *testing.T) {
	s := tell(t)
	side := ending(s)
	p := parsePolicy(t, s, side)
	trust, head := p.Trust(), s.Final.Checkpoint()
	if want := (verify.Final{Origin: s.First.Origin, Size: head.Size, Root: head.Root}); !slices.Equal(trust.Finals, []verify.Final{want}) {
		t.Errorf("finals %+v", trust.Finals)
	}
	if r := trust.Retired; len(r) != 1 || r[0].Key.String() != side.Retired[0].Key ||
		!slices.Equal(r[0].Until, []verify.Limit{{Origin: s.First.Origin, Size: head.Size - 1}}) {
		t.Errorf("retired %+v", trust.Retired)
	}
	if k := trust.LogListKeys; len(k) != 1 || k[0].ID() != testlog.Ed25519Key("log lists").ID() {
		t.Errorf("log list keys %+v", k)
	}
	if a := trust.TimeAuthorities[0]; a.Policy.String() != "1.3.6.1.4.1.99999.1" {
		t.Errorf("time authority %+v", a)
	}
	// All of it may be left out.
	bare := s.Sidecar()
	bare.Format = verify.TrustFormat2
	if trust := parsePolicy(t, s, bare).Trust(); len(trust.Finals)+len(trust.Retired)+len(trust.LogListKeys) > 0 {
		t.Errorf("of nothing: %+v", trust)
	}
}

func TestSidecarVersion2Rejects(t *testing.T) {
	s := tell(t)
	side := ending(s)
	good := string(side.Encode())
	key, size := side.Retired[0].Key, `"size": 28`
	root := base64.StdEncoding.EncodeToString(side.Finals[0].Root)
	final, limit := good[strings.Index(good, `{
   "origin"`):strings.Index(good, `
 ],
 "retired"`)], `{
     "origin": "`+s.First.Origin+`",
     `+size+`
    }`
	retired := good[strings.Index(good, `{
   "key"`):strings.Index(good, `
 ],
 "logListKeys"`)]
	for _, c := range []struct{ old, by, words string }{
		{`trust@v2`, `trust@v1`, "unknown member"},
		{`"finals": [`, `"finals": [], "x": [`, "finals: expected an array"},
		{`"finals": [`, `"finals": 1, "x": [`, "finals: expected an array"},
		{`"finals": [`, `"finals": [1, `, "finals[0]: expected an object"},
		{`"finals": [`, `"Finals": [`, "unknown member"},
		{final, final + "," + final, "finals[1].origin: is there twice"},
		{final, strings.Replace(final, s.First.Origin, testlog.Log+"/2030", 1), "finals[0].origin: the policy lists no log"},
		{final, strings.Replace(final, `"size": `, `"size": -`, 1), "finals[0].size"},
		{root, root[:40], "finals[0].root"},
		{root, root[:42] + "=", "finals[0].root"},
		{`"retired": [`, `"retired": [], "x": [`, "retired: expected an array"},
		{`"retired": [`, `"retired": ["k", `, "retired[0]: expected an object"},
		{key, "k", "retired[0].key"},
		{key, s.First.Keys[0].String(), "retired[0].key: the policy lists no witness"},
		{key, testlog.NewNoteKey("stranger.example", checkpoint.AlgMLDSA44).String(), "retired[0].key: the policy lists no witness"},
		{retired, retired + "," + retired, "retired[1].key: is there twice"},
		{`"until": [`, `"until": [], "x": [`, "retired[0].until: expected an array"},
		{`"until": [`, `"Until": [`, "retired[0].until: missing"},
		{limit, limit + "," + limit, "retired[0].until[1].origin: is there twice"},
		{limit, strings.Replace(limit, s.First.Origin, "log.example.org/x", 1), "retired[0].until[0].origin: the policy lists no log"},
		{limit, strings.Replace(limit, "28", "1.5", 1), "retired"},
		{`"logListKeys": [`, `"logListKeys": ["AAAA", `, "logListKeys[0]"},
		{`"1.3.6.1.4.1.99999.1"`, `""`, "timeAuthorities[0].policy"},
		{`"1.3.6.1.4.1.99999.1"`, `"1"`, "timeAuthorities[0].policy: expected an object identifier"},
		{`"1.3.6.1.4.1.99999.1"`, `"1.40"`, "timeAuthorities[0].policy"},
		{`"1.3.6.1.4.1.99999.1"`, `"3.1"`, "timeAuthorities[0].policy"},
		{`"1.3.6.1.4.1.99999.1"`, `"1.03"`, "timeAuthorities[0].policy"},
		{`"1.3.6.1.4.1.99999.1"`, `"1..3"`, "timeAuthorities[0].policy"},
		{`"1.3.6.1.4.1.99999.1"`, `"1.2.+3"`, "timeAuthorities[0].policy"},
		{`"1.3.6.1.4.1.99999.1"`, `"1.2.2147483648"`, "timeAuthorities[0].policy"},
		{`"1.3.6.1.4.1.99999.1"`, `7`, "timeAuthorities[0].policy: expected a string"},
	} {
		changed := strings.Replace(good, c.old, c.by, 1)
		if changed == good {
			t.Fatalf("nothing to change: %s", c.old)
		}
		if _, err := verify.ParsePolicy(s.PolicyText(), []byte(changed)); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: error %v, want %q", c.by, err, c.words)
		}
	}
	// What the second version has is unknown to the first.
	for _, member := range []string{"finals", "retired", "logListKeys"} {
		old := strings.Replace(string(s.Sidecar().Encode()), "{", `{"`+member+`": [],`, 1)
		if _, err := verify.ParsePolicy(s.PolicyText(), []byte(old)); err == nil || !strings.Contains(err.Error(), member+": unknown member") {
			t.Errorf("%s in the first version: %v", member, err)
		}
	}
}

// TestFinals: of a shard that has ended nothing is believed that contradicts
// its end, whoever signed it.
func TestFinals(t *testing.T) {
	s := tell(t)
	size := s.Final.Checkpoint().Size
	side := s.Sidecar()
	side.Format = verify.TrustFormat2
	head := s.First.Checkpoint(size - 2)
	side.Finals = []testlog.Final{{Origin: s.First.Origin, Size: head.Size, Root: head.Root[:]}}
	p := parsePolicy(t, s, side)
	forked := *s.First
	forked.Entries = slices.Clone(s.First.Entries)
	forked.Entries[0] = []byte("another history")
	for _, c := range []struct {
		name string
		note *checkpoint.Note
		ok   bool
	}{
		{"before the end", s.Note(s.First, size-3), true},
		{"the end", s.Note(s.First, size-2), true},
		{"behind the end", s.Note(s.First, size-1), false},
		{"another end", s.Note(&forked, size-2), false},
		{"of another shard", s.Note(s.Second, s.Second.Size()), true},
	} {
		_, err := p.CheckNote(c.note.Bytes())
		var final *verify.FinalError
		if c.ok && err != nil || !c.ok && !errors.As(err, &final) {
			t.Errorf("%s: %v", c.name, err)
		}
		if final != nil && (final.Checkpoint != c.note.Checkpoint() || final.Final.Size != size-2 || final.Error() == "") {
			t.Errorf("%s: evidence %+v", c.name, final)
		}
		if _, err := s.Policy().CheckNote(c.note.Bytes()); err != nil {
			t.Errorf("%s: without an end: %v", c.name, err)
		}
	}
	in := honest(t, s, s.Plain, s.Pdf)
	in.Policy = p
	failsAt(t, in, verify.LinkCheckpoint, "ended at size")
}

// TestRetired: a key that was given up counts for what is old, and for nothing
// else.
func TestRetired(t *testing.T) {
	s := tell(t)
	size := s.Final.Checkpoint().Size
	ethics, regulator := s.Operators[0], s.Operators[1]
	side := s.Sidecar()
	side.Format = verify.TrustFormat2
	side.Retired = []testlog.Retired{
		{Key: ethics.Keys[0].String(), Until: []testlog.Limit{{Origin: s.First.Origin, Size: size - 1}}},
	}
	p := parsePolicy(t, s, side)
	by := func(at uint64, keys ...*testlog.NoteKey) []testlog.Cosign {
		var list []testlog.Cosign
		for _, k := range keys {
			list = append(list, testlog.Cosign{Key: k, Time: s.First.Time(at)})
		}
		return list
	}
	for _, c := range []struct {
		name   string
		shard  *testlog.Shard
		size   uint64
		keys   []*testlog.NoteKey
		ok     bool
		counts int
	}{
		{"old, retired and another", s.First, size - 1, []*testlog.NoteKey{ethics.Keys[0], regulator.Keys[0]}, true, 2},
		{"new, retired and another", s.First, size, []*testlog.NoteKey{ethics.Keys[0], regulator.Keys[0]}, false, 0},
		{"new, the operator's other key", s.First, size, []*testlog.NoteKey{ethics.Keys[1], regulator.Keys[0]}, true, 2},
		{"new, both keys of the operator", s.First, size, []*testlog.NoteKey{ethics.Keys[0], ethics.Keys[1], regulator.Keys[0]}, true, 2},
		{"new, a quorum besides", s.First, size, []*testlog.NoteKey{ethics.Keys[0], regulator.Keys[0], s.Operators[2].Keys[0]}, true, 2},
		{"of another shard", s.Second, s.Second.Size(), []*testlog.NoteKey{ethics.Keys[0], regulator.Keys[0]}, false, 0},
	} {
		raw := c.shard.Note(c.size, by(c.size, c.keys...)...).Bytes()
		cosigned, err := p.CheckNote(raw)
		var quorum *checkpoint.QuorumError
		if c.ok && err != nil || !c.ok && !errors.As(err, &quorum) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && len(cosigned.Operators()) != c.counts {
			t.Errorf("%s: %d operators, want %d", c.name, len(cosigned.Operators()), c.counts)
		}
		if _, err := s.Policy().CheckNote(raw); err != nil {
			t.Errorf("%s: with the key: %v", c.name, err)
		}
	}
	// Who holds the given-up key cannot spoil what others sign.
	bad := ethics.Keys[0].Sign([]byte("something else\n"), 1)
	raw := testlog.Must(s.First.Note(size, by(size, regulator.Keys[0], s.Operators[2].Keys[0])...).With(bad)).Bytes()
	if _, err := p.CheckNote(raw); err != nil {
		t.Errorf("a bad line of a retired key: %v", err)
	}
	if _, err := s.Policy().CheckNote(raw); err == nil {
		t.Error("a bad line of a key that counts is let pass")
	}
	// And a note with no other line is nobody's.
	alone := testlog.Must(checkpoint.NewNote(s.First.Checkpoint(size).Body(), bad)).Bytes()
	if _, err := p.CheckNote(alone); err == nil || !strings.Contains(err.Error(), "retired keys only") {
		t.Errorf("a note of a retired key alone: %v", err)
	}
	// The bounds rest on what counts: the retired key dates a checkpoint back.
	cosign := append(by(size, regulator.Keys[0], s.Operators[2].Keys[0]), testlog.Cosign{Key: ethics.Keys[0], Time: 1})
	in := honest(t, s, s.Plain, s.Pdf)
	in.Policy, in.Receipt = p, encode(t, s.Receipt(s.Plain, s.First.Note(size, cosign...)))
	v := verdictOf(t, in)
	if v.NotAfter.Time.Unix() != int64(s.First.Time(size)) || v.Inclusion.OperatorsSeen != 2 {
		t.Errorf("not after %v, %d operators", v.NotAfter.Time, v.Inclusion.OperatorsSeen)
	}
}

// TestFingerprints: a policy of the first version keeps the fingerprint that it
// always had, and every member of the second counts.
func TestFingerprints(t *testing.T) {
	s := tell(t)
	const known = "c8455506e17d5247d1598b7ea66f2849c6d0cd7bee48ea7b3c5d6e6895398044"
	if got := s.Policy().Fingerprint(); got != known {
		t.Errorf("fingerprint of the first version is %s", got)
	}
	seen := map[string]bool{known: true}
	side := ending(s)
	for range 4 {
		seen[parsePolicy(t, s, side).Fingerprint()] = true
		switch {
		case side.Finals != nil:
			side.Finals = nil
		case side.Retired != nil:
			side.Retired = nil
		default:
			side.LogListKeys = nil
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d fingerprints of 5 policies", len(seen))
	}
}
