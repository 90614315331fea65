package checkpoint

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"filippo.io/mldsa"
)

// device is a signer of which each part can be broken.
type device struct {
	public crypto.PublicKey
	sign   func(msg []byte, opts crypto.SignerOpts) ([]byte, error)
}

func (d *device) Public() crypto.PublicKey { return d.public }

func (d *device) Sign(_ io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	return d.sign(msg, opts)
}

// deviceKeys returns signers outside of this package, and the same keys as
// SigningKeys from their seeds.
func deviceKeys(tb testing.TB, name string, alg Algorithm) (crypto.Signer, *SigningKey) {
	tb.Helper()
	seed := sha256.Sum256([]byte("device\n" + alg.String()))
	local, err := GenerateKey(bytes.NewReader(seed[:]), name, alg)
	if err != nil {
		tb.Fatal(err)
	}
	if alg != AlgMLDSA44 {
		return ed25519.NewKeyFromSeed(seed[:]), local
	}
	private, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), seed[:])
	if err != nil {
		tb.Fatal(err)
	}
	return private, local
}

// TestRemoteKey: a remote key is the same key as one from a file.
func TestRemoteKey(t *testing.T) {
	t.Parallel()
	for _, alg := range algorithms() {
		signer, local := deviceKeys(t, testOrigin, alg)
		k, err := NewRemoteKey(testOrigin, alg, signer)
		if err != nil {
			t.Fatalf("%v: %v", alg, err)
		}
		if k.Verifier().String() != local.Verifier().String() {
			t.Errorf("%v: verifier key is %v, want %v", alg, k.Verifier(), local.Verifier())
		}
		sig, err := k.SignCheckpoint(testCheckpoint().Body(), testTime)
		if err != nil {
			t.Fatalf("%v: %v", alg, err)
		}
		n, err := NewNote(testCheckpoint().Body(), sig)
		if err != nil {
			t.Fatal(err)
		}
		want := testTime
		if alg == AlgEd25519 {
			want = 0
		}
		if got, err := local.Verifier().VerifyCheckpoint(n, sig); err != nil || got != want {
			t.Errorf("%v: verifies at %d, %v", alg, got, err)
		}
		// Ed25519 has one signature for a message.
		if same, err := local.SignCheckpoint(testCheckpoint().Body(), testTime); alg != AlgMLDSA44 && (err != nil || !bytes.Equal(same.Bytes, sig.Bytes)) {
			t.Errorf("%v: %x, from a file %x, %v", alg, sig.Bytes, same.Bytes, err)
		}
		if logAlgorithm(alg) {
			if _, err := SignLog(testCheckpoint(), testTime, k); err != nil {
				t.Errorf("%v: SignLog: %v", alg, err)
			}
		}
		if got := k.Encode(); got != "" {
			t.Errorf("%v: there is no private key, it encodes as %q", alg, got)
		}
		if got := fmt.Sprintf("%v %+v %#v %s", k, k, k, *k); strings.Count(got, k.Verifier().String()) != 4 {
			t.Errorf("%v prints as %s", alg, got)
		}
	}
}

// TestRemoteKeyAsksForTheMessage: the signer gets the message itself and no digest.
func TestRemoteKeyAsksForTheMessage(t *testing.T) {
	t.Parallel()
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	var got []byte
	d := &device{public: private.Public(), sign: func(msg []byte, opts crypto.SignerOpts) ([]byte, error) {
		got = bytes.Clone(msg)
		if opts == nil || opts.HashFunc() != crypto.Hash(0) {
			t.Errorf("options are %v", opts)
		}
		sig := ed25519.Sign(private, msg)
		clear(msg) // a signer may do what it likes with what it got
		return sig, nil
	}}
	k, err := NewRemoteKey(testOrigin, AlgEd25519, d)
	if err != nil {
		t.Fatal(err)
	}
	body := testCheckpoint().Body()
	if _, err := k.SignCheckpoint(body, 0); err != nil || !bytes.Equal(got, testCheckpoint().Body()) {
		t.Errorf("asked to sign %q, %v", got, err)
	}
	if !bytes.Equal(body, testCheckpoint().Body()) {
		t.Errorf("the text became %q", body)
	}
}

