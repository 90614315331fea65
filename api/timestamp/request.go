package timestamp

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxRequest is the greatest length of a TimeStampReq, in bytes.
const MaxRequest = 4 << 10

// Failure is a bit of PKIFailureInfo (RFC 3161, section 2.4.2).
type Failure int

// The failures that an authority may state.
const (
	NoFailure           Failure = -1
	BadAlgorithm        Failure = 0  // the digest algorithm is not accepted
	BadRequest          Failure = 2  // the transaction is not permitted or supported
	BadDataFormat       Failure = 5  // the data has the wrong format
	TimeNotAvailable    Failure = 14 // the authority's time source is not available
	UnacceptedPolicy    Failure = 15 // the policy asked for is not supported
	UnacceptedExtension Failure = 16 // an extension asked for is not supported
	AddInfoNotAvailable Failure = 17 // what was asked for besides is not there
	SystemFailure       Failure = 25 // the request cannot be handled
)

// String names the failure as RFC 3161 does.
func (f Failure) String() string {
	switch f {
	case NoFailure:
		return "no failureInfo"
	case BadAlgorithm:
		return "badAlg"
	case BadRequest:
		return "badRequest"
	case BadDataFormat:
		return "badDataFormat"
	case TimeNotAvailable:
		return "timeNotAvailable"
	case UnacceptedPolicy:
		return "unacceptedPolicy"
	case UnacceptedExtension:
		return "unacceptedExtension"
	case AddInfoNotAvailable:
		return "addInfoNotAvailable"
	case SystemFailure:
		return "systemFailure"
	}
	return fmt.Sprintf("failureInfo %d", int(f))
}

// Request is a parsed TimeStampReq.
type Request struct {
	// Digest is what is to be stamped, made with Hash.
	Digest []byte
	// Hash is SHA-256, SHA-384 or SHA-512.
	Hash crypto.Hash
	// Nonce is to be repeated in the token; nil if there is none.
	Nonce *big.Int
	// Policy is the policy asked for; nil if the request names none.
	Policy asn1.ObjectIdentifier
	// CertReq asks for the authority's certificate in the token.
	CertReq bool
}

// RequestError says why a request cannot be read, and what an authority has to
// answer.
type RequestError struct {
	// Failure is the failureInfo of the answer.
	Failure Failure
	// Err says what is wrong.
	Err error
}

// Error says what is wrong with the request.
func (e *RequestError) Error() string { return "time-stamp request: " + e.Err.Error() }

// Unwrap returns what is wrong with the request.
func (e *RequestError) Unwrap() error { return e.Err }

// NewRequest returns a TimeStampReq in DER for a SHA-256 digest. The nonce and
// the policy may be nil; the authority's certificate is asked for.
func NewRequest(digest [32]byte, nonce *big.Int, policy asn1.ObjectIdentifier) ([]byte, error) {
	if nonce != nil && nonce.BitLen() >= 8*maxNonce {
		return nil, fmt.Errorf("time-stamp request: a nonce of %d bits, expected less than %d", nonce.BitLen(), 8*maxNonce)
	}
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				addOID(b, oidSHA256)
				// RFC 5754, section 2: may be left out, but there are
				// authorities that know it with NULL only.
				b.AddASN1NULL()
			})
			b.AddASN1OctetString(digest[:])
		})
		if policy != nil {
			b.AddASN1ObjectIdentifier(policy)
		}
		if nonce != nil {
			b.AddASN1BigInt(nonce)
		}
		b.AddASN1Boolean(true)
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("write a time-stamp request: %w", err)
	}
	return der, nil
}

// ParseRequest reads a TimeStampReq in DER (RFC 3161, section 2.4.1). The error
// is a [*RequestError].
func ParseRequest(der []byte) (*Request, error) {
	if len(der) > MaxRequest {
		return nil, &RequestError{BadDataFormat, fmt.Errorf("%d bytes, expected at most %d", len(der), MaxRequest)}
	}
	if err := checkDER(der); err != nil {
		return nil, &RequestError{BadDataFormat, err}
	}
	r := newReader("", der)
	// RFC 3161, section 2.4.2: badRequest, transaction not permitted or
	// supported. What another version holds behind its number nobody knows.
	if v := r.integer("version", maxNonce); *r.err == nil && v.Cmp(big.NewInt(1)) != 0 {
		return nil, &RequestError{BadRequest, errors.New("version: expected 1")}
	}
	imprint := r.rest
	req := &Request{}
	req.Hash, req.Digest = r.imprint("messageImprint")
	if *r.err != nil {
		failure := BadDataFormat
		if unknownHash(imprint) {
			failure = BadAlgorithm
		}
		return nil, &RequestError{failure, *r.err}
	}
	if r.has(tags.OBJECT_IDENTIFIER) {
		req.Policy = r.oid("reqPolicy")
	}
	if r.has(tags.INTEGER) {
		req.Nonce = r.integer("nonce", maxNonce)
	}
	req.CertReq = r.flag("certReq")
	// RFC 3161, section 2.4.1: If an extension, whether it is marked critical
	// or not critical, is used by a requester but is not recognized by a
	// time-stamping server, the server SHALL not issue a token and SHALL return
	// a failure (unacceptedExtension).
	if r.has(tag0c) {
		return nil, &RequestError{UnacceptedExtension, errors.New("extensions: none is known")}
	}
	r.end()
	if *r.err != nil {
		return nil, &RequestError{BadDataFormat, *r.err}
	}
	return req, nil
}

