package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

const (
	testLog    = "log.test/trials"
	testOrigin = testLog + "/1"
	testOrg    = "acme"
	testTrial  = "T-1"
)

// seeded is a reader of bytes that follow from a name.
type seeded struct {
	name string
	n    int
}

func (s *seeded) Read(p []byte) (int, error) {
	for i := range p {
		h := sha256.Sum256(fmt.Appendf(nil, "%s %d", s.name, s.n))
		p[i] = h[0]
		s.n++
	}
	return len(p), nil
}

func testKey(t testing.TB, name string) *statement.PrivateKey {
	t.Helper()
	k, err := statement.GenerateKey(&seeded{name: name})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func noteKey(t testing.TB, name string, alg checkpoint.Algorithm) *checkpoint.SigningKey {
	t.Helper()
	k, err := checkpoint.GenerateKey(&seeded{name: name + alg.String()}, name, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// world is a SequencerService in memory that judges statements for real and
// gives receipts that verify. Its hooks break it.
type world struct {
	t         testing.TB
	now       func() time.Time
	logKeys   []*checkpoint.SigningKey
	witnesses []*checkpoint.SigningKey
	promises  *statement.PrivateKey
	policy    []byte
	sidecar   []byte

	gateway, sponsor, recovery *statement.PrivateKey

	mu      sync.Mutex
	entries [][]byte
	index   map[statement.Identity]int
	keys    map[statement.KeyID]*worldKey
	chains  map[string]*trialogv1.GetChainResponse
	trials  map[string]statement.Identity
	notes   map[statement.Digest]string
	note    *checkpoint.Note
	calls   map[string]int
	sent    [][]byte // envelopes that Add or AddStream was called with
	holding bool     // streams are not answered

	// before is called at the start of an RPC, after at its end, with the lock
	// not held; an error of either is the answer.
	before func(rpc string, req any) error
	after  func(rpc string, resp any) error
}

type worldKey struct {
	public *statement.PublicKey
	org    string
	roles  []statement.Role
	index  int
}

var _ trialogv1.SequencerServiceClient = (*world)(nil)

// newWorld makes a log with an enrolled gateway and an enrolled sponsor.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		t: t, now: time.Now,
		logKeys: []*checkpoint.SigningKey{
			noteKey(t, testOrigin, checkpoint.AlgEd25519), noteKey(t, testOrigin, checkpoint.AlgMLDSA44),
		},
		witnesses: []*checkpoint.SigningKey{
			noteKey(t, "witness.test/w", checkpoint.AlgEd25519Cosignature), noteKey(t, "witness.test/w", checkpoint.AlgMLDSA44),
		},
		promises: testKey(t, "promises"), gateway: testKey(t, "gateway"), sponsor: testKey(t, "sponsor"),
		recovery: testKey(t, "recovery"),
		index:    map[statement.Identity]int{}, keys: map[statement.KeyID]*worldKey{},
		chains: map[string]*trialogv1.GetChainResponse{}, trials: map[string]statement.Identity{},
		notes: map[statement.Digest]string{}, calls: map[string]int{},
	}
	w.makePolicy()
	w.mustAdd(w.enrolment("operator", w.gateway, testKey(t, "recovery of the operator"), statement.Gateway), statement.Gateway)
	w.mustAdd(w.enrolment(testOrg, w.sponsor, w.recovery, statement.Sponsor, statement.Admin), statement.Sponsor, statement.Admin)
	w.calls, w.sent = map[string]int{}, nil
	return w
}

func (w *world) makePolicy() {
	var text strings.Builder
	var required []string
	for _, k := range w.logKeys {
		fmt.Fprintf(&text, "log %s\n", k.Verifier())
		required = append(required, k.Verifier().String())
	}
	for i, k := range w.witnesses {
		fmt.Fprintf(&text, "witness w%d %s\n", i, k.Verifier())
	}
	text.WriteString("group op any w0 w1\nquorum op\n")
	sidecar, err := json.Marshal(map[string]any{
		"format": verify.TrustFormat, "log": testLog, "logOperator": "operator", "requiredLogKeys": required,
		"operators": map[string]string{"op": "a university"}, "acceptReceived": true,
		"gateways":    []string{w.gateway.ID().String()},
		"pendingKeys": [][]byte{w.promises.Public().DER()},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.policy, w.sidecar = []byte(text.String()), sidecar
}

// enrolment is the signed first enrolment of an organisation.
func (w *world) enrolment(org string, key, recovery *statement.PrivateKey, roles ...statement.Role) *trialogv1.SubmitRequest {
	w.t.Helper()
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return w.signed(&statement.Statement{
		Organisation: org, Kind: statement.KindKey, Subject: statement.SubjectKey, Digest: key.ID(),
		Attributes: []statement.Member{
			statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", key.Public()),
			statement.ListMember("roles", names...), statement.KeyMember("recovery", recovery.Public()),
		},
	}, key)
}

// signed completes a statement with log, chain, beacon and signers, and signs.
func (w *world) signed(s *statement.Statement, keys ...*statement.PrivateKey) *trialogv1.SubmitRequest {
	w.t.Helper()
	payload, beacon := w.payload(s, keys...)
	env, err := statement.Sign(payload, keys...)
	if err != nil {
		w.t.Fatal(err)
	}
	return &trialogv1.SubmitRequest{Envelope: env.Bytes(), Beacon: beacon}
}

func (w *world) payload(s *statement.Statement, keys ...*statement.PrivateKey) (payload []byte, beacon string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	s.Log = testLog
	for _, k := range keys {
		s.Signers = append(s.Signers, statement.Signer{Key: k.ID(), Meaning: statement.Authorship, At: "2026-01-02T03:04:05Z"})
	}
	s.Chain.Number = 1
	if head := w.chains[s.Trial+" "+keys[0].ID().String()]; head != nil {
		s.Chain.Number = head.GetNumber() + 1
		s.Chain.Previous, _ = statement.ParseDigest(head.GetIdentity())
	}
	if w.note != nil {
		c := w.note.Checkpoint()
		s.Beacon = &statement.Beacon{Origin: c.Origin, Size: c.Size, Note: statement.Digest(w.note.Digest())}
		beacon = string(w.note.Bytes())
	}
	payload, err := statement.Build(s)
	if err != nil {
		w.t.Fatal(err)
	}
	return payload, beacon
}

// startTrial logs the first statement of the trial.
func (w *world) startTrial() {
	w.t.Helper()
	w.mustAdd(w.signed(&statement.Statement{
		Organisation: testOrg, Trial: testTrial, Kind: statement.KindTrial, Subject: statement.SubjectTrial,
		Digest: statement.TrialDigest(testLog, testOrg, testTrial),
	}, w.sponsor))
	w.calls, w.sent = map[string]int{}, nil
}

// protocol is a signed statement with a public document.
func (w *world) protocol(document []byte) *trialogv1.SubmitRequest {
	w.t.Helper()
	return w.signed(&statement.Statement{
		Organisation: testOrg, Trial: testTrial, Kind: statement.KindProtocol, MediaType: "application/pdf",
		Subject: statement.SubjectSHA256, Digest: sha256.Sum256(document),
	}, w.sponsor)
}

func (w *world) mustAdd(req *trialogv1.SubmitRequest, granted ...statement.Role) *trialogv1.SubmitResponse {
	w.t.Helper()
	add := &trialogv1.AddRequest{Submit: req}
	for _, r := range granted {
		add.GrantedRoles = append(add.GrantedRoles, string(r))
	}
	resp, err := w.Add(context.Background(), add)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.GetSubmitted()
}

// size is how many entries there are.
func (w *world) size() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.entries)
}

// envelopes are those that Add was called with.
func (w *world) envelopes() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sent)
}

