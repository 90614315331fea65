package receipt_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

const origin = "log.example.org/trials/2026"

func digest(name string) [32]byte { return sha256.Sum256([]byte(name)) }

// signedNote is a checkpoint that the log's two keys have signed.
func signedNote(tb testing.TB, size uint64) *checkpoint.Note {
	tb.Helper()
	return noteBy(tb, size, checkpoint.AlgEd25519, checkpoint.AlgMLDSA44)
}

// noteBy is a checkpoint signed with some algorithms.
func noteBy(tb testing.TB, size uint64, algorithms ...checkpoint.Algorithm) *checkpoint.Note {
	tb.Helper()
	var keys []*checkpoint.SigningKey
	for _, alg := range algorithms {
		seed := digest(alg.String())
		k, err := checkpoint.GenerateKey(bytes.NewReader(seed[:]), origin, alg)
		if err != nil {
			tb.Fatal(err)
		}
		keys = append(keys, k)
	}
	n, err := checkpoint.SignLog(checkpoint.Checkpoint{Origin: origin, Size: size, Root: digest("root")}, 1_800_000_000, keys...)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// hashes returns n different hashes.
func hashes(n int) [][32]byte {
	var out [][32]byte
	for i := range n {
		out = append(out, digest(string(rune('a'+i))))
	}
	return out
}

func newProof(tb testing.TB) *receipt.Proof {
	tb.Helper()
	return &receipt.Proof{Extra: []byte("extra\x00"), Index: 73_894, Path: hashes(3), Note: signedNote(tb, 109_482)}
}

// full is a receipt with every member.
func full(tb testing.TB) *receipt.Receipt {
	tb.Helper()
	return &receipt.Receipt{
		Proof: newProof(tb), Entry: []byte("entry\x00\xff"), Beacon: signedNote(tb, 7).Bytes(),
		Enrolments: []receipt.Enrolment{{Entry: []byte("first"), Proof: newProof(tb)}, {Entry: []byte("second"), Proof: newProof(tb)}},
		Tokens:     [][]byte{{0x30, 0}, {0x30, 1}},
		Record:     &receipt.Record{Data: []byte("record"), Index: 2, Path: hashes(2)},
	}
}

// bare is the smallest receipt.
func bare(tb testing.TB) *receipt.Receipt {
	tb.Helper()
	return &receipt.Receipt{Proof: &receipt.Proof{Note: signedNote(tb, 1)}, Entry: []byte{1}}
}

func encode(tb testing.TB, r *receipt.Receipt) string {
	tb.Helper()
	raw, err := r.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw)
}

// with replaces the first place in text where old stands.
func with(tb testing.TB, text, old, replacement string) string {
	tb.Helper()
	if !strings.Contains(text, old) {
		tb.Fatalf("%q does not stand in %s", old, text)
	}
	return strings.Replace(text, old, replacement, 1)
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func key(tb testing.TB, name string) *statement.PrivateKey {
	tb.Helper()
	seed := digest(name)
	k, err := statement.GenerateKey(bytes.NewReader(seed[:]))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}
