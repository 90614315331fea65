package timestamp_test

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"slices"
	"testing"

	"github.com/trialog/trialog/api/timestamp"
	tt "github.com/trialog/trialog/api/timestamp/timestamptest"
)

// reencoded takes a DER value apart with encoding/asn1 and writes it again from
// its parts, the members of sets in their order.
func reencoded(t *testing.T, der []byte) []byte {
	t.Helper()
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(der, &v)
	if err != nil || len(rest) != 0 {
		t.Fatalf("encoding/asn1 does not read %x: %v", der, err)
	}
	if !v.IsCompound {
		return tt.TLV(der[0], v.Bytes)
	}
	var parts [][]byte
	for body := v.Bytes; len(body) > 0; {
		var part asn1.RawValue
		if body, err = asn1.Unmarshal(body, &part); err != nil {
			t.Fatalf("encoding/asn1 does not read %x: %v", body, err)
		}
		parts = append(parts, reencoded(t, part.FullBytes))
	}
	if v.Class == asn1.ClassUniversal && v.Tag == asn1.TagSet {
		slices.SortFunc(parts, bytes.Compare)
	}
	return tt.TLV(der[0], parts...)
}

// FuzzParse: what parses is written back to the same bytes by another encoder;
// the content's fields, written again, are the content; and Verify never
// panics, nor accepts what was not signed.
func FuzzParse(f *testing.F) {
	h := newHouse()
	good := h.stamp()
	f.Add(good)
	f.Add(h.stamp(func(d *tt.Draft) { d.Accuracy, d.Nonce, d.Certificates = nil, nil, nil }))
	f.Add(h.stamp(func(d *tt.Draft) {
		d.TSA = tt.TLV(0xa0, tt.TLV(0xa4, h.authority.Unit.Cert.RawSubject))
		d.Extensions = tt.TLV(0xa1, tt.Sequence(tt.OID(tt.Policy), tt.Octets(nil)))
	}))
	f.Add(h.stamp(func(d *tt.Draft) {
		d.ID, d.SignerInfo = tt.TLV(0x80, h.authority.Unit.Cert.SubjectKeyId), tt.Int(3)
	}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		token, err := timestamp.Parse(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(token.Raw, raw) || !bytes.Equal(reencoded(t, raw), raw) {
			t.Fatalf("%x has another encoding", raw)
		}
		if !bytes.Contains(raw, tt.BigInt(token.Serial)) || token.Nonce != nil && !bytes.Contains(raw, tt.BigInt(token.Nonce)) {
			t.Fatalf("%x: an integer is read as another", raw)
		}
		if token.Claims(h.other.Unit.Cert) && bytes.Equal(raw, good) {
			t.Fatal("claims to be a stranger's")
		}
		verified := token.Verify(h.authority.Root.Cert, h.expect()) == nil
		if verified && !token.Time.Equal(h.at) {
			t.Fatalf("%x verifies and was never signed", raw)
		}
	})
}

// FuzzParseRequest: what parses is written back to the same bytes.
func FuzzParseRequest(f *testing.F) {
	h := newHouse()
	for _, nonce := range [][]byte{nil, tt.Int(7)} {
		f.Add(tt.Sequence(tt.Int(1), tt.Sequence(tt.Algorithm(tt.SHA256, tt.Null()), tt.Octets(h.digest[:])), tt.OID(tt.Policy), nonce))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := timestamp.ParseRequest(raw)
		var refused *timestamp.RequestError
		if err != nil {
			if !errors.As(err, &refused) || refused.Failure == timestamp.NoFailure {
				t.Fatalf("error %v says not what to answer", err)
			}
			return
		}
		var policy, nonce, certReq []byte
		if r.Policy != nil {
			policy = tt.OID(r.Policy.String())
		}
		if r.Nonce != nil {
			nonce = tt.BigInt(r.Nonce)
		}
		if r.CertReq {
			certReq = []byte{1, 1, 0xff}
		}
		id := map[int]string{32: tt.SHA256, 48: tt.SHA384, 64: tt.SHA512}[len(r.Digest)]
		for _, params := range [][]byte{nil, tt.Null()} {
			again := tt.Sequence(tt.Int(1), tt.Sequence(tt.Algorithm(id, params), tt.Octets(r.Digest)), policy, nonce, certReq)
			if bytes.Equal(again, raw) {
				return
			}
		}
		t.Fatalf("%x is written otherwise", raw)
	})
}

// FuzzParseResponse: no panic; a token or a reason; what parses has one
// encoding.
func FuzzParseResponse(f *testing.F) {
	h := newHouse()
	f.Add(tt.Sequence(tt.Sequence(tt.Int(0)), h.stamp()))
	f.Add(tt.Sequence(tt.Sequence(tt.Int(2), tt.Sequence(tt.TLV(0x0c, []byte("no"))), []byte{3, 2, 7, 0x80})))
	f.Fuzz(func(t *testing.T, raw []byte) {
		token, err := timestamp.ParseResponse(raw)
		var status *timestamp.StatusError
		if (token == nil) == (err == nil) || errors.As(err, &status) && (status.Status < 2 || status.Status > 5) {
			t.Fatalf("token %v, error %v", token, err)
		}
		if (err == nil || status != nil) && !bytes.Equal(reencoded(t, raw), raw) {
			t.Fatalf("%x has another encoding", raw)
		}
	})
}