func (w *world) enter(rpc string, req any) error {
	w.mu.Lock()
	w.calls[rpc]++
	hook := w.before
	w.mu.Unlock()
	if hook != nil {
		return hook(rpc, req)
	}
	return nil
}

func (w *world) leave(rpc string, resp any) error {
	w.mu.Lock()
	hook := w.after
	w.mu.Unlock()
	if hook != nil {
		return hook(rpc, resp)
	}
	return nil
}

func refusal(code codes.Code, field, reason string, more ...protoadapt.MessageV1) error {
	details := append([]protoadapt.MessageV1{&errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: reason}},
	}}, more...)
	s, err := status.New(code, field+": "+reason).WithDetails(details...)
	if err != nil {
		return err
	}
	return s.Err()
}

func (w *world) Add(ctx context.Context, req *trialogv1.AddRequest, _ ...grpc.CallOption) (*trialogv1.AddResponse, error) {
	w.mu.Lock()
	w.sent = append(w.sent, bytes.Clone(req.GetSubmit().GetEnvelope()))
	w.mu.Unlock()
	if err := w.enter("Add", req); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	resp, err := w.add(req)
	if err != nil {
		return nil, err
	}
	out := &trialogv1.AddResponse{Submitted: resp}
	if err := w.leave("Add", out); err != nil {
		return nil, err
	}
	return out, ctx.Err()
}

