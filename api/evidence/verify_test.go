package evidence_test

import (
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/verify"
)

// row is evidence and what is to be found: a conclusive file has parties, another
// has words that say what is missing.
type row struct {
	name    string
	e       *evidence.Evidence
	against []string
	missing string
}

// judge runs the rows by a policy, through the file format.
func judge(t *testing.T, policy *verify.Policy, rows []row) {
	t.Helper()
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			f, err := evidence.Verify(encode(t, tt.e), policy)
			if err != nil {
				t.Fatal(err)
			}
			var against []string
			for _, p := range f.Against {
				against = append(against, string(p.Role)+" "+p.Name)
			}
			switch {
			case f.Conclusive != (tt.against != nil), f.Conclusive != (f.Missing == ""):
				t.Errorf("conclusive: %t, missing %q", f.Conclusive, f.Missing)
			case !slices.Equal(against, tt.against):
				t.Errorf("against %q, expected %q", against, tt.against)
			case !strings.Contains(f.Missing, tt.missing):
				t.Errorf("missing %q, expected %q", f.Missing, tt.missing)
			case len(f.Sentences) == 0 || f.Kind != tt.e.Kind || f.PolicyFingerprint != policy.Fingerprint():
				t.Errorf("%+v", f)
			case !f.Conclusive && (!strings.HasPrefix(f.Sentences[0], "This shows nothing by itself") || len(f.Against) > 0):
				t.Errorf("%q against %v", f.Sentences, f.Against)
			}
		})
	}
}

const (
	ethics, regulator, university = "witness ethics-1", "witness regulator-1", "witness university-1"
	theLog                        = "log " + testlog.Log + "/2026"
)

func TestForks(t *testing.T) {
	w := tell(t)
	other := testlog.NewShard("log.example.org/others/2026", 0)
	other.AddEntry([]byte("x"))
	empty := w.empty
	one := func(n int) *checkpoint.Note {
		return w.forked.NoteBy(w.forked.Keys[n:n+1], w.forked.Checkpoint(12).Body(), 1)
	}
	second := testlog.NewShard(w.Second.Origin, 0)
	for i := range 12 {
		second.AddEntry([]byte{byte(i)})
	}
	judge(t, w.policy, []row{
		{"two roots", evidence.NewFork(bare(w.honest, 12), bare(w.forked, 12)), []string{theLog}, ""},
		{"in the other order", evidence.NewFork(bare(w.forked, 12), bare(w.honest, 12)), []string{theLog}, ""},
		{"by one key each", evidence.NewFork(one(0), bare(w.honest, 12)), []string{theLog}, ""},
		{"by the other key", evidence.NewFork(one(1), bare(w.honest, 12)), []string{theLog}, ""},
		{"seen by all witnesses", evidence.NewFork(w.note(w.honest, 12, 5), w.note(w.forked, 12, 5)), []string{
			theLog, ethics, regulator, university,
		}, ""},
		{
			"seen by one witness twice", evidence.NewFork(w.honest.Note(12, w.CosignAt(7, 8)...), w.forked.Note(12, w.CosignAt(0, 9, 9)...)),
			[]string{theLog, regulator},
			"",
		},
		{"an empty tree with a root", evidence.NewFork(empty(checkpoint.Hash{1}), nil), []string{theLog}, ""},
		{"another shard", evidence.NewFork(bare(second, 2), second.NoteBy(second.Keys, checkpoint.Checkpoint{
			Origin: second.Origin, Size: 2, Root: checkpoint.Hash{1},
		}.Body(), 1)), []string{"log " + w.Second.Origin}, ""},

		{"one head", evidence.NewFork(bare(w.honest, 12), nil), nil, "a single tree head"},
		{"an empty tree", evidence.NewFork(empty(sha256.Sum256(nil)), nil), nil, "a single tree head"},
		{"one root", evidence.NewFork(bare(w.honest, 12), w.note(w.honest, 12, 1)), nil, "of the same tree"},
		{"before it forked", evidence.NewFork(bare(w.honest, changedAt), bare(w.forked, changedAt)), nil, "of the same tree"},
		{"two sizes", evidence.NewFork(bare(w.honest, 12), bare(w.forked, 13)), nil, "different sizes"},
		{"two logs", evidence.NewFork(bare(w.honest, 12), bare(second, 12)), nil, "two logs"},
		{"a log that the policy does not know", evidence.NewFork(bare(other, 1), bare(other, 1)), nil, "lists no log"},
		{"the first not by the log", evidence.NewFork(unsigned(w.honest, 12), bare(w.forked, 12)), nil, "no key that the policy lists"},
		{"the second not by the log", evidence.NewFork(bare(w.honest, 12), unsigned(w.forked, 12)), nil, "no key that the policy lists"},
		{"by witnesses alone", evidence.NewFork(bare(w.honest, 12), w.by(w.forked, 12, 1)), nil, "no key that the policy lists"},
		{
			"signatures of another head", evidence.NewFork(bare(w.honest, 12), moved(bare(w.honest, 12), w.forked.Checkpoint(12))), nil,
			"no key that the policy lists",
		},
	})
}

