package timestamp_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	tt "github.com/trialog/trialog/api/timestamp/timestamptest"
)

// mutation is one way in which a token is not the good one.
type mutation struct {
	name string
	// draft changes the token before it is signed, raw its bytes afterwards.
	draft func(*tt.Draft)
	raw   func([]byte) []byte
	words string // of our refusal
	// laxer says why openssl accepts what this package refuses; empty if it
	// refuses as well.
	laxer string
}

// by lets a unit sign in its own name and travel along.
func (h *house) by(e *tt.Entity) func(*tt.Draft) {
	return func(d *tt.Draft) {
		d.As(e)
		d.Certificates = [][]byte{h.authority.Issuer.Cert.Raw, e.Cert.Raw}
	}
}

// replaced swaps the first occurrence of a part.
func replaced(old, by []byte) func([]byte) []byte {
	return func(raw []byte) []byte {
		if !bytes.Contains(raw, old) {
			panic(fmt.Sprintf("nothing to replace: %x", old))
		}
		return bytes.Replace(raw, old, by, 1)
	}
}

// flippedAfter flips a bit behind the last occurrence of a mark.
func flippedAfter(mark []byte, distance int) func([]byte) []byte {
	return func(raw []byte) []byte {
		raw = bytes.Clone(raw)
		raw[bytes.LastIndex(raw, mark)+len(mark)+distance] ^= 1
		return raw
	}
}

// mutations returns what every verifier should refuse, and what openssl lets
// pass.
func (h *house) mutations() []mutation {
	return slices.Concat(h.contentMutations(), h.signerMutations(), h.certificateMutations(), h.formMutations(), h.laxMutations())
}

func (h *house) contentMutations() []mutation {
	other := sha256.Sum256([]byte("other"))
	return []mutation{
		{name: "version of the TSTInfo", draft: func(d *tt.Draft) { d.Version = tt.Int(2) }, words: "tstInfo.version"},
		{name: "other policy", draft: func(d *tt.Draft) { d.Policy = tt.OID(tt.Policy + ".2") }, words: "policy"},
		{name: "other imprint", draft: func(d *tt.Draft) {
			d.Imprint = tt.Sequence(tt.Algorithm(tt.SHA256, tt.Null()), tt.Octets(other[:]))
		}, words: "imprint is of something else"},
		{name: "imprint by SHA-1", draft: func(d *tt.Draft) {
			d.Imprint = tt.Sequence(tt.Algorithm(tt.SHA1, tt.Null()), tt.Octets(h.digest[:20]))
		}, words: "messageImprint"},
		{name: "imprint by SHA-512", draft: func(d *tt.Draft) {
			d.Imprint = tt.Sequence(tt.Algorithm(tt.SHA512, tt.Null()), tt.Octets(append(h.digest[:], h.digest[:]...)))
		}, words: "expected SHA-256"},
		{name: "imprint too short", draft: func(d *tt.Draft) {
			d.Imprint = tt.Sequence(tt.Algorithm(tt.SHA256, tt.Null()), tt.Octets(h.digest[:31]))
		}, words: "31 bytes"},
		{name: "other nonce", draft: func(d *tt.Draft) { d.Nonce = tt.Int(1) }, words: "nonce"},
		{name: "nonce of the other sign", draft: func(d *tt.Draft) { d.Nonce = tt.BigInt(new(big.Int).Neg(h.nonce)) }, words: "nonce"},
		{name: "no nonce", draft: func(d *tt.Draft) { d.Nonce = nil }, words: "nonce"},
		{name: "no serial number", draft: func(d *tt.Draft) { d.Serial = nil }, words: "tstInfo"},
		{name: "no time", draft: func(d *tt.Draft) { d.Time = nil }, words: "genTime"},
		{name: "UTCTime", draft: func(d *tt.Draft) { d.Time = tt.TLV(0x17, []byte("260601120000Z")) }, words: "genTime"},
		{name: "content of another type", draft: func(d *tt.Draft) { d.ContentType = tt.Data }, words: "eContentType"},
		{name: "the authority's name is another", draft: func(d *tt.Draft) {
			d.TSA = tt.TLV(0xa0, tt.TLV(0xa4, h.other.Unit.Cert.RawSubject))
		}, words: "calls itself"},
		{name: "time changed after signing", draft: func(d *tt.Draft) {
			d.SwapContent = replaced([]byte("20260601120000"), []byte("20250601120000"))
		}, words: "messageDigest"},
		{name: "imprint put in after signing", draft: func(d *tt.Draft) {
			d.Imprint = tt.Sequence(tt.Algorithm(tt.SHA256, tt.Null()), tt.Octets(other[:]))
			d.SwapContent = replaced(other[:], h.digest[:])
		}, words: "messageDigest"},
		{name: "nonce put in after signing", draft: func(d *tt.Draft) {
			d.Nonce = tt.BigInt(new(big.Int).Add(h.nonce, big.NewInt(1)))
			d.SwapContent = replaced(d.Nonce, tt.BigInt(h.nonce))
		}, words: "messageDigest"},
		{name: "serial number changed after signing", draft: func(d *tt.Draft) {
			d.SwapContent = replaced(tt.Int(4711), tt.Int(4712))
		}, words: "messageDigest"},
		{name: "accuracy changed after signing", draft: func(d *tt.Draft) {
			d.SwapContent = replaced(tt.TLV(0x80, []byte{100}), tt.TLV(0x80, []byte{1}))
		}, words: "messageDigest"},
	}
}

