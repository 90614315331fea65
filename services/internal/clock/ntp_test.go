package clock_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/beevik/ntp"

	"github.com/trialog/trialog/services/internal/clock"
)

// ntpServer answers questions of RFC 5905 with what a test makes of a good answer.
type ntpServer struct {
	address string
	asked   chan struct{}
}

// stamp is a time in the NTP's 64-bit format (RFC 5905, 6).
func stamp(t time.Time) uint64 {
	const era = 2208988800 // seconds from 1900 to 1970
	return uint64(t.Unix()+era)<<32 | uint64(t.Nanosecond())<<32/1e9
}

// newNTP starts a server whose clock is now; change may spoil the answer, or
// return nil for none.
func newNTP(t *testing.T, now func() time.Time, change func(packet []byte) []byte) *ntpServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &ntpServer{address: conn.LocalAddr().String(), asked: make(chan struct{}, 100)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		question := make([]byte, 1024)
		for {
			n, from, err := conn.ReadFrom(question)
			if err != nil {
				return
			}
			s.asked <- struct{}{}
			answer := good(question[:n], now())
			if change != nil {
				answer = change(answer)
			}
			if answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return s
}

// good is the answer of a server of stratum 2.
func good(question []byte, now time.Time) []byte {
	p := make([]byte, 48)
	p[0] = 0<<6 | 4<<3 | 4 // no leap second, version 4, server
	p[1] = 2               // stratum
	p[3] = 0xec            // precision, 2^-20 s
	binary.BigEndian.PutUint32(p[4:], 1<<16/100)
	binary.BigEndian.PutUint32(p[8:], 1<<16/50)
	binary.BigEndian.PutUint64(p[16:], stamp(now.Add(-time.Minute)))
	copy(p[24:32], question[40:48]) // origin: the question's transmit time
	binary.BigEndian.PutUint64(p[32:], stamp(now))
	binary.BigEndian.PutUint64(p[40:], stamp(now))
	return p
}

func ask(t *testing.T, s *ntpServer, now func() time.Time) (offset, uncertainty time.Duration, err error) {
	t.Helper()
	source, err := clock.Parser{Now: now}.Parse("ntp://" + s.address)
	if err != nil {
		t.Fatal(err)
	}
	if source.Name() != "ntp://"+s.address {
		t.Errorf("name %q", source.Name())
	}
	return source.Offset(t.Context())
}

func TestNTP(t *testing.T) {
	system := time.Now
	for _, shift := range []time.Duration{0, time.Hour, -time.Hour, 90 * time.Second} {
		s := newNTP(t, func() time.Time { return system().Add(shift) }, nil)
		offset, uncertainty, err := ask(t, s, system)
		if err != nil {
			t.Fatal(err)
		}
		if (offset-shift).Abs() > uncertainty || uncertainty < 24*time.Millisecond {
			t.Errorf("a server that is ahead by %s: %s ± %s", shift, offset, uncertainty)
		}
	}
	// The clock that is compared is the one that was handed in.
	s := newNTP(t, system, nil)
	offset, uncertainty, err := ask(t, s, func() time.Time { return system().Add(-time.Hour) })
	if err != nil || (offset-time.Hour).Abs() > uncertainty {
		t.Errorf("a clock that is an hour behind: %s ± %s, %v", offset, uncertainty, err)
	}
}

// TestHostileNTP: what no client may take for the time.
func TestHostileNTP(t *testing.T) {
	system := time.Now
	set16 := func(at int, v uint32) func([]byte) []byte {
		return func(p []byte) []byte { binary.BigEndian.PutUint32(p[at:], v); return p }
	}
	for name, tt := range map[string]struct {
		change func([]byte) []byte
		want   error // nil: any
	}{
		"kiss of death":      {func(p []byte) []byte { p[1] = 0; copy(p[12:], "DENY"); return p }, ntp.ErrKissOfDeath},
		"rate":               {func(p []byte) []byte { p[1] = 0; copy(p[12:], "RATE"); return p }, ntp.ErrKissOfDeath},
		"stratum 0":          {func(p []byte) []byte { p[1] = 0; return p }, ntp.ErrKissOfDeath},
		"stratum 16":         {func(p []byte) []byte { p[1] = 16; return p }, ntp.ErrInvalidStratum},
		"not synchronised":   {func(p []byte) []byte { p[0] |= 3 << 6; return p }, ntp.ErrInvalidLeapSecond},
		"another question's": {func(p []byte) []byte { p[24] ^= 1; return p }, ntp.ErrServerResponseMismatch},
		"no origin":          {func(p []byte) []byte { clear(p[24:32]); return p }, ntp.ErrServerResponseMismatch},
		"a question":         {func(p []byte) []byte { p[0] = p[0]&^7 | 3; return p }, ntp.ErrInvalidMode},
		"huge dispersion":    {set16(8, 17<<16), ntp.ErrInvalidDispersion},
		"huge delay":         {set16(4, 40<<16), ntp.ErrInvalidDispersion},
		"no transmit time":   {func(p []byte) []byte { clear(p[40:48]); return p }, ntp.ErrInvalidTransmitTime},
		"sent before it came": {func(p []byte) []byte {
			binary.BigEndian.PutUint64(p[40:], stamp(system().Add(-9*time.Second)))
			return p
		}, ntp.ErrServerTickedBackwards},
		"clock not set since": {func(p []byte) []byte {
			binary.BigEndian.PutUint64(p[16:], stamp(system().Add(-48*time.Hour)))
			return p
		}, ntp.ErrServerClockFreshness},
		"cut off": {func(p []byte) []byte { return p[:40] }, nil},
		"empty":   {func([]byte) []byte { return []byte{} }, nil},
	} {
		s := newNTP(t, system, tt.change)
		offset, uncertainty, err := ask(t, s, system)
		if err == nil || offset != 0 || uncertainty != 0 || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %s ± %s, %v; expected %v", name, offset, uncertainty, err, tt.want)
		}
	}
}

