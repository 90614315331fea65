package evidence_test

import (
	"testing"

	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/verify"
)

func TestPromises(t *testing.T) {
	w := tell(t)
	record := w.pending(changedAt, nil)
	leaf, proof := leaves(w.forked, 20)[changedAt], path(w.forked, changedAt, 20)
	note := bare(w.forked, 20)
	changed := func(change func(*receipt.Pending)) *evidence.Evidence {
		return evidence.NewPromise(w.pending(changedAt, change), note, leaf, proof)
	}
	w.promised = testlog.Ed25519Key("nobody's")
	stranger := w.pending(changedAt, nil)
	w.promised = testlog.Ed25519Key("pending records")
	judge(t, w.policy, []row{
		{"another leaf", evidence.NewPromise(record, note, leaf, proof), []string{theLog}, ""},
		{"in the smallest tree", evidence.NewPromise(record, bare(w.forked, 10), leaf, path(w.forked, changedAt, 10)), []string{theLog}, ""},
		{"the only leaf", evidence.NewPromise(w.pending(0, func(p *receipt.Pending) { p.LeafHash[0] ^= 1 }), bare(w.honest, 1),
			leaves(w.honest, 1)[0], nil), []string{theLog}, ""},

		{
			"kept", evidence.NewPromise(record, bare(w.honest, 20), leaves(w.honest, 20)[changedAt], path(w.honest, changedAt, 20)), nil,
			"was kept",
		},
		{"the leaf is not there", evidence.NewPromise(record, note, [32]byte{1}, proof), nil, "not proven"},
		{"the path is of another place", evidence.NewPromise(record, note, leaf, path(w.forked, changedAt+1, 20)), nil, "not proven"},
		{"the path is too short", evidence.NewPromise(record, note, leaf, proof[1:]), nil, "not proven"},
		{"the path is of another tree", evidence.NewPromise(record, bare(w.honest, 20), leaf, proof), nil, "not proven"},
		{"the tree is too small", evidence.NewPromise(record, bare(w.forked, changedAt), leaf, proof), nil, "does not reach"},
		{"another key promised", evidence.NewPromise(stranger, note, leaf, proof), nil, "not signed by a key"},
		{"another place", changed(func(p *receipt.Pending) { p.Index++ }), nil, "not proven"},
		{"another shard", changed(func(p *receipt.Pending) { p.Origin = w.Second.Origin }), nil, "the promise is about"},
		{
			"another log", changed(func(p *receipt.Pending) { p.Log, p.Origin = "log.example.org/x", "log.example.org/x/2026" }), nil,
			"the policy is about",
		},
		{"the head not by the log", evidence.NewPromise(record, unsigned(w.forked, 20), leaf, proof), nil, "no key"},
	})
}

func TestOverdueIsNeverConclusive(t *testing.T) {
	w := tell(t)
	deadline := uint64(testlog.Start + 60)
	skew := uint64(verify.MaxSkew.Seconds())
	record := w.pending(12, nil)
	overdue := func(size uint64, times ...uint64) *evidence.Evidence {
		return evidence.NewOverdue(record, w.honest.Note(size, w.CosignAt(times...)...))
	}
	const quorum = 1 // two of three operators: the second largest time counts
	judge(t, w.policy, []row{
		{"by a second", overdue(12, deadline+skew+1, deadline+skew+1), nil, "could not show it to the witnesses looks the same"},
		{"much smaller", overdue(3, deadline+skew+1, deadline+skew+9, deadline+skew+9), nil, "sign an old tree head again"},
		{"one witness is behind", overdue(12, 5, deadline+skew+quorum, deadline+skew+quorum), nil, "could not show it to the witnesses"},

		{"exactly what clocks may be wrong by", overdue(12, deadline+skew, deadline+skew), nil, "clocks may be wrong"},
		{"one witness is ahead", overdue(12, deadline+skew, deadline+skew+99), nil, "clocks may be wrong"},
		{"in time", overdue(12, deadline, deadline), nil, "clocks may be wrong"},
		{"one witness", overdue(12, deadline+skew+1), nil, "quorum"},
		{"included", overdue(13, deadline+skew+1, deadline+skew+1), nil, "reaches to"},
		{"no required log key", evidence.NewOverdue(record, w.honest.NoteBy(w.honest.Keys[:1], w.honest.Checkpoint(12).Body(), 1,
			w.Cosign(deadline+skew+1)...)), nil, "required key"},
		{"another shard", evidence.NewOverdue(w.pending(12, func(p *receipt.Pending) { p.Origin = w.Second.Origin }),
			w.note(w.honest, 12, deadline+skew)), nil, "the promise is about"},
	})
}

func TestPromiseForks(t *testing.T) {
	w := tell(t)
	one := w.pending(12, nil)
	two := func(change func(*receipt.Pending)) *evidence.Evidence {
		return evidence.NewPromiseFork(one, w.pending(12, func(p *receipt.Pending) { otherLeaf(p); change(p) }))
	}
	w.promised = testlog.Ed25519Key("nobody's")
	stranger := w.pending(12, otherLeaf)
	w.promised = testlog.Ed25519Key("pending records")
	elsewhere := func(p *receipt.Pending) { p.Log, p.Origin = "log.example.org/x", "log.example.org/x/2026" }
	judge(t, w.policy, []row{
		{"two entries", evidence.NewPromiseFork(one, w.pending(12, otherLeaf)), []string{theLog}, ""},
		{"in the other order", evidence.NewPromiseFork(w.pending(12, otherLeaf), one), []string{theLog}, ""},
		{"years apart", two(func(p *receipt.Pending) { p.Received, p.Deadline = at(1e8), at(2e8) }), []string{theLog}, ""},
		{"of one statement", two(func(p *receipt.Pending) { p.Identity[0] ^= 1 }), []string{theLog}, ""},

		{"one promise twice", evidence.NewPromiseFork(one, one), nil, "the same entry"},
		{"one entry with two deadlines", evidence.NewPromiseFork(one, w.pending(12, func(p *receipt.Pending) { p.Deadline = at(90) })), nil, "the same entry"},
		{"two places", evidence.NewPromiseFork(one, w.pending(13, nil)), nil, "two places"},
		{"two shards", two(func(p *receipt.Pending) { p.Origin = w.Second.Origin }), nil, "are about"},
		{"two logs", two(elsewhere), nil, "the policy is about"},
		{"another log", evidence.NewPromiseFork(w.pending(12, elsewhere), one), nil, "the policy is about"},
		{"one by a key that nobody knows", evidence.NewPromiseFork(one, stranger), nil, "not signed by a key"},
		{"both by a key that nobody knows", evidence.NewPromiseFork(stranger, stranger), nil, "not signed by a key"},
	})
}
