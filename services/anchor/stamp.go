package anchor

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net/http"
	"time"

	"github.com/trialog/trialog/api/timestamp"
	"github.com/trialog/trialog/services/internal/anchored"
)

const (
	// maxResponse bounds what is read of an authority's answer: a token and a few
	// bytes around it.
	maxResponse = anchored.MaxToken + 4<<10
	// stampTime bounds one question.
	stampTime = 20 * time.Second
	// nonceSize is that of a request's nonce in bytes.
	nonceSize = 16
)

// boundedClient returns a client that follows no redirect: one would let an
// authority point the log's requests anywhere.
func boundedClient(given *http.Client) *http.Client {
	client := http.Client{Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}}
	if given != nil {
		client = *given
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

// stamp asks an authority for a token over SHA-256 of a checkpoint's text, and
// returns the token's DER once it is verified: the imprint, the nonce, the policy,
// the chain, and the time.
func (w *Worker) stamp(ctx context.Context, a *Authority, text []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, stampTime)
	defer cancel()
	nonce, err := newNonce()
	if err != nil {
		return nil, err
	}
	query, err := timestamp.NewRequest(sha256.Sum256(text), nonce, a.Policy)
	if err != nil {
		return nil, fmt.Errorf("make a time-stamp request: %w", err)
	}
	begun := w.c.Now()
	reply, err := w.post(ctx, a.URL, query)
	if err != nil {
		return nil, err
	}
	t, err := timestamp.ParseResponse(reply)
	if err != nil {
		return nil, err
	}
	if t, err = a.Check(w.c.Policy, t.Raw, text, nonce); err != nil {
		return nil, err
	}
	if t.Time.Before(begun.Add(-maxSkew)) || t.Time.After(w.c.Now().Add(maxSkew)) {
		return nil, fmt.Errorf("the token's time %s is more than %s from the clock's %s",
			t.Time.UTC().Format(time.RFC3339), maxSkew, begun.UTC().Format(time.RFC3339))
	}
	return t.Raw, nil
}

// newNonce returns a number that no other request has.
func newNonce() (*big.Int, error) {
	var b [nonceSize]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("make a nonce: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40 // positive, and always of the same length
	return new(big.Int).SetBytes(b[:]), nil
}

// post sends a query.
//
// SPEC (RFC 3161, 3.4): "Content-Type: application/timestamp-query" and
// "Content-Type: application/timestamp-reply".
func (w *Worker) post(ctx context.Context, at string, query []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(query))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/timestamp-query")
	req.Header.Set("Accept", "application/timestamp-reply")
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	// Nothing is lost when closing fails: the body was read, or is of no use.
	_ = resp.Body.Close()
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // "" of what cannot be read
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	case len(body) > maxResponse:
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxResponse)
	case kind != "application/timestamp-reply":
		return nil, errors.New("the answer is no application/timestamp-reply")
	}
	return body, nil
}
