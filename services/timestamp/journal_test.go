package timestamp

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/client/clienttest"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/statefile"
)

// TestHourly: records go into the log in one batch when the oldest is an hour old,
// and an idle authority causes no entry and asks nobody anything.
func TestHourly(t *testing.T) {
	l := newLogged(t)
	before := len(l.log.Calls())
	l.clock.pass(3 * time.Hour)
	l.due()
	l.issue(2)
	l.clock.pass(59 * time.Minute)
	l.issue(1)
	l.due()
	if calls := len(l.log.Calls()); calls != before {
		t.Errorf("the log was called %d times", calls-before)
	}
	l.clock.pass(time.Minute)
	l.due()
	l.check("after an hour", 1)
	before = len(l.log.Calls())
	l.clock.pass(24 * time.Hour)
	l.due()
	if calls := len(l.log.Calls()); calls != before {
		t.Errorf("an idle authority called the log %d times", calls-before)
	}
	l.issue(1)
	l.clock.pass(2 * time.Hour)
	l.due()
	l.check("later", 2)
}

// TestFullBatch: what does not fit into one batch goes into more, at once.
func TestFullBatch(t *testing.T) {
	l := newLogged(t)
	l.journal.most = 2
	l.issue(5)
	l.due()
	if n := len(l.batches()); n != 2 {
		t.Errorf("%d full batches", n)
	}
	l.clock.pass(time.Hour)
	l.due()
	l.check("the rest", 3)
}

