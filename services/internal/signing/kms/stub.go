//go:build !kms

package kms

import (
	"context"
	"crypto"
	"errors"
)

// ErrNotBuilt says that this binary has no code for key management services.
var ErrNotBuilt = errors.New("this binary was built without key management services: build with make build-kms")

// Open fails with ErrNotBuilt.
func Open(context.Context, string) (crypto.Signer, error) { return nil, ErrNotBuilt }
