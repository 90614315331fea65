package harness

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Clock is the clock that a program sees.
type Clock struct {
	t    testing.TB
	file string
}

// ShiftClock runs the log's process, and not its witnesses, with a clock that the
// test sets. Such a process can be killed, not stopped.
func (l *Log) ShiftClock() *Clock {
	l.t.Helper()
	c, under := newClock(l.t)
	l.under = under
	l.With("--witnesses-elsewhere")
	return c
}

// newClock makes a clock for the program that is run by under.
func newClock(t testing.TB) (c *Clock, under []string) {
	t.Helper()
	Need(t, "cc")
	dir := t.TempDir()
	shifter := filepath.Join(dir, "clockshift")
	source := filepath.Join(TestData(t), "..", "tools", "clockshift.c")
	if out, err := exec.CommandContext(t.Context(), "cc", "-O2", "-o", shifter, source).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", source, err, out)
	}
	c = &Clock{t: t, file: filepath.Join(dir, "offset")}
	c.Set(0)
	return c, []string{shifter, c.file}
}

// Set sets the clock to the machine's time and offset.
func (c *Clock) Set(offset time.Duration) {
	c.t.Helper()
	temp := c.file + ".new"
	if err := os.WriteFile(temp, fmt.Appendf(nil, "%d", offset.Milliseconds()), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(temp, c.file); err != nil {
		c.t.Fatal(err)
	}
}

// TimeServer is a server of the Network Time Protocol whose time the test sets.
type TimeServer struct {
	conn   net.PacketConn
	offset atomic.Int64
}

// NewTimeServer starts a server that has the machine's time.
func NewTimeServer(t testing.TB) *TimeServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0") //nolint:noctx // nothing is waited for
	if err != nil {
		t.Fatal(err)
	}
	s := &TimeServer{conn: conn}
	done := make(chan struct{})
	go func() { defer close(done); s.serve() }()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return s
}

// URL is the server's address as a clock source.
func (s *TimeServer) URL() string { return "ntp://" + s.conn.LocalAddr().String() }

// Set sets the server's clock to the machine's time and offset.
func (s *TimeServer) Set(offset time.Duration) { s.offset.Store(int64(offset)) }

func (s *TimeServer) serve() {
	const packet = 48 // RFC 5905, section 7.3
	buf := make([]byte, packet)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if n < packet {
			continue
		}
		answer := make([]byte, packet)
		const server, version, primary, precision = 4, 4, 1, 0xec
		answer[0], answer[1], answer[2], answer[3] = version<<3|server, primary, buf[2], precision
		copy(answer[12:16], "TEST")
		now := time.Now().Add(time.Duration(s.offset.Load()))
		copy(answer[24:32], buf[40:48]) // origin: the question's transmit time
		for _, at := range []int{16, 32, 40} {
			binary.BigEndian.PutUint64(answer[at:], ntpTime(now))
		}
		_, _ = s.conn.WriteTo(answer, from) // who asked may be gone
	}
}

// ntpTime is the 64-bit time stamp of RFC 5905, section 6.
func ntpTime(t time.Time) uint64 {
	const from1900to1970 = 2_208_988_800
	return uint64(t.Unix()+from1900to1970)<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}
