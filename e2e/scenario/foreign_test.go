package scenario

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/e2e/harness"
)

// TestForeignWitness has a witness of another project cosign our log, once with
// an Ed25519 key alone and once with ML-DSA-44 beside it under one name. The
// quorum wants it and one of our own. 4 s each, 45 s more to build it once.
func TestForeignWitness(t *testing.T) {
	const name = "witness.example.org/foreign"
	for _, c := range []struct {
		name       string
		algorithms []checkpoint.Algorithm
	}{
		{"Ed25519", []checkpoint.Algorithm{checkpoint.AlgEd25519Cosignature}},
		{"Ed25519 and ML-DSA-44", []checkpoint.Algorithm{checkpoint.AlgEd25519Cosignature, checkpoint.AlgMLDSA44}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := harness.NewLog(t).With("--witnesses-elsewhere")
			l.Init()
			foreign := harness.NewOmniwitness(t, l, name, c.algorithms...)
			foreign.Start()
			l.AddWitness("foreign", "Another laboratory", foreign.URL, foreign.Keys...)
			// Both of: any of ours, the foreign one.
			l.SetQuorum("1 witness-1 witness-2 witness-3")
			l.EditPolicy(func(policy string) string {
				return strings.Replace(policy, "quorum operators\n", "group mixed all operators foreign\nquorum mixed\n", 1)
			})
			toForeign := l.StandBetween(foreign.URL)
			ours := l.RunWitnesses()
			toFirst := l.StandBetween(ours[0].URL())
			l.Start()
			sub := harness.NewSubmitter(t, l, "acme")
			if err := sub.Enrol(t.Context(), l.Token("enrol")); err != nil {
				t.Fatal(err)
			}
			first := sayFinal(t, sub, "first")
			checkCosigned(t, l.Policy(), first, foreign.Keys)

			// It was started again, and knows what it has cosigned.
			foreign.Kill()
			foreign.Start()
			second := sayFinal(t, sub, "second")

			// It alone is not enough, and neither is what is left without it.
			for _, w := range ours {
				w.Kill()
			}
			third := staysPending(t, l, sub, "third", toForeign)
			foreign.Kill()
			for _, w := range ours {
				w.Start()
			}
			fourth := staysPending(t, l, sub, "fourth", toFirst)
			foreign.Start()
			becomeFinal(t, sub, third, fourth)

			policy := l.Policy()
			l.Stop()
			foreign.Kill()
			for _, raw := range [][]byte{first, second} {
				checkCosigned(t, policy, raw, foreign.Keys)
			}
		})
	}
}

// sayFinal submits a statement and returns its receipt.
func sayFinal(t *testing.T, sub *harness.Submitter, trial string) []byte {
	t.Helper()
	x, err := sub.Say(statement.KindTrial, trial, harness.OpenTrial)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	a, err := sub.SendUntil(ctx, x, "WAIT_FINAL", "")
	if err != nil {
		t.Fatal(err)
	}
	if a.State != "STATE_FINAL" {
		t.Fatalf("state %s", a.State)
	}
	return a.Receipt
}

// checkCosigned verifies a receipt offline and looks for a cosignature by each
// of the keys; x/mod checks the one with an Ed25519 key once more.
func checkCosigned(t *testing.T, policy *verify.Policy, raw []byte, keys []*checkpoint.VerifierKey) {
	t.Helper()
	v, err := verify.Verify(verify.Input{Receipt: raw, Policy: policy, StatementOnly: true, Now: time.Now()})
	if err != nil {
		t.Fatalf("the receipt does not verify: %v", err)
	}
	if v.Inclusion.OperatorsSeen < 2 {
		t.Errorf("witnesses of %d operators, expected ours and the foreign one: %+v", v.Inclusion.OperatorsSeen, v.Inclusion.Witnesses)
	}
	r, err := receipt.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	c, err := policy.Notes().Check(r.Proof.Note)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		signed := false
		for _, w := range c.Witnesses {
			signed = signed || w.Key.String() == k.String()
		}
		if !signed {
			t.Errorf("no cosignature by %s key %08x", k.Algorithm(), k.ID())
		}
	}
	openWithSumdb(t, r.Proof.Note.Bytes(), keys[0])
}

// staysPending submits a statement that the log takes in, and checks that it has
// not become final when the only witness that is left has cosigned it.
func staysPending(t *testing.T, l *harness.Log, sub *harness.Submitter, trial string, left *harness.Between) *harness.Signed {
	t.Helper()
	x, err := sub.Say(statement.KindTrial, trial, harness.OpenTrial)
	if err != nil {
		t.Fatal(err)
	}
	a, err := sub.SendUntil(t.Context(), x, "WAIT_PENDING", "")
	if err != nil {
		t.Fatal(err)
	}
	left.AwaitCosigned(a.Index + 1)
	if again, err := sub.Send(t.Context(), x, "WAIT_PENDING", ""); err != nil || again.State != "STATE_PENDING" {
		t.Errorf("without a quorum: %+v, %v", again, err)
	}
	if n, err := l.Published(t.Context()); err != nil {
		t.Error(err)
	} else if c := n.Checkpoint(); c.Size > a.Index {
		t.Errorf("without a quorum a checkpoint with entry %d is published: %+v", a.Index, c)
	}
	return x
}