// TestReceipt: the receipt of a token's record verifies, and names the token.
func TestReceipt(t *testing.T) {
	l := newLogged(t)
	l.issue(5)
	l.clock.pass(time.Hour)
	l.due()
	for _, serial := range l.issued {
		number, _ := new(big.Int).SetString(serial, 16)
		raw, err := Receipt(l.config.Journal.Folder, number)
		if err != nil {
			t.Fatal(err)
		}
		v, err := verify.Verify(verify.Input{Receipt: raw, Policy: l.policy, StatementOnly: true, Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		r, err := receipt.Parse(raw)
		if err != nil || serialIn(l.t, r.Record.Data) != serial || v.Record == nil || v.Record.Count != uint64(len(l.issued)) {
			t.Errorf("%s: %+v, %v", serial, v.Record, err)
		}
	}
	if _, err := Receipt(l.config.Journal.Folder, big.NewInt(5)); !errors.Is(err, ErrNotLogged) {
		t.Errorf("a token that was never issued: %v", err)
	}
}

// TestLogFails: whatever goes wrong with a call, each token is logged once.
func TestLogFails(t *testing.T) {
	for _, fault := range []clienttest.Fault{
		clienttest.CutBefore, clienttest.CutAfter, clienttest.HalfAfter, clienttest.BusyBefore, clienttest.UnavailAfter,
		clienttest.QuotaBefore, clienttest.ForbiddenAfter, clienttest.LieOther, clienttest.LieIndex, clienttest.LieForged,
		clienttest.LieUnwitnessed, clienttest.LieIdentity,
	} {
		l := newLogged(t)
		l.issue(3)
		l.clock.pass(time.Hour)
		l.log.Script(fault, fault)
		if n := l.due(); n != 2 {
			t.Errorf("%s: %d failures", fault, n)
		}
		l.check(string(fault), 1)
	}
}

// TestJournalCrashes: a crash at each write, whether it failed or persisted, logs
// no token twice and forgets none.
func TestJournalCrashes(t *testing.T) {
	for _, fault := range []clienttest.Fault{clienttest.None, clienttest.CutAfter} {
		for write := 1; write <= 2; write++ {
			for _, point := range []string{statefile.BeforeCommit, statefile.AfterCommit} {
				l := newLogged(t)
				l.issue(3)
				l.clock.pass(time.Hour)
				l.log.Script(fault)
				hits := 0
				l.state.Hook = func(at string) error {
					if at == point {
						hits++
					}
					if at == point && hits == write {
						return errors.New("a crash")
					}
					return nil
				}
				failures := l.due()
				l.check(fmt.Sprintf("%s, a crash at write %d, %s", fault, write, point), 1)
				if failures == 0 {
					t.Error("nothing failed")
				}
			}
		}
	}
}

// TestFolderFails: records are not forgotten before their receipt is kept.
func TestFolderFails(t *testing.T) {
	l := newLogged(t)
	l.issue(3)
	l.clock.pass(time.Hour)
	folder := l.config.Journal.Folder
	if err := os.Rename(folder, folder+".away"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.journal.logDue(t.Context()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v", err)
		}
	}
	if err := os.Rename(folder+".away", folder); err != nil {
		t.Fatal(err)
	}
	l.due()
	l.check("the folder is back", 1)
}

// TestPromise: a promise is no receipt.
func TestPromise(t *testing.T) {
	l := newLogged(t)
	b := &between{Log: l.client}
	l.journal.c.Log = b
	l.issue(1)
	l.clock.pass(time.Hour)
	var sent [][]byte
	b.submit = func(envelope, beacon []byte) (*client.Acknowledgement, error) {
		sent = append(sent, envelope)
		if _, err := l.client.Submit(t.Context(), envelope, beacon, client.Final); err != nil {
			return nil, err
		}
		return &client.Acknowledgement{Pending: []byte("{}")}, nil
	}
	for range 2 {
		if err := l.journal.logDue(t.Context()); err == nil {
			t.Error("logged with a promise")
		}
	}
	if !slices.Equal(sent[0], sent[1]) {
		t.Error("it was signed anew")
	}
	b.submit = nil
	l.due()
	l.check("with a receipt", 1)
}

// TestQuickerProgram: another program with the same key is quicker; the batch is
// signed anew behind it, as the log says that it stored nothing.
func TestQuickerProgram(t *testing.T) {
	l := newLogged(t)
	b := &between{Log: l.client}
	l.journal.c.Log = b
	l.issue(2)
	l.clock.pass(time.Hour)
	other := *l.journal
	other.c.Log = l.client
	times := 0
	b.submit = func(envelope, beacon []byte) (*client.Acknowledgement, error) {
		times++
		if times <= 2 {
			sayBatch(t, l, fmt.Sprint("other-", times))
		}
		return l.client.Submit(t.Context(), envelope, beacon, client.Final)
	}
	if n := l.due(); n != 0 {
		t.Errorf("%d failures", n)
	}
	if n := len(l.batches()); n != 3 || times != 3 {
		t.Errorf("%d batches, %d calls", n, times)
	}
	if left, err := l.state.oldest(1); err != nil || len(left) != 0 {
		t.Errorf("%d records are left, %v", len(left), err)
	}
}

// sayBatch logs a batch that is not the authority's, by its key.
func sayBatch(t *testing.T, l *logged, label string) {
	t.Helper()
	chain, err := l.client.Chain(t.Context(), l.key.ID(), "")
	if err != nil {
		t.Fatal(err)
	}
	beacon, note, err := l.client.Beacon(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	payload, err := statement.Build(&statement.Statement{
		Log: clienttest.Name, Organisation: organisation, Kind: statement.KindBatch, Chain: chain.Next(), Beacon: beacon,
		Signers: []statement.Signer{{Key: l.key.ID(), Meaning: statement.Authorship, At: "2026-03-01T00:00:00Z"}},
		Subject: statement.SubjectLog, Digest: statement.LogDigest(clienttest.Name),
		Attributes: []statement.Member{
			statement.TextMember("label", label), statement.TextMember("recordType", "other"),
			statement.CountMember("count", 1), statement.TextMember("root", statement.Digest{1}.String()),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	env, err := statement.Sign(payload, l.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.client.Submit(t.Context(), env.Bytes(), note, client.Final); err != nil {
		t.Fatal(err)
	}
}

// TestRefusedForGood: a batch that the log refuses is dropped, its records are not.
func TestRefusedForGood(t *testing.T) {
	l := newLogged(t)
	b := &between{Log: l.client}
	l.journal.c.Log = b
	l.issue(2)
	l.clock.pass(time.Hour)
	refusal := &client.Problem{Status: 403, Type: ours, Field: "envelope.payload.predicate.kind"}
	b.submit = func([]byte, []byte) (*client.Acknowledgement, error) { return nil, refusal }
	if err := l.journal.logDue(t.Context()); !errors.Is(err, refusal) {
		t.Errorf("%v", err)
	}
	if got, err := l.state.batch(); err != nil || got != nil {
		t.Errorf("%+v, %v", got, err)
	}
	b.submit = nil
	l.due()
	l.check("allowed again", 1)
}

// TestRejected: which answers mean that nothing was stored.
func TestRejected(t *testing.T) {
	for _, tt := range []struct {
		p           client.Problem
		found, want bool
	}{
		{client.Problem{Status: 409, Type: "about:blank"}, true, false},
		{client.Problem{Status: 400, Type: "https://proxy.example/problems/too-large"}, true, false},
		{client.Problem{Status: 400, Type: "https://proxy.example/problems/too-large"}, false, false},
		{client.Problem{Status: 409, Type: ours}, false, true},
		{client.Problem{Status: 403}, false, false},
		{client.Problem{Status: 403, Type: ours}, false, true},
		{client.Problem{Status: 403, Uncertain: true}, false, false},
		{client.Problem{Status: 403}, true, false},
		{client.Problem{Status: 403, Type: ours}, true, false},
		{client.Problem{Status: 403, Type: ours, Field: "envelope.payload.predicate.kind"}, true, true},
		{client.Problem{Status: 400, Type: ours}, true, true},
		{client.Problem{Status: 409, Type: ours}, true, true},
		{client.Problem{Status: 409}, true, false},
		{client.Problem{Status: 401, Type: ours}, true, false},
		{client.Problem{Status: 429, Type: ours}, false, false},
		{client.Problem{Status: 503, Type: ours}, true, false},
	} {
		if got := rejected(&tt.p, tt.found); got != tt.want {
			t.Errorf("%+v, found %t: %t", tt.p, tt.found, got)
		}
	}
}

// TestNotEnrolled: with a key that the log does not know nothing is signed, and
// nothing lost.
func TestNotEnrolled(t *testing.T) {
	l := newLogged(t)
	l.journal.c.Key = privateKey(t)
	l.issue(1)
	l.clock.pass(time.Hour)
	if err := l.journal.logDue(t.Context()); err == nil || !strings.Contains(err.Error(), "enrolled") {
		t.Errorf("%v", err)
	}
	l.journal.c.Key = l.key
	l.due()
	l.check("with the key", 1)
}

// TestJournalRuns: the journal tries again after a failure, and ends with its
// context.
func TestJournalRuns(t *testing.T) {
	l := newLogged(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l.issue(1)
	l.log.Script(clienttest.CutBefore)
	var waits []time.Duration
	l.journal.pause = func(_ context.Context, d time.Duration) error {
		waits = append(waits, d)
		l.clock.pass(30 * time.Minute)
		if len(waits) == 5 {
			cancel()
		}
		return ctx.Err()
	}
	if err := l.journal.run(ctx); err != nil {
		t.Error(err)
	}
	// Nothing is due, nothing is due, a failure, logged, nothing is due.
	if len(waits) != 5 || waits[0] != lookInterval || waits[2] == lookInterval || waits[3] != lookInterval {
		t.Errorf("waits %v", waits)
	}
	l.check("in the end", 1)
}
