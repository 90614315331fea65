package main

import (
	"io"
	"net/http"

	"github.com/trialog/trialog/api/receipt"
)

// anchoring gives a log whose receipts can be had under an anchored checkpoint,
// but not the first time that one is asked for.
func anchoring(log http.Handler) http.Handler {
	asked := 0
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/receipts:refresh" {
			log.ServeHTTP(w, r)
			return
		}
		asked++
		if asked == 1 {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"type":"https://trialog.dev/problems/proofs/not-anchored","title":"Not Found","status":404,`+
				`"detail":"expected an entry below an anchored checkpoint; the next one is due by 2026-03-01T00:21:00Z","field":"proof"}`)
			return
		}
		sent, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		rec, err := receipt.Parse(sent)
		if err != nil || rec.Record != nil || r.URL.RawQuery != "anchored=true" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		rec.Tokens = [][]byte{{1}, {2}}
		raw, err := rec.Encode()
		if err != nil {
			return
		}
		_, _ = w.Write(raw)
	})
}
