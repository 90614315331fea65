package verify

import (
	"encoding/hex"
	"slices"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

// MaxSkew is how far clocks may disagree before a bound is called senseless.
const MaxSkew = 5 * time.Minute

// Input is everything that a verdict depends on.
type Input struct {
	// Receipt is the content of a .receipt file.
	Receipt []byte
	// Policy is what the verifier believes.
	Policy *Policy
	// Document is the document that the receipt is said to be for.
	Document []byte
	// Opening is the content of the .opening file; needed for a sealed document.
	Opening []byte
	// StatementOnly asks about the statement without its document.
	StatementOnly bool
	// Keyring is a snapshot signed by an auditor that the policy names; nil
	// leaves the status of the keys unknown.
	Keyring []byte
	// Now is the verifier's time. It only serves to refuse evidence from the
	// future; a receipt has no expiry.
	Now time.Time
}

// Verify judges a receipt. The verdict is never nil. The error is nil exactly
// if the verdict is Verified; else it is the verdict's *Failure.
func Verify(in Input) (*Verdict, error) {
	c := &checker{in: in, policy: in.Policy, notes: map[checkpoint.Hash]*checkpoint.Cosigned{}}
	if f := c.run(); f != nil {
		c.verdict.Failure = f
		return &c.verdict, f
	}
	c.verdict.Verified = true
	return &c.verdict, nil
}

// checker carries what is established from one link to the next.
type checker struct {
	in      Input
	policy  *Policy
	verdict Verdict

	receipt  *receipt.Receipt
	cosigned *checkpoint.Cosigned
	envelope *statement.Envelope
	stmt     *statement.Statement
	enrolled map[statement.KeyID]*enrolment // by key, the latest of each
	proven   []*enrolment                   // in the order of the log
	// recovered tells that a recovery key is among the signers.
	recovered bool
	record    *statement.Record
	item      *statement.Item // of a record that is a statement
	notes     map[checkpoint.Hash]*checkpoint.Cosigned
}

func (c *checker) run() *Failure {
	if c.policy == nil || c.policy.notes == nil {
		return fail(LinkPolicy, "no policy was given")
	}
	c.verdict.PolicyFingerprint = c.policy.Fingerprint()
	r, err := receipt.Parse(c.in.Receipt)
	if err != nil {
		return fail(LinkReceipt, "%w", err)
	}
	c.receipt = r
	for _, link := range []func() *Failure{
		c.checkCheckpoint, c.checkInclusion, c.checkEntry, c.checkEnrolments, c.checkSignatures, c.checkGrade,
		c.checkKeyStatus, c.checkBeacon, c.checkBounds, c.checkRecord, c.checkDocument,
	} {
		if f := link(); f != nil {
			return f
		}
	}
	c.addCaveats()
	return nil
}

// note checks a checkpoint note once, however often it occurs in a receipt.
func (c *checker) note(raw []byte, digest checkpoint.Hash) (*checkpoint.Cosigned, error) {
	if known, ok := c.notes[digest]; ok {
		return known, nil
	}
	cosigned, err := c.policy.CheckNote(raw)
	if err != nil {
		return nil, err
	}
	c.notes[digest] = cosigned
	return cosigned, nil
}

func (c *checker) checkCheckpoint() *Failure {
	note := c.receipt.Proof.Note
	cosigned, err := c.note(note.Bytes(), note.Digest())
	if err != nil {
		return fail(LinkCheckpoint, "%w", err)
	}
	c.cosigned = cosigned
	c.verdict.Inclusion = &Inclusion{
		Origin: cosigned.Origin, Index: c.receipt.Proof.Index, TreeSize: cosigned.Size,
		Operators: c.policy.operators, OperatorsSeen: len(cosigned.Operators()),
		Witnesses: c.witnesses(cosigned),
	}
	c.verdict.Assurance = c.assurance(cosigned)
	return nil
}

// witnesses lists the cosignatures of a checkpoint.
func (c *checker) witnesses(cosigned *checkpoint.Cosigned) []Witness {
	list := make([]Witness, 0, len(cosigned.Witnesses))
	for _, s := range cosigned.Witnesses {
		list = append(list, Witness{
			Name: s.Witness, RunBy: c.policy.runBy[s.Witness],
			Algorithm: s.Key.Algorithm().String(), Time: unix(s.Time),
		})
	}
	return list
}

// assurance counts the organisations behind the witnesses that cosigned, without
// the log's own: one alone is a demonstration.
func (c *checker) assurance(cosigned *checkpoint.Cosigned) Assurance {
	seen := map[string]bool{}
	for _, s := range cosigned.Witnesses {
		seen[c.policy.runBy[s.Witness]] = true
	}
	delete(seen, c.policy.trust.LogOperator)
	if len(seen) < 2 {
		return Demonstration
	}
	return Independent
}

// lastSecond is the end of the year 9999, the last that RFC 3339 can write. A
// witness may state any time; one that lies must not make a verdict unprintable.
const lastSecond = 253402300799

func unix(t uint64) time.Time {
	return time.Unix(int64(min(t, lastSecond)), 0).UTC()
}

// included checks RFC 6962 inclusion of a leaf.
func included(leaf [32]byte, p *receipt.Proof, cosigned *checkpoint.Cosigned) error {
	path := make([][]byte, len(p.Path))
	for i := range p.Path {
		path[i] = p.Path[i][:]
	}
	return proof.VerifyInclusion(rfc6962.DefaultHasher, p.Index, cosigned.Size, leaf[:], path, cosigned.Root[:])
}

func (c *checker) checkInclusion() *Failure {
	leaf := entry.LeafHash(c.receipt.Entry)
	if err := included(leaf, c.receipt.Proof, c.cosigned); err != nil {
		return fail(LinkInclusion, "the entry is not at index %d of the checkpoint's tree: %w", c.receipt.Proof.Index, err)
	}
	c.verdict.Inclusion.LeafHash = hex.EncodeToString(leaf[:])
	return nil
}

func (c *checker) checkEntry() *Failure {
	e, err := entry.Parse(c.receipt.Entry)
	if err != nil {
		return fail(LinkEntry, "%w", err)
	}
	if c.envelope, c.stmt, err = statement.Parse(e.Envelope); err != nil {
		return fail(LinkEntry, "the statement: %w", err)
	}
	s := c.stmt
	if s.Log != c.policy.trust.Log {
		return fail(LinkEntry, "the statement is meant for log %q, the policy is about %q", s.Log, c.policy.trust.Log)
	}
	v := &Statement{
		Identity: s.Identity(c.envelope.Payload), Log: s.Log, Organisation: s.Organisation, Trial: s.Trial,
		Kind: s.Kind, Version: s.Version, Grade: s.Grade(), ClaimedReceiveTime: e.Received,
		ChainNumber: s.Chain.Number,
	}
	if s.Received != nil {
		v.ReceivedFrom = s.Received.Principal
	}
	if len(s.Dates) > 0 {
		v.ClaimedDates = map[string]string{}
		for _, d := range s.Dates {
			v.ClaimedDates[d.Name] = string(d.Date)
		}
	}
	c.verdict.Statement = v
	return nil
}

func (c *checker) checkSignatures() *Failure {
	keys := map[statement.KeyID]*statement.PublicKey{}
	for id, e := range c.enrolled {
		keys[id] = e.key
	}
	message := statement.PAE(statement.PayloadType, c.envelope.Payload)
	if err := statement.VerifySignatures(message, c.envelope.Signatures, c.stmt.SignerIDs(), keys); err != nil {
		return fail(LinkSignature, "%w", err)
	}
	for _, s := range c.stmt.Signers {
		e := c.enrolled[s.Key]
		c.verdict.Signers = append(c.verdict.Signers, Signer{
			Key: s.Key, Algorithm: e.key.Algorithm(), Meaning: s.Meaning, ClaimedTime: string(s.At),
			EnrolledAt: e.index, Status: StatusUnknown,
		})
	}
	return nil
}

func (c *checker) checkGrade() *Failure {
	if c.stmt.Received == nil {
		return nil
	}
	if !c.policy.trust.AcceptReceived {
		return fail(LinkGrade, "the policy refuses statements of grade received")
	}
	for _, id := range c.policy.trust.Gateways {
		if id == c.stmt.Writer() {
			return nil
		}
	}
	return fail(LinkGrade, "the policy names no gateway with key %s", c.stmt.Writer())
}

// addCaveats says in words what follows from the evidence.
func (c *checker) addCaveats() {
	v := &c.verdict
	if v.Assurance == Demonstration {
		v.Caveats = append(v.Caveats, "all witnesses under one operator: demonstration, not assurance")
	}
	if slices.ContainsFunc(v.Signers, func(s Signer) bool { return s.Status == StatusUnknown }) {
		why := "no keyring was given"
		if c.in.Keyring != nil {
			why = "the keyring ends before the statement"
		}
		v.Caveats = append(v.Caveats, "key status unknown: "+why+
			"; not known are a revocation, and whether the enrolments were the organisation's own")
	}
	if v.NotBefore == nil {
		v.Caveats = append(v.Caveats, "the statement names no beacon: nothing is known of when it was signed")
	}
	if v.Document != nil && !v.Document.Checked {
		v.Caveats = append(v.Caveats, "the document was not checked")
	}
	if c.in.Opening == nil && !c.content().attrs.IsZero() {
		v.Caveats = append(v.Caveats, "sealed attributes were not opened")
	}
}
