package generate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/vectors"
	"github.com/trialog/trialog/api/verify"
)

// equivocation is a log that has said one thing to some, and another to others.
type equivocation struct {
	*set
	one, other *testlog.Shard // of one origin; they differ from the entry changedAt on
	sidecar    string         // file of the policy's second half, which names who signs log lists
	policy     *verify.Policy
}

// changedAt is the index of the entry that one of the two trees has otherwise.
const changedAt = 9

// evidence adds vectors of the op evidence.
func (g *set) evidence() {
	e := &equivocation{set: g, one: testlog.NewShard(g.First.Origin, 0), other: testlog.NewShard(g.First.Origin, 0)}
	for i := range 21 {
		e.one.AddEntry(fmt.Appendf(nil, "entry %d", i))
		if i == changedAt {
			e.other.AddEntry([]byte("another entry"))
			continue
		}
		e.other.AddEntry(fmt.Appendf(nil, "entry %d", i))
	}
	var trust map[string]any
	testlog.Check(json.Unmarshal(g.sidecar, &trust))
	trust["format"] = verify.TrustFormat2
	trust["logListKeys"] = []string{base64.StdEncoding.EncodeToString(testlog.Ed25519Key("log lists").Public().DER())}
	raw := testlog.Must(json.MarshalIndent(trust, "", " "))
	e.sidecar = g.file("evidence/trust.json", raw)
	e.policy = testlog.Must(verify.ParsePolicy(g.policyText, raw))
	e.heads()
	e.witnesses()
	e.promises()
	e.lists()
	e.forms()
}

// judged adds an accepted vector that is conclusive against the given parties, or
// against nobody.
func (e *equivocation) judged(id, what, against string, ev *evidence.Evidence) []byte {
	raw := testlog.Must(ev.Encode())
	v := e.vector(id, what, "", raw)
	e.accept(v)
	if f := ev.Judge(e.policy); parties(f) != against {
		e.wrongf("%s is to be against %q, found %q: %s", v.ID, against, parties(f), f.Missing)
	}
	return raw
}

// vector is a vector of op evidence.
func (e *equivocation) vector(id, what, field string, raw []byte) vectors.Vector {
	v := e.set.one("evidence", "evidence", id, what, raw, field)
	v.Inputs["policy"], v.Inputs["trust"] = "common/policy", e.sidecar
	return v
}

// parties lists whom a finding is against.
func parties(f *evidence.Finding) string {
	list := make([]string, len(f.Against))
	for i, p := range f.Against {
		list[i] = string(p.Role) + " " + p.Name
	}
	return strings.Join(list, ", ")
}

func runEvidence(in *inputs, out *Outcome) error {
	policy, err := verify.ParsePolicy(in.get("policy"), in.get("trust"))
	if err != nil {
		return err
	}
	f, err := evidence.Verify(in.get("evidence"), policy)
	if err != nil {
		return err
	}
	out.Values["kind"] = string(f.Kind)
	out.Values["conclusive"] = strconv.FormatBool(f.Conclusive)
	if f.Conclusive {
		out.Values["against"] = parties(f)
	}
	return nil
}

// leaves are the leaf hashes of the first size entries.
func leaves(s *testlog.Shard, size int) [][32]byte {
	list := make([][32]byte, size)
	for i := range list {
		list[i] = [32]byte(rfc6962.DefaultHasher.HashLeaf(s.Entries[i]))
	}
	return list
}

// hashes are those from a tree of m entries to one of 20.
func (e *equivocation) hashes(m uint64) [][32]byte {
	return testlog.Must(evidence.Hashes(m, 20, evidence.Leaves(leaves(e.one, 20))))
}

