package timestamp_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/timestamp"
	tt "github.com/trialog/trialog/api/timestamp/timestamptest"
)

func parse(t *testing.T, raw []byte) *timestamp.Token {
	t.Helper()
	token, err := timestamp.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestParse(t *testing.T) {
	h := newHouse()
	raw := h.stamp(func(d *tt.Draft) {
		d.Ordering = []byte{1, 1, 0xff}
		d.Accuracy = tt.Sequence(tt.Int(2), tt.TLV(0x80, []byte{3}), tt.TLV(0x81, []byte{4}))
	})
	token := parse(t, raw)
	if !bytes.Equal(token.Raw, raw) || !bytes.Equal(token.Imprint, h.digest[:]) || token.Hash != crypto.SHA256 ||
		token.Serial.Int64() != 4711 || !token.Time.Equal(h.at) || token.Time.Location() != time.UTC ||
		token.Accuracy != 2*time.Second+3*time.Millisecond+4*time.Microsecond || !token.Ordering ||
		!token.Policy.Equal(h.policy()) || token.Nonce.Cmp(h.nonce) != 0 ||
		len(token.Certificates) != 2 || !token.Certificates[1].Equal(h.authority.Unit.Cert) {
		t.Errorf("token %+v", token)
	}
	plain := parse(t, h.authority.Stamp(h.digest, h.at, func(d *tt.Draft) { d.Accuracy, d.Certificates = nil, nil }))
	if plain.Nonce != nil || plain.Accuracy != 0 || plain.Ordering || plain.Certificates != nil {
		t.Errorf("token %+v", plain)
	}
	// The caller may do to its bytes what it likes.
	clear(raw)
	if err := token.Verify(h.authority.Root.Cert, h.expect()); err != nil {
		t.Error(err)
	}
}

// TestTimes: the forms of a genTime.
func TestTimes(t *testing.T) {
	h := newHouse()
	for _, c := range []struct {
		text string
		want string // RFC 3339; empty if it is refused
	}{
		{"20260601120000Z", "2026-06-01T12:00:00Z"},
		{"20260601120000.1Z", "2026-06-01T12:00:00.1Z"},
		{"20260601120000.000000001Z", "2026-06-01T12:00:00.000000001Z"},
		{"20240229235959.99Z", "2024-02-29T23:59:59.99Z"},
		{"20260601120000.10Z", ""},
		{"20260601120000.Z", ""},
		{"20260601120000.0000000001Z", ""},
		{"20260601120000,1Z", ""},
		{"20260601120000.+1Z", ""},
		{"20260601120000", ""},
		{"20260601120000z", ""},
		{"202606011200Z", ""},
		{"2026060112Z", ""},
		{"20260601120060Z", ""},
		{"20260601240000Z", ""},
		{"20260229120000Z", ""},
		{"20261301120000Z", ""},
		{"20260601120000+0000", ""},
		{"00010101000000Z", ""}, // Go's zero time: package x509 would take it for now
		{"19991231235959Z", ""},
		{"", ""},
	} {
		token, err := timestamp.Parse(h.stamp(func(d *tt.Draft) { d.Time = tt.TLV(0x18, []byte(c.text)) }))
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%q is read as %v", c.text, token.Time)
		case c.want != "" && err != nil:
			t.Errorf("%q: %v", c.text, err)
		case err == nil && token.Time.Format(time.RFC3339Nano) != c.want:
			t.Errorf("%q is read as %v", c.text, token.Time)
		}
	}
}

