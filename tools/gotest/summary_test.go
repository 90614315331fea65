package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// suite is a module whose tests pass, fail, skip themselves or crash, as their names say.
func suite(t *testing.T, tests string) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"go.mod":       "module example.org/suite\n\ngo 1.26\n",
		"some_test.go": "package suite\n\nimport \"testing\"\n\n" + tests,
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	passes = "func TestPass(t *testing.T) { t.Log(\"quiet words\"); t.Run(\"sub\", func(*testing.T) {}) }\n"
	fails  = "func TestFail(t *testing.T) { t.Error(\"loud words\") }\n"
	skips  = "func TestSkip(t *testing.T) { t.Skip(\"no curl\") }\n"
	child  = "func TestKillChild(t *testing.T) { t.Skip(\"run by TestKill\") }\n"
	panics = "func TestPanic(t *testing.T) { var p *int; t.Log(\"last words\"); *p = 1 }\n"
)

// TestRun runs the real go test on small suites.
func TestRun(t *testing.T) {
	cases := []struct {
		name, tests string
		flags       []string
		wantErr     string // part of the error, "" for none
		want        []string
		not         string
	}{
		{"passes", passes, []string{"-complete"}, "", []string{"ok  \texample.org/suite", "\n2 passed, 0 failed, 0 skipped\n"}, "quiet words"},
		{"fails", passes + fails, nil, "running go test", []string{"loud words", "\n2 passed, 1 failed, 0 skipped\n"}, "quiet words"},
		{"skip allowed", passes + skips, nil, "", []string{"left out: example.org/suite TestSkip: some_test.go:6: no curl\n", "2 passed, 0 failed, 1 skipped\n"}, ""},
		{"skip refused", passes + skips, []string{"-complete"}, "1 tests were left out", []string{"no curl"}, ""},
		{"child", passes + child, []string{"-complete"}, "", []string{"2 passed, 0 failed, 0 skipped\n"}, "left out"},
		{"nothing runs", "var _ testing.TB\n", nil, "no test ran", []string{"0 passed, 0 failed, 0 skipped\n"}, ""},
		{"all skip", skips, nil, "no test ran", []string{"0 passed, 0 failed, 1 skipped\n"}, ""},
		{"does not compile", "func TestX(t *testing.T) { nothing() }\n", nil, "running go test", []string{"undefined: nothing", "0 passed"}, ""},
		{"crashes", passes + panics, nil, "running go test", []string{"last words", "nil pointer", "2 passed, 1 failed, 0 skipped\n"}, "quiet words"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(suite(t, c.tests))
			var stdout, stderr bytes.Buffer
			err := run(t.Context(), append(c.flags, "--", "-vet=off", "./..."), &stdout, &stderr)
			if (err == nil) != (c.wantErr == "") || err != nil && !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("error %v, want one with %q\n%s%s", err, c.wantErr, &stdout, &stderr)
			}
			for _, want := range c.want {
				if !strings.Contains(stdout.String()+stderr.String(), want) {
					t.Errorf("no %q in:\n%s%s", want, &stdout, &stderr)
				}
			}
			if c.not != "" && strings.Contains(stdout.String(), c.not) {
				t.Errorf("%q is in:\n%s", c.not, &stdout)
			}
		})
	}
}
