package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Summary counts the tests of one run, subtests included.
type Summary struct {
	Passed, Failed int
	Skipped        []Skip
}

// Skip is a test that left itself out.
type Skip struct{ Package, Test, Reason string }

// event is a line of `go test -json`; see `go doc test2json`.
type event struct {
	Action  string `json:"Action"`
	Package string `json:"Package"`
	Test    string `json:"Test"`
	Output  string `json:"Output"`
}

// name tells the tests of a run apart.
type name struct{ pkg, test string }

// Read reads the events of a run and prints to out what go test prints without -v: the
// lines of packages, and all that a failed test said.
func Read(events io.Reader, out io.Writer) (*Summary, error) {
	reader := &reader{out: out, said: make(map[name][]string)}
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			reader.line(line)
		}
		if errors.Is(err, io.EOF) {
			return &reader.summary, nil
		}
		if err != nil {
			return &reader.summary, fmt.Errorf("reading the events of go test: %w", err)
		}
	}
}

// reader is what is known in the middle of a run.
type reader struct {
	out     io.Writer
	said    map[name][]string // output of tests that have not ended
	summary Summary
}

// line takes one line in; what is no event is printed as it is.
func (r *reader) line(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil {
		fmt.Fprint(r.out, line)
		return
	}
	if e.Test == "" {
		r.packageEvent(e)
		return
	}
	at := name{e.Package, e.Test}
	switch e.Action {
	case "output":
		if !strings.HasPrefix(e.Output, "=== ") {
			r.said[at] = append(r.said[at], e.Output)
		}
		return
	case "pass":
		r.summary.Passed++
	case "fail":
		r.summary.Failed++
		fmt.Fprint(r.out, strings.Join(r.said[at], ""))
	case "skip":
		if !isChild(e.Test) {
			r.summary.Skipped = append(r.summary.Skipped, Skip{e.Package, e.Test, reason(r.said[at])})
		}
	default:
		return
	}
	delete(r.said, at)
}

// isChild says whether a test is only the other process of a test that kills or starves one:
// by convention TestChild… or Test…Child. Skipping itself when nobody started it as a child,
// it leaves nothing out.
func isChild(test string) bool {
	return strings.HasPrefix(test, "TestChild") || strings.HasSuffix(test, "Child") && !strings.Contains(test, "/")
}

// packageEvent prints the output of a package and of its build, but for what says nothing.
// When a package ends with a test still open (a crash, a time-out), that test's output is
// the reason and is printed.
func (r *reader) packageEvent(e event) {
	switch e.Action {
	case "output", "build-output":
		if e.Output != "PASS\n" && !strings.HasPrefix(e.Output, "?") {
			fmt.Fprint(r.out, e.Output)
		}
	case "fail":
		for at, output := range r.said {
			if at.pkg == e.Package {
				r.summary.Failed++
				fmt.Fprint(r.out, strings.Join(output, ""))
				delete(r.said, at)
			}
		}
	}
}

// reason is what a skipped test said, without the lines that the runner adds.
func reason(said []string) string {
	var words []string
	for _, line := range said {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "--- ") {
			words = append(words, line)
		}
	}
	return strings.Join(words, " ")
}

// Print writes what was left out and the closing line.
func (s *Summary) Print(out io.Writer) {
	for _, skip := range s.Skipped {
		fmt.Fprintf(out, "left out: %s %s: %s\n", skip.Package, skip.Test, skip.Reason)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", s.Passed, s.Failed, len(s.Skipped))
}

// Verdict is nil if tests ran, none failed and, where all are wanted, none was left out.
func (s *Summary) Verdict(complete bool) error {
	switch {
	case s.Failed > 0:
		return fmt.Errorf("%d tests failed", s.Failed)
	case s.Passed == 0:
		return errors.New("no test ran")
	case complete && len(s.Skipped) > 0:
		return fmt.Errorf("%d tests were left out, and here nothing may be", len(s.Skipped))
	}
	return nil
}