// TestAnchors: what an anchor may be, and what does not help.
func TestAnchors(t *testing.T) {
	h := newHouse()
	a := h.authority
	good := parse(t, h.stamp())
	bare := parse(t, h.stamp(func(d *tt.Draft) { d.Certificates = nil }))
	byKeyID := parse(t, h.stamp(func(d *tt.Draft) {
		d.ID, d.SignerInfo = tt.TLV(0x80, a.Unit.Cert.SubjectKeyId), tt.Int(3)
	}))
	wrongKeyID := parse(t, h.stamp(func(d *tt.Draft) {
		d.ID, d.SignerInfo = tt.TLV(0x80, a.Issuer.Cert.SubjectKeyId), tt.Int(3)
	}))
	brief := tt.Issue(nil, "brief", tt.P256Key("brief"), tt.Purpose(true, tt.TimeStamping), tt.Valid(tt.Start(), h.at.Add(-time.Hour)))
	late := parse(t, h.stamp(func(d *tt.Draft) { d.As(brief); d.Certificates = nil }))
	for _, c := range []struct {
		name   string
		token  *timestamp.Token
		anchor *x509.Certificate
		words  string
	}{
		{"root", good, a.Root.Cert, ""},
		{"issuer", good, a.Issuer.Cert, ""},
		{"unit", good, a.Unit.Cert, ""},
		{"unit, nothing travels along", bare, a.Unit.Cert, ""},
		{"identified by its key", byKeyID, a.Root.Cert, ""},
		{"identified by another key", wrongKeyID, a.Root.Cert, "another certificate than"},
		{"root, nothing travels along", bare, a.Root.Cert, "is not there"},
		{"another root", good, h.other.Root.Cert, "does not lead to"},
		{"another unit", good, h.unit("twin").Cert, "does not lead to"},
		{"the anchor has expired", late, brief.Cert, "expired"},
		{"no anchor", good, nil, "no certificate"},
		{"not parsed", &timestamp.Token{}, a.Root.Cert, "not parsed"},
	} {
		err := c.token.Verify(c.anchor, h.expect())
		if c.words == "" && err != nil || c.words != "" && (err == nil || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.words)
		}
	}
	if err := good.Verify(a.Root.Cert, timestamp.Expect{Digest: h.digest}); err != nil {
		t.Errorf("with neither nonce nor policy wanted: %v", err)
	}
}

