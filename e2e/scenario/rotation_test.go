package scenario

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/e2e/harness"
)

// person works in a folder with the user's command line.
type person struct {
	t            *testing.T
	dir, program string
}

func newPerson(t *testing.T) *person {
	t.Helper()
	return &person{t, t.TempDir(), harness.Trialog(t)}
}

// runs runs a command that must end with an exit code, and returns what it printed.
func (p *person) runs(code int, args ...string) string {
	p.t.Helper()
	cmd := exec.Command(p.program, args...)
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		p.t.Fatalf("trialog %s: %v, expected exit code %d\n%s", strings.Join(args, " "), err, code, out)
	}
	return string(out)
}

func (p *person) path(name string) string { return filepath.Join(p.dir, name) }

func (p *person) write(name string, data []byte) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), data, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *person) read(name string) []byte {
	p.t.Helper()
	raw, err := os.ReadFile(p.path(name))
	if err != nil {
		p.t.Fatal(err)
	}
	return raw
}

// submits writes a document and brings it into the log.
func (p *person) submits(name string) {
	p.t.Helper()
	p.write(name, []byte("%PDF-1.7 "+name+"\n"))
	p.runs(0, "submit", name, "--kind", "protocol", "--trial", "T-1")
}

// pins takes the log's own policy for the one that the work folder believes.
func (p *person) pins(l *harness.Log) {
	p.t.Helper()
	for _, half := range []string{"", ".json"} {
		raw, err := os.ReadFile(l.PolicyFile() + half)
		if err != nil {
			p.t.Fatal(err)
		}
		p.write(filepath.Join(".trialog", "trialog.policy"+half), raw)
	}
}

// policyDraft is a policy that an operator works on.
type policyDraft struct {
	text    string
	sidecar map[string]any
}

func draftPolicy(t *testing.T, l *harness.Log) *policyDraft {
	t.Helper()
	d := &policyDraft{}
	text, err := os.ReadFile(l.PolicyFile())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(l.PolicyFile() + ".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &d.sidecar); err != nil {
		t.Fatal(err)
	}
	d.text = string(text)
	return d
}

// sets puts the draft into force; words is what the log says against it, or empty.
func (d *policyDraft) sets(t *testing.T, l *harness.Log, words string) {
	t.Helper()
	dir := t.TempDir()
	raw, err := json.Marshal(d.sidecar)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "next.policy")
	for name, data := range map[string][]byte{path: []byte(d.text), path + ".json": raw} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := l.Run("policy", "set", "--policy", path, "--data", l.Dir)
	if (err != nil) != (words != "") || !strings.Contains(out, words) {
		t.Fatalf("policy set: %v, expected %q\n%s", err, words, out)
	}
}

// retire says up to where the cosignatures of a key count.
func (d *policyDraft) retire(key string, limits map[string]uint64) {
	var until []map[string]any
	for origin, size := range limits {
		until = append(until, map[string]any{"origin": origin, "size": size})
	}
	d.sidecar["retired"] = []map[string]any{{"key": key, "until": until}}
}

