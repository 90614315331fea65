package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/config"
)

// TestMainJob is what a person with curl, jq and openssl does: prepare, sign,
// submit, get the receipt, verify it.
func TestMainJob(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	var log struct{ Log, Origin, Checkpoint, Policy, PolicySidecar, PolicyFingerprint string }
	h.request("GET", "/v1/log", nil).want(t, 200, &log)
	if log.Log != testLog || log.Origin != testOrigin || log.Checkpoint == "" || log.Policy != string(w.policy) ||
		log.PolicySidecar != string(w.sidecar) || len(log.PolicyFingerprint) != 64 {
		t.Errorf("GetLog answered %+v", log)
	}
	var prepared struct {
		Payload, ToSign  []byte
		Identity, Beacon string
	}
	h.post("/v1/statements:prepare", map[string]any{
		"draft": protocolDraft("protocol v1"), "signers": []any{map[string]any{"key": w.sponsor.ID(), "meaning": "approval"}},
	}).want(t, 200, &prepared)
	sig, err := w.sponsor.Sign(prepared.ToSign)
	if err != nil {
		t.Fatal(err)
	}
	envelope := statement.EncodeDSSE(statement.PayloadType, prepared.Payload, []statement.Signature{{Sig: sig}})
	var got submittedJSON
	h.post("/v1/statements", map[string]any{"envelope": envelope, "beacon": prepared.Beacon}).want(t, 200, &got)
	if got.State != "STATE_FINAL" || got.Identity != prepared.Identity || got.Index != "3" || got.Duplicate {
		t.Errorf("submit answered %+v", got)
	}
	var again submittedJSON
	h.post("/v1/statements", map[string]any{"envelope": envelope, "beacon": prepared.Beacon}).want(t, 200, &again)
	if again.Index != got.Index || !again.Duplicate {
		t.Errorf("the same statement again answered index %s, duplicate %v", again.Index, again.Duplicate)
	}
	var found struct {
		Receipt []byte
		Index   string
	}
	h.request("GET", "/v1/statements/"+got.Identity+"/receipt", nil).want(t, 200, &found)
	policy, err := verify.ParsePolicy([]byte(log.Policy), []byte(log.PolicySidecar))
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range [][]byte{got.Receipt, again.Receipt, found.Receipt} {
		verdict, err := verify.Verify(verify.Input{Receipt: raw, Policy: policy, Document: []byte("protocol v1"), Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if verdict.NotBefore == nil || verdict.Statement.Grade != statement.Signed || verdict.Signers[0].Meaning != statement.Approval {
			t.Errorf("the verdict is %+v", verdict)
		}
	}
	var chain struct{ Number, Identity, TrialIdentity, Organisation string }
	h.request("GET", "/v1/chains/"+w.sponsor.ID().String()+"?trial="+testTrial, nil).want(t, 200, &chain)
	if chain.Number != "2" || chain.Identity != got.Identity || chain.Organisation != testOrg || len(chain.TrialIdentity) != 64 {
		t.Errorf("GetChain answered %+v", chain)
	}
}

func TestSubmitPending(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	body := submitBody(w.protocol([]byte("p")))
	body["wait"] = "WAIT_PENDING"
	var got submittedJSON
	h.post("/v1/statements", body).want(t, 200, &got)
	if got.State != "STATE_PENDING" || len(got.Pending) == 0 || len(got.Receipt) > 0 {
		t.Errorf("got %+v", got)
	}
}

// TestChainConflict: the head to build on is in the answer.
func TestChainConflict(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	late := w.protocol([]byte("late"))
	first := w.mustAdd(w.protocol([]byte("first")))
	got := h.post("/v1/statements", submitBody(late)).want(t, 409, nil)
	if got.problem.Head == nil || got.problem.Head.Number != 2 || got.problem.Head.Identity != first.GetIdentity() {
		t.Errorf("no head in %s", got.body)
	}
	if got.problem.Field != "envelope.payload.predicate.chain" {
		t.Errorf("field is %q", got.problem.Field)
	}
}

// TestLyingSequencer: threat L4. What does not verify is never handed on.
func TestLyingSequencer(t *testing.T) {
	spoil := func(receipt []byte) []byte {
		return []byte(strings.Replace(string(receipt), `"entry": "`, `"entry": "AAAA`, 1))
	}
	for name, lie := range map[string]func(w *world, rpc string, resp any) error{
		"spoilt receipt": func(_ *world, _ string, resp any) error {
			switch r := resp.(type) {
			case *trialogv1.AddResponse:
				r.Submitted.Receipt = spoil(r.GetSubmitted().GetReceipt())
			case *trialogv1.FindResponse:
				r.Found.Receipt = spoil(r.GetFound().GetReceipt())
			}
			return nil
		},
		"empty receipt": func(_ *world, _ string, resp any) error {
			switch r := resp.(type) {
			case *trialogv1.AddResponse:
				r.Submitted.Receipt = nil
			case *trialogv1.FindResponse:
				r.Found.Receipt = nil
			}
			return nil
		},
		"receipt of another statement": func(w *world, _ string, resp any) error {
			other, err := w.receipt(1)
			switch r := resp.(type) {
			case *trialogv1.AddResponse:
				r.Submitted.Receipt, r.Submitted.Index = other, 1
			case *trialogv1.FindResponse:
				r.Found.Receipt, r.Found.Index = other, 1
			}
			return err
		},
		"other index": func(_ *world, _ string, resp any) error {
			switch r := resp.(type) {
			case *trialogv1.AddResponse:
				r.Submitted.Index++
			case *trialogv1.FindResponse:
				r.Found.Index++
			}
			return nil
		},
		"nothing": func(_ *world, _ string, resp any) error {
			switch r := resp.(type) {
			case *trialogv1.AddResponse:
				r.Submitted = nil
			case *trialogv1.FindResponse:
				r.Found = nil
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			h := newHouse(t, w)
			w.startTrial()
			req := w.protocol([]byte("p"))
			w.after = func(rpc string, resp any) error { return lie(w, rpc, resp) }
			got := h.post("/v1/statements", submitBody(req)).want(t, 503, nil)
			if got.header.Get("Retry-After") == "" || strings.Contains(string(got.body), "receipt\"") {
				t.Errorf("answered %v %s", got.header, got.body)
			}
			_, s, _ := statement.Parse(req.GetEnvelope())
			env, _ := statement.ParseEnvelope(req.GetEnvelope())
			h.request("GET", "/v1/statements/"+s.Identity(env.Payload).String()+"/receipt", nil).want(t, 503, nil)
			if !strings.Contains(h.logs.String(), "sequencer's answer does not verify") {
				t.Error("nothing was logged")
			}
		})
	}
}

func TestLyingPromise(t *testing.T) {
	for name, lie := range map[string]func(r *trialogv1.SubmitResponse){
		"empty":          func(r *trialogv1.SubmitResponse) { r.Pending = nil },
		"other index":    func(r *trialogv1.SubmitResponse) { r.Index++ },
		"other identity": func(r *trialogv1.SubmitResponse) { r.Identity = hashed("other") },
		"no state":       func(r *trialogv1.SubmitResponse) { r.State = 0 },
		"with a receipt": func(r *trialogv1.SubmitResponse) { r.Receipt = []byte("{}") },
		"spoilt": func(r *trialogv1.SubmitResponse) {
			r.Pending = []byte(strings.Replace(string(r.GetPending()), `"sig":"`, `"sig":"AA`, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			h := newHouse(t, w)
			w.startTrial()
			body := submitBody(w.protocol([]byte("p")))
			body["wait"] = "WAIT_PENDING"
			w.after = func(_ string, resp any) error { lie(resp.(*trialogv1.AddResponse).GetSubmitted()); return nil }
			h.post("/v1/statements", body).want(t, 503, nil)
		})
	}
}

// TestPromiseOfAnotherShard: a promise is of the shard that Head names, or it is
// not handed on; whether Head was asked before makes no difference.
func TestPromiseOfAnotherShard(t *testing.T) {
	for name, tc := range map[string]struct {
		log, origin string
		status      int
	}{
		"this shard":           {testLog, testOrigin, 200},
		"another shard":        {testLog, testLog + "/2", 503},
		"another log":          {"log.test/other", "log.test/other/1", 503},
		"no shard":             {testLog, testLog, 503},
		"shard of another log": {testLog, "log.test/other/1", 503},
	} {
		for _, asked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,asked=%v", name, asked), func(t *testing.T) {
				w := newWorld(t)
				h := newHouse(t, w)
				w.startTrial()
				if asked {
					h.request("GET", "/v1/log", nil).want(t, 200, nil)
				}
				w.after = func(_ string, resp any) error {
					added, ok := resp.(*trialogv1.AddResponse)
					if !ok {
						return nil
					}
					p, err := receipt.ParsePending(added.GetSubmitted().GetPending(), w.promises.Public())
					if err != nil {
						return err
					}
					p.Log, p.Origin = tc.log, tc.origin
					added.Submitted.Pending, err = p.Sign(w.promises)
					return err
				}
				body := submitBody(w.protocol([]byte("p")))
				body["wait"] = "WAIT_PENDING"
				h.post("/v1/statements", body).want(t, tc.status, nil)
			})
		}
	}
}

