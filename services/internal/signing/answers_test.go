package signing

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/statement"
)

// broken is a device that answers what it likes.
type broken struct {
	public crypto.PublicKey
	answer func([]byte) ([]byte, error)
}

func (b *broken) Public() crypto.PublicKey { return b.public }

func (b *broken) Sign(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	return b.answer(message)
}

// TestAnswers: nothing but the key's own signature gets out.
func TestAnswers(t *testing.T) {
	ed, ec := seeded("a"), newP256(t)
	digest := sha256.Sum256([]byte("m"))
	asn := func(r, s *big.Int) []byte {
		der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	ecSign := func(k *ecdsa.PrivateKey, digest []byte) (r, s *big.Int) {
		r, s, err := ecdsa.Sign(rand.Reader, k, digest)
		if err != nil {
			t.Fatal(err)
		}
		return r, s
	}
	order := elliptic.P256().Params().N
	errDevice := errors.New("device on fire")
	for _, c := range []struct {
		name   string
		public crypto.PublicKey
		answer func([]byte) ([]byte, error)
		want   error // nil: it is a signature
	}{
		{"Ed25519", ed.Public(), func(m []byte) ([]byte, error) { return ed25519.Sign(ed, m), nil }, nil},
		{"Ed25519, error", ed.Public(), func([]byte) ([]byte, error) { return nil, errDevice }, errDevice},
		{"Ed25519, nothing", ed.Public(), func([]byte) ([]byte, error) { return nil, nil }, ErrWrongSignature},
		{"Ed25519, zeros", ed.Public(), func([]byte) ([]byte, error) { return make([]byte, 64), nil }, ErrWrongSignature},
		{"Ed25519, another key", ed.Public(), func(m []byte) ([]byte, error) { return ed25519.Sign(seeded("b"), m), nil }, ErrWrongSignature},
		{"Ed25519, a message changed", ed.Public(), func(m []byte) ([]byte, error) { m[0] ^= 1; return ed25519.Sign(ed, m), nil }, ErrWrongSignature},

		{"P-256", &ec.PublicKey, func(m []byte) ([]byte, error) { return ecdsa.SignASN1(rand.Reader, ec, m) }, nil},
		{"P-256, high S", &ec.PublicKey, func(m []byte) ([]byte, error) {
			r, s := ecSign(ec, m)
			if s.Cmp(new(big.Int).Rsh(order, 1)) <= 0 {
				s = new(big.Int).Sub(order, s)
			}
			return asn(r, s), nil
		}, nil},
		{"P-256, error", &ec.PublicKey, func([]byte) ([]byte, error) { return nil, errDevice }, errDevice},
		{"P-256, nothing", &ec.PublicKey, func([]byte) ([]byte, error) { return nil, nil }, ErrWrongSignature},
		{"P-256, bare r and s", &ec.PublicKey, func(m []byte) ([]byte, error) {
			r, s := ecSign(ec, m)
			return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), nil
		}, ErrWrongSignature},
		{"P-256, zeros", &ec.PublicKey, func([]byte) ([]byte, error) { return asn(new(big.Int), new(big.Int)), nil }, ErrWrongSignature},
		{"P-256, trailing", &ec.PublicKey, func(m []byte) ([]byte, error) { return append(asn(ecSign(ec, m)), 0), nil }, ErrWrongSignature},
		{"P-256, another key", &ec.PublicKey, func(m []byte) ([]byte, error) { return ecdsa.SignASN1(rand.Reader, newP256(t), m) }, ErrWrongSignature},
		{"P-256, hashed again", &ec.PublicKey, func(m []byte) ([]byte, error) {
			again := sha256.Sum256(m)
			return ecdsa.SignASN1(rand.Reader, ec, again[:])
		}, ErrWrongSignature},
	} {
		k, err := newKey("here", &broken{c.public, c.answer}, func() error { return nil })
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		message, opts := digest[:], crypto.SHA256
		if strings.HasPrefix(c.name, "Ed25519") {
			message, opts = []byte("m"), crypto.Hash(0)
		}
		sig, err := k.Sign(nil, message, opts)
		if c.want == nil {
			if err != nil || k.try() != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if low, lowErr := statement.LowS(sig); opts == crypto.SHA256 && (lowErr != nil || !bytes.Equal(low, sig)) {
				t.Errorf("%s: high S got out", c.name)
			}
			continue
		}
		if sig != nil || !errors.Is(err, c.want) || !strings.Contains(err.Error(), "here") {
			t.Errorf("%s: %x, %v, want %v", c.name, sig, err, c.want)
		}
		if err := k.try(); !errors.Is(err, c.want) {
			t.Errorf("%s: is good to be used: %v", c.name, err)
		}
	}
}

// TestUnusable: a device with an unusable key is closed again.
func TestUnusable(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, public := range map[string]crypto.PublicKey{
		"none": nil, "P-384": &p384.PublicKey, "short": ed25519.PublicKey("short"),
		"small order": ed25519.PublicKey(append([]byte{1}, make([]byte, 31)...)),
	} {
		closed := 0
		k, err := newKey("here", &broken{public: public}, func() error { closed++; return errors.New("at closing") })
		if k != nil || err == nil || closed != 1 || !strings.Contains(err.Error(), "at closing") {
			t.Errorf("%s: %v, closed %d times, %v", name, k, closed, err)
		}
	}
}
