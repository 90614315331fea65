//go:build pkcs11 && cgo

package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"
)

// The tests run against SoftHSM, which takes the folder of its tokens from the
// environment. So that nothing is ever done to the tokens of who runs them, the
// test binary starts itself with a folder of its own.
func TestMain(m *testing.M) {
	if os.Getenv("TRIALOG_TEST_TOKENS") != "" {
		os.Exit(m.Run()) //nolint:forbidigo // as a main does
	}
	os.Exit(runInOwnFolder()) //nolint:forbidigo // as a main does
}

func runInOwnFolder() int {
	dir, err := os.MkdirTemp("", "softhsm")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	conf := filepath.Join(dir, "softhsm2.conf")
	tokens := filepath.Join(dir, "tokens")
	text := "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nlog.level = ERROR\n"
	if err := errors.Join(os.Mkdir(tokens, 0o700), os.WriteFile(conf, []byte(text), 0o600)); err != nil {
		panic(err)
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+conf, "TRIALOG_TEST_TOKENS="+tokens)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		panic(err)
	}
	return cmd.ProcessState.ExitCode()
}

const (
	testUserPIN = "4711-canary"
	testSOPIN   = "0815-canary"
)

// softHSM returns the library.
func softHSM(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib*/softhsm/libsofthsm2.so")
	more, moreErr := filepath.Glob("/usr/*/*/softhsm/libsofthsm2.so")
	if errors.Join(err, moreErr) != nil {
		t.Fatal(err, moreErr)
	}
	if found = append(found, more...); len(found) == 0 {
		t.Skip("SoftHSM is not installed: install the package softhsm2")
	}
	return found[0]
}

// hsm is a token of a test, in the hands of who set it up.
type hsm struct {
	t      *testing.T
	module *module
	label  string
	pin    string // the file
	slot   uint
}

func newToken(t *testing.T, label string) *hsm {
	t.Helper()
	m, err := load(softHSM(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.release(); err != nil {
			t.Error(err)
		}
	})
	h := &hsm{t: t, module: m, label: label, pin: filepath.Join(t.TempDir(), "pin")}
	h.writePIN(testUserPIN + "\n")
	slots, err := m.ctx.GetSlotList(true)
	if err != nil || len(slots) == 0 {
		t.Fatal(slots, err)
	}
	free := slots[len(slots)-1] // SoftHSM keeps one that is free at the end
	h.must(m.ctx.InitToken(free, testSOPIN, label))
	h.find()
	s, err := m.ctx.OpenSession(h.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	h.must(err)
	h.must(m.ctx.Login(s, p11.CKU_SO, testSOPIN))
	h.must(m.ctx.InitPIN(s, testUserPIN))
	h.must(m.ctx.Logout(s))
	h.must(m.ctx.CloseSession(s))
	return h
}

func (h *hsm) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *hsm) writePIN(pin string) {
	h.t.Helper()
	h.must(os.WriteFile(h.pin, []byte(pin), 0o600))
}

// find finds the slot of the token: SoftHSM numbers them anew.
func (h *hsm) find() {
	h.t.Helper()
	k := key{uri: URI{Token: h.label}, module: h.module}
	slot, _, err := k.findToken()
	h.must(err)
	h.slot = slot
}

// inSession does something to the token as its user.
func (h *hsm) inSession(do func(p11.SessionHandle)) {
	h.t.Helper()
	s, err := h.module.ctx.OpenSession(h.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	h.must(err)
	if err := h.module.ctx.Login(s, p11.CKU_USER, testUserPIN); err != nil && !errors.Is(err, p11.Error(p11.CKR_USER_ALREADY_LOGGED_IN)) {
		h.t.Fatal(err)
	}
	do(s)
	h.must(h.module.ctx.CloseSession(s))
}

// attr changes what a key is made with.
type attr struct {
	kind  uint
	value any
}

// generate makes a key pair in the token.
func (h *hsm) generate(mechanism uint, params, label string, id byte, private ...attr) {
	h.t.Helper()
	common := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_LABEL, label), p11.NewAttribute(p11.CKA_ID, []byte{id}),
	}
	secret := slices.Concat(common, []*p11.Attribute{p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_SIGN, true)})
	set := map[uint]any{p11.CKA_SENSITIVE: true, p11.CKA_EXTRACTABLE: false}
	for _, a := range private {
		set[a.kind] = a.value
	}
	for kind, value := range set {
		secret = append(secret, p11.NewAttribute(kind, value))
	}
	public := slices.Concat(common, []*p11.Attribute{p11.NewAttribute(p11.CKA_EC_PARAMS, []byte(params))})
	h.inSession(func(s p11.SessionHandle) {
		_, _, err := h.module.ctx.GenerateKeyPair(s, []*p11.Mechanism{p11.NewMechanism(mechanism, nil)}, public, secret)
		h.must(err)
	})
}

