package bucket

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register/registertest"
)

// fault is what a proxy does to a request that changes something.
type fault int

const (
	none      fault = iota
	lost            // 503, the server never sees it
	persisted       // the server does it, the answer is cut off
)

// proxy stands before an S3 server.
type proxy struct {
	*httptest.Server
	mu     sync.Mutex
	fault  fault
	left   int // how many requests have the fault
	faults int // how many had it
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // it is signed
	}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch p.next(r) {
		case lost:
			http.Error(w, "<Error><Code>SlowDown</Code></Error>", http.StatusServiceUnavailable)
		case persisted:
			forward.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		default:
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) next(r *http.Request) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 || r.Method != http.MethodPut && r.Method != http.MethodDelete {
		return none
	}
	p.left--
	p.faults++
	return p.fault
}

func (p *proxy) arm(f fault, times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.left, p.faults = f, times, 0
}

// TestFaults lets writes fail once, which the retry hides, and for good. An error
// leaves the whole old object or the whole new one, and never a lie about which.
func TestFaults(t *testing.T) {
	p := newProxy(t, registertest.Versity(t))
	c := s3Config{bucket: registertest.Bucket, endpoint: p.URL, pathStyle: true, pause: time.Millisecond}
	s, err := c.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const before, after = "before", "and after"
	check := func(name, want string) {
		t.Helper()
		p.arm(none, 0)
		got, err := s.Get(t.Context(), "k")
		if want == "" && !errors.Is(err, blob.ErrNotFound) || want != "" && string(got) != want {
			t.Errorf("%s: it holds %q, %v; want %q", name, got, err, want)
		}
	}
	for f, name := range map[fault]string{lost: "lost", persisted: "persisted"} {
		for _, times := range []int{1, attempts - 1, attempts} {
			p.arm(none, 0)
			if err := s.Put(t.Context(), blob.Object{Key: "k", Data: []byte(before)}); err != nil {
				t.Fatal(err)
			}
			hidden := times < attempts
			p.arm(f, times)
			if err := s.Put(t.Context(), blob.Object{Key: "k", Data: []byte(after)}); (err == nil) != hidden {
				t.Errorf("put, %s %d times: %v", name, times, err)
			}
			if p.faults != times {
				t.Errorf("put, %s: %d faults, want %d", name, p.faults, times)
			}
			if hidden || f == persisted {
				check("put, "+name, after)
			} else {
				check("put, "+name, before)
			}
			p.arm(f, times)
			if err := s.Delete(t.Context(), "k"); (err == nil) != hidden {
				t.Errorf("delete, %s %d times: %v", name, times, err)
			}
			if hidden || f == persisted {
				check("delete, "+name, "")
			}
		}
	}
}

// TestBatchFails: a batch of which one object fails is an error, and what is there
// afterwards is whole.
func TestBatchFails(t *testing.T) {
	p := newProxy(t, registertest.Versity(t))
	c := s3Config{bucket: registertest.Bucket, endpoint: p.URL, pathStyle: true, pause: time.Millisecond}
	s, err := c.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var objects []blob.Object
	for i := range 3 * parallel {
		objects = append(objects, blob.Object{Key: "batch/" + strings.Repeat("x", i+1), Data: []byte(strings.Repeat("y", i))})
	}
	p.arm(lost, 1<<30)
	if err := s.Put(t.Context(), objects...); err == nil {
		t.Error("a batch that nobody stored was reported as durable")
	}
	if p.faults > attempts*2*parallel {
		t.Errorf("%d requests after the first object had failed", p.faults)
	}
	p.arm(none, 0)
	if err := s.Put(t.Context(), objects...); err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if got, err := s.Get(t.Context(), o.Key); err != nil || !slices.Equal(got, o.Data) {
			t.Errorf("%s: %d bytes, %v", o.Key, len(got), err)
		}
	}
}

// TestBucketGone: when the bucket is deleted while it is open, its objects are not
// "not found": who asks would take the log for empty.
func TestBucketGone(t *testing.T) {
	registertest.Credentials(t)
	code := "NoSuchKey"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		if r.URL.Query().Has("list-type") {
			_, _ = w.Write([]byte("<ListBucketResult></ListBucketResult>"))
			return
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("<Error><Code>" + code + "</Code></Error>"))
	}))
	defer server.Close()
	c := s3Config{bucket: "b", endpoint: server.URL, pathStyle: true, pause: time.Millisecond}
	s, err := c.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "k"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a missing object: %v", err)
	}
	code = "NoSuchBucket"
	if _, err := s.Get(t.Context(), "k"); err == nil || errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a missing bucket: %v", err)
	}
}
