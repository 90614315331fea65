package signing

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/trialog/trialog/api/statement"
)

func seeded(label string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("signing test\n" + label))
	return ed25519.NewKeyFromSeed(seed[:])
}

func newP256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pemOf(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustOpen(t *testing.T, ref string) Key {
	t.Helper()
	k, err := Open(t.Context(), ref)
	if err != nil {
		t.Fatalf("open %s: %v", ref, err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func TestOpenFile(t *testing.T) {
	ed, ec := seeded("a"), newP256(t)
	for _, prefix := range []string{"", "file:", "file://"} {
		k := mustOpen(t, prefix+file(t, "ed.pem", pemOf(t, ed)))
		if !ed.Public().(ed25519.PublicKey).Equal(k.Public()) {
			t.Errorf("%s: public key is %v", prefix, k.Public())
		}
		sig, err := k.Sign(nil, []byte("m"), crypto.Hash(0))
		if err != nil || !ed25519.Verify(ed.Public().(ed25519.PublicKey), []byte("m"), sig) {
			t.Errorf("%s: %x, %v", prefix, sig, err)
		}
		if r := Remarks(k); len(r) != 0 {
			t.Errorf("%s: %q", prefix, r)
		}
	}
	t.Chdir(filepath.Dir(file(t, "a:b", pemOf(t, ec))))
	k := mustOpen(t, "a:b") // a path with a colon is a path
	digest := sha256.Sum256([]byte("m"))
	for range 20 {
		sig, err := k.Sign(nil, digest[:], crypto.SHA256)
		if err != nil || !ecdsa.VerifyASN1(&ec.PublicKey, digest[:], sig) {
			t.Fatalf("%x, %v", sig, err)
		}
		// Low S: what statements want.
		if low, err := statement.LowS(sig); err != nil || !bytes.Equal(low, sig) {
			t.Fatalf("high S: %x, %v", sig, err)
		}
	}
}

func TestOpenRejects(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := pemOf(t, seeded("a"))
	sec1, err := x509.MarshalECPrivateKey(newP256(t))
	if err != nil {
		t.Fatal(err)
	}
	wide := file(t, "wide.pem", good)
	if err := os.Chmod(wide, 0o644); err != nil {
		t.Fatal(err)
	}
	const hsm = "?module-path=/m.so&pin-source=file:/p"
	for _, c := range []struct{ ref, words string }{
		{"", "got nothing"},
		{"file:", "got no path"},
		{"file://host/path", "without a host"},
		{"https://user:canary@kms.example/key", "unknown scheme"},
		{"alicloudkms://k", "unknown scheme"},
		{"AWSKMS://k", "unknown scheme"},
		{"pkcs11:", "pkcs11 reference: "},
		{"pkcs11:token=t;object=o;pin-value=canary" + hsm, "pkcs11 reference: "},
		{filepath.Join(t.TempDir(), "none"), "no such file"},
		{t.TempDir(), "expected a regular file"},
		{wide, "expected 0600"},
		{file(t, "a", []byte("canary")), "expected one PEM block"},
		{file(t, "a", nil), "expected one PEM block"},
		{file(t, "a", append(bytes.Clone(good), good...)), "expected one PEM block"},
		{file(t, "a", append(bytes.Clone(good), "canary"...)), "expected one PEM block"},
		{file(t, "a", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})), "expected one PEM block of type PRIVATE KEY"},
		{file(t, "a", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("canary")})), "expected an unencrypted PKCS #8"},
		{file(t, "a", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: sec1})), "expected an unencrypted PKCS #8"},
		{file(t, "a", pemOf(t, p384)), "expected an Ed25519 or P-256 key"},
		{file(t, "a", pemOf(t, rsaKey)), "expected an Ed25519 or P-256 key"},
	} {
		k, err := Open(t.Context(), c.ref)
		if k != nil || err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%q: %v, %v, want %q", c.ref, k, err, c.words)
			continue
		}
		if strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: the error shows a secret: %v", c.ref, err)
		}
	}
}

// TestSignRejects: a key does the same wherever it is, and no more.
func TestSignRejects(t *testing.T) {
	ed, ec := mustOpen(t, file(t, "a", pemOf(t, seeded("a")))), mustOpen(t, file(t, "a", pemOf(t, newP256(t))))
	digest := make([]byte, 32)
	for name, sign := range map[string]func() ([]byte, error){
		"Ed25519, no options":     func() ([]byte, error) { return ed.Sign(nil, digest, nil) },
		"Ed25519, a digest":       func() ([]byte, error) { return ed.Sign(nil, digest, crypto.SHA256) },
		"Ed25519ph":               func() ([]byte, error) { return ed.Sign(nil, make([]byte, 64), &ed25519.Options{Hash: crypto.SHA512}) },
		"Ed25519, a context":      func() ([]byte, error) { return ed.Sign(nil, digest, &ed25519.Options{Context: "c"}) },
		"P-256, no options":       func() ([]byte, error) { return ec.Sign(nil, digest, nil) },
		"P-256, a message":        func() ([]byte, error) { return ec.Sign(nil, digest, crypto.Hash(0)) },
		"P-256, SHA-384":          func() ([]byte, error) { return ec.Sign(nil, make([]byte, 48), crypto.SHA384) },
		"P-256, a short digest":   func() ([]byte, error) { return ec.Sign(nil, digest[:31], crypto.SHA256) },
		"P-256, another's length": func() ([]byte, error) { return ec.Sign(nil, make([]byte, 48), crypto.SHA256) },
	} {
		if sig, err := sign(); sig != nil || err == nil || !strings.Contains(err.Error(), "expected") {
			t.Errorf("%s: %x, %v", name, sig, err)
		}
	}
}