func (h *house) signerMutations() []mutation {
	unit, other := h.authority.Unit, h.other.Unit
	twin := h.unit("twin")
	return []mutation{
		{name: "signature altered", draft: func(d *tt.Draft) {
			d.ChangeSignature = func(s []byte) []byte { s[len(s)-1] ^= 1; return s }
		}, words: "does not verify"},
		{name: "signature empty", draft: func(d *tt.Draft) { d.ChangeSignature = func([]byte) []byte { return nil } }, words: "does not verify"},
		{name: "signed by another key", draft: func(d *tt.Draft) { d.Signer = twin }, words: "does not verify"},
		{name: "no signed attributes", draft: func(d *tt.Draft) { d.SignPlain = true }, words: "signedAttrs"},
		{name: "no contentType", draft: without(0), words: "contentType: missing", laxer: "does not look at it"},
		{name: "no messageDigest", draft: without(1), words: "messageDigest: missing"},
		{name: "no signingCertificateV2", draft: without(2), words: "signingCertificateV2: missing"},
		{name: "contentType is another", draft: attribute(0, tt.Attribute(tt.ContentType, tt.OID(tt.Data))), words: "contentType", laxer: "does not look at it"},
		{name: "messageDigest is another", draft: attribute(1, tt.Attribute(tt.MessageDigest, tt.Octets(make([]byte, 32)))), words: "messageDigest differs"},
		{name: "messageDigest has no value", draft: attribute(1, tt.Attribute(tt.MessageDigest)), words: "attrValues"},
		{name: "certificate identifier of another", draft: func(d *tt.Draft) { d.CertID = tt.CertIDs(tt.CertIDv2(twin.Cert)) }, words: "is not there"},
		{name: "certificate identifier of another that travels along", draft: func(d *tt.Draft) {
			d.CertID = tt.CertIDs(tt.CertIDv2(twin.Cert))
			d.Certificates = append(d.Certificates, twin.Cert.Raw)
		}, words: "another certificate than"},
		{name: "certificate identifier altered", draft: func(d *tt.Draft) {
			digest := sha256.Sum256([]byte("other"))
			d.CertID = tt.CertIDs(tt.Sequence(tt.Octets(digest[:])))
		}, words: "is not there"},
		{name: "issuer in the certificate identifier is another", draft: func(d *tt.Draft) {
			digest := sha256.Sum256(unit.Cert.Raw)
			d.CertID = tt.CertIDs(tt.Sequence(tt.Octets(digest[:]), tt.IssuerSerial(other.Cert)))
		}, words: "is not there"},
		{name: "certificate identifiers empty", draft: func(d *tt.Draft) { d.CertID = tt.CertIDs() }, words: "certs"},
		{name: "further certificate identifier of a stranger", draft: func(d *tt.Draft) {
			d.CertID = tt.CertIDs(tt.CertIDv2(unit.Cert), tt.CertIDv2(other.Cert))
		}, words: "do not name the certificate"},
		{name: "the signer's identifier is another's", draft: func(d *tt.Draft) {
			d.ID = tt.IssuerAndSerial(twin.Cert)
			d.Certificates = append(d.Certificates, twin.Cert.Raw)
		}, words: "another certificate than"},
		{name: "two signers", draft: func(d *tt.Draft) {
			d.ChangeSigners = func(infos [][]byte) [][]byte { return append(infos, infos[0]) }
		}, words: "more than one signer"},
		{name: "no signer", draft: func(d *tt.Draft) { d.ChangeSigners = func([][]byte) [][]byte { return nil } }, words: "signerInfos"},
		{name: "attributes exchanged after signing", draft: func(d *tt.Draft) {
			d.SwapAttributes = func(a []byte) []byte { return append(bytes.Clone(a[:len(a)-1]), a[len(a)-1]^1) }
		}, words: "time-stamp token"},
		{name: "signature algorithm of another kind of key", draft: func(d *tt.Draft) {
			d.Algorithm = tt.Algorithm(tt.RSAWith+"11", tt.Null())
		}, words: "not accepted for an ECDSA key", laxer: "takes the algorithm from the key"},
		// CVE-2026-39984: what was checked was the first certificate, which was
		// not the one that had signed.
		{name: "a good certificate in front of the one that signed", draft: func(d *tt.Draft) {
			d.As(other)
			d.Certificates = [][]byte{unit.Cert.Raw, h.authority.Issuer.Cert.Raw, other.Cert.Raw}
		}, words: "does not lead to"},
		{name: "a good certificate named, another signed", draft: func(d *tt.Draft) {
			d.As(other)
			d.CertID = tt.CertIDs(tt.CertIDv2(unit.Cert))
			d.Certificates = [][]byte{unit.Cert.Raw, h.authority.Issuer.Cert.Raw, other.Cert.Raw}
		}, words: "another certificate than"},
		{name: "a good certificate named and identified, another signed", draft: func(d *tt.Draft) {
			d.Signer = other
			d.Certificates = [][]byte{unit.Cert.Raw, h.authority.Issuer.Cert.Raw, other.Cert.Raw}
		}, words: "does not verify"},
	}
}

