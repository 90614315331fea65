package signing

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/signing/secret"
)

// ErrWrongSignature says that where a key is, something answered with what is
// not this key's signature.
var ErrWrongSignature = errors.New("the answer is not a signature by this key")

// errClosed: the key was closed before it was used.
var errClosed = errors.New("the key is closed")

// key is a Key whose signatures are verified.
type key struct {
	where   string
	public  crypto.PublicKey
	remarks []string

	mu     sync.RWMutex // held for reading while the signer works
	signer crypto.Signer
	close  func() error // nil once closed
}

// newKey wraps a signer, and closes it if it cannot be used.
func newKey(where string, signer crypto.Signer, end func() error) (*key, error) {
	public, err := statement.NewPublicKey(signer.Public(), nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("key at %s: %w", where, err), end())
	}
	// Read back from its encoding, so that no device can change it under us.
	parsed, err := x509.ParsePKIXPublicKey(public.DER())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("key at %s: %w", where, err), end())
	}
	return &key{where: where, public: parsed, signer: signer, close: end}, nil
}

// openFile reads a PKCS #8 PEM file.
func openFile(path string) (*key, error) {
	raw, err := secret.Read(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("key in %s: expected one PEM block of type PRIVATE KEY", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		// The parser's words may hold parts of the key.
		return nil, fmt.Errorf("key in %s: expected an unencrypted PKCS #8 private key", path)
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key in %s: expected an Ed25519 or P-256 key, found %T", path, parsed)
	}
	return newKey("file:"+path, signer, func() error { return nil })
}

// Public returns the public half.
func (k *key) Public() crypto.PublicKey { return k.public }

// Sign signs a message (Ed25519) or its SHA-256 digest (P-256).
func (k *key) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := k.sign(message, opts)
	if err != nil {
		return nil, fmt.Errorf("sign with the key at %s: %w", k.where, err)
	}
	return sig, nil
}

func (k *key) sign(message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := k.fits(message, opts); err != nil {
		return nil, err
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.close == nil {
		return nil, errClosed
	}
	// A copy: what the signer does to its message must not be what is verified.
	sig, err := k.signer.Sign(rand.Reader, bytes.Clone(message), opts.HashFunc())
	if err != nil {
		return nil, err
	}
	if public, ok := k.public.(ed25519.PublicKey); ok {
		if !ed25519.Verify(public, message, sig) {
			return nil, ErrWrongSignature
		}
		return sig, nil
	}
	low, err := statement.LowS(sig)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWrongSignature, err)
	}
	public, ok := k.public.(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(public, message, low) {
		return nil, ErrWrongSignature
	}
	return low, nil
}

// fits says what is wrong with what is to be signed. A key does the same wherever
// it is, so it does no more than all places can.
func (k *key) fits(message []byte, opts crypto.SignerOpts) error {
	if opts == nil {
		return errors.New("expected to be told the hash: crypto.Hash(0) for Ed25519, crypto.SHA256 for P-256")
	}
	if _, ok := k.public.(ed25519.PublicKey); ok {
		if o, is := opts.(*ed25519.Options); is && o.Context != "" {
			return errors.New("expected plain Ed25519, got a context")
		}
		if opts.HashFunc() != crypto.Hash(0) {
			return fmt.Errorf("expected a message for Ed25519, got a digest by %s", opts.HashFunc())
		}
		return nil
	}
	if opts.HashFunc() != crypto.SHA256 || len(message) != sha256.Size {
		return fmt.Errorf("expected a SHA-256 digest for P-256, got %d bytes and %s", len(message), opts.HashFunc())
	}
	return nil
}

// try signs what is neither a checkpoint, a statement nor signed attributes, so
// that the signature is good for nothing.
func (k *key) try() error {
	message, opts := []byte("trialog: is this key usable?"), crypto.Hash(0)
	if _, ok := k.public.(*ecdsa.PublicKey); ok {
		digest := sha256.Sum256(message)
		message, opts = digest[:], crypto.SHA256
	}
	_, err := k.Sign(nil, message, opts)
	return err
}

// Close ends the use of the key. Closing again does nothing.
func (k *key) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.close == nil {
		return nil
	}
	end := k.close
	k.close, k.signer = nil, nil
	return end()
}

// String says where the key is.
func (k *key) String() string { return "key at " + k.where }

// Format says where the key is, whatever the verb.
func (k *key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, k.String()) }
