package main

import (
	"bufio"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// startTrialogd starts the program, waits for a line of its log that matches, and
// returns the line's first submatch. The program ends with the test.
func startTrialogd(t *testing.T, line string, args ...string) string {
	t.Helper()
	cmd := exec.Command("trialogd", args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	wanted := regexp.MustCompile(line)
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if m := wanted.FindStringSubmatch(lines.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, stderr) }()
			return m[1]
		}
	}
	t.Fatalf("trialogd %s ended without a line %q", strings.Join(args, " "), line)
	return ""
}

// TestTimestampBesideLog: beside a log on the same machine two commands make an
// authority that issues, and whose key may log its records.
func TestTimestampBesideLog(t *testing.T) {
	data, tsa := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "tsa")
	address := startTrialogd(t, `msg=listening http=(\S+)`, "all", "--data", data, "--listen", "127.0.0.1:0",
		"--grpc-listen", "127.0.0.1:0", "--witness-listen", "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0")
	waitReady(t, "http://"+address+"/readyz")
	out, err := exec.Command("trialogd", "timestamp", "init", "--dir", tsa, "--beside", data, "--listen", "127.0.0.1:0").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Enrolled the key that signs batches of token records: entry ") {
		t.Fatalf("%v\n%s", err, out)
	}
	config := filepath.Join(tsa, timestampConfig)
	url := "http://" + startTrialogd(t, `msg="time-stamp authority listens" address=(\S+)`, "timestamp", "--config", config)
	waitReady(t, url+"/readyz")
	a := &shiftedAuthority{t: t, url: url, anchor: lastCertificate(t, filepath.Join(tsa, unitChain))}
	if _, err := a.ask(); err != nil {
		t.Error(err)
	}
	out, err = exec.Command("trialogd", "timestamp", "enrol", "--config", config,
		"--recovery-key", filepath.Join(data, "keys", recoveryKey)).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "enrolled already") {
		t.Errorf("%v\n%s", err, out)
	}
}

// waitReady waits until a page answers with 200.
func waitReady(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	t.Fatalf("%s does not become ready", url)
}
