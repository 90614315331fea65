package verify_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// TestParsePolicy refuses what is not a policy with its sidecar.
func TestParsePolicy(t *testing.T) {
	s := tell(t)
	text, sidecar := s.PolicyText(), s.Sidecar().Encode()
	p, err := verify.ParsePolicy(text, sidecar)
	if err != nil {
		t.Fatal(err)
	}
	if trust := p.Trust(); trust.Log != testlog.Log || len(trust.RequiredLogKeys) != 4 || trust.RunBy["ethics"] != "Ethics Committee E" {
		t.Errorf("trust %+v", trust)
	}
	if len(p.Notes().Witnesses()) != 6 || len(p.Fingerprint()) != 64 {
		t.Errorf("%d witnesses, fingerprint %q", len(p.Notes().Witnesses()), p.Fingerprint())
	}
	for _, c := range []struct{ old, by, words string }{
		{`"trialog-trust@v1"`, `"trialog-trust@v3"`, "format"},
		{`"log": "log.example`, `"log": "LOG.example`, "log: expected a schema-less URL"},
		{`"logOperator": "Log Operator L"`, `"logOperator": 1`, "logOperator: expected a string"},
		{`"acceptReceived": false`, `"acceptReceived": "no"`, "acceptReceived: expected a boolean"},
		{`"acceptReceived": false`, `"accept": false`, "acceptReceived: missing"},
		{`"acceptReceived": false`, `"gateways": ["7"], "acceptReceived": false`, "gateways[0]"},
		{`"acceptReceived": false`, `"gateways": "7", "acceptReceived": false`, "gateways: expected an array"},
		{`"acceptReceived": false`, `"gateways": [7], "acceptReceived": false`, "gateways[0]: expected a string"},
		{`"auditors": [`, `"auditors": ["AAAA",`, "auditors[0]"},
		{`"requiredLogKeys": [`, `"requiredLogKeys": ["log.example.org/trials/2026+1+AAAA",`, "requiredLogKeys[0]"},
		{`"requiredLogKeys"`, `"requiredlogKeys"`, "requiredLogKeys: missing"},
		{`"operators": {`, `"operators": {"none": "N",`, "operators.none"},
		{`"University U"`, `""`, "operators.university"},
	} {
		changed := bytes.Replace(sidecar, []byte(c.old), []byte(c.by), 1)
		if bytes.Equal(changed, sidecar) {
			t.Fatalf("nothing to change: %s", c.old)
		}
		if _, err := verify.ParsePolicy(text, changed); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: error %v, want %q", c.by, err, c.words)
		}
	}
	if _, err := verify.ParsePolicy(bytes.Repeat([]byte("\n"), 1<<20+1), sidecar); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a large policy: %v", err)
	}
	if _, err := verify.ParsePolicy([]byte("quorum none\n"), nil); err == nil || !strings.Contains(err.Error(), "sidecar") {
		t.Errorf("no sidecar: %v", err)
	}
}

// TestKeyring writes and reads a keyring, and refuses what is none.
func TestKeyring(t *testing.T) {
	s := tell(t)
	want := &verify.Keyring{Log: testlog.Log, Origin: s.First.Origin, Size: 7, Keys: []verify.KeyringKey{
		{Key: s.Admin.Key.ID(), Organisation: "sponsor-a", Origin: s.First.Origin},
		{Key: s.Site.Key.ID(), Organisation: "site-b", Origin: s.First.Origin, Enrolled: 2, Revoked: true, SuspectOrigin: s.Second.Origin, SuspectFrom: 9},
	}}
	auditors := []*statement.PublicKey{s.Admin.Key.Public(), s.Auditor.Public()}
	got, err := verify.ParseKeyring(s.Keyring(want), auditors)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("read back %+v, %v; want %+v", got, err, want)
	}
	if _, err := verify.ParseKeyring(s.Keyring(want), auditors[:1]); err == nil || !strings.Contains(err.Error(), "auditor") {
		t.Errorf("signed by another: %v", err)
	}
	if _, err := verify.ParseKeyring(s.Keyring(want), nil); err == nil {
		t.Error("believed though the policy names no auditor")
	}
	good := string(want.Encode())
	for _, c := range []struct{ old, by, words string }{
		{"keyring@v1", "keyring@v2", "format"},
		{`"size":7`, `"size":-7`, "size"},
		{`"keys":[`, `"keys":[1,`, "keys[0]: expected an object"},
		{`"key":"`, `"key":"x`, "keys[0].key"},
		{`"enrolled":2`, `"enrolled":2,"revoked":true`, "keys[1].revoked: unknown member"},
		{`"suspectFrom":9`, `"from":9`, "keys[1].suspectFrom: missing"},
		{`"suspectOrigin":"` + s.Second.Origin + `",`, ``, "keys[1].suspectFrom: unknown member"},
		{s.Site.Key.ID().String(), s.Admin.Key.ID().String(), "keys[1].key: is there twice"},
	} {
		changed := strings.Replace(good, c.old, c.by, 1)
		if changed == good {
			t.Fatalf("nothing to change: %s", c.old)
		}
		raw, err := statement.SignDSSE(verify.KeyringPayloadType, []byte(changed), s.Auditor)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify.ParseKeyring(raw, auditors); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: error %v, want %q", c.by, err, c.words)
		}
	}
}

// TestRemembering: a policy with a memory gives the same verdicts, also for what
// it has not seen and for what it has refused before, and its memory is bounded.
func TestRemembering(t *testing.T) {
	s := tell(t)
	in := honest(t, s, s.Protocol, s.Pdf)
	in.Policy = in.Policy.Remembering()
	bad := bytes.Replace(in.Receipt, []byte(`index `), []byte(`index 1`), 1)
	for range 3 {
		if _, err := verify.Verify(in); err != nil {
			t.Error(err)
		}
		forged := in
		forged.Receipt = bad
		if _, err := verify.Verify(forged); err == nil {
			t.Error("a forged receipt verifies")
		}
	}
	note := s.Final.Bytes()
	good, err := in.Policy.CheckNote(note)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := in.Policy.CheckNote(note); err != nil || again != good {
		t.Errorf("the note was judged again: %v", err)
	}
	flipped := bytes.Clone(note)
	flipped[len(flipped)-20] ^= 1
	if _, err := in.Policy.CheckNote(flipped); err == nil {
		t.Error("a note with an altered signature is taken for the one that was judged")
	}
}
