package statement_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/statement"
)

// parts is the hash over length-prefixed parts, written a second time.
func parts(list ...string) statement.Digest {
	var b bytes.Buffer
	for _, p := range list {
		b.Write([]byte{byte(len(p) >> 24), byte(len(p) >> 16), byte(len(p) >> 8), byte(len(p))})
		b.WriteString(p)
	}
	return sha256.Sum256(b.Bytes())
}

func raw(d statement.Digest) string { return string(d[:]) }

// TestDigestsByHand holds the digests against their description.
func TestDigestsByHand(t *testing.T) {
	a, b := digest("a"), digest("b")
	low, high := a, b
	if bytes.Compare(low[:], high[:]) > 0 {
		low, high = high, low
	}
	payload := "{}"
	pae := "DSSEv1 28 application/vnd.in-toto+json 2 {}"
	for name, tt := range map[string][2]statement.Digest{
		"identity":   {statement.Identify([]byte(payload), []statement.KeyID{a, b}), parts("trialog/identity/v1", pae, raw(low), raw(high))},
		"no signers": {statement.Identify([]byte(payload), nil), parts("trialog/identity/v1", pae)},
		"trial":      {statement.TrialDigest("l", "o", "t"), parts("trialog/trial/v1", "l", "o", "t")},
		"log":        {statement.LogDigest("l"), parts("trialog/log/v1", "l")},
		"request":    {statement.RequestDigest("p", "r"), parts("trialog/request/v1", "p", "r")},
		"commitment": {
			statement.Commit(statement.Context{Organisation: "o", Trial: "t", Kind: "k"}, a, b, low, "m"),
			parts("trialog/commit/v1", "o", "t", "k", raw(a), raw(b), raw(low), "m"),
		},
	} {
		if tt[0] != tt[1] {
			t.Errorf("%s = %s, by hand %s", name, tt[0], tt[1])
		}
	}
}

// TestRequestDigestValue holds one value that was computed with another program,
//
//	printf '\0\0\0\022trialog/request/v1\0\0\0\004p-17\0\0\0\003r-1' | sha256sum
//
// and that no character moves between the two parts.
func TestRequestDigestValue(t *testing.T) {
	const want = "d90c40689c7b001508427ddb011472581cf1f8f2180b72473610b153df30de2a"
	if got := statement.RequestDigest("p-17", "r-1").String(); got != want {
		t.Errorf("RequestDigest = %s, want %s", got, want)
	}
	if statement.RequestDigest("p-1", "7r-1").String() == want {
		t.Error("another principal's request has the same digest")
	}
}

func TestIsShardOf(t *testing.T) {
	for origin, want := range map[string]bool{
		logName + "/2026": true, logName + "/a/b": true,
		logName: false, logName + "/": false, logName + "2/2026": false, logName + "2": false,
		"log.example.org": false, "log.example.org/other/2026": false, "x" + logName + "/2026": false, "": false,
	} {
		if got := statement.IsShardOf(origin, logName); got != want {
			t.Errorf("IsShardOf(%q) = %v, want %v", origin, got, want)
		}
	}
}

// TestIdentityStable holds that an identity does not depend on the envelope.
func TestIdentityStable(t *testing.T) {
	payload, e := signed(t)
	author, approver := edKey(t, "author"), ecKey(t, "approver")
	again, err := statement.Sign(payload, approver, author) // ECDSA signs differently each time
	if err != nil {
		t.Fatal(err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, e.Bytes(), "", "\t"); err != nil {
		t.Fatal(err)
	}
	noHints := slices.Clone(e.Signatures)
	for i := range noHints {
		noHints[i].KeyHint = ""
	}
	want := statement.Identify(payload, ids(author, approver))
	for name, text := range map[string][]byte{
		"as signed":         e.Bytes(),
		"signed again":      again.Bytes(),
		"white space":       pretty.Bytes(),
		"without hints":     statement.EncodeDSSE(statement.PayloadType, payload, noHints),
		"escaped":           bytes.ReplaceAll(e.Bytes(), []byte("/"), []byte(`\/`)),
		"members reordered": []byte(`{"signatures":[{"sig":"AA=="},{"sig":"AQ=="}],"payload":"` + b64(payload) + `","payloadType":"application/vnd.in-toto+json"}`),
	} {
		e, s, err := statement.Parse(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := s.Identity(e.Payload); got != want {
			t.Errorf("%s: identity %s, want %s", name, got, want)
		}
	}
	if got := statement.Identify(payload, ids(approver, author)); got != want {
		t.Error("the order of the signers changes the identity")
	}
	signers := ids(approver, author)
	statement.Identify(payload, signers)
	if signers[0] != approver.ID() {
		t.Error("Identify sorts its caller's slice")
	}
}

// TestIdentityDiffers changes each byte of the payload, and the signers.
func TestIdentityDiffers(t *testing.T) {
	payload, _ := signed(t)
	signers := ids(edKey(t, "author"), ecKey(t, "approver"))
	seen := map[statement.Identity]string{statement.Identify(payload, signers): "the statement"}
	add := func(name string, id statement.Identity) {
		if other, ok := seen[id]; ok {
			t.Errorf("%s has the identity of %s", name, other)
		}
		seen[id] = name
	}
	for i := range payload {
		bad := slices.Clone(payload)
		bad[i] ^= 0x01
		add(fmt.Sprintf("byte %d changed", i), statement.Identify(bad, signers))
	}
	add("trailing space", statement.Identify(append(slices.Clone(payload), ' '), signers))
	add("cut off", statement.Identify(payload[:len(payload)-1], signers))
	add("one signer", statement.Identify(payload, signers[:1]))
	add("the other signer", statement.Identify(payload, signers[1:]))
	add("one signer twice", statement.Identify(payload, []statement.KeyID{signers[0], signers[0]}))
	add("nobody", statement.Identify(payload, nil))
	// Bytes that move between the payload and the first signer's id.
	id := signers[0]
	add("id in the payload", statement.Identify(append(slices.Clone(payload), id[:]...), signers[1:]))
}

func TestDigestText(t *testing.T) {
	d := digest("x")
	if got, err := statement.ParseDigest(d.String()); err != nil || got != d {
		t.Errorf("ParseDigest of String = %v, %v", got, err)
	}
	if got, err := statement.ParseDigest(zeros); err != nil || !got.IsZero() || d.IsZero() {
		t.Errorf("ParseDigest of zeros = %v, %v", got, err)
	}
	if d.String() != hex.EncodeToString(d[:]) {
		t.Errorf("String = %s", d)
	}
	for _, bad := range []string{
		"", d.String()[1:], d.String() + "0", strings.ToUpper(d.String()), "g" + d.String()[1:],
		"/" + d.String()[1:], ":" + d.String()[1:], "`" + d.String()[1:], d.String()[1:] + " ", "0x" + d.String()[2:],
	} {
		got, err := statement.ParseDigest(bad)
		checkField(t, err, "", "64 lower-case")
		if !got.IsZero() {
			t.Errorf("ParseDigest(%q) = %s beside its error", bad, got)
		}
	}
	text, err := json.Marshal(map[string]statement.Digest{"d": d})
	if err != nil || string(text) != `{"d":"`+d.String()+`"}` {
		t.Errorf("as JSON: %s, %v", text, err)
	}
	var back map[string]statement.Digest
	if err := json.Unmarshal(text, &back); err != nil || back["d"] != d {
		t.Errorf("from JSON: %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"d":"AB"}`), &back); err == nil {
		t.Error("from short JSON: want an error")
	}
}
