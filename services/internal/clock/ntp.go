package clock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/beevik/ntp"
)

// kissPause is for how long a server that sent a kiss of death is left alone.
//
// SPEC (RFC 5905, 7.4): on DENY and RSTR "the client MUST demobilize any
// associations to that server and stop sending packets to that server"; on RATE
// it "MUST immediately reduce its polling interval". A server that changes its
// mind is asked again after this time.
const kissPause = time.Hour

// NTP is a server of the Network Time Protocol (RFC 5905), asked as a client
// without authentication. Its answers must carry the question's random transmit
// time, so that only who sees the question can forge one.
type NTP struct {
	address string
	now     func() time.Time

	mu     sync.Mutex
	kissed time.Time // with a monotonic reading; zero if never
	code   string
}

// NewNTP returns the source at host:port; now is the clock that is compared.
func NewNTP(address string, now func() time.Time) (*NTP, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, errors.New("source of time: expected host:port")
	}
	return &NTP{address: address, now: now}, nil
}

// Name implements Source.
func (s *NTP) Name() string { return "ntp://" + s.address }

// Offset implements Source. The uncertainty is the root distance (RFC 5905,
// A.5.5.2): half of the way to the primary clock and back, and what the servers
// on the way state.
func (s *NTP) Offset(ctx context.Context) (offset, uncertainty time.Duration, err error) {
	if err := s.mayAsk(); err != nil {
		return 0, 0, err
	}
	hangUp := func() bool { return true }
	r, err := ntp.QueryWithOptions(s.address, ntp.QueryOptions{
		// With the clock given here the library takes no time stamps from the
		// kernel: they would be of another clock than the one that is compared.
		GetSystemTime: s.now,
		Dialer: func(_, remote string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "udp", remote)
			if err != nil {
				return nil, err
			}
			// The library knows no contexts, but it notices that its connection
			// is closed.
			hangUp = context.AfterFunc(ctx, func() { _ = conn.Close() })
			return conn, nil
		},
	})
	hangUp()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("ask %s: %w", s.Name(), err)
	}
	if r.Stratum == 0 {
		s.kiss(r.KissCode)
		return 0, 0, fmt.Errorf("ask %s: kiss of death %q: %w", s.Name(), r.KissCode, ntp.ErrKissOfDeath)
	}
	if err := r.Validate(); err != nil {
		return 0, 0, fmt.Errorf("answer of %s: %w", s.Name(), err)
	}
	return r.ClockOffset, r.RootDistance, nil
}

func (s *NTP) mayAsk() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.kissed.IsZero() && s.now().Sub(s.kissed) < kissPause {
		return fmt.Errorf("%s does not want to be asked: kiss of death %q", s.Name(), s.code)
	}
	return nil
}

func (s *NTP) kiss(code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kissed, s.code = s.now(), code
}
