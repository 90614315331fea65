package checkpoint

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"filippo.io/mldsa"

	"github.com/trialog/trialog/api/internal/edkey"
)

// Algorithm is the signature type byte of a key (c2sp.org/signed-note,
// "Signature types").
type Algorithm byte

// The signature types that this package knows. Others are refused in keys;
// signatures of other types in a note are those of unknown keys and ignored.
const (
	// AlgEd25519 is Ed25519 over the note text, used by logs.
	AlgEd25519 Algorithm = 0x01
	// AlgEd25519Cosignature is a timestamped Ed25519 cosignature, used by
	// witnesses.
	AlgEd25519Cosignature Algorithm = 0x04
	// AlgMLDSA44 is a timestamped ML-DSA-44 cosignature, used by logs and
	// witnesses.
	AlgMLDSA44 Algorithm = 0x06
)

// String names the algorithm, for messages.
func (a Algorithm) String() string {
	switch a {
	case AlgEd25519:
		return "Ed25519"
	case AlgEd25519Cosignature:
		return "Ed25519 cosignature"
	case AlgMLDSA44:
		return "ML-DSA-44"
	default:
		return fmt.Sprintf("signature type 0x%02x", byte(a))
	}
}

// VerifierKey is a public key with its name and signature type. It cannot be
// changed and may be used concurrently.
type VerifierKey struct {
	name   string
	id     uint32
	alg    Algorithm
	public []byte
	mldsa  *mldsa.PublicKey // set for AlgMLDSA44 only
}

// ParseVerifierKey reads a vkey: name "+" eight lower-case hex digits of the key
// id "+" base64 of the type byte and the public key (c2sp.org/signed-note,
// "Verifier keys"). The error is a [*FormatError].
//
// Stricter than the specification: the key id must be the recommended one; an
// Ed25519 key must be canonical and not of small order, because signatures by
// such a key can be made without a private key; the name of an ML-DSA-44 key is
// at most 255 bytes, as no longer one can be signed.
func ParseVerifierKey(vkey string) (*VerifierKey, error) {
	k, reason := parseVerifierKey(vkey)
	if reason != "" {
		return nil, &FormatError{Object: "verifier key", Reason: reason}
	}
	return k, nil
}

func parseVerifierKey(vkey string) (_ *VerifierKey, reason string) {
	name, rest, ok := strings.Cut(vkey, "+")
	if !ok {
		return nil, "not name, key id and key joined by plus signs"
	}
	// The base64 may have plus signs of its own: only the first is a border.
	id, encoded, ok := strings.Cut(rest, "+")
	if !ok {
		return nil, "not name, key id and key joined by plus signs"
	}
	b, ok := decodeBase64(encoded)
	if !ok {
		return nil, "key is not canonical base64"
	}
	if len(b) == 0 {
		return nil, "no signature type"
	}
	k, reason := newVerifierKey(name, Algorithm(b[0]), b[1:])
	if reason != "" {
		return nil, reason
	}
	if id != formatID(k.id) {
		return nil, "key id is not the lower-case hex of the id derived from name and key"
	}
	return k, ""
}

func newVerifierKey(name string, alg Algorithm, public []byte) (_ *VerifierKey, reason string) {
	if !validName(name) {
		return nil, badName
	}
	k := &VerifierKey{name: name, id: keyID(name, alg, public), alg: alg, public: public}
	switch alg {
	case AlgEd25519, AlgEd25519Cosignature:
		if len(public) != ed25519.PublicKeySize {
			return nil, "Ed25519 key is not 32 bytes"
		}
		if edkey.Weak([32]byte(public)) {
			return nil, "Ed25519 key is not canonical or of small order"
		}
	case AlgMLDSA44:
		if len(public) != mldsa.MLDSA44PublicKeySize {
			return nil, "ML-DSA-44 key is not 1312 bytes"
		}
		if len(name) > maxSignedName {
			return nil, "name of an ML-DSA-44 key is longer than 255 bytes"
		}
		p, err := mldsa.NewPublicKey(mldsa.MLDSA44(), public)
		if err != nil {
			return nil, "not an ML-DSA-44 key"
		}
		k.mldsa = p
	default:
		return nil, "unsupported " + alg.String()
	}
	return k, ""
}

// keyID derives the id that tells apart the keys of one name.
//
// SPEC (signed-note): key ID = SHA-256(key name || 0x0A || signature type ||
// public key)[:4]
func keyID(name string, alg Algorithm, public []byte) uint32 {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{'\n', byte(alg)})
	h.Write(public)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

