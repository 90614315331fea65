package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/blob"
)

const pdf = "Content-Type: application/pdf"

// stored lists the objects of a house.
func (h *house) stored() []string {
	var keys []string
	for key := range h.docs.List(context.Background(), "") {
		keys = append(keys, key)
	}
	return keys
}

// logged logs a protocol and returns its identity.
func (h *house) logged(document []byte) string {
	h.t.Helper()
	return h.world.mustAdd(h.world.protocol(document)).GetIdentity()
}

func TestDocument(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	document := []byte("the protocol of a trial")
	path := "/v1/documents/" + hashed(string(document))
	id := h.logged(document)
	get := func() *answer { return h.request("GET", path+"?statement="+id, nil) }
	if got := get().want(t, 404, nil); got.problem.Field != "sha256" {
		t.Errorf("field %q", got.problem.Field)
	}
	for range 2 { // again is no error
		var got struct{ SHA256, Size string }
		h.request("PUT", path, bytes.NewReader(document), pdf, statementHeader+": "+id).want(t, 200, &got)
		if got.SHA256 != hashed(string(document)) || got.Size != strconv.Itoa(len(document)) {
			t.Errorf("got %+v", got)
		}
	}
	got := get().want(t, 200, nil)
	if !bytes.Equal(got.body, document) || got.header.Get("Content-Type") != "application/pdf" ||
		got.header.Get("Content-Disposition") != "attachment" || got.header.Get("X-Content-Type-Options") != "nosniff" ||
		!strings.Contains(got.header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("got %q with %v", got.body, got.header)
	}
	if again := h.request("GET", path+"?statement="+id, nil, "If-None-Match: "+got.header.Get("ETag")); again.status != 304 {
		t.Errorf("with its ETag: status %d", again.status)
	}
	if h.request("GET", path+"?statement="+id, nil, "Range: bytes=0-1").status != 200 {
		t.Error("a range was given")
	}
}

// TestDocumentAhead: with a token before its statement, but given out only
// behind it.
func TestDocumentAhead(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	document := []byte("ahead")
	path := "/v1/documents/" + hashed(string(document))
	h.request("PUT", path, bytes.NewReader(document), pdf, bearer(tokenUpload)).want(t, 200, nil)
	other := h.logged([]byte("another document"))
	for _, id := range []string{other, w.trials[testTrial].String()} {
		if got := h.request("GET", path+"?statement="+id, nil).want(t, 404, nil); got.problem.Field != "sha256" {
			t.Errorf("field %q", got.problem.Field)
		}
	}
	// A statement that seals a document whose commitment happens to be this
	// digest does not publish it.
	sealed := w.mustAdd(w.signed(&statement.Statement{
		Organisation: testOrg, Trial: testTrial, Kind: statement.KindProtocol, MediaType: "application/pdf",
		Subject: statement.SubjectCommit, Digest: digestOf(t, hashed(string(document))),
	}, w.sponsor))
	h.request("GET", path+"?statement="+sealed.GetIdentity(), nil).want(t, 404, nil)
	got := h.request("PUT", path, bytes.NewReader(document), pdf, statementHeader+": "+sealed.GetIdentity()).want(t, 403, nil)
	if got.problem.Field != statementHeader {
		t.Errorf("field %q", got.problem.Field)
	}
	h.request("GET", path+"?statement="+h.logged(document), nil).want(t, 200, nil)
}

