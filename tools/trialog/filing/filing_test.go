package filing

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/client/clienttest"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/tools/trialog/folder"
)

const (
	org   = "sponsor-a"
	trial = "NCT00000001"
)

func now() time.Time { return time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC) }

// world is a log, and a key that is enrolled in it.
type world struct {
	t      *testing.T
	log    *clienttest.Log
	url    string
	policy *verify.Policy
	key    *statement.PrivateKey
}

func newKey(t *testing.T, label string) *statement.PrivateKey {
	t.Helper()
	seed := sha256.Sum256([]byte(label))
	key, err := statement.GenerateKey(bytes.NewReader(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, log: clienttest.New(), key: newKey(t, "key")}
	server := httptest.NewServer(w.log)
	t.Cleanup(server.Close)
	w.url = server.URL
	text, sidecar := w.log.Policy()
	var err error
	if w.policy, err = verify.ParsePolicy(text, sidecar); err != nil {
		t.Fatal(err)
	}
	d := w.desk(t.TempDir())
	for _, r := range []*Request{
		{Base: filepath.Join(d.Folder.Dir, "key"), Statement: statement.Statement{
			Organisation: org, Kind: statement.KindKey, Attributes: []statement.Member{
				statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", w.key.Public()),
				statement.ListMember("roles", "sponsor", "site", "admin"), statement.KeyMember("recovery", newKey(t, "recovery").Public()),
			},
		}},
		{Base: filepath.Join(d.Folder.Dir, "trial"), Statement: statement.Statement{
			Organisation: org, Trial: trial, Kind: statement.KindTrial,
		}},
	} {
		if _, err := d.File(context.Background(), r, client.Final); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// desk makes a desk with a work folder of its own, which gives up at once.
func (w *world) desk(dir string) *Desk {
	w.t.Helper()
	c, err := client.New(client.Config{Server: w.url, Token: clienttest.Token, Policy: w.policy, Now: now})
	if err != nil {
		w.t.Fatal(err)
	}
	return &Desk{
		Folder: &folder.Folder{Dir: dir}, Client: c, Policy: w.policy, Log: clienttest.Name, Key: w.key, Now: now, Random: rand.Reader,
	}
}

func protocol(dir string) *Request {
	return &Request{
		Base: filepath.Join(dir, "protocol.pdf"), Document: []byte("%PDF protocol"),
		Statement: statement.Statement{
			Organisation: org, Trial: trial, Kind: statement.KindProtocol, Version: "1", MediaType: "application/pdf",
			Dates: []statement.NamedDate{{Name: "approved", Date: "2026-02"}},
		},
	}
}

func sealedSAP(dir string) *Request {
	r := protocol(dir)
	r.Sealed, r.Statement.Kind = true, statement.KindSAP
	return r
}

func consents(dir string) *Request {
	r := &Request{Base: filepath.Join(dir, "batch"), Statement: statement.Statement{
		Organisation: org, Trial: trial, Kind: statement.KindBatch, Attributes: []statement.Member{
			statement.TextMember("label", "week-10"), statement.TextMember("recordType", "consent"),
		},
	}}
	for i := range 3 {
		r.Records = append(r.Records, Record{Base: filepath.Join(dir, fmt.Sprint("consent-", i)), Item: &Item{
			MediaType: "application/pdf", Document: fmt.Appendf(nil, "%%PDF consent %d", i),
			SealedAttributes: []statement.Member{
				statement.TextMember("subject", fmt.Sprint("000", i)), statement.TextMember("site", "site-b"),
				statement.TextMember("signedOn", "2026-03-01"),
			},
		}})
	}
	return r
}

// checkDone requires that everything of a request is in its place.
func (w *world) checkDone(r *Request, entries int) {
	w.t.Helper()
	if got := w.log.Size(); got != entries {
		w.t.Errorf("the log has %d entries, expected %d", got, entries)
	}
	d := w.desk(w.t.TempDir())
	raw, err := os.ReadFile(r.Base + ReceiptEnding)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := d.verify(r, raw); err != nil {
		w.t.Errorf("the receipt does not verify: %v", err)
	}
	for _, rec := range r.Records {
		w.checkRecord(rec)
	}
	for _, ending := range []string{PendingEnding, PromiseEnding} {
		if folder.Exists(r.Base + ending) {
			w.t.Errorf("%s was left behind", r.Base+ending)
		}
	}
}

func (w *world) checkRecord(rec Record) {
	w.t.Helper()
	raw, err := os.ReadFile(rec.Base + ReceiptEnding)
	if err != nil {
		w.t.Fatal(err)
	}
	in := verify.Input{Receipt: raw, Policy: w.policy, Document: rec.Body, Now: now()}
	if rec.Item != nil {
		in.Document = rec.Item.Document
		in.Opening, _ = os.ReadFile(rec.Base + OpeningEnding)
	}
	if _, err := verify.Verify(in); err != nil {
		w.t.Errorf("%s does not verify: %v", rec.Base, err)
	}
}

func requestsOf(dir string) map[string]*Request {
	return map[string]*Request{"public": protocol(dir), "sealed": sealedSAP(dir), "batch": consents(dir)}
}

func TestFile(t *testing.T) {
	for name := range requestsOf("") {
		t.Run(name, func(t *testing.T) {
			w, dir := newWorld(t), t.TempDir()
			r := requestsOf(dir)[name]
			d := w.desk(t.TempDir())
			first, err := d.File(context.Background(), r, client.Final)
			if err != nil {
				t.Fatal(err)
			}
			if first.Already || first.Index != 2 {
				t.Errorf("filed as %+v", first)
			}
			w.checkDone(r, 3)
			calls := len(w.log.Calls())
			again, err := d.File(context.Background(), requestsOf(dir)[name], client.Final)
			if err != nil || !again.Already || again.Index != 2 {
				t.Errorf("again it is %+v, %v", again, err)
			}
			if len(w.log.Calls()) != calls {
				t.Error("the log was asked for what is here")
			}
			w.checkDone(r, 3)
		})
	}
}

// A write that fails leaves a state from which the same request goes on.
func TestAWriteFails(t *testing.T) {
	for name := range requestsOf("") {
		for _, ending := range []string{ReceiptEnding, "record" + ReceiptEnding} {
			t.Run(name+ending, func(t *testing.T) {
				w, dir := newWorld(t), t.TempDir()
				r := requestsOf(dir)[name]
				var at string
				switch {
				case ending == ReceiptEnding:
					at = r.Base + ReceiptEnding
				case r.Records != nil:
					at = r.Records[1].Base + ReceiptEnding
				default:
					return
				}
				d := w.desk(t.TempDir())
				w.log.Script(clienttest.CutAfter)
				if _, err := d.File(context.Background(), r, client.Final); !client.Unreachable(err) {
					t.Fatalf("expected an unknown outcome, got %v", err)
				}
				// A folder in the place of the file makes the write fail.
				if err := os.MkdirAll(filepath.Join(at, "x"), 0o700); err != nil {
					t.Fatal(err)
				}
				if _, err := d.File(context.Background(), requestsOf(dir)[name], client.Final); err == nil {
					t.Fatal("the write did not fail")
				}
				if err := os.RemoveAll(at); err != nil {
					t.Fatal(err)
				}
				if _, err := d.File(context.Background(), requestsOf(dir)[name], client.Final); err != nil {
					t.Fatal(err)
				}
				w.checkDone(r, 3)
			})
		}
	}
}

// What cannot be made durable is not sent.
func TestNothingIsSentThatIsNotOnDisk(t *testing.T) {
	for name := range requestsOf("") {
		t.Run(name, func(t *testing.T) {
			w, dir := newWorld(t), filepath.Join(t.TempDir(), "later")
			d := w.desk(t.TempDir())
			if _, err := d.File(context.Background(), requestsOf(dir)[name], client.Final); err == nil || w.log.Size() != 2 {
				t.Fatalf("the log has %d entries, %v", w.log.Size(), err)
			}
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if _, err := d.File(context.Background(), requestsOf(dir)[name], client.Final); err != nil {
				t.Fatal(err)
			}
			w.checkDone(requestsOf(dir)[name], 3)
		})
	}
}

// The process dies behind a step, which was persisted. The states are made from
// an undisturbed run by taking away what later steps made.
func TestDeathBehindAStep(t *testing.T) {
	for name := range requestsOf("") {
		for _, step := range []string{"opening", "pending", "submitted", "records", "receipt"} {
			t.Run(name+" "+step, func(t *testing.T) {
				w, dir := newWorld(t), t.TempDir()
				r := requestsOf(dir)[name]
				d := w.desk(t.TempDir())
				// A run that ends with the signed bytes on disk, the statement in
				// the log or not.
				fault := clienttest.CutAfter
				if step == "opening" || step == "pending" {
					fault = clienttest.CutBefore
				}
				w.log.Script(fault)
				if _, err := d.File(context.Background(), r, client.Final); !client.Unreachable(err) {
					t.Fatalf("expected an unknown outcome, got %v", err)
				}
				pending, err := os.ReadFile(r.Base + PendingEnding)
				if err != nil {
					t.Fatal(err)
				}
				switch step {
				case "opening":
					os.Remove(r.Base + PendingEnding)
				case "records", "receipt":
					if _, err := d.File(context.Background(), r, client.Final); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(r.Base+PendingEnding, pending, 0o600); err != nil {
						t.Fatal(err)
					}
					if step == "records" {
						os.Remove(r.Base + ReceiptEnding)
					}
				}
				if _, err := d.File(context.Background(), requestsOf(dir)[name], client.Final); err != nil {
					t.Fatal(err)
				}
				w.checkDone(r, 3)
				if name == "public" && w.log.Documents() != 1 {
					t.Error("the log has not got the document")
				}
			})
		}
	}
}

// Another process with this key, on another machine, is quicker.
func TestTwoDesksOfOneKey(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	const each = 8
	for n := range 2 {
		d, dir := w.desk(t.TempDir()), t.TempDir()
		wg.Go(func() {
			for i := range each {
				r := protocol(dir)
				r.Base, r.Document = fmt.Sprintf("%s-%d", r.Base, i), fmt.Appendf(nil, "%d of %d", i, n)
				if _, err := d.File(context.Background(), r, client.Final); err != nil {
					t.Errorf("desk %d, document %d: %v", n, i, err)
				}
			}
		})
	}
	wg.Wait()
	if got := w.log.Size(); got != 2+2*each {
		t.Errorf("the log has %d entries, expected %d", got, 2+2*each)
	}
}

// The same file from two processes at once is one entry.
func TestOneFileTwice(t *testing.T) {
	w, dir, work := newWorld(t), t.TempDir(), t.TempDir()
	var wg sync.WaitGroup
	for range 4 {
		d := w.desk(work)
		wg.Go(func() {
			if _, err := d.File(context.Background(), sealedSAP(dir), client.Final); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.checkDone(sealedSAP(dir), 3)
}

// A request that is not the one that is under way, or done, takes nobody's place.
func TestOtherRequests(t *testing.T) {
	changes := map[string]func(r *Request){
		"content": func(r *Request) { r.Document = []byte("other") },
		"trial":   func(r *Request) { r.Statement.Trial = "NCT2" },
		"kind":    func(r *Request) { r.Statement.Kind = statement.KindDocument; r.Statement.Attributes = tmf() },
		"version": func(r *Request) { r.Statement.Version = "2" },
		"date":    func(r *Request) { r.Statement.Dates = nil },
		"media":   func(r *Request) { r.Statement.MediaType = "text/plain" },
		"amends":  func(r *Request) { r.Statement.Amends = statement.Identity{1} },
		"replace": func(r *Request) { r.Statement.Supersedes = statement.Identity{1} },
		"meaning": func(r *Request) { r.Meaning = statement.Approval },
		"sealed":  func(r *Request) { r.Sealed = true },
		"detail": func(r *Request) {
			r.Statement.Attributes = []statement.Member{statement.TextMember("reason", "x")}
		},
	}
	for _, done := range []bool{false, true} {
		w, dir := newWorld(t), t.TempDir()
		d := w.desk(t.TempDir())
		if !done {
			w.log.Script(clienttest.CutBefore)
		}
		if _, err := d.File(context.Background(), protocol(dir), client.Final); done != (err == nil) {
			t.Fatal(err)
		}
		size := w.log.Size()
		for name, change := range changes {
			t.Run(fmt.Sprintf("%s, done %t", name, done), func(t *testing.T) {
				r := protocol(dir)
				change(r)
				defer os.Remove(r.Base + OpeningEnding)
				_, err := d.File(context.Background(), r, client.Final)
				var taken *TakenError
				if !errors.As(err, &taken) || w.log.Size() != size {
					t.Errorf("expected a TakenError and nothing logged, got %v", err)
				}
			})
		}
	}
}

func tmf() []statement.Member {
	return []statement.Member{statement.TextMember("tmf", "01.01.01"), statement.TextMember("level", "trial")}
}

func TestOtherBatches(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	d := w.desk(t.TempDir())
	if _, err := d.File(context.Background(), consents(dir), client.Final); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(r *Request){
		"fewer":  func(r *Request) { r.Records = r.Records[:2] },
		"order":  func(r *Request) { r.Records[0], r.Records[1] = r.Records[1], r.Records[0] },
		"detail": func(r *Request) { r.Records[0].Item.SealedAttributes[0] = statement.TextMember("subject", "0009") },
		"label":  func(r *Request) { r.Statement.Attributes[0] = statement.TextMember("label", "week-11") },
		"content": func(r *Request) {
			r.Records[2].Item.Document = []byte("other")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := consents(dir)
			change(r)
			var taken *TakenError
			if _, err := d.File(context.Background(), r, client.Final); !errors.As(err, &taken) || w.log.Size() != 3 {
				t.Errorf("expected a TakenError and nothing logged, got %v", err)
			}
		})
	}
}

// What the log refuses leaves nothing behind; what only its door refuses does,
// if an earlier attempt may have gone through.
func TestRejected(t *testing.T) {
	for _, tt := range []struct {
		name    string
		problem client.Problem
		found   bool
		want    bool
	}{
		{"first answer to the first attempt", client.Problem{Status: 403}, false, true},
		{"a page, the first time", client.Problem{Status: 404}, false, true},
		{"busy", client.Problem{Status: 503, Type: "t"}, false, false},
		{"a page behind a cut connection", client.Problem{Status: 403, Uncertain: true}, false, false},
		{"a page to what was found", client.Problem{Status: 400}, true, false},
		{"the log, to what was found", client.Problem{Status: 400, Type: "t"}, true, true},
		{"the chain, to what was found", client.Problem{Status: 409, Type: "t"}, true, true},
		{"a wrong token, to what was found", client.Problem{Status: 401, Type: "t"}, true, false},
		{"the token is not for this", client.Problem{Status: 403, Type: "t"}, true, false},
		{"the key may not", client.Problem{Status: 403, Type: "t", Field: "envelope.payload.predicate.kind"}, true, true},
		{"too large", client.Problem{Status: 413, Type: "t"}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &work{found: tt.found, statement: &statement.Statement{Kind: statement.KindProtocol}}
			if got := rejected(&tt.problem, w); got != tt.want {
				t.Errorf("rejected: %t", got)
			}
		})
	}
	w := &work{found: true, statement: &statement.Statement{Kind: statement.KindKey}}
	if rejected(&client.Problem{Status: 403, Type: "t", Field: "envelope.payload.predicate.organisation"}, w) {
		t.Error("the door's own answer to a first enrolment counts as the log's")
	}
}

func TestRejectionLeavesNothing(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	d := w.desk(t.TempDir())
	r := protocol(dir)
	r.Statement.Kind, r.Statement.Attributes = statement.KindConsentForm, []statement.Member{
		statement.TextMember("form", "main"), statement.TextMember("language", "de"),
	}
	d.Key = newKey(t, "not enrolled")
	if _, err := d.File(context.Background(), r, client.Final); err == nil || w.log.Size() != 2 {
		t.Fatalf("a key that is not enrolled: %v", err)
	}
	d.Key = w.key
	r.Statement.Kind, r.Statement.Attributes = statement.KindRule, []statement.Member{statement.TextMember("rule", "x")}
	r.Statement.Trial = ""
	var rejected *RejectedError
	if _, err := d.File(context.Background(), r, client.Final); !errors.As(err, &rejected) || w.log.Size() != 2 {
		t.Fatalf("expected a RejectedError, got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPathsAreThoseOfRFC6962(t *testing.T) {
	var records [][]byte
	for n := 1; n <= 67; n++ {
		records = append(records, fmt.Append(nil, n))
		p := newPaths(records)
		for i := range records {
			want, err := statement.BatchPath(records, i)
			if err != nil {
				t.Fatal(err)
			}
			got := p.of(i)
			if len(got) != len(want) {
				t.Fatalf("%d of %d: %d hashes, expected %d", i, n, len(got), len(want))
			}
			for j := range got {
				if !bytes.Equal(got[j][:], want[j]) {
					t.Fatalf("%d of %d: hash %d differs", i, n, j)
				}
			}
		}
	}
}

func TestRefreshKeepsTheRecord(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	d := w.desk(t.TempDir())
	r := consents(dir)
	if _, err := d.File(context.Background(), r, client.Final); err != nil {
		t.Fatal(err)
	}
	if _, err := d.File(context.Background(), protocol(dir), client.Final); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(r.Records[1].Base + ReceiptEnding)
	if err != nil {
		t.Fatal(err)
	}
	ack, fresh, err := Refresh(context.Background(), d.Client, old)
	if err != nil || ack.Index != 2 {
		t.Fatalf("refreshed to %+v, %v", ack, err)
	}
	parsed, err := receipt.Parse(fresh)
	if err != nil || parsed.Proof.Note.Checkpoint().Size != 4 || parsed.Record == nil || parsed.Record.Index != 1 {
		t.Fatalf("the new receipt is not of the record under the newest checkpoint: %v", err)
	}
	if err := os.WriteFile(r.Records[1].Base+ReceiptEnding, fresh, 0o600); err != nil {
		t.Fatal(err)
	}
	w.checkRecord(r.Records[1])
}

// A request that is repeated because its document was not taken keeps the receipt
// that is there: a new one proves a later time only.
func TestTheEarlierTimeIsKept(t *testing.T) {
	for name := range requestsOf("") {
		t.Run(name, func(t *testing.T) {
			w, dir := newWorld(t), t.TempDir()
			r := requestsOf(dir)[name]
			d := w.desk(t.TempDir())
			w.log.Script(clienttest.CutAfter)
			if _, err := d.File(context.Background(), r, client.Final); !client.Unreachable(err) {
				t.Fatalf("expected an unknown outcome, got %v", err)
			}
			pending, err := os.ReadFile(r.Base + PendingEnding)
			if err != nil {
				t.Fatal(err)
			}
			first, err := d.File(context.Background(), requestsOf(dir)[name], client.Final)
			if err != nil {
				t.Fatal(err)
			}
			paths := []string{r.Base + ReceiptEnding}
			for _, rec := range r.Records {
				paths = append(paths, rec.Base+ReceiptEnding)
			}
			before := readAll(t, paths)
			// Time passes; and the last step of the call above is undone.
			if err := w.log.Say(org, trial, w.key); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(r.Base+PendingEnding, pending, 0o600); err != nil {
				t.Fatal(err)
			}
			again, err := d.File(context.Background(), requestsOf(dir)[name], client.Final)
			if err != nil {
				t.Fatal(err)
			}
			if !again.Verdict.NotAfter.Time.Equal(first.Verdict.NotAfter.Time) {
				t.Errorf("logged not after %s, and %s before", again.Verdict.NotAfter.Time, first.Verdict.NotAfter.Time)
			}
			for i, raw := range readAll(t, paths) {
				if !bytes.Equal(raw, before[i]) {
					t.Errorf("%s was overwritten", filepath.Base(paths[i]))
				}
			}
			w.checkDone(r, 4)
		})
	}
}

// A receipt is kept for nothing else than what it is of.
func TestOtherReceiptsAreNotKept(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	r := consents(dir)
	d := w.desk(t.TempDir())
	w.log.Script(clienttest.CutAfter)
	if _, err := d.File(context.Background(), r, client.Final); !client.Unreachable(err) {
		t.Fatalf("expected an unknown outcome, got %v", err)
	}
	pending, err := os.ReadFile(r.Base + PendingEnding)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.File(context.Background(), consents(dir), client.Final); err != nil {
		t.Fatal(err)
	}
	one, other := r.Records[0].Base+ReceiptEnding, r.Records[1].Base+ReceiptEnding
	if err := os.Rename(other, one); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.Base+ReceiptEnding, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.log.Say(org, trial, w.key); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.Base+PendingEnding, pending, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.File(context.Background(), consents(dir), client.Final); err != nil {
		t.Fatal(err)
	}
	w.checkDone(r, 4)
}

func readAll(t *testing.T, paths []string) [][]byte {
	t.Helper()
	list := make([][]byte, len(paths))
	for i, path := range paths {
		var err error
		if list[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return list
}
