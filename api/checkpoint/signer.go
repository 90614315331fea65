package checkpoint

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/mldsa"
)

const (
	seedSize         = 32 // of Ed25519 and ML-DSA-44 alike
	signingKeyPrefix = "PRIVATE+KEY+"
)

// SigningKey is a private key with its name and signature type. It may be used
// concurrently. The fmt verbs print its vkey; the private key comes out through
// [SigningKey.Encode] only.
type SigningKey struct {
	verifier *VerifierKey
	// The private key is held by functions, not by fields, so that nothing
	// which walks over structs (fmt, spew, cmp) comes upon it.
	seed func() []byte
	sign func(msg []byte) ([]byte, error)
}

// GenerateKey makes a new key from 32 bytes of rand.
func GenerateKey(rand io.Reader, name string, alg Algorithm) (*SigningKey, error) {
	seed := make([]byte, seedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, fmt.Errorf("generating key: reading randomness: %w", err)
	}
	k, reason := newSigningKey(name, alg, seed)
	if reason != "" {
		return nil, fmt.Errorf("generating key: %s", reason)
	}
	return k, nil
}

// ParseSigningKey reads a private key as [SigningKey.Encode] writes it:
// "PRIVATE+KEY+" name "+" eight hex digits of the key id "+" base64 of the type
// byte and the 32-byte seed. The error is a [*FormatError] and does not repeat
// the input.
func ParseSigningKey(skey string) (*SigningKey, error) {
	k, reason := parseSigningKey(skey)
	if reason != "" {
		return nil, &FormatError{Object: "signing key", Reason: reason}
	}
	return k, nil
}

func parseSigningKey(skey string) (_ *SigningKey, reason string) {
	rest, ok := strings.CutPrefix(skey, signingKeyPrefix)
	if !ok {
		return nil, "does not start with PRIVATE+KEY+"
	}
	parts := strings.SplitN(rest, "+", 3)
	if len(parts) != 3 {
		return nil, "not name, key id and key joined by plus signs"
	}
	b, ok := decodeBase64(parts[2])
	if !ok {
		return nil, "key is not canonical base64"
	}
	if len(b) != 1+seedSize {
		return nil, "key is not a signature type and a seed of 32 bytes"
	}
	k, reason := newSigningKey(parts[0], Algorithm(b[0]), b[1:])
	if reason != "" {
		return nil, reason
	}
	if parts[1] != formatID(k.verifier.id) {
		return nil, "key id is not the lower-case hex of the id derived from name and public key"
	}
	return k, ""
}

func newSigningKey(name string, alg Algorithm, seed []byte) (_ *SigningKey, reason string) {
	k := &SigningKey{seed: func() []byte { return bytes.Clone(seed) }}
	var public []byte
	switch alg {
	case AlgEd25519, AlgEd25519Cosignature:
		private := ed25519.NewKeyFromSeed(seed)
		public = slices.Clone(private[ed25519.PublicKeySize:])
		k.sign = func(msg []byte) ([]byte, error) { return ed25519.Sign(private, msg), nil }
	case AlgMLDSA44:
		private, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), seed)
		if err != nil {
			return nil, "not an ML-DSA-44 seed"
		}
		public = private.PublicKey().Bytes()
		k.sign = func(msg []byte) ([]byte, error) { return private.Sign(nil, msg, nil) }
	default:
		return nil, "unsupported " + alg.String()
	}
	k.verifier, reason = newVerifierKey(name, alg, public)
	if reason != "" {
		return nil, reason
	}
	return k, ""
}

// Encode returns the private key, as [ParseSigningKey] reads it. Keep it
// secret. It is empty for a key of [NewRemoteKey], whose private half is not
// here.
func (k *SigningKey) Encode() string {
	seed := k.seed()
	if seed == nil {
		return ""
	}
	b := append([]byte{byte(k.verifier.alg)}, seed...)
	return signingKeyPrefix + k.verifier.label() + "+" + base64.StdEncoding.EncodeToString(b)
}