func digestOf(t *testing.T, text string) statement.Digest {
	t.Helper()
	d, err := statement.ParseDigest(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEmptyDocument(t *testing.T) {
	h := newHouse(t, newWorld(t))
	h.request("PUT", "/v1/documents/"+hashed(""), http.NoBody, pdf, bearer(tokenUpload)).want(t, 200, nil)
}

func TestBadUploads(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	id := h.logged([]byte("p"))
	for _, tc := range []struct {
		name, sha256, body string
		headers            []string
		status             int
		field              string
	}{
		{"wrong digest", hashed("q"), "p", []string{pdf, bearer(tokenUpload)}, 400, "sha256"},
		{"digest in upper case", strings.ToUpper(hashed("p")), "p", []string{pdf, bearer(tokenUpload)}, 400, "sha256"},
		{"digest too short", hashed("p")[1:], "p", []string{pdf, bearer(tokenUpload)}, 400, "sha256"},
		{"too big", hashed("p"), strings.Repeat("x", 64<<10+1), []string{pdf, bearer(tokenUpload)}, 413, "body"},
		{"no content type", hashed("p"), "p", []string{bearer(tokenUpload)}, 415, "Content-Type"},
		{"content type with parameters", hashed("p"), "p", []string{"Content-Type: text/html; charset=utf-8", bearer(tokenUpload)}, 415, "Content-Type"},
		{"two content types", hashed("p"), "p", []string{pdf, pdf, bearer(tokenUpload)}, 415, "Content-Type"},
		{"compressed", hashed("p"), "p", []string{pdf, bearer(tokenUpload), "Content-Encoding: gzip"}, 415, "Content-Encoding"},
		{"query", hashed("p") + "?name=jane.pdf", "p", []string{pdf, bearer(tokenUpload)}, 400, "name"},
		{"stranger", hashed("p"), "p", []string{pdf}, 401, ""},
		{"other permission", hashed("p"), "p", []string{pdf, bearer(tokenReceive)}, 403, ""},
		{"statement of another document", hashed("q"), "q", []string{pdf, statementHeader + ": " + id}, 403, statementHeader},
		{"token does not help a wrong statement", hashed("q"), "q", []string{pdf, bearer(tokenUpload), statementHeader + ": " + id}, 403, statementHeader},
		{"statement that is none", hashed("p"), "p", []string{pdf, statementHeader + ": x"}, 400, statementHeader},
		{"two statements", hashed("p"), "p", []string{pdf, statementHeader + ": " + id, statementHeader + ": " + id}, 400, statementHeader},
		{"statement not in the log", hashed("p"), "p", []string{pdf, statementHeader + ": " + hashed("x")}, 404, statementHeader},
		{"other media type than the statement's", hashed("p"), "p", []string{"Content-Type: text/plain", statementHeader + ": " + id}, 415, "Content-Type"},
		{"wrong digest for a statement", hashed("p"), "q", []string{pdf, statementHeader + ": " + id}, 400, "sha256"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h.t = t
			got := h.request("PUT", "/v1/documents/"+tc.sha256, strings.NewReader(tc.body), tc.headers...)
			if got.status != tc.status || got.problem.Field != tc.field {
				t.Errorf("status %d, field %q: %.300s", got.status, got.problem.Field, got.body)
			}
		})
	}
	h.t = t
	if got := h.request("PUT", "/v1/documents/"+hashed("p"), onlyReader{strings.NewReader("p")}, pdf, bearer(tokenUpload)); got.status != 411 {
		t.Errorf("without a length: status %d", got.status)
	}
	if keys := h.stored(); len(keys) > 0 {
		t.Errorf("stored %v", keys)
	}
}

// onlyReader hides a length.
type onlyReader struct{ io.Reader }

// raw sends bytes as they are and reads the status of one answer, after the
// writing side was closed if cut is set.
func (h *house) raw(text string, cut bool) (status int, err error) {
	h.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		h.t.Fatal(err)
	}
	if cut {
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			h.t.Fatal(err)
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// TestSlowAndCutBodies: what does not arrive is not waited for, and nothing of
// it is stored.
func TestSlowAndCutBodies(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, func(c *Config) {
		c.Limits = Limits{BodyTimeout: 50 * time.Millisecond, UploadRate: 1 << 40, HeaderTimeout: 50 * time.Millisecond}
	})
	put := func(length int, body string) string {
		return fmt.Sprintf("PUT /v1/documents/%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/pdf\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
			hashed("whole document"), tokenUpload, length, body)
	}
	post := "POST /v1/statements HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
	for name, tc := range map[string]struct {
		text   string
		cut    bool
		status int
	}{
		"slow upload":   {put(14, "whole"), false, 408},
		"cut upload":    {put(14, "whole"), true, 400},
		"slow JSON":     {post, false, 408},
		"cut JSON":      {post, true, 400},
		"huge length":   {put(1<<40, "whole"), false, 413},
		"two lengths":   {strings.Replace(put(14, "whole"), "\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n", 1), false, 400},
		"length, chunk": {strings.Replace(put(14, "whole"), "\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n", 1), false, 0},
		"slow header":   {"GET /v1/log HTTP/1.1\r\nHost: x\r\n", false, 0},
		"huge header":   {"GET /v1/log HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", false, 431},
	} {
		status, err := h.raw(tc.text, tc.cut)
		switch {
		case tc.status == 0 && err == nil && status < 400:
			t.Errorf("%s: status %d", name, status)
		case tc.status != 0 && (err != nil || status != tc.status):
			t.Errorf("%s: %d, %v, want %d", name, status, err, tc.status)
		}
	}
	if keys := h.stored(); len(keys) > 0 || w.calls["Add"] > 0 {
		t.Errorf("stored %v", keys)
	}
}

// holding starts an upload of one byte that is held when the gateway has begun to
// read it, until let go. It returns when the gateway reads; ended gives the
// status.
func (h *house) holding(hold <-chan struct{}, headers ...string) (ended <-chan int) {
	h.t.Helper()
	entered, done := make(chan struct{}), make(chan int, 1)
	body := &heldReader{text: []byte("p"), entered: entered, hold: hold}
	req, err := http.NewRequest(http.MethodPut, h.url+"/v1/documents/"+hashed("p"), body)
	if err != nil {
		h.t.Fatal(err)
	}
	req.ContentLength = 1
	for _, line := range append(headers, pdf, "Expect: 100-continue") { // sent only once the gateway reads
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	go func() {
		resp, err := continuing().Do(req)
		if err != nil {
			h.t.Error(err)
			done <- 0
			return
		}
		done <- resp.StatusCode
		_ = resp.Body.Close()
	}()
	select {
	case <-entered:
	case status := <-done:
		h.t.Fatalf("the upload ended with %d before it was read", status)
	}
	return done
}

// TestUploadSlots: no more uploads than there is room for.
func TestUploadSlots(t *testing.T) {
	h := newHouse(t, newWorld(t))
	hold := make(chan struct{})
	first, second := h.holding(hold, bearer(tokenUpload)), h.holding(hold, bearer(tokenUpload2))
	upload := func() *answer {
		return h.request("PUT", "/v1/documents/"+hashed("p"), strings.NewReader("p"), pdf, bearer(tokenUpload3))
	}
	if got := upload().want(t, 503, nil); got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	close(hold)
	for _, ended := range []<-chan int{first, second} {
		if status := <-ended; status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
	upload().want(t, 200, nil)
}

// TestOneUploadOfACaller: nobody takes all places, neither a stranger with a
// statement that is logged nor who has a token.
func TestOneUploadOfACaller(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w)
	w.startTrial()
	stranger, principal := statementHeader+": "+h.logged([]byte("p")), bearer(tokenUpload)
	upload := func(headers ...string) *answer {
		return h.request("PUT", "/v1/documents/"+hashed("p"), strings.NewReader("p"), append(headers, pdf)...)
	}
	for name, tc := range map[string]struct{ greedy, other string }{
		"stranger": {stranger, principal}, "principal": {principal, stranger},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			hold := make(chan struct{})
			ended := h.holding(hold, tc.greedy)
			for range 3 {
				if got := upload(tc.greedy).want(t, 429, nil); got.header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
			}
			upload(tc.other).want(t, 200, nil)
			close(hold)
			if status := <-ended; status != http.StatusOK {
				t.Errorf("status %d", status)
			}
			upload(tc.greedy).want(t, 200, nil) // its turn is over
		})
	}
}

