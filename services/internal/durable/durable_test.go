package durable

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var errDisk = errors.New("disk on fire")

// TestWriteNewIsDurable: the file is synced, then the folder that has its name,
// and for each new folder the one above it.
func TestWriteNewIsDurable(t *testing.T) {
	dir := t.TempDir()
	var synced []string
	d := disk{func(f *os.File) error {
		name, err := filepath.Rel(dir, f.Name())
		synced = append(synced, name)
		return err
	}}
	for _, c := range []struct {
		path string
		want []string
	}{
		{"a/b/one", []string{".", "a", "a/b/one.new", "a/b"}},
		{"a/b/two", []string{"a/b/two.new", "a/b"}},
		{"three", []string{"three.new", "."}},
	} {
		synced = nil
		if err := d.writeNew(filepath.Join(dir, c.path), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(synced, c.want) {
			t.Errorf("%s: synced %q, want %q", c.path, synced, c.want)
		}
	}
	if err := d.writeNew(filepath.Join(dir, "three"), []byte("y"), 0o600); !errors.Is(err, os.ErrExist) {
		t.Errorf("a file that is there: %v", err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "three")); err != nil || string(raw) != "x" {
		t.Errorf("now it holds %q, %v", raw, err)
	}
	for _, folder := range []string{"a", "a/b"} {
		if info, err := os.Stat(filepath.Join(dir, folder)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", folder, info.Mode(), err)
		}
	}
}

// TestWriteNewFails: each sync that fails is told.
func TestWriteNewFails(t *testing.T) {
	for n := range 4 {
		left := n
		d := disk{func(*os.File) error {
			left--
			if left < 0 {
				return errDisk
			}
			return nil
		}}
		if err := d.writeNew(filepath.Join(t.TempDir(), "a", "b", "one"), []byte("x"), 0o600); !errors.Is(err, errDisk) {
			t.Errorf("sync %d fails: %v", n, err)
		}
	}
}
