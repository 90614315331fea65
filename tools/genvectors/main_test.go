package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestWrite writes the vectors over an old state, whose other files go.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	if err := write(dir); err == nil {
		t.Error("a folder that holds no vectors is written to")
	}
	stale := filepath.Join(dir, "files", "stale")
	if err := os.MkdirAll(filepath.Dir(stale), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{stale, filepath.Join(dir, "index.json")} {
		if err := os.WriteFile(path, []byte("[]"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("a stale file is left: %v", err)
	}
	want, err := os.ReadFile("../../api/vectors/index.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the list differs from the one in the tree: %v", err)
	}
}