// TestSlotsAfterQuota: who may not ask takes no place, and gets the reason even
// if there is none.
func TestSlotsAfterQuota(t *testing.T) {
	w := newWorld(t)
	h := newHouse(t, w, withQuota(config.GatewayQuota{Principal: slow(2)}))
	w.startTrial()
	id := h.logged([]byte("p"))
	path := "/v1/documents/" + hashed("p")
	for _, slots := range []chan struct{}{h.g.documents.in, h.g.documents.out} {
		for range cap(slots) {
			slots <- struct{}{}
		}
	}
	for range 2 {
		h.request("GET", "/v1/log", nil, bearer(tokenReceive)).want(t, 200, nil)
	}
	h.request("PUT", path, strings.NewReader("p"), pdf, bearer(tokenReceive)).want(t, 429, nil)
	h.request("GET", path+"?statement="+id, nil, bearer(tokenReceive)).want(t, 429, nil)
	h.request("GET", path+"?statement="+id, nil, bearer("guess")).want(t, 401, nil)
	h.request("GET", path, nil).want(t, 400, nil)
	h.request("GET", "/v1/documents/"+hashed("q")+"?statement="+id, nil).want(t, 404, nil)
	h.request("GET", path+"?statement="+id, nil).want(t, 503, nil)
}

// TestStalledUpload: what was announced does not lengthen the wait for what does
// not come.
func TestStalledUpload(t *testing.T) {
	h := newHouse(t, newWorld(t), func(c *Config) {
		c.Limits = Limits{BodyTimeout: 50 * time.Millisecond, UploadRate: 1}
	})
	status, err := h.raw(fmt.Sprintf(
		"PUT /v1/documents/%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/pdf\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\nx",
		hashed("p"), tokenUpload, 64<<10), false)
	if err != nil || status != http.StatusRequestTimeout {
		t.Errorf("status %d, %v", status, err)
	}
}

