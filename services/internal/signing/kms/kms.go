//go:build kms

package kms

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/aws"
	"github.com/sigstore/sigstore/pkg/signature/kms/azure"
	"github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	"github.com/sigstore/sigstore/pkg/signature/kms/hashivault"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

// callTimeout is how long one signature may take. A checkpoint is late by then,
// and somebody should hear why.
const callTimeout = 10 * time.Second

// concurrent is how many calls are under way at a time. Not all clients heed a
// context: a call that was given up may go on for a minute, and must not be
// joined by hundreds.
const concurrent = 8

// ErrTimeout says that the service has not answered in time.
var ErrTimeout = errors.New("the key management service has not answered in time")

// remote is the part of sigstore's signers that is used.
type remote interface {
	PublicKey(opts ...signature.PublicKeyOption) (crypto.PublicKey, error)
	SignMessage(message io.Reader, opts ...signature.SignOption) ([]byte, error)
}

// signer is a key with a key management service.
type signer struct {
	remote  remote
	public  crypto.PublicKey
	timeout time.Duration
	slots   chan struct{}
}

// Open asks the service for the public key of a reference; see [Schemes]. The
// signer's calls end after ten seconds at most.
func Open(ctx context.Context, ref string) (crypto.Signer, error) {
	return open(ctx, ref, callTimeout)
}

func open(ctx context.Context, ref string, timeout time.Duration) (crypto.Signer, error) {
	scheme, rest, _ := strings.Cut(ref, "://")
	// sigstore's patterns let some of these pass into addresses and requests.
	if strings.ContainsAny(rest, "@?#% \t\r\n") {
		return nil, fmt.Errorf("%s reference: expected no user, query, fragment, space or percent sign", scheme)
	}
	s := newSigner(timeout)
	err := s.bounded(ctx, func(ctx context.Context) (err error) {
		if s.remote, err = load(ctx, scheme, ref); err != nil {
			return err
		}
		s.public, err = s.remote.PublicKey(options.WithContext(ctx))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the public key of %s: %w", ref, err)
	}
	if s.public == nil {
		return nil, fmt.Errorf("ask for the public key of %s: the service gave none", ref)
	}
	return s, nil
}

func newSigner(timeout time.Duration) *signer {
	return &signer{timeout: timeout, slots: make(chan struct{}, concurrent)}
}

// load makes the client of one service. The registry of sigstore is passed by: for
// a scheme that it does not know it starts a program of that name.
func load(ctx context.Context, scheme, ref string) (remote, error) {
	switch scheme {
	case "awskms":
		return aws.LoadSignerVerifier(ctx, ref)
	case "azurekms":
		return azure.LoadSignerVerifier(ctx, ref)
	case "gcpkms":
		// Its connections live as long as the context it is made with.
		return gcp.LoadSignerVerifier(context.WithoutCancel(ctx), ref)
	case "hashivault":
		return hashivault.LoadSignerVerifier(ref, crypto.Hash(0))
	}
	return nil, errors.New("expected a reference to a key management service")
}

// Public returns the public key as it was when the key was opened.
func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign has the service sign a message (Ed25519) or a digest.
func (s *signer) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	ask := []signature.SignOption{options.WithCryptoSignerOpts(opts.HashFunc())}
	body := io.Reader(nil)
	if _, ok := s.public.(ed25519.PublicKey); ok {
		body = bytes.NewReader(message)
	} else {
		ask = append(ask, options.WithDigest(message))
	}
	var sig []byte
	err := s.bounded(context.Background(), func(ctx context.Context) (err error) {
		sig, err = s.remote.SignMessage(body, append(ask, options.WithContext(ctx))...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return sig, nil
}

// bounded runs a call and waits for it no longer than the timeout, even if the
// call does not heed its context.
func (s *signer) bounded(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, ErrTimeout)
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		defer cancel()
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() {
		defer cancel()
		defer func() { <-s.slots }()
		done <- survived(ctx, call)
	}()
	<-ctx.Done() // the call has ended, or waiting for it has
	select {
	case err := <-done:
		if err != nil && errors.Is(context.Cause(ctx), ErrTimeout) {
			return fmt.Errorf("%w: %w", ErrTimeout, err) // a client that heeds its context
		}
		return err
	default:
		return context.Cause(ctx)
	}
}

// survived runs a call and makes a panic in it an error: some clients look into
// answers that they have not got, such as Vault's of status 204. It must not be
// for a service to decide whether this process lives.
func survived(ctx context.Context, call func(context.Context) error) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the service's client could not make sense of its answer")
		}
	}()
	return call(ctx)
}
