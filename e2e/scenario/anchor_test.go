package scenario

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/e2e/harness"
)

const (
	publicNetwork = "A public network"
	authorityName = "tsa.example.org"
	protocol      = "a protocol"
)

// anchoredLog is a log with a time-stamp authority and a witness that are asked
// at their own pace, both held to be independent of it by its policy.
type anchoredLog struct {
	*harness.Log

	authority *harness.Authority
	public    *harness.Witness
	tokens    *harness.Counting // before the authority
	cosigned  *harness.Counting // before the witness
}

// newAnchoredLog makes all of it, and starts what is not the log. The log anchors
// nothing before anchor is called.
func newAnchoredLog(t *testing.T) *anchoredLog {
	t.Helper()
	l := &anchoredLog{Log: harness.NewLog(t).With("--witnesses-elsewhere")}
	l.Init()
	l.RunWitnesses()
	var sources []string
	for range 3 {
		sources = append(sources, harness.NewTimeServer(t).URL())
	}
	l.authority = harness.NewAuthority(t, sources...)
	l.authority.Start()
	l.tokens = harness.NewCounting(t, l.authority.URL)
	l.public = harness.NewWitness(t, "witness.example.org/public", l.Origin(),
		l.LogKey(checkpoint.AlgEd25519).String(), l.LogKey(checkpoint.AlgMLDSA44).String())
	l.public.Start()
	l.cosigned = harness.NewCounting(t, l.public.URL())
	var keys []*checkpoint.VerifierKey
	for _, k := range l.public.Keys() {
		keys = append(keys, k.Verifier())
	}
	l.AddWitness("public", publicNetwork, "", keys...) // without a URL: it is not asked for each checkpoint
	l.EditTrust(func(c map[string]any) {
		c["timeAuthorities"] = []any{map[string]any{
			"name": authorityName, "certificate": base64.StdEncoding.EncodeToString(l.authority.Root().Raw),
		}}
	})
	return l
}

// anchor has the log, which does not run, anchor from its next start on.
func (l *anchoredLog) anchor() {
	var keys []string
	for _, k := range l.public.Keys() {
		keys = append(keys, k.Verifier().String())
	}
	l.Configure(func(c map[string]any) {
		c["anchors"] = map[string]any{
			"witnesses": []any{map[string]any{"name": "public", "keys": keys, "url": l.cosigned.URL}},
			"authorities": []any{map[string]any{
				"name": "tsa", "url": l.tokens.URL, "certificate": l.authority.RootFile(),
			}},
		}
	})
}

