package timestamp

import (
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	api "github.com/trialog/trialog/api/timestamp"
)

// RefusalError says why no token was issued. The text goes to whoever asked.
type RefusalError struct {
	Failure api.Failure
	Text    string
	Err     error // what happened, for the operator; may be nil
}

// Error implements error.
func (e *RefusalError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Failure, e.Text, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Failure, e.Text)
}

// Unwrap returns what happened.
func (e *RefusalError) Unwrap() error { return e.Err }

// PKIStatus (RFC 3161, section 2.4.2).
const (
	granted   = 0
	rejection = 2
)

// grantedReply returns the TimeStampResp with a token.
func grantedReply(token []byte) ([]byte, error) {
	return reply(granted, func(*cryptobyte.Builder) {}, token)
}

// Reply returns the TimeStampResp that rejects a request.
//
// SPEC (RFC 3161, 2.4.2): "When the TimeStampToken is not present, the failInfo
// indicates the reason why the time-stamp request was rejected".
func (e *RefusalError) Reply() ([]byte, error) {
	return reply(rejection, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // PKIFreeText
			b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(e.Text)) })
		})
		// A named bit string in DER ends with its last bit that is one.
		bits := make([]byte, e.Failure/8+1)
		bits[e.Failure/8] = 0x80 >> (e.Failure % 8)
		raw, err := asn1.Marshal(asn1.BitString{Bytes: bits, BitLength: int(e.Failure) + 1})
		if err != nil {
			b.SetError(err)
			return
		}
		b.AddBytes(raw)
	}, nil)
}

func reply(status int64, more func(*cryptobyte.Builder), token []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // PKIStatusInfo
			b.AddASN1Int64(status)
			more(b)
		})
		b.AddBytes(token)
	})
	return b.Bytes()
}
