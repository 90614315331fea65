package witness

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// Content types of answers.
const (
	typeNote    = "text/plain; charset=utf-8"
	typeSize    = "text/x.tlog.size"
	typeProblem = "application/problem+json"
)

// problemBase is the prefix of problem types; they are names, not addresses.
const problemBase = "https://trialog.dev/problems/witness/"

// answer is an HTTP answer, whole.
type answer struct {
	status      int
	contentType string
	body        []byte
	allow       string        // methods, for 405
	retryAfter  time.Duration // 0 for no header, but with 429
}

// problem is RFC 9457's body.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Field  string `json:"field,omitempty"` // of the request: "old", "proof[3]", "checkpoint"
}

func refuse(status int, kind, field string, reason error) answer {
	body, err := json.Marshal(problem{
		Type: problemBase + kind, Title: http.StatusText(status), Status: status, Detail: reason.Error(), Field: field,
	})
	if err != nil {
		// Strings and a number do not fail; if they did, the status says enough.
		body = []byte("{}")
	}
	return answer{status: status, contentType: typeProblem, body: append(body, '\n')}
}

// cosigned is the answer with the witness's lines.
//
// SPEC: "The response body MUST be a sequence of one or more note signature
// lines, each starting with the — character (U+2014) and ending with a newline
// character (U+000A)."
func cosigned(lines []checkpoint.Signature) answer {
	var b bytes.Buffer
	for _, line := range lines {
		b.WriteString(line.String())
		b.WriteByte('\n')
	}
	return answer{status: http.StatusOK, contentType: typeNote, body: b.Bytes()}
}

// answer is the refusal that a verdict calls for.
func (v verdict) answer(recordedSize uint64) answer {
	switch v.kind {
	case badOld:
		return refuse(http.StatusBadRequest, "old-above-size", "old", v.reason)
	case conflict:
		// SPEC: "The response body MUST consist of the tree size of the latest
		// cosigned checkpoint in decimal, followed by a newline (U+000A). The
		// response MUST have a Content-Type of text/x.tlog.size."
		body := append(strconv.AppendUint(nil, recordedSize, 10), '\n')
		return answer{status: http.StatusConflict, contentType: typeSize, body: body}
	default:
		return refuse(http.StatusUnprocessableEntity, "inconsistent", "checkpoint", v.reason)
	}
}

func (a answer) write(rw http.ResponseWriter) {
	h := rw.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if a.allow != "" {
		h.Set("Allow", a.allow)
	}
	if a.status == http.StatusTooManyRequests || a.retryAfter > 0 {
		// RFC 9110, section 10.2.3: whole seconds; rounded up, never zero.
		h.Set("Retry-After", strconv.FormatInt(max(1, int64((a.retryAfter+time.Second-1)/time.Second)), 10))
	}
	rw.WriteHeader(a.status)
	// The client may be gone; there is nobody to tell.
	_, _ = rw.Write(a.body)
}

func (w *Witness) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/add-checkpoint", func(rw http.ResponseWriter, r *http.Request) {
		w.serveAdd(rw, r).write(rw)
	})
	mux.HandleFunc("/{origin}/checkpoint", func(rw http.ResponseWriter, r *http.Request) {
		w.serveCheckpoint(r).write(rw)
	})
	mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) {
		refuse(http.StatusNotFound, "no-such-path", "", errors.New("expected /add-checkpoint or /<origin hash>/checkpoint")).write(rw)
	})
	return mux
}

// serveAdd answers add-checkpoint.
func (w *Witness) serveAdd(rw http.ResponseWriter, r *http.Request) answer {
	// SPEC: "The request MUST be an HTTP POST."
	if r.Method != http.MethodPost {
		return notAllowed(http.MethodPost)
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return refuse(http.StatusUnsupportedMediaType, "encoding", "", errors.New("expected a body without content encoding"))
	}
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return refuse(http.StatusRequestEntityTooLarge, "too-large", "", errors.New("expected a body of at most 65536 bytes"))
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "cut-off", "", errors.New("expected a whole body"))
	}
	req, err := parseAddRequest(body)
	if bad := (*requestError)(nil); errors.As(err, &bad) {
		return refuse(http.StatusBadRequest, "malformed", bad.field, bad.err)
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "malformed", "", err)
	}
	select {
	case <-w.closed:
		return refuse(http.StatusServiceUnavailable, "closing", "", errors.New("the witness is shutting down"))
	default:
		return w.addCheckpoint(r.Context(), req)
	}
}

// serveCheckpoint answers the read interface.
//
// SPEC: "If the witness has never cosigned a checkpoint for that log, it MUST
// respond with a 404 Not Found HTTP status code instead."
func (w *Witness) serveCheckpoint(r *http.Request) answer {
	// SPEC: "The request MUST be an HTTP GET." HEAD is a GET without its body.
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return notAllowed("GET, HEAD")
	}
	l := w.table.Load().byHash[r.PathValue("origin")]
	if l == nil {
		return refuse(http.StatusNotFound, "unknown-origin", "", errors.New("expected the lower-case hex SHA-256 of a configured log's origin"))
	}
	note, err := w.state.note(l.origin)
	if err != nil {
		w.log.ErrorContext(r.Context(), "reading the state file failed", "origin", l.origin, "error", err)
		return refuse(http.StatusInternalServerError, "state", "", errors.New("the state could not be read"))
	}
	if note == nil {
		return refuse(http.StatusNotFound, "never-cosigned", "", errors.New("no checkpoint of this log was cosigned yet"))
	}
	return answer{status: http.StatusOK, contentType: typeNote, body: note}
}

func notAllowed(allow string) answer {
	a := refuse(http.StatusMethodNotAllowed, "method", "", errors.New("expected the method "+allow))
	a.allow = allow
	return a
}