// moved puts the signatures of a note under another checkpoint.
func moved(n *checkpoint.Note, c checkpoint.Checkpoint) *checkpoint.Note {
	return testlog.Must(checkpoint.NewNote(c.Body(), n.Signatures()...))
}

// A line that does not verify is as good as not there.
func TestSpoiledLinesTakeNothingAway(t *testing.T) {
	w := tell(t)
	spoilt := testlog.Must(bare(w.forked, 12).With(w.note(w.honest, 12, 5).Signatures()...))
	judge(t, w.policy, []row{
		{"a spoilt note", evidence.NewFork(w.note(w.honest, 12, 5), spoilt), []string{theLog}, ""},
	})
}

func TestInconsistent(t *testing.T) {
	w := tell(t)
	good := hashes(w.honest, 11, 20)
	flip := func(i int) [][32]byte {
		out := slices.Clone(good)
		out[i][0] ^= 1
		return out
	}
	rows := []row{
		{"seen by all witnesses", evidence.NewInconsistent(w.note(w.forked, 11, 5), w.note(w.honest, 20, 9), good), []string{
			theLog, ethics, regulator, university,
		}, ""},
		{
			"the other is the older", evidence.NewInconsistent(bare(w.honest, 11), bare(w.forked, 20), hashes(w.forked, 11, 20)),
			[]string{theLog},
			"",
		},

		{"consistent", evidence.NewInconsistent(bare(w.honest, 11), bare(w.honest, 20), good), nil, "does begin with"},
		{"before it forked", evidence.NewInconsistent(bare(w.forked, 8), bare(w.honest, 20), hashes(w.honest, 8, 20)), nil, "does begin with"},
		{
			"hashes of the other tree", evidence.NewInconsistent(bare(w.forked, 11), bare(w.honest, 20), hashes(w.forked, 11, 20)), nil,
			"do not belong to the larger tree",
		},
		{
			"hashes of another size", evidence.NewInconsistent(bare(w.forked, 11), bare(w.honest, 20), hashes(w.honest, 12, 20)), nil,
			"hashes",
		},
		{"one hash less", evidence.NewInconsistent(bare(w.forked, 11), bare(w.honest, 20), good[:len(good)-1]), nil, "not as many"},
		{
			"one hash more", evidence.NewInconsistent(bare(w.forked, 11), bare(w.honest, 20), append(slices.Clip(good), [32]byte{})), nil,
			"not as many",
		},
		{"in the other order", evidence.NewInconsistent(bare(w.honest, 20), bare(w.forked, 11), good), nil, "then a larger one"},
		{"one size", evidence.NewInconsistent(bare(w.honest, 11), bare(w.forked, 11), good), nil, "then a larger one"},
		{"an empty tree", evidence.NewInconsistent(w.empty(sha256.Sum256(nil)), bare(w.honest, 20), good), nil, "then a larger one"},
		{"the older not by the log", evidence.NewInconsistent(unsigned(w.forked, 11), bare(w.honest, 20), good), nil, "no key"},
		{"the newer not by the log", evidence.NewInconsistent(bare(w.forked, 11), unsigned(w.honest, 20), good), nil, "no key"},
		{"two logs", evidence.NewInconsistent(bare(w.forked, 11), moved(bare(w.honest, 20), checkpoint.Checkpoint{
			Origin: w.Second.Origin, Size: 20, Root: w.honest.Checkpoint(20).Root,
		}), good), nil, "two logs"},
	}
	for i := range good {
		rows = append(rows, row{"another hash", evidence.NewInconsistent(bare(w.forked, 11), bare(w.honest, 20), flip(i)), nil, "do not belong"})
	}
	judge(t, w.policy, rows)
}

