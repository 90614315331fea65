// Package pgtest runs a real PostgreSQL for tests: a cluster of its own in a
// temporary folder, reached through a Unix socket, with data checksums, which can
// be killed and started again.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// superuser is the cluster's, who needs no password.
const superuser = "trialog"

// Shared is one server for all tests of a process. The zero value is ready; a
// test package keeps one and closes it in TestMain.
type Shared struct {
	mu     sync.Mutex
	server *Server
}

// Server returns the server and starts it first if nobody has. See New.
func (s *Shared) Server(t testing.TB) *Server {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		s.server = start(t)
	}
	return s.server
}

// Close ends the server, if there is one, and removes its data.
func (s *Shared) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		s.server.close()
		s.server = nil
	}
}

// New starts a server of the test's own. Where there is no PostgreSQL the test
// is skipped, or fails if the environment variable CI is set. Each setting is
// NAME=VALUE as in postgresql.conf.
func New(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := start(t, settings...)
	t.Cleanup(s.close)
	return s
}

// Server is a running, or killed, PostgreSQL.
type Server struct {
	dir       string // holds data and socket
	bin       string
	attr      *syscall.SysProcAttr
	settings  []string
	output    *os.File
	databases atomic.Int64

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
}

func start(t testing.TB, settings ...string) *Server {
	t.Helper()
	bin, err := binaries()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s := &Server{bin: bin, settings: settings}
	if err := s.create(); err != nil {
		s.close()
		t.Fatalf("starting PostgreSQL: %v", err)
	}
	return s
}

// binaries finds the folder with initdb and postgres: where Debian keeps the
// newest version, or on the path.
func binaries() (string, error) {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.Reverse(dirs)
	if p, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(p))
	}
	for _, dir := range dirs {
		_, noServer := os.Stat(filepath.Join(dir, "postgres"))
		_, noInit := os.Stat(filepath.Join(dir, "initdb"))
		if noServer == nil && noInit == nil {
			return dir, nil
		}
	}
	return "", errors.New("no PostgreSQL: neither in /usr/lib/postgresql nor on the path")
}

func (s *Server) create() (err error) {
	if s.dir, err = os.MkdirTemp("", "pgtest"); err != nil {
		return err
	}
	// It ends with this process, however that ends.
	s.attr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if os.Geteuid() == 0 {
		if err := s.demote(); err != nil {
			return err
		}
	}
	if s.output, err = os.Create(filepath.Join(s.dir, "output")); err != nil {
		return err
	}
	initdb := exec.Command(filepath.Join(s.bin, "initdb"), //nolint:gosec,noctx // of this machine's PostgreSQL; it ends with this process
		"--pgdata", s.data(), "--username", superuser,
		"--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--data-checksums", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = s.attr, s.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return s.Start()
}

// demote makes the server's processes run as somebody else than root, which
// PostgreSQL insists on.
func (s *Server) demote() error {
	var who *user.User
	var err error
	for _, name := range []string{"postgres", "nobody"} {
		if who, err = user.Lookup(name); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(who.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(who.Gid, 10, 32)
	if err != nil {
		return err
	}
	s.attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.dir, int(uid), int(gid))
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Start starts a server that was stopped or killed, and returns when it answers.
func (s *Server) Start() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		exited, err := s.launch()
		if err != nil {
			return err
		}
		if s.answers(ctx, exited) {
			return nil
		}
		// Behind a kill the old server's processes may still be ending.
		if err := ctx.Err(); err != nil {
			said, _ := os.ReadFile(s.output.Name()) // it only adds to an error
			return fmt.Errorf("it does not answer: %w: %s", err, said)
		}
	}
}

func (s *Server) launch() (<-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	args := []string{"-D", s.data(), "-k", s.dir, "-h", "", "-c", "max_connections=200"}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	postgres := filepath.Join(s.bin, "postgres")
	cmd := exec.Command(postgres, args...) //nolint:gosec,noctx // of this machine's PostgreSQL; it ends with this process
	cmd.SysProcAttr, cmd.Dir, cmd.Stdout, cmd.Stderr = s.attr, s.dir, s.output, s.output
	started := make(chan error)
	exited := make(chan struct{})
	go func() {
		// The death signal comes when the thread ends that started the process.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it was killed, or says why in its output
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	s.cmd, s.exited = cmd, exited
	return exited, nil
}

// answers waits until the server takes connections, and is false if it ended.
func (s *Server) answers(ctx context.Context, exited <-chan struct{}) bool {
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx) == nil
		}
		select {
		case <-exited:
			return false
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// URL addresses a database of the server.
func (s *Server) URL(database string) string {
	return "postgres://" + superuser + "@/" + database + "?host=" + url.QueryEscape(s.dir)
}

// Socket is the path of the Unix socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, ".s.PGSQL.5432") }

// Database makes a new, empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	s.Exec(t, s.URL("postgres"), "CREATE DATABASE "+name)
	return s.URL(name)
}

// Exec runs statements on a database.
func (s *Server) Exec(t testing.TB, database string, statements ...string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing hangs on it
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// Kill kills the postmaster with SIGKILL. The server's other processes notice it
// and end.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// StopImmediately ends the server without a checkpoint; it recovers when it is
// started again.
func (s *Server) StopImmediately() { s.end(syscall.SIGQUIT) }

// Restart starts the server again after ending it in good order.
func (s *Server) Restart() error {
	s.end(syscall.SIGINT)
	return s.Start()
}

func (s *Server) standbySignal() string { return filepath.Join(s.data(), "standby.signal") }

// RestartAsStandby ends the server in good order and starts it as a hot standby
// that follows nobody: it answers, and writes nothing.
func (s *Server) RestartAsStandby() error {
	if err := os.WriteFile(s.standbySignal(), nil, 0o644); err != nil { //nolint:gosec // the server's user reads it
		return err
	}
	return s.Restart()
}

// Promote ends a standby and starts it as a primary.
func (s *Server) Promote() error {
	if err := os.Remove(s.standbySignal()); err != nil {
		return err
	}
	return s.Restart()
}

func (s *Server) end(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig) // it may have ended by itself
	<-s.exited
	s.cmd = nil
}

func (s *Server) close() {
	s.end(syscall.SIGQUIT)
	if s.output != nil {
		_ = s.output.Close() // nobody reads it any more
	}
	_ = os.RemoveAll(s.dir) // a temporary folder
}
