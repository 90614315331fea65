package timestamptest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" //nolint:gosec // for what is refused
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Draft is a token before it is signed. Members are DER; nil leaves an optional
// one out.
type Draft struct {
	Version    []byte
	Policy     []byte
	Imprint    []byte
	Serial     []byte
	Time       []byte
	Accuracy   []byte
	Ordering   []byte
	Nonce      []byte
	TSA        []byte
	Extensions []byte

	// Signer signs; ID and Attributes are what it says of itself and of what it
	// signs.
	Signer       *Entity
	ID           []byte // the signer's identifier
	SignerInfo   []byte // the version
	Digest       crypto.Hash
	Algorithm    []byte // of the signature
	Certificates [][]byte
	// CertID is the content of signingCertificateV2's one value.
	CertID []byte

	// What is done to each part once it is made; nil leaves it as it is.
	ChangeContent    func(info []byte) []byte           // before it is digested
	WrapContent      func(info []byte) []byte           // instead of Octets
	SwapContent      func(info []byte) []byte           // after it is signed
	ChangeAttributes func(attributes [][]byte) [][]byte // before they are signed
	SwapAttributes   func(attributes []byte) []byte     // the [0] after they are signed
	SignPlain        bool                               // sign the content, without attributes
	ChangeSignature  func(signature []byte) []byte
	Unsigned         []byte // unsigned attributes
	ChangeSigners    func(infos [][]byte) [][]byte
	Digests          []byte // digestAlgorithms
	ContentType      string
	DataVersion      []byte // of SignedData
	Lists            []byte // revocation lists
}

// Draft makes the draft of a good token over a SHA-256 digest.
func (a *Authority) Draft(digest [32]byte, at time.Time) *Draft {
	d := &Draft{
		Version: Int(1), Policy: OID(Policy), Serial: Int(4711),
		Imprint:  Sequence(Algorithm(SHA256, Null()), Octets(digest[:])),
		Time:     TLV(0x18, []byte(generalized(at))),
		Accuracy: Sequence(TLV(0x80, []byte{100})), // 100 ms
		Signer:   a.Unit, Digest: crypto.SHA256, SignerInfo: Int(1),
		Certificates: [][]byte{a.Issuer.Cert.Raw, a.Unit.Cert.Raw},
		ContentType:  TSTInfo, DataVersion: Int(3),
	}
	d.As(a.Unit)
	return d
}

// As lets another entity sign, in its own name.
func (d *Draft) As(e *Entity) {
	d.Signer = e
	d.ID = IssuerAndSerial(e.Cert)
	d.CertID = CertIDs(CertIDv2(e.Cert))
	d.Algorithm = signatureAlgorithm(e.Key, d.Digest)
}

// With uses another digest algorithm throughout.
func (d *Draft) With(h crypto.Hash) {
	d.Digest = h
	d.Algorithm = signatureAlgorithm(d.Signer.Key, h)
}

// Stamp makes a good token, changed in any way that change does.
func (a *Authority) Stamp(digest [32]byte, at time.Time, change ...func(*Draft)) []byte {
	d := a.Draft(digest, at)
	for _, c := range change {
		c(d)
	}
	return d.Sign()
}

// generalized writes a GeneralizedTime in DER, to the microsecond.
func generalized(at time.Time) string {
	text := at.UTC().Format("20060102150405")
	if fraction := strings.TrimRight(fmt.Sprintf("%06d", at.Nanosecond()/1000), "0"); at.Nanosecond() != 0 && fraction != "" {
		text += "." + fraction
	}
	return text + "Z"
}

func (d *Draft) info() []byte {
	return Sequence(d.Version, d.Policy, d.Imprint, d.Serial, d.Time, d.Accuracy, d.Ordering, d.Nonce, d.TSA, d.Extensions)
}

// Sign makes the token.
func (d *Draft) Sign() []byte {
	content := d.info()
	if d.ChangeContent != nil {
		content = d.ChangeContent(content)
	}
	attributes := [][]byte{
		Attribute(ContentType, OID(TSTInfo)),
		Attribute(MessageDigest, Octets(digest(d.Digest, content))),
		Attribute(SigningCertV2, d.CertID),
	}
	if d.ChangeAttributes != nil {
		attributes = d.ChangeAttributes(attributes)
	}
	signed := Set(attributes...)
	message := signed
	if d.SignPlain {
		message = content
	}
	signature := sign(d.Signer.Key, d.Digest, message)
	if d.ChangeSignature != nil {
		signature = d.ChangeSignature(signature)
	}
	member := slices.Clone(signed)
	member[0] = 0xa0
	if d.SwapAttributes != nil {
		member = d.SwapAttributes(member)
	}
	if d.SignPlain {
		member = nil
	}
	infos := [][]byte{Sequence(d.SignerInfo, d.ID, Algorithm(hashOID(d.Digest), nil), member, d.Algorithm, Octets(signature), d.Unsigned)}
	if d.ChangeSigners != nil {
		infos = d.ChangeSigners(infos)
	}
	if d.SwapContent != nil {
		content = d.SwapContent(content)
	}
	digests := d.Digests
	if digests == nil {
		digests = Set(Algorithm(hashOID(d.Digest), nil))
	}
	wrap := Octets
	if d.WrapContent != nil {
		wrap = d.WrapContent
	}
	var certificates []byte
	if len(d.Certificates) > 0 {
		certificates = TLV(0xa0, d.Certificates...)
	}
	return Sequence(OID(SignedData), TLV(0xa0, Sequence(
		d.DataVersion, digests, Sequence(OID(d.ContentType), TLV(0xa0, wrap(content))), certificates, d.Lists, Set(infos...),
	)))
}

