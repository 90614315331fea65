// Package problem writes the errors of HTTP surfaces: problem+json (RFC 9457)
// with a further member, field, that names what was wrong with the request.
package problem

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// ContentType is that of every answer written here.
const ContentType = "application/problem+json"

// Problem is the body of an error, and the headers that belong to it. A service
// with further members embeds it in a struct of its own, and calls WriteAs.
type Problem struct {
	// Type is a URI that names the kind of problem; it leads nowhere.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Field is the first offending part of the request, spelt as the caller would.
	Field string `json:"field,omitempty"`

	// Allow lists the methods that a 405 would take.
	Allow string `json:"-"`
	// RetryAfter is when to ask again; 0 says nothing about it.
	RetryAfter time.Duration `json:"-"`
}

// New returns a problem of a kind, whose title is the status's.
func New(kind string, status int, field, detail string) *Problem {
	return &Problem{Type: kind, Title: http.StatusText(status), Status: status, Detail: detail, Field: field}
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Field != "" {
		return p.Field + ": " + p.Detail
	}
	return p.Detail
}

// Write answers with the problem.
func (p *Problem) Write(w http.ResponseWriter) { p.WriteAs(w, p) }

// WriteAs answers with the problem's status and headers, and with body, which
// embeds the problem.
func (p *Problem) WriteAs(w http.ResponseWriter, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		raw = []byte("{}") // strings and numbers always encode
	}
	raw = append(raw, '\n')
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.Allow != "" {
		h.Set("Allow", p.Allow)
	}
	if p.RetryAfter > 0 {
		// RFC 9110, section 10.2.3: whole seconds; rounded up, never zero.
		h.Set("Retry-After", strconv.FormatInt(int64((p.RetryAfter+time.Second-1)/time.Second), 10))
	}
	w.WriteHeader(p.Status)
	// The client may be gone; there is nobody to tell. For HEAD, net/http drops
	// the body.
	_, _ = w.Write(raw)
}
