package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"math/big"
)

// DER of what CKA_EC_PARAMS holds for the curves that are supported.
const (
	paramsP256 = "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07" // OID prime256v1
	// Ed25519 by OID (RFC 8410), by name (PKCS #11 v3.0 section 2.3.10), and by the
	// OID that came before RFC 8410.
	paramsEd25519    = "\x06\x03\x2b\x65\x70"
	paramsEd25519Str = "\x13\x0cedwards25519"
	paramsEd25519Old = "\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x0f\x01"
)

const (
	coordinate    = 32
	pointP256     = 1 + 2*coordinate      // 0x04, X, Y (SEC 1 section 2.3.3)
	pointEd25519  = ed25519.PublicKeySize // RFC 8032 section 5.1.2
	signatureP256 = 2 * coordinate        // r and s (PKCS #11 section 2.3.1)
	bitStringZero = "\x03\x21\x00"        // BIT STRING, no unused bits, of an Ed25519 point
	octetEd25519  = "\x04\x20"            // OCTET STRING of an Ed25519 point
	octetP256     = "\x04\x41"            // OCTET STRING of a P-256 point
)

var errParams = errors.New("the token's key is on another curve, expected Ed25519 or P-256")

// publicKey reads a public key from CKA_EC_PARAMS and CKA_EC_POINT. The standard
// wants the point as the DER of an OCTET STRING; tokens also give the bare point,
// and for Ed25519 the BIT STRING of an early draft. The lengths tell them apart.
func publicKey(params, point []byte) (crypto.PublicKey, error) {
	switch string(params) {
	case paramsP256:
		raw := bytes.TrimPrefix(point, []byte(octetP256))
		if len(point) == pointP256 {
			raw = point // the prefix is a point's beginning, too
		}
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
		if err != nil {
			return nil, errors.New("the token's CKA_EC_POINT is not an uncompressed point on P-256")
		}
		return key, nil
	case paramsEd25519, paramsEd25519Str, paramsEd25519Old:
		raw := point
		switch len(point) {
		case len(octetEd25519) + pointEd25519:
			raw = bytes.TrimPrefix(point, []byte(octetEd25519))
		case len(bitStringZero) + pointEd25519:
			raw = bytes.TrimPrefix(point, []byte(bitStringZero))
		}
		if len(raw) != pointEd25519 {
			return nil, errors.New("the token's CKA_EC_POINT is not an Ed25519 key of 32 bytes")
		}
		return ed25519.PublicKey(bytes.Clone(raw)), nil
	}
	return nil, errParams
}

// derSignature turns r‖s, as tokens sign (PKCS #11 section 2.3.1), into a DER
// ECDSA-Sig-Value.
func derSignature(raw []byte) ([]byte, error) {
	if len(raw) != signatureP256 {
		return nil, errors.New("the token's signature is not r and s of 32 bytes each")
	}
	return asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(raw[:coordinate]), new(big.Int).SetBytes(raw[coordinate:]),
	})
}

func equal(a, b crypto.PublicKey) bool {
	is, ok := a.(interface {
		Equal(other crypto.PublicKey) bool
	})
	return ok && is.Equal(b)
}
