package verify

import (
	"fmt"
	"time"

	"github.com/trialog/trialog/api/statement"
)

// Link is a link in the chain of evidence. Verification fails at the first one
// that does not hold.
type Link string

// The links, in the order in which they are checked.
const (
	LinkPolicy     Link = "policy"     // there is something to judge by
	LinkReceipt    Link = "receipt"    // the file can be read
	LinkCheckpoint Link = "checkpoint" // signed by the log, cosigned by the quorum
	LinkInclusion  Link = "inclusion"  // the entry is in the checkpoint's tree
	LinkEntry      Link = "entry"      // the entry and its statement can be read
	LinkEnrolment  Link = "enrolment"  // the signers' keys were enrolled for the organisation
	LinkSignature  Link = "signature"  // the named signers signed, nobody else
	LinkGrade      Link = "grade"      // the policy accepts the grade
	LinkKeyStatus  Link = "key-status" // no signer's key was suspect at this index
	LinkBeacon     Link = "beacon"     // the statement's beacon is cosigned
	LinkTime       Link = "time"       // the bounds make sense
	LinkRecord     Link = "record"     // the record is in its batch
	LinkOpening    Link = "opening"    // the opening opens the commitments
	LinkDocument   Link = "document"   // the document is the one committed to
)

// Failure is the link that does not hold, and why.
type Failure struct {
	Link   Link   `json:"link"`
	Reason string `json:"reason"`
	err    error
}

// Error implements error.
func (f *Failure) Error() string { return string(f.Link) + ": " + f.Reason }

// Unwrap returns the error behind the failure, such as a
// *checkpoint.QuorumError with the signatures that were there.
func (f *Failure) Unwrap() error { return f.err }

func fail(link Link, format string, args ...any) *Failure {
	err := fmt.Errorf(format, args...)
	return &Failure{Link: link, Reason: err.Error(), err: err}
}

// Assurance says what the witnesses are worth.
type Assurance string

// The assurances.
const (
	// Demonstration: the witnesses that cosigned are run by at most one
	// organisation beside the log's own operator.
	Demonstration Assurance = "demonstration"
	// Independent: witnesses of two or more organisations, apart from the log's,
	// cosigned.
	Independent Assurance = "independent"
)

// KeyStatus is what is known of a signer's key at the index of the statement.
type KeyStatus string

// The statuses of a key.
const (
	StatusUnknown KeyStatus = "unknown" // no keyring, or it does not reach so far
	StatusValid   KeyStatus = "valid"
	StatusRevoked KeyStatus = "revoked-later" // revoked, but suspect only from a later index
	StatusSuspect KeyStatus = "suspect"       // verification fails
)

// Verdict is what was established. With a failure it holds what was established
// before the failing link.
type Verdict struct {
	Verified bool     `json:"verified"`
	Failure  *Failure `json:"failure,omitempty"`
	// PolicyFingerprint is Policy.Fingerprint.
	PolicyFingerprint string     `json:"policyFingerprint"`
	Assurance         Assurance  `json:"assurance,omitempty"`
	Inclusion         *Inclusion `json:"inclusion,omitempty"`
	// NotBefore is the lower bound of the signing, from the beacon; nil if the
	// statement has none.
	NotBefore *Bound `json:"signedNotBefore,omitempty"`
	// NotAfter is the upper bound of the logging, from the receipt: that of its
	// cosignatures, or of a time-stamp that is earlier.
	NotAfter *Bound `json:"loggedNotAfter,omitempty"`
	// CosignedNotAfter is the upper bound by the cosignatures alone, if the
	// receipt carries time-stamp tokens.
	CosignedNotAfter *Bound `json:"cosignedNotAfter,omitempty"`
	// TimeStamps are the receipt's tokens, in its order.
	TimeStamps []TimeStamp `json:"timeStamps,omitempty"`
	Statement  *Statement  `json:"statement,omitempty"`
	Signers    []Signer    `json:"signers,omitempty"`
	Record     *Record     `json:"record,omitempty"`
	Document   *Document   `json:"document,omitempty"`
	// Caveats say in words what a reader must know beside the verdict.
	Caveats []string `json:"caveats,omitempty"`
}

// Inclusion is the place of the entry in the log.
type Inclusion struct {
	Origin   string `json:"origin"`
	Index    uint64 `json:"index"`
	TreeSize uint64 `json:"treeSize"`
	LeafHash string `json:"leafHash"` // hexadecimal
	// Operators is how many operators' witnesses the policy names,
	// OperatorsSeen how many of them cosigned.
	Operators     int       `json:"operators"`
	OperatorsSeen int       `json:"operatorsSeen"`
	Witnesses     []Witness `json:"witnesses"`
}

