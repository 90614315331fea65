package timestamp

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	api "github.com/trialog/trialog/api/timestamp"
	"github.com/trialog/trialog/services/internal/clock"
	"github.com/trialog/trialog/services/internal/problem"
)

func call(t testing.TB, method, url, contentType string, body []byte) (status int, header http.Header, answer []byte) {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, answer
}

// The parts of a TimeStampReq, to be put together wrongly.
type algorithm struct {
	OID    asn1.ObjectIdentifier
	Params asn1.RawValue `asn1:"optional"`
}

type imprint struct {
	Algorithm algorithm
	Digest    []byte
}

type query struct {
	Version    int
	Imprint    imprint
	Policy     asn1.ObjectIdentifier `asn1:"optional"`
	Nonce      *big.Int              `asn1:"optional"`
	CertReq    bool                  `asn1:"optional"`
	Extensions asn1.RawValue         `asn1:"optional"`
}

func goodQuery() query {
	return query{
		Version: 1, Nonce: big.NewInt(77), CertReq: true,
		Imprint: imprint{algorithm{OID: oidSHA256()}, bytes.Repeat([]byte{7}, 32)},
	}
}

func (q query) der(t testing.TB) []byte {
	t.Helper()
	raw, err := asn1.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestRejections: each bad request gets its failure (RFC 3161, 2.4.2), with a
// text that says what was expected, and no token.
func TestRejections(t *testing.T) {
	w := newWorld(t)
	server := httptest.NewServer(w.Handler())
	defer server.Close()
	hash := func(last int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, last} }
	for name, tt := range map[string]struct {
		change func(*query)
		raw    func([]byte) []byte
		want   api.Failure
		text   string
	}{
		"SHA-1": {
			change: func(q *query) {
				q.Imprint = imprint{algorithm{OID: asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}}, make([]byte, 20)}
			},
			want: api.BadAlgorithm, text: "messageImprint",
		},
		"MD5": {
			change: func(q *query) {
				q.Imprint = imprint{algorithm{OID: asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 5}}, make([]byte, 16)}
			},
			want: api.BadAlgorithm, text: "messageImprint",
		},
		"SHA-224":       {change: func(q *query) { q.Imprint.Algorithm.OID = hash(4) }, want: api.BadAlgorithm, text: "SHA-256"},
		"SHA3-256":      {change: func(q *query) { q.Imprint.Algorithm.OID = hash(8) }, want: api.BadAlgorithm, text: "SHA-256"},
		"short digest":  {change: func(q *query) { q.Imprint.Digest = make([]byte, 31) }, want: api.BadDataFormat},
		"SHA-384 of 32": {change: func(q *query) { q.Imprint.Algorithm.OID = hash(2) }, want: api.BadDataFormat},
		"version 2":     {change: func(q *query) { q.Version = 2 }, want: api.BadRequest, text: "version"},
		"version 0":     {change: func(q *query) { q.Version = 0 }, want: api.BadRequest, text: "version"},
		"other policy":  {change: func(q *query) { q.Policy = asn1.ObjectIdentifier{1, 2, 3} }, want: api.UnacceptedPolicy, text: "reqPolicy"},
		"extension": {
			change: func(q *query) {
				q.Extensions = asn1.RawValue{FullBytes: []byte{0xa0, 0x09, 0x30, 0x07, 0x06, 0x02, 0x2a, 0x03, 0x04, 0x01, 0x00}}
			},
			want: api.UnacceptedExtension, text: "extensions",
		},
		"empty":          {raw: func([]byte) []byte { return nil }, want: api.BadDataFormat},
		"text":           {raw: func([]byte) []byte { return []byte("time, please") }, want: api.BadDataFormat},
		"cut off":        {raw: func(q []byte) []byte { return q[:len(q)-1] }, want: api.BadDataFormat},
		"something more": {raw: func(q []byte) []byte { return append(q, 0) }, want: api.BadDataFormat},
		"long length":    {raw: func(q []byte) []byte { return append([]byte{0x30, 0x81}, q[1:]...) }, want: api.BadDataFormat},
		"certReq FALSE":  {raw: func(q []byte) []byte { q[len(q)-1] = 0; return q }, want: api.BadDataFormat},
	} {
		q := goodQuery()
		if tt.change != nil {
			tt.change(&q)
		}
		raw := q.der(t)
		if tt.raw != nil {
			raw = tt.raw(raw)
		}
		status, header, answer := call(t, http.MethodPost, server.URL, typeQuery, raw)
		if status != http.StatusOK || header.Get("Content-Type") != typeReply {
			t.Errorf("%s: status %d, %s", name, status, header.Get("Content-Type"))
			continue
		}
		_, err := api.ParseResponse(answer)
		refused, ok := errors.AsType[*api.StatusError](err)
		if !ok || refused.Status != rejection || refused.Failure != tt.want || !strings.Contains(refused.Text, tt.text) || refused.Text == "" {
			t.Errorf("%s: %+v, expected %s", name, err, tt.want)
		}
	}
	if records, err := w.state.oldest(1); err != nil || len(records) != 0 {
		t.Errorf("%d records of requests that were refused, %v", len(records), err)
	}
	// What all of these were made from is granted.
	if _, err := w.Issue(goodQuery().der(t)); err != nil {
		t.Error(err)
	}
}

