package fault

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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

// long tells whether TRIALOG_LONG asks for what takes minutes.
func long() bool { return os.Getenv("TRIALOG_LONG") != "" }

// killBackends kills all processes of a server but the first one, each wherever it
// is: by themselves they would end only when they wait for something, which is
// never in the middle of a commit.
func killBackends(t *testing.T, server *pgtest.Server) {
	t.Helper()
	lock, err := os.ReadFile(server.Socket() + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	postmaster, _, _ := strings.Cut(string(lock), "\n")
	children, err := filepath.Glob("/proc/" + postmaster + "/task/*/children")
	if err != nil || len(children) == 0 {
		t.Fatalf("processes of the server: %v, %v", children, err)
	}
	for _, path := range children {
		list, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for text := range strings.FieldsSeq(string(list)) {
			pid, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
		}
	}
}

// TestPostgresKilledMidCommit kills PostgreSQL 30 times at random moments under
// load. The log waits for it, or ends and is started again; nothing that it
// acknowledged is lost.
func TestPostgresKilledMidCommit(t *testing.T) {
	const submitters = 6
	n := rounds(30)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	// Each commit waits between writing its record and making it durable, so that
	// most of the time there is one in the middle.
	server := pgtest.New(t, "commit_delay=20000", "commit_siblings=0")
	l := harness.NewLog(t).With("--store", server.Database(t))
	l.Start()
	ld := startLoad(t, l, submitters)
	restarts := 0
	for range n {
		ld.await(random.IntN(60))
		// At a random moment of whatever is being done then.
		timer := time.NewTimer(time.Duration(random.IntN(20_000)) * time.Microsecond)
		<-timer.C
		killBackends(t, server)
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
