package client_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/statement"
)

// through puts a server between a fixture's client and its log, which may
// answer by itself.
func (f *fixture) through(t *testing.T, answer func(w http.ResponseWriter, r *http.Request) bool) *client.Client {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !answer(w, r) {
			f.log.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(proxy.Close)
	c, err := client.New(client.Config{Server: proxy.URL, Policy: f.policy, Now: f.clock.Now, Token: "secret-token"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func at(path, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != path {
			return false
		}
		_, _ = io.WriteString(w, body)
		return true
	}
}

// Every call refuses an answer that is not what it says.
func TestUntrueAnswers(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	raw, _ := f.Entry(ctx, 1)
	entry0 := fmt.Sprintf("{%q:%q}", "entry", base64.StdEncoding.EncodeToString(raw.Raw))
	old := func() string { _, n, _ := f.Checkpoint(ctx); return string(n.Bytes()) }()
	cut := old[:strings.LastIndex(strings.TrimSpace(old), "\n")+1]
	cut = cut[:strings.LastIndex(strings.TrimSpace(cut), "\n")+1]
	key := f.key.ID().String()
	for _, tt := range []struct {
		name, path, body string
		call             func(*client.Client) error
	}{
		{"a checkpoint of one witness", "/checkpoint", cut, checkpointOf},
		{"a checkpoint that is none", "/checkpoint", "hello\n", checkpointOf},
		{"another entry", "/v1/entries/0", entry0, entryZero},
		{"no entry", "/v1/entries/0", "{}", entryZero},
		{"an entry that is no JSON", "/v1/entries/0", "<html>", entryZero},
		{"a proof of nothing", "/v1/proofs/inclusion", `{"hashes":[]}`, entryZero},
		{"a beacon of one witness", "/v1/log", quoteLog(cut), beaconOf},
		{"a beacon that is none", "/v1/log", quoteLog("x"), beaconOf},
		{"a log without a name", "/v1/log", `{}`, beaconOf},
		{"a page instead of the log", "/v1/log", `<html>`, beaconOf},
		{"a head without identity", "/v1/chains/" + key, `{"number":"3"}`, chainOf(f.key.ID())},
		{"an identity without number", "/v1/chains/" + key, `{"identity":"` + key + `"}`, chainOf(f.key.ID())},
		{"an identity of other digits", "/v1/chains/" + key, `{"number":"1","identity":"XYZ"}`, chainOf(f.key.ID())},
		{"another document", "/v1/documents/" + key, "another", func(c *client.Client) error {
			_, _, err := c.Document(context.Background(), f.key.ID(), f.key.ID(), 100)
			return err
		}},
		{"a receipt that is none", "/v1/statements/" + key + "/receipt", `{"receipt":"e30="}`, receiptOf(f.key.ID())},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.call(f.through(t, at(tt.path, tt.body)))
			if _, ok := errors.AsType[*client.UntrueError](err); !ok {
				t.Fatalf("expected an UntrueError, got %v", err)
			}
		})
	}
}

func checkpointOf(c *client.Client) error {
	_, _, err := c.Checkpoint(context.Background())
	return err
}
func entryZero(c *client.Client) error { _, err := c.Entry(context.Background(), 0); return err }
func beaconOf(c *client.Client) error  { _, _, err := c.Beacon(context.Background()); return err }

func chainOf(id statement.KeyID) func(c *client.Client) error {
	return func(c *client.Client) error { _, err := c.Chain(context.Background(), id, trial); return err }
}

func receiptOf(id statement.Identity) func(c *client.Client) error {
	return func(c *client.Client) error { _, err := c.Receipt(context.Background(), id); return err }
}

func quoteLog(note string) string {
	b, err := json.Marshal(note)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("{%q:%q,%q:%s}", "log", "log.example.org/trials", "checkpoint", b)
}

func TestTheReceiptOfAnother(t *testing.T) {
	f := newFixture(t)
	one, two := f.mustSubmit(milestone()), f.mustSubmit(milestone())
	c := f.through(t, func(w http.ResponseWriter, r *http.Request) bool {
		r.URL.Path = strings.Replace(r.URL.Path, one.Identity.String(), two.Identity.String(), 1)
		return false
	})
	_, err := c.Receipt(context.Background(), one.Identity)
	var untrue *client.UntrueError
	if !errors.As(err, &untrue) || untrue.What != "receipt" || len(untrue.Answer) == 0 {
		t.Fatalf("expected an untrue receipt with its bytes, got %v", err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	f := newFixture(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("followed to %s with %q", r.URL, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	c := f.through(t, func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
		return true
	})
	_, err := c.Describe(context.Background())
	var p *client.Problem
	if !errors.As(err, &p) || p.Status != http.StatusTemporaryRedirect {
		t.Fatalf("expected the 307 itself, got %v", err)
	}
}

func TestLongAnswersAreCutOff(t *testing.T) {
	f := newFixture(t)
	c := f.through(t, func(w http.ResponseWriter, _ *http.Request) bool {
		block := bytes.Repeat([]byte(" "), 1<<20)
		for range 64 {
			if _, err := w.Write(block); err != nil {
				break
			}
		}
		return true
	})
	if _, err := c.Describe(context.Background()); err == nil {
		t.Fatal("64 MiB were taken for an answer")
	}
}

func TestProblemTexts(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct {
		name, contentType, body string
		want                    client.Problem
	}{
		{
			"whole", "application/problem+json",
			`{"type":"https://trialog.dev/problems/bad-request","title":"Bad Request","status":400,"detail":"wait: wrong","field":"wait","more":1}`,
			client.Problem{Type: "https://trialog.dev/problems/bad-request", Title: "Bad Request", Detail: "wait: wrong", Field: "wait"},
		},
		{
			"control characters", "application/problem+json; charset=utf-8",
			`{"title":"T","detail":"a\u001b[31mred\u0007\u202e"}`,
			client.Problem{Title: "T", Detail: "a [31mred  "},
		},
		{"a proxy's page", "text/html", `<html>x</html>`, client.Problem{Title: "Bad Request"}},
		{"no JSON", "application/problem+json", `{`, client.Problem{Title: "Bad Request"}},
		{
			"a head that is none", "application/problem+json", `{"title":"T","head":{"number":3}}`,
			client.Problem{Title: "T"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := f.through(t, func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", tt.contentType)
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, tt.body)
				return true
			})
			_, err := c.Describe(context.Background())
			var p *client.Problem
			tt.want.Status = http.StatusBadRequest
			if !errors.As(err, &p) || *p != tt.want {
				t.Fatalf("got %#v, expected %#v", p, tt.want)
			}
			if p.Error() == "" || p.Temporary() {
				t.Errorf("%q, temporary %t", p.Error(), p.Temporary())
			}
		})
	}
}

func TestLongTextsAreCutOff(t *testing.T) {
	f := newFixture(t)
	c := f.through(t, func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"title":"T","detail":"x`+strings.Repeat("é", 5000)+`"}`)
		return true
	})
	_, err := c.Describe(context.Background())
	var p *client.Problem
	if !errors.As(err, &p) || len(p.Detail) > 2010 || !strings.HasSuffix(p.Detail, "é…") {
		t.Fatalf("the detail has %d bytes", len(p.Detail))
	}
}

func TestTemporary(t *testing.T) {
	for status, want := range map[int]bool{
		400: false, 401: false, 403: false, 404: false, 408: true, 409: false, 413: false, 425: true, 429: true, 499: true,
		500: true, 501: false, 502: true, 503: true, 504: true, 505: false, 307: false,
	} {
		if got := (&client.Problem{Status: status}).Temporary(); got != want {
			t.Errorf("%d is temporary: %t", status, got)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	now := func() time.Time { return time.Unix(0, 0) }
	for _, tt := range []struct{ name, server, token string }{
		{"nothing", "", ""},
		{"no scheme", "log.example.org", ""},
		{"another scheme", "ftp://log.example.org", ""},
		{"a query", "https://log.example.org/?x=1", ""},
		{"a fragment", "https://log.example.org/#x", ""},
		{"a password", "https://user:secret@log.example.org", ""},
		{"no URL", "https://log example", ""},
		{"a token in clear", "http://log.example.org", "token"},
		{"a token with a line break", "https://log.example.org", "to\nken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := client.New(client.Config{Server: tt.server, Token: tt.token, Now: now}); err == nil {
				t.Error("accepted")
			}
		})
	}
	for _, server := range []string{
		"http://127.0.0.1:8080", "http://[::1]:8080/", "http://localhost", "https://log.example.org/prefix",
	} {
		if _, err := client.New(client.Config{Server: server, Token: "token", Now: now}); err != nil {
			t.Errorf("%s: %v", server, err)
		}
	}
	if _, err := client.New(client.Config{Server: "https://log.example.org"}); err == nil {
		t.Error("accepted without a clock")
	}
}

func TestPrefixAndHeaders(t *testing.T) {
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		_, _ = io.WriteString(w, `{"log":"log.example.org/trials","newField":{"x":1}}`)
	}))
	defer server.Close()
	c, err := client.New(client.Config{
		Server: server.URL + "/logs/a/", Token: "abc", UserAgent: "agent/1", Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Describe(context.Background()); err != nil {
		t.Fatalf("a field of a newer server is refused: %v", err)
	}
	if got.URL.Path != "/logs/a/v1/log" || got.Header.Get("Authorization") != "Bearer abc" || got.UserAgent() != "agent/1" ||
		got.ContentLength != 0 {
		t.Errorf("asked for %s with %v", got.URL, got.Header)
	}
}

// The server is gone.
func TestNobodyThere(t *testing.T) {
	f := newFixture(t)
	f.server.Close()
	_, err := f.Describe(context.Background())
	var u *client.UnreachableError
	if !errors.As(err, &u) || !client.Unreachable(err) || u.Attempts < 2 {
		t.Fatalf("got %v", err)
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		t.Errorf("the error repeats the address: %v", err)
	}
}
