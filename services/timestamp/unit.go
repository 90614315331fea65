package timestamp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	api "github.com/trialog/trialog/api/timestamp"
)

// unit is a time-stamping unit (RFC 3161, TSU): one key with its certificate.
type unit struct {
	key         crypto.Signer
	certificate *x509.Certificate
	from, until time.Time // when all certificates are valid
	// certificateSet is the content of a SignedData's certificates.
	certificateSet []byte
	chain          []byte // PEM, as it is handed out
}

// newUnit puts a key and its certificates together: chain is PEM with the
// certificate of the key first and its issuers behind it.
func newUnit(key crypto.Signer, chain []byte) (*unit, error) {
	certificates, err := parseChain(chain)
	if err != nil {
		return nil, err
	}
	own := certificates[0]
	u := &unit{key: key, certificate: own, from: own.NotBefore, until: own.NotAfter}
	for _, c := range certificates {
		if c.NotBefore.After(u.from) {
			u.from = c.NotBefore
		}
		if c.NotAfter.Before(u.until) {
			u.until = c.NotAfter
		}
	}
	// What verifiers would refuse is refused here.
	if err := api.CheckChain(certificates, u.from); err != nil {
		return nil, err
	}
	public, ok := own.PublicKey.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, errors.New("the certificate: expected an ECDSA key on P-256")
	}
	if !public.Equal(key.Public()) {
		return nil, errors.New("the certificate is not that of the key")
	}
	var set [][]byte
	for _, c := range certificates {
		set = append(set, c.Raw)
		u.chain = append(u.chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	slices.SortFunc(set, bytes.Compare) // X.690, section 11.6
	u.certificateSet = bytes.Join(set, nil)
	return u, nil
}

// parseChain reads certificates in PEM, each of which the next one issued.
func parseChain(raw []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(bytes.TrimSpace(rest)) > 0 {
				return nil, errors.New("certificates: expected PEM and nothing else")
			}
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("certificates: expected certificates, found %s", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificates: %w", err)
		}
		if n := len(list); n > 0 {
			if err := list[n-1].CheckSignatureFrom(c); err != nil {
				return nil, fmt.Errorf("certificates: number %d did not issue the one before it: %w", n+1, err)
			}
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, errors.New("certificates: expected at least that of the key")
	}
	return list, nil
}

// covers tells whether all certificates are valid within the bound around t.
func (u *unit) covers(t time.Time, bound time.Duration) bool {
	return !t.Add(-bound).Before(u.from) && !t.Add(bound).After(u.until)
}
