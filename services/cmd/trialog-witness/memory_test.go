package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/signing"
	"github.com/trialog/trialog/services/witness/command"
)

const (
	loadLogs = 1000
	// maxWitnessKB is what a witness of so many logs may have in memory.
	maxWitnessKB = 64 << 10
)

// loadedLog is a log that has one entry, and then two.
type loadedLog struct {
	origin string
	keys   []*checkpoint.SigningKey
	leaf   [32]byte
}

// request is the one that brings the log to size 1, or from there to 2.
func (l *loadedLog) request(t testing.TB, size uint64) []byte {
	t.Helper()
	c := checkpoint.Checkpoint{Origin: l.origin, Size: 1, Root: l.leaf}
	head := "old 0\n\n"
	if size == 2 {
		more := rfc6962.DefaultHasher.HashLeaf([]byte("second"))
		c.Size, c.Root = 2, checkpoint.Hash(rfc6962.DefaultHasher.HashChildren(l.leaf[:], more))
		head = "old 1\n" + base64.StdEncoding.EncodeToString(more) + "\n\n"
	}
	note, err := checkpoint.SignLog(c, uint64(time.Now().Unix()), l.keys...)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte(head), note.Bytes()...)
}

// loaded makes a witness of many logs, each with both kinds of keys. It returns
// the path of its configuration and the address that it will listen at.
func loaded(t testing.TB, n int) (path, address string, logs []*loadedLog) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "witness.json")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := config.Witness{
		Listen: listener.Addr().String(), Name: "witness.test/load", StateFile: "witness.state",
		KeyFiles: []string{"ed25519.key", "mldsa44.key"},
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for _, k := range command.KeyKinds() {
		if _, err := signing.MakeNoteKey(filepath.Join(dir, k.Suffix+".key"), c.Name, k.Algorithm); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		l := &loadedLog{origin: fmt.Sprintf("log-%d.test/2026", i), leaf: sha256.Sum256(fmt.Appendf([]byte{0}, "first %d", i))}
		followed := config.WitnessLog{Origin: l.origin, Rate: &config.WitnessRate{PerMinute: 600, Burst: 10}}
		for _, alg := range []checkpoint.Algorithm{checkpoint.AlgEd25519, checkpoint.AlgMLDSA44} {
			k, err := checkpoint.GenerateKey(rand.Reader, l.origin, alg)
			if err != nil {
				t.Fatal(err)
			}
			l.keys = append(l.keys, k)
			followed.Keys = append(followed.Keys, k.Verifier().String())
		}
		c.Logs, logs = append(c.Logs, followed), append(logs, l)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, c.Listen, logs
}

// realWitness runs the program as it is handed out, and returns its process id
// when it listens.
func realWitness(t *testing.T, address string, args ...string) (pid int) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // the context has ended by then
	dialer := net.Dialer{}
	deadline := time.After(time.Minute)
	for {
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
			return cmd.Process.Pid
		}
		select {
		case <-deadline:
			t.Fatalf("it does not listen: %v", err)
		case <-time.After(10 * time.Millisecond): // between two looks
		}
	}
}

// sendAll sends one request of each, some at a time, and wants two lines from all.
func sendAll(t testing.TB, url string, requests [][]byte) {
	t.Helper()
	const atOnce = 8
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atOnce}}
	defer client.CloseIdleConnections()
	next := make(chan []byte)
	var work sync.WaitGroup
	for range atOnce {
		work.Go(func() {
			for body := range next {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/add-checkpoint", bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					continue
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					continue
				}
				answer, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if lines := bytes.Count(answer, []byte("\n")); err != nil || resp.StatusCode != http.StatusOK || lines != 2 {
					t.Errorf("status %d, %d lines, %v: %.200s", resp.StatusCode, lines, err, answer)
				}
			}
		})
	}
	for _, body := range requests {
		next <- body
	}
	close(next)
	work.Wait()
}

// memoryOf reads one line of a process's status, in kB.
func memoryOf(t testing.TB, pid int, line string) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(raw)) {
		if fields := strings.Fields(l); len(fields) == 3 && fields[0] == line+":" {
			kb, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatalf("no %s in the status of the process", line)
	return 0
}

// TestMemory: the real program, with a thousand logs, each of which has two
// checkpoints cosigned by both of its keys, never has more than 64 MB.
func TestMemory(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("builds the program, and reads /proc")
	}
	path, address, logs := loaded(t, loadLogs)
	pid := realWitness(t, address, "--config", path, "--log-level", "error")
	t.Logf("after the start: %d kB, of which %d kB are the program's file", memoryOf(t, pid, "VmRSS"), memoryOf(t, pid, "RssFile"))
	for size := uint64(1); size <= 2; size++ {
		requests := make([][]byte, len(logs))
		for i, l := range logs {
			requests[i] = l.request(t, size)
		}
		begin := time.Now()
		sendAll(t, "http://"+address, requests)
		t.Logf("size %d: %.0f add-checkpoint/s", size, float64(len(requests))/time.Since(begin).Seconds())
	}
	t.Logf("at the end: %d kB, of which %d kB are the heap and stacks", memoryOf(t, pid, "VmRSS"), memoryOf(t, pid, "RssAnon"))
	if most := memoryOf(t, pid, "VmHWM"); most > maxWitnessKB {
		t.Errorf("the witness had %d kB in memory, expected at most %d", most, maxWitnessKB)
	}
}
