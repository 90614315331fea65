package proofs_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/proofs"
)

// receiptOf makes a receipt of an entry under the published note.
func (l *testLog) receiptOf(t *testing.T, index uint64) *receipt.Receipt {
	t.Helper()
	note, err := checkpoint.Parse(l.get(t, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := tile.NewReader(l.store).Tree(t.Context(), note.Checkpoint().Size, note.Checkpoint().Root)
	if err != nil {
		t.Fatal(err)
	}
	path, err := tree.Inclusion(t.Context(), index, tree.Size())
	if err != nil {
		t.Fatal(err)
	}
	return &receipt.Receipt{Entry: append(entryAt(index), l.mark...), Proof: &receipt.Proof{Index: index, Path: path, Note: note}}
}

func encode(t *testing.T, r *receipt.Receipt) []byte {
	t.Helper()
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (s *service) refresh(t *testing.T, method string, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	s.handler.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), method, "/v1/receipts:refresh", bytes.NewReader(body)))
	return rec
}

// holds checks a proof of entry index against its own note.
func holds(t *testing.T, entry []byte, p *receipt.Proof, wantSize uint64) {
	t.Helper()
	c := p.Note.Checkpoint()
	if c.Size != wantSize {
		t.Errorf("the proof is under size %d, expected %d", c.Size, wantSize)
	}
	leaf := tile.LeafHash(entry)
	path := make([][]byte, len(p.Path))
	for i := range p.Path {
		path[i] = p.Path[i][:]
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, p.Index, c.Size, leaf[:], path, c.Root[:]); err != nil {
		t.Errorf("index %d: %v", p.Index, err)
	}
}

func TestReceiptRefresh(t *testing.T) {
	l := newLog(t).grow(t, 5)
	l.publish(t)
	old := l.receiptOf(t, 3)
	enrolment := l.receiptOf(t, 1)
	old.Enrolments = []receipt.Enrolment{{Entry: enrolment.Entry, Proof: enrolment.Proof}}
	l.grow(t, 300).publish(t)
	s := l.serve(t)
	answer := s.refresh(t, http.MethodPost, encode(t, old))
	if answer.Code != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	fresh, err := receipt.Parse(answer.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(fresh.Entry, old.Entry) || fresh.Proof.Index != 3 {
		t.Error("the fresh receipt is about another entry")
	}
	holds(t, fresh.Entry, fresh.Proof, 300)
	holds(t, fresh.Enrolments[0].Entry, fresh.Enrolments[0].Proof, 300)
}

func TestReceiptRefreshRefuses(t *testing.T) {
	l := newLog(t).grow(t, 5)
	l.publish(t)
	s := l.serve(t)
	good := func() *receipt.Receipt { return l.receiptOf(t, 3) }
	change := func(f func(*receipt.Receipt)) []byte {
		r := good()
		f(r)
		return encode(t, r)
	}
	foreign, err := checkpoint.SignLog(checkpoint.Checkpoint{Origin: "other.example/shard", Size: 4}, 1,
		seeded(t, "other.example/shard", checkpoint.AlgEd25519))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		method string
		body   []byte
		status int
		field  string
	}{
		"method":      {http.MethodGet, nil, http.StatusMethodNotAllowed, ""},
		"empty":       {http.MethodPost, nil, http.StatusBadRequest, "body"},
		"not JSON":    {http.MethodPost, []byte("{"), http.StatusBadRequest, "body"},
		"too large":   {http.MethodPost, bytes.Repeat([]byte(" "), receipt.MaxSize+1), http.StatusRequestEntityTooLarge, "body"},
		"other entry": {http.MethodPost, change(func(r *receipt.Receipt) { r.Entry = entryAt(4) }), http.StatusNotFound, "entry"},
		"other index": {http.MethodPost, change(func(r *receipt.Receipt) { r.Proof.Index = 2 }), http.StatusNotFound, "entry"},
		"too far":     {http.MethodPost, change(func(r *receipt.Receipt) { r.Proof.Index = 5 }), http.StatusNotFound, "proof"},
		"origin":      {http.MethodPost, change(func(r *receipt.Receipt) { r.Proof.Note = foreign }), http.StatusBadRequest, "proof"},
		"tokens":      {http.MethodPost, change(func(r *receipt.Receipt) { r.Tokens = [][]byte{{1}} }), http.StatusBadRequest, "tokens"},
		"enrolment": {http.MethodPost, change(func(r *receipt.Receipt) {
			r.Enrolments = []receipt.Enrolment{{Entry: entryAt(0), Proof: l.receiptOf(t, 1).Proof}}
		}), http.StatusNotFound, "entry"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := s.refresh(t, c.method, c.body)
			problem(t, answer, c.status, c.field)
		})
	}
	kept := encode(t, good())
	l.put(t, "tail/entries-0", []byte("damaged"))
	l.put(t, "tail/0-0", []byte("damaged"))
	if answer := l.serve(t).refresh(t, http.MethodPost, kept); answer.Code != http.StatusServiceUnavailable {
		t.Errorf("damaged tiles: status %d, expected 503", answer.Code)
	}
}

