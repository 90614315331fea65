//go:build pkcs11 && cgo

package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/config"
)

// hsmProgram is trialogd, and its tools, with a folder of tokens of their own.
type hsmProgram struct {
	t   *testing.T
	dir string
	env []string
}

const hsmPIN = "4711-canary"

func newHSMProgram(t *testing.T) hsmProgram {
	t.Helper()
	if _, err := exec.LookPath("softhsm2-util"); err != nil {
		t.Skip("SoftHSM is not installed: install the package softhsm2")
	}
	p := hsmProgram{t: t, dir: t.TempDir()}
	p.env = append(os.Environ(), "SOFTHSM2_CONF="+p.path("softhsm2.conf"))
	p.write("softhsm2.conf", "directories.tokendir = "+p.path("tokens")+"\nobjectstore.backend = file\nlog.level = ERROR\n")
	p.write("pin", hsmPIN+"\n")
	if err := os.Mkdir(p.path("tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	// The test binary is trialogd when it is called so: see TestMain.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, p.path("trialogd")); err != nil {
		t.Fatal(err)
	}
	p.run("softhsm2-util", "--init-token", "--free", "--label", "trialog", "--pin", hsmPIN, "--so-pin", "0815-canary")
	return p
}

func (p hsmProgram) path(name string) string { return filepath.Join(p.dir, name) }

func (p hsmProgram) write(name, content string) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p hsmProgram) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(p.t.Context(), name, args...)
	cmd.Env = p.env
	return cmd
}

// run runs a program to its end and returns what it wrote to its standard output.
func (p hsmProgram) run(name string, args ...string) string {
	p.t.Helper()
	var out, problems bytes.Buffer
	cmd := p.command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		p.t.Fatalf("%s: %v\n%s%s", name, err, &out, &problems)
	}
	return out.String()
}

// importKey puts a key into the token and returns its reference.
func (p hsmProgram) importKey(label string, id int, private ed25519.PrivateKey) string {
	p.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(label, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	p.run("softhsm2-util", "--import", p.path(label), "--token", "trialog", "--label", label, "--id", fmt.Sprintf("%02x", id), "--pin", hsmPIN)
	if err := os.Remove(p.path(label)); err != nil {
		p.t.Fatal(err)
	}
	for _, pattern := range []string{"/usr/lib*/softhsm/libsofthsm2.so", "/usr/*/*/softhsm/libsofthsm2.so"} {
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			return "pkcs11:token=trialog;object=" + label + "?module-path=" + found[0] + "&pin-source=file:" + p.path("pin")
		}
	}
	p.t.Fatal("softhsm2-util is there, its library is not")
	return ""
}

// TestWitnessWithToken: a witness whose key is in a token cosigns a checkpoint of a
// log whose key is in another file of the same kind; neither PIN nor key shows in
// what the programs write.
func TestWitnessWithToken(t *testing.T) {
	const origin, name = "log.test/t/2026", "wit.test/hsm"
	p := newHSMProgram(t)
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x5a, 0xc3}, 16))
	ref := p.importKey("witness", 1, private)
	reference := p.run(p.path("trialogd"), "key", "--witness", "--name", name, ref)
	vkey, rest, _ := strings.Cut(reference, "\n")
	if rest != ref+"\n" {
		t.Fatalf("the reference file says %q", reference)
	}
	verifier, err := checkpoint.ParseVerifierKey(vkey)
	if err != nil || verifier.Algorithm() != checkpoint.AlgEd25519Cosignature || !bytes.Equal(verifier.PublicKey(), private.Public().(ed25519.PublicKey)) {
		t.Fatalf("%s: %v", vkey, err)
	}
	p.write("witness.ref", reference)

	// The log's key is in the token, too, and used as a log uses it.
	logRef := p.importKey("log", 2, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x17}, 32)))
	p.write(strings.TrimSuffix(logKeyEd25519, ".key")+".ref", p.run(p.path("trialogd"), "key", "--name", origin, logRef))
	t.Setenv("SOFTHSM2_CONF", p.path("softhsm2.conf"))
	logKey, err := readLogKey(p.path(logKeyEd25519))
	if err != nil {
		t.Fatal(err)
	}
	head := checkpoint.Checkpoint{Origin: origin, Size: 3, Root: checkpoint.Hash{7}}
	note, err := checkpoint.SignLog(head, 1, logKey)
	if err != nil {
		t.Fatal(err)
	}

	for _, key := range []string{"witness.ref", ref} {
		raw, err := json.Marshal(config.Witness{
			Listen: "127.0.0.1:0", Name: name, KeyFiles: []string{key}, StateFile: fmt.Sprintf("state-%d", len(key)),
			Logs: []config.WitnessLog{{Origin: origin, Keys: []string{logKey.Verifier().String()}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		p.write("witness.json", string(raw))
		written := p.witness(func(url string) { p.cosign(url, note, verifier) })
		for _, secret := range []string{hsmPIN, "5ac35ac3", hex.EncodeToString(private.Seed()), base64.StdEncoding.EncodeToString(private.Seed())} {
			if strings.Contains(written, secret) {
				t.Errorf("the witness writes %q:\n%s", secret, written)
			}
		}
	}
	// A token that has another key under the name does not get to cosign.
	p.run("softhsm2-util", "--delete-token", "--token", "trialog")
	p.run("softhsm2-util", "--init-token", "--free", "--label", "trialog", "--pin", hsmPIN, "--so-pin", "0815-canary")
	p.importKey("witness", 1, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32)))
	p.write("witness.json", strings.Replace(p.read("witness.json"), jsonText(t, ref), `"witness.ref"`, 1))
	out, err := p.command(p.path("trialogd"), "witness", "--config", p.path("witness.json")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another key is there") {
		t.Errorf("another key: %v\n%s", err, out)
	}
}

func jsonText(t *testing.T, text string) string {
	t.Helper()
	raw, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func (p hsmProgram) read(name string) string {
	p.t.Helper()
	raw, err := os.ReadFile(p.path(name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(raw)
}

// witness runs a witness while use has its address, and returns what it wrote.
func (p hsmProgram) witness(use func(url string)) string {
	p.t.Helper()
	cmd := p.command(p.path("trialogd"), "witness", "--end-with-stdin", "--log-level", "debug", "--config", p.path("witness.json"))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	output, err := cmd.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	var written strings.Builder
	lines, used := bufio.NewScanner(output), false
	for lines.Scan() {
		written.WriteString(lines.Text() + "\n")
		if _, after, found := strings.Cut(lines.Text(), "address="); found && !used {
			used = true
			use("http://" + strings.Fields(after)[0])
			if err := stdin.Close(); err != nil {
				p.t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || !used {
		p.t.Fatalf("the witness ended with %v\n%s", err, &written)
	}
	return written.String()
}

// cosign asks a witness that knows nothing yet for a cosignature.
func (p hsmProgram) cosign(url string, note *checkpoint.Note, verifier *checkpoint.VerifierKey) {
	p.t.Helper()
	body := io.MultiReader(strings.NewReader("old 0\n\n"), bytes.NewReader(note.Bytes()))
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, url+"/add-checkpoint", body)
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Error(err)
		return
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		p.t.Errorf("status %d, %s, %v", response.StatusCode, raw, err)
		return
	}
	signatures, err := checkpoint.ParseSignatureLines(raw)
	if err != nil || len(signatures) != 1 {
		p.t.Errorf("%q: %v", raw, err)
		return
	}
	if at, err := verifier.VerifyCheckpoint(note, signatures[0]); err != nil || at == 0 {
		p.t.Errorf("cosigned at %d, %v", at, err)
	}
}