func formatID(id uint32) string { return fmt.Sprintf("%08x", id) }

// Name returns the key's name: the origin for a log's key, the cosigner name
// for a witness's.
func (k *VerifierKey) Name() string { return k.name }

// ID returns the key id that signature lines by this key carry.
func (k *VerifierKey) ID() uint32 { return k.id }

// Algorithm returns the signature type.
func (k *VerifierKey) Algorithm() Algorithm { return k.alg }

// PublicKey returns the raw public key without the type byte: 32 bytes for
// Ed25519, 1312 for ML-DSA-44.
func (k *VerifierKey) PublicKey() []byte { return bytes.Clone(k.public) }

// String returns the vkey, as [ParseVerifierKey] reads it.
func (k *VerifierKey) String() string {
	b := append([]byte{byte(k.alg)}, k.public...)
	return k.name + "+" + formatID(k.id) + "+" + base64.StdEncoding.EncodeToString(b)
}

// label names the key in messages: shorter than the vkey, and what signature
// lines carry.
func (k *VerifierKey) label() string { return k.name + "+" + formatID(k.id) }

// signed reports whether a signature line names this key.
func (k *VerifierKey) signed(s Signature) bool { return s.Name == k.name && s.KeyID == k.id }

// VerifyCheckpoint checks one signature by this key on the note's checkpoint
// and returns the time it carries, in Unix seconds: always 0 for AlgEd25519,
// which carries none; 0 for the others means that the signer states no time.
// The signature need not be one of the note's lines. The error is a
// [*SignatureError].
func (k *VerifierKey) VerifyCheckpoint(n *Note, sig Signature) (uint64, error) {
	t, err := k.verify(n, sig)
	if err != nil {
		return 0, &SignatureError{Key: k, Signature: sig, Note: n, Err: err}
	}
	return t, nil
}

func (k *VerifierKey) verify(n *Note, sig Signature) (uint64, error) {
	if !k.signed(sig) {
		return 0, ErrOtherKey
	}
	if k.alg == AlgEd25519 {
		// The length first: ed25519.Verify would only say false.
		if len(sig.Bytes) != ed25519.SignatureSize {
			return 0, ErrSignatureLength
		}
		if !ed25519.Verify(k.public, n.text, sig.Bytes) {
			return 0, ErrWrongSignature
		}
		return 0, nil
	}
	return k.verifyTimestamped(n, sig.Bytes)
}

// verifyTimestamped checks a cosignature.
//
// SPEC (tlog-cosignature): The signature MUST be a `timestamped_signature`
// structure.
func (k *VerifierKey) verifyTimestamped(n *Note, b []byte) (uint64, error) {
	if len(b) < timestampSize {
		return 0, ErrSignatureLength
	}
	t, signature := binary.BigEndian.Uint64(b), b[timestampSize:]
	if k.alg == AlgMLDSA44 {
		if len(signature) != mldsa.MLDSA44SignatureSize {
			return 0, ErrSignatureLength
		}
		msg, err := mldsaMessage(k.name, t, n.checkpoint, n.extensions)
		if err != nil {
			return 0, err
		}
		if mldsa.Verify(k.mldsa, msg, signature, nil) != nil {
			return 0, ErrWrongSignature
		}
		return t, nil
	}
	if len(signature) != ed25519.SignatureSize {
		return 0, ErrSignatureLength
	}
	msg, err := ed25519Message(t, n.text)
	if err != nil {
		return 0, err
	}
	if !ed25519.Verify(k.public, msg, signature) {
		return 0, ErrWrongSignature
	}
	return t, nil
}

// Why a signature was not accepted; found with errors.Is in a
// [*SignatureError].
var (
	// ErrOtherKey: the line names another key than the one asked.
	ErrOtherKey = errors.New("signature is by another key")
	// ErrSignatureLength: the line has the wrong length for the algorithm.
	ErrSignatureLength = errors.New("signature has the wrong length")
	// ErrWrongSignature: the signature does not verify over this checkpoint.
	ErrWrongSignature = errors.New("signature does not verify")
	// ErrTime: the time is beyond 2^63-1, or missing where one is required.
	ErrTime = errors.New("time is not acceptable")
	// ErrUnsignable: the algorithm cannot sign this checkpoint: it has
	// extension lines, or an origin longer than 255 bytes.
	ErrUnsignable = errors.New("algorithm does not cover this checkpoint")
)
