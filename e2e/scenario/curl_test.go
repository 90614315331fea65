package scenario

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/e2e/harness"
)

// TestCurlJqOpenssl runs the example for people without our programs.
func TestCurlJqOpenssl(t *testing.T) {
	harness.Need(t, "bash", "curl", "jq", "openssl")
	l := harness.NewLog(t)
	l.Start()
	dir := t.TempDir()
	document := filepath.Join(dir, "protocol.pdf")
	content := []byte("%PDF-1.7 a protocol")
	if err := os.WriteFile(document, content, 0o600); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(harness.Root(), "examples", "curl", "submit.sh")
	run := func(organisation, trial string) ([]byte, error) {
		cmd := exec.CommandContext(context.Background(), script, l.URL, l.TokenFile("enrol"), organisation, trial, document, filepath.Join(dir, organisation))
		return cmd.CombinedOutput()
	}
	if out, err := run("acme", "T1"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// A refusal is said in words and ends the script.
	if out, err := run("other", "T1"); err == nil {
		t.Errorf("another organisation opened the same trial\n%s", out)
	}
	policy := l.Policy()
	l.Stop()
	raw, err := os.ReadFile(filepath.Join(dir, "acme", "protocol.receipt"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.Verify(verify.Input{Receipt: raw, Policy: policy, Document: content, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if v.Statement.Kind != statement.KindProtocol || v.Statement.Grade != statement.Signed {
		t.Errorf("verdict %+v", v.Statement)
	}
}
