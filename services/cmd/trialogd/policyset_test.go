package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
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
		{"other log lists", "logListKeys", func(d *draft) { d.trust["logListKeys"] = []string{spki(other.Public())} }},
		{"no log lists", "logListKeys", func(d *draft) { delete(d.trust, "logListKeys") }},
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
		if _, err := l.issueTrust(time.Now(), time.Hour, ""); (err == nil) != (made == 0) {
			t.Errorf("cut off behind %d writes, a trust bundle is issued: %v", made, err)
		}
		show := &cobra.Command{}
		show.SetOut(io.Discard)
		if err := l.showPolicy(show); (err == nil) != (made == 0) {
			t.Errorf("cut off behind %d writes, a policy is shown: %v", made, err)
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
