package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoregistry"
)

// TestCommitted holds the committed files to the linked modules.
func TestCommitted(t *testing.T) {
	var out strings.Builder
	if err := run([]string{"-check", "-dir", "proto"}, &out); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
}

// TestPrintAllIsClosed shows that nothing printed imports what is not printed, but for the
// types that every proto compiler brings itself, which are never printed.
func TestPrintAllIsClosed(t *testing.T) {
	texts, err := printAll(protoregistry.GlobalFiles, roots())
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range roots() {
		if texts[root] == "" {
			t.Errorf("%s is not printed", root)
		}
	}
	imported := regexp.MustCompile(`(?m)^import "(.*)";$`)
	seen := 0
	for name, text := range texts {
		if strings.HasPrefix(name, compilerOwned) {
			t.Errorf("%s is printed", name)
		}
		for _, match := range imported.FindAllStringSubmatch(text, -1) {
			seen++
			if _, printed := texts[match[1]]; !printed && !strings.HasPrefix(match[1], compilerOwned) {
				t.Errorf("%s imports %s, which is not printed", name, match[1])
			}
		}
	}
	if seen == 0 {
		t.Error("no import was seen")
	}
}

// TestPrintAllRefuses names a file that no linked package registers.
func TestPrintAllRefuses(t *testing.T) {
	if _, err := printAll(protoregistry.GlobalFiles, []string{"nobody/has/this.proto"}); err == nil {
		t.Error("an unknown file gives no error")
	}
}

// TestCheckAndRepair breaks a written folder in each way, and shows that the check names the
// file and that writing again mends it.
func TestCheckAndRepair(t *testing.T) {
	const victim, stray = "google/rpc/status.proto", "google/api/stray.proto"
	cases := []struct {
		name   string
		damage func(dir string) error
		want   string
	}{
		{"missing", func(dir string) error { return os.Remove(filepath.Join(dir, victim)) }, "missing: " + victim},
		{"different", func(dir string) error { return os.WriteFile(filepath.Join(dir, victim), []byte("x"), 0o600) }, "different: " + victim},
		{"superfluous", func(dir string) error { return os.WriteFile(filepath.Join(dir, stray), nil, 0o600) }, "superfluous: " + stray},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "proto")
			if err := run([]string{"-dir", dir}, io.Discard); err != nil {
				t.Fatal(err)
			}
			if err := run([]string{"-check", "-dir", dir}, io.Discard); err != nil {
				t.Fatalf("freshly written: %v", err)
			}
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			if err := run([]string{"-check", "-dir", dir}, &out); !errors.Is(err, ErrStale) || out.String() != c.want+"\n" {
				t.Errorf("error %v, output %q, want %q", err, &out, c.want)
			}
			if err := run([]string{"-dir", dir}, io.Discard); err != nil {
				t.Fatal(err)
			}
			if err := run([]string{"-check", "-dir", dir}, io.Discard); err != nil {
				t.Errorf("written again: %v", err)
			}
		})
	}
}

// TestRunRefuses gives arguments that mean nothing.
func TestRunRefuses(t *testing.T) {
	if err := run([]string{"surplus"}, io.Discard); err == nil {
		t.Error("a surplus argument gives no error")
	}
	if err := run([]string{"-check", "-dir", filepath.Join(t.TempDir(), "none")}, io.Discard); err == nil {
		t.Error("a folder that is not there gives no error")
	}
}
