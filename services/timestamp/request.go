package timestamp

import (
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	api "github.com/trialog/trialog/api/timestamp"
)

// request is a query as it was read, with the DER of its MessageImprint.
type request struct {
	*api.Request

	imprint []byte
}

// parseRequest reads a TimeStampReq; the error is a *RefusalError.
func parseRequest(der []byte) (*request, error) {
	r, err := api.ParseRequest(der)
	if err != nil {
		refusal := &RefusalError{Failure: api.BadDataFormat, Text: err.Error()}
		if e, ok := errors.AsType[*api.RequestError](err); ok {
			refusal.Failure = e.Failure
		}
		return nil, refusal
	}
	s, imprint := cryptobyte.String(der), cryptobyte.String(nil)
	if !s.ReadASN1(&s, cbasn1.SEQUENCE) || !s.SkipASN1(cbasn1.INTEGER) || !s.ReadASN1Element(&imprint, cbasn1.SEQUENCE) {
		return nil, &RefusalError{Failure: api.BadDataFormat, Text: "expected a TimeStampReq in DER"}
	}
	return &request{r, imprint}, nil
}