func TestClose(t *testing.T) {
	closed := 0
	ed := seeded("a")
	k, err := newKey("here", ed, func() error { closed++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for {
				sig, err := k.Sign(nil, []byte("m"), crypto.Hash(0))
				if errors.Is(err, errClosed) {
					return
				}
				if err != nil || !ed25519.Verify(ed.Public().(ed25519.PublicKey), []byte("m"), sig) {
					t.Errorf("%x, %v", sig, err)
					return
				}
			}
		})
	}
	if err := errors.Join(k.Close(), k.Close()); err != nil || closed != 1 {
		t.Errorf("closed %d times, %v", closed, err)
	}
	users.Wait()
	if k.Public() == nil {
		t.Error("the public key is gone")
	}
}

// TestCanaries: nothing that prints a key prints its secret.
func TestCanaries(t *testing.T) {
	ed, ec := seeded("canary"), newP256(t)
	scalar, err := ec.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key    any
		secret []byte
	}{{ed, ed.Seed()}, {ec, scalar}} {
		k := mustOpen(t, file(t, "key.pem", pemOf(t, c.key)))
		var out bytes.Buffer
		for _, logger := range []*slog.Logger{slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))} {
			logger.Info("a key", "key", k, "keys", []Key{k}, "in", struct{ K Key }{k})
		}
		fmt.Fprintf(&out, "%v %+v %#v %s %q %x %d", k, k, k, k, k, k, k)
		fmt.Fprintf(&out, "%v %+v %#v", []Key{k}, map[string]Key{"k": k}, struct{ K Key }{k})
		_, err := k.Sign(nil, nil, crypto.SHA512)
		fmt.Fprintf(&out, "%v %+v %#v", err, err, err)
		wantNoSecret(t, out.String(), c.secret)
		if !strings.Contains(out.String(), "key at file:") {
			t.Errorf("it does not say where the key is: %s", &out)
		}
		private, err := statement.NewPrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := private.EncodePEM(); err == nil {
			t.Errorf("the key was exported: %d bytes", len(text))
		}
	}
}

// wantNoSecret fails if text shows a secret in one of the ways in which Go prints
// bytes and numbers.
func wantNoSecret(t *testing.T, text string, secret []byte) {
	t.Helper()
	lower := strings.ToLower(text)
	for name, form := range map[string]string{
		"hex": hex.EncodeToString(secret[4:20]), "base64": base64.StdEncoding.EncodeToString(secret[3:21]),
		"decimal": new(big.Int).SetBytes(secret).String(), "raw": string(secret[4:20]),
		"list": strings.Trim(fmt.Sprint(secret[4:12]), "[]"), "Go": strings.Trim(fmt.Sprintf("%#v", secret[4:12])[6:], "{}"),
	} {
		if strings.Contains(text, form) || strings.Contains(lower, strings.ToLower(form)) {
			t.Errorf("the secret shows as %s", name)
		}
	}
}

func TestUnder(t *testing.T) {
	for ref, want := range map[string]string{
		"key.pem": "file:/d/key.pem", "file:key.pem": "file:/d/key.pem", "../k": "file:/k",
		"/abs/key.pem": "file:/abs/key.pem", "file:///abs/key.pem": "file:/abs/key.pem", "a:b": "file:/d/a:b",
		"pkcs11:token=a": "pkcs11:token=a", "awskms:///alias/a": "awskms:///alias/a", "": "", "what://x": "what://x",
	} {
		if got := Under("/d", ref); got != want {
			t.Errorf("%q: %q, want %q", ref, got, want)
		}
	}
	for ref, want := range map[string]bool{
		"k": true, "file:k": true, "a:b": true, "pkcs11:token=a": false, "gcpkms://projects/p": false, "": false, "what://x": false,
	} {
		if IsFile(ref) != want {
			t.Errorf("%q: file %t", ref, !want)
		}
	}
}

// TestNotBuilt: whoever has a binary without the code is told which one to take.
func TestNotBuilt(t *testing.T) {
	for ref, target := range map[string]string{
		"pkcs11:token=t;object=o?module-path=/m.so&pin-source=file:/p": "make build-pkcs11",
		"hashivault://log": "make build-kms",
	} {
		_, err := Open(context.Background(), ref)
		if err == nil {
			t.Fatalf("%s: opened", ref)
		}
		// With the code, it fails for another reason; its own tests show which.
		if strings.Contains(err.Error(), "was built without") != strings.Contains(err.Error(), target) {
			t.Errorf("%s: %v", ref, err)
		}
		if errors.Is(err, fs.ErrNotExist) && strings.Contains(err.Error(), "was built without") {
			t.Errorf("%s: taken for a file that is not there: %v", ref, err)
		}
	}
}
