package testlog

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// Log is the name of the TrialLog.
const Log = "log.example.org/trials"

// Trial is the trial that the statements are about.
const Trial = "T-2026-001"

// Operator runs one witness with two keys.
type Operator struct {
	Group string // in the policy
	RunBy string
	Keys  []*NoteKey // Ed25519 cosignature, ML-DSA-44
}

// Member is a key of an organisation.
type Member struct {
	Org      string
	Key      *statement.PrivateKey
	Roles    []statement.Role
	Recovery *statement.PrivateKey // if its enrolment names one
	// Place of its enrolment.
	Shard      *Shard
	EnrolledAt uint64
	// Rest are further enrolments that its own rests on.
	Rest []*Member
}

// World is a log with all that is around it.
type World struct {
	First, Second *Shard // the shards, in order
	Operators     []Operator
	Auditor       *statement.PrivateKey
	// TrialID is the identity of the trial's first statement.
	TrialID statement.Identity

	chain map[string]statement.Link
}

// New makes a world without entries.
func New() *World {
	w := &World{
		First:   NewShard(Log+"/2026", Start),
		Second:  NewShard(Log+"/2027", Start+365*24*3600),
		Auditor: Ed25519Key("auditor of keyrings"),
		chain:   map[string]statement.Link{},
	}
	for _, op := range []struct{ group, runBy, name string }{
		{"ethics", "Ethics Committee E", "witness.ethics.example"},
		{"regulator", "Regulator R", "witness.regulator.example"},
		{"university", "University U", "witness.university.example"},
	} {
		w.Operators = append(w.Operators, Operator{Group: op.group, RunBy: op.runBy, Keys: []*NoteKey{
			NewNoteKey(op.name, checkpoint.AlgEd25519Cosignature), NewNoteKey(op.name, checkpoint.AlgMLDSA44),
		}})
	}
	return w
}

// Cosign lists the cosignatures of all operators with their Ed25519 keys, the
// first dated t+1, the second t+2, the third t+3.
func (w *World) Cosign(t uint64) []Cosign {
	return w.CosignAt(t+1, t+2, t+3)
}

// CosignAt lists the operators' Ed25519 cosignatures with one time each; 0
// leaves an operator out.
func (w *World) CosignAt(times ...uint64) []Cosign {
	var list []Cosign
	for i, t := range times {
		if t != 0 {
			list = append(list, Cosign{Key: w.Operators[i].Keys[0], Time: t})
		}
	}
	return list
}

// Note returns the honest note of a shard at size.
func (w *World) Note(s *Shard, size uint64) *checkpoint.Note {
	return s.Note(size, w.Cosign(s.Time(size))...)
}

// PolicyText writes the tlog-policy: both shards, the operators as groups of
// two keys, and a quorum of two operators.
func (w *World) PolicyText() []byte {
	var b strings.Builder
	b.WriteString("# The log's shards, oldest first.\n")
	for _, s := range []*Shard{w.First, w.Second} {
		for _, k := range s.Keys {
			fmt.Fprintf(&b, "log %s\n", k)
		}
	}
	b.WriteString("# Each operator is one group, however many keys it has.\n")
	names := make([]string, len(w.Operators))
	for i, op := range w.Operators {
		for j, k := range op.Keys {
			fmt.Fprintf(&b, "witness %s-%d %s https://%s/\n", op.Group, j+1, k, k.Name())
		}
		fmt.Fprintf(&b, "group %s any %s-1 %s-2\n", op.Group, op.Group, op.Group)
		names[i] = op.Group
	}
	fmt.Fprintf(&b, "group quorum-of-operators 2 %s\nquorum quorum-of-operators\n", strings.Join(names, " "))
	return []byte(b.String())
}

