package client

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// Whatever a server sends, its texts can be shown on a terminal.
func FuzzProblem(f *testing.F) {
	f.Add([]byte(`{"title":"Bad Request","detail":"wait: wrong","field":"wait","head":{"number":1,"identity":"00"}}`), "7")
	f.Add([]byte("{\"detail\":\"\x1b[2J\u202e\"}"), "Wed, 21 Oct 2015 07:28:00 GMT")
	f.Add([]byte(`[`), "-1")
	f.Fuzz(func(t *testing.T, body []byte, after string) {
		resp := &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{
			"Content-Type": {"application/problem+json"}, "Retry-After": {after},
		}}
		p := newProblem(resp, body, time.Unix(0, 0))
		for _, text := range []string{p.Type, p.Title, p.Detail, p.Field, p.Error()} {
			if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || len(text) > 3*maxText {
				t.Errorf("%q", text)
			}
		}
		if p.RetryAfter < 0 || p.Head != nil && (p.Head.Number == 0) != p.Head.Identity.IsZero() {
			t.Errorf("%+v", p)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2015, 10, 21, 7, 28, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-7": 0, "7.5": 0, "soon": 0, "99999999999": 0,
		"Wed, 21 Oct 2015 07:29:00 GMT": time.Minute, "Wed, 21 Oct 2015 07:00:00 GMT": 0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q is %s, expected %s", text, got, want)
		}
	}
}
