package harness

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/timestamp"
)

// Authority is a "trialogd timestamp" with its folder.
type Authority struct {
	Dir string
	URL string

	process

	program string
	under   []string // a program, and its arguments, that runs this one
}

// NewAuthority makes an authority that compares its clock with the sources, three
// or more; Start starts it.
func NewAuthority(t testing.TB, sources ...string) *Authority {
	t.Helper()
	address := freeAddress(t)
	a := &Authority{
		Dir: filepath.Join(t.TempDir(), "tsa"), URL: "http://" + address, process: newProcess(t, "trialogd timestamp"), program: Trialogd(t),
	}
	cmd := exec.CommandContext(t.Context(), a.program, "timestamp", "init", "--dir", a.Dir,
		"--listen", address, "--clock-source", strings.Join(sources, ","))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("timestamp init: %v\n%s", err, out)
	}
	return a
}

// ShiftClock runs the authority with a clock that the test sets. Such a process
// can be killed, not stopped.
func (a *Authority) ShiftClock() *Clock {
	a.t.Helper()
	var c *Clock
	c, a.under = newClock(a.t)
	return c
}

// Start starts the authority and waits until it listens.
func (a *Authority) Start() {
	a.t.Helper()
	a.launch(slices.Concat(a.under, []string{a.program, "timestamp", "--config", filepath.Join(a.Dir, "timestamp.json")}), nil)
	a.awaitListening(strings.TrimPrefix(a.URL, "http://"))
}

// Root is the certificate that verifiers are given.
func (a *Authority) Root() *x509.Certificate {
	a.t.Helper()
	rest, err := os.ReadFile(filepath.Join(a.Dir, "tsu-chain.pem"))
	if err != nil {
		a.t.Fatal(err)
	}
	var last *x509.Certificate
	for block, rest := pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		if last, err = x509.ParseCertificate(block.Bytes); err != nil {
			a.t.Fatal(err)
		}
	}
	return last
}

// RootFile is a file with the certificate that verifiers are given, and no other.
func (a *Authority) RootFile() string {
	a.t.Helper()
	path := filepath.Join(a.Dir, "root.pem")
	content := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Root().Raw})
	if err := os.WriteFile(path, content, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// Ask asks for a token over a digest and verifies it. The error is a
// *timestamp.StatusError if the authority refuses.
func (a *Authority) Ask(ctx context.Context, digest [32]byte) (*timestamp.Token, error) {
	const nonceBits = 64
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), nonceBits))
	if err != nil {
		return nil, err
	}
	query, err := timestamp.NewRequest(digest, nonce, nil)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL, bytes.NewReader(query))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/timestamp-query")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	token, err := timestamp.ParseResponse(body)
	if err != nil {
		return nil, fmt.Errorf("status %d: %w", resp.StatusCode, err)
	}
	err = token.Verify(a.Root(), timestamp.Expect{Digest: digest, Nonce: nonce})
	return token, err
}