func TestUnprovenIsNeverConclusive(t *testing.T) {
	w := tell(t)
	wrong := [][32]byte{{1}, {2}}
	judge(t, w.policy, []row{
		{"a wrong proof", evidence.NewUnproven(bare(w.forked, 11), bare(w.honest, 20), wrong), nil, "anybody can give a wrong proof"},
		{"no proof", evidence.NewUnproven(bare(w.forked, 11), bare(w.honest, 20), nil), nil, "anybody can give a wrong proof"},
		{"a power of two", evidence.NewUnproven(bare(w.forked, 16), bare(w.honest, 20), hashes(w.honest, 16, 20)[1:]), nil, "anybody"},
		{"a right proof", evidence.NewUnproven(bare(w.honest, 11), bare(w.honest, 20), hashes(w.honest, 11, 20)), nil, "the proof is right"},
		{
			"a right proof of a power of two", evidence.NewUnproven(bare(w.honest, 16), bare(w.honest, 20), hashes(w.honest, 16, 20)[1:]), nil,
			"the proof is right",
		},
		{"more than it says", evidence.NewUnproven(bare(w.forked, 11), bare(w.honest, 20), hashes(w.honest, 11, 20)), nil, "inconsistent"},
		{"not by the log", evidence.NewUnproven(unsigned(w.forked, 11), bare(w.honest, 20), wrong), nil, "no key"},
		{"in the other order", evidence.NewUnproven(bare(w.honest, 20), bare(w.forked, 11), wrong), nil, "then a larger one"},
	})
}

func TestWitnesses(t *testing.T) {
	w := tell(t)
	w.Operators[1].Keys[0], w.Operators[1].Keys[1] = w.Operators[1].Keys[1], w.Operators[1].Keys[0]
	mldsa := func(s *testlog.Shard, size, t uint64) *checkpoint.Note {
		return s.NoteBy(nil, s.Checkpoint(size).Body(), t, testlog.Cosign{Key: w.Operators[1].Keys[0], Time: t})
	}
	untimed := func(s *testlog.Shard, size uint64) *checkpoint.Note { return mldsa(s, size, 0) }
	at := func(s *testlog.Shard, size uint64, times ...uint64) *checkpoint.Note {
		var list []testlog.Cosign
		for i, t := range times {
			if t != 0 {
				list = append(list, testlog.Cosign{Key: w.Operators[i*2].Keys[0], Time: t})
			}
		}
		return s.NoteBy(nil, s.Checkpoint(size).Body(), 0, list...)
	}
	judge(t, w.policy, []row{
		{"one", evidence.NewWitnessFork(at(w.honest, 12, 5), at(w.forked, 12, 5)), []string{ethics}, ""},
		{"one of two", evidence.NewWitnessFork(at(w.honest, 12, 5, 5), at(w.forked, 12, 5)), []string{ethics}, ""},
		{"both", evidence.NewWitnessFork(at(w.honest, 12, 5, 5), at(w.forked, 12, 9, 9)), []string{ethics, university}, ""},
		{"ML-DSA-44", evidence.NewWitnessFork(mldsa(w.honest, 12, 5), mldsa(w.forked, 12, 6)), []string{"witness regulator-2"}, ""},
		{"without a time", evidence.NewWitnessFork(untimed(w.honest, 12), untimed(w.forked, 12)), []string{"witness regulator-2"}, ""},
		{"two witnesses", evidence.NewWitnessFork(at(w.honest, 12, 5), at(w.forked, 12, 0, 5)), nil, "no key of a witness"},
		{"the log alone", evidence.NewWitnessFork(bare(w.honest, 12), bare(w.forked, 12)), nil, "no key of a witness"},
		{"one root", evidence.NewWitnessFork(at(w.honest, 12, 5), at(w.honest, 12, 6)), nil, "the same tree"},
		{"two sizes", evidence.NewWitnessFork(at(w.honest, 12, 5), at(w.forked, 13, 5)), nil, "different sizes"},
		{
			"signatures of another head", evidence.NewWitnessFork(at(w.honest, 12, 5), moved(at(w.honest, 12, 5), w.forked.Checkpoint(12))), nil,
			"no key of a witness",
		},
		{"two logs", evidence.NewWitnessFork(at(w.honest, 12, 5), moved(at(w.honest, 12, 5), checkpoint.Checkpoint{
			Origin: w.Second.Origin, Size: 12,
		})), nil, "two logs"},

		{"back", evidence.NewWitnessRollback(at(w.honest, 12, 6), at(w.honest, 13, 5)), []string{ethics}, ""},
		{"back with ML-DSA-44", evidence.NewWitnessRollback(mldsa(w.honest, 12, 6), mldsa(w.honest, 13, 5)), []string{"witness regulator-2"}, ""},
		{"back to another tree", evidence.NewWitnessRollback(at(w.forked, 12, 6), at(w.honest, 13, 5)), []string{ethics}, ""},
		{"one of two went back", evidence.NewWitnessRollback(at(w.honest, 12, 6, 6), at(w.honest, 13, 5, 7)), []string{ethics}, ""},
		{"in the same second", evidence.NewWitnessRollback(at(w.honest, 12, 5), at(w.honest, 13, 5)), nil, "at a later time"},
		{"forth", evidence.NewWitnessRollback(at(w.honest, 12, 5), at(w.honest, 13, 6)), nil, "at a later time"},
		{"two witnesses, back", evidence.NewWitnessRollback(at(w.honest, 12, 6), at(w.honest, 13, 0, 5)), nil, "at a later time"},
		{"the smaller without a time", evidence.NewWitnessRollback(untimed(w.honest, 12), mldsa(w.honest, 13, 5)), nil, "at a later time"},
		{"the larger without a time", evidence.NewWitnessRollback(mldsa(w.honest, 12, 5), untimed(w.honest, 13)), nil, "at a later time"},
		{"in the other order", evidence.NewWitnessRollback(at(w.honest, 13, 6), at(w.honest, 12, 5)), nil, "the smaller tree first"},
		{"one size", evidence.NewWitnessRollback(at(w.honest, 13, 6), at(w.forked, 13, 5)), nil, "the smaller tree first"},
		{"two logs, back", evidence.NewWitnessRollback(at(w.honest, 12, 5), moved(at(w.honest, 12, 5), checkpoint.Checkpoint{
			Origin: w.Second.Origin, Size: 13,
		})), nil, "two logs"},
	})
}