// becomeFinal sends the same statements again until they are final.
func becomeFinal(t *testing.T, sub *harness.Submitter, pending ...*harness.Signed) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, x := range pending {
		for {
			a, err := sub.SendUntil(ctx, x, "WAIT_FINAL", "")
			if err != nil {
				t.Fatal(err)
			}
			if a.State == "STATE_FINAL" {
				break
			}
		}
	}
}

// openWithSumdb has x/mod check the signature by an Ed25519 cosignature key. It
// knows no such keys, so it gets a verifier that is nothing but the
// specification: RFC 8032 over three lines.
func openWithSumdb(t *testing.T, raw []byte, key *checkpoint.VerifierKey) *note.Note {
	t.Helper()
	n, err := note.Open(raw, note.VerifierList(cosigner{key}))
	if err != nil {
		t.Fatalf("x/mod does not open the checkpoint: %v\n%s", err, raw)
	}
	if len(n.Sigs) != 1 || n.Sigs[0].Name != key.Name() {
		t.Fatalf("x/mod finds %+v", n.Sigs)
	}
	return n
}

// TestForeignLog has our witness cosign a log of another project, which publishes
// nothing without it: Tessera's one-shot log on a POSIX file system, with the
// policy file that Tessera reads. 5 s, 20 s more to build it once.
func TestForeignLog(t *testing.T) {
	const origin = "log.example.org/tessera"
	oneshot := harness.Peer(t, "", "github.com/transparency-dev/tessera/cmd/examples/posix-oneshot")
	private, public, err := note.GenerateKey(nil, origin)
	if err != nil {
		t.Fatal(err)
	}
	w := harness.NewWitness(t, "witness.example.org/ours", origin, public)
	w.Start()
	key := w.Keys()[0].Verifier()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keyFile := write("log.key", private)
	policy := write("witnesses", fmt.Sprintf("log %s\nwitness ours %s http://%s\nquorum ours\n", public, key, w.Address))
	storage := filepath.Join(dir, "log")
	add := func(k int, more ...string) error {
		entry := write(fmt.Sprintf("entry-%d", k), fmt.Sprintf("entry %d", k))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, oneshot, append([]string{
			"--storage_dir", storage, "--private_key", keyFile,
			"--entries", entry, "--witness_policy_file", policy, "--witness_timeout", "5s",
		}, more...)...)
		out := &watched{text: "witness policy was not satisfied", found: cancel}
		if len(more) > 0 {
			out.found = func() {} // else it tries for ever
		}
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%w: %s", err, out.b.Bytes())
		}
		return nil
	}
	published := func() []byte {
		raw, err := os.ReadFile(filepath.Join(storage, "checkpoint"))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	logKey, err := note.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	publishes := func(k int) {
		if err := add(k); err != nil {
			t.Fatalf("the foreign log does not publish: %v", err)
		}
		raw := published()
		n := openWithSumdb(t, raw, key)
		if size := strings.Split(n.Text, "\n")[1]; size != strconv.Itoa(k) {
			t.Errorf("the published size is %s, expected %d", size, k)
		}
		if _, err := note.Open(raw, note.VerifierList(logKey)); err != nil {
			t.Errorf("the log's own signature: %v", err)
		}
		if newest, err := w.Newest(t.Context(), origin); err != nil || newest.Checkpoint().Size != uint64(k) {
			t.Errorf("the witness shows %v, %v", newest, err)
		}
	}
	publishes(1)
	publishes(2)
	w.Kill()
	w.Start()
	publishes(3)
	// The log publishes once without the witness, on purpose. It then proves growth
	// from a size that the witness has not seen, meets a 409 with the right one, and
	// proves growth from that.
	w.Kill()
	if err := add(4, "--witness_fail_open"); err != nil {
		t.Fatal(err)
	}
	w.Start()
	publishes(5)
	// Without the witness nothing is published.
	w.Kill()
	before := published()
	if err := add(6); err == nil || !strings.Contains(err.Error(), "witness policy was not satisfied") {
		t.Errorf("the foreign log without its witness: %v", err)
	}
	if !bytes.Equal(before, published()) {
		t.Error("the foreign log has published without its witness")
	}
}

// watched is what a program prints, with something to do when a text comes.
type watched struct {
	b     bytes.Buffer
	text  string
	found func()
}

// Write takes in what was printed.
func (w *watched) Write(p []byte) (int, error) {
	n, err := w.b.Write(p)
	if bytes.Contains(w.b.Bytes(), []byte(w.text)) {
		w.found()
	}
	return n, err
}
