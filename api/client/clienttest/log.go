// Package clienttest is a log for the tests of programs that speak to one: real
// validation and a real tree in memory, signed by keys that everybody knows, and
// faults on demand. It answers as a gateway does, and it is not one: services
// have tests of their own.
package clienttest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

// Token lets a new organisation in.
const Token = "test-token-enrol" //nolint:gosec // it opens nothing but this

// Name is the name of the log.
const Name = testlog.Log

// Log is the log. Its clock begins on 2026-03-01 and goes on by ten minutes with
// each entry.
type Log struct {
	mu      sync.Mutex
	world   *testlog.World
	pending *statement.PrivateKey
	entries map[statement.Identity]*testlog.Logged
	keys    map[statement.KeyID]*testlog.Member
	admins  map[string]*statement.PublicKey // recovery key by organisation
	chains  map[string]statement.Link       // head by trial and key
	trials  map[string]statement.Identity
	notes   map[statement.Digest][]byte
	known   map[statement.KeyID]*statement.PublicKey
	store   map[statement.Digest][]byte // documents
	taken   map[statement.Digest]bool   // beacons that came with a statement of a stream

	faults    []Fault
	documents int           // status of uploads; 0 takes them
	held      chan struct{} // receives when a call is held
	release   chan struct{} // lets it go on
	calls     []string
	onStream  StreamHook
	late      uint64                        // seconds that witnesses sign later than usual
	promises  map[statement.Identity][]byte // as they were made
}

// New makes an empty log.
func New() *Log {
	return &Log{
		world: testlog.New(), pending: testlog.Ed25519Key("pending records"),
		entries: map[statement.Identity]*testlog.Logged{}, keys: map[statement.KeyID]*testlog.Member{},
		admins: map[string]*statement.PublicKey{}, chains: map[string]statement.Link{},
		trials: map[string]statement.Identity{}, notes: map[statement.Digest][]byte{}, known: map[statement.KeyID]*statement.PublicKey{},
		store: map[statement.Digest][]byte{}, taken: map[statement.Digest]bool{}, held: make(chan struct{}, 16), release: make(chan struct{}, 16),
		promises: map[statement.Identity][]byte{},
	}
}

// Policy returns the policy of the log and its sidecar.
func (l *Log) Policy() (text, sidecar []byte) {
	var m map[string]any
	testlog.Check(json.Unmarshal(l.world.Sidecar().Encode(), &m))
	m["pendingKeys"] = []string{base64.StdEncoding.EncodeToString(l.pending.Public().DER())}
	return l.world.PolicyText(), append(testlog.Must(json.MarshalIndent(m, "", " ")), '\n')
}

// Size returns the number of entries.
func (l *Log) Size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.world.First.Entries)
}

// Documents returns how many documents were stored.
func (l *Log) Documents() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.store)
}

// Calls returns the method and path of every request so far.
func (l *Log) Calls() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.calls)
}

// note returns the newest checkpoint; nil before the first entry.
func (l *Log) note() []byte {
	size := l.world.First.Size()
	if size == 0 {
		return nil
	}
	n := l.newest()
	l.notes[statement.Digest(n.Digest())] = n.Bytes()
	return n.Bytes()
}

// receipt makes the receipt of an entry under the newest checkpoint.
func (l *Log) receipt(e *testlog.Logged) []byte {
	return testlog.Must(l.world.Receipt(e, l.newest()).Encode())
}

// newest is the newest checkpoint, of one entry at least.
func (l *Log) newest() *checkpoint.Note {
	s := l.world.First
	return s.Note(s.Size(), l.world.Cosign(s.Time(s.Size())+l.late)...)
}

// promise makes the pending record of an entry; of a lost one it repeats it.
func (l *Log) promise(id statement.Identity, e *testlog.Logged) []byte {
	if made := l.promises[id]; l.lost(e) && made != nil {
		return made
	}
	received := time.Unix(int64(l.world.First.Time(e.Index)), 0) //nolint:gosec // far below the limit
	p := &receipt.Pending{
		Log: Name, Origin: l.world.First.Origin, Identity: id, Index: e.Index,
		LeafHash: statement.Digest(leafHash(l.world.First.Entries[e.Index])), Received: received, Deadline: received.Add(time.Minute),
	}
	l.promises[id] = testlog.Must(p.Sign(l.pending))
	return l.promises[id]
}

// add judges a statement and appends it.
func (l *Log) add(env *statement.Envelope, s *statement.Statement, beacon []byte, token string) (*testlog.Logged, bool, *problem) {
	id := s.Identity(env.Payload)
	if e := l.entries[id]; e != nil {
		return e, true, nil
	}
	if p := l.judge(env, s, token); p != nil {
		return nil, false, p
	}
	if p := l.checkBeacon(s, beacon); p != nil {
		return nil, false, p
	}
	place := s.Trial + " " + s.Writer().String()
	if head := l.chains[place]; s.Chain.Number != head.Number+1 || s.Chain.Previous != head.Previous {
		p := refuse(http.StatusConflict, "envelope.payload.predicate.chain", "does not continue the chain")
		p.Head = &problemHead{Number: head.Number, Identity: head.Previous}
		return nil, false, p
	}
	e := &testlog.Logged{Shard: l.world.First, Index: l.world.First.Size(), Statement: s, Envelope: env, Beacon: beacon}
	if key, ok := s.EnrolledKey(); ok {
		l.enrol(e, key)
	}
	for _, signer := range s.SignerIDs() {
		if m := l.keys[signer]; m != nil {
			e.Signers = append(e.Signers, m)
		}
	}
	l.world.First.Add(env.Bytes())
	l.entries[id] = e
	l.chains[place] = statement.Link{Number: s.Chain.Number, Previous: id}
	if s.Kind == statement.KindTrial && l.trials[s.Trial].IsZero() {
		l.trials[s.Trial] = id
	}
	return e, false, nil
}

