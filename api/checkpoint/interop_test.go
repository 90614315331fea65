package checkpoint

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/formats/witness"
	"golang.org/x/mod/sumdb/note"
)

// TestFormatsVerifiesOurs: transparency-dev/formats, as deployed logs use it,
// accepts our cosignatures and reads our checkpoint.
func TestFormatsVerifiesOurs(t *testing.T) {
	t.Parallel()
	n, logKeys := testNote(t)
	ed, pq := testKey(t, "wit.example/a", AlgEd25519Cosignature, ""), testKey(t, "wit.example/a", AlgMLDSA44, "")
	n = cosign(t, cosign(t, n, ed, 1_700_000_001), pq, 1_700_000_002)

	logVerifier, err := note.NewVerifier(logKeys[0].Verifier().String())
	if err != nil {
		t.Fatalf("NewVerifier: %v", err)
	}
	var verifiers []note.Verifier
	for _, k := range []*SigningKey{logKeys[1], ed, pq} {
		v, err := fnote.NewVerifierForCosignatureV1(k.Verifier().String())
		if err != nil {
			t.Fatalf("NewVerifierForCosignatureV1: %v", err)
		}
		if v.KeyHash() != k.Verifier().ID() {
			t.Errorf("key id of %v is %08x to formats", k, v.KeyHash())
		}
		verifiers = append(verifiers, v)
	}
	c, extra, opened, err := log.ParseCheckpoint(n.Bytes(), testOrigin, logVerifier, verifiers...)
	if err != nil {
		t.Fatalf("ParseCheckpoint: %v", err)
	}
	if len(opened.Sigs) != 4 || len(opened.UnverifiedSigs) != 0 || len(extra) != 0 {
		t.Errorf("%d signatures verified, %d not", len(opened.Sigs), len(opened.UnverifiedSigs))
	}
	if want := testCheckpoint(); c.Size != want.Size || !bytes.Equal(c.Hash, want.Root[:]) || c.Origin != want.Origin {
		t.Errorf("checkpoint is %+v", c)
	}
	for i, want := range []int64{int64(testTime), 1_700_000_001, 1_700_000_002} {
		if at, err := fnote.CoSigV1Timestamp(opened.Sigs[i+1]); err != nil || at.Unix() != want {
			t.Errorf("time is %v, %v; want %d", at, err, want)
		}
	}
	// And it is the signature that formats looks at.
	for i, s := range n.Signatures()[1:] {
		if !verifiers[i].Verify(n.Text(), s.Bytes) || verifiers[i].Verify(n.Text(), flip(s.Bytes, 50)) || verifiers[i].Verify(n.Text(), flip(s.Bytes, 7)) {
			t.Errorf("formats misjudges signature %d", i)
		}
	}
}

// TestWeVerifyFormats: this package accepts cosignatures by formats, whose
// signers read the clock themselves.
func TestWeVerifyFormats(t *testing.T) {
	t.Parallel()
	n, _ := testNote(t)
	for _, alg := range []Algorithm{AlgEd25519Cosignature, AlgMLDSA44} {
		k := testKey(t, "wit.example/a", alg, "")
		signer, err := fnote.NewSignerForCosignatureV1(k.Encode())
		if err != nil {
			t.Fatalf("%v: formats does not read our signing key: %v", alg, err)
		}
		b, err := signer.Sign(n.Text())
		if err != nil {
			t.Fatalf("%v: Sign: %v", alg, err)
		}
		s := Signature{Name: signer.Name(), KeyID: signer.KeyHash(), Bytes: b}
		if at, err := k.Verifier().VerifyCheckpoint(n, s); err != nil || at == 0 {
			t.Errorf("%v: VerifyCheckpoint: %d, %v", alg, at, err)
		}
		if _, err := k.Verifier().VerifyCheckpoint(n, Signature{Name: s.Name, KeyID: s.KeyID, Bytes: flip(b, 50)}); err == nil {
			t.Errorf("%v: a changed signature verifies", alg)
		}
	}
	skey, vkey, err := fnote.GenerateMLDSAKey("wit.example/b")
	if err != nil {
		t.Fatalf("GenerateMLDSAKey: %v", err)
	}
	k, err := ParseSigningKey(skey)
	if err != nil {
		t.Fatalf("ParseSigningKey: %v", err)
	}
	if k.Verifier().String() != vkey || k.Encode() != skey {
		t.Error("formats' ML-DSA-44 key reads as another")
	}
	// A cosignature without a time, as sign-subtree gives.
	signer, err := fnote.NewMLDSASigner(skey)
	if err != nil {
		t.Fatalf("NewMLDSASigner: %v", err)
	}
	c := testCheckpoint()
	b, err := signer.SignSubtree(0, c.Origin, 0, c.Size, c.Root[:])
	if err != nil {
		t.Fatalf("SignSubtree: %v", err)
	}
	s := Signature{Name: signer.Name(), KeyID: signer.KeyHash(), Bytes: b}
	if at, err := k.Verifier().VerifyCheckpoint(n, s); err != nil || at != 0 {
		t.Errorf("VerifyCheckpoint without a time: %d, %v", at, err)
	}
}

// TestPoliciesAgainstFormats compares verdicts over real notes on policies that
// formats reads too: a URL on each witness, comments as whole lines.
func TestPoliciesAgainstFormats(t *testing.T) {
	t.Parallel()
	var keys []*SigningKey
	var vkeys []string
	for i := range 6 {
		k := testKey(t, fmt.Sprint("w", i), []Algorithm{AlgEd25519Cosignature, AlgMLDSA44}[i%2], "")
		keys, vkeys = append(keys, k), append(vkeys, k.Verifier().String())
	}
	logKey := testKey(t, testOrigin, AlgEd25519, "")
	unsigned, err := SignLog(testCheckpoint(), 0, logKey)
	if err != nil {
		t.Fatalf("SignLog: %v", err)
	}
	r := rand.New(rand.NewPCG(9, 10))
	met := 0
	const rounds = 60
	for range rounds {
		text := randomPolicy(r, logKey.Verifier().String(), vkeys)
		ours, err := ParsePolicy([]byte(text))
		if err != nil {
			t.Fatalf("ParsePolicy: %v", err)
		}
		theirs, err := witness.ParsePolicy([]byte(text))
		if err != nil {
			t.Fatalf("formats: %v\n%s", err, text)
		}
		n := unsigned
		for i, k := range keys {
			if r.IntN(2) == 0 {
				n = cosign(t, n, k, uint64(1+i))
			}
		}
		_, err = ours.Check(n)
		if want := theirs.Satisfied(n.Bytes()); (err == nil) != want {
			t.Fatalf("Check: %v; formats: %v\n%s%s", err, want, text, n.Bytes())
		}
		if err == nil {
			met++
		}
	}
	if met < 10 || met > rounds-10 {
		t.Errorf("%d of %d met: too one-sided", met, rounds)
	}
	// What formats refuses or misreads and the specification allows.
	vkey := vkeys[0]
	for name, text := range map[string]string{
		"witness without URL":   "witness a " + vkey + "\nquorum a\n",
		"witness named keyword": "witness log " + vkey + " https://a.example/\nquorum log\n",
	} {
		if _, err := ParsePolicy([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := witness.ParsePolicy([]byte(text)); err == nil {
			t.Errorf("%s: formats reads this now: compare it too", name)
		}
	}
	if got := slices.Sorted(slices.Values(vkeys)); len(slices.Compact(got)) != len(vkeys) {
		t.Fatal("the test's keys are not distinct")
	}
}
