package timestamp

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte/asn1"
)

// Limits of what is read from a stranger.
const (
	// MaxToken is the greatest length of a token, in bytes.
	MaxToken = 64 << 10
	// MaxCertificates is the greatest number of certificates in a token.
	MaxCertificates = 16
	// MaxAccuracy is the greatest error that an authority may state: beyond it
	// a token says too little to be called a time stamp.
	MaxAccuracy = time.Hour

	// firstYear is before RFC 3161. It also keeps Go's zero time away, which
	// package x509 takes for now.
	firstYear = 2000

	maxSerial     = 160 // bits (RFC 3161, section 2.4.2)
	maxNonce      = 64  // bytes, and of a certificate's serial number
	maxAttributes = 32
	maxCertIDs    = MaxCertificates
	maxExtensions = 16
)

const (
	oidSignedData = "1.2.840.113549.1.7.2"
	oidTSTInfo    = "1.2.840.113549.1.9.16.1.4"
)

// Tags of members with IMPLICIT or EXPLICIT tagging.
const (
	tag0  = asn1.Tag(0x80) // [0] of a value without parts
	tag1  = asn1.Tag(0x81)
	tag0c = asn1.Tag(0xa0) // [0] of a value with parts
	tag1c = asn1.Tag(0xa1)
	tag4c = asn1.Tag(0xa4)
)

// Parse reads a TimeStampToken: a CMS ContentInfo with a SignedData over a
// TSTInfo (RFC 5652, section 5; RFC 3161, section 2.4.2), in DER.
//
// Stricter than the specifications: DER throughout, where CMS allows BER, but
// for the order of the certificates, which carries no meaning and which
// authorities do not sort; exactly one signerInfo and one digest algorithm;
// signed attributes and a signingCertificateV2 among them; nothing that is not
// signed besides the certificates, so no unsigned attributes and no revocation
// lists; X.509 certificates only, none with an RSA key of more than 8192 bits; no
// extension that is critical; an accuracy of at most [MaxAccuracy]; at most
// [MaxToken] bytes.
func Parse(der []byte) (*Token, error) {
	if len(der) > MaxToken {
		return nil, fmt.Errorf("time-stamp token: %d bytes, expected at most %d", len(der), MaxToken)
	}
	if err := checkDER(der); err != nil {
		return nil, fmt.Errorf("time-stamp token: %w", err)
	}
	t := &Token{Raw: bytes.Clone(der)}
	r := newReader("", t.Raw)
	if id := r.oid("contentType").String(); id != oidSignedData {
		r.failf("contentType", "found %s, expected signedData", id)
	}
	explicit := r.member("content", tag0c)
	r.end()
	t.readSignedData(explicit.member("", asn1.SEQUENCE))
	explicit.end()
	if *r.err != nil {
		return nil, fmt.Errorf("time-stamp token: %w", *r.err)
	}
	info := newReader("tstInfo", t.content)
	t.readInfo(info)
	if *info.err != nil {
		return nil, fmt.Errorf("time-stamp token: %w", *info.err)
	}
	return t, nil
}

func (t *Token) readSignedData(r *reader) {
	// RFC 5652, section 5.1: version 3 for a content type other than id-data.
	r.number("version", asn1.INTEGER, 3, 3)
	digests := r.member("digestAlgorithms", asn1.SET)
	digest := digests.algorithm("")
	digests.end()

	content := r.member("encapContentInfo", asn1.SEQUENCE)
	if id := content.oid("eContentType").String(); id != oidTSTInfo {
		content.failf("eContentType", "found %s, expected TSTInfo", id)
	}
	explicit := content.member("eContent", tag0c)
	content.end()
	t.content = explicit.content("", asn1.OCTET_STRING)
	explicit.end()
	if *r.err == nil {
		if err := checkDER(t.content); err != nil {
			r.failf("encapContentInfo.eContent", "%s", err)
		}
	}
	if r.has(tag0c) {
		t.readCertificates(r.member("certificates", tag0c))
	}
	if r.has(tag1c) {
		r.failf("crls", "revocation lists are not accepted")
	}
	signers := r.member("signerInfos", asn1.SET)
	t.signer.read(signers.member("", asn1.SEQUENCE))
	if signers.more() {
		signers.failf("", "more than one signer")
	}
	r.end()
	if *r.err == nil && (digest.id != t.signer.digestID || hashOf(digest) == 0) {
		r.failf("digestAlgorithms", "not that of the signer")
	}
}

func (t *Token) readCertificates(r *reader) {
	for r.more() {
		raw := r.element("")
		if len(t.Certificates) == MaxCertificates {
			r.failf("", "more than %d", MaxCertificates)
			return
		}
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			r.failf("", "%s", err)
			return
		}
		if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSA {
			r.failf("", "an RSA key of %d bits, expected at most %d", key.N.BitLen(), maxRSA)
		}
		for _, other := range t.Certificates {
			if other.Equal(cert) {
				r.failf("", "one is there twice")
			}
		}
		t.Certificates = append(t.Certificates, cert)
	}
}