func (w *world) add(req *trialogv1.AddRequest) (*trialogv1.SubmitResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	env, s, err := statement.Parse(req.GetSubmit().GetEnvelope())
	if field, ok := errors.AsType[*statement.FieldError](err); ok {
		return nil, refusal(codes.InvalidArgument, field.Field, field.Reason)
	}
	id := s.Identity(env.Payload)
	if err := w.judge(env, s, req); err != nil {
		return nil, err
	}
	at, duplicate := w.index[id]
	if !duplicate {
		if err := w.judgeOrder(s, req); err != nil {
			return nil, err
		}
		at = w.store(env, s, id)
	}
	resp := &trialogv1.SubmitResponse{Identity: id.String(), Index: uint64(at), Duplicate: duplicate}
	if req.GetSubmit().GetWait() == trialogv1.Wait_WAIT_PENDING {
		resp.State = trialogv1.State_STATE_PENDING
		e, err := entry.Parse(w.entries[at])
		if err != nil {
			return nil, err
		}
		p := receipt.Pending{
			Log: testLog, Origin: testOrigin, Identity: id, Index: uint64(at), LeafHash: entry.LeafHash(w.entries[at]),
			Received: e.Received, Deadline: e.Received.Add(time.Minute),
		}
		resp.Pending, err = p.Sign(w.promises)
		return resp, err
	}
	resp.State = trialogv1.State_STATE_FINAL
	resp.Receipt, err = w.receipt(at)
	return resp, err
}

// judge checks who signed and who may.
func (w *world) judge(env *statement.Envelope, s *statement.Statement, req *trialogv1.AddRequest) error {
	known := map[statement.KeyID]*statement.PublicKey{}
	for id, k := range w.keys {
		known[id] = k.public
	}
	if key, ok := s.EnrolledKey(); ok {
		known[key.ID()] = key
	}
	err := statement.VerifySignatures(statement.PAE(statement.PayloadType, env.Payload), env.Signatures, s.SignerIDs(), known)
	if field, ok := errors.AsType[*statement.FieldError](err); ok {
		return refusal(codes.InvalidArgument, field.Field, field.Reason)
	}
	if _, first := s.RecoveryKey(); first {
		if _, known := w.index[s.Identity(env.Payload)]; known {
			return nil
		}
		for _, r := range s.RolesAttribute() {
			if !slices.Contains(req.GetGrantedRoles(), string(r)) {
				return refusal(codes.PermissionDenied, "predicate.attributes.roles", "needs a token that grants it")
			}
		}
		return nil
	}
	k := w.keys[s.Writer()]
	rule, _ := statement.RuleOf(s.Kind)
	switch {
	case s.Received != nil && !slices.Contains(k.roles, statement.Gateway):
		return refusal(codes.PermissionDenied, "predicate.signers[0].key", "only a gateway's key may sign what it received")
	case s.Received == nil && k.org != s.Organisation:
		return refusal(codes.PermissionDenied, "predicate.signers[0].key", "the key is enrolled for another organisation")
	case s.Received == nil && !rule.MaySay(k.roles):
		return refusal(codes.PermissionDenied, "predicate.kind", "the signer's roles may not say it")
	}
	return nil
}

// judgeOrder checks trial, chain and beacon.
func (w *world) judgeOrder(s *statement.Statement, req *trialogv1.AddRequest) error {
	if _, ok := w.trials[s.Trial]; s.Trial != "" && !ok && s.Kind != statement.KindTrial {
		return refusal(codes.FailedPrecondition, "predicate.trial", "the log knows no such trial")
	}
	head := w.chains[s.Trial+" "+s.Writer().String()]
	if head == nil {
		head = &trialogv1.GetChainResponse{}
	}
	previous := ""
	if !s.Chain.Previous.IsZero() {
		previous = s.Chain.Previous.String()
	}
	if s.Chain.Number != head.GetNumber()+1 || previous != head.GetIdentity() {
		return refusal(codes.Aborted, "predicate.chain", "does not continue its chain",
			&trialogv1.ChainHead{Number: head.GetNumber(), Identity: head.GetIdentity()})
	}
	if s.Beacon == nil {
		if w.note != nil {
			return refusal(codes.InvalidArgument, "predicate.beacon", "missing")
		}
		return nil
	}
	note, ok := w.notes[s.Beacon.Note]
	if !ok || req.GetSubmit().GetBeacon() != "" && req.GetSubmit().GetBeacon() != note {
		return refusal(codes.InvalidArgument, "beacon", "is not the note that the statement names")
	}
	return nil
}

