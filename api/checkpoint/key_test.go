package checkpoint

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/mldsa"
)

func algorithms() []Algorithm {
	return []Algorithm{AlgEd25519, AlgEd25519Cosignature, AlgMLDSA44}
}

func TestKeysRoundTrip(t *testing.T) {
	t.Parallel()
	for _, alg := range algorithms() {
		k := testKey(t, "witness.example/Ω", alg, "")
		again, err := ParseSigningKey(k.Encode())
		if err != nil {
			t.Fatalf("%v: ParseSigningKey: %v", alg, err)
		}
		if again.Encode() != k.Encode() || again.Verifier().String() != k.Verifier().String() {
			t.Errorf("%v: signing key changed on the way", alg)
		}
		v, err := ParseVerifierKey(k.Verifier().String())
		if err != nil {
			t.Fatalf("%v: ParseVerifierKey: %v", alg, err)
		}
		if v.Name() != "witness.example/Ω" || v.Algorithm() != alg || v.ID() != k.Verifier().ID() || v.String() != k.Verifier().String() {
			t.Errorf("%v: verifier key changed on the way: %v", alg, v)
		}
		size := map[bool]int{false: ed25519.PublicKeySize, true: mldsa.MLDSA44PublicKeySize}[alg == AlgMLDSA44]
		if len(v.PublicKey()) != size {
			t.Errorf("%v: public key is %d bytes, want %d", alg, len(v.PublicKey()), size)
		}
		clear(v.PublicKey())
		if v.String() != k.Verifier().String() {
			t.Errorf("%v: PublicKey gives away the key's own bytes", alg)
		}
	}
}

// TestSpecificationVector verifies the example of c2sp.org/signed-note.
func TestSpecificationVector(t *testing.T) {
	t.Parallel()
	k, err := ParseVerifierKey("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
	if err != nil {
		t.Fatalf("ParseVerifierKey: %v", err)
	}
	text, signatures, err := splitNote([]byte("This is an example message.\n\n" +
		"— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"))
	if err != nil {
		t.Fatalf("splitNote: %v", err)
	}
	if _, err := k.verify(&Note{text: text}, signatures[0]); err != nil {
		t.Errorf("verify: %v", err)
	}
}

func TestParseVerifierKeyRejects(t *testing.T) {
	t.Parallel()
	log, witness, pq := testKey(t, "log", AlgEd25519, "").Verifier(), testKey(t, "w", AlgEd25519Cosignature, "").Verifier(), testKey(t, "pq", AlgMLDSA44, "").Verifier()
	// vkey spells a key with the id that belongs to it, whatever else is wrong.
	vkey := func(name string, b []byte) string {
		return name + "+" + formatID(keyID(name, Algorithm(b[0]), b[1:])) + "+" + base64.StdEncoding.EncodeToString(b)
	}
	typed := func(k *VerifierKey, alg byte) []byte { return append([]byte{alg}, k.public...) }
	parts := strings.SplitN(log.String(), "+", 3)
	tests := map[string]struct{ vkey, words string }{
		"nothing":               {"", "plus signs"},
		"name only":             {"log", "plus signs"},
		"no key":                {parts[0] + "+" + parts[1], "plus signs"},
		"empty key":             {"log+00000000+", "no signature type"},
		"type only":             {vkey("log", []byte{1}), "not 32 bytes"},
		"no name":               {vkey("", typed(log, 1)), "key name"},
		"name with space":       {vkey("a b", typed(log, 1)), "key name"},
		"name with newline":     {vkey("a\nb", typed(log, 1)), "key name"},
		"name with control":     {vkey("a\x01b", typed(log, 1)), "key name"},
		"name with em space":    {vkey("a\u2003b", typed(log, 1)), "key name"},
		"name not UTF-8":        {vkey("\xff", typed(log, 1)), "key name"},
		"id of another name":    {"other+" + parts[1] + "+" + parts[2], "key id"},
		"id in upper case":      {"log+" + strings.ToUpper(parts[1]) + "+" + parts[2], "key id"},
		"id too short":          {"log+" + parts[1][1:] + "+" + parts[2], "key id"},
		"id too long":           {"log+0" + parts[1] + "+" + parts[2], "key id"},
		"id empty":              {"log++" + parts[2], "key id"},
		"id of another type":    {"log+" + parts[1] + "+" + base64.StdEncoding.EncodeToString(typed(log, 4)), "key id"},
		"unpadded":              {"log+" + parts[1] + "+" + parts[2] + "=", "canonical base64"},
		"space at end":          {log.String() + " ", "canonical base64"},
		"newline at end":        {log.String() + "\n", "canonical base64"},
		"newline inside":        {log.String()[:40] + "\n" + log.String()[40:], "canonical base64"},
		"URL alphabet":          {"log+" + parts[1] + "+" + parts[2][:10] + "-_" + parts[2][12:], "canonical base64"},
		"fourth part":           {log.String() + "+x", "canonical base64"},
		"Ed25519 of 31 bytes":   {vkey("log", typed(log, 1)[:32]), "not 32 bytes"},
		"Ed25519 of 33 bytes":   {vkey("log", append(typed(log, 1), 0)), "not 32 bytes"},
		"cosigner of 31 bytes":  {vkey("w", typed(witness, 4)[:32]), "not 32 bytes"},
		"ML-DSA of 1311 bytes":  {vkey("pq", typed(pq, 6)[:1312]), "not 1312 bytes"},
		"ML-DSA of 1313 bytes":  {vkey("pq", append(typed(pq, 6), 0)), "not 1312 bytes"},
		"Ed25519 as ML-DSA":     {vkey("pq", typed(log, 6)), "not 1312 bytes"},
		"ML-DSA with long name": {vkey(strings.Repeat("n", 256), typed(pq, 6)), "longer than 255"},
		"ECDSA":                 {vkey("log", typed(log, 2)), "unsupported signature type 0x02"},
		"reserved type":         {vkey("log", typed(log, 3)), "unsupported signature type 0x03"},
		"RFC 6962":              {vkey("log", typed(log, 5)), "unsupported signature type 0x05"},
		"private type":          {vkey("log", typed(log, 0xff)), "unsupported signature type 0xff"},
		"signing key":           {testKey(t, "log", AlgEd25519, "").Encode(), "canonical base64"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseVerifierKey(tt.vkey)
			wantFormatError(t, err, "verifier key", tt.words)
		})
	}
	// What the helper makes is otherwise good, and 255 bytes is not too long.
	for _, good := range []string{vkey("log", typed(log, 1)), vkey(strings.Repeat("n", 255), typed(pq, 6)), vkey(strings.Repeat("n", 999), typed(log, 4))} {
		if _, err := ParseVerifierKey(good); err != nil {
			t.Errorf("ParseVerifierKey: %v", err)
		}
	}
}

