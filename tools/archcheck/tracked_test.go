package archcheck

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// maxTracked is the size of the largest file that belongs into the repository.
const maxTracked = 1 << 20

// TestNothingBuiltIsTracked: no program, and no file of its size, is committed.
func TestNothingBuiltIsTracked(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	names := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if len(names) < 100 {
		t.Fatalf("git lists %d files; is the folder right?", len(names))
	}
	for _, name := range names {
		raw, err := os.ReadFile(filepath.Join("..", "..", name))
		if os.IsNotExist(err) {
			continue // deleted, not committed yet
		}
		if err != nil {
			t.Error(err)
			continue
		}
		if len(raw) > maxTracked {
			t.Errorf("%s has %d bytes, expected at most %d", name, len(raw), maxTracked)
		}
		for _, magic := range []string{"\x7fELF", "\xcf\xfa\xed\xfe", "MZ\x90"} {
			if bytes.HasPrefix(raw, []byte(magic)) {
				t.Errorf("%s is a built program", name)
			}
		}
	}
}
