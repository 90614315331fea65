package secret

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const canary = "SECRETcanary"

func write(t *testing.T, content string, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	// As it is said, whatever the umask.
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestModes: nobody but the owner and the group may have any permission.
func TestModes(t *testing.T) {
	for mode := fs.FileMode(0o400); mode <= 0o777; mode++ {
		if mode&0o400 == 0 {
			continue // not even ours to read; root reads it nevertheless
		}
		path := write(t, canary+"\n", mode)
		got, err := Read(path)
		if mode&0o007 == 0 {
			if err != nil || string(got) != canary+"\n" {
				t.Errorf("%o: %q, %v", mode, got, err)
			}
			continue
		}
		if err == nil || got != nil || !strings.Contains(err.Error(), "expected 0600 or 0640") || !strings.Contains(err.Error(), path) {
			t.Errorf("%o: %q, %v", mode, got, err)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("%o: the error shows the secret: %v", mode, err)
		}
	}
}

func TestRejects(t *testing.T) {
	dir := t.TempDir()
	pipe, link, dangling := filepath.Join(dir, "pipe"), filepath.Join(dir, "link"), filepath.Join(dir, "dangling")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink(write(t, canary, 0o604), link), os.Symlink("nowhere", dangling)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, words string
		is          error
	}{
		{filepath.Join(dir, "none"), "no such file", fs.ErrNotExist},
		{dangling, "no such file", fs.ErrNotExist},
		{dir, "expected a regular file", nil},
		{pipe, "expected a regular file", nil},
		{os.DevNull, "expected a regular file", nil},
		{link, "is open to everybody", nil},
		{write(t, strings.Repeat("x", MaxSize+1), 0o600), "more than 65536 bytes", nil},
	} {
		got, err := Read(c.path)
		if got != nil || err == nil || !strings.Contains(err.Error(), c.words) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %q, %v, want %q", c.path, got, err, c.words)
		}
		if errors.Is(err, fs.ErrNotExist) && c.is == nil {
			t.Errorf("%s: is taken for a file that is not there: %v", c.path, err)
		}
	}
}

// TestAccepts: a Kubernetes secret is a link, and the largest file is allowed.
func TestAccepts(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(write(t, canary, 0o440), link); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(link); err != nil || string(got) != canary {
		t.Errorf("link: %q, %v", got, err)
	}
	whole := strings.Repeat("x", MaxSize)
	if got, err := Read(write(t, whole, 0o600)); err != nil || !bytes.Equal(got, []byte(whole)) {
		t.Errorf("the largest file: %d bytes, %v", len(got), err)
	}
	if got, err := Read(write(t, "", 0o600)); err != nil || len(got) != 0 {
		t.Errorf("an empty file: %q, %v", got, err)
	}
}