// Format prints the vkey whatever the verb, so that a key in a log line or an
// error gives nothing away.
func (k SigningKey) Format(s fmt.State, _ rune) {
	if k.verifier == nil {
		_, _ = io.WriteString(s, "<no key>")
		return
	}
	_, _ = io.WriteString(s, k.verifier.String())
}

// Verifier returns the public half.
func (k *SigningKey) Verifier() *VerifierKey { return k.verifier }

// SignCheckpoint signs a checkpoint. The text is the whole note text, as
// [Checkpoint.Body] or [Note.Text] return it. For AlgEd25519Cosignature and
// AlgMLDSA44, t is the time of signing in Unix seconds, at most 2^63-1; for
// AlgMLDSA44 it may be 0, which states no time (c2sp.org/tlog-cosignature). For
// AlgEd25519 it is ignored.
//
// It does not sign what is no checkpoint, what claims a root other than the
// empty tree's at size 0 ([ErrEmptyRoot]), or what the algorithm does not cover
// ([ErrUnsignable]). Whether the checkpoint is consistent with those signed
// before is the caller's duty.
func (k *SigningKey) SignCheckpoint(text []byte, t uint64) (Signature, error) {
	b, err := k.signText(text, t)
	if err != nil {
		return Signature{}, fmt.Errorf("signing checkpoint with %s key %s: %w", k.verifier.alg, k.verifier.label(), err)
	}
	return Signature{Name: k.verifier.name, KeyID: k.verifier.id, Bytes: b}, nil
}

func (k *SigningKey) signText(text []byte, t uint64) ([]byte, error) {
	c, extensions, err := parseText(text)
	if err != nil {
		return nil, err
	}
	if err := c.CheckRoot(); err != nil {
		return nil, err
	}
	var msg []byte
	switch k.verifier.alg {
	case AlgEd25519:
		return k.sign(text)
	case AlgEd25519Cosignature:
		if t == 0 {
			// Only ML-DSA-44 gives 0 a meaning; here it would be a lie
			// about 1970.
			return nil, fmt.Errorf("%w: an Ed25519 cosignature needs one", ErrTime)
		}
		msg, err = ed25519Message(t, text)
	default:
		msg, err = mldsaMessage(k.verifier.name, t, c, extensions)
	}
	if err != nil {
		return nil, err
	}
	signature, err := k.sign(msg)
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint64(nil, t), signature...), nil
}

// SignLog signs a checkpoint as its log, with each of the keys, and returns the
// note. The keys must be log keys (AlgEd25519 or AlgMLDSA44) named like the
// origin. See [SigningKey.SignCheckpoint] for t and for what is not signed.
func SignLog(c Checkpoint, t uint64, keys ...*SigningKey) (*Note, error) {
	text := c.Body()
	// An origin with a newline in it would smuggle in lines.
	if read, extensions, err := parseText(text); err != nil {
		return nil, fmt.Errorf("signing checkpoint: %w", err)
	} else if read != c || len(extensions) != 0 {
		return nil, fmt.Errorf("signing checkpoint: origin %q is not one line", c.Origin)
	}
	signatures := make([]Signature, 0, len(keys))
	for _, k := range keys {
		v := k.verifier
		// SPEC (tlog-checkpoint): The log's key name in its signature line
		// SHOULD match the origin line.
		if v.name != c.Origin {
			return nil, fmt.Errorf("signing checkpoint of %q: key %s has another name", c.Origin, v.label())
		}
		if !logAlgorithm(v.alg) {
			return nil, fmt.Errorf("signing checkpoint of %q: key %s is for %s, not a log's", c.Origin, v.label(), v.alg)
		}
		s, err := k.SignCheckpoint(text, t)
		if err != nil {
			return nil, err
		}
		signatures = append(signatures, s)
	}
	return NewNote(text, signatures...)
}

// logAlgorithm and witnessAlgorithm say which keys may stand in a role.
//
// SPEC (tlog-policy): Log and witness keys must use a signature type
// appropriate for the respective function.
func logAlgorithm(a Algorithm) bool { return a == AlgEd25519 || a == AlgMLDSA44 }

func witnessAlgorithm(a Algorithm) bool { return a == AlgEd25519Cosignature || a == AlgMLDSA44 }
