package generate

import (
	"bytes"
	"crypto/elliptic"
	"encoding/asn1"
	"math/big"
	"slices"

	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// enrolments adds receipts that do not prove who signed.
func (g *set) enrolments() {
	refuse := func(id, what string, in judged) { g.verify(id, what, verify.LinkEnrolment, in) }
	refuse("enrolment-missing", "the receipt carries no enrolment", g.plain(g.Final, func(r *receipt.Receipt) { r.Enrolments = nil }))
	refuse("enrolment-of-other-key", "the receipt carries the enrolment of another key", g.plain(g.Final, func(r *receipt.Receipt) {
		r.Enrolments = []receipt.Enrolment{g.Enrolment(g.Ethics, g.First, g.Final)}
	}))
	refuse("enrolment-without-root", "a key that an admin enrolled, without the admin's own enrolment", judged{
		document: g.Pdf, receipt: g.receipt(g.Protocol, g.Final, func(r *receipt.Receipt) {
			r.Enrolments = []receipt.Enrolment{g.Enrolment(g.Device, g.First, g.Final)}
		}),
	})
	refuse("enrolment-by-no-admin", "a key that another key enrolled, which is no admin's",
		judged{receipt: g.receipt(g.BySmuggle, g.Final), document: g.Pdf2})
	refuse("enrolment-not-included", "the enrolment's path is that of another entry", g.plain(g.Final, func(r *receipt.Receipt) {
		r.Enrolments[0].Proof.Index++
	}))
	refuse("enrolment-quorum", "the checkpoint of the enrolment is not cosigned", g.plain(g.Final, func(r *receipt.Receipt) {
		r.Enrolments[0].Proof.Note = g.noteAt()
	}))
	refuse("enrolment-of-no-key", "an entry that enrols no key in the place of an enrolment", g.plain(g.Final, func(r *receipt.Receipt) {
		r.Enrolments = append(r.Enrolments, receipt.Enrolment{
			Entry: g.First.Entries[g.Trial.Index], Proof: g.First.Proof(g.Trial.Index, g.Final),
		})
	}))
	refuse("revocation-by-admin", "a revocation without the signature of the recovery key", judged{
		receipt: g.receipt(g.Say(statement.Statement{
			Kind: statement.KindKey, Subject: statement.SubjectKey, Digest: g.Device.Key.ID(),
			Attributes: g.Revoked.Statement.Attributes,
		}, []*testlog.Member{g.Admin}, testlog.Changed(func(s *statement.Statement) {
			s.Attributes = slices.Clone(s.Attributes)
			s.Attributes[1] = statement.TextMember("revokes", g.Device.Key.ID().String())
		})), g.latest()),
	})
	foreign := testlog.Document(statement.KindDocument, g.Pdf, testlog.TMF()...)
	foreign.Organisation = "sponsor-a"
	refuse("enrolled-for-other-organisation", "the signer's key was enrolled for another organisation than speaks",
		judged{receipt: g.receipt(g.Say(foreign, []*testlog.Member{g.Site}), g.latest()), document: g.Pdf})
	refuse("role-may-not-say", "a site's key says a protocol",
		judged{receipt: g.receipt(g.Say(testlog.Document(statement.KindProtocol, g.Pdf), []*testlog.Member{g.Site}),
			g.latest()), document: g.Pdf})
	gateway := testlog.Document(statement.KindDocument, g.Pdf, testlog.TMF()...)
	gateway.Received = &statement.ReceptionInfo{Principal: "p-7f3a", Method: "token"}
	refuse("reception-by-no-gateway", "a key that is no gateway's says that it received a statement", judged{
		receipt: g.receipt(g.Say(gateway, []*testlog.Member{g.Site}), g.latest()), document: g.Pdf,
		sidecar: g.receiving(g.Site.Key.ID()),
	})
	g.lateEnrolments(refuse)
	g.falseEnrolments(refuse)
}

// falseEnrolments adds first enrolments that are not what they should be.
func (g *set) falseEnrolments(refuse func(id, what string, in judged)) {
	for _, c := range []struct {
		id, what string
		option   testlog.Option
	}{
		{"enrolment-without-possession", "the enrolled key did not sign its enrolment, another key did", testlog.SignedBy(g.Admin.Key)},
		{"enrolment-for-other-log", "the enrolment is meant for another log", testlog.Changed(func(s *statement.Statement) {
			s.Log, s.Beacon = "log.example.org/elsewhere", nil
		})},
		{
			"enrolment-received", "a gateway enrols its own key as if it had received the enrolment",
			testlog.AsReceived(),
		},
	} {
		m := &testlog.Member{
			Org: "false-f", Key: testlog.Ed25519Key(c.id), Recovery: testlog.Ed25519Key("recovery, " + c.id),
			Roles: []statement.Role{statement.Sponsor},
		}
		g.Enrol(m, nil, c.option)
		l := g.Say(testlog.Document(statement.KindProtocol, g.Pdf), []*testlog.Member{m})
		refuse(c.id, c.what, judged{receipt: g.receipt(l, g.latest()), document: g.Pdf})
	}
}

// lateEnrolments adds enrolments out of order, and those that overreach.
func (g *set) lateEnrolments(refuse func(id, what string, in judged)) {
	late := &testlog.Member{
		Org: "late-l", Key: testlog.Ed25519Key("late"), Recovery: testlog.Ed25519Key("recovery of late"),
		Roles: []statement.Role{statement.Sponsor},
	}
	before := g.Say(testlog.Document(statement.KindProtocol, g.Pdf), []*testlog.Member{late})
	g.Enrol(late, nil)
	refuse("enrolment-later", "the key was enrolled after the statement", judged{receipt: g.receipt(before, g.latest()), document: g.Pdf})

	taker := &testlog.Member{
		Org: "sponsor-a", Key: testlog.Ed25519Key("taker"), Recovery: testlog.Ed25519Key("recovery of the taker"),
		Roles: []statement.Role{statement.Sponsor},
	}
	g.Enrol(taker, []*testlog.Member{g.Admin})
	refuse("recovery-key-replaced-by-admin", "an admin's key enrols a key that names another recovery key", judged{
		receipt: g.receipt(g.Say(testlog.Document(statement.KindProtocol, g.Pdf), []*testlog.Member{taker}), g.latest()), document: g.Pdf,
	})
	refuse("second-first-enrolment", "a second key as if it were the organisation's first, beside the proof of the first", judged{
		document: g.Pdf2, receipt: g.receipt(g.ByRogue, g.Final, func(r *receipt.Receipt) {
			r.Enrolments = append(r.Enrolments, g.Enrolment(g.Admin, g.First, g.Final))
		}),
	})
}

// signatures adds statements that are not signed as they say.
func (g *set) signatures() {
	refuse := func(id, what string, signers []*testlog.Member, options ...testlog.Option) {
		l := g.Say(testlog.Document(statement.KindProtocol, g.Pdf), signers, options...)
		g.verify(id, what, verify.LinkSignature, judged{receipt: g.receipt(l, g.latest()), document: g.Pdf})
	}
	both, device := []*testlog.Member{g.Admin, g.Device}, []*testlog.Member{g.Device}
	refuse("signature-by-unnamed-key", "signed by a key that is not among the signers", device, testlog.SignedBy(g.Admin.Key))
	refuse("signature-unnamed-besides", "a further signature by a key that is not among the signers", device,
		testlog.SignedBy(g.Device.Key, g.Admin.Key))
	refuse("signature-missing", "one of two signers did not sign", both, testlog.SignedBy(g.Admin.Key))
	refuse("signature-twice", "one signer signed twice, the other not", both, testlog.SignedBy(g.Admin.Key, g.Admin.Key))
	refuse("signature-high-s", "an ECDSA signature with high S", device, resigned(highS))
	refuse("signature-ecdsa-ber", "an ECDSA signature with a longer DER length than needed", device, resigned(func(sig []byte) []byte {
		return slices.Concat(sig[:1], []byte{0x81}, sig[1:])
	}))
	refuse("signature-ecdsa-altered", "an altered ECDSA signature", device, resigned(flipLast))
	refuse("signature-ed25519-altered", "an altered Ed25519 signature", []*testlog.Member{g.Admin}, resigned(flipLast))
	refuse("signature-over-other-payload", "the signature is over another payload", []*testlog.Member{g.Admin},
		testlog.Rewritten(func(raw []byte) []byte {
			payload, sigs, err := statement.ParseDSSE(raw, statement.PayloadType, statement.MaxEnvelope)
			testlog.Check(err)
			return statement.EncodeDSSE(statement.PayloadType, bytes.Replace(payload, []byte("authorship"), []byte("review"), 1), sigs)
		}))

	g.received()
}

// received adds what a gateway says.
func (g *set) received() {
	g.verify("received-refused", "the policy refuses grade received", verify.LinkGrade,
		judged{receipt: g.receipt(g.Received, g.Final), document: g.Pdf})
	g.verify("gateway-not-named", "the policy accepts grade received, from another gateway", verify.LinkGrade,
		judged{receipt: g.receipt(g.Received, g.Final), document: g.Pdf, sidecar: g.receiving(g.Site.Key.ID())})
	trusted := g.receiving(g.Gateway.Key.ID())
	g.verify("shard-end-received", "a gateway that the policy names ends the log's shard in the name of its operator", verify.LinkEntry,
		judged{receipt: g.receipt(g.Say(g.shardEnd(), []*testlog.Member{g.Gateway}, testlog.AsReceived()), g.latest()), sidecar: trusted})
	g.verify("token-in-received-batch", "a gateway receives a batch of the log's own tokens", verify.LinkRecord,
		judged{receipt: g.receipt(g.receivedBatch(g.Tokens), g.latest(), record(g.Tokens, 0)), sidecar: trusted})
}

// resigned changes the first signature of an envelope.
func resigned(change func([]byte) []byte) testlog.Option {
	return testlog.Rewritten(func(raw []byte) []byte {
		payload, sigs, err := statement.ParseDSSE(raw, statement.PayloadType, statement.MaxEnvelope)
		testlog.Check(err)
		sigs[0].Sig = change(sigs[0].Sig)
		return statement.EncodeDSSE(statement.PayloadType, payload, sigs)
	})
}

func flipLast(sig []byte) []byte {
	sig = slices.Clone(sig)
	sig[len(sig)-1] ^= 1
	return sig
}

// highS returns the high-S twin of a DER signature.
func highS(sig []byte) []byte {
	var v struct{ R, S *big.Int }
	testlog.Must(asn1.Unmarshal(sig, &v))
	v.S = new(big.Int).Sub(elliptic.P256().Params().N, v.S)
	return testlog.Must(asn1.Marshal(v))
}

// keyStatus adds verdicts on the signers' keys.
func (g *set) keyStatus() {
	size := g.Final.Checkpoint().Size
	with := func(l *testlog.Logged, document, ring []byte) judged {
		return judged{receipt: g.receipt(l, g.Final), document: document, keyring: ring}
	}
	full := g.Keyring(g.ring(size))
	g.verify("key-valid", "the keyring holds the key, not revoked", "", with(g.TwoSigned, g.Pdf2, full))
	g.verify("key-revoked-later", "the key is revoked, the statement stands before the suspect index", "", with(g.Early, g.Pdf, full))
	g.verify("key-status-not-reached", "the keyring ends before the statement: unknown", "",
		with(g.TwoSigned, g.Pdf2, g.Keyring(g.ring(g.TwoSigned.Index))))
	g.verify("key-not-reached", "the keyring ends before the enrolment: unknown", "", with(g.Plain, g.Pdf, g.Keyring(g.ring(1))))
	g.verify("revocation-with-keyring", "a recovery key stands in no keyring; the enrolment that names it does", "",
		with(g.Revoked, nil, full))

	refuse := func(id, what string, in judged) { g.verify(id, what, verify.LinkKeyStatus, in) }
	refuse("key-suspect", "the key is revoked and suspect from this very index", with(g.Late, g.Pdf2, full))
	refuse("rogue-enrolment", "the auditor's keyring does not hold a key that enrolled itself", with(g.ByRogue, g.Pdf2, full))
	refuse("keyring-not-by-auditor", "the keyring is signed by another than the policy's auditor",
		with(g.Plain, g.Pdf, testlog.Must(statement.SignDSSE(verify.KeyringPayloadType, g.ring(size).Encode(), g.Admin.Key))))
	refuse("keyring-as-statement", "the keyring is signed under the payload type of statements",
		with(g.Plain, g.Pdf, testlog.Must(statement.SignDSSE(statement.PayloadType, g.ring(size).Encode(), g.Auditor))))
	other := g.ring(size)
	other.Log = "log.example.org/other"
	refuse("keyring-of-other-log", "the keyring of another log", with(g.Plain, g.Pdf, g.Keyring(other)))
	twice := g.ring(size)
	twice.Keys = append(twice.Keys, twice.Keys[0])
	refuse("keyring-key-twice", "the keyring lists a key twice", with(g.Plain, g.Pdf, g.Keyring(twice)))
	moved := g.ring(size)
	for i := range moved.Keys {
		moved.Keys[i].Enrolled++
	}
	refuse("keyring-other-enrolment", "the keyring knows the key's enrolment at another index", with(g.Plain, g.Pdf, g.Keyring(moved)))
	taken := g.ring(size)
	for i := range taken.Keys {
		if k := &taken.Keys[i]; k.Key == g.Admin.Key.ID() {
			k.Revoked, k.SuspectOrigin, k.SuspectFrom = true, g.First.Origin, g.Device.EnrolledAt
		}
	}
	refuse("enrolled-by-suspect", "the admin's key that enrolled the signer was suspect by then", with(g.Protocol, g.Pdf, g.Keyring(taken)))
}