// Sidecar is the sidecar of a policy as JSON, for tests to change.
type Sidecar struct {
	Format          string            `json:"format"`
	Log             string            `json:"log"`
	LogOperator     string            `json:"logOperator"`
	RequiredLogKeys []string          `json:"requiredLogKeys"`
	Operators       map[string]string `json:"operators"`
	AcceptReceived  bool              `json:"acceptReceived"`
	Gateways        []string          `json:"gateways,omitempty"`
	PendingKeys     []string          `json:"pendingKeys,omitempty"`
	Auditors        []string          `json:"auditors,omitempty"`
	TimeAuthorities []TimeAuthority   `json:"timeAuthorities,omitempty"`
	// Of the second version.
	Finals      []Final   `json:"finals,omitempty"`
	Retired     []Retired `json:"retired,omitempty"`
	LogListKeys []string  `json:"logListKeys,omitempty"`
}

// Final is an ended shard of a sidecar.
type Final struct {
	Origin string `json:"origin"`
	Size   uint64 `json:"size"`
	Root   []byte `json:"root"`
}

// Retired is a retired witness key of a sidecar.
type Retired struct {
	Key   string  `json:"key"`
	Until []Limit `json:"until"`
}

// Limit is up to where something holds.
type Limit struct {
	Origin string `json:"origin"`
	Size   uint64 `json:"size"`
}

// TimeAuthority is an RFC 3161 authority of a sidecar.
type TimeAuthority struct {
	Name        string `json:"name"`
	Certificate []byte `json:"certificate"` // DER
	Policy      string `json:"policy,omitempty"`
}

// Sidecar returns the sidecar that belongs to PolicyText.
func (w *World) Sidecar() Sidecar {
	s := Sidecar{
		Format: verify.TrustFormat, Log: Log, LogOperator: "Log Operator L", Operators: map[string]string{},
		PendingKeys: []string{base64.StdEncoding.EncodeToString(Ed25519Key("pending records").Public().DER())},
		Auditors:    []string{base64.StdEncoding.EncodeToString(w.Auditor.Public().DER())},
	}
	for _, shard := range []*Shard{w.First, w.Second} {
		for _, k := range shard.Keys {
			s.RequiredLogKeys = append(s.RequiredLogKeys, k.String())
		}
	}
	for _, op := range w.Operators {
		s.Operators[op.Group] = op.RunBy
	}
	return s
}

// Encode writes the sidecar.
func (s Sidecar) Encode() []byte { return append(Must(json.MarshalIndent(s, "", " ")), '\n') }

// Policy returns the policy of both halves.
func (w *World) Policy() *verify.Policy {
	return Must(verify.ParsePolicy(w.PolicyText(), w.Sidecar().Encode()))
}

// Now is a time after all that happens in the first shard.
func Now() time.Time { return time.Unix(Start+31*24*3600, 0).UTC() }

// Logged is an entry with what its receipt needs.
type Logged struct {
	Shard     *Shard
	Index     uint64
	Statement *statement.Statement
	Envelope  *statement.Envelope
	Beacon    []byte
	Signers   []*Member
}

// complete fills in what was left out.
func (w *World) complete(s *statement.Statement, signers []*Member, o *said) {
	s.Log = Log
	if s.Organisation == "" {
		s.Organisation = signers[0].Org
	}
	rule, _ := statement.RuleOf(s.Kind)
	inTrial := rule.Scope == statement.InTrial || rule.Scope == statement.InTrialOrLog
	if inTrial && s.Trial == "" {
		s.Trial = Trial
	}
	at := time.Unix(int64(o.shard.Time(o.shard.Size())), 0).UTC() //nolint:gosec // far below the limit
	if s.Signers == nil {
		for i, m := range signers {
			meaning := statement.Authorship
			if i > 0 {
				meaning = statement.Approval
			}
			if s.Received != nil {
				meaning = statement.Reception
			}
			s.Signers = append(s.Signers, statement.Signer{
				Key: m.Key.ID(), Meaning: meaning, At: statement.Date(at.Format(time.RFC3339)),
			})
		}
	}
	head := w.chain[s.Trial+" "+s.Writer().String()]
	s.Chain = statement.Link{Number: head.Number + 1, Previous: head.Previous}
	if s.Subject == "" {
		switch {
		case s.Kind == statement.KindTrial && s.Chain.Number == 1:
			s.Subject, s.Digest = statement.SubjectTrial, statement.TrialDigest(Log, s.Organisation, s.Trial)
		case inTrial:
			s.Subject, s.Digest = statement.SubjectStatement, w.TrialID
		}
	}
	if o.beacon == nil && !o.none && o.shard.Size() > 0 {
		o.beacon = w.Note(o.shard, o.shard.Size())
	}
	if o.beacon != nil {
		c := o.beacon.Checkpoint()
		s.Beacon = &statement.Beacon{Origin: c.Origin, Size: c.Size, Note: statement.Digest(o.beacon.Digest())}
	}
}