func (h *hsm) ed25519(label string, id byte, private ...attr) {
	h.t.Helper()
	const mechanismEdwardsKeyPair = 0x1055
	h.generate(mechanismEdwardsKeyPair, paramsEd25519, label, id, private...)
}

func (h *hsm) p256(label string, id byte, private ...attr) {
	h.t.Helper()
	h.generate(p11.CKM_EC_KEY_PAIR_GEN, paramsP256, label, id, private...)
}

// destroy removes objects of a class with a label.
func (h *hsm) destroy(class uint, label string) {
	h.t.Helper()
	h.inSession(func(s p11.SessionHandle) {
		h.must(h.module.ctx.FindObjectsInit(s, []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, class), p11.NewAttribute(p11.CKA_LABEL, label)}))
		found, _, err := h.module.ctx.FindObjects(s, 9)
		h.must(err)
		h.must(h.module.ctx.FindObjectsFinal(s))
		if len(found) == 0 {
			h.t.Fatalf("nothing to destroy: %s", label)
		}
		for _, o := range found {
			h.must(h.module.ctx.DestroyObject(s, o))
		}
	})
}

func (h *hsm) uri(object string, id ...byte) URI {
	return URI{Token: h.label, Object: object, ID: id, ModulePath: h.module.path, PINFile: h.pin}
}

func (h *hsm) open(u URI) *key {
	h.t.Helper()
	k, err := Open(h.t.Context(), u)
	h.must(err)
	h.t.Cleanup(func() {
		if err := k.Close(); err != nil {
			h.t.Error(err)
		}
	})
	return k.(*key)
}

// signs fails unless the key's signature verifies.
func signs(t *testing.T, k crypto.Signer, text string) {
	t.Helper()
	switch public := k.Public().(type) {
	case ed25519.PublicKey:
		sig, err := k.Sign(nil, []byte(text), crypto.Hash(0))
		if err != nil || !ed25519.Verify(public, []byte(text), sig) {
			t.Fatalf("Ed25519: %x, %v", sig, err)
		}
	case *ecdsa.PublicKey:
		digest := sha256.Sum256([]byte(text))
		sig, err := k.Sign(nil, digest[:], crypto.SHA256)
		if err != nil || !ecdsa.VerifyASN1(public, digest[:], sig) {
			t.Fatalf("P-256: %x, %v", sig, err)
		}
	default:
		t.Fatalf("public key is %T", public)
	}
}

func TestSign(t *testing.T) {
	h := newToken(t, "sign")
	h.ed25519("ed", 1)
	h.p256("ec", 2)
	for _, u := range []URI{h.uri("ed"), h.uri("", 1), h.uri("ed", 1), h.uri("ec"), h.uri("", 2), h.uri("ec", 2)} {
		k := h.open(u)
		signs(t, k, "a message of more than one block of any hash: "+strings.Repeat("x", 1000))
		signs(t, k, "")
		if remarks := k.Remarks(); len(remarks) != 0 {
			t.Errorf("%s: %q", u, remarks)
		}
	}
	// As a device is named that has a serial number and no label of its own.
	info, err := h.module.ctx.GetTokenInfo(h.slot)
	h.must(err)
	u := h.uri("ed")
	u.Token, u.Serial, u.Manufacturer, u.Model = "", info.SerialNumber, info.ManufacturerID, info.Model
	signs(t, h.open(u), "m")
}

