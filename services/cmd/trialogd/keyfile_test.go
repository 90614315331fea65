package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/signing"
)

// keyFolder is a folder of keys of which a test changes what it likes.
type keyFolder struct {
	t   *testing.T
	dir string
}

func (f keyFolder) path(name string) string { return filepath.Join(f.dir, name) }

func (f keyFolder) write(name, content string) {
	f.t.Helper()
	if err := os.WriteFile(f.path(name), []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f keyFolder) remove(name string) {
	f.t.Helper()
	if err := os.Remove(f.path(name)); err != nil {
		f.t.Fatal(err)
	}
}

func testNoteKey(t *testing.T, n byte) *checkpoint.SigningKey {
	t.Helper()
	k, err := checkpoint.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{n}, 32)), "log.test/t/2026", checkpoint.AlgEd25519)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestReadLogKey: from its file, from where the reference file says, and from
// nowhere else.
func TestReadLogKey(t *testing.T) {
	f := keyFolder{t, t.TempDir()}
	path := f.path(logKeyEd25519)
	want := testNoteKey(t, 1)
	reads := func(about string) {
		t.Helper()
		k, err := readLogKey(path)
		if err != nil || k.Verifier().String() != want.Verifier().String() {
			t.Errorf("%s: %v, %v", about, k, err)
		}
		v, err := readLogVerifier(path)
		if err != nil || v.String() != want.Verifier().String() {
			t.Errorf("%s: verifier %v, %v", about, v, err)
		}
	}
	refuses := func(about, words string, missing bool) {
		t.Helper()
		for _, read := range []func() error{
			func() error { _, err := readLogKey(path); return err },
			func() error { _, err := readLogVerifier(path); return err },
		} {
			err := read()
			if err == nil || !strings.Contains(err.Error(), words) || errors.Is(err, fs.ErrNotExist) != missing {
				t.Errorf("%s: %v", about, err)
			} else if strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("%s: the error shows a key: %v", about, err)
			}
		}
	}
	// Who finds neither may make a new key.
	refuses("nothing there", "no such file", true)
	f.write(logKeyEd25519, want.Encode()+"\n")
	reads("a file")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	refuses("a file for everybody", "expected 0600", false)

	f.write("elsewhere", want.Encode()+"\n")
	f.write("log-ed25519.ref", want.Verifier().String()+"\nelsewhere\n")
	refuses("both", "are both there", false)
	f.remove(logKeyEd25519)
	reads("a reference")
	f.write("log-ed25519.ref", "nonsense\n")
	refuses("a broken reference", "expected two lines", false)

	// What only the key itself tells.
	f.write("log-ed25519.ref", testNoteKey(t, 2).Verifier().String()+"\nelsewhere\n")
	if _, err := readLogKey(path); !errors.Is(err, signing.ErrOtherKey) {
		t.Errorf("another key: %v", err)
	}
	f.write("log-ed25519.ref", want.Verifier().String()+"\nnowhere\n")
	if _, err := readLogKey(path); err == nil || errors.Is(err, fs.ErrNotExist) {
		// A new key in place of one that is elsewhere would be another log's.
		t.Errorf("a key that is missing where the reference says it is: %v", err)
	}
}

func TestReadKey(t *testing.T) {
	f := keyFolder{t, t.TempDir()}
	private, err := statement.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{3}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := private.EncodePEM()
	if err != nil {
		t.Fatal(err)
	}
	path := f.path(gatewayKey)
	reads := func(about string) {
		t.Helper()
		k, err := readKey(path)
		if err != nil || k.ID() != private.ID() {
			t.Fatalf("%s: %v, %v", about, k, err)
		}
		sig, err := k.Sign([]byte("m"))
		if err != nil || private.Public().Verify([]byte("m"), sig) != nil {
			t.Errorf("%s: %x, %v", about, sig, err)
		}
	}
	if _, err := readKey(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	f.write(gatewayKey, string(text))
	reads("a file")
	public := base64.StdEncoding.EncodeToString(private.Public().DER())
	f.write("elsewhere", string(text))
	f.write("gateway.ref", public+"\nelsewhere\n")
	if _, err := readKey(path); err == nil || !strings.Contains(err.Error(), "are both there") {
		t.Errorf("both: %v", err)
	}
	f.remove(gatewayKey)
	reads("a reference")
	f.write("gateway.ref", public+"\nnowhere\n")
	if _, err := readKey(path); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that is missing where the reference says it is: %v", err)
	}
	f.write("gateway.ref", testNoteKey(t, 1).Verifier().String()+"\nelsewhere\n")
	if _, err := readKey(path); err == nil || !strings.Contains(err.Error(), "got a verifier key") {
		t.Errorf("of a key for checkpoints: %v", err)
	}
	f.remove("gateway.ref")
	f.write(gatewayKey, "canary")
	if _, err := readKey(path); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("not a key: %v", err)
	}
}

// TestMakeLogKeys: no key is made in place of one that is elsewhere.
func TestMakeLogKeysReferenced(t *testing.T) {
	f := keyFolder{t, t.TempDir()}
	want := testNoteKey(t, 4)
	f.write("elsewhere", want.Encode()+"\n")
	f.write("log-ed25519.ref", want.Verifier().String()+"\nelsewhere\n")
	vkeys, err := makeLogKeys(f.dir, "log.test/t/2026")
	if err != nil || len(vkeys) != 2 || vkeys[0] != want.Verifier().String() {
		t.Errorf("%q, %v", vkeys, err)
	}
	if _, err := os.Stat(f.path(logKeyEd25519)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made: %v", err)
	}
	f.remove("elsewhere")
	if vkeys, err := makeLogKeys(f.dir, "log.test/t/2026"); err == nil {
		t.Errorf("%q were made in place of a missing one", vkeys)
	}
}
