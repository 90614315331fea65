package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/client/clienttest"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

const (
	org   = "sponsor-a"
	trial = "T-1"
)

// clock is the client's time; pauses move it.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	pauses []time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Pause(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.pauses = append(c.pauses, d)
	return ctx.Err()
}

// fixture is a client before a log with an enrolled key and a trial.
type fixture struct {
	*client.Client

	t      *testing.T
	log    *clienttest.Log
	policy *verify.Policy
	server *httptest.Server
	clock  *clock
	key    *statement.PrivateKey
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, log: clienttest.New(), clock: &clock{now: time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)}}
	f.server = httptest.NewServer(f.log)
	t.Cleanup(f.server.Close)
	text, sidecar := f.log.Policy()
	var err error
	if f.policy, err = verify.ParsePolicy(text, sidecar); err != nil {
		t.Fatal(err)
	}
	f.Client = f.dial(f.policy, time.Minute)
	seed := sha256.Sum256([]byte("the sponsor's key"))
	recovery := sha256.Sum256([]byte("the sponsor's recovery key"))
	f.key, _ = statement.GenerateKey(bytes.NewReader(seed[:]))
	second, _ := statement.GenerateKey(bytes.NewReader(recovery[:]))
	f.mustSubmit(statement.Statement{
		Kind: statement.KindKey, Subject: statement.SubjectKey, Digest: f.key.ID(), Attributes: []statement.Member{
			statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", f.key.Public()),
			statement.ListMember("roles", "sponsor"), statement.KeyMember("recovery", second.Public()),
		},
	})
	f.mustSubmit(statement.Statement{
		Trial: trial, Kind: statement.KindTrial, Subject: statement.SubjectTrial,
		Digest: statement.TrialDigest(clienttest.Name, org, trial),
	})
	f.clock.pauses = nil
	return f
}

