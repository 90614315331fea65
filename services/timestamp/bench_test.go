package timestamp

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkIssue measures tokens over HTTP, each record durable before its token
// leaves: as fast as 16 clients can ask, and at a pace, by as many clients as it
// takes.
func BenchmarkIssue(b *testing.B) {
	b.Run("flat_out", func(b *testing.B) { issueBy(b, 16, 0) })
	b.Run("500_a_second", func(b *testing.B) { issueBy(b, 64, time.Second/500) })
}

func issueBy(b *testing.B, clients int, pace time.Duration) {
	w := newWorld(b, now(b))
	server := httptest.NewServer(w.Handler())
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	query := goodQuery().der(b)
	took := make([]time.Duration, b.N)
	next := make(chan int)
	var wg sync.WaitGroup
	b.ResetTimer()
	for range clients {
		wg.Go(func() {
			for i := range next {
				begin := time.Now()
				resp, err := client.Post(server.URL, typeQuery, bytes.NewReader(query))
				if err != nil {
					b.Error(err)
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					b.Errorf("status %d", resp.StatusCode)
				}
				took[i] = time.Since(begin)
			}
		})
	}
	begin := time.Now()
	for i := range b.N {
		if pace > 0 {
			<-time.After(time.Until(begin.Add(time.Duration(i) * pace)))
		}
		next <- i
	}
	close(next)
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
	b.ReportMetric(float64(took[b.N*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[b.N/2].Microseconds())/1000, "p50-ms")
}