// store appends an entry and publishes a checkpoint.
func (w *world) store(env *statement.Envelope, s *statement.Statement, id statement.Identity) int {
	raw, err := entry.Encode(w.now(), env.Bytes())
	if err != nil {
		w.t.Fatal(err)
	}
	at := len(w.entries)
	w.entries = append(w.entries, raw)
	w.index[id] = at
	w.chains[s.Trial+" "+s.Writer().String()] = &trialogv1.GetChainResponse{Number: s.Chain.Number, Identity: id.String()}
	if _, ok := w.trials[s.Trial]; s.Trial != "" && !ok {
		w.trials[s.Trial] = id
	}
	if key, ok := s.EnrolledKey(); ok {
		w.keys[key.ID()] = &worldKey{public: key, org: s.Organisation, roles: s.RolesAttribute(), index: at}
	}
	root := checkpoint.Hash(w.tree(w.entries))
	t := uint64(w.now().Unix())
	note, err := checkpoint.SignLog(checkpoint.Checkpoint{Origin: testOrigin, Size: uint64(len(w.entries)), Root: root}, t, w.logKeys...)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, k := range w.witnesses {
		sig, err := k.SignCheckpoint(note.Text(), t)
		if err != nil {
			w.t.Fatal(err)
		}
		if note, err = note.With(sig); err != nil {
			w.t.Fatal(err)
		}
	}
	w.note, w.notes[statement.Digest(note.Digest())] = note, string(note.Bytes())
	return at
}

// tree is RFC 6962 section 2.1, word for word.
func (w *world) tree(entries [][]byte) []byte {
	switch n := len(entries); n {
	case 0:
		return rfc6962.DefaultHasher.EmptyRoot()
	case 1:
		return rfc6962.DefaultHasher.HashLeaf(entries[0])
	default:
		k := split(n)
		return rfc6962.DefaultHasher.HashChildren(w.tree(entries[:k]), w.tree(entries[k:]))
	}
}

func (w *world) path(m int, entries [][]byte) [][32]byte {
	n := len(entries)
	if n <= 1 {
		return nil
	}
	k := split(n)
	if m < k {
		return append(w.path(m, entries[:k]), [32]byte(w.tree(entries[k:])))
	}
	return append(w.path(m-k, entries[k:]), [32]byte(w.tree(entries[:k])))
}

// split is the greatest power of two below n.
func split(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

func (w *world) receipt(at int) ([]byte, error) {
	proof := func(i int) *receipt.Proof {
		return &receipt.Proof{Index: uint64(i), Path: w.path(i, w.entries), Note: w.note}
	}
	e, err := entry.Parse(w.entries[at])
	if err != nil {
		return nil, err
	}
	_, s, err := statement.Parse(e.Envelope)
	if err != nil {
		return nil, err
	}
	r := &receipt.Receipt{Proof: proof(at), Entry: w.entries[at]}
	if s.Beacon != nil {
		r.Beacon = []byte(w.notes[s.Beacon.Note])
	}
	for _, id := range s.SignerIDs() {
		if k := w.keys[id]; k != nil && k.index != at {
			r.Enrolments = append(r.Enrolments, receipt.Enrolment{Entry: w.entries[k.index], Proof: proof(k.index)})
		}
	}
	return r.Encode()
}

func (w *world) Find(_ context.Context, req *trialogv1.FindRequest, _ ...grpc.CallOption) (*trialogv1.FindResponse, error) {
	if err := w.enter("Find", req); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	id, err := statement.ParseDigest(req.GetIdentity())
	at, ok := w.index[id]
	if err != nil || !ok {
		return nil, status.Error(codes.NotFound, "no such statement in the log")
	}
	raw, err := w.receipt(at)
	out := &trialogv1.FindResponse{Found: &trialogv1.GetReceiptResponse{Receipt: raw, Index: uint64(at)}}
	if w.after != nil {
		err = errors.Join(err, w.after("Find", out))
	}
	return out, err
}

func (w *world) Chain(_ context.Context, req *trialogv1.ChainRequest, _ ...grpc.CallOption) (*trialogv1.ChainResponse, error) {
	if err := w.enter("Chain", req); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := &trialogv1.GetChainResponse{}
	if head := w.chains[req.GetChain().GetTrial()+" "+req.GetChain().GetKey()]; head != nil {
		out.Number, out.Identity = head.GetNumber(), head.GetIdentity()
	}
	if first, ok := w.trials[req.GetChain().GetTrial()]; ok {
		out.TrialIdentity = first.String()
	}
	if id, err := statement.ParseDigest(req.GetChain().GetKey()); err == nil && w.keys[id] != nil {
		out.Organisation = w.keys[id].org
	}
	return &trialogv1.ChainResponse{Head: out}, nil
}

func (w *world) Head(_ context.Context, req *trialogv1.HeadRequest, _ ...grpc.CallOption) (*trialogv1.HeadResponse, error) {
	if err := w.enter("Head", req); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := &trialogv1.HeadResponse{Origin: testOrigin}
	if w.note != nil {
		out.Checkpoint = string(w.note.Bytes())
	}
	if w.after != nil {
		return out, w.after("Head", out)
	}
	return out, nil
}
