package fault

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/trialog/trialog/e2e/harness"
	"github.com/trialog/trialog/internal/pgtest"
)

// rounds is n, or a part of it for a quick run.
func rounds(n int) int {
	if testing.Short() {
		return max(n/10, 2)
	}
	return n
}

// TestPostgresKilledMidCommit kills PostgreSQL 30 times at random moments under
// load. The log waits for it, or ends and is started again; nothing that it
// acknowledged is lost.
func TestPostgresKilledMidCommit(t *testing.T) {
	const submitters = 6
	n := rounds(30)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	server := pgtest.New(t)
	l := harness.NewLog(t).With("--store", server.Database(t))
	l.Start()
	ld := startLoad(t, l, submitters)
	restarts := 0
	for range n {
		ld.await(random.IntN(60))
		// At a random moment of whatever is being done then.
		timer := time.NewTimer(time.Duration(random.IntN(20_000)) * time.Microsecond)
		<-timer.C
		server.Kill()
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		if ld.endsOrGoesOn(l, submitters) {
			restarts++
			l.Kill()
			l.Start()
		}
	}
	ld.await(20)
	ld.end()
	ld.settle(l)
	ld.check(l)
	t.Logf("seed %d: %d kills of PostgreSQL, the log ended %d times", seed, n, restarts)
}
