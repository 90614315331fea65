package generate

import (
	"bytes"
	"slices"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// checkpoints adds receipts whose checkpoint is not to be believed.
func (g *set) checkpoints() {
	size := g.Final.Checkpoint().Size
	t := g.First.Time(size)
	body := g.First.Checkpoint(size).Body()
	refuse := func(id, what string, note *checkpoint.Note) {
		g.verify(id, what, verify.LinkCheckpoint, g.plain(note))
	}
	refuse("log-key-ed25519-missing", "the log's required Ed25519 signature is missing", g.First.NoteBy(g.First.Keys[1:],
		body, t, g.Cosign(t)...))
	refuse("log-key-ml-dsa-missing", "the log's required ML-DSA-44 signature is missing",
		g.First.NoteBy(g.First.Keys[:1], body, t, g.Cosign(t)...))
	other := []*testlog.NoteKey{
		testlog.LabelledNoteKey(g.First.Origin, checkpoint.AlgEd25519, "other"),
		testlog.LabelledNoteKey(g.First.Origin, checkpoint.AlgMLDSA44, "other"),
	}
	refuse("log-keys-unknown", "signed by keys of the log's name that the policy does not list", g.First.NoteBy(other,
		body, t, g.Cosign(t)...))
	refuse("quorum-one-of-two", "one operator where two are needed", g.noteAt(t))
	refuse("quorum-nobody", "no cosignature at all", g.noteAt())
	op := g.Operators[0]
	refuse("quorum-two-keys-of-one-operator", "two keys of one operator count once", g.First.Note(size,
		testlog.Cosign{Key: op.Keys[0], Time: t}, testlog.Cosign{Key: op.Keys[1], Time: t}))
	refuse("quorum-one-key-twice", "one operator's cosignatures of two times count once", g.First.Note(size,
		testlog.Cosign{Key: op.Keys[0], Time: t}, testlog.Cosign{Key: op.Keys[0], Time: t + 1}))
	refuse("extension-line", "a checkpoint with an extension line, which ML-DSA-44 does not sign",
		g.First.NoteBy(g.First.Keys, append(slices.Clone(body), "an extension\n"...), t, g.Cosign(t)...))
	lax := g.Sidecar()
	lax.RequiredLogKeys = []string{g.First.Keys[0].String(), g.Second.Keys[0].String()}
	in := g.plain(g.First.NoteBy(g.First.Keys[:1], append(slices.Clone(body), "an extension\n"...), t, g.Cosign(t)...))
	in.sidecar = lax.Encode()
	g.verify("extension-line-ed25519", "an extension line that every signer signed, under a sidecar that requires no ML-DSA-44",
		verify.LinkCheckpoint, in)
	refuse("cosignature-of-other-size", "a known witness's line was made for another tree size: the whole note is refused",
		testlog.Must(g.noteAt(t, t+1).With(g.Operators[2].Keys[0].Sign(g.First.Checkpoint(size-1).Body(), t))))
	refuse("cosignature-of-other-time", "the time in a cosignature was changed",
		testlog.Must(g.noteAt(t, t+1).With(redated(g.Operators[2].Keys[0].Sign(body, t)))))
	foreign := testlog.NewShard("log.example.org/other/2026", testlog.Start)
	foreign.Entries = g.First.Entries
	refuse("origin-unknown", "a log that the policy does not list", foreign.Note(size, g.Cosign(t)...))
	crossed := *g.Second
	crossed.Entries = g.First.Entries
	refuse("origin-by-other-shard", "the keys of one shard sign for the origin of another",
		g.First.NoteBy(g.First.Keys, crossed.Checkpoint(size).Body(), t, g.Cosign(t)...))

	early := g.plain(g.Final)
	early.now = time.Unix(int64(t), 0).UTC().Add(-time.Hour) //nolint:gosec // far below the limit
	g.verify("future", "the receipt is dated an hour after the verifier's time", verify.LinkTime, early)
	untimed := make([]testlog.Cosign, 0, len(g.Operators))
	for _, op := range g.Operators {
		untimed = append(untimed, testlog.Cosign{Key: op.Keys[1]})
	}
	g.verify("no-time", "no cosignature states a time: there is no upper bound", verify.LinkTime, g.plain(g.First.Note(size, untimed...)))
	g.inclusions()
}

// redated changes the time of a cosignature.
func redated(s checkpoint.Signature) checkpoint.Signature {
	s.Bytes = slices.Clone(s.Bytes)
	s.Bytes[7]++
	return s
}

// inclusions adds receipts whose entry is not in the tree.
func (g *set) inclusions() {
	refuse := func(id, what string, change func(*receipt.Receipt)) {
		g.verify(id, what, verify.LinkInclusion, g.plain(g.Final, change))
	}
	refuse("path-too-short", "the last hash of the path is missing", func(r *receipt.Receipt) {
		r.Proof.Path = r.Proof.Path[:len(r.Proof.Path)-1]
	})
	refuse("path-too-long", "the path has one hash too many", func(r *receipt.Receipt) {
		r.Proof.Path = append(r.Proof.Path, [32]byte{})
	})
	refuse("path-reversed", "the path runs from root to leaf", func(r *receipt.Receipt) { slices.Reverse(r.Proof.Path) })
	refuse("path-of-other-size", "the path is that of a smaller tree", func(r *receipt.Receipt) {
		r.Proof.Path = g.First.Proof(g.Plain.Index, g.First.Note(g.Plain.Index+1)).Path
	})
	refuse("index-wrong", "the index of the neighbour", func(r *receipt.Receipt) { r.Proof.Index ^= 1 })
	refuse("index-out-of-range", "the index is the tree's size", func(r *receipt.Receipt) {
		r.Proof.Index = r.Proof.Note.Checkpoint().Size
	})
	refuse("index-huge", "the index is 2^63-1", func(r *receipt.Receipt) { r.Proof.Index = 1<<63 - 1 })
	refuse("entry-other", "another entry of the same log", func(r *receipt.Receipt) { r.Entry = g.First.Entries[g.Trial.Index] })
	refuse("entry-receive-time", "the log's receive time was changed", func(r *receipt.Receipt) {
		r.Entry = slices.Clone(r.Entry)
		r.Entry[8]++
	})
	refuse("entry-re-encoded", "the same envelope with a space in its JSON: the same statement, not the same entry",
		func(r *receipt.Receipt) {
			r.Entry = testlog.Reframe(r.Entry, func(env []byte) []byte { return bytes.Replace(env, []byte(`":"`), []byte(`": "`), 1) })
		})
	refuse("entry-signatures-reordered", "the same signatures in another order: the same identity, not the same entry",
		func(r *receipt.Receipt) {
			p := g.Receipt(g.TwoSigned, g.Final)
			r.Proof, r.Beacon, r.Enrolments = p.Proof, p.Beacon, p.Enrolments
			r.Entry = testlog.Reframe(p.Entry, func(env []byte) []byte {
				payload, sigs, err := statement.ParseDSSE(env, statement.PayloadType, statement.MaxEnvelope)
				testlog.Check(err)
				slices.Reverse(sigs)
				return statement.EncodeDSSE(statement.PayloadType, payload, sigs)
			})
		})
	refuse("entry-inner-node", "an inner node of the tree in the place of a leaf", func(r *receipt.Receipt) {
		p := g.First.Proof(g.Plain.Index, g.Final)
		r.Entry = append(p.Path[0][:], p.Path[0][:]...)
		r.Proof.Index, r.Proof.Path = p.Index/2, p.Path[1:]
	})
}

// entries adds entries that are in the log and cannot be read.
func (g *set) entries() {
	refuse := func(id, what string, l *testlog.Logged) {
		g.verify(id, what, verify.LinkEntry, judged{receipt: g.receipt(l, g.latest()), document: g.Pdf})
	}
	raw := func(change func([]byte) []byte) *testlog.Logged {
		l := *g.Plain
		l.Index = g.First.AddEntry(change(slices.Clone(g.First.Entries[g.Plain.Index])))
		return &l
	}
	refuse("entry-version", "an entry of version 2", raw(func(b []byte) []byte { b[0] = 2; return b }))
	refuse("entry-trailing", "bytes after the envelope", raw(func(b []byte) []byte { return append(b, "{}"...) }))
	refuse("entry-header-only", "a frame without an envelope", raw(func(b []byte) []byte { return b[:9] }))
	refuse("payload-duplicate-member", "the payload names its organisation twice", g.say(testlog.Payload(func(p []byte) []byte {
		return bytes.Replace(p, []byte(`"organisation":`), []byte(`"organisation":"sponsor-a","organisation":`), 1)
	})))
	refuse("payload-case-variant", "the payload has a member whose name differs in case", g.say(testlog.Payload(func(p []byte) []byte {
		return bytes.Replace(p, []byte(`"organisation":`), []byte(`"Organisation":"sponsor-a","organisation":`), 1)
	})))
	refuse("beacon-of-other-log", "the statement names a beacon of another log", g.say(testlog.Swapped(
		`"origin":"log.example.org/trials/`, `"origin":"log.example.org/others/`)))
	refuse("kind-not-known", "a kind that this version does not know: not verified, and no finding of forgery", g.say(testlog.Swapped(
		`"kind":"document"`, `"kind":"of-later-version"`)))
	refuse("other-log", "a statement meant for another log, replayed into this one", g.say(testlog.WithBeacon(nil),
		testlog.Changed(func(s *statement.Statement) { s.Log = "log.example.org/elsewhere" })))
}