// TestWeakEd25519 shows what the refused keys would let happen: signatures made
// without any private key.
func TestWeakEd25519(t *testing.T) {
	t.Parallel()
	// R is the neutral point, S is 0: it verifies whenever the challenge is a
	// multiple of the key's order.
	forged := make([]byte, ed25519.SignatureSize)
	forged[0] = 1
	var keys [][]byte
	for _, y := range smallOrderY() {
		b, err := hex.DecodeString(y)
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(b)
		signed := bytes.Clone(b)
		signed[31] |= 0x80
		keys = append(keys, b, signed)
	}
	// The neutral point and one of order 4 again, not reduced: p+1 and p.
	for _, low := range []byte{0xee, 0xed} {
		b := bytes.Repeat([]byte{0xff}, 32)
		b[0], b[31] = low, 0x7f
		keys = append(keys, b)
	}
	for _, key := range keys {
		found := false
		for i := 0; i < 200 && !found; i++ {
			found = ed25519.Verify(key, fmt.Append(nil, i), forged)
		}
		if !found {
			t.Errorf("no forgery for %x: is it of small order?", key)
		}
		b := append([]byte{byte(AlgEd25519)}, key...)
		vkey := "log+" + formatID(keyID("log", AlgEd25519, key)) + "+" + base64.StdEncoding.EncodeToString(b)
		_, err := ParseVerifierKey(vkey)
		wantFormatError(t, err, "verifier key", "small order")
	}
}

