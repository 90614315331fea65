package strictjson_test

import (
	"encoding/base64"
	"testing"

	"github.com/trialog/trialog/api/internal/strictjson"
)

// TestBase64: what is decoded encodes back to the same text.
func TestBase64(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "AA==": true, "AAA=": true, "AAAA": true, "+/+/": true,
		"AB==": false, "AAB=": false, "AA": false, "AA=": false, "AA==\n": false, "\nAA==": false, "AA\r==": false,
		"-_-_": false, "A A A A": false, "AA==AA==": false,
	} {
		raw, ok := strictjson.Base64(text)
		if ok != want || ok && base64.StdEncoding.EncodeToString(raw) != text {
			t.Errorf("%q: %x, %t", text, raw, ok)
		}
	}
}
