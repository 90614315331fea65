package registertest

import (
	"bufio"
	"crypto/rand"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/services/internal/register"
)

// Bucket is the bucket that the servers have.
const Bucket = "register"

// Versity starts a real S3 server, Versity's gateway over a folder of its own,
// and returns its URL. The environment of the test then has its credentials.
// The server is built on demand in a module of its own, tools/s3server; the test
// is skipped only if that is not there.
func Versity(t *testing.T) string {
	t.Helper()
	module := moduleDir(t)
	binary := run(t, module, "go", "tool", "-n", "versitygw")
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, Bucket), 0o750); err != nil {
		t.Fatal(err)
	}
	access, secret := credentials(t)
	// A port that was free may be taken before the server has it.
	for range 5 {
		address := freeAddress(t)
		args := []string{"--port", address, "--quiet", "--access", access, "--secret", secret, "posix", root}
		cmd := exec.CommandContext(t.Context(), binary, args...) //nolint:gosec // built just now
		cmd.Stderr = os.Stderr
		done := start(t, cmd)
		if answers(t, "http://"+address, done) {
			return "http://" + address
		}
	}
	t.Fatal("the S3 server does not start")
	return ""
}

// Fakes3 starts another S3 server, in memory, and returns its URL.
func Fakes3(t *testing.T) string {
	t.Helper()
	module := moduleDir(t)
	credentials(t)
	binary := filepath.Join(t.TempDir(), "gofakes3")
	run(t, module, "go", "build", "-o", binary, "./gofakes3")
	cmd := exec.CommandContext(t.Context(), binary) //nolint:gosec // built just now
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the S3 server does not start: %v", err)
	}
	return strings.TrimSpace(line)
}

// credentials puts credentials into the environment, as the SDK's standard chain
// reads them.
func credentials(t *testing.T) (access, secret string) {
	t.Helper()
	access, secret = rand.Text(), rand.Text()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
		// Nothing of the machine's own may play a part.
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	return access, secret
}

// S3 returns how to reach a register on a server: one made by NewStub, Versity or
// Fakes3.
func S3(url, key string) register.S3Config {
	return register.S3Config{Bucket: Bucket, Key: key, Endpoint: url, PathStyle: true}
}

// Credentials lets a test use a Stub, which looks at none.
func Credentials(t *testing.T) { credentials(t) }

// moduleDir finds the module that builds the servers.
func moduleDir(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		module := filepath.Join(dir, "tools", "s3server")
		if _, err := os.Stat(filepath.Join(module, "go.mod")); err == nil {
			return module
		}
		if dir == filepath.Dir(dir) {
			t.Skip("needs the module tools/s3server")
		}
		dir = filepath.Dir(dir)
	}
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...) //nolint:gosec // the tests' own words
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(cmd.Args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

// start starts a process that the end of the test kills; the channel is closed
// when it has ended.
func start(t *testing.T, cmd *exec.Cmd) <-chan struct{} {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
	})
	return done
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // nothing is waited for
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// answers waits until a server answers anything, or has ended.
func answers(t *testing.T, url string, done <-chan struct{}) bool {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			return true
		}
		select {
		case <-done:
			return false
		case <-t.Context().Done():
			return false
		case <-tick.C:
		}
	}
}
