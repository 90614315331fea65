package verify_test

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// BenchmarkVerify sets Verify beside its floor: the signatures of the receipt,
// each verified once, and the SHA-256 of the document.
func BenchmarkVerify(b *testing.B) {
	s := tell(b)
	document := bytes.Repeat([]byte("page "), 200_000) // 1 MB
	var large *testlog.Logged
	if err := testlog.Do(func() {
		large = s.Say(testlog.Document(statement.KindProtocol, document), []*testlog.Member{s.Device})
		s.Final = s.Note(s.First, s.First.Size())
	}); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		l        *testlog.Logged
		document []byte
	}{
		{"small", s.Plain, s.Pdf}, {"enrolled", s.Protocol, s.Pdf}, {"megabyte", large, document},
	} {
		in := honest(b, s, c.l, c.document)
		b.Run(c.name+"/verify", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verify.Verify(in); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/floor", func(b *testing.B) {
			checks := floor(b, s, c.l, c.document)
			for b.Loop() {
				for _, check := range checks {
					if !check() {
						b.Fatal("a signature does not verify")
					}
				}
			}
		})
	}
}

// floor lists what cannot be left out.
func floor(b *testing.B, s *testlog.Story, l *testlog.Logged, document []byte) []func() bool {
	b.Helper()
	var keys []*checkpoint.VerifierKey
	for _, log := range s.Policy().Notes().Logs() {
		keys = append(keys, log.Key)
	}
	for _, w := range s.Policy().Notes().Witnesses() {
		keys = append(keys, w.Key)
	}
	checks := []func() bool{func() bool { return sha256.Sum256(document) != [32]byte{} }}
	beacon, err := checkpoint.Parse(l.Beacon)
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []*checkpoint.Note{s.Final, beacon} {
		for _, sig := range n.Signatures() {
			at := slices.IndexFunc(keys, func(k *checkpoint.VerifierKey) bool { return k.Name() == sig.Name && k.ID() == sig.KeyID })
			checks = append(checks, func() bool {
				_, err := keys[at].VerifyCheckpoint(n, sig)
				return err == nil
			})
		}
	}
	entries := [][]byte{l.Shard.Entries[l.Index]}
	for _, e := range s.Receipt(l, s.Final).Enrolments {
		entries = append(entries, e.Entry)
	}
	public := map[statement.KeyID]*statement.PublicKey{}
	for _, m := range []*testlog.Member{s.Admin, s.Device, s.Site} {
		public[m.Key.ID()] = m.Key.Public()
	}
	for _, raw := range entries {
		framed, err := entry.Parse(raw)
		if err != nil {
			b.Fatal(err)
		}
		env, st, err := statement.Parse(framed.Envelope)
		if err != nil {
			b.Fatal(err)
		}
		message := statement.PAE(statement.PayloadType, env.Payload)
		for i, sig := range env.Signatures {
			key := public[st.Signers[i].Key]
			checks = append(checks, func() bool { return key.Verify(message, sig.Sig) == nil })
		}
	}
	return checks
}