// heads adds what two tree heads show of their log.
func (e *equivocation) heads() {
	log := "log " + e.one.Origin
	both := log + ", witness ethics-1, witness regulator-1, witness university-1"
	empty := func(root checkpoint.Hash) *checkpoint.Note {
		return e.one.NoteBy(e.one.Keys, checkpoint.Checkpoint{Origin: e.one.Origin, Root: root}.Body(), 1)
	}
	one, other := e.one.Note(12), e.other.Note(12)
	stranger := testlog.LabelledNoteKey(e.one.Origin, checkpoint.AlgEd25519, "nobody's")
	unsigned := e.other.NoteBy([]*testlog.NoteKey{stranger}, e.other.Checkpoint(12).Body(), 1)
	e.judged("fork", "two roots at one size", log, evidence.NewFork(one, other))
	e.judged("fork-cosigned", "two roots at one size, both signed by every witness", both,
		evidence.NewFork(e.one.Note(12, e.Cosign(testlog.Start)...), e.other.Note(12, e.Cosign(testlog.Start)...)))
	e.judged("fork-one-key", "each root signed with another of the log's two keys", log, evidence.NewFork(
		e.one.NoteBy(e.one.Keys[:1], e.one.Checkpoint(12).Body(), 1), e.other.NoteBy(e.one.Keys[1:], e.other.Checkpoint(12).Body(), 1)))
	e.judged("fork-empty", "a tree of no entries with a root that no empty tree has", log, evidence.NewFork(empty(checkpoint.Hash{1}), nil))
	e.judged("fork-one-root", "one root, two sets of signatures", "", evidence.NewFork(one, e.one.Note(12, e.Cosign(testlog.Start)...)))
	e.judged("fork-two-sizes", "two sizes, and nothing that compares them", "", evidence.NewFork(one, e.other.Note(13)))
	e.judged("fork-unsigned", "one of two roots is not signed by a key of the log", "", evidence.NewFork(one, unsigned))
	e.judged("fork-single", "one tree head that is in order", "", evidence.NewFork(one, nil))

	e.judged("inconsistent", "the larger tree does not begin with the smaller one", log,
		evidence.NewInconsistent(e.other.Note(11), e.one.Note(20), e.hashes(11)))
	e.judged("inconsistent-power", "the same; the smaller size is a power of two, so that the first hash is the root it should have", log,
		evidence.NewInconsistent(e.other.Note(16), e.one.Note(20), e.hashes(16)))
	e.judged("inconsistent-none", "the larger tree begins with the smaller one", "",
		evidence.NewInconsistent(e.one.Note(11), e.one.Note(20), e.hashes(11)))
	e.judged("inconsistent-short", "a hash is left out", "",
		evidence.NewInconsistent(e.other.Note(11), e.one.Note(20), e.hashes(11)[1:]))
	e.judged("inconsistent-hash", "the hashes are of another tree than the larger one", "",
		evidence.NewInconsistent(e.other.Note(11), e.other.Note(20), e.hashes(11)))
	e.judged("unproven", "a wrong proof shows nothing by itself", "",
		evidence.NewUnproven(e.other.Note(16), e.one.Note(20), e.hashes(16)[1:]))
}

// witnesses adds what two tree heads show of a witness.
func (e *equivocation) witnesses() {
	by := func(s *testlog.Shard, size, t uint64) *checkpoint.Note {
		return s.NoteBy(nil, s.Checkpoint(size).Body(), 0, testlog.Cosign{Key: e.Operators[1].Keys[0], Time: t})
	}
	untimed := func(s *testlog.Shard, size uint64) *checkpoint.Note {
		return s.NoteBy(nil, s.Checkpoint(size).Body(), 0, testlog.Cosign{Key: e.Operators[1].Keys[1]})
	}
	const t = testlog.Start
	e.judged("witness-fork", "a witness signed two roots at one size", "witness regulator-1",
		evidence.NewWitnessFork(by(e.one, 12, t), by(e.other, 12, t)))
	e.judged("witness-fork-keys", "two keys of a witness signed one root each", "",
		evidence.NewWitnessFork(by(e.one, 12, t), untimed(e.other, 12)))
	e.judged("witness-rollback", "a witness signed the smaller tree a second after the larger one", "witness regulator-1",
		evidence.NewWitnessRollback(by(e.one, 12, t+1), by(e.one, 13, t)))
	e.judged("witness-rollback-same", "in the same second", "", evidence.NewWitnessRollback(by(e.one, 12, t), by(e.one, 13, t)))
	e.judged("witness-rollback-untimed", "the signatures state no time", "",
		evidence.NewWitnessRollback(untimed(e.one, 12), untimed(e.one, 13)))
}

// promises adds what became of promises.
func (e *equivocation) promises() {
	log := "log " + e.one.Origin
	key := testlog.Ed25519Key("pending records")
	at := func(seconds int64) time.Time { return time.Unix(testlog.Start+seconds, 0).UTC() }
	signed := func(key *statement.PrivateKey, s *testlog.Shard, index int) []byte {
		p := &receipt.Pending{
			Log: testlog.Log, Origin: e.one.Origin, Identity: statement.Identity{7}, Index: uint64(index), //nolint:gosec // small
			LeafHash: statement.Digest(leaves(s, 20)[index]), Received: at(0), Deadline: at(60),
		}
		return testlog.Must(p.Sign(key))
	}
	record := func(index int) []byte { return signed(key, e.one, index) }
	other := func(s *testlog.Shard, leaf int) *evidence.Evidence {
		note := s.Note(20)
		return evidence.NewPromise(record(changedAt), note, leaves(s, 20)[leaf], s.Proof(changedAt, note).Path)
	}
	skew := uint64(verify.MaxSkew.Seconds())
	late := func(size, t uint64) *evidence.Evidence {
		return evidence.NewOverdue(record(12), e.one.Note(size, e.CosignAt(t, t)...))
	}
	e.judged("promise", "another leaf at the promised index", log, other(e.other, changedAt))
	e.judged("promise-kept", "the promised leaf", "", other(e.one, changedAt))
	e.judged("promise-unproven", "a leaf that the path does not lead to", "", other(e.other, changedAt+1))
	e.judged("overdue", "a quorum signed a tree that does not reach to the index, a second too late for clocks: the log was late, "+
		"which is no promise broken", "",
		late(12, testlog.Start+60+skew+1))
	e.judged("overdue-in-time", "as late as clocks may be wrong by", "", late(12, testlog.Start+60+skew))
	e.judged("overdue-included", "the tree reaches to the index", "", late(13, testlog.Start+60+skew+1))
	e.judged("promise-fork", "one place is promised to two entries", log,
		evidence.NewPromiseFork(record(changedAt), signed(key, e.other, changedAt)))
	e.judged("promise-fork-same", "one promise twice", "", evidence.NewPromiseFork(record(changedAt), record(changedAt)))
	e.judged("promise-fork-places", "two places", "", evidence.NewPromiseFork(record(changedAt), record(changedAt+1)))
	e.judged("promise-fork-key", "one of two promises is by a key that is not for promises", "",
		evidence.NewPromiseFork(record(changedAt), signed(testlog.Ed25519Key("log lists"), e.other, changedAt)))
	e.judged("overdue-one-witness", "signed by one witness, which is no quorum", "",
		evidence.NewOverdue(record(12), e.one.Note(12, e.CosignAt(testlog.Start+60+skew+1)...)))
}

