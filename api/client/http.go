package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/trialog/trialog/api/receipt"
)

// maxAnswer bounds a JSON answer in bytes: a receipt in base64 and what is
// around it.
const maxAnswer = 2 * receipt.MaxSize

// maxRefusal bounds the body of an answer that is no success.
const maxRefusal = 64 << 10

// request is one call, as often as it is sent.
type request struct {
	method string
	path   string // below the base, escaped
	query  url.Values
	header http.Header
	body   []byte
	limit  int64         // of the answer, in bytes
	extra  time.Duration // that an attempt may take beyond Retry.Attempt
}

// answer is a successful answer.
type answer struct {
	header http.Header
	body   []byte
}

// call sends a request until there is an answer, the time for it is over, or ctx
// ends. The bytes are the same each time.
func (c *Client) call(ctx context.Context, r request) (*answer, error) {
	deadline := c.now().Add(c.retry.For)
	uncertain := false
	for attempt := 1; ; attempt++ {
		got, err := c.once(ctx, r)
		if err == nil {
			return got, nil
		}
		if ctx.Err() != nil {
			return nil, &UnreachableError{Attempts: attempt, Err: errors.Join(ctx.Err(), err)}
		}
		var refused *Problem
		isRefusal := errors.As(err, &refused)
		if isRefusal {
			refused.Uncertain = uncertain
		}
		uncertain = true
		if isRefusal && !refused.Temporary() {
			return nil, refused
		}
		wait := c.retry.backoff(attempt)
		if isRefusal {
			wait = max(wait, refused.RetryAfter)
		}
		if c.now().Add(wait).After(deadline) {
			if isRefusal {
				return nil, refused
			}
			return nil, &UnreachableError{Attempts: attempt, Err: err}
		}
		if err := c.retry.Pause(ctx, wait); err != nil {
			return nil, &UnreachableError{Attempts: attempt, Err: err}
		}
	}
}

// backoff is the pause behind an attempt, counted from 1.
func (r *Retry) backoff(attempt int) time.Duration {
	d := r.Max
	if attempt <= 30 {
		d = min(d, r.Base<<(attempt-1))
	}
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	return d - d/2*time.Duration(binary.BigEndian.Uint16(b[:]))>>16
}

// once sends a request. Its error is a *Problem, or any other if no whole answer
// came.
func (c *Client) once(ctx context.Context, r request) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.retry.Attempt+r.extra)
	defer cancel()
	at := *c.base
	at.RawPath = ""
	at.Path += r.path
	at.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, at.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	if r.body == nil {
		req.Body, req.GetBody, req.ContentLength = http.NoBody, nil, 0
	}
	maps.Copy(req.Header, r.header)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.agent != "" {
		req.Header.Set("User-Agent", c.agent)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, plain(err)
	}
	defer resp.Body.Close()
	limit := r.limit
	if resp.StatusCode != http.StatusOK {
		limit = maxRefusal
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case resp.StatusCode != http.StatusOK:
		// The status says enough, also if the body was cut.
		return nil, newProblem(resp, body, c.now())
	case err != nil:
		return nil, fmt.Errorf("the answer was cut off: %w", err)
	case int64(len(body)) > limit:
		return nil, &Problem{Status: http.StatusBadGateway, Title: "the answer is longer than expected"}
	}
	return &answer{header: resp.Header, body: body}, nil
}

// plain takes the method and the address from an error of net/http; who called
// knows them.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// post calls a method of the SubmissionService that has a body.
func (c *Client) post(ctx context.Context, path string, in, out proto.Message) error {
	body, err := protojson.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode a request: %w", err)
	}
	return c.message(ctx, request{
		method: http.MethodPost, path: path, body: body, header: http.Header{"Content-Type": {"application/json"}},
	}, out)
}

// get calls a method that has none.
func (c *Client) get(ctx context.Context, path string, query url.Values, out proto.Message) error {
	return c.message(ctx, request{method: http.MethodGet, path: path, query: query}, out)
}

func (c *Client) message(ctx context.Context, r request, out proto.Message) error {
	r.limit = maxAnswer
	got, err := c.call(ctx, r)
	if err != nil {
		return err
	}
	// A newer server may say more than this client knows of.
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(got.body, out); err != nil {
		return untrue("answer", got.body, "expected the JSON of %s", strings.TrimPrefix(
			string(out.ProtoReflect().Descriptor().FullName()), "trialog.v1."))
	}
	return nil
}
