package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hammer": main})
}

// TestScripts runs the program as people do, against a "trialogd all" of their
// own tree, a new log for each script.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	dir := t.TempDir()
	trialogd := filepath.Join(dir, "trialogd")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", trialogd, "github.com/trialog/trialog/services/cmd/trialogd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build trialogd: %v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			l, err := start(trialogd, filepath.Join(env.WorkDir, "data"))
			if err != nil {
				return err
			}
			env.Defer(l.stop)
			env.Values[logKey{}] = l
			env.Setenv("SERVER", "http://"+l.address)
			env.Setenv("GRPC", l.grpc)
			env.Setenv("POLICY", filepath.Join(l.dir, "policy", "trialog.policy"))
			env.Setenv("TOKEN", filepath.Join(l.dir, "tokens", "enrol"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": exitCode},
	})
}

// code N COMMAND… requires an exit code.
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, expected %s", got, args[0])
	}
}

type logKey struct{}

// running is a log of a script's own.
type running struct {
	dir, address, grpc string
	cmd                *exec.Cmd
}

func start(program, dir string) (*running, error) {
	l := &running{dir: dir}
	for _, a := range []*string{&l.address, &l.grpc} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*a = listener.Addr().String()
		if err := listener.Close(); err != nil {
			return nil, err
		}
	}
	l.cmd = exec.Command(program, "all", "--data", dir, "--listen", l.address, "--grpc-listen", l.grpc,
		"--witness-listen", "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0")
	output, err := os.Create(dir + ".log")
	if err != nil {
		return nil, err
	}
	l.cmd.Stdout, l.cmd.Stderr = output, output
	if err := errors.Join(l.cmd.Start(), output.Close()); err != nil {
		return nil, err
	}
	if err := l.awaitReady(); err != nil {
		return nil, err
	}
	return l, nil
}

// awaitReady asks until the log says that it is ready.
func (l *running) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.address+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(20 * time.Millisecond): // between two questions
		case <-ctx.Done():
			l.stop()
			text, _ := os.ReadFile(l.dir + ".log")
			return errors.New("the log is not ready: " + string(text))
		}
	}
}

func (l *running) stop() {
	_ = l.cmd.Process.Signal(os.Interrupt) // it may have ended by itself
	_ = l.cmd.Wait()
}
