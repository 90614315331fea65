package timestamp

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// now makes an authority one of the machine's time.
func now(t testing.TB) func(*Config) {
	return func(c *Config) {
		c.Clock = machineClock{}
		var err error
		if c.Chain, _, err = Certify("Test TSU", c.Key.Public(), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
}

// timestampCLI builds sigstore's client from its module; see tools/peers.
func timestampCLI(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("sigstore's client is not built in a short run")
	}
	program := filepath.Join(t.TempDir(), "timestamp-cli")
	build := exec.Command("go", "build", "-o", program, "github.com/sigstore/timestamp-authority/v2/cmd/timestamp-cli")
	build.Dir = filepath.Join("..", "..", "tools", "peers", "timestampcli")
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("sigstore's client cannot be built here: %v\n%s", err, out)
	}
	return program
}

// TestSigstoreClient: sigstore's client gets tokens from us and verifies them, and
// refuses one over something else.
func TestSigstoreClient(t *testing.T) {
	program := timestampCLI(t)
	w := newWorld(t, now(t))
	server := httptest.NewServer(w.Handler())
	defer server.Close()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, data := range map[string]string{"text": "what is stamped", "other": "something else", "chain": string(w.Chain())} {
		if err := os.WriteFile(path(name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cli := func(args ...string) (string, error) {
		cmd := exec.Command(program, append([]string{"--timestamp_server", server.URL}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, args := range [][]string{
		{"--hash", "sha256"},
		{"--hash", "sha384", "--certificate=true"},
		{"--hash", "sha512", "--nonce=false"},
		{"--hash", "sha256", "--tsa-policy", policyOID.String(), "--certificate=true"},
	} {
		out, err := cli(append([]string{"timestamp", "--artifact", "text", "--out", "reply"}, args...)...)
		if err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
			continue
		}
		if out, err := cli("verify", "--timestamp", "reply", "--artifact", "text", "--certificate-chain", "chain"); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
		if out, err := cli("verify", "--timestamp", "reply", "--artifact", "other", "--certificate-chain", "chain"); err == nil {
			t.Errorf("%v: another text is verified: %s", args, out)
		}
	}
	out, err := cli("timestamp", "--artifact", "text", "--out", "reply2", "--hash", "sha256", "--tsa-policy", "1.2.3")
	if err == nil || strings.Contains(out, "Artifact timestamped") {
		t.Errorf("another policy: %s", out)
	}
}
