package tilehttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/run"
)

// StatusError is an answer other than 200, 404 and 410.
type StatusError struct {
	Path   string
	Status int

	after time.Duration // Retry-After
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: the server answered %d", e.Path, e.Status)
}

// temporary tells whether the same request may succeed later.
func (e *StatusError) temporary() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return e.Status >= http.StatusInternalServerError
}

// LengthError says that an object is longer than any such object can be.
type LengthError struct {
	Path  string
	Limit int64 // bytes
}

// Error implements error.
func (e *LengthError) Error() string {
	return fmt.Sprintf("%s: longer than the %d bytes that it can have", e.Path, e.Limit)
}

// fetch asks for one path until there is an answer or the attempts are used up.
func (s *Source) fetch(ctx context.Context, p place) ([]byte, error) {
	for attempt := 1; ; attempt++ {
		data, err := s.once(ctx, p)
		if err == nil || errors.Is(err, blob.ErrNotFound) {
			return data, err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read from %s: %w", s, ctx.Err())
		}
		wait := run.Backoff(attempt, s.c.Backoff, s.c.MaxBackoff)
		if status, ok := errors.AsType[*StatusError](err); ok {
			if !status.temporary() {
				return nil, fmt.Errorf("read from %s: %w", s, err)
			}
			wait = max(wait, min(status.after, s.c.MaxBackoff))
		}
		_, long := errors.AsType[*LengthError](err)
		if long || errors.Is(err, errElsewhere) || attempt >= s.c.Attempts {
			return nil, fmt.Errorf("read from %s: %w", s, err)
		}
		if err := s.c.Pause(ctx, wait); err != nil {
			return nil, fmt.Errorf("read from %s: %w", s, err)
		}
	}
}

// once sends one request.
func (s *Source) once(ctx context.Context, p place) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	at := *s.base
	at.Path += "/" + p.path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("User-Agent", s.c.UserAgent)
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.path, plain(err))
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, blob.ErrNotFound
	default:
		return nil, &StatusError{Path: p.path, Status: resp.StatusCode, after: retryAfter(resp.Header)}
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, p.limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: the answer was cut off: %w", p.path, err)
	case int64(len(data)) > p.limit:
		return nil, &LengthError{Path: p.path, Limit: p.limit}
	}
	return data, nil
}

// retryAfter reads the form in seconds; the other one needs a clock that agrees
// with the server's.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// plain takes the method and the address from an error of net/http, which the
// caller names in a shorter way.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