func digest(h crypto.Hash, data []byte) []byte {
	d := h.New()
	d.Write(data)
	return d.Sum(nil)
}

func sign(key crypto.Signer, h crypto.Hash, message []byte) []byte {
	if _, ok := key.Public().(ed25519.PublicKey); ok {
		return must(key.Sign(rand.Reader, message, crypto.Hash(0)))
	}
	return must(key.Sign(rand.Reader, digest(h, message), h))
}

func hashOID(h crypto.Hash) string {
	switch h { //nolint:exhaustive // what tests use
	case crypto.SHA1:
		return SHA1
	case crypto.SHA384:
		return SHA384
	case crypto.SHA512:
		return SHA512
	}
	return SHA256
}

func signatureAlgorithm(key crypto.Signer, h crypto.Hash) []byte {
	at := map[crypto.Hash]int{crypto.SHA1: 0, crypto.SHA256: 0, crypto.SHA384: 1, crypto.SHA512: 2}[h]
	switch key.Public().(type) {
	case *ecdsa.PublicKey:
		return Algorithm(ECDSAWith+[]string{"2", "3", "4"}[at], nil)
	case *rsa.PublicKey:
		return Algorithm(RSAWith+[]string{"11", "12", "13"}[at], Null())
	}
	return Algorithm(Ed25519, nil)
}

// CertIDv2 is an ESSCertIDv2 with SHA-256 and an issuerSerial.
func CertIDv2(c *x509.Certificate) []byte {
	return Sequence(Octets(digest(crypto.SHA256, c.Raw)), IssuerSerial(c))
}

// CertIDv1 is an ESSCertID, with SHA-1.
func CertIDv1(c *x509.Certificate) []byte {
	return Sequence(Octets(digest(crypto.SHA1, c.Raw)), IssuerSerial(c))
}

// CertIDs is a SigningCertificate or SigningCertificateV2.
func CertIDs(ids ...[]byte) []byte { return Sequence(Sequence(ids...)) }

// IssuerSerial is how an ESSCertID names a certificate besides its digest.
func IssuerSerial(c *x509.Certificate) []byte {
	return Sequence(Sequence(TLV(0xa4, c.RawIssuer)), BigInt(c.SerialNumber))
}

// IssuerAndSerial is how a SignerInfo names a certificate.
func IssuerAndSerial(c *x509.Certificate) []byte {
	return Sequence(c.RawIssuer, BigInt(c.SerialNumber))
}

// Attribute is a CMS attribute.
func Attribute(id string, values ...[]byte) []byte { return Sequence(OID(id), Set(values...)) }

// Algorithm is an AlgorithmIdentifier.
func Algorithm(id string, params []byte) []byte { return Sequence(OID(id), params) }

// Sequence is a SEQUENCE of what is not nil.
func Sequence(parts ...[]byte) []byte { return TLV(0x30, parts...) }

// Set is a SET OF, in the order of DER.
func Set(parts ...[]byte) []byte {
	parts = slices.Clone(parts)
	slices.SortFunc(parts, bytes.Compare)
	return TLV(0x31, parts...)
}

// Octets is an OCTET STRING.
func Octets(b []byte) []byte { return TLV(0x04, b) }

// Null is a NULL.
func Null() []byte { return []byte{5, 0} }

// Int is an INTEGER.
func Int(n int64) []byte { return BigInt(big.NewInt(n)) }

// BigInt is an INTEGER.
func BigInt(n *big.Int) []byte { return must(asn1.Marshal(n)) }

// OID is an OBJECT IDENTIFIER from its dotted form.
func OID(dotted string) []byte { return must(asn1.Marshal(parseOID(dotted))) }

// TLV is any value.
func TLV(tag byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	n := len(body)
	switch {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, body...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, body...)
	case n < 0x10000:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n & 0xff)}, body...)
	}
	return append([]byte{tag, 0x83, byte(n >> 16 & 0xff), byte(n >> 8 & 0xff), byte(n & 0xff)}, body...)
}