// TestPace: how long the next byte may take.
func TestPace(t *testing.T) {
	begun := time.Unix(1_800_000_000, 0)
	for _, tc := range []struct {
		name  string
		after time.Duration // since the body began
		read  int64
		left  time.Duration // for the next byte
	}{
		{"at the start", 0, 0, 10 * time.Second},
		{"nothing came", 9 * time.Second, 0, time.Second},
		{"one byte does not help", 9 * time.Second, 1, time.Second + 10*time.Millisecond},
		{"dribbling", 11 * time.Second, 11, -890 * time.Millisecond},
		{"at the rate", 100 * time.Second, 10_000, 10 * time.Second},
		{"a little slow", 100 * time.Second, 9_500, 5 * time.Second},
		{"too slow", 100 * time.Second, 8_900, -time.Second},
		{"what came fast buys no long pause", time.Second, 1 << 20, 10 * time.Second},
	} {
		p := &pacedReader{
			now: func() time.Time { return begun.Add(tc.after) }, begun: begun, pause: 10 * time.Second, rate: 100, read: tc.read,
		}
		if got := p.deadline().Sub(begun.Add(tc.after)); got != tc.left {
			t.Errorf("%s: %v left, want %v", tc.name, got, tc.left)
		}
	}
	// Each read is under the deadline of what came before it.
	var set []time.Duration
	p := &pacedReader{
		body: iotest.OneByteReader(strings.NewReader("abc")), begun: begun, pause: time.Second, rate: 1,
		now:   func() time.Time { return begun.Add(time.Hour) },
		until: func(d time.Time) error { set = append(set, d.Sub(begun)); return nil },
	}
	if _, err := io.ReadFull(p, make([]byte, 3)); err != nil {
		t.Error(err)
	}
	if want := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}; !slices.Equal(set, want) {
		t.Errorf("deadlines %v, want %v", set, want)
	}
}

// continuing is a client that waits for 100 Continue as long as it takes.
func continuing() *http.Client {
	return &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Hour, DisableKeepAlives: true}}
}

// heldReader gives its text once it is let go.
type heldReader struct {
	text    []byte
	entered chan<- struct{}
	hold    <-chan struct{}
	once    bool
}

func (r *heldReader) Read(p []byte) (int, error) {
	if r.once {
		return 0, io.EOF
	}
	r.once = true
	r.entered <- struct{}{}
	<-r.hold
	return copy(p, r.text), nil
}

// brokenStore is a document store that fails, or lies.
type brokenStore struct {
	Documents
	put, get error
	stores   bool // although put fails
	lie      []byte
}

func (b *brokenStore) Put(ctx context.Context, objects ...blob.Object) error {
	if b.put == nil || b.stores {
		if err := b.Documents.Put(ctx, objects...); err != nil {
			return err
		}
	}
	return b.put
}

func (b *brokenStore) Get(ctx context.Context, key string) ([]byte, error) {
	if b.get != nil {
		return nil, b.get
	}
	if b.lie != nil {
		return b.lie, nil
	}
	return b.Documents.Get(ctx, key)
}

// TestDocumentStoreFails: an upload is acknowledged only when it is durable; what
// is given out is what was asked for.
func TestDocumentStoreFails(t *testing.T) {
	w := newWorld(t)
	store := &brokenStore{Documents: blob.NewMemory()}
	h := newHouse(t, w, func(c *Config) { c.Documents = store })
	w.startTrial()
	id := h.logged([]byte("p"))
	path := "/v1/documents/" + hashed("p")
	upload := func() *answer {
		return h.request("PUT", path, strings.NewReader("p"), pdf, statementHeader+": "+id)
	}
	download := func() *answer { return h.request("GET", path+"?statement="+id, nil) }
	for _, stores := range []bool{false, true} {
		store.put, store.stores = errors.New("disk of secret-host"), stores
		if got := upload().want(t, 503, nil); strings.Contains(string(got.body), "secret") || got.header.Get("Retry-After") == "" {
			t.Errorf("answered %s", got.body)
		}
		store.put = nil
		upload().want(t, 200, nil)
		download().want(t, 200, nil)
	}
	store.get = errors.New("disk of secret-host")
	if got := download().want(t, 503, nil); strings.Contains(string(got.body), "secret") {
		t.Errorf("answered %s", got.body)
	}
	store.get, store.lie = nil, []byte("another document")
	if got := download().want(t, 503, nil); strings.Contains(string(got.body), "another") {
		t.Errorf("answered %s", got.body)
	}
	store.lie = nil
	// A receipt that does not verify opens nothing.
	w.before = func(rpc string, _ any) error { return errCut }
	download().want(t, 503, nil)
	upload().want(t, 503, nil)
}
