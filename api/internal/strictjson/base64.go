package strictjson

import (
	"encoding/base64"
	"strings"
)

// Base64 decodes standard base64 with padding in its one form: no line breaks, which
// the decoder of the standard library skips, and no bits that are not used.
func Base64(text string) (raw []byte, ok bool) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	return raw, err == nil && !strings.ContainsAny(text, "\r\n")
}
