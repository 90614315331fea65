package generate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// accepted adds receipts that verify.
func (g *set) accepted() {
	g.verify("public-document", "a public document, signed with ECDSA P-256 by a key that an admin enrolled", "",
		judged{receipt: g.receipt(g.Protocol, g.Final), document: g.Pdf})
	g.verify("two-signers", "two signers, Ed25519 and ECDSA P-256", "",
		judged{receipt: g.receipt(g.TwoSigned, g.Final), document: g.Pdf2})
	g.verify("sealed-document", "a sealed document with its opening", "",
		judged{receipt: g.receipt(g.SAP, g.Final), document: g.SAPSealed.Document, opening: g.SAPSealed.Opening.Encode()})
	g.verify("no-document", "the trial's first statement has no document", "", judged{receipt: g.receipt(g.Trial, g.Final)})
	g.verify("sealed-attributes", "sealed attributes with their opening, no document", "",
		judged{receipt: g.receipt(g.Delegated, g.Final), opening: g.Naming.Opening.Encode()})
	g.verify("sealed-attributes-unopened", "sealed attributes need no opening as long as no document is sealed", "",
		judged{receipt: g.receipt(g.Delegated, g.Final)})
	g.verify("statement-only", "asked about the statement alone: the document is not checked, and the verdict says so", "",
		judged{receipt: g.receipt(g.Plain, g.Final), statementOnly: true})
	g.verify("no-beacon", "without a beacon there is no lower bound", "",
		judged{receipt: g.receipt(g.NoBeacon, g.Final), document: g.Pdf})
	g.verify("second-shard", "an entry of the second shard; its beacon and its signer's enrolment are of the first", "",
		judged{receipt: g.receipt(g.Next, g.FinalNext), now: time.Unix(int64(g.Second.Time(100)), 0).UTC()}) //nolint:gosec // small
	g.verify("received", "grade received, from a gateway that the policy names", "",
		judged{receipt: g.receipt(g.Received, g.Final), document: g.Pdf, sidecar: g.receiving(g.Gateway.Key.ID())})
	g.verify("enrolment-first", "an organisation's first enrolment proves itself", "",
		judged{receipt: g.receipt(g.enrolmentOf(g.Site), g.Final)})
	g.verify("enrolment-by-admin", "an enrolment that an admin's key co-signed", "",
		judged{receipt: g.receipt(g.enrolmentOf(g.Device, g.Admin), g.Final)})
	g.verify("enrolment-repeated", "a receipt of an enrolment that carries it again as the proof of its signer, twice", "",
		judged{receipt: g.receipt(g.enrolmentOf(g.Site), g.Final, func(r *receipt.Receipt) {
			e := g.Enrolment(g.Site, g.First, g.Final)
			r.Enrolments = []receipt.Enrolment{e, e}
		})})
	g.verify("revocation", "a revocation, signed by the organisation's recovery key", "",
		judged{receipt: g.receipt(g.Revoked, g.Final)})
	g.verify("rogue-enrolment-without-keyring",
		"a key that enrolled itself as if the organisation had none: only a keyring can tell, the key status is unknown", "",
		judged{receipt: g.receipt(g.ByRogue, g.Final), document: g.Pdf2})
	g.acceptedBatches()
	g.acceptedClocks()
	g.acceptedSpellings()
}

// receiving returns a sidecar that accepts received statements from gateways.
func (g *set) receiving(gateways ...statement.KeyID) []byte {
	s := g.Sidecar()
	s.AcceptReceived = true
	for _, id := range gateways {
		s.Gateways = append(s.Gateways, id.String())
	}
	return s.Encode()
}

// enrolmentOf is a member's enrolment as an entry of its own.
func (g *set) enrolmentOf(m *testlog.Member, cosigners ...*testlog.Member) *testlog.Logged {
	l := &testlog.Logged{Shard: m.Shard, Index: m.EnrolledAt, Signers: append([]*testlog.Member{m}, cosigners...)}
	if m.EnrolledAt > 0 {
		l.Beacon = g.Note(m.Shard, m.EnrolledAt).Bytes()
	}
	return l
}

