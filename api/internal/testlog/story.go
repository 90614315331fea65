package testlog

import (
	"crypto/sha256"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
)

// MediaType is that of every document of the story.
const MediaType = "application/pdf"

// Members are the keys of the story.
type Members struct {
	Admin   *Member // of sponsor-a: admin and sponsor; its enrolment names a recovery key
	Device  *Member // of sponsor-a: P-256, enrolled by Admin
	Stolen  *Member // of sponsor-a: enrolled by Admin, revoked later
	Site    *Member // of site-b
	Gateway *Member // of gateway-g
	Ethics  *Member // of ethics-e
	// Smuggled is enrolled by Stolen, which is no admin.
	Smuggled *Member
	// Rogue enrols itself as if it were the first of sponsor-a.
	Rogue *Member
	// Recovery is the recovery key of sponsor-a.
	Recovery *Member
}

// Sealed is a sealed document with its opening.
type Sealed struct {
	Document []byte
	Opening  *statement.Opening
}

// Batch is a batch with its records.
type Batch struct {
	*Logged
	Records [][]byte
	Items   []Sealed // of a batch of consents
}

// Story is a world in which everything that a test needs was said.
type Story struct {
	*World
	Members

	Trial     *Logged
	Protocol  *Logged // public document Pdf, signed by Device
	Pdf       []byte
	SAP       *Logged // sealed document
	SAPSealed Sealed
	TwoSigned *Logged // public document Pdf2, signed by Admin and Device
	Pdf2      []byte
	Early     *Logged // by Stolen, before the index from which it is suspect
	Consents  Batch
	Audit     Batch // of records of the site's own type
	Received  *Logged
	Delegated *Logged // no document, sealed attributes
	Naming    Sealed  // the opening of these
	Late      *Logged // by Stolen, from that index on
	Revoked   *Logged
	Unfit     Batch   // consents by the ethics committee
	Plain     *Logged // public document, one signer, one enrolment
	Source    *Logged // sealed document of sponsor-a
	SourceDoc Sealed
	Copied    *Logged // the same commitment said by site-b
	NoBeacon  *Logged
	BySmuggle *Logged
	ByRogue   *Logged
	Final     *checkpoint.Note // of the whole first shard

	// Of the second shard.
	Next      *Logged
	FinalNext *checkpoint.Note
}

// Tell makes the story.
func Tell() *Story {
	s := &Story{World: New()}
	s.enrolments()
	s.documents()
	s.batches()
	s.others()
	s.strangers()
	// A world goes on: proofs are not all at the right edge.
	for range 3 {
		s.Say(statement.Statement{
			Kind:       statement.KindMilestone,
			Attributes: []statement.Member{statement.TextMember("milestone", "first-site-open")},
		}, []*Member{s.Admin})
	}
	s.Final = s.Note(s.First, s.First.Size())
	s.Next = s.Say(statement.Statement{
		Kind:       statement.KindMilestone,
		Attributes: []statement.Member{statement.TextMember("milestone", "last-visit")},
	}, []*Member{s.Device}, In(s.Second), WithBeacon(s.Final))
	s.FinalNext = s.Note(s.Second, s.Second.Size())
	return s
}

func (s *Story) enrolments() {
	s.Recovery = &Member{Org: "sponsor-a", Key: Ed25519Key("recovery of sponsor-a")}
	s.Admin = &Member{
		Org: "sponsor-a", Key: Ed25519Key("admin of sponsor-a"), Recovery: s.Recovery.Key,
		Roles: []statement.Role{statement.Admin, statement.Sponsor},
	}
	s.Device = &Member{Org: "sponsor-a", Key: P256Key("device of sponsor-a"), Roles: []statement.Role{statement.Sponsor}}
	s.Stolen = &Member{Org: "sponsor-a", Key: Ed25519Key("stolen device"), Roles: []statement.Role{statement.Sponsor}}
	s.Site = &Member{
		Org: "site-b", Key: Ed25519Key("site-b"), Recovery: Ed25519Key("recovery of site-b"),
		Roles: []statement.Role{statement.Site, statement.Admin},
	}
	s.Gateway = &Member{
		Org: "gateway-g", Key: Ed25519Key("gateway-g"), Recovery: Ed25519Key("recovery of gateway-g"),
		Roles: []statement.Role{statement.Gateway},
	}
	s.Ethics = &Member{
		Org: "ethics-e", Key: Ed25519Key("ethics-e"), Recovery: Ed25519Key("recovery of ethics-e"),
		Roles: []statement.Role{statement.Ethics},
	}
	s.Enrol(s.Admin, nil)
	s.Enrol(s.Device, []*Member{s.Admin})
	s.Enrol(s.Site, nil)
	s.Enrol(s.Gateway, nil)
	s.Enrol(s.Ethics, nil)
	s.Enrol(s.Stolen, []*Member{s.Admin})
}

