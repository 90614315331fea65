package tilehttp

import (
	"fmt"
	"testing"
)

// FuzzParseTail: a name that is understood has one spelling.
func FuzzParseTail(f *testing.F) {
	for _, name := range []string{"entries-0", "0-0", "7-72057594037927935", "entries-1-0", "8-0", "00-0", "0-00", "head", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		p, ok := parseTail(name)
		if !ok {
			return
		}
		again := fmt.Sprintf("%d-%d", p.Level, p.Index)
		if p.Entries {
			again = fmt.Sprintf("entries-%d", p.Index)
		}
		if again != name {
			t.Errorf("%q is understood as %q", name, again)
		}
	})
}
