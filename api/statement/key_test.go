package statement_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/statement"
)

// spki frames 32 bytes as the SubjectPublicKeyInfo of an Ed25519 key (RFC 8410
// section 4).
func spki(key []byte) []byte {
	return append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}, key...)
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// weakPoints are all encodings of the points whose order divides 8, and of y
// not reduced modulo 2^255-19, of which two have small order. TestWeakKeys shows
// that they are what they are said to be.
func weakPoints() []string {
	return []string{
		"0100000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000080",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0000000000000000000000000000000000000000000000000000000000000080",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
	}
}

// TestWeakKeys shows for each weak point that a signature anybody can make
// verifies in the standard library, and that the key is refused.
func TestWeakKeys(t *testing.T) {
	for _, point := range weakPoints() {
		key := unhex(t, point)
		// R neutral and S = 0 verifies whenever the hash is a multiple of the
		// point's order, that is, for at least one message in eight.
		forged := append(append([]byte{1}, make([]byte, 31)...), make([]byte, 32)...)
		var verified bool
		for i := 0; i < 500 && !verified; i++ {
			verified = ed25519.Verify(key, []byte{byte(i), byte(i >> 8)}, forged)
		}
		if !verified {
			t.Errorf("%s: no forgery found, the point is not what it is said to be", point)
		}
		if _, err := statement.ParsePublicKey(spki(key)); err == nil || !strings.Contains(err.Error(), "small order") {
			t.Errorf("%s: ParsePublicKey gives %v, want a refusal", point, err)
		}
		if _, err := statement.NewPublicKey(ed25519.PublicKey(key), nil); err == nil {
			t.Errorf("%s: NewPublicKey accepts it", point)
		}
	}
	// y from p to 2^255-1 is not reduced; p-2 is.
	for low, want := range map[byte]bool{0xeb: true, 0xec: false, 0xed: false, 0xef: false, 0xf5: false, 0xff: false} {
		key := append(append([]byte{low}, bytes.Repeat([]byte{0xff}, 30)...), 0x7f)
		if _, err := statement.ParsePublicKey(spki(key)); (err == nil) != want {
			t.Errorf("y of low byte %x: %v, want accepted = %v", low, err, want)
		}
	}
	// Only the whole pattern is unreduced.
	for _, i := range []int{1, 15, 30} {
		key := append(bytes.Repeat([]byte{0xff}, 31), 0x7f)
		key[i] = 0xfe
		if _, err := statement.ParsePublicKey(spki(key)); err != nil {
			t.Errorf("y with byte %d below the prime's: %v", i, err)
		}
	}
}

func TestParsePublicKey(t *testing.T) {
	good := edKey(t, "author").Public()
	ec := ecSigner(t, "approver")
	ecDER := ecKey(t, "approver").Public().DER()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384DER, _ := x509.MarshalPKIXPublicKey(p384.Public())
	rsaKey := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}
	rsaDER, err := x509.MarshalPKIXPublicKey(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	// SEC 1, 2.3.3: an uncompressed point is 04, X, Y; a compressed one is 02 or,
	// for an odd Y, 03, and X.
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	point = append([]byte{2 | point[64]&1}, point[1:33]...)
	compressed := append(unhex(t, "3039301306072a8648ce3d020106082a8648ce3d030107032200"), point...)
	offCurve := slices.Clone(ecDER)
	offCurve[len(offCurve)-1] ^= 1
	withNull := append(unhex(t, "302c300706032b65700500032100"), good.DER()[12:]...)
	longLength := append([]byte{0x30, 0x81, 0x2a}, good.DER()[2:]...)
	for name, der := range map[string][]byte{
		"empty": nil, "no DER": []byte("key"), "bare key": good.DER()[12:], "cut off": good.DER()[:43],
		"trailing byte": append(slices.Clone(good.DER()), 0), "parameters": withNull, "long length": longLength,
		"31 bytes": spki(make([]byte, 31)), "P-384": p384DER, "RSA": rsaDER, "compressed": compressed, "off the curve": offCurve,
		"X25519": append(unhex(t, "302a300506032b656e032100"), good.DER()[12:]...),
	} {
		if k, err := statement.ParsePublicKey(der); err == nil {
			t.Errorf("%s: accepted as %s", name, k.Algorithm())
		}
	}
	for name, tt := range map[string]struct {
		key *statement.PublicKey
		der []byte
	}{"Ed25519": {good, spki(ed25519.PublicKey(good.DER()[12:]))}, "ECDSA P-256": {ecKey(t, "approver").Public(), ecDER}} {
		k, err := statement.ParsePublicKey(tt.der)
		if err != nil || k.ID() != sha256.Sum256(tt.der) || k.ID() != tt.key.ID() || k.Algorithm() != name || !bytes.Equal(k.DER(), tt.der) {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
	for name, key := range map[string]crypto.PublicKey{
		"31 bytes": ed25519.PublicKey(make([]byte, 31)), "no curve": &ecdsa.PublicKey{}, "not a key": "key", "nothing": nil,
		"P-384": p384.Public(),
		//nolint:staticcheck // nothing else makes a point off the curve
		"off the curve": &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)},
	} {
		if _, err := statement.NewPublicKey(key, nil); err == nil {
			t.Errorf("NewPublicKey of %s: want an error", name)
		}
	}
	for _, der := range [][]byte{good.DER(), ecKey(t, "other").Public().DER()} {
		if _, err := statement.NewPublicKey(ec.Public(), der); err == nil {
			t.Errorf("NewPublicKey with another key's encoding of %d bytes: want an error", len(der))
		}
	}
}

