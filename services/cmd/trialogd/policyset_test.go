package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/trustbundle"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/sequencer"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// draft is a policy on its way to be set.
type draft struct {
	text  string
	trust map[string]any
}

// drafted reads the policy of a log.
func drafted(t *testing.T, l layout) *draft {
	t.Helper()
	text, err := os.ReadFile(l.policy())
	must(t, err)
	raw, err := os.ReadFile(l.sidecar())
	must(t, err)
	d := &draft{text: string(text)}
	must(t, json.Unmarshal(raw, &d.trust))
	return d
}

// write writes both halves below dir and returns their paths.
func (d *draft) write(t *testing.T, dir string) (text, sidecar string) {
	t.Helper()
	raw, err := json.Marshal(d.trust)
	must(t, err)
	text = filepath.Join(dir, "new.policy")
	must(t, os.WriteFile(text, []byte(d.text), 0o600))
	must(t, os.WriteFile(text+".json", raw, 0o600))
	return text, text + ".json"
}

// set puts a draft into force.
func (d *draft) set(t *testing.T, l layout) error {
	t.Helper()
	text, sidecar := d.write(t, t.TempDir())
	_, err := l.setPolicy(t.Context(), text, sidecar)
	return err
}

// key is the verifier key on a witness line.
func (d *draft) key(t *testing.T, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^witness ` + name + ` (\S+)`).FindStringSubmatch(d.text)
	if m == nil {
		t.Fatalf("no witness %s", name)
	}
	return m[1]
}

// retire says that a witness key counts up to a size of the first shard only.
func (d *draft) retire(vkey string, size uint64) {
	d.trust["retired"] = []map[string]any{{
		"key": vkey, "until": []map[string]any{{"origin": "trialog.localhost/demo/1", "size": size}},
	}}
}

func spki(key *statement.PublicKey) string { return base64.StdEncoding.EncodeToString(key.DER()) }

func TestSetPolicy(t *testing.T) {
	l, _ := newData(t)
	before, err := readPolicy(l)
	must(t, err)
	other, err := statement.GenerateKey(rand.Reader)
	must(t, err)
	stranger, err := checkpoint.GenerateKey(rand.Reader, "stranger.example", checkpoint.AlgEd25519Cosignature)
	must(t, err)
	for _, tt := range []struct {
		name, words string
		change      func(d *draft)
	}{
		{"no policy", "policy", func(d *draft) { d.text = "" }},
		{"a log key less", "other log lines", func(d *draft) {
			d.text = regexp.MustCompile(`(?m)^log \S+\+[0-9a-f]{8}\+A.*\n`).ReplaceAllString(d.text, "")
		}},
		{"a key that is not required any more", "other keys are required", func(d *draft) {
			d.trust["requiredLogKeys"] = d.trust["requiredLogKeys"].([]any)[1:]
		}},
		{"three of three", "none any more", func(d *draft) { d.text = strings.Replace(d.text, "operators 2 ", "operators 3 ", 1) }},
		{"a witness key less", "none any more", func(d *draft) {
			d.text = regexp.MustCompile(`(?m)^witness witness-1-ed25519 .*\n`).ReplaceAllString(d.text, "")
			d.text = strings.Replace(d.text, "any witness-1-ed25519 witness-1-mldsa44", "any witness-1-mldsa44", 1)
		}},
		{"a witness's key in another's name", "none any more", func(d *draft) {
			d.text = strings.Replace(d.text, d.key(t, "witness-1-ed25519"), stranger.Verifier().String(), 1)
		}},
		{"other promises", "pendingKeys", func(d *draft) { d.trust["pendingKeys"] = []string{spki(other.Public())} }},
		{"another gateway", "gateway", func(d *draft) { d.trust["gateways"] = []string{other.ID().String()} }},
		{"nothing received", "not accepted", func(d *draft) { d.trust["acceptReceived"] = false }},
		{"a shard that there is not", "does not have", func(d *draft) {
			k, err := checkpoint.GenerateKey(rand.Reader, "trialog.localhost/demo/2", checkpoint.AlgEd25519)
			must(t, err)
			d.text += "log " + k.Verifier().String() + "\n"
			d.trust["requiredLogKeys"] = append(d.trust["requiredLogKeys"].([]any), k.Verifier().String())
		}},
		{"an end that was none", "has not ended like that", func(d *draft) {
			d.trust["finals"] = []map[string]any{{"origin": "trialog.localhost/demo/1", "size": 0, "root": base64.StdEncoding.EncodeToString(make([]byte, 32))}}
		}},
	} {
		d := drafted(t, l)
		tt.change(d)
		if err := d.set(t, l); err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v, expected %q", tt.name, err, tt.words)
		}
		if now, err := readPolicy(l); err != nil || now.Fingerprint() != before.Fingerprint() {
			t.Fatalf("%s: the policy in force has changed: %v", tt.name, err)
		}
	}
	d := drafted(t, l)
	d.trust["auditors"] = []string{spki(other.Public())}
	must(t, d.set(t, l))
	if now, err := readPolicy(l); err != nil || len(now.Trust().Auditors) != 1 {
		t.Errorf("the new policy is not in force: %v", err)
	}
	if _, err := os.Stat(l.policyJournal()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the journal is left: %v", err)
	}
	if _, err := (layout{t.TempDir()}).setPolicy(t.Context(), "x", ""); err == nil {
		t.Error("a policy is set where there is no log")
	}
}

// TestSetPolicyCutOff: whichever of its writes were made when it was cut off, the
// command repeated ends as it would have, and from the journal on so does another
// one.
func TestSetPolicyCutOff(t *testing.T) {
	for made := range 4 {
		l, _ := newData(t)
		d := drafted(t, l)
		other, err := statement.GenerateKey(rand.Reader)
		must(t, err)
		d.trust["auditors"] = []string{spki(other.Public())}
		// The halves of two policies fit together as little as they can.
		d.text = strings.NewReplacer("group witness-1 ", "group committee ", "2 witness-1 ", "2 committee ").Replace(d.text)
		operators := d.trust["operators"].(map[string]any)
		operators["committee"] = operators["witness-1"]
		delete(operators, "witness-1")
		text, sidecar := d.write(t, t.TempDir())
		want := halves{}
		want.Policy, err = os.ReadFile(text)
		must(t, err)
		want.Sidecar, err = os.ReadFile(sidecar)
		must(t, err)
		journal, err := json.Marshal(want)
		must(t, err)
		for n, write := range []func() error{
			func() error { return replace(l.policyJournal(), journal, 0o600) },
			func() error { return replace(l.policy(), want.Policy, 0o644) },
			func() error { return replace(l.sidecar(), want.Sidecar, 0o644) },
		} {
			if n < made {
				must(t, write())
			}
		}
		if _, err := openListing(l, time.Now); (err == nil) != (made == 0) {
			t.Errorf("cut off behind %d writes, the log starts: %v", made, err)
		}
		if _, err := l.setPolicy(t.Context(), text, sidecar); err != nil {
			t.Errorf("cut off behind %d writes, repeated: %v", made, err)
		}
		got, err := os.ReadFile(l.sidecar())
		must(t, err)
		now, err := readPolicy(l)
		if err != nil || !bytes.Equal(now.Notes().Bytes(), want.Policy) || !bytes.Equal(got, want.Sidecar) {
			t.Errorf("cut off behind %d writes, another policy is in force: %v", made, err)
		}
		if _, err := os.Stat(l.policyJournal()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("cut off behind %d writes, the journal is left: %v", made, err)
		}
	}
}

// said are the identities of the policies that the log's operator has said.
func said(ctx context.Context, t *testing.T, r *running) []statement.Digest {
	t.Helper()
	seq := r.active().seq
	head, err := seq.Ledger().Chain("", r.gatewayKey.ID())
	must(t, err)
	var list []statement.Digest
	for id := head.Identity; !id.IsZero(); {
		raw, _, err := seq.Find(ctx, id)
		if errors.Is(err, sequencer.ErrNotFound) {
			return nil // not published yet
		}
		must(t, err)
		s, err := saidBy(raw)
		must(t, err)
		if s.Kind == statement.KindPolicy {
			list = append(list, s.Digest)
		}
		id = s.Chain.Previous
	}
	return list
}

// TestPolicyIsLogged: each policy that was in force is in the log once, however
// often the log is started, and its document can be fetched.
func TestPolicyIsLogged(t *testing.T) {
	l, s := newData(t)
	startWitnesses(t, l, s)
	r := start(t, l, s)
	first := r.policy.Fingerprint()
	await(t, "the policy is logged", func() bool { return len(said(t.Context(), t, r)) == 1 })
	await(t, "the trust bundle is offered", func() bool { b, err := l.lastBundle(); return err == nil && b != nil })
	if got := said(t.Context(), t, r); got[0].String() != first {
		t.Errorf("logged is %s, in force %s", got[0], first)
	}
	checkPolicyDocument(t, l, first)
	checkPolicyReceipt(t, r)
	size := r.active().seq.Checkpoint().Checkpoint().Size
	if size != 2 {
		t.Errorf("a new log has %d entries, expected the enrolment and the policy", size)
	}
	r.stop()

	r = start(t, l, s)
	// A second round of the same says nothing.
	must(t, r.logPolicy(t.Context()))
	must(t, r.logPolicy(t.Context()))
	if got := said(t.Context(), t, r); len(got) != 1 {
		t.Errorf("after a restart the policies %v are logged", got)
	}
	r.stop()

	d := drafted(t, l)
	d.retire(d.key(t, "witness-3-ed25519"), 1)
	if err := d.set(t, l); err == nil || !strings.Contains(err.Error(), "up to 2 or more") {
		t.Errorf("a key is retired below the log's size: %v", err)
	}
	d.retire(d.key(t, "witness-3-ed25519"), 2)
	must(t, d.set(t, l))
	r = start(t, l, s)
	second := r.policy.Fingerprint()
	await(t, "the new policy is logged", func() bool { return len(said(t.Context(), t, r)) == 2 })
	if got := said(t.Context(), t, r); got[0].String() != second || got[1].String() != first {
		t.Errorf("logged are %v, expected %s behind %s", got, second, first)
	}
	checkPolicyDocument(t, l, second)
	r.stop()
}

// TestPolicyDocumentFirst: a policy whose document cannot be kept is not said, and
// holds nobody up; when it can be, it is said.
func TestPolicyDocumentFirst(t *testing.T) {
	l, s := newData(t)
	startWitnesses(t, l, s)
	must(t, os.Remove(l.documents()))
	must(t, os.WriteFile(l.documents(), nil, 0o600))
	r := start(t, l, s)
	if err := r.logPolicy(t.Context()); err == nil {
		t.Error("a policy is said whose document is nowhere")
	}
	if got := said(t.Context(), t, r); len(got) != 0 {
		t.Errorf("logged are %v", got)
	}
	must(t, os.Remove(l.documents()))
	await(t, "the policy is logged", func() bool { return len(said(t.Context(), t, r)) == 1 })
	checkPolicyDocument(t, l, r.policy.Fingerprint())
}

// checkPolicyReceipt verifies the newest statement of the operator as anybody would.
func checkPolicyReceipt(t *testing.T, r *running) {
	t.Helper()
	seq := r.active().seq
	head, err := seq.Ledger().Chain("", r.gatewayKey.ID())
	must(t, err)
	raw, _, err := seq.Find(t.Context(), head.Identity)
	must(t, err)
	text, err := os.ReadFile(r.list.layout.policy())
	must(t, err)
	sidecar, err := os.ReadFile(r.list.layout.sidecar())
	must(t, err)
	v, err := verify.Verify(verify.Input{
		Policy: r.policy, Receipt: raw, Document: policyDocument(text, sidecar), Now: time.Now().Add(time.Minute),
	})
	if err != nil || v.Statement.Kind != statement.KindPolicy || !v.Document.Checked {
		t.Errorf("the operator's statement of the policy: %v", err)
	}
}

func checkPolicyDocument(t *testing.T, l layout, fingerprint string) {
	t.Helper()
	store, err := blob.OpenDir(l.documents())
	must(t, err)
	doc, err := store.Get(t.Context(), "documents/"+fingerprint[:2]+"/"+fingerprint)
	if err != nil || fmt.Sprintf("%x", sha256.Sum256(doc)) != fingerprint {
		t.Errorf("the document of policy %s: %v", fingerprint, err)
	}
	must(t, store.Close())
}

func TestIssueTrust(t *testing.T) {
	l, _ := newData(t)
	now := time.Now()
	b, err := l.issueTrust(now, time.Hour, "")
	must(t, err)
	policy, err := readPolicy(l)
	must(t, err)
	if b.Content().Version != 1 || b.Policy().Fingerprint() != policy.Fingerprint() || b.LogList() == nil || b.Keyring() != nil {
		t.Errorf("the first bundle is %+v", b.Content())
	}
	// An auditor is named, and hands a keyring in.
	auditor, err := statement.GenerateKey(rand.Reader)
	must(t, err)
	d := drafted(t, l)
	d.trust["auditors"] = []string{spki(auditor.Public())}
	must(t, d.set(t, l))
	ring := &verify.Keyring{Log: "trialog.localhost/demo", Origin: "trialog.localhost/demo/1", Size: 2}
	raw, err := statement.SignDSSE(verify.KeyringPayloadType, ring.Encode(), auditor)
	must(t, err)
	file := filepath.Join(t.TempDir(), "keyring")
	must(t, os.WriteFile(file, raw, 0o600))
	second, err := l.issueTrust(now.Add(time.Minute), time.Hour, file)
	must(t, err)
	third, err := l.issueTrust(now.Add(2*time.Minute), time.Hour, "")
	must(t, err)
	if !bytes.Equal(third.Keyring(), raw) {
		t.Error("the keyring was not taken over")
	}
	if got, err := trustbundle.Update(b, now.Add(3*time.Minute), second, third); err != nil || got != third {
		t.Errorf("the versions do not follow: %v", err)
	}
	if _, err := l.issueTrust(now.Add(-time.Hour), time.Hour, ""); err == nil {
		t.Error("a bundle is issued before the last one")
	}
	must(t, os.Remove(l.key(trustKey)))
	if _, err := l.issueTrust(now.Add(time.Hour), time.Hour, ""); err == nil || !strings.Contains(err.Error(), "signatures") {
		t.Errorf("with another trust key: %v", err)
	}
	if newest, err := l.newestBundle(); err != nil || newest != 3 {
		t.Errorf("the newest is %d: %v", newest, err)
	}
}

func TestServeTrust(t *testing.T) {
	l, _ := newData(t)
	list, err := openListing(l, time.Now)
	must(t, err)
	get := func(path string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		newMux(nil, nil, nil, list).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		return rec
	}
	if rec := get("/v1/trust"); rec.Code != 503 || rec.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("before there is one: %d", rec.Code)
	}
	first, err := l.issueTrust(time.Now(), time.Hour, "")
	must(t, err)
	second, err := l.issueTrust(time.Now(), time.Hour, "")
	must(t, err)
	for path, want := range map[string]*trustbundle.Bundle{"/v1/trust": second, "/v1/trust/1": first, "/v1/trust/2": second} {
		rec := get(path)
		b, err := trustbundle.Parse(rec.Body.Bytes())
		if rec.Code != 200 || err != nil || b.Fingerprint() != want.Fingerprint() {
			t.Errorf("%s: %d, %v", path, rec.Code, err)
		}
	}
	if rec := get("/v1/trust/3"); rec.Code != 404 {
		t.Errorf("a version that there is not: %d", rec.Code)
	}
	for _, path := range []string{"/v1/trusts", "/v1/trust/", "/v1/trust/0", "/v1/trust/01", "/v1/trust/+1", "/v1/trust/1/2", "/v1/trust/%31"} {
		if isTrust(path) {
			t.Errorf("%s is taken for a trust bundle", path)
		}
	}
}