// reversed turns the order of the members of a [0] round.
func reversed(member []byte) []byte {
	body, parts := member[3:], [][]byte(nil) // two bytes of length
	for len(body) > 0 {
		n := 2 + int(body[1])
		if body[1] == 0x81 {
			n = 3 + int(body[2])
		}
		parts, body = append(parts, body[:n]), body[n:]
	}
	slices.Reverse(parts)
	return tt.TLV(member[0], parts...)
}

// without leaves a signed attribute out.
func without(i int) func(*tt.Draft) {
	return func(d *tt.Draft) {
		d.ChangeAttributes = func(a [][]byte) [][]byte { return slices.Delete(a, i, i+1) }
	}
}

// attribute exchanges a signed attribute.
func attribute(i int, by []byte) func(*tt.Draft) {
	return func(d *tt.Draft) {
		d.ChangeAttributes = func(a [][]byte) [][]byte { a[i] = by; return a }
	}
}

func (h *house) certificateMutations() []mutation {
	a := h.authority
	return []mutation{
		{name: "authority of another root", draft: func(d *tt.Draft) {
			d.As(h.other.Unit)
			d.Certificates = [][]byte{h.other.Issuer.Cert.Raw, h.other.Unit.Cert.Raw, h.other.Root.Cert.Raw}
		}, words: "does not lead to"},
		{name: "signed by itself", draft: h.by(tt.Issue(nil, "itself", tt.P256Key("itself"), tt.Purpose(true, tt.TimeStamping))), words: "does not lead to"},
		{name: "issuer's certificate left out", draft: func(d *tt.Draft) { d.Certificates = d.Certificates[1:] }, words: "does not lead to"},
		{name: "signer's certificate left out", draft: func(d *tt.Draft) { d.Certificates = d.Certificates[:1] }, words: "is not there"},
		{name: "no purpose", draft: h.by(tt.Issue(a.Issuer, "no purpose", tt.P256Key("no purpose"))), words: "not for time-stamping alone"},
		{name: "purpose is another", draft: h.by(tt.Issue(a.Issuer, "code", tt.P256Key("code"), tt.Purpose(true, tt.CodeSigning))), words: "not for time-stamping alone"},
		{name: "purpose not critical", draft: h.by(tt.Issue(a.Issuer, "meek", tt.P256Key("meek"), tt.Purpose(false, tt.TimeStamping))), words: "critically"},
		{name: "two purposes", draft: h.by(tt.Issue(a.Issuer, "two", tt.P256Key("two"), tt.Purpose(true, tt.TimeStamping, tt.CodeSigning))), words: "not for time-stamping alone"},
		{name: "expired at the token's time", draft: h.by(h.unit("old", tt.Valid(tt.Start(), h.at.Add(-time.Second)))), words: "expired"},
		{name: "not yet valid at the token's time", draft: h.by(h.unit("young", tt.Valid(h.at.Add(time.Second), h.at.AddDate(1, 0, 0)))), words: "not yet valid"},
		{name: "key usage is another", draft: h.by(h.unit("usage", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })), words: "key usage"},
		{name: "the issuer itself signs", draft: func(d *tt.Draft) { d.As(a.Issuer) }, words: "not for time-stamping alone"},
		{name: "issued by a unit", draft: func(d *tt.Draft) {
			below := tt.Issue(a.Unit, "below", tt.P256Key("below"), tt.Purpose(true, tt.TimeStamping))
			d.As(below)
			d.Certificates = append(d.Certificates, below.Cert.Raw)
		}, words: "does not lead to"},
		{name: "certificate altered", draft: func(d *tt.Draft) {
			raw := bytes.Clone(a.Unit.Cert.Raw)
			raw[bytes.Index(raw, []byte("authority unit"))] ^= 0x20
			cert, err := x509.ParseCertificate(raw)
			if err != nil {
				panic(err)
			}
			h.by(&tt.Entity{Cert: cert, Key: a.Unit.Key})(d)
		}, words: "does not lead to"},
	}
}

