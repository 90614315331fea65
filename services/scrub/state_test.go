package scrub

import (
	"bytes"
	"testing"
)

// FuzzPosition: what is taken is written the same way.
func FuzzPosition(f *testing.F) {
	f.Add(position{}.format())
	f.Add(position{next: 1 << 40}.format())
	f.Add([]byte("trialog-scrub@v1\n01\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePosition(data)
		if err == nil && !bytes.Equal(p.format(), data) {
			t.Errorf("%q is written %q", data, p.format())
		}
	})
}
