package scenario

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/e2e/harness"
)

// TestEvidenceOfFork has somebody with the log's keys offer a witness another
// tree of a size that it has cosigned. It refuses and keeps it. When everything
// has been stopped, its file and the policy are enough to show what the log did;
// a request that shows nothing is not made an accusation. 3 s.
func TestEvidenceOfFork(t *testing.T) {
	l := harness.NewLog(t).With("--witnesses-elsewhere")
	l.Init()
	witness := l.RunWitnesses()[0]
	between := l.StandBetween(witness.URL())
	l.Start()
	sub := harness.NewSubmitter(t, l, "acme")
	if err := sub.Enrol(t.Context(), l.Token("enrol")); err != nil {
		t.Fatal(err)
	}
	for _, trial := range []string{"one", "two", "three"} {
		sayFinal(t, sub, trial)
	}
	n, err := l.Published(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	size := n.Checkpoint().Size
	between.AwaitCosigned(size)
	if got := evidenceOf(t, l, witness); len(got) != 0 {
		t.Errorf("there is evidence against an honest log: %v", got)
	}
	rogue := l.Fork(size-2, size+3)
	for _, offer := range []struct {
		size  uint64
		proof []tlog.Hash
	}{
		{size, nil},                           // another root at the same size
		{size + 3, rogue.Proof(size, size+3)}, // growth of another tree
		{size + 2, make([]tlog.Hash, len(rogue.Proof(size, size+2)))}, // a proof of nothing
	} {
		status, body, err := rogue.OfferWith(t.Context(), witness, size, offer.size, offer.proof)
		if err != nil || status != http.StatusUnprocessableEntity {
			t.Fatalf("growth from %d to %d: status %d, %v: %s", size, offer.size, status, err, body)
		}
	}
	l.Stop()
	witness.Kill()

	kinds := map[evidence.Kind]bool{}
	for _, file := range evidenceOf(t, l, witness) {
		f, code := verifyEvidence(t, l, file)
		t.Logf("exit code %d: %s: %s", code, f.Kind, f.Sentences)
		kinds[f.Kind] = true
		conclusive := f.Kind != evidence.KindUnproven
		if f.Conclusive != conclusive || (code == 0) != conclusive || code > 1 {
			t.Errorf("%s: conclusive %t, exit code %d", f.Kind, f.Conclusive, code)
		}
		if !conclusive {
			continue
		}
		if f.Origin != l.Origin() || len(f.Against) != 1 || f.Against[0].Role != evidence.RoleLog {
			t.Errorf("%s: it is against %+v of %s", f.Kind, f.Against, f.Origin)
		}
		checkAltered(t, l, file)
	}
	if len(kinds) != 3 || !kinds[evidence.KindFork] || !kinds[evidence.KindInconsistent] || !kinds[evidence.KindUnproven] {
		t.Errorf("there is evidence of %v, expected all three", kinds)
	}
}

// evidenceOf writes a witness's journal as files and returns their paths.
func evidenceOf(t *testing.T, l *harness.Log, w *harness.Witness) []string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "evidence")
	out, err := l.Run("witness", "evidence", "--config", filepath.Join(w.Dir, "witness.json"), "--out", dir)
	if err != nil {
		t.Fatalf("witness evidence: %v\n%s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// verifyEvidence checks a file as a person does who has the policy. Of a file that
// cannot be read there is no finding.
func verifyEvidence(t *testing.T, l *harness.Log, file string) (f evidence.Finding, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), harness.Trialog(t), "evidence", "verify", file, "--policy", l.PolicyFile(), "--output", "json")
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	const unreadable = 2
	if code = cmd.ProcessState.ExitCode(); code == unreadable {
		return f, code
	}
	if err := json.Unmarshal(out, &f); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return f, code
}

// checkAltered changes one character after the other of what the log has signed:
// none of that is shown any more.
func checkAltered(t *testing.T, l *harness.Log, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	mark := []byte(l.Origin() + `\n`) // a note begins like this, in JSON
	notes := 0
	for from := 0; ; notes++ {
		at := bytes.Index(raw[from:], mark)
		if at < 0 {
			break
		}
		from += at + len(mark)
		for _, offset := range []int{0, len("5\\nA"), len("5\\nABCDEFGH")} { // of the size and of the root
			altered := bytes.Clone(raw)
			altered[from+offset] ^= 1
			path := filepath.Join(t.TempDir(), "altered.evidence")
			if err := os.WriteFile(path, altered, 0o600); err != nil {
				t.Fatal(err)
			}
			if f, code := verifyEvidence(t, l, path); code == 0 {
				t.Errorf("with byte %d changed it is still shown: %+v", from+offset, f)
			}
		}
	}
	if notes != 2 {
		t.Errorf("%d notes were found, expected 2", notes)
	}
}
