package evidence_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// world is a log that has said one thing to some, and another to others.
type world struct {
	*testlog.World
	honest, forked *testlog.Shard // one origin, other entries from changedAt on
	promised       *statement.PrivateKey
	lists, lists2  *statement.PrivateKey
	policy         *verify.Policy
}

const (
	entriesOf = 21
	changedAt = 9
)

// tell makes the world, once for a test.
func tell(tb testing.TB) *world {
	tb.Helper()
	w := &world{}
	err := testlog.Do(func() {
		w.World = testlog.New()
		w.honest, w.forked = w.First, testlog.NewShard(w.First.Origin, testlog.Start)
		for i := range entriesOf {
			w.honest.AddEntry(fmt.Appendf(nil, "entry %d", i))
			if i == changedAt {
				w.forked.AddEntry([]byte("another entry"))
				continue
			}
			w.forked.AddEntry(fmt.Appendf(nil, "entry %d", i))
		}
		w.promised = testlog.Ed25519Key("pending records")
		w.lists, w.lists2 = testlog.Ed25519Key("log lists"), testlog.Ed25519Key("log lists, later")
		w.policy = w.policyWith(nil)
	})
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

// policyWith returns the policy with further members of the sidecar.
func (w *world) policyWith(more map[string]any) *verify.Policy {
	var sidecar map[string]any
	testlog.Check(json.Unmarshal(w.Sidecar().Encode(), &sidecar))
	sidecar["format"] = verify.TrustFormat2
	sidecar["logListKeys"] = []string{spki(w.lists), spki(w.lists2)}
	maps.Copy(sidecar, more)
	return testlog.Must(verify.ParsePolicy(w.PolicyText(), testlog.Must(json.Marshal(sidecar))))
}

func spki(k *statement.PrivateKey) string {
	return base64.StdEncoding.EncodeToString(k.Public().DER())
}

// note is cosigned by all witnesses at t.
func (w *world) note(s *testlog.Shard, size, t uint64) *checkpoint.Note {
	return s.Note(size, w.Cosign(t)...)
}

// bare is signed by the log alone.
func bare(s *testlog.Shard, size uint64) *checkpoint.Note { return s.Note(size) }

// empty is a tree head of size 0.
func (w *world) empty(root checkpoint.Hash) *checkpoint.Note {
	return w.honest.NoteBy(w.honest.Keys, checkpoint.Checkpoint{Origin: w.honest.Origin, Root: root}.Body(), 1)
}

// by is signed by the witnesses alone.
func (w *world) by(s *testlog.Shard, size, t uint64) *checkpoint.Note {
	return s.NoteBy(nil, s.Checkpoint(size).Body(), t, w.Cosign(t)...)
}

// unsigned is signed by a key that nobody knows.
func unsigned(s *testlog.Shard, size uint64) *checkpoint.Note {
	key := testlog.LabelledNoteKey(s.Origin, checkpoint.AlgEd25519, "nobody's")
	return s.NoteBy([]*testlog.NoteKey{key}, s.Checkpoint(size).Body(), 0)
}

func leaves(s *testlog.Shard, size uint64) [][32]byte {
	list := make([][32]byte, size)
	for i := range list {
		list[i] = [32]byte(rfc6962.DefaultHasher.HashLeaf(s.Entries[i]))
	}
	return list
}

// hashes proves that the tree of a shard at n does not begin with another at m.
func hashes(s *testlog.Shard, m, n uint64) [][32]byte {
	return testlog.Must(evidence.Hashes(m, n, evidence.Leaves(leaves(s, n))))
}

// pending is what the log promised for an index of the honest shard.
func (w *world) pending(index uint64, change func(*receipt.Pending)) []byte {
	p := &receipt.Pending{
		Log: testlog.Log, Origin: w.honest.Origin, Identity: statement.Identity{7}, Index: index,
		LeafHash: statement.Digest(leaves(w.honest, entriesOf)[index]),
		Received: at(0), Deadline: at(60),
	}
	if change != nil {
		change(p)
	}
	return testlog.Must(p.Sign(w.promised))
}

// at is some seconds after the log's start.
func at(seconds int64) time.Time { return time.Unix(testlog.Start+seconds, 0).UTC() }

// path proves the leaf of a shard at index.
func path(s *testlog.Shard, index, size uint64) [][32]byte {
	return s.Proof(index, bare(s, size)).Path
}

// list is a log list of the first shard, and perhaps the announced second one.
func (w *world) list(key *statement.PrivateKey, version uint64, change func(*loglist.List)) []byte {
	shard := func(s *testlog.Shard, state loglist.State) loglist.Shard {
		out := loglist.Shard{Origin: s.Origin, State: state, Announced: at(0), Opens: at(0)}
		for _, k := range s.Keys {
			out.Keys = append(out.Keys, k.VerifierKey)
		}
		return out
	}
	l := &loglist.List{Log: testlog.Log, Version: version, Issued: at(int64(version) * 10), Shards: []loglist.Shard{
		shard(w.First, loglist.Active), shard(w.Second, loglist.Announced),
	}}
	l.Shards[1].Opens = at(365 * 24 * 3600)
	if change != nil {
		change(l)
	}
	return testlog.Must(l.Sign(key))
}

func encode(tb testing.TB, e *evidence.Evidence) []byte {
	tb.Helper()
	raw, err := e.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// otherLeaf makes a promise one of another entry.
func otherLeaf(p *receipt.Pending) { p.Identity[0] ^= 1; p.LeafHash[0] ^= 1 }

// all is one file of each kind, conclusive where one can be.
func (w *world) all() map[evidence.Kind]*evidence.Evidence {
	late := uint64(testlog.Start + 3600)
	return map[evidence.Kind]*evidence.Evidence{
		evidence.KindFork:         evidence.NewFork(bare(w.honest, 12), bare(w.forked, 12)),
		evidence.KindInconsistent: evidence.NewInconsistent(bare(w.forked, 11), bare(w.honest, 20), hashes(w.honest, 11, 20)),
		evidence.KindUnproven:     evidence.NewUnproven(bare(w.forked, 11), bare(w.honest, 20), slices.Repeat([][32]byte{{1}}, 4)),
		evidence.KindPromise: evidence.NewPromise(w.pending(changedAt, nil), bare(w.forked, 20),
			leaves(w.forked, 20)[changedAt], path(w.forked, changedAt, 20)),
		evidence.KindOverdue:         evidence.NewOverdue(w.pending(12, nil), w.note(w.honest, 12, late)),
		evidence.KindPromiseFork:     evidence.NewPromiseFork(w.pending(12, nil), w.pending(12, otherLeaf)),
		evidence.KindWitnessFork:     evidence.NewWitnessFork(w.by(w.honest, 12, late), w.by(w.forked, 12, late+9)),
		evidence.KindWitnessRollback: evidence.NewWitnessRollback(w.by(w.honest, 12, late+9), w.by(w.honest, 13, late)),
		evidence.KindLogList: evidence.NewLogList(w.list(w.lists, 1, nil), w.list(w.lists, 2, func(l *loglist.List) {
			l.Shards = l.Shards[:1]
		})),
	}
}
