package statement_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/statement"
)

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// signed returns the payload and the envelope of sealedProtocol, signed by its
// two signers.
func signed(tb testing.TB) ([]byte, *statement.Envelope) {
	tb.Helper()
	payload := build(tb, sealedProtocol(tb))
	e, err := statement.Sign(payload, edKey(tb, "author"), ecKey(tb, "approver"))
	if err != nil {
		tb.Fatal(err)
	}
	return payload, e
}

// TestPAE is the example of the DSSE specification.
func TestPAE(t *testing.T) {
	if got, want := string(statement.PAE("http://example.com/HelloWorld", []byte("hello world"))),
		"DSSEv1 29 http://example.com/HelloWorld 11 hello world"; got != want {
		t.Errorf("PAE = %q, want %q", got, want)
	}
	if got, want := string(statement.PAE("", nil)), "DSSEv1 0  0 "; got != want {
		t.Errorf("PAE of nothing = %q, want %q", got, want)
	}
	if a, b := statement.PAE("a", []byte("1 b")), statement.PAE("a 3", []byte("b")); bytes.Equal(a, b) {
		t.Error("two inputs have the same PAE")
	}
}

func TestEnvelopeRejects(t *testing.T) {
	payload, e := signed(t)
	text := string(e.Bytes())
	sig := b64(e.Signatures[1].Sig)
	hint := e.Signatures[1].KeyHint
	first := `{"keyid":"` + e.Signatures[0].KeyHint + `","sig":"` + b64(e.Signatures[0].Sig) + `"}`
	list := text[strings.Index(text, `[{"keyid"`) : len(text)-1]
	// A payload whose base64 ends in "=" and whose last letter has unused bits.
	for len(payload)%3 != 2 {
		payload = append(payload, ' ')
	}
	text = with(t, text, b64(e.Payload), b64(payload))
	body := b64(payload)
	short := body[:len(body)-1]
	trailing := body[:len(body)-2] + string(body[len(body)-2]+1) + "="
	if loose, err := base64.StdEncoding.DecodeString(trailing); err != nil || !bytes.Equal(loose, payload) {
		t.Fatalf("%q must be a second spelling of the payload, or the test is void", trailing[len(trailing)-4:])
	}
	const base = "expected standard base64 with padding"
	tests := map[string]struct{ old, replacement, field, words string }{
		"no payload type":         {`"payloadType":"application/vnd.in-toto+json",`, ``, "payloadType", "missing"},
		"other payload type":      {`vnd.in-toto+json`, `json`, "payloadType", "expected \"application/vnd.in-toto+json\""},
		"payload type's case":     {`vnd.in-toto+json`, `vnd.in-Toto+json`, "payloadType", "expected"},
		"payload type is null":    {`"application/vnd.in-toto+json"`, `null`, "payloadType", "found null"},
		"member in another case":  {`"payloadType"`, `"payloadtype"`, "payloadType", `found "payloadtype"`},
		"no payload":              {`"payload":"` + body + `",`, ``, "payload", "missing"},
		"empty payload":           {body, ``, "payload", base},
		"payload is an object":    {`"` + body + `"`, `{}`, "payload", "found an object"},
		"payload twice":           {`"payload":`, `"payload":"AAAA","payload":`, "payload", "duplicate"},
		"newline in the payload":  {body, body[:8] + `\n` + body[8:], "payload", base},
		"CR behind the payload":   {body, body + `\r`, "payload", base},
		"newline and no padding":  {body, short + `\n`, "payload", base},
		"space in the payload":    {body, body[:8] + ` ` + body[8:], "payload", base},
		"padding missing":         {body, short, "payload", base},
		"padding doubled":         {body, body + "=", "payload", base},
		"trailing bits":           {body, trailing, "payload", base},
		"bytes behind padding":    {body, body + "AAAA", "payload", base},
		"URL-safe alphabet":       {body, "_-" + body[2:], "payload", base},
		"no signatures":           {`,"signatures":` + list, ``, "signatures", "missing"},
		"signatures is an object": {list, first, "signatures", "found an object"},
		"0 signatures":            {list, `[]`, "signatures", "1 to 8 signatures, found 0"},
		"9 signatures":            {list, `[` + strings.Repeat(first+",", 8) + first + `]`, "signatures", "1 to 8 signatures, found 9"},
		"a signature as text":     {list, `["` + sig + `"]`, "signatures[0]", "found a string"},
		"no sig":                  {`"sig":"` + sig + `"`, `"x":1`, "signatures[1].sig", "missing"},
		"empty sig":               {sig, ``, "signatures[1].sig", base},
		"newline in a sig":        {sig, sig[:4] + `\n` + sig[4:], "signatures[1].sig", base},
		"sig in hexadecimal":      {sig, hint + "0", "signatures[1].sig", base},
		"sig is null":             {`"` + sig + `"`, `null`, "signatures[1].sig", "found null"},
		"keyid is null":           {`"` + hint + `"`, `null`, "signatures[1].keyid", "a string of at most 256 bytes"},
		"keyid too long":          {hint, strings.Repeat("x", 257), "signatures[1].keyid", "a string of at most 256 bytes"},
		"keyid twice":             {`"keyid":"` + hint + `"`, `"keyid":"","keyid":""`, "signatures[1].keyid", "duplicate"},
		"certificate":             {`"keyid":"` + hint + `"`, `"cert":"x"`, "signatures[1].cert", "unknown member"},
		"unknown member":          {`{"payloadType"`, `{"version":1,"payloadType"`, "version", "unknown member"},
		"invalid UTF-8":           {hint, "\xff", "", "not valid UTF-8"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bad := with(t, text, tt.old, tt.replacement)
			e, err := statement.ParseEnvelope([]byte(bad))
			checkField(t, err, tt.field, tt.words)
			if e != nil {
				t.Error("ParseEnvelope returned an envelope beside its error")
			}
			if _, _, err := statement.Parse([]byte(bad)); err == nil {
				t.Error("Parse accepts it")
			}
		})
	}
	for name, tt := range map[string]struct{ text, words string }{
		"empty": {"", "ends too early"}, "an array": {"[]", "found an array"}, "two": {text + text, "after the end"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := statement.ParseEnvelope([]byte(tt.text))
			checkField(t, err, "", tt.words)
		})
	}
}

