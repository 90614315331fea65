// Package timestamptest makes time-stamp authorities and their tokens for
// tests: good ones, and ones that are wrong in one place of the test's choice.
// It writes down the formats a second time, and uses nothing of package
// timestamp.
//
// The same names give the same keys and the same bytes. Nothing is secret.
package timestamptest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"time"
)

// Object identifiers that tests choose among.
const (
	Policy         = "1.3.6.1.4.1.99999.1"
	SHA1           = "1.3.14.3.2.26"
	SHA256         = "2.16.840.1.101.3.4.2.1"
	SHA384         = "2.16.840.1.101.3.4.2.2"
	SHA512         = "2.16.840.1.101.3.4.2.3"
	ECDSAWith      = "1.2.840.10045.4.3."  // 2 SHA-256, 3 SHA-384, 4 SHA-512
	RSAWith        = "1.2.840.113549.1.1." // 11 SHA-256, 12 SHA-384, 13 SHA-512
	Ed25519        = "1.3.101.112"
	TimeStamping   = "1.3.6.1.5.5.7.3.8"
	CodeSigning    = "1.3.6.1.5.5.7.3.3"
	TSTInfo        = "1.2.840.113549.1.9.16.1.4"
	Data           = "1.2.840.113549.1.7.1"
	SignedData     = "1.2.840.113549.1.7.2"
	ContentType    = "1.2.840.113549.1.9.3"
	MessageDigest  = "1.2.840.113549.1.9.4"
	SigningTime    = "1.2.840.113549.1.9.5"
	SigningCert    = "1.2.840.113549.1.9.16.2.12"
	SigningCertV2  = "1.2.840.113549.1.9.16.2.47"
	extKeyUsage    = "2.5.29.37"
	subjectAltName = "2.5.29.17"
)

// Entity is a certificate with its key.
type Entity struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// Authority is a time-stamp authority under a root, with an issuer between.
type Authority struct {
	Name               string
	Root, Issuer, Unit *Entity
}

// Start is when all certificates begin; they last for twenty years.
func Start() time.Time { return time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC) }

// Change changes a certificate before it is signed.
type Change func(*x509.Certificate)

// New makes an authority with P-256 keys; the changes are made to the
// certificate of the unit that signs tokens.
func New(name string, changes ...Change) *Authority {
	return NewWithKey(name, P256Key(name), changes...)
}

// NewWithKey makes an authority whose unit has a key of the test's choice.
func NewWithKey(name string, key crypto.Signer, changes ...Change) *Authority {
	a := &Authority{Name: name}
	a.Root = Issue(nil, name+" root", P256Key(name+" root"), asCA)
	a.Issuer = Issue(a.Root, name+" issuer", P256Key(name+" issuer"), asCA)
	a.Unit = Issue(a.Issuer, name+" unit", key, append([]Change{Purpose(true, TimeStamping)}, changes...)...)
	return a
}

func asCA(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	c.ExtraExtensions = nil
}

// Purpose sets the extended key usages.
func Purpose(critical bool, ids ...string) Change {
	return func(c *x509.Certificate) {
		var list [][]byte
		for _, id := range ids {
			list = append(list, OID(id))
		}
		c.ExtraExtensions = []pkix.Extension{{Id: parseOID(extKeyUsage), Critical: critical, Value: Sequence(list...)}}
	}
}

// Valid sets the time for which a certificate is valid.
func Valid(from, until time.Time) Change {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, until }
}

// Issue makes a certificate; its issuer is itself if by is nil.
func Issue(by *Entity, name string, key crypto.Signer, changes ...Change) *Entity {
	serial := sha256.Sum256([]byte(name))
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:8]), Subject: pkix.Name{Organization: []string{"Test"}, CommonName: name},
		NotBefore: Start(), NotAfter: Start().AddDate(20, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		SubjectKeyId: serial[:20],
	}
	for _, change := range changes {
		change(template)
	}
	parent := &Entity{Cert: template, Key: key}
	if by != nil {
		parent = by
	}
	der := must(x509.CreateCertificate(rand.Reader, template, parent.Cert, key.Public(), parent.Key))
	return &Entity{Cert: must(x509.ParseCertificate(der)), Key: key}
}

// P256Key makes the P-256 key of a name. It signs by RFC 6979.
func P256Key(name string) crypto.Signer { return ecKey(name, elliptic.P256()) }

// P384Key makes the P-384 key of a name.
func P384Key(name string) crypto.Signer { return ecKey(name, elliptic.P384()) }

func ecKey(name string, curve elliptic.Curve) crypto.Signer {
	var seed []byte
	for i := 0; len(seed) < (curve.Params().BitSize+7)/8; i++ {
		block := sha256.Sum256(fmt.Appendf(nil, "timestamptest %d %s", i, name))
		seed = append(seed, block[:]...)
	}
	seed = seed[:(curve.Params().BitSize+7)/8]
	seed[0] &= 0x7f // below the order of the curve
	return repeatable{must(ecdsa.ParseRawPrivateKey(curve, seed))}
}

// repeatable signs without randomness.
type repeatable struct{ *ecdsa.PrivateKey }

// Sign implements crypto.Signer.
func (r repeatable) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return r.PrivateKey.Sign(nil, digest, opts)
}

// RSAKey makes a new RSA key.
func RSAKey(bits int) crypto.Signer { return must(rsa.GenerateKey(rand.Reader, bits)) }

func parseOID(dotted string) asn1.ObjectIdentifier {
	var id asn1.ObjectIdentifier
	n := 0
	for _, c := range dotted + "." {
		if c == '.' {
			id, n = append(id, n), 0
			continue
		}
		n = 10*n + int(c-'0')
	}
	return id
}

// must panics if a fixture cannot be made: the test that wants it fails.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Errorf("timestamptest: %w", err))
	}
	return v
}

// ECDSA returns the private key behind a key of this package, for programs that
// read it from a file.
func ECDSA(key crypto.Signer) *ecdsa.PrivateKey {
	if r, ok := key.(repeatable); ok {
		return r.PrivateKey
	}
	return nil
}
