// Package harness starts real Trialog processes for black-box tests: it builds
// the binaries from the tree that it lies in, runs them on free ports with state
// in temporary folders, and kills them when asked to.
package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/verify"
)

// startTimeout bounds how long a log may take to be ready.
const startTimeout = 60 * time.Second

// Root returns the folder of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0) //nolint:dogsled // only the file is of interest
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// TestData returns the folder of outside test data, named by TRIALOG_TESTDATA;
// without it the test is skipped.
func TestData(t testing.TB, parts ...string) string {
	t.Helper()
	dir := os.Getenv("TRIALOG_TESTDATA")
	if dir == "" {
		t.Skip("TRIALOG_TESTDATA does not name the folder of outside test data")
	}
	return filepath.Join(append([]string{dir}, parts...)...)
}

// Need skips the test if a program that it runs is not installed.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

// programs are what Build has built, for all tests of a test binary.
type programs struct {
	mu    sync.Mutex
	dir   string
	paths map[string]string // by module, package and tags
}

var built programs //nolint:gochecknoglobals // building is slow, and its result is the same for all tests

// Main runs the tests of a package and removes what was built for them. The
// testing package ends the process with the result when TestMain returns.
func Main(m *testing.M) {
	m.Run()
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir) // a leftover in the temporary folder does no harm
	}
}

// Build builds a main package of the tree, once per test binary, and returns the
// path of the program. Packages that call it have a TestMain with Main.
func Build(t testing.TB, pkg string, tags ...string) string {
	t.Helper()
	return build(t, ".", pkg, tags...)
}

// Peer builds a program of another project, or one that only other projects'
// libraries are in, in a module below tools/peers. It is built once per test
// binary. Modules of their own, so that what they need is not what we need.
func Peer(t testing.TB, module, pkg string) string {
	t.Helper()
	return build(t, filepath.Join("tools", "peers", module), pkg)
}

// build builds a main package in the module at dir, relative to the repository.
func build(t testing.TB, dir, pkg string, tags ...string) string {
	t.Helper()
	built.mu.Lock()
	defer built.mu.Unlock()
	key := dir + "," + pkg + "," + strings.Join(tags, ",")
	if path := built.paths[key]; path != "" {
		return path
	}
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "trialog-e2e-") //nolint:usetesting // it outlives this test
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.paths = dir, map[string]string{}
	}
	path := filepath.Join(built.dir, fmt.Sprintf("%d-%s", len(built.paths), filepath.Base(pkg)))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "-tags", strings.Join(tags, ","), pkg)
	cmd.Dir = filepath.Join(Root(), dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	built.paths[key] = path
	return path
}

// Trialogd builds the servers.
func Trialogd(t testing.TB, tags ...string) string {
	t.Helper()
	return Build(t, "./services/cmd/trialogd", tags...)
}

// Trialog builds the user's command line.
func Trialog(t testing.TB) string {
	t.Helper()
	return Build(t, "./tools/trialog")
}

// Log is a "trialogd all" with its data folder.
type Log struct {
	Dir  string // of the data
	URL  string // of the REST interface and the tiles
	GRPC string // address of the gRPC interface

	process

	program string
	args    []string
	under   []string // a program, and its arguments, that runs this one
	entries [][]byte // of the first shard, as far as they were read
}

// NewLog prepares a log in a temporary folder; Start starts it.
func NewLog(t testing.TB, tags ...string) *Log {
	t.Helper()
	return newLog(t, Trialogd(t, tags...))
}

func newLog(t testing.TB, program string) *Log {
	t.Helper()
	l := &Log{Dir: filepath.Join(t.TempDir(), "data"), process: newProcess(t, "trialogd"), program: program}
	address, grpc := freeAddress(t), freeAddress(t)
	l.URL, l.GRPC = "http://"+address, grpc
	l.args = []string{
		"all", "--data", l.Dir, "--listen", address, "--grpc-listen", grpc,
		"--witness-listen", "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0",
	}
	return l
}

// Init makes the log without starting it.
func (l *Log) Init() {
	l.t.Helper()
	args := []string{"init"}
	for i := 1; i+1 < len(l.args); i += 2 {
		if l.args[i] != "--grpc-listen" {
			args = append(args, l.args[i], l.args[i+1])
		}
	}
	if out, err := l.Run(args...); err != nil {
		l.t.Fatalf("init: %v\n%s", err, out)
	}
}

