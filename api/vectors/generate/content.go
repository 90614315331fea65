package generate

import (
	"bytes"
	"slices"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// beacons adds statements whose beacon does not hold.
func (g *set) beacons() {
	refuse := func(id, what string, beacon *checkpoint.Note, options ...testlog.Option) {
		l := g.say(append(options, testlog.WithBeacon(beacon))...)
		g.verify(id, what, verify.LinkBeacon, judged{receipt: g.receipt(l, g.latest()), document: g.Pdf})
	}
	size := g.First.Size()
	t := g.First.Time(size)
	refuse("beacon-quorum", "the beacon is cosigned by one operator only", g.First.Note(size, g.CosignAt(t)...))
	refuse("beacon-log-key-missing", "the beacon lacks the log's required ML-DSA-44 signature",
		g.First.NoteBy(g.First.Keys[:1], g.First.Checkpoint(size).Body(), t, g.Cosign(t)...))
	refuse("beacon-wrong-size", "the statement states another size than the note", g.Note(g.First, size),
		testlog.Changed(func(s *statement.Statement) { s.Beacon.Size-- }))
	refuse("beacon-wrong-origin", "the statement states the origin of the other shard", g.Note(g.First, size),
		testlog.Changed(func(s *statement.Statement) { s.Beacon.Origin = g.Second.Origin }))
	unlisted := testlog.NewShard(testlog.Log+"/2028", testlog.Start)
	unlisted.Entries = g.First.Entries
	refuse("beacon-of-unlisted-shard", "the beacon is of a shard that the policy does not list", g.Note(unlisted, size))
	refuse("beacon-of-later-shard", "the beacon is of a shard that opened after the entry's", g.Note(g.Second, 1))

	// A note of the size that includes the entry itself can only be told from
	// its index: the tree is made twice.
	grown := *g.First
	grown.Entries = append(slices.Clone(grown.Entries), []byte("to come"), []byte("and another"))
	refuse("beacon-younger", "the beacon is of a larger tree than the one that the entry was added to", g.Note(&grown, g.First.Size()+1))

	g.verify("beacon-missing", "the statement names a beacon, the receipt carries none", verify.LinkBeacon,
		g.plain(g.Final, func(r *receipt.Receipt) { r.Beacon = nil }))
	g.verify("beacon-not-named", "the receipt carries a beacon, the statement names none", verify.LinkBeacon,
		judged{receipt: g.receipt(g.NoBeacon, g.Final, func(r *receipt.Receipt) { r.Beacon = g.Final.Bytes() }), document: g.Pdf})
	g.verify("beacon-with-more-signatures", "the same checkpoint with one more cosignature is not the note that the submitter saw",
		verify.LinkBeacon, g.plain(g.Final, func(r *receipt.Receipt) {
			n := testlog.Must(checkpoint.Parse(r.Beacon))
			r.Beacon = testlog.Must(n.With(g.Operators[0].Keys[0].Sign(n.Text(), 1000000000))).Bytes()
		}))
	g.verify("beacon-crlf", "the beacon with CRLF line ends", verify.LinkBeacon, g.plain(g.Final, func(r *receipt.Receipt) {
		r.Beacon = bytes.ReplaceAll(r.Beacon, []byte("\n"), []byte("\r\n"))
	}))

	const year2100 = 4102444800
	size = g.First.Size()
	t = g.First.Time(size)
	l := g.say(testlog.WithBeacon(g.First.Note(size, g.CosignAt(t, year2100, year2100)...)))
	g.verify("beacon-after-receipt", "two clocks of three put the beacon after the receipt", verify.LinkTime,
		judged{receipt: g.receipt(l, g.latest()), document: g.Pdf})
}

// contents adds documents, openings and records that are not what was logged.
func (g *set) contents() {
	g.documentVectors()
	g.openingVectors()
	g.recordVectors()
}

func (g *set) documentVectors() {
	refuse := func(id, what string, in judged) { g.verify(id, what, verify.LinkDocument, in) }
	in := g.plain(g.Final)
	in.document = g.Pdf2
	refuse("document-other", "another document", in)
	in.document = flipLast(g.Pdf)
	refuse("document-altered", "one bit of the document is altered", in)
	in.document = nil
	refuse("document-missing", "the statement has a document, none is given", in)
	refuse("document-none", "the statement has no document, one is given", judged{receipt: g.receipt(g.Trial, g.Final), document: g.Pdf})
	refuse("sealed-document-altered", "one bit of the sealed document is altered", judged{
		receipt: g.receipt(g.SAP, g.Final), document: flipLast(g.SAPSealed.Document), opening: g.SAPSealed.Opening.Encode(),
	})
	refuse("record-body-other", "another record of the submitter's own type", judged{
		receipt: g.receipt(g.Audit.Logged, g.Final, record(g.Audit, 1)), document: []byte("row 3"),
	})
}

func (g *set) openingVectors() {
	sap := g.receipt(g.SAP, g.Final)
	refuse := func(id, what string, raw, document []byte, change func(*statement.Opening)) {
		in := judged{receipt: raw, document: document}
		if change != nil {
			o := *g.SAPSealed.Opening
			change(&o)
			in.opening = o.Encode()
		}
		g.verify(id, what, verify.LinkOpening, in)
	}
	refuse("opening-missing", "the document is sealed, no opening is given", sap, g.SAPSealed.Document, nil)
	refuse("opening-nonce", "the opening has another nonce", sap, g.SAPSealed.Document, func(o *statement.Opening) { o.Nonce[31]++ })
	refuse("opening-sha3", "the opening has another SHA3-256", sap, g.SAPSealed.Document, func(o *statement.Opening) { o.SHA3[0]++ })
	refuse("opening-media-type", "the opening has another media type", sap, g.SAPSealed.Document,
		func(o *statement.Opening) { o.MediaType = "text/plain" })
	refuse("opening-of-other-kind", "the opening is for another kind", sap, g.SAPSealed.Document,
		func(o *statement.Opening) { o.Kind = statement.KindProtocol })
	refuse("opening-of-other-trial", "the opening is for another trial", sap, g.SAPSealed.Document,
		func(o *statement.Opening) { o.Trial = "T-2026-002" })
	refuse("opening-other", "the opening of another document", sap, g.SourceDoc.Document,
		func(o *statement.Opening) { *o = *g.SourceDoc.Opening })
	refuse("opening-for-public-document", "an opening for a public document", g.receipt(g.Plain, g.Final), g.Pdf,
		func(o *statement.Opening) {
			o.Organisation, o.Kind = "site-b", statement.KindDocument
		})
	l := g.Say(*g.SAP.Statement, []*testlog.Member{g.Device}, testlog.Changed(func(s *statement.Statement) { s.MediaType = "text/plain" }))
	refuse("opening-media-type-of-statement", "the statement states another media type than was committed to", g.receipt(l, g.latest()),
		g.SAPSealed.Document, func(*statement.Opening) {})
	copied := g.receipt(g.Copied, g.Final)
	refuse("commitment-copied", "a commitment copied to another organisation, with the true opening", copied, g.SourceDoc.Document,
		func(o *statement.Opening) { *o = *g.SourceDoc.Opening })
	refuse("commitment-copied-opening-changed", "a commitment copied to another organisation, with an opening in its name", copied,
		g.SourceDoc.Document, func(o *statement.Opening) { *o = *g.SourceDoc.Opening; o.Organisation = "site-b" })
	delegated := g.receipt(g.Delegated, g.Final)
	refuse("attributes-altered", "the sealed attributes were altered", delegated, nil, func(o *statement.Opening) {
		*o = *g.Naming.Opening
		o.Attributes = bytes.Replace(o.Attributes, []byte("Nurse N"), []byte("Nurse M"), 1)
	})
	consent := g.Consents.Items[2]
	refuse("opening-in-part", "the opening leaves out the sealed attributes", g.receipt(g.Consents.Logged, g.Final, record(g.Consents, 2)),
		consent.Document, func(o *statement.Opening) { *o = *consent.Opening; o.Attributes = nil })
	refuse("opening-of-other-record", "the opening of another record of the batch", g.receipt(g.Consents.Logged, g.Final,
		record(g.Consents, 2)),
		g.Consents.Items[1].Document, func(o *statement.Opening) { *o = *g.Consents.Items[1].Opening })
}

func (g *set) recordVectors() {
	item := g.Consents.Items[2]
	refuse := func(id, what string, l *testlog.Logged, changes ...func(*receipt.Receipt)) {
		g.verify(id, what, verify.LinkRecord, judged{
			receipt: g.receipt(l, g.latest(), changes...), document: item.Document, opening: item.Opening.Encode(),
		})
	}
	third := record(g.Consents, 2)
	refuse("record-inner-node", "an inner node of the batch's tree in the place of a record", g.Consents.Logged, func(r *receipt.Receipt) {
		third(r)
		r.Record.Data = append(r.Record.Path[0][:], r.Record.Path[0][:]...)
		r.Record.Index, r.Record.Path = 1, r.Record.Path[1:]
	})
	refuse("record-index", "the record at its neighbour's place", g.Consents.Logged, func(r *receipt.Receipt) {
		third(r)
		r.Record.Index++
	})
	refuse("record-out-of-range", "a place beyond the batch's count", g.Consents.Logged, func(r *receipt.Receipt) {
		third(r)
		r.Record.Index = 5
	})
	refuse("record-path-too-long", "the record's path has one hash too many", g.Consents.Logged, func(r *receipt.Receipt) {
		third(r)
		r.Record.Path = append(r.Record.Path, [32]byte{})
	})
	refuse("record-of-other-batch", "a record of another batch", g.Audit.Logged, third)
	refuse("record-without-batch", "a record beside a statement that is no batch", g.Plain, third)
	refuse("record-of-other-organisation", "a batch of the sponsor that holds the site's consent",
		g.SayBatch(g.Admin, "copied", "consent", g.Consents.Records), third)
	refuse("record-of-other-trial", "a batch of another trial that holds the consent", g.SayBatch(g.Site, "other-trial",
		"consent", g.Consents.Records,
		testlog.Changed(func(s *statement.Statement) { s.Trial = "T-2026-002" })), third)
	refuse("record-type-other", "the batch states another type than its records have",
		g.SayBatch(g.Site, "other-type", "subject-event", g.Consents.Records), third)
	refuse("record-role", "an ethics committee says a consent, which only a site, a sponsor or a CRO may",
		g.Unfit.Logged, record(g.Unfit, 0))
}