// A key that a witness gave up is anybody's.
func TestRetiredKeysAccuseNobodyBeyond(t *testing.T) {
	w := tell(t)
	retired := w.policyWith(map[string]any{"retired": []map[string]any{{
		"key": w.Operators[0].Keys[0].String(), "until": []map[string]any{{"origin": w.honest.Origin, "size": 12}},
	}}})
	fork := func(size uint64) *evidence.Evidence {
		return evidence.NewWitnessFork(w.honest.Note(size, w.CosignAt(5)...), w.forked.Note(size, w.CosignAt(6)...))
	}
	judge(t, retired, []row{
		{"as far as it counts", fork(12), []string{ethics}, ""},
		{"beyond", fork(13), nil, "no key of a witness"},
	})
	judge(t, w.policy, []row{{"before it was given up", fork(13), []string{ethics}, ""}})
	for name, tt := range map[string]struct {
		e      *evidence.Evidence
		policy *verify.Policy
		warned bool
	}{
		"it was given up":         {fork(12), retired, true},
		"it was not":              {fork(12), w.policy, false},
		"with the log":            {evidence.NewFork(w.note(w.honest, 12, 5), w.note(w.forked, 12, 5)), retired, true},
		"with the log, by others": {evidence.NewFork(w.honest.Note(12, w.CosignAt(0, 5)[1:]...), w.forked.Note(12, w.CosignAt(0, 5)[1:]...)), retired, false},
	} {
		f := tt.e.Judge(tt.policy)
		warned := slices.ContainsFunc(f.Caveats, func(c string) bool { return strings.Contains(c, "stolen") })
		if !f.Conclusive || warned != tt.warned {
			t.Errorf("%s: conclusive %t, caveats %q", name, f.Conclusive, f.Caveats)
		}
	}
}

func TestLogLists(t *testing.T) {
	w := tell(t)
	signer := "list signer " + w.lists.Public().ID().String()
	shorter := func(l *loglist.List) { l.Shards = l.Shards[:1] }
	elsewhere := func(l *loglist.List) { l.Shards[0].URL = "https://tiles.example.org" }
	other := func(l *loglist.List) {
		l.Log = "log.example.org/others"
		l.Shards = l.Shards[:1]
		l.Shards[0].Origin = l.Log + "/2026"
		for i, alg := range []checkpoint.Algorithm{checkpoint.AlgEd25519, checkpoint.AlgMLDSA44} {
			l.Shards[0].Keys[i] = testlog.NewNoteKey(l.Shards[0].Origin, alg).VerifierKey
		}
	}
	one := w.list(w.lists, 1, nil)
	judge(t, w.policy, []row{
		{"a shard is gone", evidence.NewLogList(one, w.list(w.lists, 2, shorter)), []string{signer}, ""},
		{"in the other order", evidence.NewLogList(w.list(w.lists, 2, shorter), one), []string{signer}, ""},
		{"two of one version", evidence.NewLogList(one, w.list(w.lists, 1, elsewhere)), []string{signer}, ""},

		{"one follows the other", evidence.NewLogList(one, w.list(w.lists, 2, elsewhere)), nil, "may follow"},
		{"one follows the other, in the other order", evidence.NewLogList(w.list(w.lists, 2, elsewhere), one), nil, "may follow"},
		{"one list twice", evidence.NewLogList(one, one), nil, "say the same"},
		{"two signers", evidence.NewLogList(one, w.list(w.lists2, 2, shorter)), nil, "no key that the policy names"},
		{
			"a signer that nobody knows", evidence.NewLogList(w.list(w.promised, 1, nil), w.list(w.promised, 2, shorter)), nil,
			"no key that the policy names",
		},
		{"two logs", evidence.NewLogList(one, w.list(w.lists, 2, other)), nil, "the policy is about"},
	})
}

