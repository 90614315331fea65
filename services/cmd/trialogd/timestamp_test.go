package main

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
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
	log := startTrialogd(t, `msg=listening http=(\S+)`, "all", "--data", data, "--listen", "127.0.0.1:0",
		"--grpc-listen", "127.0.0.1:0", "--witness-listen", "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0")
	waitReady(t, "http://"+log+"/readyz")
	out, err := exec.Command("trialogd", "timestamp", "init", "--dir", tsa, "--beside", data, "--listen", "127.0.0.1:0").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Enrolled the key that signs batches of token records: entry ") {
		t.Fatalf("%v\n%s", err, out)
	}
	config := filepath.Join(tsa, timestampConfig)
	edit(t, config, `"listen": "127.0.0.1:0",`, `"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0",`)
	both := startTrialogd(t, `msg="time-stamp authority listens" address=(\S+ metrics=\S+)`, "timestamp", "--config", config)
	address, metrics, _ := strings.Cut(both, " metrics=")
	url := "http://" + address
	waitReady(t, url+"/readyz")
	a := &shiftedAuthority{t: t, url: url, anchor: lastCertificate(t, filepath.Join(tsa, unitChain))}
	if _, err := a.ask(); err != nil {
		t.Error(err)
	}
	resp, err := http.Get("http://" + metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil || !strings.Contains(string(page), "\ntrialog_timestamp_tokens_total 1\n") {
		t.Errorf("%v\n%s", err, page)
	}
	out, err = exec.Command("trialogd", "timestamp", "enrol", "--config", config,
		"--recovery-key", filepath.Join(data, "keys", recoveryKey)).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "enrolled already") {
		t.Errorf("%v\n%s", err, out)
	}
}

// edit replaces one text in a file by another.
func edit(t *testing.T, path, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(raw), from) != 1 {
		t.Fatalf("%s has no text %q, or more than one", path, from)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(raw), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTimestampInitByReference: a reference file that is not there is not made.
func TestTimestampInitByReference(t *testing.T) {
	tsa := t.TempDir()
	out, err := exec.Command("trialogd", "timestamp", "init", "--dir", tsa, "--key", "tsu.ref", "--clock-source",
		"ntp://a.example,ntp://b.example,ntp://c.example").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no such file") {
		t.Errorf("%v\n%s", err, out)
	}
	if list, err := os.ReadDir(tsa); err != nil || len(list) != 0 {
		t.Errorf("%v left, %v", list, err)
	}
}

// TestTimestampInitSources: sources of time that the authority could not be started
// with are refused before anything is made.
func TestTimestampInitSources(t *testing.T) {
	const two = "ntp://a.example,ntp://b.example,"
	tsa := filepath.Join(t.TempDir(), "tsa")
	for sources, words := range map[string]string{
		two + "c.example":       "clock_sources[2]: source of time: expected ntp://",
		two + "ntp://A.EXAMPLE": "named twice",
		two[:len(two)-1]:        "three or more",
		"":                      "--clock-source: expected three or more",
	} {
		out, err := exec.Command("trialogd", "timestamp", "init", "--dir", tsa, "--clock-source", sources).CombinedOutput()
		if _, statErr := os.Stat(tsa); err == nil || !strings.Contains(string(out), words) || !errors.Is(statErr, fs.ErrNotExist) {
			t.Errorf("%q: %v, the folder: %v\n%s", sources, err, statErr, out)
		}
	}
	// A certificate may come later.
	later := "rfc3161+https://tsa.example/a&b#later.pem"
	out, err := exec.Command("trialogd", "timestamp", "init", "--dir", tsa, "--clock-source", two+later).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Put "+filepath.Join(tsa, "later.pem")) {
		t.Errorf("%v\n%s", err, out)
	}
	edit(t, filepath.Join(tsa, timestampConfig), "tsa.example/a&b", "tsa.example") // written as it was said
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