// Enrol logs the enrolment of a member's key, co-signed by others.
func (w *World) Enrol(m *Member, cosigners []*Member, options ...Option) *Logged {
	roles := make([]string, len(m.Roles))
	for i, r := range m.Roles {
		roles[i] = string(r)
	}
	s := statement.Statement{
		Organisation: m.Org, Kind: statement.KindKey, Subject: statement.SubjectKey, Digest: m.Key.ID(),
		Attributes: []statement.Member{
			statement.TextMember("action", "enrol"),
			statement.TextMember("publicKey", base64.StdEncoding.EncodeToString(m.Key.Public().DER())),
			statement.ListMember("roles", roles...),
		},
	}
	if m.Recovery != nil {
		s.Attributes = append(s.Attributes,
			statement.TextMember("recovery", base64.StdEncoding.EncodeToString(m.Recovery.Public().DER())))
	}
	l := w.Say(s, append([]*Member{m}, cosigners...), options...)
	m.Shard, m.EnrolledAt = l.Shard, l.Index
	for _, c := range cosigners {
		if c.Shard != nil {
			m.Rest = append(m.Rest, append([]*Member{c}, c.Rest...)...)
		}
	}
	return l
}

// Receipt makes the honest receipt of an entry under a note of its shard. The
// enrolments are proven under the same note, or that of their own shard.
func (w *World) Receipt(l *Logged, note *checkpoint.Note) *receipt.Receipt {
	r := &receipt.Receipt{Proof: l.Shard.Proof(l.Index, note), Entry: l.Shard.Entries[l.Index], Beacon: l.Beacon}
	for _, m := range l.Signers {
		for _, need := range append([]*Member{m}, m.Rest...) {
			if need.Shard != nil && !(need.Shard == l.Shard && need.EnrolledAt == l.Index) {
				r.Enrolments = appendOnce(r.Enrolments, w.Enrolment(need, l.Shard, note))
			}
		}
	}
	return r
}

// Enrolment proves a member's enrolment, under note if that is of its shard.
func (w *World) Enrolment(m *Member, s *Shard, note *checkpoint.Note) receipt.Enrolment {
	if m.Shard != s || m.EnrolledAt >= note.Checkpoint().Size {
		note = w.Note(m.Shard, m.Shard.Size())
	}
	return receipt.Enrolment{Entry: m.Shard.Entries[m.EnrolledAt], Proof: m.Shard.Proof(m.EnrolledAt, note)}
}

func appendOnce(list []receipt.Enrolment, e receipt.Enrolment) []receipt.Enrolment {
	if slices.ContainsFunc(list, func(o receipt.Enrolment) bool { return bytes.Equal(o.Entry, e.Entry) }) {
		return list
	}
	return append(list, e)
}

// Keyring signs a snapshot with the auditor's key.
func (w *World) Keyring(k *verify.Keyring) []byte {
	return Must(statement.SignDSSE(verify.KeyringPayloadType, k.Encode(), w.Auditor))
}

// Reframe parses an entry, changes its envelope and frames it again.
func Reframe(raw []byte, change func(envelope []byte) []byte) []byte {
	e := Must(entry.Parse(raw))
	return Must(entry.Encode(e.Received, change(slices.Clone(e.Envelope))))
}
