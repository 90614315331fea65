// Package signing opens private keys where they are: in a file, in a PKCS#11
// token, or with a key management service. It is trusted with the keys in files;
// of all others it sees public halves and signatures only.
//
// Whatever a key's place, a signature is verified with the public key that was
// read when the key was opened, before anybody gets to see it: a broken or
// exchanged device makes signing fail, and nothing else.
package signing

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trialog/trialog/services/internal/signing/kms"
	"github.com/trialog/trialog/services/internal/signing/pkcs11"
)

// Key is a private key that can be used until it is closed. It may be used
// concurrently. The fmt verbs print where it is, never what it is.
//
// Public is an ed25519.PublicKey or an *ecdsa.PublicKey on P-256, always the
// same. Sign takes a message with crypto.Hash(0) for Ed25519, and a SHA-256
// digest with crypto.SHA256 for P-256, whose signature is a DER ECDSA-Sig-Value
// (RFC 3279 section 2.2.3) with low S. Its random source is ignored.
type Key interface {
	crypto.Signer
	io.Closer
}

// Open opens the key that a reference names:
//
//	PATH, file:PATH        a PKCS #8 PEM file, as openssl genpkey writes it
//	pkcs11:…               RFC 7512; see [pkcs11.Parse]
//	awskms://…, azurekms://…, gcpkms://…, hashivault://…
//	                       as sigstore writes them; see [kms.Schemes]
//	PATH.ref               a reference file, see [Reference]
//
// The key must be Ed25519 or ECDSA P-256. Open signs once, to show that the key
// is there and can be used; ctx bounds that. A device or service that cannot be
// reached is an error, which a caller may answer by trying again.
func Open(ctx context.Context, ref string) (Key, error) {
	scheme, path, err := split(ref)
	if err != nil {
		return nil, err
	}
	var k *key
	switch scheme {
	case schemeFile:
		if strings.HasSuffix(path, ReferenceSuffix) {
			return openReferenced(ctx, path)
		}
		k, err = openFile(path)
	case pkcs11.Scheme:
		var u pkcs11.URI
		if u, err = pkcs11.Parse(ref); err != nil {
			return nil, err
		}
		var token pkcs11.Key
		if token, err = pkcs11.Open(ctx, u); err != nil {
			return nil, err
		}
		if k, err = newKey(u.String(), token, token.Close); err == nil {
			k.remarks = token.Remarks()
		}
	default:
		var remote crypto.Signer
		if remote, err = kms.Open(ctx, ref); err != nil {
			return nil, err
		}
		k, err = newKey(ref, remote, func() error { return nil })
	}
	if err != nil {
		return nil, err
	}
	if err := k.try(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

const schemeFile = "file"

// split returns the scheme of a reference and, of a file's, the path.
func split(ref string) (scheme, path string, err error) {
	scheme, rest, ok := strings.Cut(ref, ":")
	switch {
	case ref == "":
		return "", "", errors.New("key reference: expected a path or a URI, got nothing")
	case ok && scheme == schemeFile:
		// As elsewhere, PATH is taken as it is; file:///x is /x.
		if after, found := strings.CutPrefix(rest, "//"); found {
			if !strings.HasPrefix(after, "/") {
				return "", "", errors.New("key reference: expected file:PATH without a host")
			}
			rest = after
		}
		if rest == "" {
			return "", "", errors.New("key reference: expected file:PATH, got no path")
		}
		return schemeFile, rest, nil
	case ok && scheme == pkcs11.Scheme:
		return scheme, "", nil
	case strings.Contains(ref, "://"):
		if slices.Contains(kms.Schemes(), scheme) {
			return scheme, "", nil
		}
		// Not repeated: it may be an address with a password in it.
		return "", "", fmt.Errorf("key reference: unknown scheme, expected a path, file:, pkcs11: or one of %s",
			strings.Join(kms.Schemes(), "://, ")+"://")
	}
	return schemeFile, ref, nil
}

// IsFile tells whether a reference names a file.
func IsFile(ref string) bool {
	scheme, _, err := split(ref)
	return err == nil && scheme == schemeFile
}

// Under returns a reference with the relative path of a file made relative to
// dir. Other references, and those that are none, stay what they are.
func Under(dir, ref string) string {
	scheme, path, err := split(ref)
	if err != nil || scheme != schemeFile {
		return ref
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	// Said with the scheme, so that a path with colons stays a path.
	return schemeFile + ":" + path
}

// Remarks returns what an operator should know about where a key is, in words,
// such as that a token's key was made outside the token. Usually there are none.
func Remarks(k Key) []string {
	if k, ok := k.(*key); ok {
		return append([]string(nil), k.remarks...)
	}
	return nil
}