// TestImprintIsRepeated: the token's imprint is the request's, byte for byte, with
// and without the NULL that some clients write.
func TestImprintIsRepeated(t *testing.T) {
	w := newWorld(t)
	q := goodQuery()
	for _, params := range []asn1.RawValue{{}, asn1.NullRawValue} {
		q.Imprint.Algorithm.Params = params
		want, err := asn1.Marshal(q.Imprint)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := w.Issue(q.der(t))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(reply, want) {
			t.Errorf("no %x in %x", want, reply)
		}
	}
}

func TestHTTP(t *testing.T) {
	w := newWorld(t)
	server := httptest.NewServer(w.Handler())
	defer server.Close()
	good := goodQuery().der(t)
	for name, tt := range map[string]struct {
		method, path, contentType string
		body                      []byte
		status                    int
		wantType, contains        string
		header, value             string
	}{
		"token":          {http.MethodPost, "/", typeQuery, good, 200, typeReply, "", "Cache-Control", "no-store"},
		"sigstore path":  {http.MethodPost, "/api/v1/timestamp", typeQuery, good, 200, typeReply, "", "", ""},
		"with parameter": {http.MethodPost, "/", typeQuery + "; charset=x", good, 200, typeReply, "", "", ""},
		"chain":          {http.MethodGet, "/certchain", "", nil, 200, typeChain, "BEGIN CERTIFICATE", "", ""},
		"sigstore chain": {http.MethodGet, "/api/v1/timestamp/certchain", "", nil, 200, typeChain, "BEGIN CERTIFICATE", "", ""},
		"alive":          {http.MethodGet, "/healthz", "", nil, 200, "text/plain; charset=utf-8", "ok", "", ""},
		"ready":          {http.MethodGet, "/readyz", "", nil, 200, "application/json", `"ready"`, "", ""},
		"JSON":           {http.MethodPost, "/", "application/json", []byte("{}"), 415, problem.ContentType, `"field":"Content-Type"`, "", ""},
		"no type":        {http.MethodPost, "/", "", good, 415, problem.ContentType, typeQuery, "", ""},
		"GET":            {http.MethodGet, "/", "", nil, 405, problem.ContentType, "POST", "Allow", "POST"},
		"POST chain":     {http.MethodPost, "/certchain", typeQuery, good, 405, problem.ContentType, "GET, HEAD", "Allow", "GET, HEAD"},
		"elsewhere":      {http.MethodPost, "/tsr", typeQuery, good, 404, problem.ContentType, "/certchain", "", ""},
		"too long":       {http.MethodPost, "/", typeQuery, make([]byte, api.MaxRequest+1), 413, problem.ContentType, "4096", "", ""},
		"longest":        {http.MethodPost, "/", typeQuery, make([]byte, api.MaxRequest), 200, typeReply, "", "", ""},
	} {
		status, header, body := call(t, tt.method, server.URL+tt.path, tt.contentType, tt.body)
		if status != tt.status || header.Get("Content-Type") != tt.wantType || !strings.Contains(string(body), tt.contains) ||
			tt.header != "" && header.Get(tt.header) != tt.value {
			t.Errorf("%s: %d, %v, %s", name, status, header, body)
		}
	}
}

func TestContentEncoding(t *testing.T) {
	w := newWorld(t)
	req := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(goodQuery().der(t)))
	req.Header.Set("Content-Type", typeQuery)
	req.Header.Set("Content-Encoding", "gzip")
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, req)
	if rec.Code != http.StatusUnsupportedMediaType {
		t.Errorf("status %d", rec.Code)
	}
}

// TestCutOff: half a body gives no token.
func TestCutOff(t *testing.T) {
	w := newWorld(t)
	req := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(bytes.NewReader(goodQuery().der(t)), brokenReader{}))
	req.Header.Set("Content-Type", typeQuery)
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, req)
	if rec.Code != http.StatusBadRequest || rec.Header().Get("Content-Type") != problem.ContentType {
		t.Errorf("status %d", rec.Code)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestNotAvailable: whoever looks at the status and whoever looks at the reply
// both learn that there is no time now.
func TestNotAvailable(t *testing.T) {
	w := newWorld(t)
	server := httptest.NewServer(w.Handler())
	defer server.Close()
	refused := func(want api.Failure) {
		t.Helper()
		status, header, body := call(t, http.MethodPost, server.URL, typeQuery, goodQuery().der(t))
		_, err := api.ParseResponse(body)
		e, ok := errors.AsType[*api.StatusError](err)
		if status != http.StatusServiceUnavailable || header.Get("Retry-After") != "5" || header.Get("Content-Type") != typeReply ||
			!ok || e.Failure != want {
			t.Errorf("status %d, %v, %v", status, header, err)
		}
	}
	ready := func(want int, reason string) {
		t.Helper()
		if status, _, body := call(t, http.MethodGet, server.URL+"/readyz", "", nil); status != want || !strings.Contains(string(body), reason) {
			t.Errorf("readyz: %d %s", status, body)
		}
	}
	w.clock.set(func() { w.clock.err = clock.ErrUnverified })
	refused(api.TimeNotAvailable)
	ready(http.StatusServiceUnavailable, `"clock"`)
	w.clock.set(func() { w.clock.err = nil })
	ready(http.StatusOK, `"ready"`)
	w.state.Hook = func(string) error { return errors.New("the disk is full") }
	refused(api.SystemFailure)
	ready(http.StatusServiceUnavailable, `"stopped"`)
}
