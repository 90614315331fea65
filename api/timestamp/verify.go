package timestamp

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// Verify tells whether the token says what is wanted and was made by the
// authority of the anchor: the certificate of the authority itself, or that of
// an issuer above it. The certificates are judged at the token's time, not
// today: a token outlives its certificates.
//
// The steps are those of RFC 3161, section 2.3 and 2.4.2, RFC 5652, section
// 5.4, RFC 5816 and RFC 5280, section 6. No certificate is looked up, no root
// of the machine is used, and revocation is not asked about: a policy drops the
// anchor of an authority that it no longer believes.
func (t *Token) Verify(anchor *x509.Certificate, want Expect) error {
	if err := t.verify(anchor, want); err != nil {
		return fmt.Errorf("time-stamp token: %w", err)
	}
	return nil
}

func (t *Token) verify(anchor *x509.Certificate, want Expect) error {
	switch {
	case anchor == nil:
		return errors.New("no certificate of the authority was given")
	case t.signer.attributes == nil:
		return errors.New("not parsed")
	}
	if err := t.says(want); err != nil {
		return err
	}
	cert, err := t.signedBy(anchor)
	if err != nil {
		return err
	}
	if err := checkSigner(cert); err != nil {
		return err
	}
	if t.tsa != nil && !namedIn(t.tsa, cert) {
		return errors.New("the authority calls itself by a name that is not in its certificate")
	}
	if err := checkPath(cert, anchor, t.Certificates, t.Time, t.checkLinks); err != nil {
		return err
	}
	// RFC 5652, section 5.6: the message digest computed by the recipient must
	// be the same as the value of the messageDigest attribute.
	if s := t.signer; !bytes.Equal(sum(s.digest, t.content), s.messageDigest) {
		return errors.New("the signature is on another content: the messageDigest differs")
	}
	return checkSignature(cert, t.signer.algorithm, t.signer.digest, t.signer.attributes, t.signer.signature)
}

// says holds the content against what is wanted.
func (t *Token) says(want Expect) error {
	switch {
	case t.Hash != crypto.SHA256:
		return fmt.Errorf("the imprint is made with %s, expected SHA-256", t.Hash)
	case !bytes.Equal(t.Imprint, want.Digest[:]):
		return errors.New("the imprint is of something else")
	case want.Nonce != nil && (t.Nonce == nil || t.Nonce.Cmp(want.Nonce) != 0):
		return errors.New("the nonce is not that of the request")
	case want.Policy != nil && !t.Policy.Equal(want.Policy):
		return fmt.Errorf("made under policy %s, expected %s", t.Policy, want.Policy)
	}
	return nil
}

// signedBy returns the certificate that the signed attributes name. All that is
// checked of a signer is checked of this one: what else travels in the token is
// the choice of whoever handed it over.
func (t *Token) signedBy(anchor *x509.Certificate) (*x509.Certificate, error) {
	id := t.signer.certIDs[0]
	for _, cert := range append(slices.Clone(t.Certificates), anchor) {
		if !id.names(cert) {
			continue
		}
		s := t.signer
		if s.keyID != nil {
			if !bytes.Equal(cert.SubjectKeyId, s.keyID) {
				return nil, errors.New("the signer is identified as another certificate than the signed attributes name")
			}
		} else if !bytes.Equal(cert.RawIssuer, s.issuer) || cert.SerialNumber.Cmp(s.serial) != 0 {
			return nil, errors.New("the signer is identified as another certificate than the signed attributes name")
		}
		return cert, nil
	}
	return nil, errors.New("the certificate that the signed attributes name is not there")
}

// names tells whether an ESSCertIDv2 is that of the certificate.
//
// RFC 5035, section 4: the issuerSerial, if present, MUST match the issuer and
// serialNumber of the certificate.
func (id certID) names(cert *x509.Certificate) bool {
	if !bytes.Equal(sum(id.hash, cert.Raw), id.digest) {
		return false
	}
	return id.serial == nil || bytes.Equal(cert.RawIssuer, id.issuer) && cert.SerialNumber.Cmp(id.serial) == 0
}

const (
	oidExtKeyUsage    = "2.5.29.37"
	oidSubjectAltName = "2.5.29.17"
)