// Document makes a statement with a public document.
func Document(kind statement.Kind, document []byte, attributes ...statement.Member) statement.Statement {
	return statement.Statement{
		Kind: kind, Subject: statement.SubjectSHA256, Digest: sha256.Sum256(document), MediaType: MediaType,
		Attributes: attributes,
	}
}

// TMF is the attributes of a statement of kind "document".
func TMF() []statement.Member {
	return []statement.Member{statement.TextMember("level", "trial"), statement.TextMember("tmf", "02.01.02")}
}

// Seal seals a document, and attributes if there are any.
func Seal(org string, kind statement.Kind, document []byte, label string, attributes ...statement.Member) Sealed {
	random := NewStream(label)
	o := &statement.Opening{Context: statement.Context{Organisation: org, Trial: Trial, Kind: kind}}
	if document != nil {
		Check(o.SealDocument(document, MediaType, random))
	}
	if attributes != nil {
		Check(o.SealAttributes(attributes, random))
	}
	return Sealed{Document: document, Opening: o}
}

func (s *Story) documents() {
	s.Trial = s.Say(statement.Statement{
		Kind: statement.KindTrial, Attributes: []statement.Member{statement.ListMember("registryIds", "NCT00000000")},
	}, []*Member{s.Admin})
	s.TrialID = s.Trial.Statement.Identity(s.Trial.Envelope.Payload)

	s.Pdf = []byte("%PDF-1.7 protocol, version 1\n")
	protocol := Document(statement.KindProtocol, s.Pdf)
	protocol.Version = "1.0"
	protocol.Dates = []statement.NamedDate{{Name: "approved", Date: "2026-02"}}
	s.Protocol = s.Say(protocol, []*Member{s.Device})

	s.SAPSealed = Seal("sponsor-a", statement.KindSAP, []byte("%PDF-1.7 analysis plan\n"), "sap")
	s.SAP = s.Say(statement.Statement{
		Kind: statement.KindSAP, Subject: statement.SubjectCommit, Digest: s.SAPSealed.Opening.Commitment(),
		MediaType: MediaType, Attributes: []statement.Member{statement.TextMember("status", "final")},
	}, []*Member{s.Device})

	s.Pdf2 = []byte("%PDF-1.7 protocol, version 2\n")
	amended := Document(statement.KindProtocol, s.Pdf2, statement.TextMember("amendment", "1"))
	amended.Version = "2.0"
	amended.Amends = s.Protocol.Statement.Identity(s.Protocol.Envelope.Payload)
	s.TwoSigned = s.Say(amended, []*Member{s.Admin, s.Device})

	s.Early = s.Say(Document(statement.KindProtocol, s.Pdf), []*Member{s.Stolen})
}

// Consent makes one record of a batch of consents.
func Consent(org, label string) (Sealed, []byte) {
	sealed := Seal(org, statement.KindConsent, []byte("%PDF-1.7 consent "+label+"\n"), "consent "+label,
		statement.TextMember("subject", "S-"+label), statement.TextMember("site", "B-01"),
		statement.TextMember("signedOn", "2026-03-01"))
	item := &statement.Item{
		Context: sealed.Opening.Context, MediaType: MediaType,
		Document: sealed.Opening.Commitment(), Sealed: sealed.Opening.AttributesCommitment(),
	}
	r := Must(statement.NewRecord(string(statement.KindConsent), item.Encode(), NewStream("salt "+label)))
	return sealed, r.Encode()
}

// SayBatch logs a batch of records.
func (s *Story) SayBatch(m *Member, label, recordType string, records [][]byte, options ...Option) *Logged {
	return s.Say(statement.Statement{Kind: statement.KindBatch, Attributes: []statement.Member{
		statement.TextMember("label", label), statement.TextMember("recordType", recordType),
		statement.CountMember("count", uint64(len(records))),
		statement.TextMember("root", Must(statement.BatchRoot(records)).String()),
	}}, []*Member{m}, options...)
}

