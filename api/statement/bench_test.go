package statement_test

import (
	"testing"

	"github.com/trialog/trialog/api/statement"
)

// oneSigner is an envelope as most are: one Ed25519 signature.
func oneSigner(tb testing.TB) (*statement.Envelope, map[statement.KeyID]*statement.PublicKey) {
	tb.Helper()
	s := sealedProtocol(tb)
	s.Signers = s.Signers[:1]
	author := edKey(tb, "author")
	e, err := statement.Sign(build(tb, s), author)
	if err != nil {
		tb.Fatal(err)
	}
	return e, keyring(author)
}

// BenchmarkIngest is what the log does for each statement before it is stored.
func BenchmarkIngest(b *testing.B) {
	e, ring := oneSigner(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(e.Bytes())))
	for b.Loop() {
		e, s, err := statement.Parse(e.Bytes())
		if err != nil {
			b.Fatal(err)
		}
		if err := statement.VerifySignatures(e.Message(), e.Signatures, s.SignerIDs(), ring); err != nil {
			b.Fatal(err)
		}
		s.Identity(e.Payload)
	}
}

// BenchmarkIngestUnverified is BenchmarkIngest without the signature.
func BenchmarkIngestUnverified(b *testing.B) {
	e, _ := oneSigner(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(e.Bytes())))
	for b.Loop() {
		e, s, err := statement.Parse(e.Bytes())
		if err != nil {
			b.Fatal(err)
		}
		s.Identity(e.Payload)
	}
}

// BenchmarkVerify is the signature alone, for comparison.
func BenchmarkVerify(b *testing.B) {
	e, ring := oneSigner(b)
	message := statement.PAE(statement.PayloadType, e.Payload)
	author := ring[edKey(b, "author").ID()]
	b.ReportAllocs()
	for b.Loop() {
		if err := author.Verify(message, e.Signatures[0].Sig); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	s := sealedProtocol(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := statement.Build(s); err != nil {
			b.Fatal(err)
		}
	}
}
