package main

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/trustbundle"
	"github.com/trialog/trialog/api/verify"
)

func TestIssueTrust(t *testing.T) {
	l, _ := newData(t)
	now := time.Now()
	b, err := l.issueTrust(now, time.Hour, "")
	must(t, err)
	policy, err := readPolicy(l)
	must(t, err)
	if b.Content().Version != 1 || b.Policy().Fingerprint() != policy.Fingerprint() || b.LogList() == nil || b.Keyring() != nil {
		t.Errorf("the first bundle is %+v", b.Content())
	}
	// An auditor is named, and hands a keyring in.
	auditor, err := statement.GenerateKey(rand.Reader)
	must(t, err)
	d := drafted(t, l)
	d.trust["auditors"] = []string{spki(auditor.Public())}
	must(t, d.set(t, l))
	ring := &verify.Keyring{Log: "trialog.localhost/demo", Origin: "trialog.localhost/demo/1", Size: 2}
	raw, err := statement.SignDSSE(verify.KeyringPayloadType, ring.Encode(), auditor)
	must(t, err)
	file := filepath.Join(t.TempDir(), "keyring")
	must(t, os.WriteFile(file, raw, 0o600))
	second, err := l.issueTrust(now.Add(time.Minute), time.Hour, file)
	must(t, err)
	third, err := l.issueTrust(now.Add(2*time.Minute), time.Hour, "")
	must(t, err)
	if !bytes.Equal(third.Keyring(), raw) {
		t.Error("the keyring was not taken over")
	}
	if got, err := trustbundle.Update(b, now.Add(3*time.Minute), second, third); err != nil || got != third {
		t.Errorf("the versions do not follow: %v", err)
	}
	if _, err := l.issueTrust(now.Add(-time.Hour), time.Hour, ""); err == nil {
		t.Error("a bundle is issued before the last one")
	}
	must(t, os.Remove(l.key(trustKey)))
	if _, err := l.issueTrust(now.Add(time.Hour), time.Hour, ""); err == nil || !strings.Contains(err.Error(), "signatures") {
		t.Errorf("with another trust key: %v", err)
	}
	if newest, err := l.newestBundle(); err != nil || newest != 3 {
		t.Errorf("the newest is %d: %v", newest, err)
	}
}

func TestServeTrust(t *testing.T) {
	l, _ := newData(t)
	list, err := openListing(l, time.Now)
	must(t, err)
	get := func(path string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		newMux(nil, nil, nil, list).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		return rec
	}
	if rec := get("/v1/trust"); rec.Code != 503 || rec.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("before there is one: %d", rec.Code)
	}
	first, err := l.issueTrust(time.Now(), time.Hour, "")
	must(t, err)
	second, err := l.issueTrust(time.Now(), time.Hour, "")
	must(t, err)
	for path, want := range map[string]*trustbundle.Bundle{"/v1/trust": second, "/v1/trust/1": first, "/v1/trust/2": second} {
		rec := get(path)
		b, err := trustbundle.Parse(rec.Body.Bytes())
		if rec.Code != 200 || err != nil || b.Fingerprint() != want.Fingerprint() {
			t.Errorf("%s: %d, %v", path, rec.Code, err)
		}
	}
	if rec := get("/v1/trust/3"); rec.Code != 404 {
		t.Errorf("a version that there is not: %d", rec.Code)
	}
	for _, path := range []string{"/v1/trusts", "/v1/trust/", "/v1/trust/0", "/v1/trust/01", "/v1/trust/+1", "/v1/trust/1/2", "/v1/trust/%31"} {
		if isTrust(path) {
			t.Errorf("%s is taken for a trust bundle", path)
		}
	}
}