// replaceWitnessKey gives the third witness another Ed25519 key and returns the one
// that it had, and the new one. Its policy has both from then on.
func (d *policyDraft) replaceWitnessKey(t *testing.T, l *harness.Log) (old, fresh *checkpoint.SigningKey) {
	t.Helper()
	path := filepath.Join(l.Dir, "witness-3", "ed25519.key")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if old, err = checkpoint.ParseSigningKey(strings.TrimSpace(string(raw))); err != nil {
		t.Fatal(err)
	}
	fresh, err = checkpoint.GenerateKey(rand.Reader, old.Verifier().Name(), checkpoint.AlgEd25519Cosignature)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(fresh.Encode()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^witness witness-3-ed25519 \S+( \S+)$`).FindStringSubmatch(d.text)
	if line == nil {
		t.Fatalf("no line of the third witness:\n%s", d.text)
	}
	d.text = strings.Replace(d.text, "group witness-3 any",
		fmt.Sprintf("witness witness-3-next %s%s\ngroup witness-3 any witness-3-next", fresh.Verifier(), line[1]), 1)
	return old, fresh
}

// published is the checkpoint that a shard has published.
func published(t *testing.T, l *harness.Log, shard string) *checkpoint.Note {
	t.Helper()
	status, raw, err := l.Get("/shards/" + shard + "/checkpoint")
	if err != nil || status != http.StatusOK {
		t.Fatalf("the checkpoint of shard %s: %d, %v", shard, status, err)
	}
	n, err := checkpoint.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// signedBy is a note with the signatures of the log and of some witnesses' names
// only, and perhaps a fresh one by a key.
func signedBy(t *testing.T, n *checkpoint.Note, key *checkpoint.SigningKey, names ...string) []byte {
	t.Helper()
	names = append(names, n.Checkpoint().Origin)
	sigs := slices.DeleteFunc(n.Signatures(), func(s checkpoint.Signature) bool { return !slices.Contains(names, s.Name) })
	if key != nil {
		s, err := key.SignCheckpoint(n.Text(), uint64(time.Now().Unix()))
		if err != nil {
			t.Fatal(err)
		}
		sigs = append(sigs, s)
	}
	out, err := checkpoint.NewNote(n.Text(), sigs...)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// another is the name of a witness that has signed a note and whose key was not
// given up. There is one: a quorum is two.
func another(t *testing.T, n *checkpoint.Note) string {
	t.Helper()
	for _, s := range n.Signatures() {
		if strings.HasSuffix(s.Name, "/witness-1") || strings.HasSuffix(s.Name, "/witness-2") {
			return s.Name
		}
	}
	t.Fatal("no other witness has signed")
	return ""
}

// fetchTrust fetches a version of the log's trust bundle; 0 for the newest.
func (p *person) fetchTrust(l *harness.Log, version int, name string) {
	p.t.Helper()
	path := "/v1/trust"
	if version > 0 {
		path += fmt.Sprintf("/%d", version)
	}
	status, raw, err := l.Get(path)
	if err != nil || status != http.StatusOK {
		p.t.Fatalf("GET %s: %d, %v\n%s", path, status, err, raw)
	}
	p.write(name, raw)
}

// issues has the log issue a trust bundle and returns its fingerprint.
func issues(t *testing.T, l *harness.Log, args ...string) string {
	t.Helper()
	out, err := l.Run(append([]string{"trust", "issue", "--data", l.Dir}, args...)...)
	if err != nil {
		t.Fatalf("trust issue: %v\n%s", err, out)
	}
	_, fingerprint, _ := strings.Cut(out, "Fingerprint: ")
	return strings.TrimSpace(fingerprint)
}

// TestRotation replaces the key of a witness, then the log's keys by a rollover,
// then revokes a submitter's key. Whatever was verified before is verified by the
// policies that follow, which reach a verifier as trust bundles; what the given-up
// key signs afterwards counts nowhere.
func TestRotation(t *testing.T) {
	l, p := harness.NewLog(t), newPerson(t)
	l.Init()
	p.runs(0, "keygen", "-o", "auditor.pem", "--public", "auditor.pub.pem")
	block, _ := pem.Decode(p.read("auditor.pub.pem"))
	d := draftPolicy(t, l)
	d.sidecar["auditors"] = []string{base64.StdEncoding.EncodeToString(block.Bytes)}
	d.sets(t, l, "")
	fingerprint := issues(t, l)
	l.Start()
	p.fetchTrust(l, 1, "first.trust")
	p.runs(1, "trust", "init", "first.trust", "--fingerprint", strings.Repeat("0", 64), "--out", "pinned.trust")
	p.runs(0, "trust", "init", "first.trust", "--fingerprint", fingerprint, "--out", "pinned.trust")
	p.runs(0, "init", "--server", l.URL, "--organisation", "sponsor-a", "--token-file", l.TokenFile("enrol"))
	p.runs(0, "submit", "--kind", "trial", "--trial", "T-1")
	p.submits("old.pdf")
	verifies := func(names ...string) {
		t.Helper()
		for _, name := range names {
			p.runs(0, "verify", name, name+".receipt", "--trust", "pinned.trust")
		}
	}
	verifies("old.pdf")
	before := published(t, l, "1")
	l.Stop()

	// The third witness has a new key. The old one counts up to here.
	d = draftPolicy(t, l)
	old, fresh := d.replaceWitnessKey(t, l)
	first, size := before.Checkpoint().Origin, before.Checkpoint().Size
	d.retire(old.Verifier().String(), map[string]uint64{first: size - 1})
	d.sets(t, l, "count up to")
	d.retire(old.Verifier().String(), map[string]uint64{first: size})
	d.sets(t, l, "")
	issues(t, l)
	l.Start()
	p.fetchTrust(l, 2, "second.trust")
	p.runs(0, "trust", "update", "pinned.trust", "second.trust")
	p.submits("new.pdf")
	verifies("old.pdf", "new.pdf")
	policy := l.Policy()
	retiredKeyCounts(t, l, policy, old, before, published(t, l, "1"))
	l.Stop()

	// The log has new keys: another shard, which opens with a rollover.
	l.Announce("2")
	issues(t, l)
	l.Start()
	p.fetchTrust(l, 3, "third.trust")
	p.runs(0, "trust", "update", "pinned.trust", "third.trust")
	p.pins(l)
	if out, err := l.Run("rollover", "--force", "--data", l.Dir); err != nil {
		t.Fatalf("rollover: %v\n%s", err, out)
	}
	p.submits("newest.pdf")
	verifies("old.pdf", "new.pdf", "newest.pdf")
	ended := published(t, l, "1")
	if _, err := l.Policy().CheckNote(signedBy(t, ended, fresh, another(t, ended))); err != nil {
		t.Errorf("the new key does not count: %v", err)
	}
	retiredKeyCounts(t, l, l.Policy(), old, before, published(t, l, "2"))
	l.Stop()

	// The end of the first shard is written into the policy, never out of it.
	d = draftPolicy(t, l)
	end := ended.Checkpoint()
	final := map[string]any{"origin": first, "size": end.Size - 1, "root": base64.StdEncoding.EncodeToString(end.Root[:])}
	d.sidecar["finals"] = []any{final}
	d.sets(t, l, "has not ended like that")
	final["size"] = end.Size
	d.sets(t, l, "")
	d = draftPolicy(t, l)
	delete(d.sidecar, "finals")
	d.sets(t, l, "which is not said any more")
	issues(t, l)
	l.Start()
	p.fetchTrust(l, 4, "fourth.trust")
	p.runs(0, "trust", "update", "pinned.trust", "fourth.trust")
	verifies("old.pdf", "new.pdf", "newest.pdf")
	revoked(t, l, p)
}

// retiredKeyCounts checks where the cosignatures of a given-up key count: for what
// it signed while it was in use, and not for what came later, whoever signs it now.
func retiredKeyCounts(t *testing.T, l *harness.Log, policy *verify.Policy, old *checkpoint.SigningKey, then, now *checkpoint.Note) {
	t.Helper()
	if _, err := policy.CheckNote(signedBy(t, then, old, another(t, then))); err != nil {
		t.Errorf("the given-up key does not count for what it signed in its time: %v", err)
	}
	if _, err := policy.CheckNote(signedBy(t, now, old, another(t, now))); err == nil {
		t.Errorf("the given-up key counts for size %d of %s", now.Checkpoint().Size, now.Checkpoint().Origin)
	}
	// Without its retirement it would have: the quorum is there.
	d := draftPolicy(t, l)
	delete(d.sidecar, "retired")
	raw, err := json.Marshal(d.sidecar)
	if err != nil {
		t.Fatal(err)
	}
	lax, err := verify.ParsePolicy([]byte(d.text), raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lax.CheckNote(signedBy(t, now, old, another(t, now))); err != nil {
		t.Errorf("the note is refused for another reason: %v", err)
	}
}

// revoked revokes a submitter's key and hands an auditor's keyring on in a bundle.
func revoked(t *testing.T, l *harness.Log, p *person) {
	t.Helper()
	p.runs(0, "keygen", "-o", "laptop.pem")
	p.runs(0, "key", "enrol", "laptop.pem", "--role", "sponsor")
	p.submits("before.pdf")
	key := p.path(filepath.Join(".trialog", "key.pem"))
	from := indexOf(t, p, "before.pdf") + 1
	p.submits("stolen.pdf")
	p.runs(0, "key", "revoke", key, "--suspect-from", strconv.FormatUint(from, 10), "--reason", "device lost")
	p.runs(2, "submit", "--kind", "milestone", "--trial", "T-1", "--attribute", "milestone=last-visit")
	out := p.runs(0, "keyring", "make", "--from", l.URL, "--policy", l.PolicyFile(), "--key", "auditor.pem", "--out", "log.keyring")
	if !strings.Contains(out, "3 keys, 1 of them revoked") || strings.Contains(out, "warning") {
		t.Errorf("the keyring: %s", out)
	}
	issues(t, l, "--keyring", p.path("log.keyring"))
	p.fetchTrust(l, 5, "fifth.trust")
	p.runs(0, "trust", "update", "pinned.trust", "fifth.trust")
	for _, name := range []string{"old.pdf", "new.pdf", "newest.pdf", "before.pdf"} {
		p.runs(0, "verify", name, name+".receipt", "--trust", "pinned.trust")
	}
	if out := p.runs(1, "verify", "stolen.pdf", "stolen.pdf.receipt", "--trust", "pinned.trust", "--details"); !strings.Contains(out, "key-status") {
		t.Errorf("what a stolen key signed: %s", out)
	}
	t.Logf("%s", p.runs(0, "trust", "show", "pinned.trust"))
}

// indexOf is where a document's statement is in the newest shard.
func indexOf(t *testing.T, p *person, name string) uint64 {
	t.Helper()
	r, err := receipt.Parse(p.read(name + ".receipt"))
	if err != nil {
		t.Fatal(err)
	}
	return r.Proof.Index
}
