package checkpoint

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"filippo.io/mldsa"
)

// TestSignedMessages verifies signatures over messages that are spelled out
// here, with the algorithms' own libraries.
func TestSignedMessages(t *testing.T) {
	t.Parallel()
	c := testCheckpoint()
	text := c.Body()

	k := testKey(t, testOrigin, AlgEd25519, "")
	s, err := k.SignCheckpoint(text, testTime)
	if err != nil {
		t.Fatalf("SignCheckpoint: %v", err)
	}
	if !ed25519.Verify(k.Verifier().PublicKey(), text, s.Bytes) {
		t.Error("0x01 does not sign the text")
	}

	k = testKey(t, "witness.example/w", AlgEd25519Cosignature, "")
	s, err = k.SignCheckpoint(text, testTime)
	if err != nil {
		t.Fatalf("SignCheckpoint: %v", err)
	}
	if got := binary.BigEndian.Uint64(s.Bytes); got != testTime {
		t.Errorf("0x04 carries time %d", got)
	}
	if !ed25519.Verify(k.Verifier().PublicKey(), []byte("cosignature/v1\ntime 1800000000\n"+string(text)), s.Bytes[8:]) {
		t.Error("0x04 signs another message")
	}

	k = testKey(t, "witness.example/w", AlgMLDSA44, "")
	s, err = k.SignCheckpoint(text, testTime)
	if err != nil {
		t.Fatalf("SignCheckpoint: %v", err)
	}
	msg := "subtree/v1\n\x00" +
		"\x11witness.example/w" +
		"\x00\x00\x00\x00\x6b\x49\xd2\x00" +
		"\x10" + testOrigin +
		"\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x00\x00\x00\x00\x01\x3e\x2d\xc3" +
		string(c.Root[:])
	public, err := mldsa.NewPublicKey(mldsa.MLDSA44(), k.Verifier().PublicKey())
	if err != nil {
		t.Fatalf("NewPublicKey: %v", err)
	}
	if err := mldsa.Verify(public, []byte(msg), s.Bytes[8:], nil); err != nil {
		t.Error("0x06 signs another message")
	}
	if got := binary.BigEndian.Uint64(s.Bytes); got != testTime {
		t.Errorf("0x06 carries time %d", got)
	}
}

func TestVerifyCheckpoint(t *testing.T) {
	t.Parallel()
	n, _ := testNote(t)
	other := func(change func(*Checkpoint)) *Note {
		c := testCheckpoint()
		change(&c)
		m, err := NewNote(c.Body(), n.Signatures()...)
		if err != nil {
			t.Fatalf("NewNote: %v", err)
		}
		return m
	}
	notes := map[string]*Note{
		"another origin": other(func(c *Checkpoint) { c.Origin += "x" }),
		"another size":   other(func(c *Checkpoint) { c.Size++ }),
		"another root":   other(func(c *Checkpoint) { c.Root[31] ^= 1 }),
	}
	for _, alg := range algorithms() {
		k := testKey(t, "signer", alg, "")
		s, err := k.SignCheckpoint(n.Text(), testTime)
		if err != nil {
			t.Fatalf("SignCheckpoint: %v", err)
		}
		want := testTime
		if alg == AlgEd25519 {
			want = 0
		}
		if got, err := k.Verifier().VerifyCheckpoint(n, s); err != nil || got != want {
			t.Errorf("%v: VerifyCheckpoint is %d, %v; want %d", alg, got, err, want)
		}
		for name, m := range notes {
			if _, err := k.Verifier().VerifyCheckpoint(m, s); !errors.Is(err, ErrWrongSignature) {
				t.Errorf("%v: %s: error is %v", alg, name, err)
			}
		}
		with := func(b []byte) Signature { return Signature{Name: s.Name, KeyID: s.KeyID, Bytes: b} }
		for name, tt := range map[string]struct {
			s    Signature
			want error
		}{
			"another name":   {Signature{Name: "x", KeyID: s.KeyID, Bytes: s.Bytes}, ErrOtherKey},
			"another id":     {Signature{Name: s.Name, KeyID: s.KeyID + 1, Bytes: s.Bytes}, ErrOtherKey},
			"first byte":     {with(flip(s.Bytes, 0)), ErrWrongSignature},
			"time by one":    {with(flip(s.Bytes, 7)), ErrWrongSignature},
			"last byte":      {with(flip(s.Bytes, len(s.Bytes)-1)), ErrWrongSignature},
			"one byte less":  {with(s.Bytes[:len(s.Bytes)-1]), ErrSignatureLength},
			"one byte more":  {with(append(bytes.Clone(s.Bytes), 0)), ErrSignatureLength},
			"time alone":     {with(s.Bytes[:8]), ErrSignatureLength},
			"seven bytes":    {with(s.Bytes[:7]), ErrSignatureLength},
			"nothing at all": {with(nil), ErrSignatureLength},
		} {
			_, err := k.Verifier().VerifyCheckpoint(n, tt.s)
			var e *SignatureError
			if !errors.As(err, &e) || !errors.Is(err, tt.want) {
				t.Errorf("%v: %s: error is %v, want %v", alg, name, err, tt.want)
				continue
			}
			if e.Key != k.Verifier() || e.Note != n || e.Signature.String() != tt.s.String() {
				t.Errorf("%v: %s: the error lacks its evidence", alg, name)
			}
			digest := n.Digest()
			if msg := err.Error(); !strings.Contains(msg, k.Verifier().label()) || !strings.Contains(msg, hex.EncodeToString(digest[:8])) {
				t.Errorf("%v: %s: %q does not name key and note", alg, name, msg)
			}
		}
	}
}

