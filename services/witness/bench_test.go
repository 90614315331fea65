package witness

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// BenchmarkAddCheckpoint: 100 logs that grow, over HTTP, each answer behind an
// fsync, with both of the log's signatures checked and both of the witness's made.
func BenchmarkAddCheckpoint(b *testing.B) {
	const logs, clients = 100, 8
	cfg := testConfig(b, newClock())
	cfg.Logs = nil
	queues := make([][]string, clients)
	for i := range logs {
		origin := fmt.Sprint("log.example/", i)
		keys := []*checkpoint.SigningKey{
			testKey(b, origin, checkpoint.AlgEd25519, byte(i)), testKey(b, origin, checkpoint.AlgMLDSA44, byte(i)),
		}
		cfg.Logs = append(cfg.Logs, Log{Origin: origin, Keys: []*checkpoint.VerifierKey{keys[0].Verifier(), keys[1].Verifier()}})
		tr := &tree{}
		for n := range (b.N - i + logs - 1) / logs {
			tr = tr.with(b, fmt.Sprint("leaf ", n))
			c := checkpoint.Checkpoint{Origin: origin, Size: uint64(tr.size), Root: tr.root(b)}
			queues[i%clients] = append(queues[i%clients], addBody(n, tr.proof(b, int64(n)), signed(b, c, keys...)))
		}
	}
	w := open(b, cfg)
	server := httptest.NewServer(w.Handler())
	defer server.Close()
	server.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = clients
	took := make([][]time.Duration, clients)
	var work sync.WaitGroup
	b.ResetTimer()
	for i, queue := range queues {
		work.Go(func() {
			for _, body := range queue {
				begin := time.Now()
				resp, err := server.Client().Post(server.URL+"/add-checkpoint", "text/plain", strings.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					b.Errorf("status %d", resp.StatusCode)
				}
				took[i] = append(took[i], time.Since(begin))
			}
		})
	}
	work.Wait()
	b.StopTimer()
	all := slices.Sorted(slices.Values(slices.Concat(took...)))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "add-checkpoint/s")
	b.ReportMetric(float64(all[len(all)/2])/1e6, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100])/1e6, "p99-ms")
}
