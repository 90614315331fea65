package sequencer

import (
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/trialog/trialog/services/sequencer/ledger"
)

// TestLedgerIsBound: a ledger is used if the root of its log or, where it does not
// say that, the last leaf is the store's.
func TestLedgerIsBound(t *testing.T) {
	g := newGrown(t, "a")
	head := g.seq.Checkpoint().Checkpoint()
	for name, tt := range map[string]struct {
		root, leaf [32]byte
		anew       bool
	}{
		"its root":               {head.Root, [32]byte{1}, false},
		"another root":           {[32]byte{1}, [32]byte{}, true},
		"another leaf":           {[32]byte{}, [32]byte{1}, true},
		"neither root nor leaf":  {[32]byte{}, [32]byte{}, true},
		"as the log has left it": {anew: false},
	} {
		g.restore(t, g.copies[2], "register", "store", "tiles", "ledger")
		if name != "as the log has left it" {
			book, err := ledger.Open(filepath.Join(g.dir, "ledger"), nil)
			if err != nil {
				t.Fatal(err)
			}
			c := book.Change()
			c.Reached(tt.root)
			c.Ends(tt.leaf)
			if err := errors.Join(c.Commit(), book.Close()); err != nil {
				t.Fatal(err)
			}
		}
		var lines lockedLines
		g.wrap = func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&lines, nil)) }
		if err := errors.Join(g.start(), g.halt()); err != nil {
			t.Fatal(err)
		}
		if anew := lines.count("made again") == 1; anew != tt.anew {
			t.Errorf("%s: made again: %t", name, anew)
		}
		sameLedger(t, filepath.Join(g.copies[2], "ledger"), filepath.Join(g.dir, "ledger"), g.world)
	}
}