// unknownHash tells whether a messageImprint is well-formed and only its digest
// algorithm is not one that is accepted.
func unknownHash(rest cryptobyte.String) bool {
	var err error
	r := &reader{rest: rest, err: &err}
	inner := r.member("", tags.SEQUENCE)
	a := inner.algorithm("")
	inner.content("", tags.OCTET_STRING)
	inner.end()
	return err == nil && hashOf(a) == 0
}

// StatusError is a response that grants nothing (RFC 3161, section 2.4.2).
type StatusError struct {
	// Status is the PKIStatus: 2 rejection, 3 waiting, 4 revocationWarning, 5
	// revocationNotification.
	Status int
	// Text is what the authority wrote, if anything. It is a stranger's.
	Text string
	// Failure is the first bit that is set in failInfo, or NoFailure.
	Failure Failure
}

// Error says what the authority answered.
func (e *StatusError) Error() string {
	names := map[int]string{2: "rejection", 3: "waiting", 4: "revocationWarning", 5: "revocationNotification"}
	text := fmt.Sprintf("time-stamp authority: %s, %s", names[e.Status], e.Failure)
	if e.Text != "" {
		text += fmt.Sprintf(": %q", e.Text)
	}
	return text
}

// maxText bounds what is kept of an authority's words, in bytes.
const maxText = 500

// ParseResponse reads a TimeStampResp in DER (RFC 3161, section 2.4.2) and
// returns its token, which is not verified yet. A well-formed response that
// grants nothing gives a [*StatusError].
func ParseResponse(der []byte) (*Token, error) {
	if len(der) > MaxToken+MaxRequest {
		return nil, fmt.Errorf("time-stamp response: %d bytes, expected at most %d", len(der), MaxToken+MaxRequest)
	}
	if err := checkDER(der); err != nil {
		return nil, fmt.Errorf("time-stamp response: %w", err)
	}
	r := newReader("", der)
	status := readStatus(r.member("status", tags.SEQUENCE))
	var token []byte
	if r.more() {
		token = bytes.Clone(r.element("timeStampToken"))
	}
	r.end()
	granted := status.Status <= 1
	switch {
	case *r.err != nil:
	case granted && token == nil:
		r.failf("timeStampToken", "missing, although the status is granted")
	case granted && status.Failure != NoFailure:
		r.failf("status.failInfo", "%s, although the status is granted", status.Failure)
	case !granted && token != nil:
		r.failf("timeStampToken", "is there, although the status is %d", status.Status)
	}
	if *r.err != nil {
		return nil, fmt.Errorf("time-stamp response: %w", *r.err)
	}
	if !granted {
		return nil, status
	}
	return Parse(token)
}

// readStatus reads a PKIStatusInfo.
func readStatus(r *reader) *StatusError {
	s := &StatusError{Status: int(r.number("status", tags.INTEGER, 0, 5)), Failure: NoFailure}
	if r.has(tags.SEQUENCE) {
		texts := r.member("statusString", tags.SEQUENCE)
		var parts []string
		for first := true; first || texts.more(); first = false {
			parts = append(parts, string(texts.content("", tags.UTF8String)))
		}
		s.Text = strings.ToValidUTF8(strings.Join(parts, "; "), "�")
		if len(s.Text) > maxText {
			s.Text = strings.ToValidUTF8(s.Text[:maxText], "") + "…"
		}
	}
	if r.has(tags.BIT_STRING) {
		s.Failure = readFailure(r)
	}
	r.end()
	return s
}

// readFailure reads a PKIFailureInfo.
func readFailure(r *reader) Failure {
	bits := r.content("failInfo", tags.BIT_STRING)
	for i := range 32 {
		if at := 1 + i/8; at < len(bits) && bits[at]>>(7-i%8)&1 == 1 {
			return Failure(i)
		}
	}
	r.failf("failInfo", "says nothing")
	return NoFailure
}
