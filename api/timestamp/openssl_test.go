package timestamp_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/timestamp"
	tt "github.com/trialog/trialog/api/timestamp/timestamptest"
)

// openssl judges tokens by its own command.
type openssl struct {
	dir, query, root string
	at               time.Time
}

func newOpenSSL(t *testing.T, h *house) *openssl {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	request, err := timestamp.NewRequest(h.digest, h.nonce, h.policy())
	if err != nil {
		t.Fatal(err)
	}
	o := &openssl{dir: t.TempDir(), at: h.at}
	o.query = o.file(t, "query", request)
	o.root = o.file(t, "root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.authority.Root.Cert.Raw}))
	return o
}

func (o *openssl) file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(o.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs openssl and returns what it writes.
func (o *openssl) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = o.dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), err
}

// accepts tells whether openssl ts -verify does.
func (o *openssl) accepts(t *testing.T, token []byte) (string, bool) {
	t.Helper()
	path := o.file(t, "token", token)
	out, err := o.run(t, "ts", "-verify", "-queryfile", o.query, "-in", path, "-token_in",
		"-CAfile", o.root, "-attime", strconv.FormatInt(o.at.Unix(), 10))
	return out, err == nil && strings.Contains(out, "Verification: OK")
}

// TestGoodTokens: what may vary in a good token, as openssl sees it too.
func TestGoodTokens(t *testing.T) {
	h := newHouse()
	o := newOpenSSL(t, h)
	a := h.authority
	keyed := func(name string, key crypto.Signer) *tt.Entity {
		return tt.Issue(a.Issuer, name, key, tt.Purpose(true, tt.TimeStamping))
	}
	long, p384 := keyed("rsa", tt.RSAKey(2048)), keyed("p384", tt.P384Key("p384"))
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		draft func(*tt.Draft)
		// strict tells that openssl 3.0 does not know it.
		strict bool
	}{
		{name: "as it is", draft: func(*tt.Draft) {}},
		{name: "P-256 with SHA-384", draft: func(d *tt.Draft) { d.With(crypto.SHA384) }},
		{name: "P-384 with SHA-512", draft: func(d *tt.Draft) { h.by(p384)(d); d.With(crypto.SHA512) }},
		{name: "RSA with SHA-256", draft: h.by(long)},
		{name: "RSA with SHA-512", draft: func(d *tt.Draft) { h.by(long)(d); d.With(crypto.SHA512) }},
		{name: "RSA as rsaEncryption", draft: func(d *tt.Draft) { h.by(long)(d); d.Algorithm = tt.Algorithm(tt.RSAWith+"1", tt.Null()) }},
		{name: "RSA-PSS", draft: withPSS(h, pssParameters(tt.SHA256, 32)), strict: true},
		{name: "Ed25519", draft: func(d *tt.Draft) { d.Digest = crypto.SHA512; h.by(keyed("ed25519", private))(d) }, strict: true},
		{name: "certificates in another order", draft: func(d *tt.Draft) { slices.Reverse(d.Certificates) }},
		{name: "the root travels along", draft: func(d *tt.Draft) { d.Certificates = append(d.Certificates, a.Root.Cert.Raw) }},
		{name: "a stranger travels along", draft: func(d *tt.Draft) { d.Certificates = append(d.Certificates, h.other.Unit.Cert.Raw) }},
		{name: "no accuracy", draft: func(d *tt.Draft) { d.Accuracy = nil }},
		{name: "accuracy in three parts", draft: func(d *tt.Draft) {
			d.Accuracy = tt.Sequence(tt.Int(1), tt.TLV(0x80, []byte{2}), tt.TLV(0x81, []byte{3}))
		}},
		{name: "ordering", draft: func(d *tt.Draft) { d.Ordering = []byte{1, 1, 0xff} }},
		{name: "the authority's name", draft: func(d *tt.Draft) { d.TSA = tt.TLV(0xa0, tt.TLV(0xa4, a.Unit.Cert.RawSubject)) }},
		{name: "an alternative name", draft: func(d *tt.Draft) {
			h.by(h.unit("alternative", func(c *x509.Certificate) { c.DNSNames = []string{"tsa.example"} }))(d)
			d.TSA = tt.TLV(0xa0, tt.TLV(0x82, []byte("tsa.example")))
		}},
		{name: "an extension that is not critical", draft: func(d *tt.Draft) {
			d.Extensions = tt.TLV(0xa1, tt.Sequence(tt.OID(tt.Policy), tt.Octets(nil)))
		}},
		{name: "imprint without parameters", draft: func(d *tt.Draft) {
			d.Imprint = tt.Sequence(tt.Algorithm(tt.SHA256, nil), tt.Octets(h.digest[:]))
		}},
		{name: "certificate identifier without issuer", draft: func(d *tt.Draft) {
			digest := sha256.Sum256(a.Unit.Cert.Raw)
			d.CertID = tt.CertIDs(tt.Sequence(tt.Octets(digest[:])))
		}},
		{name: "certificate identifier with SHA-512", draft: func(d *tt.Draft) {
			digest := crypto.SHA512.New()
			digest.Write(a.Unit.Cert.Raw)
			d.CertID = tt.CertIDs(tt.Sequence(tt.Algorithm(tt.SHA512, nil), tt.Octets(digest.Sum(nil))))
		}},
		{name: "the chain is identified", draft: func(d *tt.Draft) {
			d.CertID = tt.CertIDs(tt.CertIDv2(a.Unit.Cert), tt.CertIDv2(a.Issuer.Cert))
		}},
		{name: "signingCertificate beside signingCertificateV2", draft: func(d *tt.Draft) {
			d.ChangeAttributes = func(l [][]byte) [][]byte {
				return append(l, tt.Attribute(tt.SigningCert, tt.CertIDs(tt.CertIDv1(a.Unit.Cert))))
			}
		}},
		{name: "signing time", draft: func(d *tt.Draft) {
			d.ChangeAttributes = func(l [][]byte) [][]byte {
				return append(l, tt.Attribute(tt.SigningTime, tt.TLV(0x17, []byte("260601120000Z"))))
			}
		}},
		{name: "largest serial number", draft: func(d *tt.Draft) {
			d.Serial = tt.BigInt(new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 160), big.NewInt(1)))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := h.stamp(c.draft)
			if err := h.judge(raw); err != nil {
				t.Error(err)
			}
			if out, ok := o.accepts(t, raw); !ok && !c.strict {
				t.Errorf("openssl refuses it: %s", out)
			}
		})
	}
}

