package timestamp

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers in tokens.
func oidSignedData() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2} }

func oidTSTInfo() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
}

func oidContentType() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
}

func oidMessageDigest() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
}

func oidSigningCertificateV2() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
}

func oidSHA256() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
}

func oidECDSAWithSHA256() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
}

// tstInfo is what a token says (RFC 3161, section 2.4.2).
type tstInfo struct {
	policy asn1.ObjectIdentifier
	// imprint is the DER of the request's MessageImprint.
	//
	// SPEC (RFC 3161, 2.4.2): "The messageImprint MUST have the same value as the
	// similar field in TimeStampReq".
	imprint  []byte
	serial   serial
	time     time.Time // to the millisecond
	accuracy time.Duration
	nonce    *big.Int // nil for none
}

// encode writes the TSTInfo. ordering is FALSE and so absent: two tokens can be
// put in order by their times when these are further apart than the accuracies.
func (i *tstInfo) encode() ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1) // version
		b.AddASN1ObjectIdentifier(i.policy)
		b.AddBytes(i.imprint)
		b.AddASN1BigInt(i.serial.int())
		b.AddASN1(cbasn1.GeneralizedTime, func(b *cryptobyte.Builder) { b.AddBytes(generalizedTime(i.time)) })
		addAccuracy(b, i.accuracy)
		if i.nonce != nil {
			b.AddASN1BigInt(i.nonce)
		}
	})
	return b.Bytes()
}

// generalizedTime writes a time to the millisecond.
//
// SPEC (RFC 3161, 2.4.2): "The encoding MUST terminate with a "Z" …. The decimal
// point element, if present, MUST be the point option ".". The fractional-seconds
// elements, if present, MUST omit all trailing 0's; if the elements correspond to
// 0, they MUST be wholly omitted".
func generalizedTime(t time.Time) []byte {
	return t.UTC().AppendFormat(nil, "20060102150405.999Z")
}

// addAccuracy writes Accuracy: seconds, and [0] millis from 1 to 999; parts that
// are zero are left out.
func addAccuracy(b *cryptobyte.Builder, accuracy time.Duration) {
	ms := accuracy.Milliseconds()
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if s := ms / 1000; s > 0 {
			b.AddASN1Int64(s)
		}
		if ms %= 1000; ms > 0 {
			b.AddASN1Int64WithTag(ms, cbasn1.Tag(0).ContextSpecific())
		}
	})
}

// token signs a TSTInfo and returns the TimeStampToken: a ContentInfo with a CMS
// SignedData of one signer (RFC 3161, section 2.4.2; RFC 5652).
func (u *unit) token(info []byte, certificates bool) ([]byte, error) {
	attributes, err := u.signedAttributes(info)
	if err != nil {
		return nil, err
	}
	// SPEC (RFC 5652, 5.4): "a separate encoding of the signedAttrs field is
	// performed for message digest calculation. The IMPLICIT [0] tag in the
	// signedAttrs is not used for the DER encoding, rather an EXPLICIT SET OF tag
	// is used".
	signature, err := u.sign(attributes)
	if err != nil {
		return nil, err
	}
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // ContentInfo
		b.AddASN1ObjectIdentifier(oidSignedData())
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // SignedData
				b.AddASN1Int64(3) // RFC 5652, 5.1: the content is not id-data
				b.AddASN1(cbasn1.SET, addDigestAlgorithm)
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // EncapsulatedContentInfo
					b.AddASN1ObjectIdentifier(oidTSTInfo())
					b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1OctetString(info) })
				})
				if certificates {
					b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddBytes(u.certificateSet) })
				}
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { u.addSignerInfo(b, attributes, signature) })
			})
		})
	})
	return b.Bytes()
}

func explicit(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

func (u *unit) addSignerInfo(b *cryptobyte.Builder, attributes, signature []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1) // the signer is named by issuer and serial number
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(u.certificate.RawIssuer)
			b.AddASN1BigInt(u.certificate.SerialNumber)
		})
		addDigestAlgorithm(b)
		implicit := slices.Clone(attributes)
		implicit[0] = byte(explicit(0))
		b.AddBytes(implicit)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidECDSAWithSHA256()) })
		b.AddASN1OctetString(signature)
	})
}

// addDigestAlgorithm: RFC 5754, section 2, wants the parameters of SHA-2 absent.
func addDigestAlgorithm(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidSHA256()) })
}

// signedAttributes returns the DER of the SET OF attributes that is signed: the
// content type, the digest of the TSTInfo and which certificate is the signer's.
// There is no signing time: the TSTInfo has one, and two could contradict.
func (u *unit) signedAttributes(info []byte) ([]byte, error) {
	sum := sha256.Sum256(info)
	return setOf(
		attribute(oidContentType(), func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidTSTInfo()) }),
		attribute(oidMessageDigest(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(sum[:]) }),
		attribute(oidSigningCertificateV2(), u.addSigningCertificate),
	)
}

func attribute(oid asn1.ObjectIdentifier, value cryptobyte.BuilderContinuation) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oid)
			b.AddASN1(cbasn1.SET, value)
		})
	}
}

// addSigningCertificate writes SigningCertificateV2 with one ESSCertIDv2. Its
// hash algorithm is SHA-256, the default, and so absent (RFC 5816, section 2.2.1;
// RFC 5035, section 4).
func (u *unit) addSigningCertificate(b *cryptobyte.Builder) {
	sum := sha256.Sum256(u.certificate.Raw)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // SigningCertificateV2
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // certs
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // ESSCertIDv2
				b.AddASN1OctetString(sum[:])
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // IssuerSerial
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // GeneralNames
						b.AddASN1(explicit(4), func(b *cryptobyte.Builder) { b.AddBytes(u.certificate.RawIssuer) })
					})
					b.AddASN1BigInt(u.certificate.SerialNumber)
				})
			})
		})
	})
}

// setOf writes a SET OF with its elements in the order that DER wants (X.690,
// section 11.6).
func setOf(elements ...func(*cryptobyte.Builder)) ([]byte, error) {
	var list [][]byte
	for _, add := range elements {
		b := cryptobyte.NewBuilder(nil)
		add(b)
		der, err := b.Bytes()
		if err != nil {
			return nil, err
		}
		list = append(list, der)
	}
	slices.SortFunc(list, bytes.Compare)
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
		for _, der := range list {
			b.AddBytes(der)
		}
	})
	return b.Bytes()
}

// sign signs a message.
func (u *unit) sign(message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	signature, err := u.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign a token: %w", err)
	}
	return signature, nil
}