// TestKissIsHeard: a server that does not want to be asked is left alone for an
// hour.
func TestKissIsHeard(t *testing.T) {
	m := new(machine)
	s := newNTP(t, m.truth, func(p []byte) []byte { p[1] = 0; copy(p[12:], "RSTR"); return p })
	source, err := clock.NewNTP(s.address, m.now)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		passes time.Duration
		asked  int
	}{{0, 1}, {time.Minute, 1}, {58 * time.Minute, 1}, {2 * time.Minute, 2}, {time.Minute, 2}} {
		m.pass(tt.passes)
		if _, _, err := source.Offset(t.Context()); err == nil {
			t.Error("a kiss is no time")
		}
		if n := len(s.asked); n != tt.asked {
			t.Errorf("at %s it was asked %d times, expected %d", m.monotonic(), n, tt.asked)
		}
	}
}

// TestSilentNTP: a server that does not answer is given up with the context.
func TestSilentNTP(t *testing.T) {
	s := newNTP(t, time.Now, func([]byte) []byte { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	source, err := clock.NewNTP(s.address, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-s.asked
		cancel()
	}()
	if _, _, err := source.Offset(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, _, err := source.Offset(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("asked after the end: %v", err)
	}
}

func TestParseNTP(t *testing.T) {
	m := new(machine)
	p := clock.Parser{Now: m.now}
	for s, want := range map[string]string{
		"ntp://time.test": "ntp://time.test:123", "ntp://time.test:1123": "ntp://time.test:1123",
		"ntp://192.0.2.1": "ntp://192.0.2.1:123", "ntp://[2001:db8::1]": "ntp://[2001:db8::1]:123",
		"ntp://[2001:db8::1]:5": "ntp://[2001:db8::1]:5",
	} {
		if got, err := p.Parse(s); err != nil || got.Name() != want {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{
		"", "time.test", "time.test:123", "ntp:", "ntp://", "ntp://:123", "ntp://time.test/", "ntp://time.test/a", "ntp://time.test?a",
		"ntp://time.test#a", "ntp://user@time.test", "ntp://user:secret@time.test", "https://time.test", "ntp://time.test:port",
		"ntp://time.test:123:4", "ntp://%zz", "NTP://time.test",
	} {
		if got, err := p.Parse(s); err == nil {
			t.Errorf("%q was taken for %s", s, got.Name())
		}
	}
	if _, err := clock.NewNTP("time.test", m.now); err == nil {
		t.Error("an address without a port")
	}
}