// pssKey signs by RSASSA-PSS, with a salt of the digest's length.
type pssKey struct{ crypto.Signer }

// Sign implements crypto.Signer.
func (k pssKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.Signer.Sign(random, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: opts.HashFunc()})
}

// withPSS lets an RSA unit sign by PSS and say so with these parameters.
func withPSS(h *house, params []byte) func(*tt.Draft) {
	unit := tt.Issue(h.authority.Issuer, "pss", pssKey{tt.RSAKey(2048)}, tt.Purpose(true, tt.TimeStamping))
	return func(d *tt.Draft) {
		h.by(unit)(d)
		d.Algorithm = tt.Algorithm("1.2.840.113549.1.1.10", params)
	}
}

// pssParameters is an RSASSA-PSS-params (RFC 4055, section 3.1).
func pssParameters(hash string, salt int64) []byte {
	digest := tt.Algorithm(hash, tt.Null())
	return tt.Sequence(
		tt.TLV(0xa0, digest), tt.TLV(0xa1, tt.Algorithm("1.2.840.113549.1.1.8", digest)), tt.TLV(0xa2, tt.Int(salt)),
	)
}

// TestPSSParameters: the parameters are those of the digest, or it is refused.
func TestPSSParameters(t *testing.T) {
	h := newHouse()
	for name, params := range map[string][]byte{
		"left out":       nil,
		"null":           tt.Null(),
		"default, SHA-1": tt.Sequence(),
		"other digest":   pssParameters(tt.SHA512, 32),
		"other salt":     pssParameters(tt.SHA256, 20),
	} {
		if err := h.judge(h.stamp(withPSS(h, params))); err == nil || !strings.Contains(err.Error(), "not accepted for an RSA key") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := h.judge(h.stamp(withPSS(h, pssParameters(tt.SHA256, 32)), func(d *tt.Draft) {
		d.ChangeSignature = func(s []byte) []byte { s[9] ^= 1; return s }
	})); err == nil || !strings.Contains(err.Error(), "does not verify") {
		t.Errorf("altered: %v", err)
	}
}

// TestForeignToken: openssl as the authority, from our request to a verdict.
func TestForeignToken(t *testing.T) {
	h := newHouse()
	o := newOpenSSL(t, h)
	key, err := x509.MarshalPKCS8PrivateKey(tt.ECDSA(h.authority.Unit.Key))
	if err != nil {
		t.Fatal(err)
	}
	certificate := func(c *x509.Certificate) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	o.file(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	o.file(t, "unit.pem", certificate(h.authority.Unit.Cert))
	o.file(t, "chain.pem", certificate(h.authority.Issuer.Cert))
	o.file(t, "serial", []byte("1000"))
	config := `[tsa]
default_tsa = authority
[authority]
serial = serial
signer_cert = unit.pem
certs = chain.pem
signer_key = key.pem
signer_digest = sha256
default_policy = ` + tt.Policy + `
other_policies = ` + tt.Policy + `.2
digests = sha256
accuracy = secs:1, millisecs:500, microsecs:100
ordering = yes
tsa_name = yes
ess_cert_id_chain = CHAIN
ess_cert_id_alg = sha256
`
	for _, chain := range []string{"no", "yes"} {
		o.file(t, "conf", []byte(strings.Replace(config, "CHAIN", chain, 1)))
		if out, err := o.run(t, "ts", "-reply", "-config", "conf", "-queryfile", o.query, "-out", "reply"); err != nil {
			t.Fatalf("openssl ts -reply: %s", out)
		}
		reply, err := os.ReadFile(filepath.Join(o.dir, "reply"))
		if err != nil {
			t.Fatal(err)
		}
		token, err := timestamp.ParseResponse(reply)
		if err != nil {
			t.Fatalf("openssl's response: %v", err)
		}
		for name, anchor := range map[string]*tt.Entity{"unit": h.authority.Unit, "issuer": h.authority.Issuer, "root": h.authority.Root} {
			if err := token.Verify(anchor.Cert, h.expect()); err != nil {
				t.Errorf("chain %s, anchor %s: %v", chain, name, err)
			}
		}
		want := 1500*time.Millisecond + 100*time.Microsecond
		if token.Accuracy != want || !token.Ordering || token.Nonce.Cmp(h.nonce) != 0 || len(token.Certificates) != 2 ||
			!bytes.HasSuffix(reply, token.Raw) {
			t.Errorf("token %+v", token)
		}
	}
	// And what it does not grant.
	other, err := timestamp.NewRequest(h.digest, h.nonce, asn1.ObjectIdentifier{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	o.file(t, "other", other)
	o.run(t, "ts", "-reply", "-config", "conf", "-queryfile", "other", "-out", "refusal")
	refusal, err := os.ReadFile(filepath.Join(o.dir, "refusal"))
	if err != nil {
		t.Fatal(err)
	}
	var status *timestamp.StatusError
	if _, err := timestamp.ParseResponse(refusal); !errors.As(err, &status) || status.Failure != timestamp.UnacceptedPolicy || status.Text == "" {
		t.Errorf("openssl's refusal is read as %v", err)
	}
}
