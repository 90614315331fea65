package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/trialog/trialog/api/loglist"
)

// Limits of what is asked of others.
const (
	askTimeout   = 5 * time.Second // for a checkpoint or a tile
	listTimeout  = 20 * time.Second
	maxRedirects = 3
	maxIdle      = 8 // connections that are kept
)

// newTransport carries requests to sources. It is the witness's own: the shared
// one keeps a hundred connections.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: askTimeout}).DialContext,
		TLSHandshakeTimeout:   askTimeout,
		ResponseHeaderTimeout: askTimeout,
		MaxIdleConns:          maxIdle,
		MaxConnsPerHost:       maxIdle,
		IdleConnTimeout:       10 * time.Second,
		ForceAttemptHTTP2:     true,
	}
}

// errElsewhere: a server sent a request to another one, or in circles.
var errElsewhere = errors.New("redirected to another server, or too often")

// read gets a list as it is signed.
func (w *Witness) read(ctx context.Context, l *List) ([]byte, error) {
	if l.File != "" {
		f, err := os.Open(l.File)
		if err != nil {
			return nil, fmt.Errorf("reading the list: %w", err)
		}
		defer f.Close()
		return bounded(f)
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("asking for the list: %w", err)
	}
	client := http.Client{Transport: w.web, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects || req.URL.Scheme != via[0].URL.Scheme || req.URL.Host != via[0].URL.Host {
			return errElsewhere
		}
		return nil
	}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking for the list: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking for the list: expected status 200, got %d", resp.StatusCode)
	}
	return bounded(resp.Body)
}

// bounded reads a list, which has a greatest length.
func bounded(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, loglist.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the list: %w", err)
	}
	if len(raw) > loglist.MaxSize {
		return nil, fmt.Errorf("reading the list: expected at most %d bytes", loglist.MaxSize)
	}
	return raw, nil
}
