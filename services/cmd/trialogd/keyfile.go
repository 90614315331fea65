package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/signing"
	"github.com/trialog/trialog/services/internal/signing/secret"
)

// A key of the log is in NAME.key or NAME.pem, or NAME.ref in its place says where
// it is: see docs/keys.md. A key that was opened stays so as long as the process
// lives.

// openTimeout is how long a token or a key management service may take to show
// that it has a key.
const openTimeout = 30 * time.Second

// referenceBeside returns the path of the reference file that stands for the key
// file at path, or nothing if there is none. Were there both, nobody could tell
// which of them signs.
func referenceBeside(path string) (string, error) {
	reference := strings.TrimSuffix(path, filepath.Ext(path)) + signing.ReferenceSuffix
	if _, err := os.Stat(reference); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return "", fmt.Errorf("%s and %s are both there: expected one of them", path, reference)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return reference, nil
}

// readLogKey reads a key that signs checkpoints: the file at path, or what the
// reference file beside it names. fs.ErrNotExist says that there is neither.
//
//nolint:contextcheck,nolintlint // said for its callers: keys are opened at the start, and the time-out bounds it
func readLogKey(path string) (*checkpoint.SigningKey, error) {
	reference, err := referenceBeside(path)
	if err != nil {
		return nil, err
	}
	if reference != "" {
		ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
		defer cancel()
		k, _, err := signing.OpenReferencedNoteKey(ctx, reference)
		return k, hideNotExist(err)
	}
	raw, err := secret.Read(path)
	if err != nil {
		return nil, err
	}
	k, err := checkpoint.ParseSigningKey(string(bytes.TrimSuffix(raw, []byte("\n"))))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// readLogVerifier reads the public half of a key that signs checkpoints. A token
// or a key management service is not asked for it.
func readLogVerifier(path string) (*checkpoint.VerifierKey, error) {
	reference, err := referenceBeside(path)
	if err != nil {
		return nil, err
	}
	if reference != "" {
		k, err := signing.ReadVerifierKey(reference)
		return k, hideNotExist(err)
	}
	k, err := readLogKey(path)
	if err != nil {
		return nil, err
	}
	return k.Verifier(), nil
}

// readKey reads a key that signs statements: as readLogKey does.
//
//nolint:contextcheck,nolintlint // as readLogKey
func readKey(path string) (*statement.PrivateKey, error) {
	reference, err := referenceBeside(path)
	if err != nil {
		return nil, err
	}
	if reference != "" {
		ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
		defer cancel()
		k, err := signing.Open(ctx, "file:"+reference)
		if err != nil {
			return nil, hideNotExist(err)
		}
		return statement.NewPrivateKey(k)
	}
	raw, err := secret.Read(path)
	if err != nil {
		return nil, err
	}
	k, err := statement.ParsePrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// hideNotExist makes a key that is missing where a reference says it is an error
// of its own: who finds fs.ErrNotExist makes a new key.
func hideNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		// In words, so that it is not found in it.
		return fmt.Errorf("the key that is referred to: %s", err.Error())
	}
	return err
}