func (h *house) formMutations() []mutation {
	return []mutation{
		{name: "truncated", raw: func(b []byte) []byte { return b[:len(b)-1] }, words: "not DER"},
		{name: "empty", raw: func([]byte) []byte { return nil }, words: "not DER"},
		{name: "not signed data", raw: replaced(tt.OID(tt.SignedData), tt.OID(tt.Data)), words: "contentType"},
		{name: "the time's bytes", raw: flippedAfter([]byte("202606011"), 0), words: "messageDigest"},
		{name: "the policy's bytes", raw: flippedAfter(tt.OID(tt.Policy)[:10], 0), words: "policy"},
		{name: "the imprint's bytes", raw: flippedAfter(h.digest[:31], 0), words: "imprint"},
		{name: "the signature's bytes", raw: func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-3] ^= 1; return b }, words: "does not verify"},
		{name: "the messageDigest's bytes", raw: flippedAfter(tt.OID(tt.MessageDigest), 10), words: "messageDigest differs"},
		{name: "the certificate identifier's bytes", raw: flippedAfter(tt.OID(tt.SigningCertV2), 14), words: "is not there"},
		{name: "the issuer's bytes in the signer's identifier", raw: flippedAfter([]byte("authority issuer"), -1), words: "time-stamp token"},
	}
}

