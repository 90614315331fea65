package problem_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/trialog/trialog/services/internal/problem"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	p := problem.New("https://trialog.dev/problems/x", http.StatusServiceUnavailable, "size", "expected less")
	p.RetryAfter = 1500 * time.Millisecond
	rec := httptest.NewRecorder()
	p.Write(rec)
	const want = `{"type":"https://trialog.dev/problems/x","title":"Service Unavailable","status":503,"detail":"expected less","field":"size"}` + "\n"
	if rec.Code != http.StatusServiceUnavailable || rec.Body.String() != want {
		t.Errorf("%d %s, want %s", rec.Code, rec.Body, want)
	}
	for name, want := range map[string]string{
		"Content-Type": problem.ContentType, "Retry-After": "2", "Cache-Control": "no-store", "Allow": "",
		"X-Content-Type-Options": "nosniff",
	} {
		if got := rec.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if p.Error() != "size: expected less" {
		t.Errorf("error %q", p)
	}
}

func TestWriteAs(t *testing.T) {
	t.Parallel()
	p := problem.New("about:blank", http.StatusMethodNotAllowed, "", "expected POST")
	p.Allow = http.MethodPost
	rec := httptest.NewRecorder()
	p.WriteAs(rec, struct {
		*problem.Problem

		Head int `json:"head"`
	}{p, 7})
	var got map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || got["head"] != 7.0 || got["title"] != "Method Not Allowed" || len(got) != 5 {
		t.Errorf("%v, %v", got, err)
	}
	if rec.Header().Get("Allow") != http.MethodPost || rec.Header().Get("Retry-After") != "" {
		t.Errorf("headers %v", rec.Header())
	}
	if p.Error() != "expected POST" {
		t.Errorf("error %q", p)
	}
}
