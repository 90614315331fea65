package timestamp

import (
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/trialog/trialog/api/receipt"
)

func (l *logged) receipt(serial string) ([]byte, error) {
	l.t.Helper()
	number, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		l.t.Fatalf("serial %q", serial)
	}
	return Receipt(l.config.Journal.Folder, number)
}

func serialIn(t testing.TB, record []byte) string {
	t.Helper()
	serial, err := serialOf(record)
	if err != nil {
		t.Fatal(err)
	}
	return serial
}

// TestStatePutBack: with an older copy of the state file, tokens are logged once
// more, and the receipts of the first time stay.
func TestStatePutBack(t *testing.T) {
	l := newLogged(t)
	l.issue(2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	older, err := os.ReadFile(l.config.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	l.open()
	l.issue(3)
	l.clock.pass(time.Hour)
	l.due()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.config.StateFile, older, 0o600); err != nil {
		t.Fatal(err)
	}
	l.open()
	l.due()
	if n := len(l.batches()); n != 2 {
		t.Fatalf("%d batches, expected the first two tokens in a second one", n)
	}
	for _, serial := range l.issued {
		raw, err := l.receipt(serial)
		if err != nil {
			t.Errorf("%s: %v", serial, err)
			continue
		}
		if r, err := receipt.Parse(raw); err != nil || serialIn(l.t, r.Record.Data) != serial {
			t.Errorf("%s: %v", serial, err)
		}
	}
}

// TestFolderNames: a folder is found whatever its name, and one that is not there
// is not taken for one without the token.
func TestFolderNames(t *testing.T) {
	l := newLogged(t)
	l.config.Journal.Folder = filepath.Join(t.TempDir(), "logged [1]*")
	if err := os.Mkdir(l.config.Journal.Folder, 0o700); err != nil {
		t.Fatal(err)
	}
	l.reopen()
	l.issue(1)
	l.clock.pass(time.Hour)
	l.due()
	if _, err := l.receipt(l.issued[0]); err != nil {
		t.Error(err)
	}
	l.config.Journal.Folder += "nowhere"
	if _, err := l.receipt(l.issued[0]); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotLogged) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// TestDamagedFolder: a file that cannot be read is not taken for one without the
// token.
func TestDamagedFolder(t *testing.T) {
	for name, content := range map[string]string{"cut off": "\x00\x00\x00\x09x", "no records": "\x00\x00\x00\x01x", "empty": ""} {
		l := newLogged(t)
		l.issue(1)
		l.clock.pass(time.Hour)
		l.due()
		list, err := os.ReadDir(l.config.Journal.Folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if filepath.Ext(e.Name()) == recordsEnding {
				if err := os.WriteFile(filepath.Join(l.config.Journal.Folder, e.Name()), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := l.receipt(l.issued[0]); err == nil || errors.Is(err, ErrNotLogged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
