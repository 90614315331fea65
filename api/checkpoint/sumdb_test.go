package checkpoint

import (
	"bytes"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// wellFormed reports whether golang.org/x/mod takes raw for a signed note. With
// no keys known it verifies nothing, so that only the format is judged.
func wellFormed(raw []byte) bool {
	_, err := note.Open(raw, nil)
	var unverified *note.UnverifiedNoteError
	return err == nil || errors.As(err, &unverified)
}

// looseBase64 reports whether a signature line has base64 with another
// spelling: what x/mod accepts and this package does not.
func looseBase64(raw []byte) bool {
	_, lines, _ := bytes.Cut(raw[bytes.LastIndex(raw, []byte("\n\n")):], []byte("\n\n"))
	for line := range bytes.Lines(lines) {
		f := bytes.Fields(line)
		last := string(f[len(f)-1])
		b, err := base64.StdEncoding.DecodeString(last)
		if err == nil && base64.StdEncoding.EncodeToString(b) != last {
			return true
		}
	}
	return false
}

// compareWithSumdb holds the note parser and the verification of 0x01 keys
// against golang.org/x/mod/sumdb/note.
func compareWithSumdb(tb testing.TB, raw []byte, vkey string) (ours, theirs bool) {
	tb.Helper()
	text, signatures, err := splitNote(raw)
	theirs = wellFormed(raw)
	if err == nil && !theirs {
		tb.Fatalf("accepted what sumdb refuses:\n%q", raw)
	}
	if err != nil {
		if theirs && !looseBase64(raw) {
			tb.Fatalf("refused what sumdb accepts: %v\n%q", err, raw)
		}
		return false, theirs
	}
	key, err := ParseVerifierKey(vkey)
	if err != nil {
		tb.Fatalf("ParseVerifierKey: %v", err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		tb.Fatalf("NewVerifier: %v", err)
	}
	// sumdb verifies the first line of a key and skips the others; Check
	// verifies all. The first is what can be compared.
	want := "unverified"
	for _, s := range signatures {
		if key.signed(s) {
			want = "wrong"
			if _, err := key.verify(&Note{text: text}, s); err == nil {
				want = "verified"
			}
			break
		}
	}
	got := "verified"
	var unverified *note.UnverifiedNoteError
	var wrong *note.InvalidSignatureError
	switch _, err := note.Open(raw, note.VerifierList(verifier)); {
	case errors.As(err, &unverified):
		got = "unverified"
	case errors.As(err, &wrong):
		got = "wrong"
	case err != nil:
		tb.Fatalf("sumdb: %v", err)
	}
	if got != want {
		tb.Fatalf("sumdb finds %s, this package %s:\n%q", got, want, raw)
	}
	return true, theirs
}

// mutate changes a note in one to three places, in ways that keep it close to
// being one.
func mutate(r *rand.Rand, raw []byte) []byte {
	raw = bytes.Clone(raw)
	pieces := []string{"\n", "\n\n", " ", "— ", "+", "=", "A", "/", "\r", "\t", "\x00", "\x7f", "\xff", "\u00a0", "\u0085", "\u3000", "é", "—"}
	for range 1 + r.IntN(3) {
		i := r.IntN(len(raw) + 1)
		j := min(len(raw), i+r.IntN(4))
		lines := bytes.SplitAfter(raw, []byte("\n"))
		a, b := r.IntN(len(lines)), r.IntN(len(lines))
		switch r.IntN(6) {
		case 0: // flip a bit
			if i < len(raw) {
				raw[i] ^= 1 << r.IntN(8)
			}
		case 1: // insert
			raw = append(raw[:i:i], append([]byte(pieces[r.IntN(len(pieces))]), raw[i:]...)...)
		case 2: // cut out
			raw = append(raw[:i:i], raw[j:]...)
		case 3: // repeat a line
			raw = append(bytes.Clone(raw), lines[a]...)
		case 4: // swap lines
			lines[a], lines[b] = lines[b], lines[a]
			raw = bytes.Join(lines, nil)
		case 5: // change one character of base64, the last before a newline
			if k := bytes.LastIndexAny(raw[:i], "=\n"); k > 0 {
				raw[k-1] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0189+/"[r.IntN(32)]
			}
		}
		if len(raw) == 0 {
			raw = []byte("\n")
		}
	}
	return raw
}

func TestNotesAgainstSumdb(t *testing.T) {
	t.Parallel()
	ed, other := testKey(t, testOrigin, AlgEd25519, ""), testKey(t, testOrigin, AlgEd25519, "other")
	n, err := SignLog(testCheckpoint(), 0, ed, other)
	if err != nil {
		t.Fatalf("SignLog: %v", err)
	}
	n = cosign(t, n, testKey(t, "wit.example/a", AlgEd25519Cosignature, ""), 5)
	vkey := ed.Verifier().String()
	if ours, _ := compareWithSumdb(t, n.Bytes(), vkey); !ours {
		t.Fatal("the note itself is refused")
	}
	r := rand.New(rand.NewPCG(5, 6))
	var accepted, refused, stricter int
	for range 15_000 {
		ours, theirs := compareWithSumdb(t, mutate(r, n.Bytes()), vkey)
		switch {
		case ours:
			accepted++
		case theirs:
			stricter++
		default:
			refused++
		}
	}
	if accepted < 1000 || refused < 1000 || stricter < 10 {
		t.Errorf("%d accepted, %d refused, %d by us alone: the mutations are too one-sided", accepted, refused, stricter)
	}
}

func TestSumdbVerifiesOurs(t *testing.T) {
	t.Parallel()
	k := testKey(t, testOrigin, AlgEd25519, "")
	signer, err := note.NewSigner(k.Encode())
	if err != nil {
		t.Fatalf("sumdb does not read our signing key: %v", err)
	}
	n, err := SignLog(testCheckpoint(), 0, k)
	if err != nil {
		t.Fatalf("SignLog: %v", err)
	}
	theirs, err := note.Sign(&note.Note{Text: string(testCheckpoint().Body())}, signer)
	if err != nil {
		t.Fatalf("Sign: %v", err)
	}
	if !bytes.Equal(theirs, n.Bytes()) {
		t.Errorf("sumdb writes\n%s\nthis package\n%s", theirs, n.Bytes())
	}
	seed := bytes.NewReader(bytes.Repeat([]byte{7}, 32))
	skey, vkey, err := note.GenerateKey(seed, testOrigin)
	if err != nil {
		t.Fatalf("GenerateKey: %v", err)
	}
	ours, err := ParseSigningKey(skey)
	if err != nil {
		t.Fatalf("this package does not read sumdb's signing key: %v", err)
	}
	if ours.Verifier().String() != vkey {
		t.Errorf("vkey is %v, want %v", ours.Verifier(), vkey)
	}
}

func TestVerifierKeysAgainstSumdb(t *testing.T) {
	t.Parallel()
	vkey := testKey(t, "log.example/é", AlgEd25519, "").Verifier().String()
	r := rand.New(rand.NewPCG(7, 8))
	var both, stricter int
	for range 10_000 {
		mutated := string(mutate(r, []byte(vkey)))
		k, ours := ParseVerifierKey(mutated)
		_, theirs := note.NewVerifier(mutated)
		switch {
		case ours == nil && theirs != nil:
			t.Fatalf("accepted %q, which sumdb refuses: %v", mutated, theirs)
		case ours == nil && k.String() != mutated:
			t.Fatalf("%q formats as %q", mutated, k)
		case ours == nil:
			both++
		case theirs == nil:
			// A name with control characters, upper-case hex, or loose base64.
			_, encoded, _ := strings.Cut(mutated[strings.Index(mutated, "+")+1:], "+")
			b, _ := base64.StdEncoding.DecodeString(encoded)
			id := mutated[strings.Index(mutated, "+")+1:][:8]
			if base64.StdEncoding.EncodeToString(b) == encoded && strings.ToLower(id) == id {
				t.Fatalf("refused %q, which sumdb accepts: %v", mutated, ours)
			}
			stricter++
		}
	}
	if both < 50 || stricter < 10 {
		t.Errorf("%d accepted by both, %d by sumdb alone: the mutations are too one-sided", both, stricter)
	}
}