func (f *fixture) dial(policy *verify.Policy, retryFor time.Duration) *client.Client {
	f.t.Helper()
	c, err := client.New(client.Config{
		Server: f.server.URL + "/", Token: clienttest.Token, Policy: policy, Now: f.clock.Now,
		Retry: client.Retry{For: retryFor, Pause: f.clock.Pause}, UserAgent: "test",
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// sign completes and signs a statement.
func (f *fixture) sign(s statement.Statement) (envelope, beacon []byte) {
	f.t.Helper()
	ctx := context.Background()
	chain, err := f.Chain(ctx, f.key.ID(), s.Trial)
	if err != nil {
		f.t.Fatal(err)
	}
	if s.Beacon, beacon, err = f.Beacon(ctx); err != nil {
		f.t.Fatal(err)
	}
	s.Log, s.Organisation, s.Chain = clienttest.Name, org, chain.Next()
	s.Signers = []statement.Signer{{Key: f.key.ID(), Meaning: statement.Authorship, At: "2026-03-02T10:00:00Z"}}
	if s.Subject == "" {
		s.Subject, s.Digest = statement.SubjectStatement, chain.Trial
	}
	payload, err := statement.Build(&s)
	if err != nil {
		f.t.Fatal(err)
	}
	env, err := statement.Sign(payload, f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	return env.Bytes(), beacon
}

func (f *fixture) mustSubmit(s statement.Statement) *client.Acknowledgement {
	f.t.Helper()
	envelope, beacon := f.sign(s)
	ack, err := f.Submit(context.Background(), envelope, beacon, client.Final)
	if err != nil {
		f.t.Fatal(err)
	}
	return ack
}

func milestone() statement.Statement {
	return statement.Statement{
		Trial: trial, Kind: statement.KindMilestone, Attributes: []statement.Member{statement.TextMember("milestone", "first-visit")},
	}
}

func protocol(document []byte) statement.Statement {
	return statement.Statement{
		Trial: trial, Kind: statement.KindProtocol, Version: "1", Subject: statement.SubjectSHA256,
		Digest: sha256.Sum256(document), MediaType: "application/pdf",
	}
}

func TestSubmitGivesAVerifiedReceipt(t *testing.T) {
	f := newFixture(t)
	document := []byte("%PDF-1.7 protocol")
	envelope, beacon := f.sign(protocol(document))
	first, err := f.Submit(context.Background(), envelope, beacon, client.Final)
	if err != nil {
		t.Fatal(err)
	}
	if first.Index != 2 || first.Duplicate || first.Promise != nil || !first.Verdict.Verified {
		t.Fatalf("acknowledged as %+v", first)
	}
	if _, err := verify.Verify(verify.Input{
		Receipt: first.Receipt, Policy: f.policy, Document: document, Now: f.clock.Now(),
	}); err != nil {
		t.Fatalf("the receipt does not verify with its document: %v", err)
	}
	again, err := f.Submit(context.Background(), envelope, beacon, client.Final)
	if err != nil || again.Index != 2 || !again.Duplicate || f.log.Size() != 3 {
		t.Fatalf("the same again gave %+v, %v and %d entries", again, err, f.log.Size())
	}
	refreshed, err := f.Receipt(context.Background(), first.Identity)
	if err != nil || refreshed.Index != 2 || refreshed.Identity != first.Identity {
		t.Fatalf("the receipt again: %+v, %v", refreshed, err)
	}
}

func TestSubmitPending(t *testing.T) {
	f := newFixture(t)
	envelope, beacon := f.sign(milestone())
	ack, err := f.Submit(context.Background(), envelope, beacon, client.Pending)
	if err != nil {
		t.Fatal(err)
	}
	if ack.Promise == nil || ack.Receipt != nil || ack.Promise.Identity != ack.Identity || ack.Promise.Index != 2 {
		t.Fatalf("acknowledged as %+v", ack)
	}
	final, err := f.Submit(context.Background(), envelope, beacon, client.Pending)
	if err != nil || final.Receipt == nil || final.Promise != nil || !final.Duplicate {
		t.Fatalf("later it is acknowledged as %+v, %v", final, err)
	}
}

func TestUnknownOutcomesAreResolvedWithTheSameBytes(t *testing.T) {
	for _, tt := range []struct {
		name      string
		faults    []clienttest.Fault
		duplicate bool
	}{
		{"none", nil, false},
		{"cut before it is stored", []clienttest.Fault{clienttest.CutBefore}, false},
		{"cut after it is stored", []clienttest.Fault{clienttest.CutAfter}, true},
		{"half an answer", []clienttest.Fault{clienttest.HalfAfter}, true},
		{"503", []clienttest.Fault{clienttest.BusyBefore}, false},
		{"502 after it is stored", []clienttest.Fault{clienttest.UnavailAfter}, true},
		{"429", []clienttest.Fault{clienttest.QuotaBefore}, false},
		{"one after the other", []clienttest.Fault{
			clienttest.CutBefore, clienttest.BusyBefore, clienttest.CutAfter, clienttest.HalfAfter,
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			envelope, beacon := f.sign(milestone())
			f.log.Script(tt.faults...)
			ack, err := f.Submit(context.Background(), envelope, beacon, client.Final)
			if err != nil {
				t.Fatal(err)
			}
			if f.log.Size() != 3 || ack.Index != 2 || ack.Duplicate != tt.duplicate {
				t.Errorf("acknowledged as entry %d, duplicate %t, in a log of %d", ack.Index, ack.Duplicate, f.log.Size())
			}
			if len(f.clock.pauses) != len(tt.faults) {
				t.Errorf("paused %d times for %d faults", len(f.clock.pauses), len(tt.faults))
			}
		})
	}
}

func TestRetryEnds(t *testing.T) {
	f := newFixture(t)
	envelope, beacon := f.sign(milestone())
	many := make([]clienttest.Fault, 100)
	for i := range many {
		many[i] = clienttest.CutAfter
	}
	f.log.Script(many...)
	_, err := f.Submit(context.Background(), envelope, beacon, client.Final)
	var unreachable *client.UnreachableError
	if !errors.As(err, &unreachable) || unreachable.Attempts < 5 || !client.Unreachable(err) {
		t.Fatalf("expected an UnreachableError after several attempts, got %v", err)
	}
	total := time.Duration(0)
	for i, d := range f.clock.pauses {
		limit := min(200*time.Millisecond<<i, 10*time.Second)
		if d > limit || d < limit/2 {
			t.Errorf("pause %d is %s, expected %s to %s", i, d, limit/2, limit)
		}
		total += d
	}
	if total > time.Minute {
		t.Errorf("it went on for %s", total)
	}
}

func TestOneAttemptOnly(t *testing.T) {
	f := newFixture(t)
	envelope, beacon := f.sign(milestone())
	f.log.Script(clienttest.QuotaBefore)
	_, err := f.dial(f.policy, 0).Submit(context.Background(), envelope, beacon, client.Final)
	var p *client.Problem
	if !errors.As(err, &p) || p.Status != http.StatusTooManyRequests || p.RetryAfter != 7*time.Second || !client.Unreachable(err) {
		t.Fatalf("expected the 429 with its Retry-After, got %#v", err)
	}
	if len(f.clock.pauses) != 0 {
		t.Errorf("paused %v", f.clock.pauses)
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	f := newFixture(t)
	envelope, beacon := f.sign(milestone())
	f.log.Script(clienttest.QuotaBefore)
	if _, err := f.Submit(context.Background(), envelope, beacon, client.Final); err != nil {
		t.Fatal(err)
	}
	if len(f.clock.pauses) != 1 || f.clock.pauses[0] != 7*time.Second {
		t.Errorf("paused %v, expected the 7 s that the log asked for", f.clock.pauses)
	}
}

func TestContextEndsTheCall(t *testing.T) {
	f := newFixture(t)
	envelope, beacon := f.sign(milestone())
	f.log.Script(clienttest.HoldAfter)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-f.log.Held()
		cancel()
	}()
	_, err := f.Submit(ctx, envelope, beacon, client.Final)
	f.log.Release()
	var unreachable *client.UnreachableError
	if !errors.As(err, &unreachable) || !errors.Is(err, context.Canceled) {
		t.Fatalf("expected an UnreachableError of the context, got %v", err)
	}
}

func TestLiesAreNotHandedOut(t *testing.T) {
	for _, tt := range []struct {
		fault clienttest.Fault
		wait  client.Wait
		what  string
	}{
		{clienttest.LieOther, client.Final, "receipt"},
		{clienttest.LieIndex, client.Final, "receipt"},
		{clienttest.LieUnwitnessed, client.Final, "receipt"},
		{clienttest.LieForged, client.Final, "receipt"},
		{clienttest.LieIdentity, client.Final, "answer"},
		{clienttest.LiePromise, client.Pending, "promise"},
		{clienttest.LieOtherPromise, client.Pending, "promise"},
		{clienttest.LieIndex, client.Pending, "promise"},
	} {
		t.Run(string(tt.fault), func(t *testing.T) {
			f := newFixture(t)
			envelope, beacon := f.sign(milestone())
			f.log.Script(tt.fault)
			ack, err := f.Submit(context.Background(), envelope, beacon, tt.wait)
			var untrue *client.UntrueError
			if !errors.As(err, &untrue) || untrue.What != tt.what || ack != nil {
				t.Fatalf("expected an untrue %s and nothing else, got %+v, %v", tt.what, ack, err)
			}
			if client.Unreachable(err) {
				t.Error("a lie counts as unreachable")
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	f := newFixture(t)
	envelope, beacon := f.sign(milestone())
	if err := f.log.Say(org, trial, f.key); err != nil {
		t.Fatal(err)
	}
	_, err := f.Submit(context.Background(), envelope, beacon, client.Final)
	var p *client.Problem
	if !errors.As(err, &p) || p.Status != http.StatusConflict || p.Head == nil || p.Head.Number != 2 || p.Temporary() || p.Uncertain {
		t.Fatalf("expected a conflict with the head, got %#v", err)
	}
	if f.log.Size() != 3 {
		t.Errorf("the log has %d entries", f.log.Size())
	}
	f.log.Script(clienttest.CutBefore)
	_, err = f.Submit(context.Background(), envelope, beacon, client.Final)
	if !errors.As(err, &p) || !p.Uncertain {
		t.Errorf("a refusal behind a cut connection is not marked uncertain: %#v", err)
	}
	if _, err := f.Receipt(context.Background(), statement.Identity{1}); !errors.As(err, &p) || p.Status != http.StatusNotFound || p.Field != "identity" {
		t.Errorf("the receipt of nothing gave %v", err)
	}
	if _, err := f.Submit(context.Background(), []byte("{}"), nil, client.Final); err == nil {
		t.Error("an envelope that is none was sent")
	}
}

func TestWithoutPolicy(t *testing.T) {
	f := newFixture(t)
	blind := f.dial(nil, 0)
	ctx := context.Background()
	if d, err := blind.Describe(ctx); err != nil || d.Log != clienttest.Name || len(d.Policy) == 0 {
		t.Errorf("Describe gave %+v, %v", d, err)
	}
	for name, call := range map[string]func() error{
		"Submit":     func() error { _, err := blind.Submit(ctx, nil, nil, client.Final); return err },
		"Receipt":    func() error { _, err := blind.Receipt(ctx, statement.Identity{1}); return err },
		"Beacon":     func() error { _, _, err := blind.Beacon(ctx); return err },
		"Checkpoint": func() error { _, _, err := blind.Checkpoint(ctx); return err },
		"Entry":      func() error { _, err := blind.Entry(ctx, 0); return err },
	} {
		if err := call(); !errors.Is(err, client.ErrNoPolicy) {
			t.Errorf("%s gave %v, expected ErrNoPolicy", name, err)
		}
	}
}

func TestDocuments(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	document := []byte("%PDF-1.7 protocol")
	ack := f.mustSubmit(protocol(document))
	if err := f.PutDocument(ctx, document, "application/pdf", ack.Identity); err != nil {
		t.Fatal(err)
	}
	got, media, err := f.Document(ctx, sha256.Sum256(document), ack.Identity, 1<<20)
	if err != nil || !bytes.Equal(got, document) || media != "application/pdf" {
		t.Fatalf("fetched %q of %q, %v", got, media, err)
	}
	if err := f.PutDocument(ctx, []byte("another"), "application/pdf", ack.Identity); err == nil {
		t.Error("a document was taken that the statement does not name")
	}
	if _, _, err := f.Document(ctx, sha256.Sum256(document), ack.Identity, 3); err == nil {
		t.Error("a document beyond the limit was handed out")
	}
}

func TestTree(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	ack := f.mustSubmit(milestone())
	cosigned, note, err := f.Checkpoint(ctx)
	if err != nil || cosigned.Size != 3 || note.Checkpoint().Size != 3 {
		t.Fatalf("the checkpoint is %+v, %v", cosigned, err)
	}
	got, err := f.Entry(ctx, ack.Index)
	if err != nil || got.Index != 2 || got.Under.Size != 3 {
		t.Fatalf("the entry is %+v, %v", got, err)
	}
	var none *client.RangeError
	if _, err := f.Entry(ctx, 3); !errors.As(err, &none) || none.Size != 3 {
		t.Errorf("an entry that is not there gave %v", err)
	}
}
