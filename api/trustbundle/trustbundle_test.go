package trustbundle_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/trustbundle"
	"github.com/trialog/trialog/api/verify"
)

func TestBundle(t *testing.T) {
	w := newBelieved(t)
	c := w.content(t)
	raw := envelope(t, c, w.signers[0], w.signers[2])
	b, err := trustbundle.Parse(raw)
	must(t, err)
	if got := b.Policy().Fingerprint(); got != w.policy(t).Fingerprint() {
		t.Errorf("the policy has the fingerprint %s", got)
	}
	if !bytes.Equal(b.Keyring(), c.KeyringRaw) || len(b.KeyringContent().Keys) != 2 || b.LogList().Version != 3 {
		t.Error("the keyring or the log list is another one")
	}
	if ids := b.Signers(); len(ids) != 2 || ids[0] != w.signers[0].ID() || ids[1] != w.signers[2].ID() {
		t.Errorf("signed by %v", ids)
	}
	again := b.Content()
	payload, err := again.Encode()
	must(t, err)
	if !bytes.Equal(payload, b.Payload()) {
		t.Error("what was read is written otherwise")
	}
	must(t, b.Check(b.Fingerprint()))
	var other *trustbundle.FingerprintError
	if err := b.Check(strings.Repeat("0", 64)); !errors.As(err, &other) || other.Got != b.Fingerprint() {
		t.Errorf("another fingerprint: %v", err)
	}
	// Who signed is not in the fingerprint.
	if all := signed(t, c, w.signers...); all.Fingerprint() != b.Fingerprint() {
		t.Error("the fingerprint depends on the signatures")
	}
	if b.Expired(c.Expires.Add(-time.Millisecond)) || !b.Expired(c.Expires) {
		t.Error("it does not expire when it says")
	}
	if b.Caveat(c.Issued) != "" || !strings.Contains(b.Caveat(c.Expires), "version 1") {
		t.Error("the caveat is there when it should not, or the other way round")
	}
}

// TestVerify shows that a bundle is all that a verifier needs, and still serves
// when it has expired.
func TestVerify(t *testing.T) {
	story := testlog.Tell()
	w := newBelieved(t)
	delete(w.sidecar, "finals") // the story goes on behind that size
	w.keyring = nil
	b := signed(t, w.content(t), w.signers...)
	r, err := story.Receipt(story.Plain, story.Final).Encode()
	must(t, err)
	now := b.Content().Expires.AddDate(1, 0, 0)
	v, err := verify.Verify(verify.Input{
		Policy: b.Policy(), Keyring: b.Keyring(), Receipt: r, Document: story.Pdf, Now: now,
	})
	if err != nil || !v.Verified || v.PolicyFingerprint != b.Policy().Fingerprint() {
		t.Errorf("not verified: %v", err)
	}
	if b.Caveat(now) == "" {
		t.Error("nothing says that the bundle has expired")
	}
}

