package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/trialog/trialog/api/timestamp"
)

// shiftedAuthority is a time-stamp authority in a process of its own, whose clock
// the test sets, and whose sources of time have the machine's.
type shiftedAuthority struct {
	t      *testing.T
	offset string // file
	url    string
	anchor *x509.Certificate
	issued int
}

func newShiftedAuthority(t *testing.T) *shiftedAuthority {
	t.Helper()
	data := os.Getenv("TRIALOG_TESTDATA")
	if data == "" {
		t.Skip("TRIALOG_TESTDATA does not name the folder of outside test data")
	}
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("cc is not installed")
	}
	dir := t.TempDir()
	shifter := filepath.Join(dir, "clockshift")
	if out, err := exec.Command("cc", "-O2", "-o", shifter, filepath.Join(data, "..", "tools", "clockshift.c")).CombinedOutput(); err != nil {
		t.Fatalf("build clockshift: %v\n%s", err, out)
	}
	a := &shiftedAuthority{t: t, offset: filepath.Join(dir, "offset")}
	a.shift(0)
	tsa := filepath.Join(dir, "tsa")
	out, err := exec.Command("trialogd", "timestamp", "init", "--dir", tsa, "--listen", "127.0.0.1:0",
		"--clock-source", ntpServer(t)+","+ntpServer(t)+","+ntpServer(t)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	a.anchor = lastCertificate(t, filepath.Join(tsa, unitChain))
	cmd := exec.Command(shifter, a.offset, "trialogd", "timestamp", "--config", filepath.Join(tsa, timestampConfig))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // the authority ends with it
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stderr)
	for a.url == "" && lines.Scan() {
		t.Log(lines.Text())
		if _, address, ok := strings.Cut(lines.Text(), "address="); ok {
			a.url = "http://" + address
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	if a.url == "" {
		t.Fatal("the authority ended before it listened")
	}
	return a
}

func lastCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var last *x509.Certificate
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if last, err = x509.ParseCertificate(block.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	return last
}

// shift sets the authority's clock to the machine's and offset, at once.
func (a *shiftedAuthority) shift(offset time.Duration) {
	a.t.Helper()
	temp := a.offset + ".new"
	if err := errors.Join(os.WriteFile(temp, fmt.Appendf(nil, "%d", offset.Milliseconds()), 0o600), os.Rename(temp, a.offset)); err != nil {
		a.t.Fatal(err)
	}
}

// ask asks for a token once. Whatever comes, a token with a wrong time is an error:
// one that lies about when it was made by more than the accuracy it states.
func (a *shiftedAuthority) ask() (*api.Token, error) {
	a.t.Helper()
	digest, nonce := sha256.Sum256([]byte("a text")), big.NewInt(int64(a.issued)+1)
	query, err := api.NewRequest(digest, nonce, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	begin := time.Now()
	resp, err := http.Post(a.url, "application/timestamp-query", bytes.NewReader(query))
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	end := time.Now()
	if err != nil {
		a.t.Fatal(err)
	}
	token, err := api.ParseResponse(reply)
	if err != nil {
		return nil, err
	}
	if err := token.Verify(a.anchor, api.Expect{Digest: digest, Nonce: nonce}); err != nil {
		a.t.Fatal(err)
	}
	a.issued++
	if token.Time.Before(begin.Add(-token.Accuracy)) || token.Time.After(end.Add(token.Accuracy)) || token.Accuracy > time.Second {
		a.t.Errorf("a token says %s ± %s, it was made between %s and %s", token.Time, token.Accuracy, begin, end)
	}
	return token, nil
}

// issues waits until a token comes.
func (a *shiftedAuthority) issues(when string) *api.Token {
	a.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		token, err := a.ask()
		if err == nil {
			return token
		}
	}
	a.t.Fatalf("%s: no token comes", when)
	return nil
}

// TestAuthorityClock: ±0.4 s still issues, and says so; from the moment at which
// the clock is off by 2 s no token leaves, and none with a wrong time ever does.
// When the clock is right again, it goes on by itself.
func TestAuthorityClock(t *testing.T) {
	a := newShiftedAuthority(t)
	a.issues("at first")
	for _, step := range []time.Duration{400 * time.Millisecond, -400 * time.Millisecond} {
		a.shift(step)
		token, err := a.ask()
		if err != nil || token.Accuracy < step.Abs() {
			t.Errorf("at %s: %+v, %v", step, token, err)
		}
	}
	for _, step := range []time.Duration{2 * time.Second, -2 * time.Second, time.Hour, -24 * time.Hour} {
		a.shift(step)
		for range 20 {
			_, err := a.ask()
			if refused, ok := errors.AsType[*api.StatusError](err); !ok || refused.Failure != api.TimeNotAvailable {
				t.Errorf("at %s: %v", step, err)
			}
		}
		a.shift(0)
		a.issues(fmt.Sprintf("behind a step of %s", step))
	}
	// Steps while tokens are being made: each is right, or does not come.
	for i := range 40 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.shift(time.Duration(i%5-2) * time.Second)
		}()
		for range 10 {
			_, _ = a.ask() // it says itself what is wrong
		}
		<-done
	}
	a.shift(0)
	a.issues("in the end")
	t.Logf("%d tokens", a.issued)
}

// ntpServer is a server of the Network Time Protocol with the machine's time.
func ntpServer(t *testing.T) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		question := make([]byte, 48)
		for {
			n, from, err := conn.ReadFrom(question)
			if err != nil {
				return
			}
			if n < len(question) {
				continue
			}
			asked.Add(1)
			answer := make([]byte, 48) // RFC 5905, section 7.3
			answer[0], answer[1], answer[3] = 4<<3|4, 1, 0xec
			copy(answer[12:], "TEST")
			copy(answer[24:32], question[40:48])
			now := time.Now()
			stamp := uint64(now.Unix()+2_208_988_800)<<32 | uint64(now.Nanosecond())<<32/uint64(time.Second)
			for _, at := range []int{16, 32, 40} {
				binary.BigEndian.PutUint64(answer[at:], stamp)
			}
			_, _ = conn.WriteTo(answer, from)
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
		if asked.Load() == 0 {
			t.Error("a source of time was never asked")
		}
	})
	return "ntp://" + conn.LocalAddr().String()
}