// record adds a record of a batch to a receipt.
func record(b testlog.Batch, i int) func(*receipt.Receipt) {
	return func(r *receipt.Receipt) {
		r.Record = &receipt.Record{Data: b.Records[i], Index: uint64(i)} //nolint:gosec // small
		for _, h := range testlog.Must(statement.BatchPath(b.Records, i)) {
			r.Record.Path = append(r.Record.Path, [32]byte(h))
		}
	}
}

func (g *set) acceptedBatches() {
	for _, i := range []int{0, 2, 4} {
		item := g.Consents.Items[i]
		g.verify(fmt.Sprintf("consent-in-batch-%d", i), fmt.Sprintf("a sealed consent, record %d of a batch of five", i), "",
			judged{receipt: g.receipt(g.Consents.Logged, g.Final, record(g.Consents, i)), document: item.Document, opening: item.Opening.Encode()})
	}
	g.verify("batch-alone", "a batch without one of its records", "", judged{receipt: g.receipt(g.Consents.Logged, g.Final)})
	g.verify("record-of-own-type", "a record of the submitter's own type is its bytes", "",
		judged{receipt: g.receipt(g.Audit.Logged, g.Final, record(g.Audit, 1)), document: []byte("row 2")})
	item := g.Consents.Items[2]
	g.verify("consent-in-received-batch", "a consent of a batch that a gateway received", "", judged{
		receipt:  g.receipt(g.receivedBatch(g.Consents), g.latest(), record(g.Consents, 2)),
		document: item.Document, opening: item.Opening.Encode(), sidecar: g.receiving(g.Gateway.Key.ID()),
	})
	g.tokens()
}

// receivedBatch logs a batch again, as a gateway that received it.
func (g *set) receivedBatch(b testlog.Batch) *testlog.Logged {
	s := *b.Statement
	s.Signers, s.Beacon = nil, nil
	s.Received = &statement.ReceptionInfo{Principal: "p-7f3a", Method: "token"}
	return g.Say(s, []*testlog.Member{g.Gateway}, testlog.Changed(func(s *statement.Statement) {
		s.Trial, s.Subject, s.Digest = b.Statement.Trial, b.Statement.Subject, b.Statement.Digest
	}))
}

// shardEnd is the end of the first shard, in the name of the log's operator.
func (g *set) shardEnd() statement.Statement {
	return statement.Statement{
		Organisation: "operator-l", Kind: statement.KindShardEnd,
		Subject: statement.SubjectLog, Digest: statement.LogDigest(testlog.Log),
		Attributes: []statement.Member{statement.TextMember("successor", g.Second.Origin)},
	}
}

// tokens adds a batch that belongs to no trial: the log's own token records.
func (g *set) tokens() {
	m := &testlog.Member{
		Org: "operator-l", Key: testlog.Ed25519Key("operator-l"), Recovery: testlog.Ed25519Key("recovery of operator-l"),
		Roles: []statement.Role{statement.Operator},
	}
	g.Enrol(m, nil)
	item := &statement.Item{
		Context: statement.Context{Organisation: m.Org, Kind: statement.KindToken},
		Attributes: []statement.Member{
			statement.TextMember("serial", "42"), statement.TextMember("time", "2026-03-01T05:00:00Z"),
			statement.TextMember("imprint", statement.Digest(testlog.Seed("imprint")).String()),
		},
	}
	r := testlog.Must(statement.NewRecord(string(statement.KindToken), item.Encode(), testlog.NewStream("token")))
	b := testlog.Batch{Records: [][]byte{r.Encode()}}
	b.Logged = g.SayBatch(m, "hour-5", "token", b.Records, testlog.Changed(func(s *statement.Statement) {
		s.Trial, s.Subject, s.Digest = "", statement.SubjectLog, statement.LogDigest(testlog.Log)
	}))
	g.verify("batch-without-trial", "a record of a batch of the log's operator, which belongs to no trial", "",
		judged{receipt: g.receipt(b.Logged, g.latest(), record(b, 0))})
	g.Tokens = b
	g.ShardEnd = g.Say(g.shardEnd(), []*testlog.Member{m})
	g.verify("shard-end", "the log's operator ends a shard", "", judged{receipt: g.receipt(g.ShardEnd, g.latest())})
}