// TestVerifyTimeBeyondLimit forges a time that the signature covers.
func TestVerifyTimeBeyondLimit(t *testing.T) {
	t.Parallel()
	n, _ := testNote(t)
	late := uint64(math.MaxInt64) + 1
	k := testKey(t, "w", AlgEd25519Cosignature, "")
	b, err := k.sign(fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", late, n.Text()))
	if err != nil {
		t.Fatalf("sign: %v", err)
	}
	s := Signature{Name: "w", KeyID: k.Verifier().ID(), Bytes: append(binary.BigEndian.AppendUint64(nil, late), b...)}
	if _, err := k.Verifier().VerifyCheckpoint(n, s); !errors.Is(err, ErrTime) {
		t.Errorf("VerifyCheckpoint: %v, want %v", err, ErrTime)
	}
}

func TestExtensionLines(t *testing.T) {
	t.Parallel()
	text := append(testCheckpoint().Body(), "extension\n"...)
	for _, alg := range []Algorithm{AlgEd25519, AlgEd25519Cosignature} {
		k := testKey(t, "signer", alg, "")
		s, err := k.SignCheckpoint(text, testTime)
		if err != nil {
			t.Fatalf("%v: SignCheckpoint: %v", alg, err)
		}
		n, err := NewNote(text, s)
		if err != nil {
			t.Fatalf("NewNote: %v", err)
		}
		if _, err := k.Verifier().VerifyCheckpoint(n, s); err != nil {
			t.Errorf("%v: VerifyCheckpoint: %v", alg, err)
		}
		changed, err := NewNote(append(testCheckpoint().Body(), "Extension\n"...), s)
		if err != nil {
			t.Fatalf("NewNote: %v", err)
		}
		if _, err := k.Verifier().VerifyCheckpoint(changed, s); !errors.Is(err, ErrWrongSignature) {
			t.Errorf("%v: changed extension line: %v", alg, err)
		}
	}
	k := testKey(t, "signer", AlgMLDSA44, "")
	if _, err := k.SignCheckpoint(text, testTime); !errors.Is(err, ErrUnsignable) {
		t.Errorf("ML-DSA-44 signed extension lines: %v", err)
	}
	s, err := k.SignCheckpoint(testCheckpoint().Body(), testTime)
	if err != nil {
		t.Fatalf("SignCheckpoint: %v", err)
	}
	n, err := NewNote(text, s)
	if err != nil {
		t.Fatalf("NewNote: %v", err)
	}
	if _, err := k.Verifier().VerifyCheckpoint(n, s); !errors.Is(err, ErrUnsignable) {
		t.Errorf("ML-DSA-44 verified over extension lines added later: %v", err)
	}
}

func TestSignCheckpointRefuses(t *testing.T) {
	t.Parallel()
	text := testCheckpoint().Body()
	long := Checkpoint{Origin: strings.Repeat("o", 256), Size: 1}.Body()
	for name, tt := range map[string]struct {
		alg  Algorithm
		text []byte
		t    uint64
		want error
	}{
		"Ed25519 without time":       {AlgEd25519Cosignature, text, 0, ErrTime},
		"Ed25519 beyond the limit":   {AlgEd25519Cosignature, text, math.MaxInt64 + 1, ErrTime},
		"ML-DSA beyond the limit":    {AlgMLDSA44, text, math.MaxInt64 + 1, ErrTime},
		"ML-DSA on a long origin":    {AlgMLDSA44, long, 1, ErrUnsignable},
		"false empty tree":           {AlgEd25519, Checkpoint{Origin: "o", Root: Hash{1}}.Body(), 0, ErrEmptyRoot},
		"false empty tree, cosigned": {AlgEd25519Cosignature, Checkpoint{Origin: "o", Root: Hash{1}}.Body(), 1, ErrEmptyRoot},
		"false empty tree, ML-DSA":   {AlgMLDSA44, Checkpoint{Origin: "o", Root: Hash{1}}.Body(), 1, ErrEmptyRoot},
	} {
		if _, err := testKey(t, "k", tt.alg, "").SignCheckpoint(tt.text, tt.t); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	for _, alg := range algorithms() {
		var f *FormatError
		if _, err := testKey(t, "k", alg, "").SignCheckpoint([]byte("no checkpoint\n"), 1); !errors.As(err, &f) {
			t.Errorf("%v signed what is no checkpoint: %v", alg, err)
		}
	}
	// The limits themselves are good.
	for alg, at := range map[Algorithm]uint64{AlgEd25519Cosignature: math.MaxInt64, AlgMLDSA44: 0, AlgEd25519: math.MaxUint64} {
		if _, err := testKey(t, "k", alg, "").SignCheckpoint(text, at); err != nil {
			t.Errorf("%v at %d: %v", alg, at, err)
		}
	}
	if _, err := testKey(t, "k", AlgMLDSA44, "").SignCheckpoint(Checkpoint{Origin: strings.Repeat("o", 255), Size: 1}.Body(), 1); err != nil {
		t.Errorf("origin of 255 bytes: %v", err)
	}
}

func TestSignLog(t *testing.T) {
	t.Parallel()
	n, keys := testNote(t)
	if n.Checkpoint() != testCheckpoint() || len(n.Signatures()) != 2 {
		t.Fatalf("note is\n%s", n.Bytes())
	}
	for i, k := range keys {
		if _, err := k.Verifier().VerifyCheckpoint(n, n.Signatures()[i]); err != nil {
			t.Errorf("VerifyCheckpoint: %v", err)
		}
	}
	c := testCheckpoint()
	smuggling := c
	smuggling.Origin = testOrigin + "\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
	for name, tt := range map[string]struct {
		c     Checkpoint
		keys  []*SigningKey
		words string
	}{
		"no key":               {c, nil, "no signature line"},
		"key of another name":  {c, []*SigningKey{keys[0], testKey(t, "other", AlgEd25519, "")}, "another name"},
		"witness key":          {c, []*SigningKey{testKey(t, testOrigin, AlgEd25519Cosignature, "")}, "not a log's"},
		"origin with newlines": {smuggling, keys, "not one line"},
		"no origin":            {Checkpoint{Size: 1}, keys, "empty line"},
		"false empty tree":     {Checkpoint{Origin: testOrigin}, keys, ErrEmptyRoot.Error()},
	} {
		if _, err := SignLog(tt.c, testTime, tt.keys...); err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: error is %v, want one with %q", name, err, tt.words)
		}
	}
}
