package ledger

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
)

// BenchmarkApply applies batches as the writer makes them: new trials, and
// protocols that continue a chain; and reads what admission reads.
func BenchmarkApply(b *testing.B) {
	const batch = 1024
	l, err := Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	begin(b, l)
	e := &entry.Entry{Received: time.UnixMilli(1)}
	writer := []statement.Signer{{Key: statement.KeyID{1}}}
	b.ReportAllocs()
	for n := 0; n < b.N; n += batch {
		c := l.Change()
		for i := range min(batch, b.N-n) {
			at := uint64(n + i)
			s := &statement.Statement{Kind: statement.KindTrial, Organisation: "acme", Trial: trialName(at), Signers: writer}
			if i%2 == 1 {
				s.Kind, s.Trial = statement.KindProtocol, trialName(at-1)
			}
			if _, err := c.Chain(s.Trial, s.Writer()); err != nil {
				b.Fatal(err)
			}
			var id statement.Identity
			binary.BigEndian.PutUint64(id[:], at*0x9e3779b97f4a7c15)
			if err := c.Apply(at, e, s, id); err != nil {
				b.Fatal(err)
			}
		}
		if err := c.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

func trialName(n uint64) string {
	return "T-" + statement.Digest{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}.String()[:16]
}
