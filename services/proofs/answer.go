package proofs

import (
	"net/http"
	"strconv"
)

// Content types and caching of answers.
const (
	typeText  = "text/plain; charset=utf-8"
	typeBytes = "application/octet-stream"
	typeJSON  = "application/json"

	cacheForEver = "public, max-age=31536000, immutable"
	cacheAsk     = "no-cache" // may be kept, must be asked about
	cacheNever   = "no-store"
)

// answer is an HTTP answer that is no fault, whole: nothing is sent before all of
// it is verified.
type answer struct {
	contentType string
	cache       string
	body        []byte
}

func (a *answer) write(rw http.ResponseWriter) {
	h := rw.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	h.Set("Cache-Control", a.cache)
	h.Set("X-Content-Type-Options", "nosniff")
	rw.WriteHeader(http.StatusOK)
	// The client may be gone; there is nobody to tell. For HEAD, net/http drops
	// the body.
	_, _ = rw.Write(a.body) //nolint:gosec // what the log holds, as bytes that no browser takes for a page
}