// TestLyingHead: a checkpoint that does not verify is no beacon.
func TestLyingHead(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	h.request("GET", "/v1/log", nil).want(t, 200, nil)
	for name, lie := range map[string]func(*trialogv1.HeadResponse){
		"spoilt": func(r *trialogv1.HeadResponse) {
			r.Checkpoint = strings.Replace(r.GetCheckpoint(), "\n2\n", "\n3\n", 1)
		},
		"origin": func(r *trialogv1.HeadResponse) { r.Origin += "1" },
		"text":   func(r *trialogv1.HeadResponse) { r.Checkpoint = "hello" },
	} {
		w.after = func(_ string, resp any) error { lie(resp.(*trialogv1.HeadResponse)); return nil }
		if got := h.request("GET", "/v1/log", nil); got.status != 503 {
			t.Errorf("%s: status %d", name, got.status)
		}
	}
}

// TestSequencerErrors: what a caller can act on is handed on, nothing else.
func TestSequencerErrors(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	body := submitBody(w.protocol([]byte("p")))
	for _, tc := range []struct {
		err    error
		status int
		retry  bool
	}{
		{status.Error(codes.Unavailable, "dial tcp 10.1.2.3: canary"), 503, true},
		{status.Error(codes.Internal, "open /var/canary"), 500, false},
		{status.Error(codes.Unknown, "canary"), 500, false},
		{status.Error(codes.Unimplemented, "canary"), 500, false},
		{status.Error(codes.Unauthenticated, "canary"), 500, false},
		{status.Error(codes.DataLoss, "canary"), 500, false},
		{status.Error(codes.DeadlineExceeded, "canary"), 504, true},
		{errors.New("canary"), 500, false},
		{context.DeadlineExceeded, 504, true},
		{status.Error(codes.ResourceExhausted, "the log is busy"), 429, true},
		{refusal(codes.InvalidArgument, "predicate.kind", "is not right"), 400, false},
		{refusal(codes.PermissionDenied, "predicate.signers[0].key", "is revoked"), 403, false},
		{refusal(codes.FailedPrecondition, "predicate.trial", "is missing"), 409, false},
		{refusal(codes.FailedPrecondition, "predicate.chain", "is behind", &trialogv1.ChainHead{Number: 7}), 409, false},
	} {
		w.before = func(string, any) error { return tc.err }
		got := h.post("/v1/statements", body)
		if got.status != tc.status || tc.retry != (got.header.Get("Retry-After") != "") || strings.Contains(string(got.body), "canary") {
			t.Errorf("%v gave %d, Retry-After %q, %s", tc.err, got.status, got.header.Get("Retry-After"), got.body)
		}
	}
}

