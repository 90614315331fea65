//go:build !pkcs11 || !cgo

package pkcs11

import (
	"context"
	"errors"
)

// ErrNotBuilt says that this binary has no code for PKCS#11.
var ErrNotBuilt = errors.New("this binary was built without PKCS#11: build with make build-pkcs11")

// Open fails with ErrNotBuilt.
func Open(context.Context, URI) (Key, error) { return nil, ErrNotBuilt }
