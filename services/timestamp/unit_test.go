package timestamp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/services/internal/clock"
)

// certificate makes a certificate of a key, changed in one place.
func certificate(t *testing.T, public crypto.PublicKey, change func(*x509.Certificate)) []byte {
	t.Helper()
	usage, err := timeStampingOnly()
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "TSU"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(4e9, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{usage},
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, public, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestCertificateRefused: a certificate that verifiers would refuse is refused
// before a token is made with it.
func TestCertificateRefused(t *testing.T) {
	key := newKey(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	usages := func(critical bool, purposes ...asn1.ObjectIdentifier) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			value, err := asn1.Marshal(purposes)
			if err != nil {
				t.Fatal(err)
			}
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: critical, Value: value}}
		}
	}
	stamping, signing := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}
	for name, tt := range map[string]struct {
		key    crypto.Signer
		change func(*x509.Certificate)
		ok     bool
	}{
		"good":             {key, func(*x509.Certificate) {}, true},
		"no key usage":     {key, func(c *x509.Certificate) { c.KeyUsage = 0 }, true},
		"non-repudiation":  {key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment }, true},
		"both":             {key, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageContentCommitment }, true},
		"signs others too": {key, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, false},
		"encrypts only":    {key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, false},
		"not critical":     {key, usages(false, stamping), false},
		"signs code too":   {key, usages(true, stamping, signing), false},
		"signs code":       {key, usages(true, signing), false},
		"unknown too":      {key, usages(true, stamping, asn1.ObjectIdentifier{1, 2, 3}), false},
		"no purpose":       {key, func(c *x509.Certificate) { c.ExtraExtensions = nil }, false},
		"P-384":            {p384, func(*x509.Certificate) {}, false},
		"an authority's":   {key, func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = true, true }, false},
		"never valid":      {key, func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(-time.Hour) }, false},
	} {
		if _, err := newUnit(tt.key, certificate(t, tt.key.Public(), tt.change)); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChainRefused(t *testing.T) {
	key := newKey(t)
	chain, ca, err := Certify("TSU", key.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(chain[1:], []byte("-----BEGIN")) + 1
	own, root := chain[:at], chain[at:]
	for name, tt := range map[string]struct {
		chain []byte
		ok    bool
	}{
		"whole":            {chain, true},
		"without the root": {own, true},
		"spaced":           {append(append([]byte("\n"), own...), append([]byte("\n\n"), root...)...), true},
		"the wrong way":    {append(bytes.Clone(root), own...), false},
		"the root alone":   {root, false},
		"root twice":       {append(bytes.Clone(chain), own...), false},
		"a key in it":      {append(bytes.Clone(chain), ca...), false},
		"a text behind":    {append(bytes.Clone(chain), "more"...), false},
		"empty":            {nil, false},
		"broken":           {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0}}), false},
	} {
		if _, err := newUnit(key, tt.chain); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestIssuerRefused: what is wrong with an issuer's certificate shows at the start,
// and not with those who verify tokens.
func TestIssuerRefused(t *testing.T) {
	key := newKey(t)
	usage, err := timeStampingOnly()
	if err != nil {
		t.Fatal(err)
	}
	from, until := time.Unix(1e9, 0), time.Unix(2e9, 0)
	for name, tt := range map[string]struct {
		curve  elliptic.Curve
		change func(*x509.Certificate)
		ok     bool
	}{
		"good":                {elliptic.P256(), func(*x509.Certificate) {}, true},
		"ends earlier":        {elliptic.P256(), func(c *x509.Certificate) { c.NotAfter = until.Add(-time.Hour) }, true},
		"ends before it":      {elliptic.P256(), func(c *x509.Certificate) { c.NotAfter = from.Add(-time.Hour) }, false},
		"begins behind it":    {elliptic.P256(), func(c *x509.Certificate) { c.NotBefore = until.Add(time.Hour) }, false},
		"for servers only":    {elliptic.P256(), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, false},
		"on an unknown curve": {elliptic.P521(), func(*x509.Certificate) {}, false},
	} {
		caKey, err := ecdsa.GenerateKey(tt.curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		ca := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: from.Add(-time.Hour), NotAfter: until.Add(time.Hour),
			KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
		}
		tt.change(ca)
		root, rootErr := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
		own, ownErr := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "TSU"}, NotBefore: from, NotAfter: until,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{usage},
		}, ca, key.Public(), caKey)
		if err := errors.Join(rootErr, ownErr); err != nil {
			t.Fatal(err)
		}
		var chain []byte
		for _, der := range [][]byte{own, root} {
			chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		u, err := newUnit(key, chain)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if end := min(ca.NotAfter.Unix(), until.Unix()); tt.ok &&
			(!u.covers(time.Unix(end-1, 0), time.Second) || u.covers(time.Unix(end, 0), time.Second)) {
			t.Errorf("%s: expected tokens until %d, when the first certificate ends", name, end)
		}
	}
}

func TestNames(t *testing.T) {
	key := newKey(t)
	for name, ok := range map[string]bool{"": false, "T": true, strings.Repeat("x", 59): true, strings.Repeat("x", 60): false} {
		_, _, err := Certify(name, key.Public(), time.Now())
		_, requestErr := CertificateRequest(name, key)
		if (err == nil) != ok || (requestErr == nil) != ok {
			t.Errorf("%q: %v, %v", name, err, requestErr)
		}
	}
}

// TestWatch: the operator is told when the authority stops and when it goes on,
// once each.
func TestWatch(t *testing.T) {
	var lines bytes.Buffer
	looks := 0
	var w *world
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w = newWorld(t, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&lines, nil))
		c.Pause = func(context.Context, time.Duration) error {
			looks++
			switch looks {
			case 2:
				w.clock.set(func() { w.clock.err = clock.ErrUnverified })
			case 4:
				w.clock.set(func() { w.clock.err = nil })
			case 6:
				cancel()
			}
			return ctx.Err()
		}
	})
	if err := w.Run(ctx); err != nil {
		t.Error(err)
	}
	if n := strings.Count(lines.String(), `msg="tokens are issued"`); n != 2 {
		t.Errorf("told %d times that it issues:\n%s", n, &lines)
	}
	if n := strings.Count(lines.String(), `msg="no tokens are issued"`); n != 1 || !strings.Contains(lines.String(), clock.ErrUnverified.Error()) {
		t.Errorf("told %d times that it does not:\n%s", n, &lines)
	}
}

// TestRunEnds: Run ends in order with its context, journal and all.
func TestRunEnds(t *testing.T) {
	l := newLogged(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
}

// TestRunEndsWithState: when a write of the journal fails the process is to end.
func TestRunEndsWithState(t *testing.T) {
	l := newLogged(t)
	l.issue(1)
	l.clock.pass(time.Hour)
	cause := errors.New("the disk is gone")
	l.state.Hook = func(string) error { return cause }
	if err := l.Run(t.Context()); !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}