// TestPrepareSubjects: the subject of a statement without a document follows
// from its kind.
func TestPrepareSubjects(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	prepare := func(draft map[string]any, key statement.KeyID) (*statement.Statement, *answer) {
		t.Helper()
		var prepared struct{ Payload []byte }
		got := h.post("/v1/statements:prepare", map[string]any{
			"draft": draft, "signers": []any{map[string]any{"key": key, "meaning": "authorship"}},
		})
		if got.status != 200 {
			return nil, got
		}
		if err := json.Unmarshal(got.body, &prepared); err != nil {
			t.Fatal(err)
		}
		s, err := statement.Decode(prepared.Payload)
		if err != nil {
			t.Fatal(err)
		}
		return s, got
	}
	trial := map[string]any{"organisation": testOrg, "trial": testTrial, "kind": "trial"}
	if s, got := prepare(trial, w.sponsor.ID()); s == nil || s.Subject != statement.SubjectTrial {
		t.Errorf("first statement of a trial: %s", got.body)
	}
	milestone := map[string]any{
		"organisation": testOrg, "trial": testTrial, "kind": "milestone",
		"attributes": map[string]any{"milestone": "first-visit"},
	}
	if _, got := prepare(milestone, w.sponsor.ID()); got.status != 409 || got.problem.Field != "draft.trial" {
		t.Errorf("milestone of an unknown trial: %s", got.body)
	}
	w.startTrial()
	s, got := prepare(milestone, w.sponsor.ID())
	if s == nil || s.Subject != statement.SubjectStatement || s.Digest != w.trials[testTrial] || s.Chain.Number != 2 {
		t.Errorf("milestone: %s", got.body)
	}
	key := testKey(t, "second key")
	enrol := map[string]any{"organisation": testOrg, "kind": "key", "attributes": map[string]any{
		"action": "enrol", "publicKey": key.Public().DER(), "roles": []string{"sponsor"},
	}}
	s, got = prepare(enrol, key.ID())
	if s == nil || s.Subject != statement.SubjectKey || s.Digest != key.ID() {
		t.Errorf("enrolment: %s", got.body)
	}
	revoke := map[string]any{"organisation": testOrg, "kind": "key", "attributes": map[string]any{
		"action": "revoke", "revokes": w.sponsor.ID(), "suspectOrigin": testOrigin, "suspectFrom": 1 << 40,
	}}
	s, got = prepare(revoke, w.recovery.ID())
	if s == nil || s.Digest != w.sponsor.ID() || s.CountAttribute("suspectFrom") != 1<<40 {
		t.Errorf("revocation: %s", got.body)
	}
	s, got = prepare(map[string]any{
		"organisation": testOrg, "kind": "credential", "attributes": map[string]any{"credential": "gcp"},
	}, w.sponsor.ID())
	if s == nil || s.Subject != statement.SubjectKey || s.Digest != w.sponsor.ID() {
		t.Errorf("credential: %s", got.body)
	}
	s, got = prepare(map[string]any{
		"organisation": "operator", "kind": "shard-end", "attributes": map[string]any{"successor": "next"},
	}, w.gateway.ID())
	if s == nil || s.Digest != statement.LogDigest(testLog) {
		t.Errorf("shard-end: %s", got.body)
	}
	if n := w.size(); n != 3 {
		t.Errorf("preparing stored something: %d entries", n)
	}
}

