// Package client speaks to a log over REST: it submits statements, fetches
// receipts and documents, and reads the tree.
//
// The server is not believed. Every receipt is verified against the caller's
// policy before it is handed out, every promise against the keys that the
// policy names, every entry against a cosigned checkpoint. A call whose outcome
// is not known is repeated with the same bytes, never with others; what the
// server refuses comes back as a *Problem.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/verify"
)

// Config is what a Client is made of. Server and Now are needed.
type Config struct {
	// Server is the base URL of the log, such as https://log.example.org. A path
	// in it is a prefix of all others.
	Server string
	// Token is a bearer token; empty for calls that need none. It is sent over
	// TLS or to this machine only.
	Token string
	// Policy is what answers are verified against. Without one only Describe
	// works.
	Policy *verify.Policy
	// HTTP makes the requests; nil for a client of its own.
	HTTP *http.Client
	// Now is the clock.
	Now func() time.Time
	// Retry says how often a call is repeated.
	Retry Retry
	// UserAgent names the program; optional.
	UserAgent string
}

// Retry bounds how a call is repeated whose outcome is unknown: a connection
// that was refused or cut, a 5xx, a 408, a 429.
type Retry struct {
	// For is how long after the first attempt a further one may begin; zero
	// makes one attempt only.
	For time.Duration
	// Base is the first pause, which doubles up to Max; 200 ms and 10 s if zero.
	// A pause is shortened by up to half, at random, so that clients which failed
	// together do not come back together.
	Base, Max time.Duration
	// Attempt is how long one attempt may take; a minute if zero. Documents have
	// more, by their size.
	Attempt time.Duration
	// Pause waits; nil for a timer.
	Pause func(context.Context, time.Duration) error
}

// ErrNoPolicy is the error of calls whose answer nobody could verify.
var ErrNoPolicy = errors.New("no policy to verify the log's answer against")

// Client is safe for concurrent use.
type Client struct {
	base   *url.URL
	token  string
	policy *verify.Policy
	http   *http.Client
	now    func() time.Time
	retry  Retry
	agent  string

	heads heads // those that were met
	mu    sync.Mutex
	// compared is the largest checkpoint of each log that was compared with those
	// before it; see meet.
	compared map[string]*checkpoint.Note
}

// New makes a client. It makes no request.
func New(c Config) (*Client, error) {
	base, err := url.Parse(c.Server)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" ||
		base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("server: expected a URL such as https://log.example.org, found %q", c.Server)
	}
	if c.Now == nil {
		return nil, errors.New("client: no clock was given")
	}
	if c.Token != "" && base.Scheme != "https" && !loopback(base.Hostname()) {
		return nil, errors.New("server: expected https, else the token could be read on its way")
	}
	if strings.ContainsFunc(c.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("token: expected printable ASCII without spaces")
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	client := &Client{
		base: base, token: c.Token, policy: c.Policy, http: c.HTTP, now: c.Now, retry: c.Retry, agent: c.UserAgent,
		compared: map[string]*checkpoint.Note{},
	}
	if client.http == nil {
		client.http = &http.Client{Transport: http.DefaultTransport}
	}
	// A redirect would carry the statement, and perhaps the token, to somebody
	// that nobody named.
	own := *client.http
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.http = &own
	client.retry.complete()
	return client, nil
}

func (r *Retry) complete() {
	if r.Base <= 0 {
		r.Base = 200 * time.Millisecond
	}
	if r.Max <= 0 {
		r.Max = 10 * time.Second
	}
	if r.Attempt <= 0 {
		r.Attempt = time.Minute
	}
	if r.Pause == nil {
		r.Pause = pause
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// loopback tells whether a host is this machine.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