func TestEnvelopeLimits(t *testing.T) {
	sigs := []statement.Signature{{Sig: []byte{1}}}
	for n, ok := range map[int]bool{1: true, statement.MaxPayload: true, statement.MaxPayload + 1: false} {
		raw := statement.EncodeDSSE(statement.PayloadType, bytes.Repeat([]byte{'x'}, n), sigs)
		e, err := statement.ParseEnvelope(raw)
		if ok && (err != nil || len(e.Payload) != n || !bytes.Equal(e.Bytes(), raw)) {
			t.Errorf("payload of %d bytes: %v", n, err)
		}
		if !ok {
			checkField(t, err, "payload", "is 46081 bytes, expected at most 46080")
		}
	}
	raw := statement.EncodeDSSE(statement.PayloadType, []byte("x"), sigs)
	pad := func(n int) []byte { return append(slices.Clone(raw), bytes.Repeat([]byte{' '}, n-len(raw))...) }
	if _, err := statement.ParseEnvelope(pad(statement.MaxEnvelope)); err != nil {
		t.Errorf("an envelope of the greatest length: %v", err)
	}
	_, err := statement.ParseEnvelope(pad(statement.MaxEnvelope + 1))
	checkField(t, err, "envelope", "is 65527 bytes, expected at most 65526")
	for n, ok := range map[int]bool{8: true, 9: false} {
		_, err := statement.ParseEnvelope(statement.EncodeDSSE(statement.PayloadType, []byte("x"), slices.Repeat(sigs, n)))
		if (err == nil) != ok {
			t.Errorf("%d signatures: %v", n, err)
		}
	}
}