// TestOpenRejects: each with the reason, and without the PIN.
func TestOpenRejects(t *testing.T) {
	h := newToken(t, "rejects")
	h.ed25519("good", 1)
	h.ed25519("twice", 2)
	h.ed25519("twice", 3)
	h.p256("extractable", 4, attr{p11.CKA_EXTRACTABLE, true})
	h.p256("readable", 5, attr{p11.CKA_SENSITIVE, false})
	h.p256("not for signing", 6, attr{p11.CKA_SIGN, false}, attr{p11.CKA_DERIVE, true})
	h.generate(p11.CKM_EC_KEY_PAIR_GEN, "\x06\x05\x2b\x81\x04\x00\x22", "P-384", 7)
	h.ed25519("no public key", 8)
	h.destroy(p11.CKO_PUBLIC_KEY, "no public key")
	h.rsa("RSA", 9)
	with := func(change func(*URI)) URI { u := h.uri("good"); change(&u); return u }
	noPIN, openPIN := filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "open")
	empty := filepath.Join(t.TempDir(), "empty")
	h.must(os.WriteFile(openPIN, []byte(testUserPIN), 0o604))
	h.must(os.WriteFile(empty, []byte("\n"), 0o600))
	notALibrary := filepath.Join(t.TempDir(), "text.so")
	h.must(os.WriteFile(notALibrary, []byte("text"), 0o600))
	for _, c := range []struct {
		name  string
		uri   URI
		words string
		is    error
	}{
		{"another token", with(func(u *URI) { u.Token = "nobody" }), "expected one token, found 0", ErrNotFound},
		{"another serial", with(func(u *URI) { u.Serial = "0" }), "expected one token, found 0", ErrNotFound},
		{"another object", h.uri("other"), "no private key", ErrNotFound},
		{"another id", h.uri("good", 99), "no private key", ErrNotFound},
		{"two keys", h.uri("twice"), "more than one private key", nil},
		{"extractable", h.uri("extractable"), "expected CKA_EXTRACTABLE false", nil},
		{"readable", h.uri("readable"), "expected CKA_SENSITIVE true", nil},
		{"not for signing", h.uri("not for signing"), "CKA_SIGN is false", nil},
		{"another curve", h.uri("P-384"), "another curve", nil},
		{"another algorithm", h.uri("RSA"), "expected an Ed25519 or P-256 key", nil},
		{"no public key", h.uri("no public key"), "keep the public key beside the private one", ErrNotFound},
		{"no PIN file", with(func(u *URI) { u.PINFile = noPIN }), "pin-source: ", os.ErrNotExist},
		{"PIN for everybody", with(func(u *URI) { u.PINFile = openPIN }), "expected 0600", nil},
		{"empty PIN", with(func(u *URI) { u.PINFile = empty }), "the file is empty", nil},
		{"no library", with(func(u *URI) { u.ModulePath = noPIN }), "module-path: ", os.ErrNotExist},
		{"not a library", with(func(u *URI) { u.ModulePath = notALibrary }), "is not a PKCS#11 library", nil},
	} {
		k, err := Open(t.Context(), c.uri)
		if err == nil || !strings.Contains(err.Error(), c.words) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v, %v, want %q", c.name, k, err, c.words)
			continue
		}
		if strings.Contains(err.Error(), testUserPIN) {
			t.Errorf("%s: the error holds the PIN: %v", c.name, err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(cancelled, h.uri("good")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	h.wantNoLogin()
	// The two of one label are told apart by their ids.
	signs(t, h.open(h.uri("twice", 3)), "m")
}

// wantNoLogin fails if somebody is logged in, as long as any session is left open.
func (h *hsm) wantNoLogin() {
	h.t.Helper()
	s, err := h.module.ctx.OpenSession(h.slot, p11.CKF_SERIAL_SESSION)
	h.must(err)
	info, err := h.module.ctx.GetSessionInfo(s)
	h.must(err)
	if info.State != p11.CKS_RO_PUBLIC_SESSION {
		h.t.Errorf("a session is open: the state is %d", info.State)
	}
	h.must(h.module.ctx.CloseSession(s))
}

func (h *hsm) rsa(label string, id byte) {
	h.t.Helper()
	h.inSession(func(s p11.SessionHandle) {
		common := []*p11.Attribute{
			p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_LABEL, label), p11.NewAttribute(p11.CKA_ID, []byte{id}),
		}
		_, _, err := h.module.ctx.GenerateKeyPair(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil)},
			append(common[:3:3], p11.NewAttribute(p11.CKA_MODULUS_BITS, 2048), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})),
			append(common[:3:3], p11.NewAttribute(p11.CKA_PRIVATE, true), p11.NewAttribute(p11.CKA_SIGN, true)))
		h.must(err)
	})
}

// TestTwoTokens: of two tokens with one name neither is taken.
func TestTwoTokens(t *testing.T) {
	first := newToken(t, "two")
	first.ed25519("ed", 1)
	info, err := first.module.ctx.GetTokenInfo(first.slot)
	first.must(err)
	named := first.uri("ed")
	named.Serial = info.SerialNumber
	slots, err := first.module.ctx.GetSlotList(true)
	first.must(err)
	first.must(first.module.ctx.InitToken(slots[len(slots)-1], testSOPIN, "two"))
	if _, err := Open(t.Context(), first.uri("ed")); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "found 2") {
		t.Errorf("%v", err)
	}
	signs(t, first.open(named), "by its serial number")
}

// TestRemarks: of a key that once was outside, a copy may exist.
func TestRemarks(t *testing.T) {
	h := newToken(t, "remarks")
	h.p256("once open", 1, attr{p11.CKA_SENSITIVE, false})
	h.inSession(func(s p11.SessionHandle) {
		h.must(h.module.ctx.FindObjectsInit(s, []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY)}))
		found, _, err := h.module.ctx.FindObjects(s, 1)
		h.must(err)
		h.must(h.module.ctx.FindObjectsFinal(s))
		h.must(h.module.ctx.SetAttributeValue(s, found[0], []*p11.Attribute{p11.NewAttribute(p11.CKA_SENSITIVE, true)}))
	})
	k := h.open(h.uri("once open"))
	signs(t, k, "m")
	if got := k.Remarks(); len(got) != 1 || !strings.Contains(got[0], "a copy may exist") {
		t.Errorf("remarks are %q", got)
	}
}
