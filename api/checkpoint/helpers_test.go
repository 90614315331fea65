package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
)

const (
	testOrigin = "log.example/2026"
	testTime   = uint64(1_800_000_000)
)

// testKey returns a key that depends on its name, algorithm and label only.
func testKey(tb testing.TB, name string, alg Algorithm, label string) *SigningKey {
	tb.Helper()
	seed := sha256.Sum256([]byte("checkpoint test\n" + name + "\n" + label + "\n" + alg.String()))
	k, err := GenerateKey(bytes.NewReader(seed[:]), name, alg)
	if err != nil {
		tb.Fatalf("GenerateKey(%q, %v): %v", name, alg, err)
	}
	return k
}

func testCheckpoint() Checkpoint {
	return Checkpoint{Origin: testOrigin, Size: 20_852_163, Root: sha256.Sum256([]byte("root"))}
}

// testNote returns a note signed by the log's two keys, and those keys.
func testNote(tb testing.TB) (*Note, []*SigningKey) {
	tb.Helper()
	keys := []*SigningKey{
		testKey(tb, testOrigin, AlgEd25519, ""),
		testKey(tb, testOrigin, AlgMLDSA44, ""),
	}
	n, err := SignLog(testCheckpoint(), testTime, keys...)
	if err != nil {
		tb.Fatalf("SignLog: %v", err)
	}
	return n, keys
}

// cosign returns the note with a cosignature.
func cosign(tb testing.TB, n *Note, k *SigningKey, t uint64) *Note {
	tb.Helper()
	s, err := k.SignCheckpoint(n.Text(), t)
	if err != nil {
		tb.Fatalf("SignCheckpoint: %v", err)
	}
	n, err = n.With(s)
	if err != nil {
		tb.Fatalf("With: %v", err)
	}
	return n
}

func mustPolicy(tb testing.TB, lines ...string) *Policy {
	tb.Helper()
	p, err := ParsePolicy([]byte(strings.Join(lines, "\n") + "\n"))
	if err != nil {
		tb.Fatalf("ParsePolicy: %v", err)
	}
	return p
}

// wantFormatError fails unless err is a FormatError about the object whose
// reason contains the words.
func wantFormatError(tb testing.TB, err error, object, words string) {
	tb.Helper()
	var f *FormatError
	if !errors.As(err, &f) {
		tb.Fatalf("error is %v, want a FormatError with %q", err, words)
	}
	if f.Object != object || !strings.Contains(f.Error(), words) {
		tb.Fatalf("error is %q, want one about a %s with %q", f, object, words)
	}
}

// flip returns a copy of b with one bit of byte i changed.
func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}