// TestClaims: whose token it would be, whether or not it verifies.
func TestClaims(t *testing.T) {
	h := newHouse()
	broken := func(d *tt.Draft) { d.ChangeSignature = func(s []byte) []byte { return s[1:] } }
	alone := func(d *tt.Draft) { d.Certificates = nil }
	for _, c := range []struct {
		name   string
		token  []byte
		anchor *tt.Entity
		want   bool
	}{
		{"of the unit", h.stamp(broken), h.authority.Unit, true},
		{"of the issuer", h.stamp(broken), h.authority.Issuer, true},
		{"of the root", h.stamp(broken), h.authority.Root, true},
		{"of the unit, by its number alone", h.stamp(broken, alone), h.authority.Unit, true},
		{"of the issuer, by its name alone", h.stamp(broken, alone), h.authority.Issuer, true},
		{"of the root, which nothing names", h.stamp(broken, alone), h.authority.Root, false},
		{"of the unit, by its key", h.stamp(alone, func(d *tt.Draft) {
			d.ID, d.SignerInfo = tt.TLV(0x80, h.authority.Unit.Cert.SubjectKeyId), tt.Int(3)
		}), h.authority.Unit, true},
		{"of another unit", h.stamp(), h.other.Unit, false},
		{"of another root", h.stamp(), h.other.Root, false},
	} {
		if got := parse(t, c.token).Claims(c.anchor.Cert); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// TestFlippedTokens flips every bit of every byte that there is: nothing of it
// is idle.
func TestFlippedTokens(t *testing.T) {
	h := newHouse()
	good := h.stamp()
	step := 1
	if testing.Short() {
		step = 11
	}
	for i := 0; i < len(good); i += step {
		raw := bytes.Clone(good)
		raw[i] ^= 1 << (i % 8)
		if err := h.judge(raw); err == nil {
			t.Errorf("byte %d of %x ^ %#x makes no difference", i, good[max(0, i-8):i+1], 1<<(i%8))
		}
	}
}

func TestRequest(t *testing.T) {
	h := newHouse()
	for _, c := range []struct {
		nonce  *big.Int
		policy asn1.ObjectIdentifier
	}{{nil, nil}, {h.nonce, nil}, {nil, h.policy()}, {h.nonce, h.policy()}, {big.NewInt(0), nil}, {big.NewInt(128), nil}, {big.NewInt(-1), nil}} {
		der, err := timestamp.NewRequest(h.digest, c.nonce, c.policy)
		if err != nil {
			t.Fatal(err)
		}
		r, err := timestamp.ParseRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.Digest, h.digest[:]) || r.Hash != crypto.SHA256 || !r.CertReq || !r.Policy.Equal(c.policy) ||
			(r.Nonce == nil) != (c.nonce == nil) || c.nonce != nil && r.Nonce.Cmp(c.nonce) != 0 {
			t.Errorf("nonce %v, policy %v is read as %+v", c.nonce, c.policy, r)
		}
	}
	if _, err := timestamp.NewRequest(h.digest, new(big.Int).Lsh(big.NewInt(1), 511), nil); err == nil {
		t.Error("a nonce is written that would not be read")
	}
	if _, err := timestamp.NewRequest(h.digest, nil, asn1.ObjectIdentifier{9}); err == nil {
		t.Error("a policy is written that is none")
	}
}

func TestRequestRejects(t *testing.T) {
	digest := sha256.Sum256(nil)
	imprint := tt.Sequence(tt.Algorithm(tt.SHA256, nil), tt.Octets(digest[:]))
	yes, no := []byte{1, 1, 0xff}, []byte{1, 1, 0}
	extensions := tt.TLV(0xa0, tt.Sequence(tt.OID(tt.Policy), tt.Octets(nil)))
	for _, c := range []struct {
		name    string
		der     []byte
		failure timestamp.Failure
	}{
		{"smallest", tt.Sequence(tt.Int(1), imprint), timestamp.NoFailure},
		{"all", tt.Sequence(tt.Int(1), imprint, tt.OID(tt.Policy), tt.Int(7), yes), timestamp.NoFailure},
		{"empty", nil, timestamp.BadDataFormat},
		{"trailing byte", append(tt.Sequence(tt.Int(1), imprint), 0), timestamp.BadDataFormat},
		{"too long", tt.Sequence(tt.Int(1), imprint, tt.Octets(make([]byte, timestamp.MaxRequest))), timestamp.BadDataFormat},
		{"indefinite", append(append([]byte{0x30, 0x80, 2, 1, 1}, imprint...), 0, 0), timestamp.BadDataFormat},
		{"version 2", tt.Sequence(tt.Int(2), imprint), timestamp.BadRequest},
		{"version 2, whatever else it holds", tt.Sequence(tt.Int(2), tt.Int(7), tt.Int(8)), timestamp.BadRequest},
		{"version 0", tt.Sequence(tt.Int(0), imprint), timestamp.BadRequest},
		{"no version", tt.Sequence(imprint), timestamp.BadDataFormat},
		{"no imprint", tt.Sequence(tt.Int(1)), timestamp.BadDataFormat},
		{"imprint too short", tt.Sequence(tt.Int(1), tt.Sequence(tt.Algorithm(tt.SHA256, nil), tt.Octets(digest[1:]))), timestamp.BadDataFormat},
		{"SHA-1", tt.Sequence(tt.Int(1), tt.Sequence(tt.Algorithm(tt.SHA1, nil), tt.Octets(digest[:20]))), timestamp.BadAlgorithm},
		{"parameters", tt.Sequence(tt.Int(1), tt.Sequence(tt.Algorithm(tt.SHA256, tt.Int(1)), tt.Octets(digest[:]))), timestamp.BadAlgorithm},
		{"nonce not minimal", tt.Sequence(tt.Int(1), imprint, []byte{2, 2, 0, 1}), timestamp.BadDataFormat},
		{"nonce too long", tt.Sequence(tt.Int(1), imprint, tt.BigInt(new(big.Int).Lsh(big.NewInt(1), 600))), timestamp.BadDataFormat},
		{"nonce before the policy", tt.Sequence(tt.Int(1), imprint, tt.Int(7), tt.OID(tt.Policy)), timestamp.BadDataFormat},
		{"certReq as FALSE", tt.Sequence(tt.Int(1), imprint, no), timestamp.BadDataFormat},
		{"certReq as 1", tt.Sequence(tt.Int(1), imprint, []byte{1, 1, 1}), timestamp.BadDataFormat},
		{"certReq twice", tt.Sequence(tt.Int(1), imprint, yes, yes), timestamp.BadDataFormat},
		{"extension", tt.Sequence(tt.Int(1), imprint, extensions), timestamp.UnacceptedExtension},
	} {
		_, err := timestamp.ParseRequest(c.der)
		var refused *timestamp.RequestError
		switch {
		case c.failure == timestamp.NoFailure:
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		case !errors.As(err, &refused) || refused.Failure != c.failure || refused.Unwrap() == nil:
			t.Errorf("%s: error %v, want %s", c.name, err, c.failure)
		}
	}
}

func TestResponse(t *testing.T) {
	h := newHouse()
	token := h.stamp()
	status := func(n int64, more ...[]byte) []byte {
		return tt.Sequence(append([][]byte{tt.Int(n)}, more...)...)
	}
	text := tt.Sequence(tt.TLV(0x0c, []byte("no\x1b")), tt.TLV(0x0c, []byte("never")))
	for _, c := range []struct {
		name  string
		der   []byte
		words string // of the error; empty if there is a token
		as    *timestamp.StatusError
	}{
		{name: "granted", der: tt.Sequence(status(0), token)},
		{name: "granted with modifications", der: tt.Sequence(status(1, text), token)},
		{name: "rejection", der: tt.Sequence(status(2)), as: &timestamp.StatusError{Status: 2, Failure: timestamp.NoFailure}, words: "rejection, no failureInfo"},
		{
			name: "clock", der: tt.Sequence(status(2, text, []byte{3, 3, 1, 0, 2})),
			as: &timestamp.StatusError{Status: 2, Text: "no\x1b; never", Failure: timestamp.TimeNotAvailable}, words: `timeNotAvailable: "no\x1b; never"`,
		},
		{name: "bad algorithm", der: tt.Sequence(status(2, []byte{3, 2, 7, 0x80})), as: &timestamp.StatusError{Status: 2, Failure: timestamp.BadAlgorithm}, words: "badAlg"},
		{name: "waiting", der: tt.Sequence(status(3)), as: &timestamp.StatusError{Status: 3, Failure: timestamp.NoFailure}, words: "waiting"},
		{name: "long text", der: tt.Sequence(status(5, tt.Sequence(tt.TLV(0x0c, bytes.Repeat([]byte("é"), 1000))))), words: "revocationNotification"},
		{name: "granted without a token", der: tt.Sequence(status(0)), words: "timeStampToken: missing"},
		{name: "granted with a failure", der: tt.Sequence(status(0, []byte{3, 2, 7, 0x80}), token), words: "although the status is granted"},
		{name: "rejection with a token", der: tt.Sequence(status(2), token), words: "although the status is 2"},
		{name: "unknown status", der: tt.Sequence(status(6)), words: "status"},
		{name: "failure without bits", der: tt.Sequence(status(2, []byte{3, 1, 0})), words: "says nothing"},
		{name: "texts empty", der: tt.Sequence(status(2, tt.Sequence())), words: "statusString"},
		{name: "trailing byte", der: append(tt.Sequence(status(0), token), 0), words: "behind the end"},
		{name: "a member too many", der: tt.Sequence(status(0), token, tt.Null()), words: "a member too many"},
		{name: "token that is none", der: tt.Sequence(status(0), tt.Null()), words: "expected a SEQUENCE"},
		{name: "too long", der: tt.Sequence(status(0), tt.Octets(make([]byte, 80<<10))), words: "at most"},
		{name: "empty", words: "not DER"},
	} {
		got, err := timestamp.ParseResponse(c.der)
		if c.words == "" {
			if err != nil || !bytes.Equal(got.Raw, token) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.words)
		}
		var refused *timestamp.StatusError
		if c.as != nil && (!errors.As(err, &refused) || *refused != *c.as) {
			t.Errorf("%s: %+v, want %+v", c.name, refused, c.as)
		}
		if errors.As(err, &refused) && len(refused.Text) > 600 {
			t.Errorf("%s: a text of %d bytes is kept", c.name, len(refused.Text))
		}
	}
}

