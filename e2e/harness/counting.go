package harness

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
)

// Counting hands requests on, and counts them.
type Counting struct {
	URL string

	requests atomic.Int64
}

// NewCounting stands before the server at a URL.
func NewCounting(t testing.TB, to string) *Counting {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	c := &Counting{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.requests.Add(1)
		proxy.ServeHTTP(w, r)
	}))
	c.URL = server.URL
	t.Cleanup(server.Close)
	return c
}

// Requests is how many there were.
func (c *Counting) Requests() int64 { return c.requests.Load() }
