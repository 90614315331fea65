package timestamp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	encoding "encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers, dotted.
const (
	oidSHA256 = "2.16.840.1.101.3.4.2.1"
	oidSHA384 = "2.16.840.1.101.3.4.2.2"
	oidSHA512 = "2.16.840.1.101.3.4.2.3"

	oidECDSAWithSHA256 = "1.2.840.10045.4.3.2"
	oidECDSAWithSHA384 = "1.2.840.10045.4.3.3"
	oidECDSAWithSHA512 = "1.2.840.10045.4.3.4"
	oidRSA             = "1.2.840.113549.1.1.1"
	oidMGF1            = "1.2.840.113549.1.1.8"
	oidRSAPSS          = "1.2.840.113549.1.1.10"
	oidRSAWithSHA256   = "1.2.840.113549.1.1.11"
	oidRSAWithSHA384   = "1.2.840.113549.1.1.12"
	oidRSAWithSHA512   = "1.2.840.113549.1.1.13"
	oidEd25519         = "1.3.101.112"
)

// Bounds of the length of an RSA modulus, in bits: below it, a key is too weak;
// above it, a stranger's certificate costs seconds to verify anything with.
const (
	minRSA = 2048
	maxRSA = 8192
)

// hashOf returns the digest algorithms that are accepted, 0 for any other.
func hashOf(a algorithm) crypto.Hash {
	if !a.plain() {
		return 0
	}
	switch a.id {
	case oidSHA256:
		return crypto.SHA256
	case oidSHA384:
		return crypto.SHA384
	case oidSHA512:
		return crypto.SHA512
	}
	return 0
}

// sum returns the digest of data.
func sum(h crypto.Hash, data []byte) []byte {
	var d hash.Hash
	switch h {
	case crypto.SHA384:
		d = sha512.New384()
	case crypto.SHA512:
		d = sha512.New()
	default:
		d = sha256.New()
	}
	d.Write(data)
	return d.Sum(nil)
}

// checkSignature verifies a signature over message by the certificate's key.
// The signature algorithm must be one that is accepted, must be of the kind of
// the key, and must use the digest algorithm of the signerInfo.
func checkSignature(cert *x509.Certificate, a algorithm, h crypto.Hash, message, signature []byte) error {
	wrong := errors.New("the signature does not verify")
	switch key := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if a.params != nil || ecdsaHash(a.id) != h {
			return fmt.Errorf("signature algorithm %s with %s is not accepted for an ECDSA key", a.id, h)
		}
		if !ecdsa.VerifyASN1(key, sum(h, message), signature) {
			return wrong
		}
	case *rsa.PublicKey:
		switch {
		case a.id == oidRSAPSS && bytes.Equal(a.params, pssParameters(h)):
			if rsa.VerifyPSS(key, h, sum(h, message), signature, &rsa.PSSOptions{SaltLength: h.Size(), Hash: h}) != nil {
				return wrong
			}
		case a.params != nil && a.plain() && (a.id == oidRSA || rsaHash(a.id) == h):
			if rsa.VerifyPKCS1v15(key, h, sum(h, message), signature) != nil {
				return wrong
			}
		default:
			return fmt.Errorf("signature algorithm %s with %s is not accepted for an RSA key", a.id, h)
		}
	case ed25519.PublicKey:
		// RFC 8419, section 3.1: id-sha512 is used with signed attributes.
		if a.id != oidEd25519 || a.params != nil || h != crypto.SHA512 {
			return fmt.Errorf("signature algorithm %s with %s is not accepted for an Ed25519 key", a.id, h)
		}
		if !ed25519.Verify(key, message, signature) {
			return wrong
		}
	default:
		return fmt.Errorf("keys of type %T are not accepted", key)
	}
	return nil
}

func ecdsaHash(id string) crypto.Hash {
	switch id {
	case oidECDSAWithSHA256:
		return crypto.SHA256
	case oidECDSAWithSHA384:
		return crypto.SHA384
	case oidECDSAWithSHA512:
		return crypto.SHA512
	}
	return 0
}

func rsaHash(id string) crypto.Hash {
	switch id {
	case oidRSAWithSHA256:
		return crypto.SHA256
	case oidRSAWithSHA384:
		return crypto.SHA384
	case oidRSAWithSHA512:
		return crypto.SHA512
	}
	return 0
}

// checkKey refuses keys that are too weak to vouch for anything for years.
func checkKey(cert *x509.Certificate) error {
	switch key := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return fmt.Errorf("curve %s is not accepted, expected P-256 or P-384", key.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSA {
			return fmt.Errorf("an RSA key of %d bits, expected at least %d", n, minRSA)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("keys of type %T are not accepted", key)
	}
	return nil
}

// pssParameters writes the only accepted RSASSA-PSS-params (RFC 4055, section
// 3.1): the digest algorithm twice, and a salt of its length.
func pssParameters(h crypto.Hash) []byte {
	id := map[crypto.Hash]string{crypto.SHA256: oidSHA256, crypto.SHA384: oidSHA384, crypto.SHA512: oidSHA512}[h]
	var b cryptobyte.Builder
	digest := func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { addOID(b, id); b.AddASN1NULL() })
	}
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), digest)
		b.AddASN1(asn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { addOID(b, oidMGF1); digest(b) })
		})
		b.AddASN1(asn1.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(h.Size())) })
	})
	der, err := b.Bytes()
	if err != nil {
		return nil // equals no parameters
	}
	return der
}

// addOID writes an OBJECT IDENTIFIER from its dotted form.
func addOID(b *cryptobyte.Builder, dotted string) {
	var id encoding.ObjectIdentifier
	for arc := range strings.SplitSeq(dotted, ".") {
		n, err := strconv.Atoi(arc)
		if err != nil {
			b.SetError(err)
			return
		}
		id = append(id, n)
	}
	b.AddASN1ObjectIdentifier(id)
}