func (l *Log) enrol(e *testlog.Logged, key *statement.PublicKey) {
	m := &testlog.Member{
		Org: e.Statement.Organisation, Roles: e.Statement.RolesAttribute(), Shard: e.Shard, EnrolledAt: e.Index,
	}
	if recovery, ok := e.Statement.RecoveryKey(); ok {
		l.admins[m.Org] = recovery
	}
	for _, id := range e.Statement.SignerIDs() {
		if other := l.keys[id]; other != nil {
			m.Rest = append(m.Rest, append([]*testlog.Member{other}, other.Rest...)...)
		}
	}
	l.keys[key.ID()] = m
	l.known[key.ID()] = key
}

// judge checks who speaks, with a valid signature, and about what.
func (l *Log) judge(env *statement.Envelope, s *statement.Statement, token string) *problem {
	keys := map[statement.KeyID]*statement.PublicKey{}
	enrolled, enrols := s.EnrolledKey()
	for i, id := range s.SignerIDs() {
		m := l.keys[id]
		switch {
		case m != nil && m.Org == s.Organisation:
			keys[id] = l.known[id]
		case enrols && id == enrolled.ID():
			keys[id] = enrolled
		default:
			return refuse(http.StatusForbidden, "envelope.payload.predicate.signers["+string(rune('0'+i))+"].key", "the key is not enrolled")
		}
	}
	if err := statement.VerifySignatures(
		statement.PAE(statement.PayloadType, env.Payload), env.Signatures, s.SignerIDs(), keys,
	); err != nil {
		return refuse(http.StatusBadRequest, "envelope.signatures", err.Error())
	}
	if _, first := s.RecoveryKey(); first {
		if l.admins[s.Organisation] != nil {
			return refuse(http.StatusForbidden, "envelope.payload.predicate.attributes.recovery", "has a recovery key already")
		}
		if token != Token {
			return &problem{Status: http.StatusUnauthorized, Detail: "needs a token with the permission \"enrol\""}
		}
		return nil
	}
	if rule, _ := statement.RuleOf(s.Kind); s.Kind != statement.KindKey && !rule.MaySay(l.keys[s.Writer()].Roles) {
		return refuse(http.StatusForbidden, "envelope.payload.predicate.kind", "the signer's roles may not say this")
	}
	if s.Trial != "" && s.Kind != statement.KindTrial && l.trials[s.Trial].IsZero() {
		return refuse(http.StatusConflict, "envelope.payload.predicate.trial", "the log knows no such trial")
	}
	return nil
}

func (l *Log) checkBeacon(s *statement.Statement, beacon []byte) *problem {
	switch {
	case s.Beacon == nil && l.world.First.Size() > 0:
		return refuse(http.StatusBadRequest, "envelope.payload.predicate.beacon", "missing")
	case s.Beacon != nil && (l.notes[s.Beacon.Note] == nil || !bytes.Equal(l.notes[s.Beacon.Note], beacon)):
		return refuse(http.StatusBadRequest, "beacon", "is no checkpoint of this log")
	}
	return nil
}

// Say lets the log take in a statement of kind milestone, signed by key, as if
// another program with the same key had been quicker.
func (l *Log) Say(organisation, trial string, key *statement.PrivateKey) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var failed error
	err := testlog.Do(func() {
		head := l.chains[trial+" "+key.ID().String()]
		s := &statement.Statement{
			Log: Name, Organisation: organisation, Trial: trial, Kind: statement.KindMilestone,
			Signers: []statement.Signer{{Key: key.ID(), Meaning: statement.Authorship, At: "2026-03-01T00:00:00Z"}},
			Chain:   statement.Link{Number: head.Number + 1, Previous: head.Previous},
			Subject: statement.SubjectStatement, Digest: l.trials[trial],
			Attributes: []statement.Member{statement.TextMember("milestone", strings.ToLower(rand.Text()))},
		}
		note := l.note()
		n := l.world.Note(l.world.First, l.world.First.Size())
		s.Beacon = &statement.Beacon{
			Origin: l.world.First.Origin, Size: l.world.First.Size(), Note: statement.Digest(n.Digest()),
		}
		env := testlog.Must(statement.Sign(testlog.Must(statement.Build(s)), key))
		if _, _, p := l.add(env, s, note, ""); p != nil {
			failed = p
		}
	})
	if err != nil {
		return err
	}
	return failed
}
