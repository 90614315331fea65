package proofs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// Content types and caching of answers.
const (
	typeText    = "text/plain; charset=utf-8"
	typeBytes   = "application/octet-stream"
	typeJSON    = "application/json"
	typeProblem = "application/problem+json"

	cacheForEver = "public, max-age=31536000, immutable"
	cacheAsk     = "no-cache" // may be kept, must be asked about
	cacheNever   = "no-store"
)

// problemBase is the prefix of problem types; they are names, not addresses.
const problemBase = "https://trialog.dev/problems/proofs/"

// answer is an HTTP answer, whole: nothing is sent before all of it is verified.
type answer struct {
	status      int
	contentType string
	cache       string
	body        []byte
	allow       string        // with a 405; GET, HEAD if empty
	retryAfter  time.Duration // with a 503 that will pass by itself
}

func (a answer) write(rw http.ResponseWriter) {
	h := rw.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	h.Set("Cache-Control", a.cache)
	h.Set("X-Content-Type-Options", "nosniff")
	// Everything here is public and the same for everybody, and a verifier may
	// be a page that was opened from a disk.
	h.Set("Access-Control-Allow-Origin", "*")
	if a.status == http.StatusMethodNotAllowed {
		h.Set("Allow", a.allowed())
	}
	if a.retryAfter > 0 {
		// RFC 9110, section 10.2.3: whole seconds; rounded up, never zero.
		h.Set("Retry-After", strconv.FormatInt(int64((a.retryAfter+time.Second-1)/time.Second), 10))
	}
	rw.WriteHeader(a.status)
	// The client may be gone; there is nobody to tell. For HEAD, net/http drops
	// the body.
	_, _ = rw.Write(a.body)
}

// allowed is what a 405 says that it would take.
func (a answer) allowed() string {
	if a.allow != "" {
		return a.allow
	}
	return "GET, HEAD"
}

// problem is RFC 9457's body.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Field  string `json:"field,omitempty"` // of the request: "path", "index"
}

// refuse is the answer to a request that is at fault in the field.
func refuse(status int, kind, field, format string, args ...any) answer {
	body, _ := json.Marshal(problem{ //nolint:errchkjson // strings and a number: this cannot fail
		Type: problemBase + kind, Title: http.StatusText(status), Status: status,
		Detail: fmt.Sprintf(format, args...), Field: field,
	})
	return answer{status: status, contentType: typeProblem, cache: cacheNever, body: append(body, '\n')}
}

// fail reports an error that is no fault of the request, and is its answer.
func (p *Proofs) fail(ctx context.Context, err error) answer {
	p.report(ctx, err)
	return unavailable(err)
}

// unavailable is the answer to a request that an error has ended which has been
// reported. It tells the client the kind of the error and nothing else.
func unavailable(err error) answer {
	var note *checkpointError
	switch {
	case errors.Is(err, errNoCheckpoint):
		return refuse(http.StatusNotFound, "no-checkpoint", "", "%v", errNoCheckpoint)
	case errors.As(err, &note):
		return refuse(http.StatusServiceUnavailable, "unverifiable", "", "the stored checkpoint does not verify")
	case errors.Is(err, tile.ErrCorrupt):
		return refuse(http.StatusServiceUnavailable, "unverifiable", "", "what is stored does not verify against the checkpoint")
	default:
		return refuse(http.StatusServiceUnavailable, "unavailable", "", "the store cannot be read")
	}
}

// report logs where something does not verify or cannot be read. No error of
// checkpoint, blob and tile carries an entry's content.
func (p *Proofs) report(ctx context.Context, err error) {
	var object *tile.CorruptError
	var note *checkpointError
	var root *tile.RootError
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		// The client has gone, which says nothing about the store.
	case errors.As(err, &object):
		p.cfg.Logger.ErrorContext(ctx, "read does not verify", "object", object.Object, "reason", object.Reason)
	case errors.As(err, &root):
		p.cfg.Logger.ErrorContext(ctx, "read does not verify", "object", "right edge", "reason", root.Error())
	case errors.As(err, &note):
		p.cfg.Logger.ErrorContext(ctx, "read does not verify", "object", checkpointKey, "reason", note.err.Error())
	case errors.Is(err, tile.ErrCorrupt):
		p.cfg.Logger.ErrorContext(ctx, "read does not verify", "object", "proof", "reason", err.Error())
	case errors.Is(err, blob.ErrNotFound), errors.Is(err, errNoCheckpoint):
	default:
		p.cfg.Logger.ErrorContext(ctx, "store cannot be read", "reason", err.Error())
	}
}
