package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// product is a running "trialogd all" with its three witnesses.
type product struct {
	s      *session
	data   string
	http   string
	grpc   string
	cmd    *exec.Cmd
	output *lines
	ended  chan struct{}
	err    error // of the process; read it when ended is closed
}

// startLimit bounds how long a log may take to be ready; a large one reads its
// store first.
const startLimit = 3 * time.Minute

// start runs a log on a data folder, a new one unless it holds one already.
func (s *session) start(ctx context.Context, data string, flags ...string) (*product, error) {
	p := &product{s: s, data: data, output: &lines{}, ended: make(chan struct{})}
	var err error
	if p.http, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	if p.grpc, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	args := slices.Concat([]string{
		"all", "--data", data, "--listen", p.http, "--grpc-listen", p.grpc, "--log-level", "warn",
		"--witness-listen", "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0",
	}, flags)
	p.cmd = command(ctx, filepath.Join(s.bin, "trialogd"), args...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	if err := p.await(ctx); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// await waits until the log is ready.
func (p *product) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var state string
	for {
		if state = p.state(ctx); state == "ready" {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("trialogd has ended: %w: %s", p.err, p.s.without(tail(p.output.String())))
		case <-ctx.Done():
			return fmt.Errorf("trialogd is not ready but %q: %s", state, p.s.without(tail(p.output.String())))
		case <-time.After(20 * time.Millisecond): // between two questions
		}
	}
}

// state asks for the log's state; any failure is a state too.
func (p *product) state(ctx context.Context) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.http+"/readyz", http.NoBody)
	if err != nil {
		return err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "starting"
	}
	defer resp.Body.Close()
	var answer struct {
		State  string `json:"state"`
		Reason string `json:"reason"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err.Error()
	}
	if answer.State == "ready" {
		return answer.State
	}
	return answer.State + " " + answer.Reason
}

// stop ends the log in good order.
func (p *product) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
		return nil
	case <-time.After(time.Minute):
		return errors.Join(errors.New("trialogd does not end"), p.cmd.Process.Kill())
	}
}

// flood loads the log.
func (p *product) flood(ctx context.Context, args ...string) (*measured, error) {
	m, err := p.s.child(ctx, "trialog-bench", slices.Concat([]string{
		"flood", "--data", p.data, "--grpc", p.grpc, "--server", strconv.Itoa(p.cmd.Process.Pid),
	}, args)...)
	if err != nil {
		return nil, fmt.Errorf("%w; the log says: %s", err, p.s.without(tail(p.output.String())))
	}
	return m, nil
}

// witnesses returns the process ids of the log's witnesses.
func (p *product) witnesses() ([]int, error) {
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var ids []int
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// proc(5): the parent follows the name, in parentheses, and the state.
		fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(p.cmd.Process.Pid) {
			id, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				return nil, err
			}
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// memory returns the resident memory of the log's process in MiB: now, and at
// its greatest.
func (p *product) memory() (now, most float64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)) //nolint:gosec // a number
	if err != nil {
		return 0, 0, err
	}
	kib := func(name string) float64 {
		v, failed := strconv.ParseFloat(strings.TrimSuffix(field(string(raw), name), " kB"), 64)
		err = errors.Join(err, failed)
		return v
	}
	return kib("VmRSS") / 1024, kib("VmHWM") / 1024, err
}

// onLog runs work on a new log and stops it.
func onLog(ctx context.Context, s *session, work func(p *product) (*measured, error), flags ...string) (*measured, error) {
	return inFolder(s, func(dir string) (_ *measured, err error) {
		p, err := s.start(ctx, filepath.Join(dir, "log"), flags...)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, p.stop()) }()
		return work(p)
	})
}

func signed(ctx context.Context, s *session) (*measured, error) {
	return onLog(ctx, s, func(p *product) (*measured, error) {
		return p.flood(ctx, s.time(2*time.Second, 6*time.Second)...)
	})
}

func signedPostgres(ctx context.Context, s *session) (*measured, error) {
	db, err := s.postgres(ctx)
	if err != nil {
		return nil, err
	}
	name, err := db.create(ctx)
	if err != nil {
		return nil, err
	}
	m, err := onLog(ctx, s, func(p *product) (*measured, error) {
		return p.flood(ctx, s.time(2*time.Second, 6*time.Second)...)
	}, "--store", db.uri(name))
	return m, errors.Join(err, db.drop(ctx, name))
}

// lines keeps the end of what a process prints, while others read it.
type lines struct {
	mu sync.Mutex
	b  []byte
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	const most = 64 << 10
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	l.b = append([]byte(nil), l.b[max(0, len(l.b)-most):]...)
	return len(p), nil
}

// String is what was kept.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}