// TestEncodeDSSE holds that hints of any text survive, and that others read the
// envelope.
func TestEncodeDSSE(t *testing.T) {
	want := []statement.Signature{{KeyHint: `a"b\<é>` + "\u2028", Sig: []byte{0, 255}}, {Sig: []byte{1}}}
	raw := statement.EncodeDSSE("type/\"\x01", []byte("payload"), want)
	payload, sigs, err := statement.ParseDSSE(raw, "type/\"\x01", len(raw))
	if err != nil || string(payload) != "payload" || len(sigs) != 2 || sigs[0].KeyHint != want[0].KeyHint || !bytes.Equal(sigs[0].Sig, want[0].Sig) {
		t.Errorf("ParseDSSE of what EncodeDSSE wrote: %q, %+v, %v", payload, sigs, err)
	}
	var foreign struct {
		PayloadType string
		Payload     []byte
		Signatures  []struct{ Sig []byte }
	}
	if err := json.Unmarshal(raw, &foreign); err != nil || string(foreign.Payload) != "payload" || len(foreign.Signatures) != 2 {
		t.Errorf("encoding/json: %+v, %v", foreign, err)
	}
	if _, _, err := statement.ParseDSSE(raw, statement.PayloadType, len(raw)); err == nil {
		t.Error("ParseDSSE of another type: want an error")
	}
	noHint := []byte(`{"payload":"AA==","payloadType":"t","signatures":[{"sig":"AA=="}]}`)
	if _, sigs, err := statement.ParseDSSE(noHint, "t", len(noHint)); err != nil || sigs[0].KeyHint != "" {
		t.Errorf("an envelope without keyid: %v", err)
	}
}

func TestParse(t *testing.T) {
	payload, e := signed(t)
	e2, s, err := statement.Parse(e.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(e2.Payload, payload) || s.Kind != statement.KindProtocol || !bytes.Equal(e2.Bytes(), e.Bytes()) {
		t.Errorf("Parse = %q of kind %q", e2.Payload, s.Kind)
	}
	_, _, err = statement.Parse(statement.EncodeDSSE(statement.PayloadType, []byte("{}"), e.Signatures))
	checkField(t, err, "_type", "missing")
}

// TestMessage: what was signed is there as the encoding says, for every length of
// padding.
func TestMessage(t *testing.T) {
	_, e := signed(t)
	for n := range 12 {
		payload := bytes.Repeat([]byte{'x'}, n+1)
		raw := statement.EncodeDSSE(statement.PayloadType, payload, e.Signatures)
		got, err := statement.ParseEnvelope(raw)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Payload, payload) || !bytes.Equal(got.Message(), statement.PAE(statement.PayloadType, payload)) {
			t.Errorf("payload %q, message %q", got.Payload, got.Message())
		}
	}
}

