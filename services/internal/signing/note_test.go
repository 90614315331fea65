package signing

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
)

const noteName = "log.example/2026"

func noteKey(t *testing.T, name string, alg checkpoint.Algorithm) *checkpoint.SigningKey {
	t.Helper()
	k, err := checkpoint.GenerateKey(bytes.NewReader(seeded(name+alg.String()).Seed()), name, alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func noteFile(t *testing.T, name string, alg checkpoint.Algorithm) string {
	t.Helper()
	return file(t, "note.key", []byte(noteKey(t, name, alg).Encode()+"\n"))
}

func TestOpenNoteKey(t *testing.T) {
	for _, alg := range []checkpoint.Algorithm{checkpoint.AlgEd25519, checkpoint.AlgEd25519Cosignature, checkpoint.AlgMLDSA44} {
		want := noteKey(t, noteName, alg).Verifier()
		path := noteFile(t, noteName, alg)
		for _, ref := range []string{path, "file:" + path} {
			k, closer, err := OpenNoteKey(t.Context(), ref, noteName, alg)
			if err != nil || k.Verifier().String() != want.String() || closer.Close() != nil {
				t.Errorf("%s: %v, %v", ref, k, err)
			}
		}
		if k, _, err := OpenCosignerKey(t.Context(), path, noteName); alg == checkpoint.AlgEd25519 {
			if k != nil || err == nil || !strings.Contains(err.Error(), "expected a witness's") {
				t.Errorf("a log's key for a witness: %v, %v", k, err)
			}
		} else if err != nil || k.Verifier().String() != want.String() {
			t.Errorf("%v: %v, %v", alg, k, err)
		}
	}
}

func TestOpenNoteKeyRejects(t *testing.T) {
	good := noteFile(t, noteName, checkpoint.AlgEd25519)
	wide := noteFile(t, noteName, checkpoint.AlgEd25519)
	if err := os.Chmod(wide, 0o606); err != nil {
		t.Fatal(err)
	}
	const hsm = "pkcs11:token=t;object=o?module-path=/m.so&pin-source=file:/p"
	secretLine := noteKey(t, noteName, checkpoint.AlgEd25519).Encode()
	for _, c := range []struct {
		ref   string
		name  string
		alg   checkpoint.Algorithm
		words string
	}{
		{good, "log.example/2027", checkpoint.AlgEd25519, `expected a key named "log.example/2027"`},
		{good, noteName, checkpoint.AlgMLDSA44, "expected one for ML-DSA-44"},
		{good, noteName, checkpoint.AlgEd25519Cosignature, "expected one for Ed25519 cosignature"},
		{wide, noteName, checkpoint.AlgEd25519, "expected 0600"},
		{filepath.Join(t.TempDir(), "none"), noteName, checkpoint.AlgEd25519, "no such file"},
		{file(t, "a", []byte(secretLine+"\n\n")), noteName, checkpoint.AlgEd25519, "parsing signing key"},
		{file(t, "a", []byte(secretLine[:len(secretLine)-2])), noteName, checkpoint.AlgEd25519, "parsing signing key"},
		{file(t, "a", pemOf(t, seeded("a"))), noteName, checkpoint.AlgEd25519, "parsing signing key"},
		{file(t, "a", nil), noteName, checkpoint.AlgEd25519, "parsing signing key"},
		{"", noteName, checkpoint.AlgEd25519, "got nothing"},
		{"what://x", noteName, checkpoint.AlgEd25519, "unknown scheme"},
		{hsm, noteName, checkpoint.AlgMLDSA44, "an ML-DSA-44 key is in a file"},
		{"pkcs11:token=t", noteName, checkpoint.AlgEd25519, "pkcs11 reference: "},
	} {
		k, closer, err := OpenNoteKey(t.Context(), c.ref, c.name, c.alg)
		if k != nil || closer != nil || err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%q: %v, %v, want %q", c.ref, k, err, c.words)
			continue
		}
		if strings.Contains(err.Error(), secretLine[len(secretLine)-20:len(secretLine)-3]) {
			t.Errorf("%q: the error shows the key: %v", c.ref, err)
		}
	}
}

// TestReferenceFile: a file says where a key is and which one, for both kinds.
func TestReferenceFile(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	put("log.key", []byte(noteKey(t, noteName, checkpoint.AlgEd25519).Encode()+"\n"))
	put("gateway.pem", pemOf(t, seeded("gateway")))

	verifier := noteKey(t, noteName, checkpoint.AlgEd25519).Verifier()
	r, err := NewNoteReference("log.key", verifier)
	if err != nil {
		t.Fatal(err)
	}
	logRef := put("log.ref", r.Format())
	k, closer, err := OpenReferencedNoteKey(t.Context(), logRef)
	if err != nil || k.Verifier().String() != verifier.String() || closer.Close() != nil {
		t.Errorf("%v, %v", k, err)
	}
	if k, _, err := OpenNoteKey(t.Context(), "file:"+logRef, noteName, checkpoint.AlgEd25519); err != nil || k.Verifier().String() != verifier.String() {
		t.Errorf("%v, %v", k, err)
	}
	if v, err := ReadVerifierKey(logRef); err != nil || v.String() != verifier.String() {
		t.Errorf("%v, %v", v, err)
	}

	if r, err = NewReference("file:gateway.pem", seeded("gateway").Public()); err != nil {
		t.Fatal(err)
	}
	gatewayRef := put("gateway.ref", r.Format())
	if k := mustOpen(t, gatewayRef); !seeded("gateway").Public().(ed25519.PublicKey).Equal(k.Public()) {
		t.Errorf("public key is %v", k.Public())
	}

	// A reference that names another key than it says.
	r.Ref = put("other.pem", pemOf(t, seeded("other")))
	if _, err := Open(t.Context(), put("wrong.ref", r.Format())); !errors.Is(err, ErrOtherKey) {
		t.Errorf("another key: %v", err)
	}
	other, err := checkpoint.GenerateKey(bytes.NewReader(seeded("other").Seed()), noteName, checkpoint.AlgEd25519)
	if err != nil {
		t.Fatal(err)
	}
	put("log.key", []byte(other.Encode()+"\n"))
	if _, _, err := OpenReferencedNoteKey(t.Context(), logRef); !errors.Is(err, ErrOtherKey) {
		t.Errorf("another key: %v", err)
	}
	// One kind for the other, and what the user wants for what is there.
	for name, open := range map[string]func() error{
		"expected a verifier key": func() error { _, _, err := OpenReferencedNoteKey(t.Context(), gatewayRef); return err },
		"got a verifier key":      func() error { _, err := Open(t.Context(), logRef); return err },
		`named "x"`:               func() error { _, _, err := OpenNoteKey(t.Context(), logRef, "x", checkpoint.AlgEd25519); return err },
		"for [ML-DSA-44]": func() error {
			_, _, err := OpenNoteKey(t.Context(), logRef, noteName, checkpoint.AlgMLDSA44)
			return err
		},
		"for [Ed25519 cosignature ML-DSA-44]": func() error { _, _, err := OpenCosignerKey(t.Context(), logRef, noteName); return err },
		"no such file":                        func() error { _, err := Open(t.Context(), filepath.Join(dir, "none.ref")); return err },
	} {
		if err := open(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "log.key")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenReferencedNoteKey(t.Context(), logRef); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the key is gone: %v", err)
	}
}

func TestParseReferenceRejects(t *testing.T) {
	vkey := noteKey(t, noteName, checkpoint.AlgEd25519).Verifier().String()
	public, err := statement.NewPublicKey(seeded("a").Public(), nil)
	if err != nil {
		t.Fatal(err)
	}
	spki := base64.StdEncoding.EncodeToString(public.DER())
	for _, good := range []string{vkey + "\nk.key\n", spki + "\nk.pem\n", spki + "\nawskms:///alias/a\n"} {
		if r, err := ParseReference([]byte(good)); err != nil || string(r.Format()) != good {
			t.Errorf("%q: %+v, %v", good, r, err)
		}
	}
	for _, c := range []struct{ text, words string }{
		{"", "expected two lines"},
		{vkey, "expected two lines"},
		{vkey + "\n", "expected two lines"},
		{vkey + "\nk.key", "expected two lines"},
		{vkey + "\nk.key\n\n", "expected two lines"},
		{"# where\n" + vkey + "\nk.key\n", "expected two lines"},
		{vkey + "\n\n", "line 2: key reference: expected a path"},
		{vkey + "\nother.ref\n", "got another reference file"},
		{vkey + "\nfile:other.ref\n", "got another reference file"},
		{vkey + "\nwhat://x\n", "line 2: key reference: unknown scheme"},
		{"k.key\n" + vkey + "\n", "line 1: "},
		{strings.Replace(vkey, "+", "-", 1) + "\nk.key\n", "line 1: "},
		{vkey[:len(vkey)-4] + "\nk.key\n", "line 1: "},
		{noteKey(t, noteName, checkpoint.AlgEd25519).Encode() + "\nk.key\n", "line 1: "},
		{spki[:len(spki)-4] + "\nk.pem\n", "line 1: "},
		{spki + "AAAA\nk.pem\n", "line 1: "},
		{spki + "\r\nk.pem\n", "line 1: "},
		{"\nk.pem\n", "line 1: "},
	} {
		r, err := ParseReference([]byte(c.text))
		if err == nil || r != (Reference{}) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%q: %+v, %v, want %q", c.text, r, err, c.words)
		}
	}
}

// FuzzParseReference: what parses formats back to the same bytes.
func FuzzParseReference(f *testing.F) {
	k, err := checkpoint.GenerateKey(bytes.NewReader(make([]byte, 32)), noteName, checkpoint.AlgEd25519)
	if err != nil {
		f.Fatal(err)
	}
	public, err := statement.NewPublicKey(seeded("a").Public(), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(k.Verifier().String() + "\nk.key\n"))
	f.Add([]byte(base64.StdEncoding.EncodeToString(public.DER()) + "\nhashivault://k\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := ParseReference(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Format(), raw) {
			t.Fatalf("%q formats as %q", raw, r.Format())
		}
		if _, err := r.statementKey(); (err == nil) == r.noteKey() {
			t.Fatalf("%q is of both kinds, or none", raw)
		}
	})
}