// TestPrepareEmptyLog: before the first checkpoint there is no beacon.
func TestPrepareEmptyLog(t *testing.T) {
	w := newWorld(t)
	w.note, w.chains = nil, map[string]*trialogv1.GetChainResponse{}
	h := newHouse(t, w)
	var prepared struct {
		Payload []byte
		Beacon  string
	}
	h.post("/v1/statements:prepare", map[string]any{
		"draft": protocolDraft("p"), "signers": []any{map[string]any{"key": w.sponsor.ID(), "meaning": "review"}},
	}).want(t, 200, &prepared)
	s, err := statement.Decode(prepared.Payload)
	if err != nil || s.Beacon != nil || prepared.Beacon != "" {
		t.Errorf("beacon %+v, %q, %v", s, prepared.Beacon, err)
	}
	var log map[string]string
	h.request("GET", "/v1/log", nil).want(t, 200, &log)
	if log["checkpoint"] != "" || log["origin"] != testOrigin {
		t.Errorf("GetLog answered %v", log)
	}
}

// TestPrepareTime: an empty time is the gateway's.
func TestPrepareTime(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	at := time.Now()
	h.g.cfg.Now = func() time.Time { return at }
	var prepared struct{ Payload []byte }
	h.post("/v1/statements:prepare", map[string]any{"draft": protocolDraft("p"), "signers": []any{
		map[string]any{"key": w.sponsor.ID(), "meaning": "review"},
		map[string]any{"key": w.recovery.ID(), "meaning": "approval", "at": "2020-01-01T00:00:00Z"},
	}}).want(t, 200, &prepared)
	s, err := statement.Decode(prepared.Payload)
	if err != nil || string(s.Signers[0].At) != at.UTC().Format(time.RFC3339) || s.Signers[1].At != "2020-01-01T00:00:00Z" {
		t.Errorf("signers are %+v, %v", s, err)
	}
}