// noteAt is the note of the whole first shard with cosignatures of these times.
func (g *set) noteAt(times ...uint64) *checkpoint.Note {
	return g.First.Note(g.Final.Checkpoint().Size, g.CosignAt(times...)...)
}

// plain is the honest receipt of Plain under another note.
func (g *set) plain(note *checkpoint.Note, changes ...func(*receipt.Receipt)) judged {
	return judged{receipt: g.receipt(g.Plain, note, changes...), document: g.Pdf}
}

// acceptedClocks: one operator of three is outvoted, whatever its clock says.
func (g *set) acceptedClocks() {
	t := g.First.Time(g.Final.Checkpoint().Size)
	const year2100 = 4102444800
	g.verify("clock-receipt-ahead", "one clock of three is in 2100: the upper bound is that of the other two", "",
		g.plain(g.noteAt(t+1, t+2, year2100)))
	g.verify("clock-receipt-behind", "one clock of three is in 2001: the upper bound is the least time at which two operators had signed", "",
		g.plain(g.noteAt(t+1, t+2, 1000000000)))
	g.verify("clock-absurd", "one witness states 2^63-1 seconds: a verdict shows it as the end of the year 9999", "",
		g.plain(g.noteAt(t+1, t+2, math.MaxInt64)))
	g.verify("two-of-three", "two operators of three are the quorum", "", g.plain(g.noteAt(t+1, 0, t+3)))
	pq := make([]testlog.Cosign, 0, len(g.Operators))
	both := make([]testlog.Cosign, 0, 2*len(g.Operators))
	untimed := make([]testlog.Cosign, 0, 2*len(g.Operators))
	for i, op := range g.Operators {
		at := t + uint64(i)
		pq = append(pq, testlog.Cosign{Key: op.Keys[1], Time: at})
		both = append(both, testlog.Cosign{Key: op.Keys[0], Time: at}, testlog.Cosign{Key: op.Keys[1], Time: at + 9})
		untimed = append(untimed, testlog.Cosign{Key: op.Keys[0], Time: at}, testlog.Cosign{Key: op.Keys[1], Time: 0})
	}
	size := g.Final.Checkpoint().Size
	g.verify("cosigned-ml-dsa", "cosignatures with ML-DSA-44 only", "", g.plain(g.First.Note(size, pq...)))
	g.verify("cosigned-twice", "each operator with both keys: still three operators", "", g.plain(g.First.Note(size, both...)))
	g.verify("cosigned-without-time", "ML-DSA-44 cosignatures that state no time do not enter the bounds", "",
		g.plain(g.First.Note(size, untimed...)))

	for _, c := range []struct {
		id, what string
		last     uint64
	}{
		{"clock-beacon-back-dated", "the beacon carries one cosignature dated 2001: the lower bound rests on the other two", 1000000000},
		{"clock-beacon-ahead", "the beacon carries one cosignature dated 2100: the lower bound rests on the others", year2100},
	} {
		size := g.First.Size()
		at := g.First.Time(size)
		beacon := g.First.Note(size, g.CosignAt(at+1, at+2, c.last)...)
		l := g.say(testlog.WithBeacon(beacon))
		g.verify(c.id, c.what, "", judged{receipt: g.receipt(l, g.latest()), document: g.Pdf})
	}
	// The last entry is logged and cosigned by clocks a minute behind those of its beacon.
	size = g.First.Size()
	at := g.First.Time(size)
	l := g.say(testlog.WithBeacon(g.First.Note(size, g.CosignAt(at, at, at)...)))
	g.verify("clocks-cross", "the bounds cross by less than five minutes: a caveat, no failure", "",
		judged{receipt: g.receipt(l, g.First.Note(g.First.Size(), g.CosignAt(at-60, at-60, at-60)...)), document: g.Pdf})
}