// readInfo reads the TSTInfo, which is what the authority says.
func (t *Token) readInfo(r *reader) {
	r.number("version", asn1.INTEGER, 1, 1)
	t.Policy = r.oid("policy")
	t.Hash, t.Imprint = r.imprint("messageImprint")
	switch t.Serial = r.integer("serialNumber", maxNonce); {
	case t.Serial.Sign() < 0:
		r.failf("serialNumber", "is negative")
	case t.Serial.BitLen() > maxSerial:
		r.failf("serialNumber", "has %d bits, expected at most %d", t.Serial.BitLen(), maxSerial)
	}
	text := r.content("genTime", asn1.GeneralizedTime)
	if *r.err == nil {
		var err error
		if t.Time, err = parseTime(string(text)); err != nil {
			r.failf("genTime", "%s", err)
		} else if t.Time.Year() < firstYear {
			r.failf("genTime", "in the year %d", t.Time.Year())
		}
	}
	if r.has(asn1.SEQUENCE) {
		t.readAccuracy(r.member("accuracy", asn1.SEQUENCE))
	}
	t.Ordering = r.flag("ordering")
	if r.has(asn1.INTEGER) {
		t.Nonce = r.integer("nonce", maxNonce)
	}
	if r.has(tag0c) {
		name := r.member("tsa", tag0c)
		t.tsa = name.element("")
		name.end()
	}
	if r.has(tag1c) {
		r.extensions("extensions", tag1c)
	}
	r.end()
}

func (t *Token) readAccuracy(r *reader) {
	var seconds, millis, micros int64
	if r.has(asn1.INTEGER) {
		// A second as 0 could as well be left out, but DER wants no such thing.
		seconds = r.number("seconds", asn1.INTEGER, 0, int64(MaxAccuracy/time.Second))
	}
	if r.has(tag0) {
		millis = r.number("millis", tag0, 1, 999)
	}
	if r.has(tag1) {
		micros = r.number("micros", tag1, 1, 999)
	}
	r.end()
	t.Accuracy = time.Duration(seconds)*time.Second + time.Duration(millis)*time.Millisecond + time.Duration(micros)*time.Microsecond
	if t.Accuracy > MaxAccuracy {
		r.failf("", "found %v, expected at most %v", t.Accuracy, MaxAccuracy)
	}
}

// imprint takes a MessageImprint.
func (r *reader) imprint(name string) (crypto.Hash, []byte) {
	inner := r.member(name, asn1.SEQUENCE)
	a := inner.algorithm("hashAlgorithm")
	digest := inner.content("hashedMessage", asn1.OCTET_STRING)
	inner.end()
	h := hashOf(a)
	switch {
	case *r.err != nil:
	case h == 0:
		r.failf(name, "digest algorithm %s is not accepted, expected SHA-256, SHA-384 or SHA-512", a.id)
	case len(digest) != h.Size():
		r.failf(name, "%d bytes, expected %d", len(digest), h.Size())
	}
	return h, bytes.Clone(digest)
}

// extensions takes Extensions and refuses those that must be understood: none
// is.
func (r *reader) extensions(name string, tag asn1.Tag) {
	list := r.member(name, tag)
	seen := map[string]bool{}
	for first := true; first || list.more(); first = false {
		extension := list.member("", asn1.SEQUENCE)
		id := extension.oid("extnID").String()
		if extension.flag("critical") {
			extension.failf("", "%s is critical and not known", id)
		}
		extension.content("extnValue", asn1.OCTET_STRING)
		extension.end()
		if seen[id] || len(seen) == maxExtensions {
			list.failf("", "%s is there twice, or there are more than %d", id, maxExtensions)
		}
		seen[id] = true
	}
}

// signerInfo is who signed a token and what besides the content.
type signerInfo struct {
	issuer []byte   // the issuer's Name in DER, with serial; or
	serial *big.Int //
	keyID  []byte   // the subject key identifier

	digest    crypto.Hash
	digestID  string
	algorithm algorithm
	signature []byte
	// attributes are the signed ones as the SET that the signature is over.
	attributes []byte

	messageDigest []byte
	certIDs       []certID
}

// certID is an ESSCertIDv2 (RFC 5035, section 4).
type certID struct {
	hash   crypto.Hash
	digest []byte
	issuer []byte   // nil if there is no issuerSerial
	serial *big.Int //
}

const (
	oidContentType          = "1.2.840.113549.1.9.3"
	oidMessageDigest        = "1.2.840.113549.1.9.4"
	oidSigningCertificate   = "1.2.840.113549.1.9.16.2.12"
	oidSigningCertificateV2 = "1.2.840.113549.1.9.16.2.47"
)

