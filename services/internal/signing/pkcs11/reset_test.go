//go:build pkcs11 && cgo

package pkcs11

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	p11 "github.com/miekg/pkcs11"
)

// TestReset: sessions and logins that are gone are made again.
func TestReset(t *testing.T) {
	h := newToken(t, "reset")
	h.ed25519("ed", 1)
	h.p256("ec", 2)
	keys := []*key{h.open(h.uri("ed")), h.open(h.uri("ec"))}
	for name, reset := range map[string]func(){
		"all sessions closed":  func() { h.find(); h.must(h.module.ctx.CloseAllSessions(h.slot)) },
		"logged out":           func() { h.must(h.module.ctx.Logout(keys[0].session)) },
		"library begins again": func() { h.must(h.module.ctx.Finalize()); h.must(h.module.ctx.Initialize()) },
		"library has ended":    func() { h.must(h.module.ctx.Finalize()) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, k := range keys {
				signs(t, k, name)
			}
			reset()
			for range 2 {
				for _, k := range keys {
					signs(t, k, name)
				}
			}
		})
	}
}

// TestResetFails: while it cannot be connected again, signing fails and says
// why; afterwards it goes on.
func TestResetFails(t *testing.T) {
	h := newToken(t, "fails")
	h.ed25519("ed", 1)
	k := h.open(h.uri("ed"))
	aside := h.pin + ".aside"
	h.must(os.Rename(h.pin, aside))
	signs(t, k, "still logged in")
	h.must(h.module.ctx.CloseAllSessions(h.slot))
	for range 2 {
		if sig, err := k.Sign(nil, []byte("m"), crypto.Hash(0)); sig != nil || !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("without the PIN's file: %x, %v", sig, err)
		}
	}
	h.must(os.Rename(aside, h.pin))
	signs(t, k, "the PIN is back")
}

// TestOtherKeyAfterReset: a token that has another key under the name now does not
// get to sign with it.
func TestOtherKeyAfterReset(t *testing.T) {
	h := newToken(t, "other")
	h.ed25519("ed", 1)
	k := h.open(h.uri("ed"))
	was := k.Public()
	for _, class := range []uint{p11.CKO_PRIVATE_KEY, p11.CKO_PUBLIC_KEY} {
		h.destroy(class, "ed")
	}
	h.ed25519("ed", 1)
	for range 2 {
		if sig, err := k.Sign(nil, []byte("m"), crypto.Hash(0)); sig != nil || !errors.Is(err, ErrChanged) {
			t.Fatalf("another key: %x, %v", sig, err)
		}
	}
	if !equal(k.Public(), was) {
		t.Error("the public key has changed")
	}
	if equal(h.open(h.uri("ed")).Public(), was) {
		t.Error("the key is the same: the test shows nothing")
	}
}

// TestWrongPIN: it is tried once, so that nobody's process locks a token.
func TestWrongPIN(t *testing.T) {
	h := newToken(t, "pin")
	h.ed25519("ed", 1)
	k := h.open(h.uri("ed"))
	const wrong = "wrong-canary"
	h.writePIN(wrong)
	h.must(h.module.ctx.CloseAllSessions(h.slot))
	for try := range 5 {
		_, err := k.Sign(nil, []byte("m"), crypto.Hash(0))
		if !errors.Is(err, ErrPIN) || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, k.uri), wrong) {
			t.Fatalf("try %d: %v", try, err)
		}
		if asked := !strings.Contains(err.Error(), "not tried again"); asked != (try == 0) {
			t.Fatalf("try %d: %v", try, err)
		}
	}
	if _, err := Open(t.Context(), h.uri("ed")); !errors.Is(err, ErrPIN) {
		t.Errorf("open: %v", err)
	}
	h.writePIN(testUserPIN)
	signs(t, k, "the PIN was put right")
	// What a token says before it locks.
	if err := k.login(p11.TokenInfo{Flags: p11.CKF_USER_PIN_FINAL_TRY}); !errors.Is(err, ErrPIN) {
		t.Errorf("final try: %v", err)
	}
}

func TestConcurrentUseAndClose(t *testing.T) {
	h := newToken(t, "many")
	h.ed25519("ed", 1)
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			k, err := Open(t.Context(), h.uri("ed"))
			if err != nil {
				t.Error(err)
				return
			}
			var users sync.WaitGroup
			for range 4 {
				users.Go(func() {
					for i := range 10 {
						text := fmt.Appendf(nil, "%d %d", n, i)
						sig, err := k.Sign(nil, text, crypto.Hash(0))
						if err != nil || !ed25519.Verify(k.Public().(ed25519.PublicKey), text, sig) {
							t.Errorf("%s: %x, %v", text, sig, err)
						}
					}
				})
			}
			users.Wait()
			// Closing one ends neither the others' sessions nor their login.
			if err := errors.Join(k.Close(), k.Close()); err != nil {
				t.Error(err)
			}
			if _, err := k.Sign(nil, []byte("m"), crypto.Hash(0)); err == nil || !strings.Contains(err.Error(), "closed") {
				t.Errorf("after close: %v", err)
			}
		})
	}
	all.Wait()
	h.wantNoLogin()
}
