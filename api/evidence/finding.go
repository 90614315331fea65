package evidence

import (
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// Role says what somebody is to a policy.
type Role string

// The roles that evidence may be against.
const (
	RoleLog        Role = "log"
	RoleWitness    Role = "witness"
	RoleListSigner Role = "list signer"
)

// Party is whom a finding is against.
type Party struct {
	Role Role `json:"role"`
	// Name is the origin of the log, the name of the witness in the policy, or the
	// id of the key that signed the lists.
	Name string `json:"name"`
	// RunBy is the organisation that runs it, as the policy says; empty for the
	// signer of the lists.
	RunBy string `json:"runBy,omitempty"`
}

// Head is one signed tree head of the evidence, with the valid signatures on it by
// keys that the policy names.
type Head struct {
	Size uint64 `json:"size"`
	Root string `json:"root"` // hex
	Note string `json:"note"` // SHA-256 of the whole note, hex
	// SignedByLog tells whether a key that the policy lists for the origin signed.
	SignedByLog bool          `json:"signedByLog"`
	Witnesses   []Cosignature `json:"witnesses,omitempty"`
}

// Cosignature is a valid signature by a witness of the policy.
type Cosignature struct {
	Witness string `json:"witness"` // its name in the policy
	// Time is when it signed by its own clock; zero if it stated none.
	Time time.Time `json:"time,omitzero"`
	key  *checkpoint.VerifierKey
}

// Finding is what evidence shows by a policy.
type Finding struct {
	Kind Kind `json:"kind"`
	// Conclusive tells whether the file shows by itself that those in Against said
	// two things that cannot both be true, or broke a promise.
	Conclusive bool    `json:"conclusive"`
	Against    []Party `json:"against,omitempty"`
	// Missing says why the file is not conclusive; empty if it is. Ask is what to ask
	// the log about it then; empty if there is nothing to ask.
	Missing string `json:"missing,omitempty"`
	Ask     string `json:"ask,omitempty"`
	// Origin is the log's, and Heads the tree heads, in the order of the file.
	Origin string `json:"origin,omitempty"`
	Heads  []Head `json:"heads,omitempty"`
	// Promises are what was promised, in the order of the file: of the records that
	// a pending key of the policy signed.
	Promises []Promise `json:"promises,omitempty"`
	// NotBefore is the time before which the cosigned tree head of an overdue
	// promise did not exist, as a quorum of witnesses says.
	NotBefore time.Time `json:"notBefore,omitzero"`
	// Lists are the log lists, in the order of the file, if one key of the policy
	// signed both.
	Lists []List `json:"lists,omitempty"`
	// Sentences say all that in plain words, the most important first.
	Sentences []string `json:"sentences"`
	// Caveats say what a reader must know beside it.
	Caveats []string `json:"caveats,omitempty"`
	// By and At are who wrote the file and when, which are claims.
	By string    `json:"by,omitempty"`
	At time.Time `json:"at,omitzero"`
	// PolicyFingerprint is Policy.Fingerprint.
	PolicyFingerprint string `json:"policyFingerprint"`
}

// Promise is what the log promised.
type Promise struct {
	Identity string    `json:"identity"` // of the statement, hex
	Origin   string    `json:"origin"`   // of the shard
	Index    uint64    `json:"index"`
	LeafHash string    `json:"leafHash"` // hex
	Received time.Time `json:"received"` // both by the log's clock
	Deadline time.Time `json:"deadline"`
}

// List is a signed log list.
type List struct {
	Version uint64    `json:"version"`
	Issued  time.Time `json:"issued"` // by the signer's clock
	Shards  int       `json:"shards"`
}
