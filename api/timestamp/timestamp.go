// Package timestamp reads, asks for and verifies RFC 3161 time-stamp tokens:
// strictly, offline, and against an authority that the caller names. It
// accepts one encoding of each thing (DER), and never looks at the trust
// store of the machine it runs on.
package timestamp

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"time"
)

// Token is a parsed time-stamp token. Parsing checks the form only: nothing
// in a Token is to be believed before Verify has returned nil.
type Token struct {
	// Raw is the token's DER, a CMS ContentInfo.
	Raw []byte
	// Imprint is the digest that was stamped, made with Hash.
	Imprint []byte
	// Hash names the digest algorithm of Imprint.
	Hash crypto.Hash
	// Serial is the authority's number of this token.
	Serial *big.Int
	// Time is the genTime, in UTC, to the fraction that the token gives.
	Time time.Time
	// Accuracy is the greatest error that the authority states; zero if it
	// states none, which is not the same as being exact.
	Accuracy time.Duration
	// Ordering says that tokens of this authority can be put in order by
	// their times alone.
	Ordering bool
	// Policy is the authority's policy under which the token was made.
	Policy asn1.ObjectIdentifier
	// Nonce repeats the request's; nil if there was none.
	Nonce *big.Int
	// Certificates are those that travel in the token, in its order.
	Certificates []*x509.Certificate

	content []byte // the TSTInfo that the signed attributes hold the digest of
	tsa     []byte // the GeneralName that the authority calls itself; nil if none
	signer  signerInfo
}

// Expect is what a token must say to be the one that was asked for.
type Expect struct {
	// Digest is the SHA-256 of what was stamped.
	Digest [32]byte
	// Nonce is that of the request; nil if none is expected, in which case
	// any is accepted.
	Nonce *big.Int
	// Policy is the required policy; nil accepts any.
	Policy asn1.ObjectIdentifier
}