// highS returns the high-S twin of a low-S signature.
func highS(tb testing.TB, sig []byte) []byte {
	tb.Helper()
	var v struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &v); err != nil {
		tb.Fatal(err)
	}
	v.S.Sub(elliptic.P256().Params().N, v.S)
	out, err := asn1.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func TestVerify(t *testing.T) {
	message := []byte("message")
	ed, ec, signer := edKey(t, "author"), ecKey(t, "approver"), ecSigner(t, "approver")
	edSig, err := ed.Sign(message)
	if err != nil {
		t.Fatal(err)
	}
	ecSig, err := ec.Sign(message)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct {
		key *statement.PrivateKey
		sig []byte
	}{{ed, edSig}, {ec, ecSig}} {
		if err := k.key.Public().Verify(message, k.sig); err != nil {
			t.Errorf("%s: %v", k.key.Public().Algorithm(), err)
		}
		if err := k.key.Public().Verify([]byte("massage"), k.sig); err == nil {
			t.Errorf("%s: verifies another message", k.key.Public().Algorithm())
		}
		for i := range k.sig {
			bad := slices.Clone(k.sig)
			bad[i] ^= 0x10
			if err := k.key.Public().Verify(message, bad); err == nil {
				t.Errorf("%s: verifies with byte %d changed", k.key.Public().Algorithm(), i)
			}
		}
	}
	// RFC 8032 section 5.1.7: S out of range would be a second signature.
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	reversed := func(b []byte) []byte { b = slices.Clone(b); slices.Reverse(b); return b }
	s := new(big.Int).Add(new(big.Int).SetBytes(reversed(edSig[32:])), order)
	malleated := append(slices.Clone(edSig[:32]), reversed(s.FillBytes(make([]byte, 32)))...)
	var v struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(ecSig, &v); err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	der := func(r, s *big.Int) []byte { b, _ := asn1.Marshal(struct{ R, S *big.Int }{r, s}); return b }
	high := highS(t, ecSig)
	digest := sha256.Sum256(message)
	if !ecdsa.VerifyASN1(&signer.PublicKey, digest[:], high) {
		t.Fatal("the high-S twin must verify in the standard library, or the test is void")
	}
	tests := map[string]struct {
		key   *statement.PrivateKey
		sig   []byte
		words string
	}{
		"Ed25519, S + order":     {ed, malleated, "does not verify"},
		"Ed25519, empty":         {ed, nil, "does not verify"},
		"Ed25519, 63 bytes":      {ed, edSig[:63], "does not verify"},
		"Ed25519, 65 bytes":      {ed, append(slices.Clone(edSig), 0), "does not verify"},
		"Ed25519, of the other":  {ed, ecSig, "does not verify"},
		"ECDSA, high S":          {ec, high, "high S"},
		"ECDSA, of the other":    {ec, edSig, "DER ECDSA signature"},
		"ECDSA, empty":           {ec, nil, "DER ECDSA signature"},
		"ECDSA, cut off":         {ec, ecSig[:len(ecSig)-1], "DER ECDSA signature"},
		"ECDSA, trailing byte":   {ec, append(slices.Clone(ecSig), 0), "DER ECDSA signature"},
		"ECDSA, BER long length": {ec, append([]byte{0x30, 0x81, ecSig[1]}, ecSig[2:]...), "DER ECDSA signature"},
		"ECDSA, BER indefinite":  {ec, append(append([]byte{0x30, 0x80}, ecSig[2:]...), 0, 0), "DER ECDSA signature"},
		"ECDSA, third integer":   {ec, append([]byte{0x30, ecSig[1] + 3}, append(slices.Clone(ecSig[2:]), 2, 1, 1)...), "canonical"},
		"ECDSA, bare r and s":    {ec, append(v.R.FillBytes(make([]byte, 32)), v.S.FillBytes(make([]byte, 32))...), "DER ECDSA signature"},
		"ECDSA, r = 0":           {ec, der(new(big.Int), v.S), "does not verify"},
		"ECDSA, s = 0":           {ec, der(v.R, new(big.Int)), "does not verify"},
		"ECDSA, r = s = 0":       {ec, der(new(big.Int), new(big.Int)), "does not verify"},
		"ECDSA, negative s":      {ec, der(v.R, new(big.Int).Neg(v.S)), "does not verify"},
		"ECDSA, r + n":           {ec, der(new(big.Int).Add(v.R, n), v.S), "does not verify"},
		"ECDSA, s - n":           {ec, der(v.R, new(big.Int).Sub(v.S, n)), "does not verify"},
	}
	for name, tt := range tests {
		if err := tt.key.Public().Verify(message, tt.sig); err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v, want %q", name, err, tt.words)
		}
	}
	for name, sig := range map[string][]byte{"high": high, "low": ecSig} {
		low, err := statement.LowS(sig)
		if err != nil || !bytes.Equal(low, ecSig) {
			t.Errorf("LowS of the %s twin: %x, %v; want %x", name, low, err, ecSig)
		}
	}
	if _, err := statement.LowS(edSig); err == nil {
		t.Error("LowS of an Ed25519 signature: want an error")
	}
	// The border: S = floor(n/2) is low, one more is high.
	half := new(big.Int).Rsh(n, 1)
	for s, words := range map[*big.Int]string{half: "does not verify", new(big.Int).Add(half, big.NewInt(1)): "high S"} {
		if err := ec.Public().Verify(message, der(v.R, s)); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("S = %v: %v, want %q", s, err, words)
		}
	}
}

