package pkcs11

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"math/big"
	"strings"
	"testing"
)

// TestPublicKey: one key, in each of the encodings that tokens give.
func TestPublicKey(t *testing.T) {
	ed := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
	// A point whose beginning is that of its own wrapping.
	private, point := new(ecdsa.PrivateKey), []byte(nil)
	for n := int64(1); !bytes.HasPrefix(point, []byte(octetP256)); n++ {
		var err error
		if private, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), big.NewInt(n).FillBytes(make([]byte, 32))); err != nil {
			t.Fatal(err)
		}
		if point, err = private.PublicKey.Bytes(); err != nil {
			t.Fatal(err)
		}
	}
	compressed := append([]byte{2}, point[1:33]...)
	// A key that begins as its own wrapping would.
	strange := append([]byte{4, 32}, bytes.Repeat([]byte{7}, 30)...)
	for _, c := range []struct {
		name, params string
		point        []byte
		want         any
		words        string
	}{
		{"Ed25519, OCTET STRING", paramsEd25519, append([]byte{4, 32}, ed...), ed, ""},
		{"Ed25519, bare", paramsEd25519, ed, ed, ""},
		{"Ed25519, bare, like a string", paramsEd25519, strange, ed25519.PublicKey(strange), ""},
		{"Ed25519, BIT STRING", paramsEd25519, append([]byte{3, 33, 0}, ed...), ed, ""},
		{"Ed25519 by name", paramsEd25519Str, append([]byte{4, 32}, ed...), ed, ""},
		{"Ed25519 by the old OID", paramsEd25519Old, ed, ed, ""},
		{"P-256, OCTET STRING", paramsP256, append([]byte{4, 65}, point...), &private.PublicKey, ""},
		{"P-256, bare", paramsP256, point, &private.PublicKey, ""},

		{"Ed25519, short", paramsEd25519, ed[:31], nil, "32 bytes"},
		{"Ed25519, long", paramsEd25519, append([]byte{0}, ed...), nil, "32 bytes"},
		{"Ed25519, other tag", paramsEd25519, append([]byte{5, 32}, ed...), nil, "32 bytes"},
		{"Ed25519, bits unused", paramsEd25519, append([]byte{3, 33, 1}, ed...), nil, "32 bytes"},
		{"Ed25519, none", paramsEd25519, nil, nil, "32 bytes"},
		{"P-256, compressed", paramsP256, compressed, nil, "uncompressed point"},
		{"P-256, not on the curve", paramsP256, append(bytes.Clone(point[:64]), point[64]^1), nil, "uncompressed point"},
		{"P-256, trailing", paramsP256, append(append([]byte{4, 65}, point...), 0), nil, "uncompressed point"},
		{"P-256, point of Ed25519", paramsP256, ed, nil, "uncompressed point"},
		{"P-256, none", paramsP256, nil, nil, "uncompressed point"},
		{"P-384", "\x06\x05\x2b\x81\x04\x00\x22", point, nil, "another curve"},
		{"Ed448", "\x06\x03\x2b\x65\x71", ed, nil, "another curve"},
		{"no curve", "", point, nil, "another curve"},
	} {
		got, err := publicKey([]byte(c.params), c.point)
		if c.words != "" {
			if err == nil || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%s: %v, %v", c.name, got, err)
			}
			continue
		}
		if err != nil || !equal(got, c.want) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

func TestDERSignature(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("m"))
	r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	raw := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	der, err := derSignature(raw)
	if err != nil || !ecdsa.VerifyASN1(&private.PublicKey, digest[:], der) {
		t.Errorf("%x: %x, %v", raw, der, err)
	}
	// Small numbers and set top bits have DER encodings of their own length.
	small, err := derSignature(append(big.NewInt(1).FillBytes(make([]byte, 32)), bytes.Repeat([]byte{0xff}, 32)...))
	if want := append([]byte{0x30, 38, 2, 1, 1, 2, 33, 0}, bytes.Repeat([]byte{0xff}, 32)...); err != nil || !bytes.Equal(small, want) {
		t.Errorf("%x, %v, want %x", small, err, want)
	}
	for _, n := range []int{0, 1, 63, 65, 72, 96} {
		if _, err := derSignature(make([]byte, n)); err == nil {
			t.Errorf("%d bytes were taken for a signature", n)
		}
	}
}