func TestVerifySignatures(t *testing.T) {
	message := statement.PAE(statement.PayloadType, []byte("payload"))
	a, b, c, stranger := edKey(t, "a"), ecKey(t, "b"), edKey(t, "c"), edKey(t, "stranger")
	ring := keyring(a, b, c, stranger)
	sign := func(k *statement.PrivateKey, hint string) statement.Signature {
		t.Helper()
		sig, err := k.Sign(message)
		if err != nil {
			t.Fatal(err)
		}
		return statement.Signature{KeyHint: hint, Sig: sig}
	}
	by := func(k *statement.PrivateKey) statement.Signature { return sign(k, k.ID().String()) }
	cut := func(s statement.Signature) statement.Signature { s.Sig = s.Sig[:len(s.Sig)-1]; return s }
	long := func(s statement.Signature) statement.Signature {
		s.Sig = append([]byte{0x30, 0x81}, s.Sig[1:]...)
		return s
	}
	high := func(s statement.Signature) statement.Signature { s.Sig = highS(t, s.Sig); return s }
	type list = []statement.Signature
	abc := ids(a, b, c)
	mixed := keyring(a, b)
	mixed[c.ID()] = stranger.Public()
	tests := map[string]struct {
		sigs         list
		signers      []statement.KeyID
		ring         map[statement.KeyID]*statement.PublicKey
		field, words string // none: good
	}{
		"in order":           {list{by(a), by(b), by(c)}, abc, ring, "", ""},
		"reordered":          {list{by(c), by(a), by(b)}, abc, ring, "", ""},
		"no hints":           {list{sign(c, ""), sign(b, ""), sign(a, "")}, abc, ring, "", ""},
		"wrong hints":        {list{sign(a, b.ID().String()), sign(b, c.ID().String()), sign(c, a.ID().String())}, abc, ring, "", ""},
		"hint of a stranger": {list{sign(a, stranger.ID().String()), by(b), by(c)}, abc, ring, "", ""},
		"hint that is text":  {list{sign(a, "key of Jo"), by(b), by(c)}, abc, ring, "", ""},
		"one":                {list{by(a)}, ids(a), ring, "", ""},

		"nobody":                  {nil, nil, ring, "signatures", "each of the 0 named signers"},
		"a signature of nobody":   {list{by(a)}, nil, ring, "signatures", "0 named signers, found 1"},
		"one missing":             {list{by(a), by(b)}, abc, ring, "signatures", "3 named signers, found 2"},
		"one more, unnamed":       {list{by(a), by(b), by(stranger)}, ids(a, b), ring, "signatures", "2 named signers, found 3"},
		"unnamed for a named":     {list{by(a), by(stranger)}, ids(a, b), ring, "signatures[1].sig", "DER ECDSA"},
		"unnamed under a's hint":  {list{sign(stranger, a.ID().String()), by(b)}, ids(a, b), ring, "signatures[0].sig", "Ed25519 signature does not verify"},
		"unnamed among three":     {list{by(a), by(stranger), by(c)}, abc, ring, "signatures[1].sig", "none of the named signers"},
		"one twice":               {list{by(a), by(a)}, ids(a, c), ring, "signatures[1].sig", "does not verify"},
		"one twice, other's hint": {list{by(a), sign(a, c.ID().String())}, ids(a, c), ring, "signatures[1].sig", "does not verify"},
		"one named twice":         {list{by(a), by(a)}, ids(a, a), ring, "signatures[1].sig", "none of the named signers"},
		"of another message":      {list{{KeyHint: a.ID().String(), Sig: by(c).Sig}}, ids(a), ring, "signatures[0].sig", "does not verify"},
		"high S":                  {list{by(a), high(by(b))}, ids(a, b), ring, "signatures[1].sig", "high S"},
		"high S, no hint":         {list{by(a), high(sign(b, "")), by(c)}, abc, ring, "signatures[1].sig", "high S"},
		"BER":                     {list{by(a), long(by(b))}, ids(a, b), ring, "signatures[1].sig", "DER ECDSA"},
		"cut off, Ed25519":        {list{cut(by(a)), by(b)}, ids(a, b), ring, "signatures[0].sig", "does not verify"},
		"cut off, ECDSA":          {list{by(a), cut(by(b))}, ids(a, b), ring, "signatures[1].sig", "DER ECDSA"},
		"empty":                   {list{by(a), {}}, ids(a, b), ring, "signatures[1].sig", "DER ECDSA"},
		"no such key":             {list{by(a), by(b)}, ids(a, b), keyring(a), "signatures", "no public key known for signer " + b.ID().String()},
		"no keys":                 {list{by(a)}, ids(a), nil, "signatures", "no public key known"},
		"another key in its slot": {list{by(a), by(stranger)}, ids(a, c), mixed, "signatures", "no public key known for signer " + c.ID().String()},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := statement.VerifySignatures(message, tt.sigs, tt.signers, tt.ring)
			if tt.words == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := statement.VerifySignatures(append(message, 'x'), tt.sigs, tt.signers, tt.ring); err == nil {
					t.Error("verifies for another message")
				}
				return
			}
			checkField(t, err, tt.field, tt.words)
		})
	}
}

// TestSignVerify goes the whole way of a statement.
func TestSignVerify(t *testing.T) {
	payload, e := signed(t)
	_, s, err := statement.Parse(e.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	ring := keyring(edKey(t, "author"), ecKey(t, "approver"))
	message := statement.PAE(statement.PayloadType, payload)
	if err := statement.VerifySignatures(message, e.Signatures, s.SignerIDs(), ring); err != nil {
		t.Error(err)
	}
	for i := range payload {
		bad := slices.Clone(payload)
		bad[i] ^= 1
		if i%97 == 0 && statement.VerifySignatures(statement.PAE(statement.PayloadType, bad), e.Signatures, s.SignerIDs(), ring) == nil {
			t.Errorf("verifies with byte %d of the payload changed", i)
		}
	}
}
