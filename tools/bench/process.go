package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Times after which a program is taken to hang, and then killed.
const (
	patience = 5 * time.Minute
	grace    = 10 * time.Second
)

// build builds everything that is measured, so that no compiler runs meanwhile.
func (s *session) build(ctx context.Context) error {
	s.bin = filepath.Join(s.dir, "bin")
	if err := os.Mkdir(s.bin, 0o755); err != nil {
		return err
	}
	s.sayf("building")
	for _, args := range [][]string{
		// As `make build` builds it: Pebble, for one, keeps its cache elsewhere with cgo.
		{
			"CGO_ENABLED=0", "go", "build", "-trimpath", "-o", s.bin + "/",
			"./services/cmd/trialogd", "./services/cmd/trialog-bench", "./tools/hammer",
		},
		{"go", "-C", "tools/peers", "build", "-trimpath", "-o", s.bin + "/", "./tessera", "./trillian"},
		{"go", "test", "-c", "-trimpath", "-o", filepath.Join(s.bin, "verify.test"), "./api/verify"},
	} {
		if _, err := s.output(ctx, "env", args...); err != nil {
			return err
		}
	}
	dir, err := s.output(ctx, "go", "-C", "tools/peers", "list", "-m", "-f", "{{.Dir}}", "github.com/google/trillian")
	s.schema = filepath.Join(strings.TrimSpace(string(dir)), "storage", "postgresql", "schema", "storage.sql")
	return err
}

// command prepares a program, whose end is asked for when ctx ends, and made
// sure of a little later. It does not outlive this process.
func command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // programs that were built or found here
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	// Its own group: an interrupt from the keyboard reaches this process only,
	// which then ends the others in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	return cmd
}

// output runs a program to its end and returns what it prints.
func (s *session) output(ctx context.Context, program string, args ...string) ([]byte, error) {
	return s.outputWithin(ctx, patience, program, args...)
}

func (s *session) outputWithin(ctx context.Context, limit time.Duration, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := command(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(program), err, s.without(tail(errs.String())))
	}
	return out.Bytes(), nil
}

// child runs a program of ours that measures and prints one JSON object.
func (s *session) child(ctx context.Context, program string, args ...string) (*measured, error) {
	return s.childWithin(ctx, patience, program, args...)
}

func (s *session) childWithin(ctx context.Context, limit time.Duration, program string, args ...string) (*measured, error) {
	out, err := s.outputWithin(ctx, limit, filepath.Join(s.bin, program), args...)
	if err != nil {
		return nil, err
	}
	var m measured
	if err := json.Unmarshal(out, &m); err != nil {
		return nil, fmt.Errorf("%s: its output: %w", program, err)
	}
	if len(m.Figures) == 0 {
		return nil, errors.New(program + ": it measured nothing")
	}
	return &m, nil
}

// without takes the path of the temporary folder out of a text.
func (s *session) without(text string) string { return strings.ReplaceAll(text, s.dir, "…") }

// tail returns the last few lines.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	const most = 8
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// firstLine is an error as it is shown in a table.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// brief lists the figures that matter at a glance.
func brief(f map[string]float64) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if name != "seconds" {
			words = append(words, fmt.Sprintf("%s=%.5g", name, f[name]))
		}
	}
	return strings.Join(words, " ")
}
