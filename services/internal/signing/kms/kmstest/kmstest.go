// Package kmstest has stand-ins of key management services that speak their
// protocols and sign with real keys, for tests.
package kmstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Service is a key management service with one key, which tests break.
type Service struct {
	t      *testing.T
	server *httptest.Server

	mu       sync.Mutex // of what follows
	key      crypto.Signer
	broken   http.HandlerFunc
	spoil    func(signature []byte) []byte
	requests []string
}

// KeyName is the name of the key.
const KeyName = "trialog-log"

// token is what a client of the stand-in of Vault has to show.
const token = "hvs.canary"

func newService(t *testing.T, key crypto.Signer, handler func(*Service, http.ResponseWriter, *http.Request)) *Service {
	s := &Service{t: t, key: key}
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.Path+r.Header.Get("X-Amz-Target"))
		broken := s.broken
		s.mu.Unlock()
		if broken != nil {
			broken(w, r)
			return
		}
		handler(s, w, r)
	}))
	t.Cleanup(s.server.Close)
	return s
}

// Vault starts a stand-in of the transit engine of HashiCorp Vault
// (https://developer.hashicorp.com/vault/api-docs/secret/transit) and points the
// environment of the test at it.
func Vault(t *testing.T, key crypto.Signer) *Service {
	t.Helper()
	s := newService(t, key, (*Service).vault)
	s.server.Start()
	t.Setenv("VAULT_ADDR", s.server.URL)
	t.Setenv("VAULT_TOKEN", token)
	// A client that tries again is as good, and later.
	t.Setenv("VAULT_MAX_RETRIES", "0")
	return s
}

// Ref returns the reference of the key.
func (s *Service) Ref() string {
	if s.server.TLS != nil {
		return "awskms://" + s.server.Listener.Addr().String() + "/alias/" + KeyName
	}
	return "hashivault://" + KeyName
}

// Secret returns what must show nowhere.
func (s *Service) Secret() string { return token }

// Break has every request answered by h; nil ends that.
func (s *Service) Break(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = h
}

// Spoil changes every signature before it is sent; nil ends that.
func (s *Service) Spoil(change func(signature []byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoil = change
}

// Rotate gives the name another key.
func (s *Service) Rotate(key crypto.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
}

// Stop ends the service; nothing listens any more.
func (s *Service) Stop() { s.server.Close() }

// Requests returns what was asked so far: methods, paths and, of AWS, operations.
func (s *Service) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

// signature signs as the service does: a message for Ed25519, a digest for P-256.
func (s *Service) signature(input []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	opts := crypto.Hash(0)
	if _, ok := s.key.(*ecdsa.PrivateKey); ok {
		opts = crypto.SHA256
		if len(input) != opts.Size() {
			return nil, fmt.Errorf("%d bytes are no SHA-256 digest", len(input))
		}
	}
	sig, err := s.key.Sign(rand.Reader, input, opts)
	if err == nil && s.spoil != nil {
		sig = s.spoil(sig)
	}
	return sig, err
}

func (s *Service) public() (spki []byte, key crypto.PublicKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		s.t.Error(err)
	}
	return der, s.key.Public()
}

func (s *Service) answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.t.Error(err)
	}
}

type object = map[string]any

func (s *Service) vault(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, why string) { s.answer(w, status, object{"errors": []string{why}}) }
	if r.Header.Get("X-Vault-Token") != token {
		refuse(http.StatusForbidden, "permission denied")
		return
	}
	path, hash, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/transit/"), "/"+KeyName)
	switch {
	case r.Method == http.MethodGet && path == "keys" && hash == "":
		der, key := s.public()
		name, text := "P-256", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		if ed, ok := key.(ed25519.PublicKey); ok {
			name, text = "ed25519", base64.StdEncoding.EncodeToString(ed)
		}
		s.answer(w, http.StatusOK, object{"data": object{
			"latest_version": 1, "keys": object{"1": object{"name": name, "public_key": text}},
		}})
	case r.Method == http.MethodPut && path == "sign":
		var body struct {
			Input     []byte `json:"input"`
			Prehashed bool   `json:"prehashed"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			refuse(http.StatusBadRequest, err.Error())
			return
		}
		_, key := s.public()
		if _, ed := key.(ed25519.PublicKey); ed == body.Prehashed || ed != (hash == "") || !ed && hash != "/sha2-256" {
			refuse(http.StatusBadRequest, "prehashed or the hash does not fit the key")
			return
		}
		sig, err := s.signature(body.Input)
		if err != nil {
			refuse(http.StatusBadRequest, err.Error())
			return
		}
		s.answer(w, http.StatusOK, object{"data": object{"signature": "vault:v1:" + base64.StdEncoding.EncodeToString(sig)}})
	default:
		refuse(http.StatusNotFound, "no handler for route")
	}
}

// AWS starts a stand-in of AWS KMS
// (https://docs.aws.amazon.com/kms/latest/APIReference) and gives the test an
// environment in which the client trusts it.
func AWS(t *testing.T, key crypto.Signer) *Service {
	t.Helper()
	s := newService(t, key, (*Service).aws)
	s.server.StartTLS()
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
	if err := os.WriteFile(bundle, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_CA_BUNDLE": bundle, "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKIDcanary", "AWS_SECRET_ACCESS_KEY": token,
		"AWS_SESSION_TOKEN": "", "AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_MAX_ATTEMPTS": "1",
	} {
		t.Setenv(name, value)
	}
	return s
}

func (s *Service) aws(w http.ResponseWriter, r *http.Request) {
	refuse := func(kind, why string) {
		s.answer(w, http.StatusBadRequest, object{"__type": kind, "message": why})
	}
	var body struct {
		KeyID            string `json:"KeyId"`
		Message          []byte `json:"Message"`
		MessageType      string `json:"MessageType"`
		SigningAlgorithm string `json:"SigningAlgorithm"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		refuse("ValidationException", err.Error())
		return
	}
	const algorithm = "ECDSA_SHA_256"
	metadata := object{"KeyId": body.KeyID, "SigningAlgorithms": []string{algorithm}, "KeyUsage": "SIGN_VERIFY"}
	switch operation := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService."); {
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIDcanary/"):
		refuse("MissingAuthenticationTokenException", "the request is not signed")
	case body.KeyID != "alias/"+KeyName:
		refuse("NotFoundException", "no such alias")
	case operation == "GetPublicKey":
		metadata["PublicKey"], _ = s.public()
		s.answer(w, http.StatusOK, metadata)
	case operation == "DescribeKey":
		s.answer(w, http.StatusOK, object{"KeyMetadata": metadata})
	case operation == "Sign" && body.MessageType == "DIGEST" && body.SigningAlgorithm == algorithm:
		sig, err := s.signature(body.Message)
		if err != nil {
			refuse("ValidationException", err.Error())
			return
		}
		s.answer(w, http.StatusOK, object{"KeyId": body.KeyID, "Signature": sig, "SigningAlgorithm": algorithm})
	default:
		refuse("UnknownOperationException", operation)
	}
}
