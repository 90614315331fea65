package statement

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/trialog/trialog/api/internal/strictjson"
)

// PayloadType is the DSSE payload type of an in-toto statement.
const PayloadType = "application/vnd.in-toto+json"

// Limits on what is signed and on how many sign it.
const (
	MaxPayload    = 45 * 1024 // bytes of the payload
	MaxEnvelope   = 65_535 - 9
	MaxSignatures = 8
)

// FieldError says which member of the input was wrong and what was expected.
type FieldError = strictjson.Error

func fieldErrorf(field, format string, args ...any) *FieldError {
	return strictjson.Errorf(field, format, args...)
}

// Envelope is a DSSE envelope with its bytes as they were received.
type Envelope struct {
	raw        []byte
	message    []byte // PAE, which ends in Payload
	Payload    []byte // the bytes that were signed
	Signatures []Signature
}

// Signature is one signature of an envelope.
type Signature struct {
	// KeyHint is DSSE's keyid. It stands outside what is signed, so it only
	// helps to find the key sooner.
	KeyHint string
	Sig     []byte
}

// Bytes returns the envelope as it was received. The caller must not change it.
func (e *Envelope) Bytes() []byte { return e.raw }

// Message returns what was signed, PAE(PayloadType, Payload). The caller must not
// change it.
func (e *Envelope) Message() []byte { return e.message }

// PAE is DSSE's pre-authentication encoding, which is what is signed:
// "DSSEv1" SP LEN(type) SP type SP LEN(payload) SP payload.
func PAE(payloadType string, payload []byte) []byte {
	b := make([]byte, 0, len(payload)+len(payloadType)+32)
	return append(appendPAE(b, payloadType, len(payload)), payload...)
}

// appendPAE appends what stands before a payload of n bytes.
func appendPAE(b []byte, payloadType string, n int) []byte {
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(b, ' ')
	b = append(b, payloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, ' ')
}

// ParseEnvelope reads a DSSE envelope strictly: exactly the members payload,
// payloadType and signatures, padded standard base64 in its canonical form, and
// 1 to MaxSignatures signatures.
func ParseEnvelope(raw []byte) (*Envelope, error) {
	message, n, sigs, err := parseDSSE(raw, PayloadType, MaxEnvelope)
	if err != nil {
		return nil, err
	}
	if n > MaxPayload {
		return nil, fieldErrorf("payload", "is %d bytes, expected at most %d", n, MaxPayload)
	}
	return &Envelope{raw: raw, message: message, Payload: message[len(message)-n:], Signatures: sigs}, nil
}

// ParseDSSE reads a DSSE envelope of any payload type and at most limit bytes,
// as strictly as ParseEnvelope.
func ParseDSSE(raw []byte, payloadType string, limit int) (payload []byte, sigs []Signature, err error) {
	message, n, sigs, err := parseDSSE(raw, payloadType, limit)
	if err != nil {
		return nil, nil, err
	}
	return message[len(message)-n:], sigs, nil
}

// maxCommas is more than any envelope has, key ids included.
const maxCommas = 1 << 14

// parseDSSE returns what was signed, which ends in the payload of n bytes.
func parseDSSE(raw []byte, payloadType string, limit int) (message []byte, n int, sigs []Signature, err error) {
	if len(raw) > limit {
		return nil, 0, nil, fieldErrorf("envelope", "is %d bytes, expected at most %d", len(raw), limit)
	}
	// The reader's bound grows with the text, for those that are long because they say
	// much. An envelope is long because of its payload, which is one value.
	if bytes.Count(raw, []byte(",")) > maxCommas {
		return nil, 0, nil, fieldErrorf("envelope", "has more members than an envelope may have")
	}
	o, err := strictjson.ParseObject(raw)
	if err != nil {
		return nil, 0, nil, err
	}
	if got := o.Text("payloadType"); got != payloadType {
		o.Fail("payloadType", "expected %q", payloadType)
	}
	text := o.Text("payload")
	n = len(text)/4*3 - strings.Count(text[max(0, len(text)-2):], "=")
	prefix := appendPAE(make([]byte, 0, len(payloadType)+n+32), payloadType, n)
	message = decodeBase64(o, "payload", prefix, text)
	list := o.Required("signatures", strictjson.Array)
	if count := len(list.Items); count < 1 || count > MaxSignatures {
		o.Fail("signatures", "expected 1 to %d signatures, found %d", MaxSignatures, count)
	}
	sigs = make([]Signature, 0, len(list.Items))
	for i, item := range list.Items {
		s := o.NestedItem("signatures", i, item)
		var sig Signature
		if hint, ok := s.Optional("keyid"); ok {
			if hint.Kind != strictjson.String || len(hint.Text) > 256 {
				s.Fail("keyid", "expected a string of at most 256 bytes")
			}
			sig.KeyHint = hint.Text
		}
		sig.Sig = decodeBase64(s, "sig", nil, s.Text("sig"))
		o.Join(s)
		sigs = append(sigs, sig)
	}
	if err := o.Done(); err != nil {
		return nil, 0, nil, err
	}
	return message, n, sigs, nil
}

