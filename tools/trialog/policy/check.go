// Package policy says in plain words what a policy asks for, and what is wrong or
// unwise with one.
package policy

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// Problem is something because of which a policy is none.
type Problem struct {
	Half   Half
	Line   int    // from 1; 0 if it is not one line's
	Member string // of the sidecar, as a path; empty in the policy's first half
	Reason string
}

// Half is one of the two files of a policy.
type Half int

// The halves.
const (
	Text    Half = iota // the tlog-policy
	Sidecar             // the JSON file beside it
)

// Check reads a policy. It returns every problem of the first half, then the first
// one of the sidecar, which is only looked at behind a first half without any; or
// the policy.
func Check(text, sidecar []byte) (*verify.Policy, []Problem) {
	if problems := checkText(text); len(problems) > 0 {
		return nil, problems
	}
	p, err := verify.ParsePolicy(text, sidecar)
	if err == nil {
		return p, nil
	}
	problem := Problem{Half: Sidecar, Reason: err.Error()}
	if field, ok := errors.AsType[*statement.FieldError](err); ok {
		problem.Member, problem.Reason = field.Field, field.Reason
		problem.Line = lineOf(sidecar, field.Field)
	}
	return nil, []Problem{problem}
}

// maxProblems is how many lines of one file are named: the text is read again behind
// each, and whoever has that many faults is helped no further.
const maxProblems = 100

// checkText returns every problem of the first half, up to maxProblems. Behind each, the line is taken
// for a comment and the rest is read again; lines that are wrong only because they
// name what a wrong line was to define are passed over.
func checkText(text []byte) []Problem {
	var problems []Problem
	lines := bytes.SplitAfter(text, []byte("\n"))
	lost := map[string]bool{} // names that wrong lines were to define
	quorum := false           // a quorum line was wrong
	for range maxProblems {
		_, err := checkpoint.ParsePolicy(bytes.Join(lines, nil))
		var format *checkpoint.FormatError
		if !errors.As(err, &format) {
			return problems
		}
		if format.Line == 0 {
			if !quorum {
				problems = append(problems, Problem{Reason: format.Reason})
			}
			return problems
		}
		wrong := strings.Fields(string(lines[format.Line-1]))
		follows := false
		quorum = quorum || len(wrong) > 0 && wrong[0] == "quorum"
		if len(wrong) > 1 {
			rest := wrong[2:]
			if wrong[0] == "quorum" {
				rest = wrong[1:]
			}
			follows = strings.Contains(format.Reason, "no line above defines") &&
				slices.ContainsFunc(rest, func(name string) bool { return lost[name] })
			lost[wrong[1]] = lost[wrong[1]] || wrong[0] == "witness" || wrong[0] == "group"
		}
		if !follows {
			problems = append(problems, Problem{Line: format.Line, Reason: format.Reason})
		}
		lines[format.Line-1] = []byte("#\n")
	}
	return problems
}

// lineOf returns the line of a sidecar in which a member stands, by its path; 0 if
// it cannot be found. It goes down the path by the members' names, and along arrays
// by counting no further than their name: near enough for a person.
func lineOf(sidecar []byte, path string) int {
	at := 0
	found := false
	for _, name := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		i := bytes.Index(sidecar[at:], []byte(`"`+name+`"`))
		if i < 0 {
			continue
		}
		at, found = at+i, true
	}
	if !found {
		return 0
	}
	return bytes.Count(sidecar[:at], []byte("\n")) + 1
}