// laxMutations are refused here and accepted by openssl; each says why.
func (h *house) laxMutations() []mutation {
	a := h.authority
	const (
		ber   = "reads BER, of which a token has many spellings"
		loose = "does not look at it"
	)
	return []mutation{
		{name: "bytes behind the end", raw: func(b []byte) []byte { return append(bytes.Clone(b), 0) }, words: "behind the end", laxer: "reads one value from its input and leaves the rest"},
		{name: "indefinite length", raw: func(b []byte) []byte {
			return slices.Concat([]byte{0x30, 0x80}, b[4:], []byte{0, 0})
		}, words: "not DER", laxer: ber},
		{name: "length longer than needed", raw: func(b []byte) []byte {
			return slices.Concat([]byte{0x30, 0x83, 0}, b[2:])
		}, words: "not DER", laxer: ber},
		{name: "content put together from parts", draft: func(d *tt.Draft) {
			d.WrapContent = func(c []byte) []byte { return tt.TLV(0x24, tt.Octets(c[:10]), tt.Octets(c[10:])) }
		}, words: "not DER", laxer: ber},
		{name: "certificate authority as signer", draft: h.by(h.unit("ca", func(c *x509.Certificate) {
			c.IsCA, c.BasicConstraintsValid = true, true
		})), words: "certification authority", laxer: loose},
		{name: "accuracy of a year", draft: func(d *tt.Draft) { d.Accuracy = tt.Sequence(tt.Int(365 * 24 * 3600)) }, words: "accuracy", laxer: loose},
		{name: "accuracy a millisecond beyond an hour", draft: func(d *tt.Draft) {
			d.Accuracy = tt.Sequence(tt.Int(3600), tt.TLV(0x80, []byte{1}))
		}, words: "expected at most 1h", laxer: loose},
		{name: "signed attributes out of order", draft: func(d *tt.Draft) {
			d.SwapAttributes = reversed
		}, words: "not in order"},
		{name: "accuracy below zero", draft: func(d *tt.Draft) { d.Accuracy = tt.Sequence(tt.Int(-1)) }, words: "accuracy", laxer: loose},
		{name: "accuracy of a thousand milliseconds", draft: func(d *tt.Draft) {
			d.Accuracy = tt.Sequence(tt.TLV(0x80, []byte{3, 0xe8}))
		}, words: "accuracy.millis", laxer: loose},
		{name: "serial number below zero", draft: func(d *tt.Draft) { d.Serial = tt.Int(-1) }, words: "serialNumber", laxer: loose},
		{name: "serial number of 161 bits", draft: func(d *tt.Draft) {
			d.Serial = tt.BigInt(new(big.Int).Lsh(big.NewInt(1), 160))
		}, words: "serialNumber", laxer: loose},
		{name: "time in the zone of its place", draft: func(d *tt.Draft) {
			d.Time = tt.TLV(0x18, []byte("20260601140000+0200"))
		}, words: "not DER", laxer: "converts it"},
		{name: "time with a zero at the end of its fraction", draft: func(d *tt.Draft) {
			d.Time = tt.TLV(0x18, []byte("20260601120000.50Z"))
		}, words: "not DER", laxer: ber},
		{name: "ordering written as FALSE", draft: func(d *tt.Draft) { d.Ordering = []byte{1, 1, 0} }, words: "ordering", laxer: ber},
		{name: "critical extension", draft: func(d *tt.Draft) {
			d.Extensions = tt.TLV(0xa1, tt.Sequence(tt.OID(tt.Policy), []byte{1, 1, 0xff}, tt.Octets(nil)))
		}, words: "critical", laxer: loose},
		{name: "signingCertificate by SHA-1 alone", draft: attribute(2, tt.Attribute(tt.SigningCert, tt.CertIDs(tt.CertIDv1(a.Unit.Cert)))), words: "SHA-1", laxer: "accepts SHA-1 here"},
		{name: "certificate identifier by SHA-1", draft: func(d *tt.Draft) {
			digest := crypto.SHA1.New()
			digest.Write(a.Unit.Cert.Raw)
			d.CertID = tt.CertIDs(tt.Sequence(tt.Algorithm(tt.SHA1, nil), tt.Octets(digest.Sum(nil))))
		}, words: "hashAlgorithm", laxer: "accepts SHA-1 here"},
		{name: "signed with SHA-1", draft: func(d *tt.Draft) {
			d.With(crypto.SHA1)
			d.Algorithm = tt.Algorithm("1.2.840.10045.4.1", nil)
		}, words: "digestAlgorithm", laxer: "accepts SHA-1 here"},
		{name: "default digest algorithm written", draft: func(d *tt.Draft) {
			digest := sha256.Sum256(a.Unit.Cert.Raw)
			d.CertID = tt.CertIDs(tt.Sequence(tt.Algorithm(tt.SHA256, nil), tt.Octets(digest[:])))
		}, words: "hashAlgorithm", laxer: ber},
		{name: "signed attribute twice", draft: func(d *tt.Draft) {
			d.ChangeAttributes = func(l [][]byte) [][]byte { return append(l, l[1]) }
		}, words: "is there twice", laxer: "takes the first"},
		{name: "unsigned attributes", draft: func(d *tt.Draft) {
			d.Unsigned = tt.TLV(0xa1, tt.Attribute(tt.Policy, tt.Null()))
		}, words: "unsignedAttrs", laxer: "leaves them aside"},
		{name: "version of the SignedData", draft: func(d *tt.Draft) { d.DataVersion = tt.Int(1) }, words: "version", laxer: loose},
		{name: "version of the SignerInfo", draft: func(d *tt.Draft) { d.SignerInfo = tt.Int(3) }, words: "version", laxer: loose},
		{name: "further digest algorithm", draft: func(d *tt.Draft) {
			d.Digests = tt.Set(tt.Algorithm(tt.SHA256, nil), tt.Algorithm(tt.SHA512, nil))
		}, words: "digestAlgorithms", laxer: loose},
		{name: "certificate twice", draft: func(d *tt.Draft) {
			d.Certificates = append(d.Certificates, a.Unit.Cert.Raw)
		}, words: "is there twice", laxer: loose},
		{name: "seventeen certificates", draft: func(d *tt.Draft) {
			for i := range 15 {
				name := fmt.Sprint("idle ", i)
				d.Certificates = append(d.Certificates, tt.Issue(nil, name, tt.P256Key(name)).Cert.Raw)
			}
		}, words: "more than 16", laxer: "has no limits"},
		{name: "longer than 64 KiB", draft: func(d *tt.Draft) {
			d.ChangeAttributes = func(l [][]byte) [][]byte { return append(l, tt.Attribute(tt.Policy, tt.Octets(make([]byte, 1<<16)))) }
		}, words: "at most 65536", laxer: "has no limits"},
		{name: "RSA key of 1024 bits", draft: h.by(tt.Issue(a.Issuer, "rsa-1024", tt.RSAKey(1024), tt.Purpose(true, tt.TimeStamping))), words: "1024 bits", laxer: "its security level 1 lets it pass"},
	}
}

// TestMutatedTokens: each mutation is refused for the reason that it is about,
// by openssl as well, or the list says why not.
func TestMutatedTokens(t *testing.T) {
	h := newHouse()
	o := newOpenSSL(t, h)
	good := h.stamp()
	if err := h.judge(good); err != nil {
		t.Fatalf("the good token: %v", err)
	}
	if out, ok := o.accepts(t, good); !ok {
		t.Fatalf("openssl refuses the good token: %s", out)
	}
	alike := 0
	for _, m := range h.mutations() {
		t.Run(m.name, func(t *testing.T) {
			raw := good
			if m.draft != nil {
				raw = h.stamp(m.draft)
			}
			if m.raw != nil {
				raw = m.raw(raw)
			}
			if err := h.judge(raw); err == nil || !strings.Contains(err.Error(), m.words) {
				t.Errorf("error %v, want %q", err, m.words)
			}
			out, accepted := o.accepts(t, raw)
			if accepted != (m.laxer != "") {
				t.Errorf("openssl accepts: %t, expected %t: %s", accepted, m.laxer != "", out)
			}
			if !accepted {
				alike++
			}
		})
	}
	if alike < 40 {
		t.Errorf("%d mutations are refused by both, expected 40 or more", alike)
	}
}