// decodeBase64 appends to b what canonical padded standard base64 stands for; ""
// is an error.
func decodeBase64(o *strictjson.Object, name string, b []byte, text string) []byte {
	all, err := base64.StdEncoding.Strict().AppendDecode(b, []byte(text))
	if n := len(all) - len(b); err != nil || n == 0 || base64.StdEncoding.EncodedLen(n) != len(text) {
		o.Fail(name, "expected standard base64 with padding, not empty")
	}
	return all
}

// EncodeDSSE writes an envelope in the form that this library produces.
func EncodeDSSE(payloadType string, payload []byte, sigs []Signature) []byte {
	var b bytes.Buffer
	b.WriteString(`{"payloadType":`)
	writeString(&b, payloadType)
	b.WriteString(`,"payload":"` + base64.StdEncoding.EncodeToString(payload) + `","signatures":[`)
	for i, s := range sigs {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"keyid":`)
		writeString(&b, s.KeyHint)
		b.WriteString(`,"sig":"` + base64.StdEncoding.EncodeToString(s.Sig) + `"}`)
	}
	b.WriteString("]}")
	return b.Bytes()
}

// SignDSSE signs payload with each key and returns the envelope's bytes.
func SignDSSE(payloadType string, payload []byte, keys ...*PrivateKey) ([]byte, error) {
	message := PAE(payloadType, payload)
	sigs := make([]Signature, 0, len(keys))
	for _, k := range keys {
		sig, err := k.Sign(message)
		if err != nil {
			return nil, err
		}
		sigs = append(sigs, Signature{KeyHint: k.ID().String(), Sig: sig})
	}
	return EncodeDSSE(payloadType, payload, sigs), nil
}

// Sign signs a statement's payload and returns the parsed envelope.
func Sign(payload []byte, keys ...*PrivateKey) (*Envelope, error) {
	raw, err := SignDSSE(PayloadType, payload, keys...)
	if err != nil {
		return nil, err
	}
	return ParseEnvelope(raw)
}

// VerifySignatures checks that each named signer signed message exactly once
// and that nobody else did. keys holds the public keys by id; the hints of the
// signatures only order the search. It is an error to name no signer at all.
func VerifySignatures(message []byte, sigs []Signature, signers []KeyID, keys map[KeyID]*PublicKey) error {
	if len(signers) == 0 || len(sigs) != len(signers) {
		return fieldErrorf("signatures", "expected one signature of each of the %d named signers, found %d",
			len(signers), len(sigs))
	}
	open := make(map[KeyID]*PublicKey, len(signers))
	for _, id := range signers {
		key := keys[id]
		if key == nil || key.ID() != id {
			return fieldErrorf("signatures", "no public key known for signer %s", id)
		}
		open[id] = key
	}
	for i, sig := range sigs {
		id, err := matchSignature(message, sig, open)
		if err != nil {
			return fieldErrorf(fmt.Sprintf("signatures[%d].sig", i), "%s", err)
		}
		delete(open, id)
	}
	return nil
}

// matchSignature finds the signer among open whose key verifies sig.
func matchSignature(message []byte, sig Signature, open map[KeyID]*PublicKey) (KeyID, error) {
	hinted, err := ParseDigest(sig.KeyHint)
	var reason error
	if key := open[hinted]; err == nil && key != nil {
		if reason = key.Verify(message, sig.Sig); reason == nil {
			return hinted, nil
		}
	}
	for id, key := range open {
		if id == hinted {
			continue
		}
		err := key.Verify(message, sig.Sig)
		if err == nil {
			return id, nil
		}
		if len(open) == 1 || errors.Is(err, errHighS) {
			reason = err
		}
	}
	if reason == nil {
		reason = errors.New("verifies under none of the named signers' keys")
	}
	return KeyID{}, reason
}