func TestRemoteKeyRejects(t *testing.T) {
	t.Parallel()
	good, _ := deviceKeys(t, testOrigin, AlgEd25519)
	pq, _ := deviceKeys(t, testOrigin, AlgMLDSA44)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pq65, err := mldsa.NewPrivateKey(mldsa.MLDSA65(), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	with := func(public crypto.PublicKey) crypto.Signer { return &device{public: public} }
	smallOrder := ed25519.PublicKey(append([]byte{1}, make([]byte, 31)...))
	for _, c := range []struct {
		about  string
		name   string
		alg    Algorithm
		signer crypto.Signer
		words  string
	}{
		{"no signer", testOrigin, AlgEd25519, nil, "no signer"},
		{"no public key", testOrigin, AlgEd25519, with(nil), "expected a signer with an Ed25519 key"},
		{"no public key", testOrigin, AlgMLDSA44, with((*mldsa.PublicKey)(nil)), "expected a signer with an ML-DSA-44 key"},
		{"P-256", testOrigin, AlgEd25519, p256, "expected a signer with an Ed25519 key"},
		{"P-256", testOrigin, AlgEd25519Cosignature, p256, "expected a signer with an Ed25519 key"},
		{"P-256", testOrigin, AlgMLDSA44, p256, "expected a signer with an ML-DSA-44 key"},
		{"Ed25519", testOrigin, AlgMLDSA44, good, "expected a signer with an ML-DSA-44 key"},
		{"ML-DSA-44", testOrigin, AlgEd25519, pq, "expected a signer with an Ed25519 key"},
		{"ML-DSA-65", testOrigin, AlgMLDSA44, pq65, "expected a signer with an ML-DSA-44 key"},
		{"a short key", testOrigin, AlgEd25519, with(ed25519.PublicKey("short")), "expected a signer with an Ed25519 key"},
		{"a pointer to a key", testOrigin, AlgEd25519, with(&smallOrder), "expected a signer with an Ed25519 key"},
		{"small order", testOrigin, AlgEd25519, with(smallOrder), "of small order"},
		{"another algorithm", testOrigin, 0x02, good, "unsupported signature type 0x02"},
		{"no name", "", AlgEd25519, good, badName},
		{"a name with a plus sign", "a+b", AlgEd25519, good, badName},
		{"a long name", strings.Repeat("a", 256), AlgMLDSA44, pq, "longer than 255 bytes"},
	} {
		k, err := NewRemoteKey(c.name, c.alg, c.signer)
		if k != nil || err == nil || !strings.HasPrefix(err.Error(), "using a remote key: ") || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s for %v: %v, %v, want %q", c.about, c.alg, k, err, c.words)
		}
	}
}

// TestRemoteKeyAnswers: what a broken device answers is on no note.
func TestRemoteKeyAnswers(t *testing.T) {
	t.Parallel()
	errDevice := errors.New("device on fire")
	for _, alg := range algorithms() {
		good, _ := deviceKeys(t, testOrigin, alg)
		other := testKey(t, testOrigin, alg, "other")
		answer := func(msg []byte) []byte {
			sig, err := good.Sign(rand.Reader, msg, crypto.Hash(0))
			if err != nil {
				t.Fatal(err)
			}
			return sig
		}
		for about, c := range map[string]struct {
			answers func(msg []byte) ([]byte, error)
			want    error
		}{
			"an error":             {func([]byte) ([]byte, error) { return nil, errDevice }, errDevice},
			"error and signature":  {func(msg []byte) ([]byte, error) { return answer(msg), errDevice }, errDevice},
			"nothing":              {func([]byte) ([]byte, error) { return nil, nil }, ErrSignatureLength},
			"a short one":          {func(msg []byte) ([]byte, error) { return answer(msg)[1:], nil }, ErrSignatureLength},
			"a long one":           {func(msg []byte) ([]byte, error) { return append(answer(msg), 0), nil }, ErrSignatureLength},
			"zeros":                {func(msg []byte) ([]byte, error) { return make([]byte, len(answer(msg))), nil }, ErrWrongSignature},
			"a bit off":            {func(msg []byte) ([]byte, error) { return flip(answer(msg), 8), nil }, ErrWrongSignature},
			"another message's":    {func(msg []byte) ([]byte, error) { return answer(append(msg, 'x')), nil }, ErrWrongSignature},
			"another key's":        {func(msg []byte) ([]byte, error) { return other.sign(msg) }, ErrWrongSignature},
			"a digest's":           {func(msg []byte) ([]byte, error) { d := sha256.Sum256(msg); return answer(d[:]), nil }, ErrWrongSignature},
			"of a changed message": {func(msg []byte) ([]byte, error) { msg[0] ^= 1; return answer(msg), nil }, ErrWrongSignature},
		} {
			k, err := NewRemoteKey(testOrigin, alg, &device{good.Public(), func(msg []byte, _ crypto.SignerOpts) ([]byte, error) { return c.answers(msg) }})
			if err != nil {
				t.Fatal(err)
			}
			sig, err := k.SignCheckpoint(testCheckpoint().Body(), testTime)
			if !errors.Is(err, c.want) || sig.Bytes != nil || sig.Name != "" {
				t.Errorf("%v, %s: %v, %v, want %v", alg, about, sig, err, c.want)
			}
			if !logAlgorithm(alg) {
				continue
			}
			if n, err := SignLog(testCheckpoint(), testTime, testKey(t, testOrigin, AlgEd25519, ""), k); n != nil || !errors.Is(err, c.want) {
				t.Errorf("%v, %s: note %v, %v", alg, about, n, err)
			}
		}
	}
}

// TestRemoteKeyPublic: a device whose key changes later signs nothing.
func TestRemoteKeyPublic(t *testing.T) {
	t.Parallel()
	first, second := ed25519.NewKeyFromSeed(make([]byte, 32)), ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	public := bytes.Clone(first.Public().(ed25519.PublicKey))
	d := &device{public: ed25519.PublicKey(public), sign: func(msg []byte, _ crypto.SignerOpts) ([]byte, error) {
		return ed25519.Sign(second, msg), nil
	}}
	k, err := NewRemoteKey(testOrigin, AlgEd25519, d)
	if err != nil {
		t.Fatal(err)
	}
	vkey := k.Verifier().String()
	copy(public, second.Public().(ed25519.PublicKey)) // the slice that was handed over
	if _, err := k.SignCheckpoint(testCheckpoint().Body(), 0); !errors.Is(err, ErrWrongSignature) {
		t.Errorf("signed with another key: %v", err)
	}
	if k.Verifier().String() != vkey {
		t.Errorf("the verifier key has become %v", k.Verifier())
	}
}