// What Parse would not have made shows nothing, and stops nobody.
func TestJudgeOfHalfEvidence(t *testing.T) {
	w := tell(t)
	note := bare(w.honest, 3)
	for name, e := range map[string]*evidence.Evidence{
		"nothing":           {},
		"another kind":      {Kind: "split-view", Notes: []*checkpoint.Note{note}},
		"no notes":          {Kind: evidence.KindFork},
		"one note":          {Kind: evidence.KindWitnessFork, Notes: []*checkpoint.Note{note}},
		"a note is nil":     evidence.NewInconsistent(note, nil, nil),
		"both are nil":      evidence.NewWitnessRollback(nil, nil),
		"a promise is nil":  evidence.NewOverdue(nil, note),
		"no note to it":     evidence.NewPromise(w.pending(1, nil), nil, [32]byte{}, nil),
		"no leaf":           {Kind: evidence.KindPromise, Notes: []*checkpoint.Note{note}, Promise: w.pending(1, nil)},
		"one promise":       {Kind: evidence.KindPromiseFork, Promises: [][]byte{w.pending(1, nil)}},
		"promises are nil":  evidence.NewPromiseFork(nil, nil),
		"one list":          {Kind: evidence.KindLogList, Lists: [][]byte{w.list(w.lists, 1, nil)}},
		"lists that are no": evidence.NewLogList(nil, nil),
	} {
		if f := e.Judge(w.policy); f.Conclusive || f.Missing == "" || len(f.Sentences) == 0 {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// What a verdict says beside the words.
func TestFindingSaysWhatWasFound(t *testing.T) {
	w := tell(t)
	f := w.all()[evidence.KindOverdue].Judge(w.policy)
	if len(f.Promises) != 1 || f.Promises[0].Index != 12 || !f.Promises[0].Deadline.Equal(at(60)) || f.NotBefore.Unix() != testlog.Start+3602 ||
		len(f.Heads) != 1 || f.Heads[0].Size != 12 || !f.Heads[0].SignedByLog || len(f.Heads[0].Witnesses) != 3 ||
		f.Origin != w.honest.Origin || !strings.Contains(f.Ask, "by 20") || f.Sentences[len(f.Sentences)-1] != f.Ask {
		t.Errorf("%+v", f)
	}
	f = w.all()[evidence.KindPromiseFork].Judge(w.policy)
	if len(f.Promises) != 2 || f.Promises[0].LeafHash == f.Promises[1].LeafHash || f.Origin != w.honest.Origin || f.Ask != "" {
		t.Errorf("%+v", f)
	}
	if f = w.all()[evidence.KindUnproven].Judge(w.policy); f.Ask == "" {
		t.Errorf("%+v", f)
	}
	right := evidence.NewUnproven(bare(w.honest, 11), bare(w.honest, 20), hashes(w.honest, 11, 20))
	if f = right.Judge(w.policy); f.Ask != "" || len(f.Sentences) != 1 {
		t.Errorf("of a right proof nothing is to be asked: %q", f.Sentences)
	}
	f = w.all()[evidence.KindLogList].Judge(w.policy)
	if len(f.Lists) != 2 || f.Lists[0].Version != 1 || f.Lists[1].Shards != 1 {
		t.Errorf("%+v", f)
	}
	f = w.all()[evidence.KindWitnessFork].Judge(w.policy)
	if f.Against[0].RunBy != "Ethics Committee E" {
		t.Errorf("%+v", f.Against)
	}
	if f = w.all()[evidence.KindFork].Judge(w.policy); f.Against[0].RunBy != "Log Operator L" {
		t.Errorf("%+v", f.Against)
	}
}
