//go:build pkcs11 && cgo

package pkcs11

import (
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

// findKey returns the one object of a class that the URI names. The session is
// logged in: private keys do not show before that.
func (k *key) findKey(class uint) (p11.ObjectHandle, error) {
	wanted := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, class)}
	if k.uri.Object != "" {
		wanted = append(wanted, p11.NewAttribute(p11.CKA_LABEL, k.uri.Object))
	}
	if len(k.uri.ID) > 0 {
		wanted = append(wanted, p11.NewAttribute(p11.CKA_ID, k.uri.ID))
	}
	return k.findOne(class, wanted)
}

func (k *key) findOne(class uint, wanted []*p11.Attribute) (_ p11.ObjectHandle, err error) {
	name := "private"
	if class == p11.CKO_PUBLIC_KEY {
		name = "public"
	}
	if err := k.module.ctx.FindObjectsInit(k.session, wanted); err != nil {
		return 0, fmt.Errorf("look for the %s key: %w", name, err)
	}
	defer func() {
		if final := k.module.ctx.FindObjectsFinal(k.session); final != nil && err == nil {
			err = fmt.Errorf("look for the %s key: %w", name, final)
		}
	}()
	// Two tell that there is more than one.
	found, _, err := k.module.ctx.FindObjects(k.session, 2)
	switch {
	case err != nil:
		return 0, fmt.Errorf("look for the %s key: %w", name, err)
	case len(found) == 0:
		return 0, fmt.Errorf("%w: the token has no %s key that fits the reference", ErrNotFound, name)
	case len(found) > 1:
		return 0, fmt.Errorf("the token has more than one %s key that fits the reference: name it by object= and id=", name)
	}
	return found[0], nil
}

func (k *key) attribute(object p11.ObjectHandle, which uint) ([]byte, error) {
	got, err := k.module.ctx.GetAttributeValue(k.session, object, []*p11.Attribute{p11.NewAttribute(which, nil)})
	if err != nil {
		return nil, err
	}
	if len(got) != 1 {
		return nil, errors.New("the token gave no value")
	}
	return got[0].Value, nil
}

// flag reads a CK_BBOOL of the private key; one that a token does not have is
// what is assumed.
func (k *key) flag(which uint, assumed bool) bool {
	value, err := k.attribute(k.private, which)
	if err != nil || len(value) != 1 {
		return assumed
	}
	return value[0] != 0
}

// inspect reads the public key and holds the private one to what a key in a token
// is for.
func (k *key) inspect() error {
	var err error
	if k.public, err = k.readPublic(); err != nil {
		return err
	}
	switch {
	case !k.flag(p11.CKA_SIGN, true):
		return errors.New("the key is not for signing (CKA_SIGN is false)")
	// A token that does not say whether its key stays inside does not say that it does.
	case !k.flag(p11.CKA_SENSITIVE, false):
		return errors.New("the private key can be read out of the token: expected CKA_SENSITIVE true")
	case k.flag(p11.CKA_EXTRACTABLE, true):
		return errors.New("the private key can be taken out of the token: expected CKA_EXTRACTABLE false")
	case k.flag(p11.CKA_ALWAYS_AUTHENTICATE, false):
		return errors.New("the key wants the PIN for each signature (CKA_ALWAYS_AUTHENTICATE), which is not supported")
	}
	if !k.flag(p11.CKA_ALWAYS_SENSITIVE, false) || !k.flag(p11.CKA_NEVER_EXTRACTABLE, false) {
		k.remarks = []string{"the private key was not made in this token, or could once leave it: a copy may exist"}
	}
	return nil
}

// readPublic reads the public key that belongs to the private one: from the public
// key object with the same id and label, else from what newer tokens keep with
// the private key. Each signature is verified with it, so a wrong one shows.
func (k *key) readPublic() (crypto.PublicKey, error) {
	kind, err := k.attribute(k.private, p11.CKA_KEY_TYPE)
	if err != nil {
		return nil, fmt.Errorf("read the type of the private key: %w", err)
	}
	if t := number(kind); t != p11.CKK_EC && t != keyTypeECEdwards {
		return nil, fmt.Errorf("expected an Ed25519 or P-256 key, found one of type %#x", t)
	}
	object, err := k.publicObject()
	if errors.Is(err, ErrNotFound) {
		if der, infoErr := k.attribute(k.private, p11.CKA_PUBLIC_KEY_INFO); infoErr == nil && len(der) > 0 {
			return x509.ParsePKIXPublicKey(der)
		}
		return nil, fmt.Errorf("%w: keep the public key beside the private one, with the same id and label", err)
	}
	if err != nil {
		return nil, err
	}
	params, err := k.attribute(object, p11.CKA_EC_PARAMS)
	if err != nil {
		return nil, fmt.Errorf("read the curve of the public key: %w", err)
	}
	point, err := k.attribute(object, p11.CKA_EC_POINT)
	if err != nil {
		return nil, fmt.Errorf("read the point of the public key: %w", err)
	}
	return publicKey(params, point)
}

// publicObject finds the public key object by the private key's own id, or where
// that is empty by its label.
func (k *key) publicObject() (p11.ObjectHandle, error) {
	wanted := []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY)}
	for _, which := range []uint{p11.CKA_ID, p11.CKA_LABEL} {
		if value, err := k.attribute(k.private, which); err == nil && len(value) > 0 {
			return k.findOne(p11.CKO_PUBLIC_KEY, append(wanted, p11.NewAttribute(which, value)))
		}
	}
	return k.findKey(p11.CKO_PUBLIC_KEY)
}

// number reads a CK_ULONG, which is in the machine's byte order and size.
func number(value []byte) uint64 {
	switch len(value) {
	case 4:
		return uint64(binary.NativeEndian.Uint32(value))
	case 8:
		return binary.NativeEndian.Uint64(value)
	}
	return ^uint64(0)
}
