package statement

import (
	"slices"

	"github.com/trialog/trialog/api/internal/strictjson"
)

// Types of the in-toto statement and of its predicate.
const (
	InTotoType    = "https://in-toto.io/Statement/v1"
	PredicateType = "https://trialog.dev/statement/v1"
)

// Meaning is what a signature means (21 CFR 11.50(a)(3)).
type Meaning string

// The meanings of a signature.
const (
	Authorship     Meaning = "authorship"
	ReviewMeaning  Meaning = "review"
	Approval       Meaning = "approval"
	Responsibility Meaning = "responsibility"
	// Reception is the gateway's meaning: received from a principal.
	Reception Meaning = "reception"
)

// Meanings returns every meaning.
func Meanings() []Meaning {
	return []Meaning{Authorship, ReviewMeaning, Approval, Responsibility, Reception}
}

// Grade says whose word a statement is.
type Grade string

// The grades.
const (
	// Signed: by the submitter's own key, which never left the submitter.
	Signed Grade = "signed"
	// Received: the gateway says from whom it received the statement.
	Received Grade = "received"
)

// SubjectKind is the algorithm name in the subject's digest set.
type SubjectKind string

// The subjects.
const (
	SubjectSHA256    SubjectKind = "sha256"             // a public document
	SubjectCommit    SubjectKind = "trialogCommitV1"    // a sealed document
	SubjectStatement SubjectKind = "trialogStatementV1" // the trial's first statement, by identity
	SubjectTrial     SubjectKind = "trialogTrialV1"     // TrialDigest: of the first statement itself
	SubjectKey       SubjectKind = "trialogKeyV1"       // the id of the key spoken of
	SubjectLog       SubjectKind = "trialogLogV1"       // LogDigest
)

// Signer is one who signs (21 CFR 11.50(a)): the key by its id, the stated time
// and the meaning. The printed name is in the key's enrolment.
type Signer struct {
	Key     KeyID
	Meaning Meaning
	At      Date
}

// Link is the place in the chain that a writer keeps per (trial, writer key);
// the writer is the first signer.
type Link struct {
	// Number counts from 1.
	Number uint64
	// Previous is the identity of the statement with the number before; zero
	// exactly for Number 1.
	Previous Identity
}

// Beacon names a cosigned checkpoint that the submitter had seen before
// signing, which gives the statement a time that it cannot predate.
type Beacon struct {
	Origin string
	Size   uint64
	// Note is the SHA-256 of the signed note as the submitter saw it.
	Note Digest
}

// ReceptionInfo is what the gateway says about a statement of grade Received.
type ReceptionInfo struct {
	// Principal is the pseudonym under which the gateway knows the sender.
	Principal string
	// Method is how the sender was authenticated, such as "token" or "mtls".
	Method string
	// Request is RequestDigest of the sender's request, so that a repeated request
	// is known again whichever gateway takes it; optional.
	Request Digest
}

// NamedDate is a stated date and what it is the date of.
type NamedDate struct {
	Name string
	Date Date
}

// Statement is the content of a payload. The zero values of optional members
// mean that they are absent.
type Statement struct {
	Log          string
	Organisation string
	Trial        string // empty outside InTrial
	Kind         Kind
	Version      string // of the document, as the submitter numbers it; optional
	Signers      []Signer
	Chain        Link
	Amends       Identity // optional
	Supersedes   Identity // optional
	Dates        []NamedDate
	MediaType    string  // exactly with a document
	Beacon       *Beacon // absent only in the first statements of a log
	Attributes   []Member
	Sealed       Digest         // commitment to the sealed attributes; optional
	Received     *ReceptionInfo // exactly with grade Received
	Subject      SubjectKind
	Digest       Digest // of the subject
}

// Member is an attribute with its value.
type Member = strictjson.Member

// Grade returns whose word the statement is.
func (s *Statement) Grade() Grade {
	if s.Received != nil {
		return Received
	}
	return Signed
}

// Writer returns the key that keeps the chain: the first signer's.
func (s *Statement) Writer() KeyID { return s.Signers[0].Key }

// SignerIDs returns the ids of the signers' keys in the order of the payload.
func (s *Statement) SignerIDs() []KeyID {
	ids := make([]KeyID, len(s.Signers))
	for i := range s.Signers {
		ids[i] = s.Signers[i].Key
	}
	return ids
}

// HasDocument tells whether the subject is a document.
func (s *Statement) HasDocument() bool {
	return s.Subject == SubjectSHA256 || s.Subject == SubjectCommit
}

// Attribute returns the value of an attribute and whether it is there.
func (s *Statement) Attribute(name string) (strictjson.Value, bool) {
	i := slices.IndexFunc(s.Attributes, func(m Member) bool { return m.Name == name })
	if i < 0 {
		return strictjson.Value{}, false
	}
	return s.Attributes[i].Value, true
}

// TextAttribute returns an attribute that is a string, or "".
func (s *Statement) TextAttribute(name string) string {
	v, _ := s.Attribute(name)
	return v.Text
}

// CountAttribute returns an attribute that is an integer, or 0.
func (s *Statement) CountAttribute(name string) uint64 {
	v, _ := s.Attribute(name)
	return uint64(max(v.Number, 0))
}

// DigestAttribute returns an attribute that is a digest, or the zero digest.
func (s *Statement) DigestAttribute(name string) Digest {
	d, err := ParseDigest(s.TextAttribute(name))
	if err != nil {
		return Digest{}
	}
	return d
}

// RolesAttribute returns the roles that a key enrolment names.
func (s *Statement) RolesAttribute() []Role {
	v, _ := s.Attribute("roles")
	roles := make([]Role, 0, len(v.Items))
	for _, item := range v.Items {
		roles = append(roles, Role(item.Text))
	}
	return roles
}

// Identity returns the identity of the statement whose payload this is.
func (s *Statement) Identity(payload []byte) Identity {
	return Identify(payload, s.SignerIDs())
}

// Parse reads an envelope and its statement. Signatures are not verified here;
// see VerifySignatures.
func Parse(raw []byte) (*Envelope, *Statement, error) {
	e, err := ParseEnvelope(raw)
	if err != nil {
		return nil, nil, err
	}
	s, err := Decode(e.Payload)
	if err != nil {
		return nil, nil, err
	}
	return e, s, nil
}