// checkSigner tells whether a certificate is one of a time-stamp authority.
func checkSigner(cert *x509.Certificate) error {
	// RFC 3161, section 2.3: The corresponding certificate MUST contain only
	// one instance of the extended key usage field extension […] with
	// KeyPurposeID having value: id-kp-timeStamping. This extension MUST be
	// critical.
	if len(cert.UnknownExtKeyUsage) > 0 || !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}) {
		return errors.New("the signer's certificate is not for time-stamping alone")
	}
	critical := slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool {
		return e.Id.String() == oidExtKeyUsage && e.Critical
	})
	const signs = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	switch {
	case !critical:
		return errors.New("the signer's certificate does not say critically that it is for time-stamping")
	case cert.IsCA:
		return errors.New("the signer's certificate is that of a certification authority")
	case cert.KeyUsage != 0 && (cert.KeyUsage&signs == 0 || cert.KeyUsage&^signs != 0):
		return errors.New("the signer's certificate has a key usage other than signing")
	}
	return nil
}

// namedIn tells whether a GeneralName is one of the certificate's.
//
// RFC 3161, section 2.4.2: If [tsa is] present, it MUST correspond to one of
// the subject names included in the certificate that is to be used to verify
// the token.
func namedIn(name []byte, cert *x509.Certificate) bool {
	var b cryptobyte.Builder
	b.AddASN1(tag4c, func(b *cryptobyte.Builder) { b.AddBytes(cert.RawSubject) })
	if subject, err := b.Bytes(); err == nil && bytes.Equal(name, subject) {
		return true
	}
	for _, e := range cert.Extensions {
		if e.Id.String() != oidSubjectAltName {
			continue
		}
		names := newReader("", e.Value)
		for names.more() {
			if bytes.Equal(names.element(""), name) {
				return true
			}
		}
	}
	return false
}

// CheckChain tells whether the certificates are such that tokens by the first one,
// dated at, can verify against the last one: for an authority, to know before
// its verifiers do. There may be one certificate alone, which is then its own
// anchor.
func CheckChain(chain []*x509.Certificate, at time.Time) error {
	if len(chain) == 0 {
		return errors.New("certificates of an authority: there are none")
	}
	err := checkSigner(chain[0])
	if err == nil {
		err = checkPath(chain[0], chain[len(chain)-1], chain, at, func([]*x509.Certificate) error { return nil })
	}
	if err != nil {
		return fmt.Errorf("certificates of an authority: %w", err)
	}
	return nil
}

// checkPath builds the paths from the signer's certificate to the anchor that
// are valid at a time, and wants one whose keys are good and that passes check.
func checkPath(cert, anchor *x509.Certificate, others []*x509.Certificate, at time.Time, check func([]*x509.Certificate) error) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(anchor)
	for _, c := range others {
		intermediates.AddCert(c)
	}
	paths, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	})
	if err != nil {
		return fmt.Errorf("the signer's certificate does not lead to that of the authority: %w", err)
	}
	for _, path := range paths {
		if err = errors.Join(checkKeys(path), check(path)); err == nil {
			return nil
		}
	}
	return err
}

// checkKeys checks what x509 does not of the keys of a path.
func checkKeys(path []*x509.Certificate) error {
	for _, c := range path {
		if err := checkKey(c); err != nil {
			return fmt.Errorf("certificate of %q: %w", c.Subject, err)
		}
	}
	return nil
}

// checkLinks: further identifiers limit the certificates that may be used (RFC
// 5035, section 4). The anchor is the verifier's own choice.
func (t *Token) checkLinks(path []*x509.Certificate) error {
	ids := t.signer.certIDs
	if len(ids) < 2 || len(path) < 3 {
		return nil
	}
	for _, c := range path[1 : len(path)-1] {
		if !slices.ContainsFunc(ids[1:], func(id certID) bool { return id.names(c) }) {
			return fmt.Errorf("the signed attributes do not name the certificate of %q", c.Subject)
		}
	}
	return nil
}

// Claims tells whether the token says, truly or not, that it is of the
// authority of the anchor: its signer is identified as the anchor or as issued
// by it, or a certificate in the token is. It says whose token it would be if
// it verified.
func (t *Token) Claims(anchor *x509.Certificate) bool {
	s := t.signer
	if s.keyID != nil && bytes.Equal(s.keyID, anchor.SubjectKeyId) || bytes.Equal(s.issuer, anchor.RawSubject) {
		return true
	}
	if s.serial != nil && bytes.Equal(s.issuer, anchor.RawIssuer) && s.serial.Cmp(anchor.SerialNumber) == 0 {
		return true
	}
	return slices.ContainsFunc(t.Certificates, func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawIssuer, anchor.RawSubject) || c.Equal(anchor)
	})
}
