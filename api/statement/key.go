package statement

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/trialog/trialog/api/internal/edkey"
)

// KeyID names a submitter's key: SHA-256 over its DER SubjectPublicKeyInfo
// (RFC 5280 section 4.1.2.7). With openssl:
//
//	openssl pkey -in key.pem -pubout -outform DER | sha256sum
type KeyID = Digest

// PublicKey is a submitter's key: Ed25519 (RFC 8032), or ECDSA on P-256 with
// SHA-256 and low S only.
type PublicKey struct {
	der     []byte
	id      KeyID
	ed25519 ed25519.PublicKey
	ecdsa   *ecdsa.PublicKey
}

// ParsePublicKey reads a DER SubjectPublicKeyInfo. It refuses other algorithms,
// any encoding but the canonical one, so that a key has one id, and Ed25519
// points of small order, under which anybody can sign.
func ParsePublicKey(der []byte) (*PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, errors.New("expected a DER SubjectPublicKeyInfo of an Ed25519 or P-256 key")
	}
	return NewPublicKey(parsed, der)
}

// NewPublicKey wraps a key of the standard library: ed25519.PublicKey, or
// *ecdsa.PublicKey on P-256. If der is not nil it must be the key's encoding.
func NewPublicKey(key crypto.PublicKey, der []byte) (*PublicKey, error) {
	p := &PublicKey{}
	switch k := key.(type) {
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("expected an Ed25519 key of %d bytes, found %d", ed25519.PublicKeySize, len(k))
		}
		if edkey.Weak([ed25519.PublicKeySize]byte(k)) {
			return nil, errors.New("the Ed25519 key is of small order or not in its canonical encoding")
		}
		p.ed25519 = k
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, errors.New("expected an Ed25519 or P-256 key, found ECDSA on another curve")
		}
		p.ecdsa = k
	default:
		return nil, fmt.Errorf("expected an Ed25519 or P-256 key, found %T", key)
	}
	canonical, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the public key: %w", err)
	}
	if der != nil && !bytes.Equal(canonical, der) {
		return nil, errors.New("the public key is not in its canonical encoding")
	}
	p.der = canonical
	p.id = sha256.Sum256(canonical)
	return p, nil
}

// ID returns the key's id.
func (p *PublicKey) ID() KeyID { return p.id }

// DER returns the key's SubjectPublicKeyInfo. The caller must not change it.
func (p *PublicKey) DER() []byte { return p.der }

// Algorithm names the key's algorithm: "Ed25519" or "ECDSA P-256".
func (p *PublicKey) Algorithm() string {
	if p.ecdsa != nil {
		return "ECDSA P-256"
	}
	return "Ed25519"
}

// halfOrder is the greatest S that is accepted: floor(n/2).
func halfOrder() *big.Int {
	return new(big.Int).Rsh(elliptic.P256().Params().N, 1)
}

// errHighS is a signature whose S has a twin that verifies too.
var errHighS = errors.New("ECDSA signature with high S, expected its low-S twin")

// Verify checks sig over message: 64 bytes for Ed25519, a DER ECDSA-Sig-Value
// (RFC 3279 section 2.2.3) with low S for P-256.
func (p *PublicKey) Verify(message, sig []byte) error {
	if p.ed25519 != nil {
		if !ed25519.Verify(p.ed25519, message, sig) {
			return errors.New("the Ed25519 signature does not verify")
		}
		return nil
	}
	r, s, err := parseECDSA(sig)
	if err != nil {
		return err
	}
	if s.Cmp(halfOrder()) > 0 {
		return errHighS
	}
	digest := sha256.Sum256(message)
	if !ecdsa.Verify(p.ecdsa, digest[:], r, s) {
		return errors.New("the ECDSA signature does not verify")
	}
	return nil
}

// parseECDSA reads a DER ECDSA-Sig-Value in its one encoding.
func parseECDSA(sig []byte) (r, s *big.Int, err error) {
	var v struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(sig, &v)
	if err != nil || len(rest) > 0 {
		return nil, nil, errors.New("expected a DER ECDSA signature")
	}
	if again, err := asn1.Marshal(v); err != nil || !bytes.Equal(again, sig) {
		return nil, nil, errors.New("the ECDSA signature is not in its canonical encoding")
	}
	return v.R, v.S, nil
}

// PrivateKey signs statements. It may live in memory or behind any
// crypto.Signer, such as a hardware token.
type PrivateKey struct {
	signer crypto.Signer
	public *PublicKey
}

// NewPrivateKey wraps signer, whose public key must be Ed25519 or P-256.
func NewPrivateKey(signer crypto.Signer) (*PrivateKey, error) {
	public, err := NewPublicKey(signer.Public(), nil)
	if err != nil {
		return nil, err
	}
	return &PrivateKey{signer: signer, public: public}, nil
}

// GenerateKey makes a new Ed25519 key from random, crypto/rand.Reader in
// production.
func GenerateKey(random io.Reader) (*PrivateKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, fmt.Errorf("generate a key: %w", err)
	}
	return NewPrivateKey(ed25519.NewKeyFromSeed(seed))
}

// ParsePrivateKey reads a PEM "PRIVATE KEY" (PKCS #8, RFC 5958), as openssl
// genpkey writes it.
func ParsePrivateKey(text []byte) (*PrivateKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("expected one PEM block of type PRIVATE KEY")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("expected an unencrypted PKCS #8 private key")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("expected an Ed25519 or P-256 key, found %T", key)
	}
	return NewPrivateKey(signer)
}

// EncodePEM returns the key as PEM PKCS #8. It fails for keys that do not leave
// their device.
func (k *PrivateKey) EncodePEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.signer)
	if err != nil {
		return nil, errors.New("this private key cannot be exported")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Public returns the public half.
func (k *PrivateKey) Public() *PublicKey { return k.public }

// ID returns the id of the public half.
func (k *PrivateKey) ID() KeyID { return k.public.id }

// String returns the key's id, never the secret.
func (k *PrivateKey) String() string { return "private key of " + k.ID().String() }

// Format implements fmt.Formatter, so that no format verb prints the secret, of
// a copy neither.
func (k PrivateKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, k.String()) }

// Sign signs message; an ECDSA signature is brought to its low-S form.
func (k *PrivateKey) Sign(message []byte) ([]byte, error) {
	if k.public.ed25519 != nil {
		sig, err := k.signer.Sign(rand.Reader, message, crypto.Hash(0))
		if err != nil {
			return nil, fmt.Errorf("sign with key %s: %w", k.ID(), err)
		}
		return sig, nil
	}
	digest := sha256.Sum256(message)
	sig, err := k.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", k.ID(), err)
	}
	return LowS(sig)
}

// LowS returns the low-S twin of a DER ECDSA P-256 signature, for signers that
// do not care, such as openssl.
func LowS(sig []byte) ([]byte, error) {
	r, s, err := parseECDSA(sig)
	if err != nil {
		return nil, err
	}
	if s.Cmp(halfOrder()) > 0 {
		s = new(big.Int).Sub(elliptic.P256().Params().N, s)
	}
	return asn1.Marshal(struct{ R, S *big.Int }{r, s})
}