func (s *Story) batches() {
	for _, label := range []string{"0001", "0002", "0003", "0004", "0005"} {
		sealed, record := Consent("site-b", label)
		s.Consents.Items = append(s.Consents.Items, sealed)
		s.Consents.Records = append(s.Consents.Records, record)
	}
	s.Consents.Logged = s.SayBatch(s.Site, "week-10", "consent", s.Consents.Records)

	for _, row := range []string{"row 1", "row 2", "row 3"} {
		r := Must(statement.NewRecord("audit-row", []byte(row), NewStream("salt "+row)))
		s.Audit.Records = append(s.Audit.Records, r.Encode())
	}
	s.Audit.Logged = s.SayBatch(s.Site, "audit-trail", "audit-row", s.Audit.Records)

	sealed, record := Consent("ethics-e", "0009")
	s.Unfit.Items, s.Unfit.Records = []Sealed{sealed}, [][]byte{record}
	s.Unfit.Logged = s.SayBatch(s.Ethics, "not-theirs", "consent", s.Unfit.Records)
}

func (s *Story) others() {
	received := Document(statement.KindDocument, s.Pdf, TMF()...)
	received.Organisation = "site-b"
	received.Received = &statement.ReceptionInfo{Principal: "p-7f3a", Method: "token"}
	s.Received = s.Say(received, []*Member{s.Gateway})

	s.Naming = Seal("site-b", statement.KindDelegation, nil, "delegation",
		statement.TextMember("person", "Study Nurse N"), statement.TextMember("site", "B-01"))
	s.Delegated = s.Say(statement.Statement{
		Kind: statement.KindDelegation, Sealed: s.Naming.Opening.AttributesCommitment(),
		Attributes: []statement.Member{statement.TextMember("task", "consent")},
	}, []*Member{s.Site})

	s.Late = s.Say(Document(statement.KindProtocol, s.Pdf2), []*Member{s.Stolen})
	s.Recovery.Shard, s.Recovery.EnrolledAt = s.Admin.Shard, s.Admin.EnrolledAt // named there
	s.Revoked = s.Say(statement.Statement{
		Kind: statement.KindKey, Subject: statement.SubjectKey, Digest: s.Stolen.Key.ID(),
		Attributes: []statement.Member{
			statement.TextMember("action", "revoke"), statement.TextMember("revokes", s.Stolen.Key.ID().String()),
			statement.TextMember("suspectOrigin", s.Late.Shard.Origin), statement.CountMember("suspectFrom", s.Late.Index),
			statement.TextMember("reason", "device lost"),
		},
	}, []*Member{s.Recovery})

	s.Plain = s.Say(Document(statement.KindDocument, s.Pdf, TMF()...), []*Member{s.Site})

	s.SourceDoc = Seal("sponsor-a", statement.KindDocument, []byte("%PDF-1.7 sealed report\n"), "report")
	commit := statement.Statement{
		Kind: statement.KindDocument, Subject: statement.SubjectCommit, Digest: s.SourceDoc.Opening.Commitment(),
		MediaType: MediaType, Attributes: TMF(),
	}
	s.Source = s.Say(commit, []*Member{s.Device})
	s.Copied = s.Say(commit, []*Member{s.Site})
	s.NoBeacon = s.Say(Document(statement.KindDocument, s.Pdf, TMF()...), []*Member{s.Site}, WithBeacon(nil))
}

// strangers logs what an honest sequencer would refuse: the log is trusted for
// order only.
func (s *Story) strangers() {
	s.Smuggled = &Member{Org: "sponsor-a", Key: Ed25519Key("smuggled"), Roles: []statement.Role{statement.Sponsor}}
	s.Enrol(s.Smuggled, []*Member{s.Stolen})
	s.BySmuggle = s.Say(Document(statement.KindProtocol, s.Pdf2), []*Member{s.Smuggled})
	s.Rogue = &Member{
		Org: "sponsor-a", Key: Ed25519Key("rogue"), Recovery: Ed25519Key("recovery of the rogue"),
		Roles: []statement.Role{statement.Admin, statement.Sponsor},
	}
	s.Enrol(s.Rogue, nil)
	s.ByRogue = s.Say(Document(statement.KindProtocol, s.Pdf2), []*Member{s.Rogue})
}
