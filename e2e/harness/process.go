package harness

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program that runs, or does not, one life after the other. It is
// killed when the test ends; of a test that failed, what it printed is shown.
type process struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	output *lockedBuffer
	ended  chan struct{}
}

func newProcess(t testing.TB, name string) process {
	return process{t: t, name: name, output: &lockedBuffer{}}
}

func (p *process) launch(command, env []string) {
	p.t.Helper()
	if p.ended == nil {
		p.t.Cleanup(func() {
			p.Kill()
			if p.t.Failed() {
				p.t.Logf("output of %s:\n%s", p.name, p.output)
			}
		})
	}
	p.cmd = exec.Command(command[0], command[1:]...) //nolint:noctx // Kill and Stop end it
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait()
		close(ended)
	}(p.cmd, p.ended)
}

// Kill ends the process with SIGKILL and waits for it.
func (p *process) Kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.ended
	p.cmd = nil
}

// Ended is closed when the process has ended.
func (p *process) Ended() <-chan struct{} { return p.ended }

// Running tells whether there is a process that has not ended.
func (p *process) Running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Stop ends the process in good order and waits for it.
func (p *process) Stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(startTimeout):
		p.t.Fatalf("%s does not stop", p.name)
	}
	p.cmd = nil
}

// Output returns what the process has printed, in all its lives.
func (p *process) Output() string { return p.output.String() }

// AwaitOutput waits until the process has printed a text.
func (p *process) AwaitOutput(text string) {
	p.t.Helper()
	deadline := time.After(startTimeout)
	for !strings.Contains(p.Output(), text) {
		select {
		case <-deadline:
			p.t.Fatalf("%s has not printed %q:\n%s", p.name, text, p.output)
		case <-p.ended:
			p.t.Fatalf("%s has ended:\n%s", p.name, p.output)
		case <-time.After(5 * time.Millisecond): // between two looks
		}
	}
}

// Suspend stops the process with SIGSTOP, and returns when it has stopped.
func (p *process) Suspend() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	p.AwaitSuspended()
}

// AwaitSuspended waits until the process has stopped.
func (p *process) AwaitSuspended() {
	p.t.Helper()
	stat := fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid)
	deadline := time.After(startTimeout)
	for {
		raw, err := os.ReadFile(stat)
		if err != nil {
			p.t.Fatal(err)
		}
		// The state follows the command's name, which is in parentheses.
		if rest := raw[bytes.LastIndexByte(raw, ')')+1:]; bytes.HasPrefix(rest, []byte(" T")) {
			return
		}
		select {
		case <-deadline:
			p.t.Fatalf("%s does not stop:\n%s", p.name, p.output)
		case <-time.After(time.Millisecond): // between two looks
		}
	}
}

// Resume lets a suspended process go on.
func (p *process) Resume() {
	p.t.Helper()
	p.signal(syscall.SIGCONT)
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// awaitListening waits until somebody takes connections at the address.
func (p *process) awaitListening(address string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close() // it was only to be had
			return
		}
		select {
		case <-ctx.Done():
			p.t.Fatalf("%s does not listen at %s: %v\n%s", p.name, address, err, p.output)
		case <-p.ended:
			p.t.Fatalf("%s has ended:\n%s", p.name, p.output)
		case <-time.After(5 * time.Millisecond): // between two tries
		}
	}
}

// lockedBuffer collects output of a process while others read it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
