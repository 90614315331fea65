package ledger

import (
	"fmt"
	"testing"

	"github.com/trialog/trialog/api/statement"
)

// TestAbsentUntilWritten: what was looked for in vain is found once it is there,
// and not before, however often it was looked for.
func TestAbsentUntilWritten(t *testing.T) {
	l := open(t, t.TempDir())
	defer l.Close()
	begin(t, l)
	writer := statement.KeyID{1}
	look := func(want bool) {
		t.Helper()
		for range 2 {
			trial, err := l.Trial("T1")
			if err != nil || (trial != nil) != want {
				t.Errorf("trial %v, %v; expected it there: %v", trial, err, want)
			}
			head, err := l.Chain("T1", writer)
			if err != nil || (head.Number > 0) != want {
				t.Errorf("head %v, %v; expected one: %v", head, err, want)
			}
		}
	}
	s := &statement.Statement{
		Kind: statement.KindTrial, Organisation: "acme", Trial: "T1",
		Signers: []statement.Signer{{Key: writer}}, Chain: statement.Link{Number: 1},
	}
	look(false)
	say(t, l, s)
	look(true)
	l.hot, l.warm = map[string][]byte{}, nil // as when much else was written since
	look(true)
	if err := l.Reset(); err != nil {
		t.Fatal(err)
	}
	look(false)
	begin(t, l)
	say(t, l, s)
	l.hot, l.warm = map[string][]byte{}, nil
	look(true)
}

// TestAbsentIsBounded: looking in vain for many things does not take more and
// more memory.
func TestAbsentIsBounded(t *testing.T) {
	l := open(t, t.TempDir())
	defer l.Close()
	for i := range 2*hotEntries + 10 {
		if trial, err := l.Trial(fmt.Sprint("T", i)); err != nil || trial != nil {
			t.Fatalf("trial %v, %v", trial, err)
		}
		if len(l.absent) > hotEntries {
			t.Fatalf("%d absences are remembered, expected at most %d", len(l.absent), hotEntries)
		}
	}
	if _, found, err := l.Find(statement.Identity{1}); err != nil || found {
		t.Errorf("found %v, %v", found, err)
	}
	if _, ok := l.absent[string(digestKey(tableIdentity, statement.Identity{1}))]; ok {
		t.Error("the absence of an identity is remembered, of which there are as many as statements")
	}
}
