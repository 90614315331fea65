package trustbundle_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/trustbundle"
	"github.com/trialog/trialog/api/verify"
)

// day returns the n-th day after the log's first.
func day(n int) time.Time { return time.Unix(testlog.Start, 0).UTC().AddDate(0, 0, n) }

// believed is a world with what its bundles are made of, for tests to change.
type believed struct {
	*testlog.World
	text    string
	sidecar map[string]any
	list    *loglist.List
	keyring *verify.Keyring
	listKey *statement.PrivateKey
	signers []*statement.PrivateKey
}

func signer(n int) *statement.PrivateKey { return testlog.Ed25519Key(fmt.Sprintf("trust %d", n)) }

func public(keys ...*statement.PrivateKey) []*statement.PublicKey {
	var list []*statement.PublicKey
	for _, k := range keys {
		list = append(list, k.Public())
	}
	return list
}

func spki(k *statement.PrivateKey) string { return base64.StdEncoding.EncodeToString(k.Public().DER()) }

// newBelieved is an honest world: two shards, the first ended, a retired key, a
// keyring with a revocation and a log list.
func newBelieved(t testing.TB) *believed {
	t.Helper()
	b := &believed{}
	must(t, testlog.Do(func() {
		b.World = testlog.New()
		b.listKey = testlog.Ed25519Key("log lists")
		b.signers = []*statement.PrivateKey{signer(1), signer(2), testlog.P256Key("trust 3")}
		b.text = string(b.PolicyText())
		testlog.Check(json.Unmarshal(b.Sidecar().Encode(), &b.sidecar))
	}))
	b.sidecar["format"] = verify.TrustFormat2
	b.sidecar["logListKeys"] = []string{spki(b.listKey)}
	b.sidecar["finals"] = []map[string]any{{"origin": b.First.Origin, "size": 40, "root": base64.StdEncoding.EncodeToString(make([]byte, 32))}}
	b.sidecar["retired"] = []map[string]any{{
		"key":   b.Operators[0].Keys[0].String(),
		"until": []map[string]any{{"origin": b.First.Origin, "size": 40}, {"origin": b.Second.Origin, "size": 7}},
	}}
	b.list = &loglist.List{Log: testlog.Log, Version: 3, Issued: day(330), Shards: []loglist.Shard{
		{Origin: b.First.Origin, State: loglist.Active, Announced: day(0), Opens: day(0), Keys: vkeys(b.First)},
		{Origin: b.Second.Origin, State: loglist.Announced, Announced: day(320), Opens: day(365), Keys: vkeys(b.Second)},
	}}
	b.keyring = &verify.Keyring{Log: testlog.Log, Origin: b.First.Origin, Size: 40, Keys: []verify.KeyringKey{
		{Key: signer(8).ID(), Organisation: "sponsor-a", Origin: b.First.Origin, Enrolled: 1},
		{
			Key: signer(9).ID(), Organisation: "site-b", Origin: b.First.Origin, Enrolled: 2,
			Revoked: true, SuspectOrigin: b.First.Origin, SuspectFrom: 17,
		},
	}}
	return b
}

func vkeys(s *testlog.Shard) []*checkpoint.VerifierKey {
	var list []*checkpoint.VerifierKey
	for _, k := range s.Keys {
		list = append(list, k.VerifierKey)
	}
	return list
}

// content is version 1 of the world's bundle.
func (b *believed) content(t testing.TB) trustbundle.Content {
	t.Helper()
	c := trustbundle.Content{
		Log: testlog.Log, Version: 1, Issued: day(331), Expires: day(331 + 365), Threshold: 2, Signers: public(b.signers...),
		PolicyText: []byte(b.text), Sidecar: b.encodedSidecar(t),
	}
	if b.keyring != nil {
		c.KeyringRaw = b.Keyring(b.keyring)
	}
	if b.list != nil {
		raw, err := b.list.Sign(b.listKey)
		must(t, err)
		c.LogListRaw = raw
	}
	return c
}

func (b *believed) encodedSidecar(t testing.TB) []byte {
	t.Helper()
	raw, err := json.Marshal(b.sidecar)
	must(t, err)
	return raw
}

// policy reads the world's policy.
func (b *believed) policy(t testing.TB) *verify.Policy {
	t.Helper()
	p, err := verify.ParsePolicy([]byte(b.text), b.encodedSidecar(t))
	must(t, err)
	return p
}

// after is the content of a bundle that follows old.
func (b *believed) after(t testing.TB, old *trustbundle.Bundle) trustbundle.Content {
	t.Helper()
	c := b.content(t)
	c.Version, c.Previous = old.Content().Version+1, old.Digest()
	c.Issued, c.Expires = old.Content().Issued.AddDate(0, 1, 0), old.Content().Expires.AddDate(0, 1, 0)
	return c
}

// signed makes the bundle of a content.
func signed(t testing.TB, c trustbundle.Content, keys ...*statement.PrivateKey) *trustbundle.Bundle {
	t.Helper()
	b, err := trustbundle.Parse(envelope(t, c, keys...))
	must(t, err)
	return b
}

func envelope(t testing.TB, c trustbundle.Content, keys ...*statement.PrivateKey) []byte {
	t.Helper()
	raw, err := c.Encode()
	must(t, err)
	for _, k := range keys {
		raw, err = trustbundle.Sign(raw, k)
		must(t, err)
	}
	return raw
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused requires an error with some words in it.
func refused(t *testing.T, name string, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: %v, expected %q", name, err, words)
	}
}
