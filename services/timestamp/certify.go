package timestamp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// How long certificates last. The authority's key is meant to be replaced long
// before: tokens must be verifiable for years after the last one was made.
const (
	caLife   = 20 * 365 * 24 * time.Hour
	unitLife = 5 * 365 * 24 * time.Hour
	// backdate lets verifiers in whose clocks are a little behind.
	backdate = time.Hour
)

// timeStampingOnly returns the extended key usage that RFC 3161, section 2.3,
// wants: timeStamping alone, and critical.
func timeStampingOnly() (pkix.Extension, error) {
	value, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: value}, err
}

// Certify makes a small certificate authority, and with it the certificate of a
// time-stamping unit's key. chain is PEM, the unit's certificate first; caKey is
// the new authority's key in PEM (PKCS #8): it is needed for the next unit only,
// and is to be kept elsewhere.
func Certify(name string, unit crypto.PublicKey, now time.Time) (chain, caKey []byte, err error) {
	if err := checkName(name); err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	numbers := [2]*big.Int{}
	for i := range numbers {
		if numbers[i], err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
			return nil, nil, err
		}
	}
	ca := &x509.Certificate{
		SerialNumber: numbers[0], Subject: pkix.Name{CommonName: name + " root"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(caLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	root, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("make the root certificate: %w", err)
	}
	if ca, err = x509.ParseCertificate(root); err != nil {
		return nil, nil, err
	}
	usage, err := timeStampingOnly()
	if err != nil {
		return nil, nil, err
	}
	own, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: numbers[1], Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(unitLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{usage},
	}, ca, unit, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make the unit's certificate: %w", err)
	}
	for _, c := range [][]byte{own, root} {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	return chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// CertificateRequest makes a PKCS #10 request, in PEM, for a certificate of a
// unit's key by another certificate authority.
func CertificateRequest(name string, unit crypto.Signer) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	usage, err := timeStampingOnly()
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: name}, ExtraExtensions: []pkix.Extension{usage},
	}, unit)
	if err != nil {
		return nil, fmt.Errorf("make the certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// checkName: RFC 5280 bounds a common name (ub-common-name).
func checkName(name string) error {
	const most = 64 - len(" root")
	if name == "" || len(name) > most {
		return errors.New("name: expected 1 to 59 bytes")
	}
	return nil
}