// Witness is one operator's cosignature.
type Witness struct {
	Name      string    `json:"name"`  // in the policy
	RunBy     string    `json:"runBy"` // the organisation, by the policy
	Algorithm string    `json:"algorithm"`
	Time      time.Time `json:"time"` // by the witness's clock
}

// Bound is a time with the source that it rests on.
type Bound struct {
	Time time.Time `json:"time"`
	// Source says from what it was derived.
	Source string `json:"source"`
	// Witnesses are the cosignatures that the bound was computed from; none if
	// it is that of a time-stamp.
	Witnesses []Witness `json:"witnesses"`
	// Authority is whose time-stamp it is; empty if it is none.
	Authority string `json:"authority,omitempty"`
}

// StampStatus is what became of a time-stamp token.
type StampStatus string

// The statuses of a time-stamp token.
const (
	StampNarrows      StampStatus = "narrows"       // it is the upper bound
	StampVerified     StampStatus = "verified"      // and the upper bound is as early without it
	StampContradicted StampStatus = "contradicted"  // verified, against what the others say: not used
	StampNotEvaluated StampStatus = "not-evaluated" // not readable, or of no named authority
)

// TimeStamp is one token (RFC 3161) on the receipt's checkpoint.
type TimeStamp struct {
	// Authority is its name in the policy; empty if the policy names none that
	// the token is of. Of such a token nothing is proven.
	Authority string      `json:"authority,omitempty"`
	Status    StampStatus `json:"status"`
	// Reason says in words why it was not evaluated or not used.
	Reason string `json:"reason,omitempty"`
	// Time is by the authority's clock.
	Time time.Time `json:"time,omitzero"`
	// AccuracyMicroseconds is the greatest error that it states; 0 if none.
	AccuracyMicroseconds int64  `json:"accuracyMicroseconds,omitempty"`
	Serial               string `json:"serial,omitempty"` // decimal
	// NotAfter is the upper bound by this token alone: its time, and its
	// accuracy or, if it states none, MaxSkew.
	NotAfter time.Time `json:"notAfter,omitzero"`
}

// Statement is who said what.
type Statement struct {
	Identity     statement.Identity `json:"identity"`
	Log          string             `json:"log"`
	Organisation string             `json:"organisation"`
	Trial        string             `json:"trial,omitempty"`
	Kind         statement.Kind     `json:"kind"`
	Version      string             `json:"version,omitempty"`
	Grade        statement.Grade    `json:"grade"`
	// ReceivedFrom is the gateway's pseudonym of the sender; grade received.
	ReceivedFrom string `json:"receivedFrom,omitempty"`
	// ClaimedReceiveTime is the log's own clock: a claim.
	ClaimedReceiveTime time.Time `json:"claimedReceiveTime"`
	// ClaimedDates are the submitter's: claims.
	ClaimedDates map[string]string `json:"claimedDates,omitempty"`
	ChainNumber  uint64            `json:"chainNumber"`
}

// Signer is one who signed (21 CFR 11.50: who, when, meaning).
type Signer struct {
	Key       statement.KeyID   `json:"key"`
	Algorithm string            `json:"algorithm"`
	Meaning   statement.Meaning `json:"meaning"`
	// ClaimedTime is the time that the signer stated.
	ClaimedTime string `json:"claimedTime"`
	// EnrolledAt is the index of the key's enrolment; for a recovery key, of the
	// enrolment that names it.
	EnrolledAt uint64    `json:"enrolledAt"`
	Status     KeyStatus `json:"keyStatus"`
}

// Record is the place of a record in its batch.
type Record struct {
	Label string `json:"label"`
	Type  string `json:"type"`
	Index uint64 `json:"index"`
	Count uint64 `json:"count"`
}

// Document is how the presented document was matched.
type Document struct {
	// Sealed tells whether the statement holds a commitment rather than a
	// digest.
	Sealed    bool   `json:"sealed"`
	MediaType string `json:"mediaType"`
	// Checked is false only if the caller asked about the statement alone.
	Checked bool `json:"checked"`
	// SealedAttributes are the opened attributes, if there are any.
	SealedAttributes map[string]string `json:"sealedAttributes,omitempty"`
}