// TestFirstEnrolment: only who may, only for whom, and with no more roles than
// the token grants.
func TestFirstEnrolment(t *testing.T) {
	for _, tc := range []struct {
		name, token, org string
		roles            []statement.Role
		status           int
		field            string
	}{
		{"granted", tokenEnrol, "new-org", []statement.Role{statement.Sponsor}, 200, ""},
		{"granted for the organisation", tokenNewOrg, "new-org", []statement.Role{statement.Admin}, 200, ""},
		{"no token", "", "new-org", []statement.Role{statement.Sponsor}, 401, ""},
		{"token without the permission", tokenReceive, "new-org", []statement.Role{statement.Sponsor}, 403, ""},
		{"other organisation", tokenNewOrg, "other", []statement.Role{statement.Sponsor}, 403, "envelope.payload.predicate.organisation"},
		{"other role", tokenEnrol, "new-org", []statement.Role{statement.Gateway}, 403, "envelope.payload.predicate.attributes.roles"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			h := newHouse(t, w)
			var headers []string
			if tc.token != "" {
				headers = append(headers, bearer(tc.token))
			}
			req := w.enrolment(tc.org, testKey(t, "new"), testKey(t, "new recovery"), tc.roles...)
			got := h.post("/v1/statements", submitBody(req), headers...).want(t, tc.status, nil)
			if got.problem.Field != tc.field {
				t.Errorf("field %q, want %q: %s", got.problem.Field, tc.field, got.body)
			}
			if (tc.status == 200) != (w.size() == 3) {
				t.Errorf("%d entries", w.size())
			}
		})
	}
}