// held is a body that comes when the test says so.
type held struct {
	reading chan<- struct{}
	release <-chan struct{}
	io.Reader
}

func (h *held) Read(p []byte) (int, error) {
	if h.reading != nil {
		h.reading <- struct{}{}
		h.reading = nil
		<-h.release
	}
	return h.Reader.Read(p)
}

// TestReceiptRefreshIsBounded: as many receipts as may be in memory are being
// read; one more is told to come back, and may do so when one of them is done.
func TestReceiptRefreshIsBounded(t *testing.T) {
	l := newLog(t).grow(t, 5)
	l.publish(t)
	s := l.serve(t)
	body := encode(t, l.receiptOf(t, 3))
	const atOnce = 8
	reading, release := make(chan struct{}), make(chan struct{})
	var open sync.WaitGroup
	for range atOnce {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/receipts:refresh",
			&held{reading, release, bytes.NewReader(body)})
		open.Go(func() {
			rec := httptest.NewRecorder()
			s.handler.ServeHTTP(rec, r)
			if rec.Code != http.StatusOK {
				t.Errorf("one of those that were let in: %d %s", rec.Code, rec.Body)
			}
		})
		<-reading
	}
	refused := s.refresh(t, http.MethodPost, body)
	problem(t, refused, http.StatusServiceUnavailable, "")
	if refused.Header().Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", refused.Header().Get("Retry-After"))
	}
	if rec := s.get(t, "/checkpoint"); rec.Code != http.StatusOK {
		t.Errorf("reads meanwhile: %d", rec.Code)
	}
	close(release)
	open.Wait()
	if rec := s.refresh(t, http.MethodPost, body); rec.Code != http.StatusOK {
		t.Errorf("afterwards: %d %s", rec.Code, rec.Body)
	}
}

// TestReceiptRefreshDoesNotWait: a sender who is slow is not waited for, nor is
// one waited for who has said that there is too much.
func TestReceiptRefreshDoesNotWait(t *testing.T) {
	l := newLog(t).grow(t, 5)
	l.publish(t)
	// By a clock of long ago, every body is late.
	s := l.serve(t, func(c *proofs.Config) { c.Now = func() time.Time { return time.Unix(1_700_000_000, 0) } })
	for head, want := range map[string]int{
		"Content-Length: 100":                                http.StatusRequestTimeout,
		fmt.Sprintf("Content-Length: %d", receipt.MaxSize+1): http.StatusRequestEntityTooLarge,
	} {
		if got := headStatus(t, newServer(t, s.handler), head); got != want {
			t.Errorf("%s: %d, want %d", head, got, want)
		}
	}
}

// headStatus sends the head of a request without its body.
func headStatus(t *testing.T, address, head string) int {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// A server that waits fails the test, it does not hang it.
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "POST /v1/receipts:refresh HTTP/1.1\r\nHost: log.example\r\n%s\r\n\r\n", head); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	return answer.StatusCode
}
