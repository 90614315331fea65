package timestamp

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	api "github.com/trialog/trialog/api/timestamp"
)

// desk is a folder in which openssl works, with an authority behind HTTP.
type desk struct {
	*world

	dir, url string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	w := newWorld(t)
	server := httptest.NewServer(w.Handler())
	t.Cleanup(server.Close)
	d := &desk{world: w, dir: t.TempDir(), url: server.URL}
	status, _, chain := d.call(http.MethodGet, "/certchain", "", nil)
	if status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	parts := strings.SplitAfter(string(chain), "-----END CERTIFICATE-----\n")
	d.write("unit.pem", []byte(parts[0]))
	d.write("root.pem", []byte(parts[1]))
	d.write("text", []byte("what is stamped"))
	return d
}

func (d *desk) path(name string) string { return filepath.Join(d.dir, name) }

func (d *desk) write(name string, data []byte) {
	d.t.Helper()
	if err := os.WriteFile(d.path(name), data, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) read(name string) []byte {
	d.t.Helper()
	raw, err := os.ReadFile(d.path(name))
	if err != nil {
		d.t.Fatal(err)
	}
	return raw
}

// openssl runs a command in the folder.
func (d *desk) openssl(args ...string) (string, error) {
	cmd := exec.Command("openssl", args...)
	cmd.Dir = d.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (d *desk) mustOpenSSL(args ...string) string {
	d.t.Helper()
	out, err := d.openssl(args...)
	if err != nil {
		d.t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (d *desk) call(method, path, contentType string, body []byte) (status int, header http.Header, answer []byte) {
	d.t.Helper()
	return call(d.t, method, d.url+path, contentType, body)
}

// verify has openssl verify the reply in a file. Its clock is told: the test's
// certificates are of the test's time.
func (d *desk) verify(name string) (string, error) {
	return d.openssl("ts", "-verify", "-in", name, "-queryfile", "query", "-CAfile", "root.pem", "-untrusted", "unit.pem",
		"-attime", "1772359200")
}

// TestOpenSSL: what openssl asks in its several ways is answered so that openssl
// and we accept it.
func TestOpenSSL(t *testing.T) {
	d := newDesk(t)
	for _, args := range [][]string{
		{"-sha256", "-cert"},
		{"-sha256"},
		{"-sha384", "-cert"},
		{"-sha512", "-cert"},
		{"-sha256", "-cert", "-no_nonce"},
		{"-sha512", "-no_nonce"},
		{"-sha256", "-cert", "-tspolicy", policyOID.String()},
	} {
		d.mustOpenSSL(append([]string{"ts", "-query", "-data", "text", "-out", "query"}, args...)...)
		status, header, reply := d.call(http.MethodPost, "/", typeQuery, d.read("query"))
		if status != http.StatusOK || header.Get("Content-Type") != typeReply {
			t.Fatalf("%v: status %d, %s", args, status, header.Get("Content-Type"))
		}
		d.write("reply", reply)
		if out, err := d.verify("reply"); err != nil || !strings.Contains(out, "Verification: OK") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
		token, err := api.ParseResponse(reply)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		if withCert := strings.Contains(strings.Join(args, " "), "-cert"); (len(token.Certificates) > 0) != withCert {
			t.Errorf("%v: %d certificates", args, len(token.Certificates))
		}
		if (token.Nonce == nil) != strings.Contains(strings.Join(args, " "), "-no_nonce") {
			t.Errorf("%v: nonce %v", args, token.Nonce)
		}
	}
}

// TestOpenSSLRefusesAltered: a reply with any bit changed is refused by openssl,
// and by our own verifier whenever openssl does.
func TestOpenSSLRefusesAltered(t *testing.T) {
	d := newDesk(t)
	d.mustOpenSSL("ts", "-query", "-data", "text", "-sha256", "-cert", "-out", "query")
	_, _, reply := d.call(http.MethodPost, "/", typeQuery, d.read("query"))
	query, err := api.ParseRequest(d.read("query"))
	if err != nil {
		t.Fatal(err)
	}
	ours := func(raw []byte) error {
		token, err := api.ParseResponse(raw)
		if err != nil {
			return err
		}
		return token.Verify(d.anchor, api.Expect{Digest: [32]byte(query.Digest), Nonce: query.Nonce})
	}
	if err := ours(reply); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 161))
	const altered = 40
	for range altered {
		at, bit := rng.IntN(len(reply)), byte(1)<<rng.IntN(8)
		bad := bytes.Clone(reply)
		bad[at] ^= bit
		d.write("altered", bad)
		out, err := d.verify("altered")
		if err == nil {
			// openssl does not look at all bytes: those of certificates that it does
			// not need are bound by nothing. We may be stricter, never laxer.
			t.Logf("openssl accepts byte %d of %d altered by %#02x: %s", at, len(reply), bit, out)
			continue
		}
		if ours(bad) == nil {
			t.Errorf("openssl refuses byte %d altered by %#02x, we do not", at, bit)
		}
	}
}

// TestOpenSSLWeakDigests: a request over SHA-1 or MD5 is refused in a way that
// openssl understands.
func TestOpenSSLWeakDigests(t *testing.T) {
	d := newDesk(t)
	for _, digest := range []string{"-sha1", "-md5"} {
		d.mustOpenSSL("ts", "-query", "-data", "text", digest, "-cert", "-out", "query")
		status, _, reply := d.call(http.MethodPost, "/", typeQuery, d.read("query"))
		d.write("reply", reply)
		out := d.mustOpenSSL("ts", "-reply", "-in", "reply", "-text")
		if status != http.StatusOK || !strings.Contains(out, "Status: Rejected.") ||
			!strings.Contains(out, "Failure info: unrecognized or unsupported algorithm identifier") {
			t.Errorf("%s: status %d\n%s", digest, status, out)
		}
	}
}

// TestSignedAttributes: openssl's own parser sees the attributes that RFC 3161 and
// RFC 5816 want, and no others.
func TestSignedAttributes(t *testing.T) {
	d := newDesk(t)
	d.mustOpenSSL("ts", "-query", "-data", "text", "-sha256", "-cert", "-out", "query")
	_, _, reply := d.call(http.MethodPost, "/", typeQuery, d.read("query"))
	d.write("reply", reply)
	d.mustOpenSSL("ts", "-reply", "-in", "reply", "-token_out", "-out", "token")
	out := d.mustOpenSSL("cms", "-cmsout", "-print", "-inform", "DER", "-in", "token")
	for _, want := range []string{
		"id-smime-ct-TSTInfo", "id-smime-aa-signingCertificateV2", "messageDigest", "contentType", "ecdsa-with-SHA256",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	if strings.Contains(out, "signingTime") {
		t.Error("there is a second time")
	}
	if out := d.mustOpenSSL("asn1parse", "-inform", "DER", "-in", "token"); strings.Contains(strings.ToLower(out), "error") {
		t.Error(out)
	}
	// certReq was set: the certificates are those of the chain.
	if out := d.mustOpenSSL("pkcs7", "-inform", "DER", "-in", "token", "-print_certs", "-noout"); strings.Count(out, "subject=") != 2 {
		t.Error(out)
	}
}

// TestCertificate: openssl reads certificate and request as we mean them.
func TestCertificate(t *testing.T) {
	d := newDesk(t)
	out := d.mustOpenSSL("x509", "-in", "unit.pem", "-noout", "-text")
	for _, want := range []string{"X509v3 Extended Key Usage: critical", "Time Stamping", "NIST CURVE: P-256"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	d.mustOpenSSL("verify", "-CAfile", "root.pem", "-purpose", "timestampsign", "-attime", "1772359200", "unit.pem")
	request, err := CertificateRequest("Another TSU", d.config.Key)
	if err != nil {
		t.Fatal(err)
	}
	d.write("request", request)
	out = d.mustOpenSSL("req", "-in", "request", "-noout", "-text", "-verify")
	for _, want := range []string{"X509v3 Extended Key Usage: critical", "Time Stamping", "CN = Another TSU"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}
