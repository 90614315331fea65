package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// Asked is one add-checkpoint request (C2SP tlog-witness) and what was answered.
type Asked struct {
	Old   uint64
	Note  *checkpoint.Note
	Lines []checkpoint.Signature // of an honest 200
	Took  time.Duration          // until it was there
}

// Between stands between a log and one of its witnesses. It hands everything on
// and keeps a record, or lies in the witness's name.
type Between struct {
	URL string

	t      testing.TB
	to     string
	client *http.Client

	mu     sync.Mutex
	lie    func(http.ResponseWriter, *http.Request, Asked)
	told   []Asked // to these the present lie was told
	record []Asked
	asking chan struct{}   // closed by the next request
	ctx    context.Context //nolint:containedctx // of the present lie
	cancel context.CancelFunc
}

// StandBetween has the log speak to the witness at a URL of its policy through
// the returned Between. The log was made and does not run.
func (l *Log) StandBetween(to string) *Between {
	l.t.Helper()
	b := &Between{
		t: l.t, to: to, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, asking: make(chan struct{}),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	server := httptest.NewServer(http.HandlerFunc(b.serve))
	b.URL = server.URL
	// Nobody waits for an answer any more then.
	l.t.Cleanup(func() { b.Lie(nil); server.CloseClientConnections(); server.Close() })
	l.EditPolicy(func(policy string) string { return strings.ReplaceAll(policy, to+"\n", b.URL+"\n") })
	return b
}

// Lie has the witness answer by lie from now on; honestly again if it is nil. A
// lie may be told to several requests at a time. It may wait for the end of the
// request's context, which comes when the log has given up, or with the next
// call of Lie.
func (b *Between) Lie(lie func(w http.ResponseWriter, r *http.Request, a Asked)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cancel()
	b.lie, b.told = lie, nil
	b.ctx, b.cancel = context.WithCancel(context.Background())
}

// Asking is closed when the log asks the next time, before the witness is asked.
func (b *Between) Asking() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asking
}

// AwaitLie waits until the present lie was told, and returns the first request
// that it was told to.
func (b *Between) AwaitLie() Asked {
	b.t.Helper()
	b.await("been asked", func() bool { return len(b.told) > 0 })
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.told[0]
}

// Record is all that the witness has honestly answered with a 200, in the order
// of the answers.
func (b *Between) Record() []Asked {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.record)
}

// AwaitCosigned waits until the witness has honestly cosigned a checkpoint of at
// least that size.
func (b *Between) AwaitCosigned(size uint64) {
	b.t.Helper()
	b.await(fmt.Sprintf("cosigned size %d", size), func() bool {
		return len(b.record) > 0 && b.record[len(b.record)-1].Note.Checkpoint().Size >= size
	})
}

func (b *Between) await(what string, is func() bool) {
	b.t.Helper()
	deadline := time.After(startTimeout)
	for {
		b.mu.Lock()
		reached := is()
		b.mu.Unlock()
		if reached {
			return
		}
		select {
		case <-deadline:
			b.t.Fatalf("the witness at %s has not %s", b.to, what)
		case <-time.After(time.Millisecond): // between two looks
		}
	}
}

func (b *Between) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	a := parseAsked(b.t, body)
	b.mu.Lock()
	close(b.asking)
	b.asking = make(chan struct{})
	lie, present := b.lie, b.ctx
	if lie != nil {
		b.told = append(b.told, a)
	}
	b.mu.Unlock()
	if lie != nil {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		stop := context.AfterFunc(present, cancel) //nolint:contextcheck // it ends with either
		defer stop()
		lie(w, r.WithContext(ctx), a)
		return
	}
	b.handOn(w, r, body, a)
}

// handOn lets the witness answer.
func (b *Between) handOn(w http.ResponseWriter, r *http.Request, body []byte, a Asked) {
	begun := time.Now()
	status, contentType, answer, err := b.ask(r.Context(), r.URL.Path, body)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway) // the witness is gone
		return
	}
	if status == http.StatusOK {
		lines, err := checkpoint.ParseSignatureLines(answer)
		if err != nil {
			b.t.Errorf("the witness answered %q: %v", answer, err)
		}
		a.Lines, a.Took = lines, time.Since(begun)
		b.mu.Lock()
		b.record = append(b.record, a)
		b.mu.Unlock()
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(answer) //nolint:gosec // the witness's own words; and the log may be gone
}

func (b *Between) ask(ctx context.Context, path string, body []byte) (status int, contentType string, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.to+path, bytes.NewReader(body)) //nolint:gosec // a witness of the test
	if err != nil {
		return 0, "", nil, err
	}
	resp, err := b.client.Do(req) //nolint:gosec // a witness of the test
	if err != nil {
		return 0, "", nil, err
	}
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get("Content-Type"), answer, errors.Join(err, resp.Body.Close())
}

// parseAsked reads what the log sent. A log that sends anything else is broken.
func parseAsked(t testing.TB, body []byte) Asked {
	head, raw, _ := strings.Cut(string(body), "\n\n")
	first, _, _ := strings.Cut(head, "\n")
	old, err := strconv.ParseUint(strings.TrimPrefix(first, "old "), 10, 64)
	if err != nil {
		t.Errorf("a request begins with %q", first)
	}
	n, err := checkpoint.Parse([]byte(raw))
	if err != nil {
		t.Errorf("a request holds no checkpoint: %v", err)
	}
	return Asked{Old: old, Note: n}
}
