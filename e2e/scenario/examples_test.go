package scenario

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trialog/trialog/e2e/harness"
)

// TestReadmeExamples runs the two commands of README.md that need no server, and
// holds what they print against what README.md says.
func TestReadmeExamples(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(harness.Root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	program := harness.Trialog(t)
	for document, code := range map[string]int{"protocol-v2.txt": 0, "protocol-v2-altered.txt": 1} {
		args := []string{
			"verify", "examples/receipt/" + document, "examples/receipt/protocol-v2.txt.receipt",
			"--policy", "examples/receipt/trialog.policy",
		}
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir = harness.Root()
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) || cmd.ProcessState.ExitCode() != code {
			t.Errorf("%s: %v, expected exit code %d\n%s", document, err, code, out)
		}
		if !bytes.Contains(readme, out) {
			t.Errorf("README.md does not show what %s prints:\n%s", document, out)
		}
	}
}

// TestDemonstration runs what "make run" runs, twice on the same data.
func TestDemonstration(t *testing.T) {
	harness.Need(t, "bash")
	bin := t.TempDir()
	for name, path := range map[string]string{"trialog": harness.Trialog(t), "trialogd": harness.Trialogd(t)} {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(t.TempDir(), "data")
	listen, grpc := freeAddress(t), freeAddress(t)
	for round, want := range [][]string{
		{"protocol-v2.txt: logged as entry", "NOT VERIFIED", "demonstration, not assurance"},
		{"protocol-v2.txt: logged already as entry", "NOT VERIFIED", "demonstration, not assurance"},
	} {
		out := demonstrate(t, data, "TRIALOG_BIN="+bin, "LISTEN="+listen, "GRPC_LISTEN="+grpc,
			"WITNESS_LISTEN=127.0.0.1:0,127.0.0.1:0,127.0.0.1:0")
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("round %d does not say %q:\n%s", round+1, w, out)
			}
		}
		if n := strings.Count(out, "\nVERIFIED  "); n != 7 {
			t.Errorf("round %d verified %d documents, expected 7", round+1, n)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return address
}

// demonstrate runs the demonstration until it says that it stays up, ends it as
// Ctrl-C would, and returns what it printed.
func demonstrate(t *testing.T, data string, env ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(harness.Root(), "examples", "demo.sh"), data)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(2*time.Minute, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer limit.Stop()
	var out strings.Builder
	lines := bufio.NewScanner(pipe)
	up := false
	for lines.Scan() {
		out.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "Ctrl-C stops it") {
			up = true
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		}
	}
	_ = cmd.Wait() // it was interrupted
	if !up {
		t.Fatalf("the demonstration does not stay up:\n%s", out.String())
	}
	return out.String()
}
