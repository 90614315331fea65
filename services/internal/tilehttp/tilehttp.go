// Package tilehttp reads a log's checkpoint, tiles and beacons from an HTTP
// server: the log's own, or a mirror's (C2SP tlog-tiles).
//
// The server is trusted for nothing. What it answers is bounded in length and
// handed on; the reader checks it against a signed root, or against the digest
// by which it was asked for.
package tilehttp

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/run"
	stored "github.com/trialog/trialog/services/internal/tile"
)

const (
	// maxNote bounds a checkpoint note or beacon in bytes.
	maxNote = 128 << 10
	// maxRedirects is how often one request may be sent on.
	maxRedirects = 3

	checkpointKey = "checkpoint"
	beaconPrefix  = "beacon/"
)

// ErrReadOnly is returned by every method that would write, and by List.
var ErrReadOnly = errors.New("tiles over HTTP can only be read, by key")

// Config says where the tiles are, and how patient the reader is. The zero value
// of each field but URL means its default.
type Config struct {
	// URL is the prefix below which /checkpoint and /tile/… lie; http or https,
	// without user information, query and fragment.
	URL string
	// Transport carries the requests; http.DefaultTransport.
	Transport http.RoundTripper
	// Timeout is for one attempt, with its body; 10 s.
	Timeout time.Duration
	// Attempts is how often a request is sent at most; 5.
	Attempts int
	// Backoff is the pause before the second attempt, doubled before each further
	// one up to MaxBackoff; 200 ms and 5 s. A server's Retry-After counts up to
	// MaxBackoff.
	Backoff, MaxBackoff time.Duration
	// Pause waits; another one in tests only.
	Pause func(context.Context, time.Duration) error
	// UserAgent names the reader to the server; "trialog".
	UserAgent string
}

// Source reads objects by the keys under which a log's tile store has them.
// It may be used concurrently.
//
// Its keys are "checkpoint", tile paths, partial ones too, and
// "beacon/<SHA-256>". At makes a blob.Store of it that a tile.Reader can use.
type Source struct {
	c    Config
	base *url.URL
	http *http.Client
}

// New returns a Source. It sends nothing yet.
func New(c Config) (*Source, error) {
	base, err := parseBase(c.URL)
	if err != nil {
		return nil, err
	}
	setDefault(&c.Timeout, 10*time.Second)
	setDefault(&c.Attempts, 5)
	setDefault(&c.Backoff, 200*time.Millisecond)
	setDefault(&c.MaxBackoff, 5*time.Second)
	if c.UserAgent == "" {
		c.UserAgent = "trialog"
	}
	if c.Pause == nil {
		c.Pause = run.Pause
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	return &Source{c: c, base: base, http: &http.Client{Transport: c.Transport, CheckRedirect: sameServer}}, nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// parseBase reads a URL prefix. Its error does not repeat the input, which may
// hold a password.
func parseBase(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("source: expected a URL")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.Opaque != "":
		return nil, errors.New("source: expected an http or https URL with a host")
	case u.User != nil:
		return nil, errors.New("source: expected a URL without user information")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("source: expected a URL without query and fragment")
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), ""
	return u, nil
}

// errElsewhere: the server sent a request to another one, or in circles.
var errElsewhere = errors.New("redirected to another server, or too often")

// sameServer lets a server send a request on to itself only: what another one
// answers, and what it learns, was not asked for.
func sameServer(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case len(via) > maxRedirects:
		return errElsewhere
	case req.URL.Scheme != first.Scheme || req.URL.Host != first.Host:
		return errElsewhere
	}
	return nil
}

// String names the source for logs and errors.
func (s *Source) String() string { return s.base.String() }

// place is one path that may hold an object, and how long it can be.
type place struct {
	path  string
	limit int64
}

// places returns where the object of a key is looked for, one after the other;
// none if a server does not offer such objects.
func places(key string) ([]place, error) {
	if err := blob.CheckKey(strings.Replace(key, ".p/", "/", 1)); err != nil {
		return nil, err
	}
	if key == checkpointKey {
		return []place{{key, maxNote}}, nil
	}
	if digest, ok := strings.CutPrefix(key, beaconPrefix); ok {
		// The first is where the log's own service has them, the second where a
		// copy of its tile store does.
		return []place{{"v1/beacons/" + digest, maxNote}, {key, maxNote}}, nil
	}
	if !strings.HasPrefix(key, "tile/") {
		return nil, nil
	}
	p, err := tile.ParsePath(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", blob.ErrKey, err)
	}
	return []place{tilePlace(p)}, nil
}

func tilePlace(p tile.Path) place {
	each := int64(tile.HashSize)
	if p.Entries {
		each = 2 + tile.MaxEntry
	}
	return place{p.String(), int64(p.Width) * each}
}

// Get returns the object with the key, or blob.ErrNotFound. The content is not
// checked, but for its length.
func (s *Source) Get(ctx context.Context, key string) ([]byte, error) {
	list, err := places(key)
	if err != nil {
		return nil, err
	}
	return s.first(ctx, key, list)
}

func (s *Source) first(ctx context.Context, key string, list []place) ([]byte, error) {
	for _, p := range list {
		data, err := s.fetch(ctx, p)
		if !errors.Is(err, blob.ErrNotFound) {
			return data, err
		}
	}
	return nil, fmt.Errorf("%s at %s: %w", key, s, blob.ErrNotFound)
}

// At returns the tiles of the tree of size entries as a read-only blob.Store for
// a tile.Reader: what that looks for as a growing object is the partial tile of
// this size.
func (s *Source) At(size uint64) blob.Store { return &view{s: s, size: size} }

// view is a Source's tiles at one size.
type view struct {
	s    *Source
	size uint64
}

// Get implements blob.Store.
func (v *view) Get(ctx context.Context, key string) ([]byte, error) {
	if !strings.HasPrefix(key, stored.TailPrefix) {
		return v.s.Get(ctx, key)
	}
	p, ok := stored.ParseTail(key)
	if !ok {
		return nil, fmt.Errorf("%s at %s: %w", key, v.s, blob.ErrNotFound)
	}
	index, width := tile.Edge(v.size, p.Level)
	p.Width = width
	if width == 0 || index != p.Index {
		return nil, fmt.Errorf("%s at %s: %w", key, v.s, blob.ErrNotFound)
	}
	return v.s.first(ctx, key, []place{tilePlace(p)})
}

// Put implements blob.Store: it returns ErrReadOnly.
func (v *view) Put(context.Context, ...blob.Object) error { return ErrReadOnly }

// Delete implements blob.Store: it returns ErrReadOnly.
func (v *view) Delete(context.Context, ...string) error { return ErrReadOnly }

// List implements blob.Store: it yields ErrReadOnly.
func (v *view) List(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("", ErrReadOnly) }
}