// lists adds what two log lists show of their signer.
func (e *equivocation) lists() {
	key := testlog.Ed25519Key("log lists")
	at := time.Unix(testlog.Start, 0).UTC()
	list := func(key *statement.PrivateKey, version uint64, change func(*loglist.List)) []byte {
		l := &loglist.List{Log: testlog.Log, Version: version, Issued: at, Shards: []loglist.Shard{
			listed(e.First, loglist.Active, at, at), listed(e.Second, loglist.Announced, at, at.AddDate(1, 0, 0)),
		}}
		change(l)
		return testlog.Must(l.Sign(key))
	}
	whole := func(*loglist.List) {}
	shorter := func(l *loglist.List) { l.Shards = l.Shards[:1] }
	signer := "list signer " + key.Public().ID().String()
	e.judged("loglist", "a list that leaves out a shard which was announced before", signer,
		evidence.NewLogList(list(key, 1, whole), list(key, 2, shorter)))
	e.judged("loglist-version", "two lists of one version", signer, evidence.NewLogList(list(key, 1, shorter), list(key, 1, whole)))
	e.judged("loglist-follows", "a list that may follow the other", "", evidence.NewLogList(list(key, 2, whole), list(key, 1, whole)))
	e.judged("loglist-key", "lists by two keys", "",
		evidence.NewLogList(list(key, 1, whole), list(testlog.Ed25519Key("pending records"), 2, shorter)))
}

// forms adds files that cannot be read, and the spellings of one that can.
func (e *equivocation) forms() {
	ev := evidence.NewInconsistent(e.other.Note(11), e.one.Note(20), e.hashes(11))
	ev.By, ev.At = "the mirror of University U", time.Unix(testlog.Start, 0).UTC()
	raw := e.judged("claims", "who wrote the file and when are claims", "log "+e.one.Origin, ev)
	var compact bytes.Buffer
	testlog.Check(json.Compact(&compact, raw))
	e.accept(e.vector("without-spaces", "white space between members means nothing", "", compact.Bytes()))
	first := base64.StdEncoding.EncodeToString(ev.Hashes[0][:])
	for _, c := range []change{
		{"format", "another format", "format", "evidence@v1", "evidence@v2"},
		{"kind", "a kind that there is not", "kind", `"inconsistent"`, `"split-view"`},
		{"promises-of-heads", "promises in a file of another kind", "promises", `"kind"`, `"promises":[],"kind"`},
		{"unknown", "an unknown member", "note", `"kind"`, `"note":"","kind"`},
		{"no-notes", "nothing to compare", "notes", `"notes"`, `"nodes"`},
		{"no-note", "a note without its second line", "notes[0]", `\n11\n`, `\n`},
		{"hash-short", "a hash of 31 bytes", "hashes[0]", first, base64.StdEncoding.EncodeToString(ev.Hashes[0][1:])},
		{"hash-of-fork", "hashes in a file of another kind", "hashes", `"inconsistent"`, `"fork"`},
		{"by-empty", "nobody's name, in another form than its absence", "by", ev.By, ""},
		{"by-control", "a control character in a name that is shown", "by", ev.By, `\u001b[31m`},
		{"at-zero", "a time of 0", "atMillis", fmt.Sprintf(`"atMillis": %d`, ev.At.UnixMilli()), `"atMillis": 0`},
		{"trailing", "bytes behind the end", "", "\n}\n", "\n}{}"},
	} {
		changed := bytes.Replace(raw, []byte(c.old), []byte(c.by), 1)
		if bytes.Equal(changed, raw) {
			e.wrongf("evidence-%s changes nothing", c.id)
		}
		e.reject(e.vector(c.id, c.what, c.field, changed))
	}
}
