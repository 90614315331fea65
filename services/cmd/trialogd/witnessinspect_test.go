package main

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/services/config"
)

// trialogd runs the program and returns what it printed.
func trialogd(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	root := newRoot(&program{now: time.Now})
	root.SetArgs(args)
	root.SetOut(&out)
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out.String()
}

// signedTree is a note of the log's first shard, of one leaf.
func signedTree(t *testing.T, l layout, s *config.Log, leaf string) []byte {
	t.Helper()
	var keys []*checkpoint.SigningKey
	for _, file := range []string{logKeyEd25519, logKeyMLDSA} {
		k, err := readLogKey(filepath.Join(s.Shards[0].Under(l.dir).Keys, file))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	root := sha256.Sum256(append([]byte{0}, leaf...))
	note, err := checkpoint.SignLog(checkpoint.Checkpoint{Origin: s.Shards[0].Origin, Size: 1, Root: root}, uint64(time.Now().Unix()), keys...)
	if err != nil {
		t.Fatal(err)
	}
	return note.Bytes()
}

// TestWitnessInspected: the running witness says how it stands, and hands out what
// it keeps as files that anybody can check; so does its state file afterwards.
func TestWitnessInspected(t *testing.T) {
	l, s := newData(t)
	path := l.witness(1, "witness.json")
	out := filepath.Join(t.TempDir(), "evidence")
	t.Run("running", func(t *testing.T) {
		startWitnesses(t, l, s)
		await(t, "the witness cosigns", func() bool {
			return postTo(t, s.Witnesses[0], "old 0\n\n", signedTree(t, l, s, "one")) == http.StatusOK
		})
		if got := postTo(t, s.Witnesses[0], "old 1\n\n", signedTree(t, l, s, "other")); got != http.StatusUnprocessableEntity {
			t.Fatalf("a fork: status %d", got)
		}
		status := trialogd(t, "witness", "status", "--config", path)
		if !strings.Contains(status, s.Shards[0].Origin+"  cosigning  1") || strings.Contains(status, "No witness is running") {
			t.Errorf("status:\n%s", status)
		}
		if !strings.Contains(status, filepath.Base(l.logList())) {
			t.Errorf("the list is not in the status:\n%s", status)
		}
		if got := trialogd(t, "witness", "evidence", "--config", path, "--out", out); !strings.Contains(got, evidence.Ending) {
			t.Errorf("evidence: %s", got)
		}
		// What is written is not written again.
		if got := trialogd(t, "witness", "evidence", "--config", path, "--out", out); !strings.Contains(got, "no evidence") {
			t.Errorf("once more: %s", got)
		}
	})
	if got := trialogd(t, "witness", "evidence", "--config", path, "--out", out); !strings.Contains(got, "no evidence") {
		t.Errorf("from the file, once more: %s", got)
	}
	files, err := filepath.Glob(filepath.Join(out, "*"+evidence.Ending))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	policy, err := readPolicyFiles(l.policy(), l.sidecar())
	if err != nil {
		t.Fatal(err)
	}
	found, err := evidence.Verify(raw, policy)
	if err != nil || !found.Conclusive || found.Kind != evidence.KindFork || found.By != s.Log+"/witness-1" {
		t.Errorf("%+v, %v", found, err)
	}
	if status := trialogd(t, "witness", "status", "--config", path); !strings.Contains(status, "No witness is running") {
		t.Errorf("status:\n%s", status)
	}
}

// postTo sends a checkpoint to a witness; 0 if it cannot be reached.
func postTo(t *testing.T, address, head string, note []byte) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/add-checkpoint",
		bytes.NewReader(append([]byte(head), note...)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}
