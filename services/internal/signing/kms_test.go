//go:build kms

package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/signing/kms/kmstest"
)

// TestKMS: our code and the services' clients are real, the services are stand-ins
// that speak their protocols.
func TestKMS(t *testing.T) {
	ed, ec := seeded("kms"), newP256(t)
	for name, start := range map[string]func(*testing.T) *kmstest.Service{
		"Vault, Ed25519": func(t *testing.T) *kmstest.Service { return kmstest.Vault(t, ed) },
		"Vault, P-256":   func(t *testing.T) *kmstest.Service { return kmstest.Vault(t, ec) },
		"AWS, P-256":     func(t *testing.T) *kmstest.Service { return kmstest.AWS(t, ec) },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			k := mustOpen(t, s.Ref())
			digest := sha256.Sum256([]byte("a checkpoint"))
			sign := func() ([]byte, error) { return k.Sign(nil, digest[:], crypto.SHA256) }
			verify := func(sig []byte) bool { return ecdsa.VerifyASN1(&ec.PublicKey, digest[:], sig) }
			if strings.HasSuffix(name, "Ed25519") {
				sign = func() ([]byte, error) { return k.Sign(nil, []byte("a checkpoint"), crypto.Hash(0)) }
				verify = func(sig []byte) bool {
					return ed25519.Verify(ed.Public().(ed25519.PublicKey), []byte("a checkpoint"), sig)
				}
			}
			if sig, err := sign(); err != nil || !verify(sig) {
				t.Fatalf("%x, %v", sig, err)
			}
			refused := func(about string, want error, words string) {
				t.Helper()
				sig, err := sign()
				if sig != nil || err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), words) {
					t.Errorf("%s: %x, %v", about, sig, err)
				} else if strings.Contains(fmt.Sprintf("%+v", err), s.Secret()) {
					t.Errorf("%s: the error shows the token: %v", about, err)
				}
			}
			s.Spoil(func(sig []byte) []byte { sig[len(sig)-1] ^= 1; return sig })
			refused("a bit off", ErrWrongSignature, s.Ref())
			s.Spoil(func([]byte) []byte { return nil })
			refused("an empty signature", ErrWrongSignature, s.Ref())
			s.Spoil(nil)
			for _, status := range []int{http.StatusBadRequest, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable} {
				s.Break(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
				refused(http.StatusText(status), nil, s.Ref())
			}
			s.Break(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
			refused("no answer at all", nil, s.Ref())
			s.Break(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"data":{}}`)) })
			refused("an answer without a signature", nil, s.Ref())
			s.Break(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`[`)) })
			refused("half an answer", nil, s.Ref())
			s.Break(nil)
			if sig, err := sign(); err != nil || !verify(sig) {
				t.Errorf("it is well again: %x, %v", sig, err)
			}
			// Its key is what it was when it was opened, whatever the service has now.
			if strings.HasSuffix(name, "Ed25519") {
				s.Rotate(seeded("rotated"))
			} else {
				s.Rotate(newP256(t))
			}
			refused("another key", ErrWrongSignature, s.Ref())
			s.Stop()
			refused("nobody listens", nil, s.Ref())
		})
	}
}

// TestKMSAtStart: what is wrong shows when the key is opened.
func TestKMSAtStart(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key   crypto.Signer
		ref   string // empty: the service's
		spoil func(*kmstest.Service)
		words string
	}{
		"another name":      {seeded("a"), "hashivault://other", nil, "ask for the public key of hashivault://other"},
		"no name":           {seeded("a"), "hashivault://", nil, "hashivault://<key>"},
		"another curve":     {p384, "", nil, "expected an Ed25519 or P-256 key"},
		"nobody listens":    {seeded("a"), "", (*kmstest.Service).Stop, "connection refused"},
		"wrong signatures":  {seeded("a"), "", func(s *kmstest.Service) { s.Spoil(func(b []byte) []byte { b[0] ^= 1; return b }) }, ErrWrongSignature.Error()},
		"a user in the URI": {seeded("a"), "hashivault://canary@key", nil, "expected no user"},
		"a query":           {seeded("a"), "awskms:///alias/a?token=canary", nil, "expected no user"},
		"AWS, no alias":     {seeded("a"), "awskms:///what", nil, "awskms://"},
		"Google, no ring":   {seeded("a"), "gcpkms://projects/p", nil, "gcpkms://projects/"},
		"Azure, no key":     {seeded("a"), "azurekms://vault", nil, "azurekms://"},
	} {
		t.Run(name, func(t *testing.T) {
			s := kmstest.Vault(t, c.key)
			if c.spoil != nil {
				c.spoil(s)
			}
			if c.ref == "" {
				c.ref = s.Ref()
			}
			k, err := Open(t.Context(), c.ref)
			if k != nil || err == nil || !strings.Contains(err.Error(), c.words) {
				t.Fatalf("%v, %v, want %q", k, err, c.words)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

// TestKMSToken: a token that the service does not accept is not shown.
func TestKMSToken(t *testing.T) {
	s := kmstest.Vault(t, seeded("a"))
	t.Setenv("VAULT_TOKEN", "hvs.other-canary")
	if _, err := Open(t.Context(), s.Ref()); err == nil || !strings.Contains(err.Error(), "permission denied") || strings.Contains(err.Error(), "canary") {
		t.Errorf("%v", err)
	}
}

// TestKMSNote: a log's key that is with Vault.
func TestKMSNote(t *testing.T) {
	s := kmstest.Vault(t, seeded("log"))
	k, closer, err := OpenNoteKey(t.Context(), s.Ref(), noteName, checkpoint.AlgEd25519)
	if err != nil {
		t.Fatal(err)
	}
	c := checkpoint.Checkpoint{Origin: noteName, Size: 7, Root: checkpoint.Hash{1}}
	n, err := checkpoint.SignLog(c, 1, k)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Verifier().VerifyCheckpoint(n, n.Signatures()[0]); err != nil {
		t.Error(err)
	}
	s.Break(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		if err := json.NewEncoder(w).Encode(map[string]any{"errors": []string{"sealed"}}); err != nil {
			t.Error(err)
		}
	})
	if n, err := checkpoint.SignLog(c, 1, k); n != nil || err == nil || !strings.Contains(err.Error(), s.Ref()) {
		t.Errorf("%v, %v", n, err)
	}
	if err := closer.Close(); err != nil {
		t.Error(err)
	}
	if want := []string{"GET /v1/transit/keys/trialog-log", "PUT /v1/transit/sign/trialog-log"}; !slices.Equal(s.Requests()[:2], want) {
		t.Errorf("asked %q", s.Requests())
	}
}

func TestKMSNoteRejects(t *testing.T) {
	s := kmstest.AWS(t, newP256(t))
	if _, _, err := OpenNoteKey(t.Context(), s.Ref(), noteName, checkpoint.AlgEd25519); err == nil || !strings.Contains(err.Error(), "expected a signer with an Ed25519 key") {
		t.Errorf("P-256: %v", err)
	}
}
