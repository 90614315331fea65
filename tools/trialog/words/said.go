package words

import (
	"strconv"
	"strings"

	"github.com/trialog/trialog/api/statement"
)

// Said says what a statement is, whether or not its signer was verified.
func Said(s *statement.Statement) string {
	text := Kind(s.Kind) + version(s.Version)
	if s.Trial != "" {
		text += " of " + s.Trial
	}
	text += " by " + s.Organisation
	if s.Received != nil {
		text += ", received from " + s.Received.Principal
	}
	return text
}

// Attribute writes the value of a public detail. Hashes and keys are left out:
// ok is false for what a person could not read.
func Attribute(m statement.Member) (text string, ok bool) {
	v := m.Value
	switch {
	case v.Text != "":
		text = v.Text
	case len(v.Items) > 0:
		var parts []string
		for _, item := range v.Items {
			if len(item.Text) == 64 {
				return "", false
			}
			parts = append(parts, item.Text)
		}
		return strings.Join(parts, ", "), true
	default:
		return strconv.FormatInt(v.Number, 10), true
	}
	return text, len(text) <= 500 && !unreadable(text)
}

// unreadable tells whether a text is a digest or a key rather than words.
func unreadable(s string) bool {
	return len(s) >= 56 && !strings.ContainsAny(s, " ")
}
