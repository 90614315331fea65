package witness

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// childEnv holds the state file of a test binary that runs as a witness.
const childEnv = "WITNESS_TEST_CHILD_STATE"

// TestChildWitness is the witness that TestKill kills.
func TestChildWitness(t *testing.T) {
	path := os.Getenv(childEnv)
	if path == "" {
		t.Skip("only as a child of TestKill")
	}
	cfg := testConfig(t, newClock())
	cfg.StatePath = path
	cfg.Now = time.Now
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("listening %s\n", l.Addr())
	server := &http.Server{Handler: w.Handler(), ReadHeaderTimeout: time.Minute}
	t.Fatal(server.Serve(l))
}

// startChild starts a witness process on the state file.
func startChild(t *testing.T, state string) (url string, child *exec.Cmd) {
	t.Helper()
	child = exec.Command(os.Args[0], "-test.run=^TestChildWitness$", "-test.timeout=5m")
	child.Env = append(os.Environ(), childEnv+"="+state)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if addr, ok := strings.CutPrefix(lines.Text(), "listening "); ok {
			return "http://" + addr, child
		}
	}
	t.Fatal("the child ended before it listened")
	return "", nil
}

// journalOfRoots is what came out of the witness over all its lives.
type journalOfRoots struct {
	mu    sync.Mutex
	roots map[uint64]checkpoint.Hash
	acks  int
	fault error
}

func (j *journalOfRoots) signed(c checkpoint.Checkpoint) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	if before, ok := j.roots[c.Size]; ok && before != c.Root {
		j.fault = fmt.Errorf("two roots were cosigned at size %d: %x and %x", c.Size, before, c.Root)
	}
	j.roots[c.Size] = c.Root
	j.acks++
	return j.acks
}

// TestKill kills a witness under a load of conflicting checkpoints again and
// again: it never cosigns two roots at one size, and never forgets one.
func TestKill(t *testing.T) {
	lives := 50
	if testing.Short() {
		lives = 3
	}
	rng := rand.New(rand.NewPCG(1, 2))
	state := filepath.Join(t.TempDir(), "state")
	j := &journalOfRoots{roots: make(map[uint64]checkpoint.Hash)}
	// trees are those proposed, by root, so that the one that a dead witness
	// had recorded can be found again.
	base, trees := &tree{}, map[checkpoint.Hash]*tree{}
	trees[base.root(t)] = base
	for life := range lives {
		url, child := startChild(t, state)
		base = recorded(t, url, j, trees)
		limit := j.acks + rng.IntN(12)
		for round := 0; child.ProcessState == nil; round++ {
			base = propose(t, url, child, j, trees, base, fmt.Sprint(life, ".", round), limit)
		}
	}
	url, child := startChild(t, state)
	recorded(t, url, j, trees)
	kill(t, child)
	if len(j.roots) < lives {
		t.Errorf("only %d sizes were cosigned in %d lives", len(j.roots), lives)
	}
}

// propose sends conflicting growths of one tree at once, kills the witness when
// the limit of answers is reached, and returns the tree that won.
func propose(t *testing.T, url string, child *exec.Cmd, j *journalOfRoots, trees map[checkpoint.Hash]*tree, base *tree, mark string, limit int) *tree {
	t.Helper()
	const n = 6
	variants, bodies := make([]*tree, n), make([]string, n)
	for i := range n {
		variants[i] = base.with(t, fmt.Sprint(mark, " variant ", i))
		trees[variants[i].root(t)] = variants[i]
		bodies[i] = variants[i].step(t, base.size)
	}
	var wg sync.WaitGroup
	won := make(chan int, n)
	enough := make(chan struct{}, n)
	for i := range n {
		c := variants[i].checkpoint(t)
		wg.Go(func() {
			resp, err := http.Post(url+"/add-checkpoint", "", strings.NewReader(bodies[i]))
			if err != nil {
				return // it is dead
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || len(body) == 0 {
				return
			}
			won <- i
			if j.signed(c) >= limit {
				enough <- struct{}{}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-enough:
		kill(t, child) // while the others are under way
	case <-done:
		select {
		case <-enough:
			kill(t, child)
		default:
		}
	}
	<-done
	if j.fault != nil {
		t.Fatal(j.fault)
	}
	select {
	case i := <-won:
		return variants[i]
	default:
		return base
	}
}

func kill(t *testing.T, child *exec.Cmd) {
	t.Helper()
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // "signal: killed"
}

// recorded is the tree that the witness goes on from, after checking that it is
// one it may go on from.
func recorded(t *testing.T, url string, j *journalOfRoots, trees map[checkpoint.Hash]*tree) *tree {
	t.Helper()
	resp, err := http.Get(url + "/" + originHash(testOrigin) + "/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusNotFound {
		if len(j.roots) > 0 {
			t.Fatalf("%d sizes were cosigned and all of them forgotten", len(j.roots))
		}
		return &tree{}
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	note, err := checkpoint.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	c := note.Checkpoint()
	j.signed(c)
	if j.fault != nil {
		t.Fatal(j.fault)
	}
	for size := range j.roots {
		if size > c.Size {
			t.Fatalf("size %d was cosigned, the witness came back with %d", size, c.Size)
		}
	}
	tr := trees[c.Root]
	if tr == nil {
		t.Fatalf("the witness came back with a root that nobody proposed")
	}
	return tr
}
