package registertest

import (
	"bytes"
	"crypto/md5" //nolint:gosec // an ETag of S3 is an MD5; nothing rests on it
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Flaw is what a Stub does wrong.
type Flaw int

// The flaws.
const (
	NoFlaw Flaw = iota
	IgnoresIfMatch
	IgnoresIfNoneMatch
	// ComparesThenWrites honours conditions, but not in one step with the write.
	ComparesThenWrites
	// RecreatesAbsent takes If-Match for an object that does not exist.
	RecreatesAbsent
	// SameTag gives every content the same ETag.
	SameTag
	// Stale answers reads with the first content.
	Stale
)

// Stub is as much of an S3 server, in memory, as a register needs, with a flaw.
type Stub struct {
	URL string

	flaw    Flaw
	mu      sync.Mutex
	objects map[string][]byte
	first   map[string][]byte
	pair    chan struct{} // where two writes of a server that ComparesThenWrites meet
}

// NewStub starts a stub for one test.
func NewStub(t *testing.T, flaw Flaw) *Stub {
	t.Helper()
	s := &Stub{flaw: flaw, objects: map[string][]byte{}, first: map[string][]byte{}, pair: make(chan struct{})}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Object returns an object's content; nil if there is none.
func (s *Stub) Object(path string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[path]
}

// Set replaces an object's content.
func (s *Stub) Set(path string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[path] = data
}

// Keys returns how many objects there are.
func (s *Stub) Keys() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.objects)
}

func (s *Stub) tag(data []byte) string {
	if s.flaw == SameTag {
		data = nil
	}
	sum := md5.Sum(data) //nolint:gosec // as above
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// ServeHTTP implements http.Handler.
func (s *Stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		s.get(w, r.URL.Path)
	case http.MethodPut:
		s.put(w, r)
	case http.MethodDelete:
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.objects, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Stub) get(w http.ResponseWriter, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.objects[path]
	if !ok {
		refuse(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	if s.flaw == Stale {
		data = s.first[path]
	}
	w.Header().Set("ETag", s.tag(data))
	_, _ = w.Write(data)
}

func (s *Stub) put(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		refuse(w, http.StatusBadRequest, "IncompleteBody")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if status, code := s.check(r.URL.Path, r.Header.Get("If-Match"), r.Header.Get("If-None-Match")); code != "" {
		refuse(w, status, code)
		return
	}
	if s.flaw == ComparesThenWrites && bytes.HasPrefix(data, []byte("race")) {
		// Two writes that have compared wait for each other before they write.
		s.mu.Unlock()
		select {
		case s.pair <- struct{}{}:
		case <-s.pair:
		case <-r.Context().Done():
		}
		s.mu.Lock()
	}
	if _, known := s.first[r.URL.Path]; !known {
		s.first[r.URL.Path] = data
	}
	s.objects[r.URL.Path] = data
	w.Header().Set("ETag", s.tag(data))
}

func (s *Stub) check(path, match, noneMatch string) (status int, code string) {
	data, exists := s.objects[path]
	switch {
	case noneMatch != "" && exists && s.flaw != IgnoresIfNoneMatch:
		return http.StatusPreconditionFailed, "PreconditionFailed"
	case match == "" || s.flaw == IgnoresIfMatch || !exists && s.flaw == RecreatesAbsent:
		return 0, ""
	case !exists:
		return http.StatusNotFound, "NoSuchKey"
	case match != s.tag(data):
		return http.StatusPreconditionFailed, "PreconditionFailed"
	}
	return 0, ""
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, strings.ToLower(code))
}

// Answer is what a Transport makes of a request.
type Answer int

// The answers.
const (
	Through      Answer = iota
	NoConnection        // an error, and the server saw nothing
	NoAnswer            // an error, and the server did what was asked
	Unavailable         // 503, and the server saw nothing
	InternalDone        // 500, and the server did what was asked
	Busy                // 409 ConditionalRequestConflict, and nothing was done
	Forbidden           // 403, and nothing was done
	CutOff              // the answer ends in the middle
	WrongTag            // the answer has another object's ETag
)

// Faults are the answers that are no success.
func Faults() []Answer {
	return []Answer{NoConnection, NoAnswer, Unavailable, InternalDone, Busy, Forbidden, CutOff}
}

// ErrConnection is the error of a Transport.
var ErrConnection = errors.New("connection reset")

// Transport is an HTTP client of which chosen requests fail.
type Transport struct {
	mu sync.Mutex
	// plan has the answers to the next requests of the method; Through behind its
	// end.
	method string
	plan   []Answer
	sent   int
	before func() // called before the next request of the method
}

// Plan sets what the next requests of the method get.
func (t *Transport) Plan(method string, plan ...Answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.method, t.plan, t.sent, t.before = method, plan, 0, nil
}

// Before lets something happen before the next request of the planned method.
func (t *Transport) Before(do func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.before = do
}

// Sent returns how many requests of the planned method there were.
func (t *Transport) Sent() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent
}

func (t *Transport) next(method string) Answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if method != t.method {
		return Through
	}
	if t.before != nil {
		t.before()
		t.before = nil
	}
	t.sent++
	if len(t.plan) == 0 {
		return Through
	}
	a := t.plan[0]
	t.plan = t.plan[1:]
	return a
}

// Do implements aws.HTTPClient.
func (t *Transport) Do(req *http.Request) (*http.Response, error) {
	a := t.next(req.Method)
	made := func(status int, code string) *http.Response {
		w := httptest.NewRecorder()
		refuse(w, status, code)
		return w.Result()
	}
	switch a {
	case NoConnection:
		return nil, ErrConnection
	case Unavailable:
		return made(http.StatusServiceUnavailable, "SlowDown"), nil
	case Busy:
		return made(http.StatusConflict, "ConditionalRequestConflict"), nil
	case Forbidden:
		return made(http.StatusForbidden, "AccessDenied"), nil
	default:
	}
	resp, err := http.DefaultClient.Do(req) //nolint:gosec // the test says where to
	if err != nil || a == Through {
		return resp, err
	}
	defer resp.Body.Close()
	switch a {
	case InternalDone:
		return made(http.StatusInternalServerError, "InternalError"), nil
	case WrongTag:
		return wrongTag(resp)
	case CutOff:
		cut := made(resp.StatusCode, "")
		cut.Header = resp.Header
		cut.Body = io.NopCloser(io.MultiReader(strings.NewReader("trialog"), failing{}))
		if req.Method == http.MethodPut {
			return nil, io.ErrUnexpectedEOF
		}
		return cut, nil
	default:
	}
	return nil, ErrConnection
}

func wrongTag(resp *http.Response) (*http.Response, error) {
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	resp.Header.Set("ETag", `"0123456789abcdef0123456789abcdef"`)
	return resp, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
