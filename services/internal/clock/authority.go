package clock

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/trialog/trialog/api/timestamp"
)

// maxReply bounds the answer of a time-stamp authority: a token with some
// certificates.
const maxReply = 64 << 10

// Authority is somebody else's RFC 3161 time-stamp authority. It is asked for a
// token over random bytes, which is verified against the certificate that the
// configuration names. How far its time may be off is what it states, or what the
// configuration says of an authority that states nothing.
type Authority struct {
	url      string
	anchor   *x509.Certificate
	accuracy time.Duration // if the token states none; 0 for none
	http     *http.Client
	observed *Observed
}

func (p Parser) parseAuthority(rest string) (Source, error) {
	target, accuracy, file, err := httpAddress(rest, "accuracy")
	if err != nil {
		return nil, err
	}
	s := &Authority{url: target, http: p.client()}
	if accuracy != "" {
		if s.accuracy, err = time.ParseDuration(accuracy); err != nil || s.accuracy <= 0 {
			return nil, fmt.Errorf("source of time: accuracy: expected a duration such as 500ms, got %q", accuracy)
		}
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(p.Dir, file)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("source of time: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("source of time: %s: expected a certificate in PEM", file)
	}
	if s.anchor, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("source of time: %s: %w", file, err)
	}
	s.observed = NewObserved("authority "+target, p.Now, p.Monotonic)
	return s, nil
}

// Name implements Source.
func (s *Authority) Name() string { return s.observed.Name() }

// Offset implements Source.
func (s *Authority) Offset(ctx context.Context) (offset, uncertainty time.Duration, err error) {
	if err := s.observe(ctx); err != nil {
		return 0, 0, fmt.Errorf("ask %s: %w", s.Name(), err)
	}
	return s.observed.Offset(ctx)
}

func (s *Authority) observe(ctx context.Context) error {
	var random [40]byte
	_, _ = rand.Read(random[:]) // never fails
	digest, nonce := [32]byte(random[:32]), new(big.Int).SetBytes(random[32:])
	query, err := timestamp.NewRequest(digest, nonce, nil)
	if err != nil {
		return err
	}
	begin := s.observed.Begin()
	status, raw, err := ask(ctx, s.http, http.MethodPost, s.url, "application/timestamp-query", query, maxReply)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("HTTP status %d", status)
	}
	end := s.observed.Begin()
	token, err := timestamp.ParseResponse(raw)
	if err != nil {
		return err
	}
	if err := token.Verify(s.anchor, timestamp.Expect{Digest: digest, Nonce: nonce}); err != nil {
		return err
	}
	accuracy := token.Accuracy
	if accuracy == 0 {
		accuracy = s.accuracy
	}
	if accuracy == 0 {
		return errors.New("its tokens state no accuracy; give one with ?accuracy=")
	}
	s.observed.between(begin, end, token.Time.Add(-accuracy), 2*accuracy)
	return nil
}