func (s *signerInfo) read(r *reader) {
	// RFC 5652, section 5.3: version 1 with issuerAndSerialNumber, 3 with
	// subjectKeyIdentifier.
	version := r.number("version", asn1.INTEGER, 1, 3)
	switch {
	case version == 3 && r.has(tag0):
		s.keyID = bytes.Clone(r.content("sid", tag0))
	case version == 1:
		sid := r.member("sid", asn1.SEQUENCE)
		s.issuer = bytes.Clone(sid.element("issuer"))
		s.serial = sid.integer("serialNumber", maxNonce)
		sid.end()
	default:
		r.failf("version", "does not fit the signer's identifier")
	}
	digest := r.algorithm("digestAlgorithm")
	s.digestID, s.digest = digest.id, hashOf(digest)
	if s.digest == 0 {
		r.failf("digestAlgorithm", "%s is not accepted, expected SHA-256, SHA-384 or SHA-512", digest.id)
	}
	if !r.has(tag0c) {
		r.failf("signedAttrs", "missing")
		return
	}
	// RFC 5652, section 5.4: the IMPLICIT [0] tag in the signedAttrs is not
	// used for the DER encoding, rather an EXPLICIT SET OF tag is used.
	s.attributes = bytes.Clone(r.element("signedAttrs"))
	s.attributes[0] = byte(asn1.SET)
	if err := checkDER(s.attributes); err != nil {
		r.failf("signedAttrs", "%s", err)
	}
	s.algorithm = r.algorithm("signatureAlgorithm")
	s.signature = bytes.Clone(r.content("signature", asn1.OCTET_STRING))
	if r.has(tag1c) {
		r.failf("unsignedAttrs", "attributes that are not signed are not accepted")
	}
	r.end()
	if *r.err == nil {
		s.readAttributes(&reader{rest: s.attributes, path: r.path, err: r.err})
	}
}

func (s *signerInfo) readAttributes(r *reader) {
	list := r.member("signedAttrs", asn1.SET)
	seen := map[string]bool{}
	for list.more() {
		attribute := list.member("", asn1.SEQUENCE)
		id := attribute.oid("attrType").String()
		values := attribute.member("attrValues", asn1.SET)
		attribute.end()
		if seen[id] || len(seen) == maxAttributes {
			list.failf("", "%s is there twice, or there are more than %d", id, maxAttributes)
			return
		}
		seen[id] = true
		s.readAttribute(list, id, values)
	}
	for _, must := range []struct{ id, name string }{
		{oidContentType, "contentType"},
		{oidMessageDigest, "messageDigest"},
		{oidSigningCertificateV2, "signingCertificateV2"},
	} {
		switch {
		case seen[must.id]:
		case must.id == oidSigningCertificateV2 && seen[oidSigningCertificate]:
			list.failf(must.name, "missing: signingCertificate alone names the certificate by SHA-1")
		default:
			list.failf(must.name, "missing")
		}
	}
}

// readAttribute reads the values of those signed attributes that matter here.
// The others are the authority's affair.
func (s *signerInfo) readAttribute(list *reader, id string, values *reader) {
	switch id {
	case oidContentType:
		if got := values.oid("").String(); got != oidTSTInfo {
			list.failf("contentType", "found %s, expected TSTInfo", got)
		}
	case oidMessageDigest:
		s.messageDigest = bytes.Clone(values.content("", asn1.OCTET_STRING))
	case oidSigningCertificateV2:
		v := values.member("", asn1.SEQUENCE)
		certs := v.member("certs", asn1.SEQUENCE)
		for first := true; first || certs.more(); first = false {
			s.certIDs = append(s.certIDs, readCertID(certs.member("", asn1.SEQUENCE)))
			if len(s.certIDs) > maxCertIDs {
				certs.failf("", "more than %d", maxCertIDs)
			}
		}
		if v.more() {
			v.member("policies", asn1.SEQUENCE)
		}
		v.end()
	default:
		return
	}
	values.end()
}

func readCertID(r *reader) certID {
	id := certID{hash: crypto.SHA256}
	if r.has(asn1.SEQUENCE) {
		a := r.algorithm("hashAlgorithm")
		switch id.hash = hashOf(a); {
		case id.hash == 0:
			r.failf("hashAlgorithm", "%s is not accepted, expected SHA-256, SHA-384 or SHA-512", a.id)
		case id.hash == crypto.SHA256 && a.params == nil:
			r.failf("hashAlgorithm", "the default is written, expected it to be left out")
		}
	}
	id.digest = bytes.Clone(r.content("certHash", asn1.OCTET_STRING))
	if r.more() {
		both := r.member("issuerSerial", asn1.SEQUENCE)
		names := both.member("issuer", asn1.SEQUENCE)
		name := names.member("", tag4c) // directoryName
		id.issuer = bytes.Clone(name.element(""))
		name.end()
		names.end()
		id.serial = both.integer("serialNumber", maxNonce)
		both.end()
	}
	r.end()
	return id
}