// TestFailures: each failure that an authority may state has its name.
func TestFailures(t *testing.T) {
	seen := map[string]bool{}
	for f := timestamp.NoFailure; f < 32; f++ {
		if name := f.String(); seen[name] || name == "" {
			t.Errorf("failure %d is called %q", int(f), name)
		} else {
			seen[name] = true
		}
	}
}

// BenchmarkVerify is a token with a chain of three certificates: parsed, then
// verified.
func BenchmarkVerify(b *testing.B) {
	h := newHouse()
	raw := h.stamp()
	b.ReportAllocs()
	for b.Loop() {
		if err := h.judge(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// publicOnly is a key that nobody has the private half of.
type publicOnly struct{ crypto.Signer }

func (publicOnly) Public() crypto.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), 8200)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 1<<31 - 1}
}

// TestHugeKey: a key in a stranger's certificate that takes seconds to verify
// anything with is refused before anything is.
func TestHugeKey(t *testing.T) {
	a := tt.New("authority")
	huge := tt.Issue(a.Root, "huge", publicOnly{a.Unit.Key})
	raw := a.Stamp([32]byte{}, tt.Start(), func(d *tt.Draft) { d.Certificates = append(d.Certificates, huge.Cert.Raw) })
	if _, err := timestamp.Parse(raw); err == nil || !strings.Contains(err.Error(), "8201 bits, expected at most 8192") {
		t.Error(err)
	}
}
