package evidence_test

import (
	"testing"

	"github.com/trialog/trialog/api/evidence"
)

// BenchmarkVerify judges a file of each kind. Its signatures are most of the work.
func BenchmarkVerify(b *testing.B) {
	w := tell(b)
	for kind, e := range w.all() {
		raw := encode(b, e)
		b.Run(string(kind), func(b *testing.B) {
			for b.Loop() {
				if _, err := evidence.Verify(raw, w.policy); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