// Announce makes the next shard of a log that is not running.
func (l *Log) Announce(name string) {
	l.t.Helper()
	out, err := l.Run("shard", "add", name, "--data", l.Dir, "--listen", strings.TrimPrefix(l.URL, "http://"))
	if err != nil {
		l.t.Fatalf("shard add: %v\n%s", err, out)
	}
}

// With adds arguments to the command line, before the first Start.
func (l *Log) With(args ...string) *Log {
	l.args = append(l.args, args...)
	return l
}

// Run runs another command of trialogd to its end and returns what it printed.
func (l *Log) Run(args ...string) (string, error) {
	out, err := exec.CommandContext(l.t.Context(), l.program, args...).CombinedOutput()
	return string(out), err
}

// Part is a folder or file of the first shard: store, ledger, tiles or keys.
func (l *Log) Part(name string) string { return filepath.Join(l.Dir, "shards", "1", name) }

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // nothing is waited for
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Launch starts the process and does not wait for anything.
func (l *Log) Launch(env ...string) {
	l.t.Helper()
	l.launch(slices.Concat(l.under, []string{l.program}, l.args), env)
}

// Start starts the log and waits until it is ready.
func (l *Log) Start(env ...string) {
	l.t.Helper()
	l.Launch(env...)
	if state := l.Await(startTimeout, func(s State) bool { return s.State == "ready" }); state.State != "ready" {
		l.t.Fatalf("the log is not ready: %+v\n%s", state, l.output)
	}
}

// State is what /readyz answers.
type State struct {
	State  string `json:"state"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

// Await asks for the state until it is as wanted, the process has ended, or the
// time is up, and returns the last one.
func (l *Log) Await(limit time.Duration, want func(State) bool) State {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var last State
	for {
		if s, err := l.state(ctx); err == nil {
			if last = s; want(s) {
				return s
			}
		}
		select {
		case <-ctx.Done():
			return last
		case <-l.Ended():
			return State{State: "ended", Detail: l.Output()}
		case <-time.After(20 * time.Millisecond): // between two questions
		}
	}
}

func (l *Log) state(ctx context.Context) (State, error) {
	var s State
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL+"/readyz", http.NoBody)
	if err != nil {
		return s, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(resp.Body).Decode(&s)
	return s, err
}

// Policy reads the policy that init wrote.
func (l *Log) Policy() *verify.Policy {
	l.t.Helper()
	text, err := os.ReadFile(l.PolicyFile())
	if err != nil {
		l.t.Fatal(err)
	}
	sidecar, err := os.ReadFile(l.PolicyFile() + ".json")
	if err != nil {
		l.t.Fatal(err)
	}
	p, err := verify.ParsePolicy(text, sidecar)
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

// PolicyFile is the path of the log's policy.
func (l *Log) PolicyFile() string { return filepath.Join(l.Dir, "policy", "trialog.policy") }

// Token reads a bearer token that init made: "enrol" or "receive".
func (l *Log) Token(name string) string {
	l.t.Helper()
	raw, err := os.ReadFile(l.TokenFile(name))
	if err != nil {
		l.t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// TokenFile is the path of a bearer token.
func (l *Log) TokenFile(name string) string { return filepath.Join(l.Dir, "tokens", name) }

// Get fetches a path of the REST interface or of the tiles.
func (l *Log) Get(path string) (int, []byte, error) {
	resp, err := http.Get(l.URL + path) //nolint:noctx // a loopback address
	if err != nil {
		return 0, nil, err
	}
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, errors.Join(err, resp.Body.Close())
}

// CopyDir copies a folder, as a backup would: with the modes of the files, as the
// programs refuse secrets that others can read.
func CopyDir(t testing.TB, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		if !entry.Type().IsRegular() {
			return nil // a process's socket
		}
		raw, err := os.ReadFile(path) //nolint:gosec // the test's own folder
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), raw, info.Mode().Perm()) //nolint:gosec // likewise
	})
	if err != nil {
		t.Fatal(err)
	}
}