// TestDecodeRejects changes one thing of an honest payload at a time.
func TestDecodeRejects(t *testing.T) {
	for _, tt := range []struct {
		field, name string
		change      func(w *believed, m map[string]any)
	}{
		{"format", "another format", func(_ *believed, m map[string]any) { m["format"] = "trialog-trust-bundle@v2" }},
		{"note", "an unknown member", func(_ *believed, m map[string]any) { m["note"] = "x" }},
		{"Version", "another case", func(_ *believed, m map[string]any) { m["Version"] = 1 }},
		{"log", "no log", func(_ *believed, m map[string]any) { delete(m, "log") }},
		{"the policy is about", "another log than the policy's", func(_ *believed, m map[string]any) {
			m["log"] = "log.example.org/other"
			delete(m, "keyring")
			delete(m, "logList")
		}},
		{"version", "version 0", func(_ *believed, m map[string]any) { m["version"] = 0 }},
		{"version", "a version that is no integer", func(_ *believed, m map[string]any) { m["version"] = "1" }},
		{"issuedMillis", "no time of issue", func(_ *believed, m map[string]any) { delete(m, "issuedMillis") }},
		{"expiresMillis", "expires when it is issued", func(_ *believed, m map[string]any) { m["expiresMillis"] = m["issuedMillis"] }},
		{"expiresMillis", "expires after the year 9999", func(_ *believed, m map[string]any) { m["expiresMillis"] = int64(253402300800000) }},
		{"previous", "version 1 with a bundle before it", func(_ *believed, m map[string]any) { m["previous"] = strings.Repeat("a", 64) }},
		{"previous", "version 2 without one", func(_ *believed, m map[string]any) { m["version"] = 2 }},
		{"previous", "a digest of zeros", func(_ *believed, m map[string]any) { m["version"], m["previous"] = 2, strings.Repeat("0", 64) }},
		{"previous", "an upper-case digest", func(_ *believed, m map[string]any) { m["version"], m["previous"] = 2, strings.Repeat("A", 64) }},
		{"threshold", "a threshold of 0", func(_ *believed, m map[string]any) { m["threshold"] = 0 }},
		{"threshold", "a threshold of 4 of 3", func(_ *believed, m map[string]any) { m["threshold"] = 4 }},
		{"signers", "no signers", func(_ *believed, m map[string]any) { m["signers"] = []string{} }},
		{"signers", "nine signers", func(_ *believed, m map[string]any) {
			var nine []string
			for i := range 9 {
				nine = append(nine, spki(signer(i)))
			}
			m["signers"] = nine
		}},
		{"signers[1]", "a signer twice", func(w *believed, m map[string]any) {
			m["signers"] = []string{spki(w.signers[0]), spki(w.signers[0])}
		}},
		{"signers[0]", "a signer that is a key id", func(w *believed, m map[string]any) {
			m["signers"] = []string{w.signers[0].ID().String(), spki(w.signers[1])}
		}},
		{"signers[1]", "a signer that is a number", func(w *believed, m map[string]any) { m["signers"] = []any{spki(w.signers[0]), 1} }},
		{"policy", "no policy", func(_ *believed, m map[string]any) { delete(m, "policy") }},
		{"policy", "an empty policy", func(_ *believed, m map[string]any) { m["policy"] = "" }},
		{"policy", "a policy with line breaks in its base64", func(_ *believed, m map[string]any) {
			m["policy"] = strings.Replace(m["policy"].(string), "A", "\nA", 1)
		}},
		{"line 1", "a policy that is none", func(_ *believed, m map[string]any) { m["policy"] = []byte("policies\n") }},
		{"operators", "a sidecar that is none", func(_ *believed, m map[string]any) {
			m["sidecar"] = []byte(`{"format":"trialog-trust@v2","log":"log.example.org/trials","logOperator":"L","requiredLogKeys":[],"acceptReceived":true}`)
		}},
		{"keyring", "an empty keyring", func(_ *believed, m map[string]any) { m["keyring"] = "" }},
		{"keyring", "a keyring by nobody's auditor", func(_ *believed, m map[string]any) {
			raw, _ := statement.SignDSSE(verify.KeyringPayloadType, newBelieved(t).keyring.Encode(), signer(1))
			m["keyring"] = raw
		}},
		{"keyring", "a keyring of another log", func(w *believed, m map[string]any) {
			k := *w.keyring
			k.Log = "log.example.org/other"
			m["keyring"] = w.Keyring(&k)
		}},
		{"keyring", "a keyring of an unknown shard", func(w *believed, m map[string]any) {
			k := *w.keyring
			k.Origin = testlog.Log + "/2031"
			m["keyring"] = w.Keyring(&k)
		}},
		{"logList", "a log list by a key that the sidecar does not name", func(w *believed, m map[string]any) {
			raw, _ := w.list.Sign(signer(1))
			m["logList"] = raw
		}},
		{"logList", "a log list of another log", func(w *believed, m map[string]any) {
			raw, _ := otherLog(t).Sign(w.listKey)
			m["logList"] = raw
		}},
	} {
		w := newBelieved(t)
		m := members(t, w.content(t))
		tt.change(w, m)
		raw, err := json.Marshal(m)
		must(t, err)
		_, err = trustbundle.Decode(raw)
		refused(t, tt.name, err, tt.field)
	}
	for name, text := range map[string]string{
		"nothing": "", "an array": "[]", "two": `{}{}`, "a duplicate": `{"format":"trialog-trust-bundle@v1","format":"trialog-trust-bundle@v1"}`,
	} {
		if _, err := trustbundle.Decode([]byte(text)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func otherLog(t *testing.T) *loglist.List {
	t.Helper()
	l := *newBelieved(t).list
	l.Log = "log.example.org/others"
	l.Shards = []loglist.Shard{l.Shards[0]}
	s := testlog.NewShard(l.Log+"/2026", testlog.Start)
	l.Shards[0].Origin, l.Shards[0].Keys = s.Origin, vkeys(s)
	return &l
}

// members is the payload of a content as a map.
func members(t *testing.T, c trustbundle.Content) map[string]any {
	t.Helper()
	raw, err := c.Encode()
	must(t, err)
	var m map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	must(t, dec.Decode(&m))
	return m
}

func TestParseRejects(t *testing.T) {
	w := newBelieved(t)
	c := w.content(t)
	payload, err := c.Encode()
	must(t, err)
	dsse := func(payloadType string, payload []byte, keys ...*statement.PrivateKey) []byte {
		raw, err := statement.SignDSSE(payloadType, payload, keys...)
		must(t, err)
		return raw
	}
	for _, tt := range []struct {
		name, words string
		raw         []byte
	}{
		{"a payload without an envelope", "payloadType", payload},
		{"one signature of two", "1 of its signers", envelope(t, c, w.signers[0])},
		{"one signature twice", "two signatures", dsse(trustbundle.PayloadType, payload, w.signers[0], w.signers[0])},
		{"a stranger's as the second", "1 of its signers", envelope(t, c, w.signers[0], signer(7))},
		{"strangers only", "0 of its signers", envelope(t, c, signer(6), signer(7))},
		{"another payload type", "payloadType", dsse(statement.PayloadType, payload, w.signers...)},
		{"signed as a log list", "1 of its signers", crossed(t, payload, w)},
		{"no payload of ours", "format", dsse(trustbundle.PayloadType, []byte(`{}`), w.signers...)},
		{"a changed payload", "0 of its signers", changed(t, c, w)},
	} {
		_, err := trustbundle.Parse(tt.raw)
		refused(t, tt.name, err, tt.words)
	}
	if _, err := trustbundle.Sign(envelope(t, c, w.signers[0]), w.signers[0]); err == nil {
		t.Error("a key signs twice")
	}
	if _, err := trustbundle.Sign([]byte("{}"), w.signers[0]); err == nil {
		t.Error("something else is signed")
	}
	full := envelope(t, c, signer(1), signer(2), signer(3), signer(4), signer(5), signer(6), signer(7), signer(8))
	if _, err := trustbundle.Sign(full, signer(9)); err == nil {
		t.Error("a ninth signature is added")
	}
}

// crossed has one good signature and one over the same payload as another type.
func crossed(t *testing.T, payload []byte, w *believed) []byte {
	t.Helper()
	good, err := w.signers[0].Sign(statement.PAE(trustbundle.PayloadType, payload))
	must(t, err)
	other, err := w.signers[1].Sign(statement.PAE(loglist.PayloadType, payload))
	must(t, err)
	return statement.EncodeDSSE(trustbundle.PayloadType, payload, []statement.Signature{{Sig: good}, {Sig: other}})
}

// changed has good signatures over another version.
func changed(t *testing.T, c trustbundle.Content, w *believed) []byte {
	t.Helper()
	_, sigs, err := trustbundle.Open(envelope(t, c, w.signers...))
	must(t, err)
	c.Expires = c.Expires.AddDate(1, 0, 0)
	payload, err := c.Encode()
	must(t, err)
	return statement.EncodeDSSE(trustbundle.PayloadType, payload, sigs)
}

// TestSign goes the way of a bundle that three people sign on their own machines.
func TestSign(t *testing.T) {
	w := newBelieved(t)
	c := w.content(t)
	raw, err := c.Encode()
	must(t, err)
	for n, k := range w.signers {
		d, sigs, err := trustbundle.Open(raw)
		must(t, err)
		if len(sigs) != n || d.Content().Version != 1 {
			t.Fatalf("%d signatures on the way, expected %d", len(sigs), n)
		}
		raw, err = trustbundle.Sign(raw, k)
		must(t, err)
	}
	b, err := trustbundle.Parse(raw)
	must(t, err)
	if len(b.Signers()) != 3 {
		t.Errorf("signed by %v", b.Signers())
	}
}

func FuzzDecode(f *testing.F) {
	// The least policy there is: the rest is other packages' to read.
	w := newBelieved(f)
	log := w.First.Keys[0].String()
	w.text = "log " + log + "\nquorum none\n"
	w.sidecar = map[string]any{
		"format": verify.TrustFormat, "log": testlog.Log, "logOperator": "L", "requiredLogKeys": []string{log},
		"operators": map[string]string{}, "acceptReceived": false, "auditors": []string{spki(w.Auditor)},
	}
	w.list = nil
	c := w.content(f)
	payload, err := c.Encode()
	must(f, err)
	f.Add(payload)
	c.Version, c.Previous, c.KeyringRaw = 2, statement.Digest{1}, nil
	payload, err = c.Encode()
	must(f, err)
	f.Add(payload)
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := trustbundle.Decode(raw)
		if err != nil {
			return
		}
		content := d.Content()
		first, err := content.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again, err := trustbundle.Decode(first)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		content = again.Content()
		second, err := content.Encode()
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("it is written in two ways: %v", err)
		}
	})
}

// TestManyMembers: a long text that is no bundle costs no more than its length.
func TestManyMembers(t *testing.T) {
	many := append(append([]byte(`{"format":[`), bytes.Repeat([]byte("[],"), 1<<20)...), []byte(`[]]}`)...)
	for name, raw := range map[string][]byte{
		"the envelope": many,
		"the payload":  statement.EncodeDSSE(trustbundle.PayloadType, many, []statement.Signature{{Sig: make([]byte, 64)}}),
	} {
		_, _, err := trustbundle.Open(raw)
		refused(t, name, err, "more members than")
	}
}
