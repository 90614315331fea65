package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/statement"
)

// Problem is what the server refused, and why (RFC 9457). Its texts are the
// server's, without control characters.
type Problem struct {
	Status int
	Type   string
	Title  string
	Detail string
	// Field is the offending field of the request; empty if there is none.
	Field string
	// Head is what to build on, if the statement does not continue its chain:
	// then nothing was stored.
	Head *Head
	// Uncertain tells that an earlier attempt of the same call got no answer, so
	// that it may have been carried out.
	Uncertain bool
	// RetryAfter is when the server wants to be asked again; zero if it does
	// not say.
	RetryAfter time.Duration
}

// Head is the newest statement of a chain.
type Head struct {
	Number   uint64
	Identity statement.Identity // zero if Number is
}

// Error implements error.
func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	if p.Field != "" && !strings.Contains(text, p.Field) {
		text = p.Field + ": " + text
	}
	return fmt.Sprintf("the log answered %d: %s", p.Status, text)
}

// Temporary tells whether the same request may succeed later. If not, nothing
// was stored.
func (p *Problem) Temporary() bool {
	switch p.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, 499:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return p.Status >= http.StatusInternalServerError
}

// UnreachableError says that no answer came. The outcome of the call is not
// known: repeat it with the same bytes.
type UnreachableError struct {
	Attempts int
	Err      error // of the last attempt
}

// Error implements error.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no answer from the log after %d attempts: %s", e.Attempts, e.Err)
}

// Unwrap returns the last attempt's error.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Unreachable tells whether err is one of a log that could not be reached, or
// that could not answer now; the outcome is then not known.
func Unreachable(err error) bool {
	var u *UnreachableError
	var p *Problem
	return errors.As(err, &u) || errors.As(err, &p) && p.Temporary()
}

// UntrueError says that the server's answer does not verify, or that it
// contradicts what the log has said before.
type UntrueError struct {
	What string // "receipt", "promise", "checkpoint", …
	Err  error
	// Answer, if there is one, is what the server gave.
	Answer []byte
	// Evidence, if there is any, shows to others that the log contradicted itself,
	// or broke a promise. Keep it.
	Evidence *evidence.Evidence
}

// Error implements error.
func (e *UntrueError) Error() string {
	return fmt.Sprintf("the log's %s does not verify: %s", e.What, e.Err)
}

// Unwrap returns the reason.
func (e *UntrueError) Unwrap() error { return e.Err }

func untrue(what string, answer []byte, format string, args ...any) error {
	return &UntrueError{What: what, Answer: answer, Err: fmt.Errorf(format, args...)}
}

// maxText bounds a text of the server's, in bytes.
const maxText = 2000

// problemJSON is the body of a problem.
type problemJSON struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Field  string `json:"field"`
	Head   *struct {
		Number   uint64             `json:"number"`
		Identity statement.Identity `json:"identity"`
	} `json:"head"`
}

// newProblem makes a problem of an answer that is none of success. A body that
// is no problem, such as a proxy's page, is left out.
func newProblem(resp *http.Response, body []byte, now time.Time) *Problem {
	p := &Problem{
		Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode),
		RetryAfter: retryAfter(resp.Header.Get("Retry-After"), now),
	}
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || media != "application/problem+json" {
		return p
	}
	var j problemJSON
	if err := json.Unmarshal(body, &j); err != nil {
		return p
	}
	p.Type, p.Detail, p.Field = clean(j.Type), clean(j.Detail), clean(j.Field)
	if title := clean(j.Title); title != "" {
		p.Title = title
	}
	if j.Head != nil && (j.Head.Number == 0) == j.Head.Identity.IsZero() {
		p.Head = &Head{Number: j.Head.Number, Identity: j.Head.Identity}
	}
	return p
}

// clean makes a text of the server's fit for a terminal and a log.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, s)
	if len(s) <= maxText {
		return s
	}
	cut := maxText
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// retryAfter reads the header field (RFC 9110 section 10.2.3): seconds or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