// TestFirstEnrolmentAgain: a first enrolment that is in the log is never an
// error, whoever sends it again, also before a checkpoint holds it. What is not
// the same statement needs a token as before.
func TestFirstEnrolmentAgain(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, withQuota(config.GatewayQuota{Organisation: slow(1)}))
	req := w.enrolment("new-org", testKey(t, "new"), testKey(t, "new recovery"), statement.Sponsor)
	send := func(headers ...string) *answer { return h.post("/v1/statements", submitBody(req), headers...) }
	send().want(t, 401, nil)
	var first, again submittedJSON
	send(bearer(tokenEnrol)).want(t, 200, &first)
	// The sequencer knows more than it has published.
	w.before = func(rpc string, _ any) error {
		if rpc == "Find" {
			return status.Error(codes.NotFound, "no checkpoint has it yet")
		}
		return nil
	}
	for name, headers := range map[string][]string{
		"no token": nil, "other permission": {bearer(tokenReceive)}, "the same again": nil,
	} {
		send(headers...).want(t, 200, &again)
		if again.Index != first.Index || again.Identity != first.Identity || !again.Duplicate {
			t.Errorf("%s: got %+v, want %+v", name, again, first)
		}
	}
	if w.size() != 3 {
		t.Errorf("%d entries", w.size())
	}
	req = w.enrolment("new-org", testKey(t, "newer"), testKey(t, "newer recovery"), statement.Sponsor)
	send().want(t, 401, nil)
	send(bearer(tokenReceive)).want(t, 403, nil)
	// Whatever becomes of it, nobody's quota is touched without a token.
	w.before = func(string, any) error { return status.Error(codes.DeadlineExceeded, "late") }
	req = w.enrolment("victim", testKey(t, "newest"), testKey(t, "newest recovery"), statement.Sponsor)
	send().want(t, 504, nil)
	w.before = nil
	send(bearer(tokenEnrol)).want(t, 200, nil)
}

// TestUngrantedEnrolment: a sequencer that lets in what nobody granted is
// reported, and the stranger gets nothing.
func TestUngrantedEnrolment(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.before = func(_ string, req any) error {
		if add, ok := req.(*trialogv1.AddRequest); ok {
			add.GrantedRoles = []string{string(statement.Sponsor)}
		}
		return nil
	}
	req := w.enrolment("new-org", testKey(t, "new"), testKey(t, "new recovery"), statement.Sponsor)
	h.post("/v1/statements", submitBody(req)).want(t, 401, nil)
	if !strings.Contains(h.logs.String(), "nobody granted") {
		t.Error("nothing was logged")
	}
}

// TestGrantsStayWithFirstEnrolments: a token's roles are not lent to other
// statements.
func TestGrantsStayWithFirstEnrolments(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	w.before = func(rpc string, req any) error {
		if add, ok := req.(*trialogv1.AddRequest); ok && len(add.GetGrantedRoles()) > 0 {
			t.Errorf("%s came with roles %v", rpc, add.GetGrantedRoles())
		}
		return nil
	}
	h.post("/v1/statements", submitBody(w.protocol([]byte("p"))), bearer(tokenEnrol)).want(t, 200, nil)
}

// TestReceivedEnvelopeAgain: a received statement may be sent again by anybody,
// as it is; nobody else's key makes one.
func TestReceivedEnvelopeAgain(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	s := &statement.Statement{
		Organisation: testOrg, Trial: testTrial, Kind: statement.KindProtocol, MediaType: "application/pdf",
		Subject: statement.SubjectSHA256, Digest: sha256.Sum256([]byte("p")), Log: testLog,
		Signers:  []statement.Signer{{Key: w.sponsor.ID(), Meaning: statement.Reception, At: "2026-01-01T00:00:00Z"}},
		Chain:    statement.Link{Number: 2, Previous: w.trials[testTrial]},
		Received: &statement.ReceptionInfo{Principal: "p", Method: "token"},
	}
	payload, err := statement.Build(s)
	if err != nil {
		t.Fatal(err)
	}
	env, err := statement.Sign(payload, w.sponsor)
	if err != nil {
		t.Fatal(err)
	}
	got := h.post("/v1/statements", map[string]any{"envelope": env.Bytes()}).want(t, http.StatusForbidden, nil)
	if got.problem.Field != "envelope.payload.predicate.signers[0].key" {
		t.Errorf("field %q", got.problem.Field)
	}
}
