package checkpoint

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"filippo.io/mldsa"
)

// NewRemoteKey returns a signing key whose private half stays where signer has
// it: in a hardware token, a key management service or another process. The
// signer's public key must be an ed25519.PublicKey for [AlgEd25519] and
// [AlgEd25519Cosignature], and an ML-DSA-44 *mldsa.PublicKey for [AlgMLDSA44].
//
// Each signature is verified before it is used: a signer that answers with
// anything else than this key's signature on this message makes the signing
// fail with [ErrWrongSignature] or [ErrSignatureLength], and never puts a line
// on a note. The key is as safe for concurrent use as the signer is. There is no
// private key to be had: [SigningKey.Encode] returns nothing.
func NewRemoteKey(name string, alg Algorithm, signer crypto.Signer) (*SigningKey, error) {
	if signer == nil {
		return nil, errors.New("using a remote key: there is no signer")
	}
	k := &SigningKey{seed: func() []byte { return nil }}
	public, verify, reason := remotePublic(alg, signer.Public())
	if reason == "" {
		k.verifier, reason = newVerifierKey(name, alg, public)
	}
	if reason != "" {
		return nil, fmt.Errorf("using a remote key: %s", reason)
	}
	k.sign = func(msg []byte) ([]byte, error) {
		// The message itself, not a digest: RFC 8032 section 5.1, FIPS 204
		// section 5.2. A signer gets a copy, which it cannot change under us.
		signature, err := signer.Sign(rand.Reader, slices.Clone(msg), crypto.Hash(0))
		if err != nil {
			return nil, err
		}
		if err := verify(msg, signature); err != nil {
			return nil, fmt.Errorf("the signer's answer: %w", err)
		}
		return signature, nil
	}
	return k, nil
}

// remotePublic returns the raw public key, how its signatures are verified, and
// what is wrong if the key is not one for the algorithm.
func remotePublic(alg Algorithm, key crypto.PublicKey) (public []byte, verify func(msg, signature []byte) error, reason string) {
	switch alg {
	case AlgEd25519, AlgEd25519Cosignature:
		k, ok := key.(ed25519.PublicKey)
		if !ok || len(k) != ed25519.PublicKeySize {
			return nil, nil, fmt.Sprintf("expected a signer with an Ed25519 key for %s, got %T", alg, key)
		}
		k = slices.Clone(k)
		return k, func(msg, signature []byte) error {
			if len(signature) != ed25519.SignatureSize {
				return ErrSignatureLength
			}
			if !ed25519.Verify(k, msg, signature) {
				return ErrWrongSignature
			}
			return nil
		}, ""
	case AlgMLDSA44:
		k, ok := key.(*mldsa.PublicKey)
		if !ok || k == nil || k.Parameters() != mldsa.MLDSA44() {
			return nil, nil, fmt.Sprintf("expected a signer with an ML-DSA-44 key for %s, got %T", alg, key)
		}
		return k.Bytes(), func(msg, signature []byte) error {
			if len(signature) != mldsa.MLDSA44SignatureSize {
				return ErrSignatureLength
			}
			if mldsa.Verify(k, msg, signature, nil) != nil {
				return ErrWrongSignature
			}
			return nil
		}, ""
	default:
		return nil, nil, "unsupported " + alg.String()
	}
}