// TestAnchoredReceipt has a checkpoint cosigned by a public witness and dated by
// an authority after a statement in it became final, and the user fetch a receipt
// with both, which verifies when everything has been stopped. 10 s.
func TestAnchoredReceipt(t *testing.T) {
	l := newAnchoredLog(t)
	l.Start()
	dir := t.TempDir()
	trialog := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, harness.Trialog(t), args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := trialog(args...)
		if err != nil {
			t.Fatalf("trialog %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	if err := os.WriteFile(filepath.Join(dir, "protocol.txt"), []byte(protocol), 0o600); err != nil {
		t.Fatal(err)
	}
	must("init", "--server", l.URL, "--organisation", "acme", "--token-file", l.TokenFile("enrol"), "--policy", l.PolicyFile())
	must("submit", "--kind", "trial", "--trial", "NCT00000001")
	must("submit", "protocol.txt", "--kind", "protocol", "--trial", "NCT00000001")
	if out, err := trialog("receipt", "protocol.txt.receipt", "--anchored"); err == nil {
		t.Errorf("a log without anchors gives an anchored receipt:\n%s", out)
	}
	l.Stop()
	l.anchor()
	l.Start()
	if out := must("receipt", "protocol.txt.receipt", "--anchored"); !strings.Contains(out, "ANCHORED") {
		t.Errorf("expected ANCHORED in\n%s", out)
	}
	l.Stop()
	l.authority.Stop()
	l.public.Stop()
	must("verify", "protocol.txt", "protocol.txt.anchored.receipt")

	before := readFile(t, filepath.Join(dir, "protocol.txt.receipt"))
	if v := judge(t, l.Policy(), before); len(v.TimeStamps) != 0 || seenBy(v, publicNetwork) {
		t.Errorf("before it was anchored: %+v, %+v", v.TimeStamps, v.Inclusion)
	}
	after := readFile(t, filepath.Join(dir, "protocol.txt.anchored.receipt"))
	v := judge(t, l.Policy(), after)
	if !seenBy(v, publicNetwork) {
		t.Errorf("the public witness is not in it: %+v", v.Inclusion.Witnesses)
	}
	if len(v.TimeStamps) != 1 || v.TimeStamps[0].Authority != authorityName || !believed(v.TimeStamps[0]) {
		t.Fatalf("the receipt's tokens: %+v", v.TimeStamps)
	}
	// Of an altered token nothing is believed, and the rest is what it was.
	r, err := receipt.Parse(after)
	if err != nil {
		t.Fatal(err)
	}
	// But for the root's certificate: that is the policy's, whatever the token has.
	root := l.authority.Root().Raw
	spared := bytes.Index(r.Tokens[0], root)
	for at := 0; at < len(r.Tokens[0]); at += 17 {
		if spared >= 0 && spared <= at && at < spared+len(root) {
			continue
		}
		r.Tokens[0][at] ^= 1
		raw, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		v, err := verify.Verify(verify.Input{Receipt: raw, Policy: l.Policy(), Document: []byte(protocol), Now: time.Now()})
		if err == nil && believed(v.TimeStamps[0]) {
			t.Errorf("a token with byte %d altered is believed: %+v", at, v.TimeStamps[0])
		}
		r.Tokens[0][at] ^= 1
	}
}

// believed tells whether a token was verified under an authority of the policy.
func believed(s verify.TimeStamp) bool {
	return s.Status == verify.StampNarrows || s.Status == verify.StampVerified
}

// seenBy tells whether a witness of an organisation has cosigned.
func seenBy(v *verify.Verdict, organisation string) bool {
	return slices.ContainsFunc(v.Inclusion.Witnesses, func(w verify.Witness) bool { return w.RunBy == organisation })
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// judge verifies a receipt of the protocol.
func judge(t *testing.T, policy *verify.Policy, raw []byte) *verify.Verdict {
	t.Helper()
	v, err := verify.Verify(verify.Input{Receipt: raw, Policy: policy, Document: []byte(protocol), Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// idleLooks is how often an idle log is looked at, a tenth of a second apart; the
// log looks for something to sign as often. With TRIALOG_LONG it is looked at for
// four minutes, and so for several times the least interval between two anchors.
func idleLooks() int {
	if os.Getenv("TRIALOG_LONG") != "" {
		return 2400
	}
	return 60
}

// TestIdleLogSignsNothing leaves an anchored log alone: no checkpoint is signed,
// no witness and no authority is asked, nothing is published. 15 s.
func TestIdleLogSignsNothing(t *testing.T) {
	l := newAnchoredLog(t)
	var asked []*harness.Counting
	for _, address := range l.Witnesses() {
		c := harness.NewCounting(t, "http://"+address)
		l.EditPolicy(func(policy string) string { return strings.ReplaceAll(policy, "http://"+address+"\n", c.URL+"\n") })
		asked = append(asked, c)
	}
	l.Start()
	sub := harness.NewSubmitter(t, l.Log, "acme")
	if err := sub.Enrol(t.Context(), l.Token("enrol")); err != nil {
		t.Fatal(err)
	}
	sayFinal(t, sub, "one")
	l.Stop()
	l.anchor()
	l.Start()
	anchor := filepath.Join(l.Part("tiles"), "anchor", "newest")
	awaitFile(t, anchor)
	asked = append(asked, l.tokens, l.cosigned)
	settle(t, asked)

	type state struct {
		published, candidate, register, anchored string
		asked                                    [5]int64
	}
	look := func() (s state) {
		n, err := l.Published(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.published = string(n.Bytes())
		for path, content := range map[string]*string{
			filepath.Join(l.Part("tiles"), "candidate"): &s.candidate, filepath.Join(l.Dir, "registers", "1"): &s.register, anchor: &s.anchored,
		} {
			*content = string(readFile(t, path))
		}
		for i, c := range asked {
			s.asked[i] = c.Requests()
		}
		return s
	}
	before := look()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n := range idleLooks() {
		<-tick.C
		if now := look(); now != before {
			t.Fatalf("look %d: an idle log went from\n%+v\nto\n%+v", n, before, now)
		}
	}
	if before.asked[3] == 0 || before.asked[4] == 0 {
		t.Errorf("requests to the authority and to the public witness: %v", before.asked[3:])
	}
	// It was idle, not dead.
	sayFinal(t, sub, "two")
	if now := look(); now.published == before.published || now.asked[0] == before.asked[0] {
		t.Error("the log does not sign any more")
	}
}

// awaitFile waits until there is a file.
func awaitFile(t *testing.T, path string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("there is no %s", path)
		case <-time.After(20 * time.Millisecond): // between two looks
		}
	}
}

// settle waits until nobody was asked for a second: what was under way is over.
func settle(t *testing.T, asked []*harness.Counting) {
	t.Helper()
	const quiet = 10
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last, since := int64(-1), 0
	for n := 0; since < quiet; n++ {
		if n > 600 {
			t.Fatal("somebody is asked all the time")
		}
		<-tick.C
		sum := int64(0)
		for _, c := range asked {
			sum += c.Requests()
		}
		since++
		if sum != last {
			last, since = sum, 0
		}
	}
}
