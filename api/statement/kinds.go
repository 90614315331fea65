package statement

import "slices"

// Kind says what a statement is about. The kinds are the rows of Kinds.
type Kind string

// Role is what an organisation is to a trial or to the log. A key's enrolment
// names the roles in which it may speak.
type Role string

// The roles.
const (
	Sponsor   Role = "sponsor"
	CRO       Role = "cro"
	Site      Role = "site"
	Ethics    Role = "ethics"
	Regulator Role = "regulator"
	Auditor   Role = "auditor"
	Gateway   Role = "gateway"  // says "received from", never "signed by"
	Operator  Role = "operator" // of the log
	Admin     Role = "admin"    // may enrol further keys of its organisation
)

// Roles returns every role.
func Roles() []Role {
	return []Role{Sponsor, CRO, Site, Ethics, Regulator, Auditor, Gateway, Operator, Admin}
}

// Scope says what a statement of a kind belongs to.
type Scope byte

// The scopes.
const (
	InTrial        Scope = iota // names a trial
	InOrganisation              // names an organisation, no trial
	InLog                       // is about the log itself, no trial
	InTrialOrLog                // names a trial, or none if its records belong to none
)

// Content says whether a kind has a document, and in which form.
type Content byte

// The forms of content.
const (
	NoDocument       Content = iota
	PublicDocument           // by its SHA-256
	SealedDocument           // by commitment only
	AnyDocument              // public or sealed, as the submitter likes
	OptionalDocument         // public, sealed, or none
)

// Placement says where statements of a kind may stand.
type Placement byte

// The placements.
const (
	Alone     Placement = iota // an entry of its own
	BatchOnly                  // only inside a batch, so that position and time reveal no enrolment
	Anywhere
)

// Kinds of statements.
const (
	KindTrial             Kind = "trial"
	KindRegistration      Kind = "registration"
	KindProtocol          Kind = "protocol"
	KindSAP               Kind = "sap"
	KindEthicsApproval    Kind = "ethics-approval"
	KindConsentForm       Kind = "consent-form"
	KindSiteRelease       Kind = "site-release"
	KindConsent           Kind = "consent"
	KindConsentWithdrawal Kind = "consent-withdrawal"
	KindSubjectEvent      Kind = "subject-event"
	KindResults           Kind = "results"
	KindDocument          Kind = "document"
	KindDatabaseLock      Kind = "database-lock"
	KindUnblinding        Kind = "unblinding"
	KindDelegation        Kind = "delegation"
	KindCredential        Kind = "credential"
	KindProductEvent      Kind = "product-event"
	KindMilestone         Kind = "milestone"
	KindReveal            Kind = "reveal"
	KindCorrection        Kind = "correction"
	KindErasure           Kind = "erasure"
	KindClose             Kind = "close"
	KindKey               Kind = "key"
	KindPolicy            Kind = "policy"
	KindAccess            Kind = "access"
	KindReview            Kind = "review"
	KindRule              Kind = "rule"
	KindToken             Kind = "token"
	KindBatch             Kind = "batch"
	KindShardEnd          Kind = "shard-end"
	KindShardStart        Kind = "shard-start"
)

// Rule is one row of the table of kinds.
type Rule struct {
	Kind      Kind
	Scope     Scope
	Content   Content
	Placement Placement
	// Sayers are the roles that may say it; none means any role.
	Sayers []Role
	// After lists kinds of which the trial must have at least one statement
	// before (21 CFR 11.10(f), sequencing of steps). Every kind in a trial but
	// "trial" itself needs the trial's first statement anyway.
	After []Kind
	// Attributes is the schema of the kind's attributes.
	Attributes []Attribute
}

// ValueType is the type of an attribute.
type ValueType byte

// The types of attributes.
const (
	Text      ValueType = iota // 1 to 500 characters for people; no control characters
	Token                      // see CheckToken
	Choice                     // one of Options
	Count                      // an integer ≥ 0
	DateValue                  // see CheckDate
	DigestHex                  // 64 lower-case hexadecimal digits
	TokenList                  // 1 to 32 different tokens
	DigestSet                  // 1 to 64 different digests
	KeyDER                     // base64 of a SubjectPublicKeyInfo
	NonceHex                   // 32 bytes as 64 lower-case hexadecimal digits
	LogName                    // name of a log or of a shard, see CheckLog
	Base64                     // 1 byte to 16 KiB in standard base64
)

// Attribute is one member of a kind's attributes.
type Attribute struct {
	Name     string
	Type     ValueType
	Required bool
	// Sealed attributes stand in the opening only; the statement carries their
	// commitment.
	Sealed  bool
	Options []string // of a Choice
}

// Receivable returns the roles that a principal of a gateway may have: the log
// knows principals by the gateway's word only.
func Receivable() []Role { return []Role{Sponsor, CRO, Site, Ethics} }

// RuleOf returns the row of kind.
func RuleOf(kind Kind) (Rule, bool) {
	rules := Kinds()
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.Kind == kind })
	if i < 0 {
		return Rule{}, false
	}
	return rules[i], true
}

// MaySay tells whether a key with these roles may say a statement of this kind.
func (r Rule) MaySay(roles []Role) bool {
	if len(r.Sayers) == 0 {
		return len(roles) > 0
	}
	return slices.ContainsFunc(roles, func(role Role) bool { return slices.Contains(r.Sayers, role) })
}

// HasSealed tells whether the kind has sealed attributes, and whether one of
// them is required.
func (r Rule) HasSealed() (some, required bool) {
	for _, a := range r.Attributes {
		some = some || a.Sealed
		required = required || a.Sealed && a.Required
	}
	return some, required
}