// say logs a document of the site, for entries that differ in one thing only.
func (g *set) say(options ...testlog.Option) *testlog.Logged {
	return g.Say(testlog.Document(statement.KindDocument, g.Pdf, testlog.TMF()...), []*testlog.Member{g.Site}, options...)
}

// acceptedSpellings: what is not signed may differ without harm.
func (g *set) acceptedSpellings() {
	stranger := testlog.NewNoteKey("stranger.example", checkpoint.AlgEd25519Cosignature)
	size := g.Final.Checkpoint().Size
	t := g.First.Time(size)
	g.verify("unknown-key-on-note", "a signature line by a key that the policy does not know is ignored", "",
		g.plain(g.First.Note(size, append(g.Cosign(t), testlog.Cosign{Key: stranger, Time: t})...)))
	g.verify("extra-and-tokens", "the proof's extra line is carried along, and so is a token that cannot be read", "",
		g.plain(g.Final, func(r *receipt.Receipt) {
			r.Proof.Extra = []byte("carried along")
			r.Tokens = [][]byte{[]byte("not a token")}
		}))
	compact := g.plain(g.Final)
	var b bytes.Buffer
	testlog.Check(json.Compact(&b, compact.receipt))
	compact.receipt = b.Bytes()
	g.verify("receipt-without-spaces", "white space between the members of a receipt means nothing", "", compact)

	l := g.Say(testlog.Document(statement.KindProtocol, g.Pdf2), []*testlog.Member{g.Admin, g.Device},
		testlog.SignedBy(g.Device.Key, g.Admin.Key))
	g.verify("signatures-reordered", "the envelope's signatures stand in another order than the signers", "",
		judged{receipt: g.receipt(l, g.latest()), document: g.Pdf2})
	l = g.say(testlog.Rewritten(func(raw []byte) []byte {
		payload, sigs, err := statement.ParseDSSE(raw, statement.PayloadType, statement.MaxEnvelope)
		testlog.Check(err)
		sigs[0].KeyHint = g.Device.Key.ID().String()
		return statement.EncodeDSSE(statement.PayloadType, payload, sigs)
	}))
	g.verify("keyid-wrong", "DSSE's keyid names another key: it is only a hint", "",
		judged{receipt: g.receipt(l, g.latest()), document: g.Pdf})

	one := g.Sidecar()
	for group := range one.Operators {
		one.Operators[group] = "Vendor V"
	}
	in := g.plain(g.Final)
	in.sidecar = one.Encode()
	g.verify("demonstration", "one organisation runs all witnesses: demonstration, not assurance", "", in)
}

// ring is a keyring of the story's genuine keys up to size of the first shard.
func (g *set) ring(size uint64) *verify.Keyring {
	k := &verify.Keyring{Log: testlog.Log, Origin: g.First.Origin, Size: size}
	for _, m := range []*testlog.Member{g.Admin, g.Device, g.Site, g.Gateway, g.Ethics, g.Stolen} {
		row := verify.KeyringKey{
			Key: m.Key.ID(), Organisation: m.Org, Origin: m.Shard.Origin, Enrolled: m.EnrolledAt,
		}
		if m == g.Stolen && size > g.Revoked.Index {
			row.Revoked, row.SuspectOrigin, row.SuspectFrom = true, g.First.Origin, g.Late.Index
		}
		if m.EnrolledAt < size {
			k.Keys = append(k.Keys, row)
		}
	}
	slices.SortFunc(k.Keys, func(a, b verify.KeyringKey) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	return k
}