// TestSignIsLowS signs often enough that a high S would show.
func TestSignIsLowS(t *testing.T) {
	k := ecKey(t, "approver")
	for i := range 64 {
		message := []byte{byte(i)}
		sig, err := k.Sign(message)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Public().Verify(message, sig); err != nil {
			t.Fatal(err)
		}
	}
}

// brokenSigner has a key and cannot use it.
type brokenSigner struct{ public crypto.PublicKey }

func (b brokenSigner) Public() crypto.PublicKey { return b.public }

func (b brokenSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the token was pulled out")
}

func TestPrivateKey(t *testing.T) {
	seed := digest("author")
	k, err := statement.GenerateKey(bytes.NewReader(seed[:]))
	if err != nil || k.ID() != edKey(t, "author").ID() {
		t.Errorf("GenerateKey from a seed = %v, %v", k, err)
	}
	if _, err := statement.GenerateKey(bytes.NewReader(seed[:31])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("GenerateKey from 31 bytes: %v", err)
	}
	for _, k := range []*statement.PrivateKey{k, ecKey(t, "approver")} {
		text, err := k.EncodePEM()
		if err != nil {
			t.Fatal(err)
		}
		again, err := statement.ParsePrivateKey(append([]byte("\n"), append(text, '\n')...))
		if err != nil || again.ID() != k.ID() {
			t.Errorf("ParsePrivateKey of what EncodePEM wrote: %v, %v", again, err)
		}
		bad := map[string][]byte{
			"nothing": nil, "two blocks": append(slices.Clone(text), text...), "behind it": append(slices.Clone(text), 'x'),
			"another type": bytes.ReplaceAll(text, []byte("PRIVATE KEY"), []byte("PUBLIC KEY")),
			"no key":       pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}),
		}
		for name, text := range bad {
			if _, err := statement.ParsePrivateKey(text); err == nil {
				t.Errorf("ParsePrivateKey of %s: want an error", name)
			}
		}
	}
	for _, public := range []crypto.PublicKey{edKey(t, "a").Public(), ed25519.PublicKey(k.Public().DER()[12:])} {
		_, err := statement.NewPrivateKey(brokenSigner{public})
		if _, isWrapped := public.(*statement.PublicKey); isWrapped != (err != nil) {
			t.Errorf("NewPrivateKey with a public key of type %T: %v", public, err)
		}
	}
	for _, public := range []crypto.PublicKey{ed25519.PublicKey(k.Public().DER()[12:]), ecSigner(t, "x").Public()} {
		broken, err := statement.NewPrivateKey(brokenSigner{public})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := broken.Sign(nil); err == nil || !strings.Contains(err.Error(), "pulled out") {
			t.Errorf("Sign with a broken token: %v", err)
		}
		if _, err := broken.EncodePEM(); err == nil {
			t.Error("EncodePEM of a token: want an error")
		}
		if _, err := statement.SignDSSE("t", nil, broken); err == nil {
			t.Error("SignDSSE with a broken token: want an error")
		}
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := statement.ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err == nil {
		t.Error("ParsePrivateKey of a P-384 key: want an error")
	}
}

// TestPrivateKeyIsNotPrinted tries every verb, on the pointer, a copy and in a
// struct.
func TestPrivateKeyIsNotPrinted(t *testing.T) {
	seed := digest("author")
	k := edKey(t, "author")
	want := "private key of " + k.ID().String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%e", "%t"} {
		for _, v := range []any{k, *k} {
			if got := fmt.Sprintf(verb, v); got != want {
				t.Errorf("%s of %T prints %q", verb, v, got)
			}
		}
		if got := fmt.Sprintf(verb, struct{ K *statement.PrivateKey }{k}); strings.Contains(got, fmt.Sprint(seed[0], " ", seed[1], " ", seed[2])) {
			t.Errorf("%s of a struct prints the seed", verb)
		}
	}
}
