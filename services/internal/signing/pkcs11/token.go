//go:build pkcs11 && cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"github.com/trialog/trialog/services/internal/signing/secret"
)

// Of PKCS #11 v3.0, which the Go binding does not name yet.
const (
	mechanismEdDSA   = 0x1057
	keyTypeECEdwards = 0x40
)

// Errors that are told apart.
var (
	// ErrPIN says that the token does not accept the PIN. It is not tried again
	// until the PIN's file holds another one: tokens lock after a few wrong ones.
	ErrPIN = errors.New("the token does not accept the PIN")
	// ErrNotFound says that there is no such token, or no such key in it.
	ErrNotFound = errors.New("not found")
	// ErrChanged says that the reference names another key than when it was opened.
	ErrChanged = errors.New("another key is there now")
)

// key is a private key in a token. One session is enough: a token signs one thing
// after the other, and what is signed here comes a few times a second.
type key struct {
	uri     URI
	module  *module
	public  crypto.PublicKey
	remarks []string

	mu      sync.Mutex
	closed  bool
	open    bool // whether session and private are good, as far as known
	session p11.SessionHandle
	private p11.ObjectHandle
	badPIN  []byte // the SHA-256 of a PIN that was not accepted
}

// Open logs into the token and finds the key. The key must have been made for
// signing, be sensitive and not extractable, and need no PIN for each signature.
// A call into the library cannot be interrupted: ctx is heeded between calls.
func Open(ctx context.Context, u URI) (Key, error) {
	k, err := open(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", u, err)
	}
	return k, nil
}

func open(ctx context.Context, u URI) (*key, error) {
	m, err := load(u.ModulePath)
	if err != nil {
		return nil, err
	}
	k := &key{uri: u, module: m}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return nil, errors.Join(err, m.release())
	}
	if err := k.connect(); err != nil {
		return nil, errors.Join(err, m.release())
	}
	if err := errors.Join(context.Cause(ctx), k.inspect()); err != nil {
		return nil, errors.Join(err, k.disconnect(), m.release())
	}
	return k, nil
}

// Public returns the public key as it was when the key was opened.
func (k *key) Public() crypto.PublicKey { return k.public }

// Remarks says whether the key was made outside the token.
func (k *key) Remarks() []string { return k.remarks }

// Sign signs a message (Ed25519) or a digest (P-256). A session that was lost, as
// when the token was reset, is opened again once.
func (k *key) Sign(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, errors.New("the key is closed")
	}
	var lost error
	if k.open {
		sig, err := k.sign(message)
		if err == nil {
			return sig, nil
		}
		// Which of its many errors a token gives after a reset is its own affair.
		lost = errors.Join(err, k.disconnect())
	}
	if err := k.connect(); err != nil {
		return nil, errors.Join(lost, fmt.Errorf("connect again: %w", err))
	}
	public, err := k.readPublic()
	if err == nil && !equal(public, k.public) {
		err = ErrChanged
	}
	if err != nil {
		return nil, errors.Join(lost, err, k.disconnect())
	}
	sig, err := k.sign(message)
	if err != nil {
		return nil, errors.Join(err, k.disconnect())
	}
	return sig, nil
}

func (k *key) sign(message []byte) ([]byte, error) {
	mechanism := uint(p11.CKM_ECDSA)
	if _, ok := k.public.(ed25519.PublicKey); ok {
		mechanism = mechanismEdDSA
	}
	if err := k.module.ctx.SignInit(k.session, []*p11.Mechanism{p11.NewMechanism(mechanism, nil)}, k.private); err != nil {
		return nil, fmt.Errorf("begin to sign: %w", err)
	}
	sig, err := k.module.ctx.Sign(k.session, message)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if _, ok := k.public.(*ecdsa.PublicKey); ok {
		return derSignature(sig)
	}
	return sig, nil
}

// Close closes the session. The token forgets the login with the last session.
func (k *key) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	return errors.Join(k.disconnect(), k.module.release())
}

// connect opens a session, logs in and finds the private key.
func (k *key) connect() error {
	slot, info, err := k.findToken()
	if errors.Is(err, p11.Error(p11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
		// The library has lost everything; so have the others that use it.
		if err := k.module.initialize(); err != nil {
			return err
		}
		slot, info, err = k.findToken()
	}
	if err != nil {
		return err
	}
	if k.session, err = k.module.ctx.OpenSession(slot, p11.CKF_SERIAL_SESSION); err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	k.open = true
	if err = k.login(info); err == nil {
		k.private, err = k.findKey(p11.CKO_PRIVATE_KEY)
	}
	if err != nil {
		return errors.Join(err, k.disconnect())
	}
	return nil
}

// disconnect closes the session. That it is gone already is no error.
func (k *key) disconnect() error {
	if !k.open {
		return nil
	}
	k.open = false
	err := k.module.ctx.CloseSession(k.session)
	for _, gone := range []uint{p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_CRYPTOKI_NOT_INITIALIZED, p11.CKR_DEVICE_REMOVED} {
		if errors.Is(err, p11.Error(gone)) {
			return nil
		}
	}
	return err
}

// findToken returns the slot of the one token that fits.
func (k *key) findToken() (uint, p11.TokenInfo, error) {
	none := p11.TokenInfo{}
	slots, err := k.module.ctx.GetSlotList(true)
	if err != nil {
		return 0, none, fmt.Errorf("list the tokens: %w", err)
	}
	var found []uint
	var info p11.TokenInfo
	for _, slot := range slots {
		i, err := k.module.ctx.GetTokenInfo(slot)
		if err != nil {
			// Another token of the same library may be broken.
			continue
		}
		if k.uri.fits(i.Label, i.SerialNumber, i.ManufacturerID, i.Model) {
			found, info = append(found, slot), i
		}
	}
	if len(found) != 1 {
		return 0, none, fmt.Errorf("%w: expected one token, found %d of %d that fit the reference", ErrNotFound, len(found), len(slots))
	}
	return found[0], info, nil
}

// login logs in with the PIN in the file, which is read anew each time, so that a
// PIN can be changed.
func (k *key) login(info p11.TokenInfo) error {
	if info.Flags&(p11.CKF_USER_PIN_FINAL_TRY|p11.CKF_USER_PIN_LOCKED) != 0 {
		return fmt.Errorf("%w: wrong ones have locked it or will with the next: log in by hand first", ErrPIN)
	}
	pin, err := secret.Read(k.uri.PINFile)
	if err != nil {
		return fmt.Errorf("pin-source: %w", err)
	}
	pin = bytes.TrimSuffix(pin, []byte("\n"))
	defer clear(pin)
	if len(pin) == 0 {
		return errors.New("pin-source: expected a PIN, the file is empty")
	}
	digest := sha256.Sum256(pin)
	if bytes.Equal(digest[:], k.badPIN) {
		return fmt.Errorf("%w: it was not accepted before and is not tried again", ErrPIN)
	}
	err = k.module.ctx.Login(k.session, p11.CKU_USER, string(pin))
	switch {
	case err == nil, errors.Is(err, p11.Error(p11.CKR_USER_ALREADY_LOGGED_IN)):
		k.badPIN = nil
		return nil
	case errors.Is(err, p11.Error(p11.CKR_PIN_INCORRECT)), errors.Is(err, p11.Error(p11.CKR_PIN_LEN_RANGE)),
		errors.Is(err, p11.Error(p11.CKR_PIN_INVALID)), errors.Is(err, p11.Error(p11.CKR_PIN_LOCKED)):
		k.badPIN = digest[:]
		return fmt.Errorf("%w: %w", ErrPIN, err)
	}
	return fmt.Errorf("log in: %w", err)
}
