package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/receipt"
)

// TestAnchored: a receipt comes back under the checkpoint that the log has anchored,
// verified; the record and older tokens are not sent.
func TestAnchored(t *testing.T) {
	f := newFixture(t)
	first, other := f.mustSubmit(milestone()), f.mustSubmit(protocol([]byte("another")))
	var answer func(sent []byte) (int, []byte)
	f.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.String() != "/v1/receipts:refresh?anchored=true" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		status, body := answer(sent)
		if status != http.StatusOK {
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "50")
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
	})
	edit := func(raw []byte, change func(*receipt.Receipt)) []byte {
		r, err := receipt.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		raw, err = r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	stamped := func(raw []byte) []byte { return edit(raw, func(r *receipt.Receipt) { r.Tokens = [][]byte{{1}} }) }
	answer = func(sent []byte) (int, []byte) {
		r, err := receipt.Parse(sent)
		if err != nil || r.Record != nil || r.Tokens != nil {
			t.Errorf("sent: %+v, %v", r, err)
		}
		return http.StatusOK, stamped(sent)
	}
	old := edit(first.Receipt, func(r *receipt.Receipt) {
		r.Tokens, r.Record = [][]byte{{2}}, &receipt.Record{Data: []byte("secret")}
	})
	a, err := f.Anchored(context.Background(), old)
	if err != nil || a.Index != first.Index || a.Identity != first.Identity || a.Verdict == nil {
		t.Fatalf("%+v, %v", a, err)
	}
	if r, err := receipt.Parse(a.Receipt); err != nil || len(r.Tokens) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	for name, lie := range map[string][]byte{
		"another entry": stamped(other.Receipt),
		"a record":      old,
		"no receipt":    []byte("x"),
		"a false proof": edit(first.Receipt, func(r *receipt.Receipt) { r.Proof.Index++ }),
	} {
		answer = func([]byte) (int, []byte) { return http.StatusOK, lie }
		var untrue *client.UntrueError
		if a, err := f.Anchored(context.Background(), first.Receipt); !errors.As(err, &untrue) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	asked := 0
	answer = func([]byte) (int, []byte) {
		asked++
		return http.StatusNotFound, []byte(`{"type":"https://trialog.dev/problems/proofs/not-anchored","title":"Not Found","status":404,"detail":"due"}`)
	}
	var refused *client.Problem
	if _, err := f.Anchored(context.Background(), first.Receipt); !errors.As(err, &refused) || refused.Status != 404 ||
		refused.RetryAfter != 50*time.Second || asked != 1 {
		t.Errorf("not yet: %v, asked %d times", err, asked)
	}
	if _, err := f.Anchored(context.Background(), []byte("x")); err == nil {
		t.Error("no receipt was sent")
	}
	without := f.dial(nil, time.Minute)
	if _, err := without.Anchored(context.Background(), first.Receipt); !errors.Is(err, client.ErrNoPolicy) {
		t.Errorf("without a policy: %v", err)
	}
}
