package timestamp

import (
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"time"

	api "github.com/trialog/trialog/api/timestamp"
	"github.com/trialog/trialog/services/internal/problem"
)

// Content types of RFC 3161, section 3.4, and of a chain of certificates.
const (
	typeQuery = "application/timestamp-query"
	typeReply = "application/timestamp-reply"
	typeChain = "application/pem-certificate-chain"
)

// retryAfter is when a client may ask again while nothing is issued.
const retryAfter = 5 * time.Second

// Handler answers over HTTP:
//
//	POST /, /api/v1/timestamp                   a TimeStampReq
//	GET  /certchain, /api/v1/timestamp/certchain  the certificates, PEM
//	GET  /healthz, /readyz                      whether it runs, and whether it issues
//
// A request that can be taken for a TimeStampReq is answered with a TimeStampResp,
// also when it is rejected: with status 200 if the request is at fault, and with
// 503 and Retry-After if the authority cannot issue now, so that those who look at
// the status only notice. Other mistakes are problem+json.
func (a *Authority) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/{$}", "/api/v1/timestamp"} {
		mux.HandleFunc(path, a.serveQuery)
	}
	for _, path := range []string{"/certchain", "/api/v1/timestamp/certchain"} {
		mux.HandleFunc(path, get(func(w http.ResponseWriter, _ *http.Request) { write(w, http.StatusOK, typeChain, a.unit.chain) }))
	}
	mux.HandleFunc("/healthz", get(func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, "text/plain; charset=utf-8", []byte("ok\n"))
	}))
	mux.HandleFunc("/readyz", get(a.serveReady))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		newProblem("not-found", http.StatusNotFound, "", "expected /, /certchain, /healthz or /readyz").Write(w)
	})
	return mux
}

func newProblem(kind string, status int, field, detail string) *problem.Problem {
	return problem.New("https://trialog.dev/problems/timestamp/"+kind, status, field, detail)
}

// get keeps out other methods than GET and HEAD.
func get(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			notAllowed(w, "GET, HEAD")
			return
		}
		serve(w, r)
	}
}

func notAllowed(w http.ResponseWriter, allow string) {
	p := newProblem("method", http.StatusMethodNotAllowed, "", "expected the method "+allow)
	p.Allow = allow
	p.Write(w)
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// The client may be gone; there is nobody to tell.
	_, _ = w.Write(body)
}

func (a *Authority) serveQuery(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		notAllowed(w, http.MethodPost)
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != typeQuery {
		newProblem("content-type", http.StatusUnsupportedMediaType, "Content-Type", "expected "+typeQuery).Write(w)
		return
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		newProblem("encoding", http.StatusUnsupportedMediaType, "Content-Encoding", "expected a body without content encoding").Write(w)
		return
	}
	query, err := io.ReadAll(http.MaxBytesReader(w, r.Body, api.MaxRequest))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		newProblem("too-large", http.StatusRequestEntityTooLarge, "", "expected at most 4096 bytes").Write(w)
		return
	}
	if err != nil {
		newProblem("cut-off", http.StatusBadRequest, "", "expected a whole body").Write(w)
		return
	}
	token, err := a.Issue(query)
	if err == nil {
		write(w, http.StatusOK, typeReply, token)
		return
	}
	refusal, ok := errors.AsType[*RefusalError](err)
	if !ok {
		refusal = &RefusalError{Failure: api.SystemFailure, Text: "the token could not be made", Err: err}
	}
	a.refuse(w, r, refusal)
}

// refuse answers with a TimeStampResp that rejects the request.
func (a *Authority) refuse(w http.ResponseWriter, r *http.Request, e *RefusalError) {
	level, status := slog.LevelDebug, http.StatusOK
	switch e.Failure { //nolint:exhaustive // the others are the request's fault
	case api.TimeNotAvailable:
		status = http.StatusServiceUnavailable // watch tells the operator
	case api.SystemFailure:
		level, status = slog.LevelError, http.StatusServiceUnavailable
	}
	a.c.Logger.Log(r.Context(), level, "a request was refused", "failure", e.Failure.String(), "error", e.Err)
	if status != http.StatusOK {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	}
	reply, err := e.Reply()
	if err != nil {
		newProblem("reply", http.StatusInternalServerError, "", "the answer could not be made").Write(w)
		return
	}
	write(w, status, typeReply, reply)
}

// serveReady says whether a token would be issued now; why not is for the
// operator's logs.
func (a *Authority) serveReady(w http.ResponseWriter, _ *http.Request) {
	state, status := `{"state":"ready"}`, http.StatusOK
	if err := a.Ready(); err != nil {
		reason := "stopped"
		if e, ok := errors.AsType[*RefusalError](err); ok && e.Failure == api.TimeNotAvailable {
			reason = "clock"
		}
		state, status = `{"state":"not-ready","reason":"`+reason+`"}`, http.StatusServiceUnavailable
	}
	write(w, status, "application/json", []byte(state+"\n"))
}
