package main

import (
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/timestamp/timestamptest"
	"github.com/trialog/trialog/services/config"
)

func TestOpenAnchors(t *testing.T) {
	dir := t.TempDir()
	certificate := timestamptest.New("one").Root.Cert
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	for name, content := range map[string][]byte{
		"good.pem": block, "two.pem": append(bytes.Clone(block), block...), "none.pem": []byte("x"),
		"key.pem":    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: certificate.Raw}),
		"broken.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw[1:]}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, err := checkpoint.GenerateKey(bytes.NewReader(make([]byte, 32)), "w.test", checkpoint.AlgEd25519Cosignature)
	if err != nil {
		t.Fatal(err)
	}
	other, err := checkpoint.GenerateKey(bytes.NewReader(make([]byte, 32)), "w2.test", checkpoint.AlgEd25519Cosignature)
	if err != nil {
		t.Fatal(err)
	}
	good := func() *config.Anchors {
		return &config.Anchors{
			Witnesses:   []config.AnchorWitness{{Name: "w", Keys: []string{key.Verifier().String()}, URL: "http://w.test"}},
			Authorities: []config.AnchorAuthority{{Name: "t", URL: "http://t.test", Certificate: "good.pem", Policy: "1.2.3"}},
		}
	}
	a, err := openAnchors(good().Under(dir))
	if err != nil {
		t.Fatal(err)
	}
	if a.interval != time.Minute || !a.holds(key.Verifier()) || a.holds(other.Verifier()) {
		t.Errorf("%+v", a)
	}
	served := a.served()
	if served.Interval != time.Minute || len(served.Authorities) != 1 || !served.Authorities[0].Certificate.Equal(certificate) ||
		served.Authorities[0].Policy.String() != "1.2.3" || served.Authorities[0].Name != "t" {
		t.Errorf("the proofs are told %+v", served)
	}
	for name, change := range map[string]func(*config.Anchors){
		"no such file": func(c *config.Anchors) { c.Authorities[0].Certificate = "absent.pem" },
		"two":          func(c *config.Anchors) { c.Authorities[0].Certificate = "two.pem" },
		"none":         func(c *config.Anchors) { c.Authorities[0].Certificate = "none.pem" },
		"a key":        func(c *config.Anchors) { c.Authorities[0].Certificate = "key.pem" },
		"broken":       func(c *config.Anchors) { c.Authorities[0].Certificate = "broken.pem" },
		"bad OID":      func(c *config.Anchors) { c.Authorities[0].Policy = "1.x" },
		"bad key":      func(c *config.Anchors) { c.Witnesses[0].Keys[0] = "a+b+c" },
	} {
		c := good()
		change(c)
		if a, err := openAnchors(c.Under(dir)); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
	none, err := openAnchors(nil)
	if err != nil || none != nil || none.holds(key.Verifier()) || none.served() != nil {
		t.Errorf("without any: %+v, %v", none, err)
	}
}