func TestParseSigningKeyRejects(t *testing.T) {
	t.Parallel()
	k := testKey(t, "log", AlgEd25519, "")
	skey := k.Encode()
	id := formatID(k.Verifier().ID())
	encoded := func(b []byte) string { return "PRIVATE+KEY+log+" + id + "+" + base64.StdEncoding.EncodeToString(b) }
	tests := map[string]struct{ skey, words string }{
		"nothing":         {"", "PRIVATE"},
		"verifier key":    {k.Verifier().String(), "PRIVATE"},
		"lower case":      {"private+key" + skey[11:], "PRIVATE"},
		"space before":    {" " + skey, "PRIVATE"},
		"newline at end":  {skey + "\n", "canonical base64"},
		"prefix only":     {"PRIVATE+KEY+", "plus signs"},
		"no key":          {"PRIVATE+KEY+log+" + id, "plus signs"},
		"empty key":       {encoded(nil), "seed of 32 bytes"},
		"short seed":      {encoded(append([]byte{1}, k.seed()[1:]...)), "seed of 32 bytes"},
		"long seed":       {encoded(append(append([]byte{1}, k.seed()...), 0)), "seed of 32 bytes"},
		"unknown type":    {encoded(append([]byte{2}, k.seed()...)), "unsupported"},
		"another type":    {encoded(append([]byte{4}, k.seed()...)), "key id"},
		"another seed":    {encoded(flip(append([]byte{1}, k.seed()...), 5)), "key id"},
		"another name":    {strings.Replace(skey, "+log+", "+other+", 1), "key id"},
		"bad name":        {strings.Replace(skey, "+log+", "+l g+", 1), "key name"},
		"upper-case id":   {strings.Replace(skey, id, strings.ToUpper(id), 1), "key id"},
		"not base64":      {skey[:len(skey)-1] + "!", "canonical base64"},
		"ML-DSA, id of 1": {encoded(append([]byte{6}, k.seed()...)), "key id"},
	}
	secret := base64.StdEncoding.EncodeToString(k.seed())[4:30]
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseSigningKey(tt.skey)
			wantFormatError(t, err, "signing key", tt.words)
			if strings.Contains(err.Error(), secret) {
				t.Error("the error gives the key away")
			}
		})
	}
	if id == strings.ToUpper(id) {
		t.Fatal("the test's key id has no letters")
	}
}

func TestGenerateKeyFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("no entropy")
	if _, err := GenerateKey(iotest.ErrReader(broken), "log", AlgEd25519); !errors.Is(err, broken) {
		t.Errorf("GenerateKey with broken randomness: %v", err)
	}
	if _, err := GenerateKey(bytes.NewReader(make([]byte, 31)), "log", AlgEd25519); err == nil {
		t.Error("GenerateKey made a key of 31 bytes of randomness")
	}
	for _, tt := range []struct {
		name string
		alg  Algorithm
	}{{"", AlgEd25519}, {"a b", AlgEd25519}, {"a+b", AlgMLDSA44}, {"log", 2}, {strings.Repeat("n", 256), AlgMLDSA44}} {
		if _, err := GenerateKey(bytes.NewReader(make([]byte, 32)), tt.name, tt.alg); err == nil {
			t.Errorf("GenerateKey(%q, %v) made a key", tt.name, tt.alg)
		}
	}
}

// TestSigningKeyKeepsItsSecret prints a key in every way that happens by
// accident.
func TestSigningKeyKeepsItsSecret(t *testing.T) {
	t.Parallel()
	type holder struct {
		Exported *SigningKey
		hidden   *SigningKey
		value    SigningKey
	}
	for _, alg := range algorithms() {
		k := testKey(t, "log", alg, "")
		seed := k.seed()
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", k)
			fmt.Fprintf(&out, verb+"\n", *k)
			fmt.Fprintf(&out, verb+"\n", holder{k, k, *k})
			fmt.Fprintf(&out, verb+"\n", &holder{k, k, *k})
			fmt.Fprintf(&out, verb+"\n", []*SigningKey{k})
		}
		j, err := json.Marshal(holder{k, k, *k})
		if err != nil {
			t.Fatalf("Marshal: %v", err)
		}
		out.Write(j)
		slog.New(slog.NewTextHandler(&out, nil)).Info("key", "key", k, "holder", holder{k, k, *k})
		slog.New(slog.NewJSONHandler(&out, nil)).Info("key", "key", k, "holder", holder{k, k, *k})
		if got := fmt.Sprintf("%v %s", k, *k); got != k.Verifier().String()+" "+k.Verifier().String() {
			t.Errorf("%v: key prints as %q", alg, got)
		}
		secrets := []string{
			hex.EncodeToString(seed), strings.ToUpper(hex.EncodeToString(seed)), string(seed),
			base64.StdEncoding.EncodeToString(seed), "PRIVATE", strings.Trim(fmt.Sprint(seed[:8]), "[]"),
			strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", seed[:4]), "[]byte{"), "}"),
			base64.StdEncoding.EncodeToString(append([]byte{byte(alg)}, seed...)),
		}
		for _, s := range secrets {
			if strings.Contains(out.String(), s) {
				t.Errorf("%v: output contains %q", alg, s)
			}
		}
	}
	if got := fmt.Sprint(SigningKey{}); got != "<no key>" {
		t.Errorf("zero key prints as %q", got)
	}
}

// smallOrderY returns the y coordinates of the eight points whose order divides
// 8, big endian in hex: of order 4, 1, 2, and twice 8.
func smallOrderY() []string {
	return []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0000000000000000000000000000000000000000000000000000000000000001",
		"7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffec",
		"05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826",
		"7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7",
	}
}
