package timestamp

import (
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	api "github.com/trialog/trialog/api/timestamp"
	"github.com/trialog/trialog/services/internal/clock"
)

func TestToken(t *testing.T) {
	w := newWorld(t)
	token := w.stamp("a text")
	if want := time.Date(2026, 3, 1, 10, 0, 0, 123_000_000, time.UTC); !token.Time.Equal(want) {
		t.Errorf("the time is %s, expected %s", token.Time, want)
	}
	// 7.5 ms of the clock and the 0.456789 ms that were cut off, rounded up.
	if token.Accuracy != 8*time.Millisecond || token.Ordering || len(token.Certificates) != 2 {
		t.Errorf("accuracy %s, ordering %t, %d certificates", token.Accuracy, token.Ordering, len(token.Certificates))
	}
	if next := w.stamp("a text"); next.Serial.Cmp(token.Serial) <= 0 {
		t.Errorf("serial numbers %x, %x", token.Serial, next.Serial)
	}
}

// TestAccuracy: what the clock may be off is stated, rounded up, and bounded.
func TestAccuracy(t *testing.T) {
	for _, tt := range []struct{ bound, cut, limit, want time.Duration }{
		{0, 0, time.Second, time.Millisecond},
		{time.Millisecond, 0, time.Second, time.Millisecond},
		{time.Millisecond, 1, time.Second, 2 * time.Millisecond},
		{400 * time.Millisecond, 0, time.Second, 400 * time.Millisecond},
		{999 * time.Millisecond, 999_999, time.Second, time.Second},
		{time.Second, 0, time.Second, time.Second},
		{time.Second, 1, time.Second, 0},
		{time.Second + 1, 0, time.Second, 0},
		{2 * time.Second, 0, time.Second, 0},
		{100 * time.Millisecond, 0, 100 * time.Millisecond, 100 * time.Millisecond},
		{101 * time.Millisecond, 0, 100 * time.Millisecond, 0},
	} {
		w := newWorld(t, func(c *Config) { c.Accuracy = tt.limit })
		w.clock.set(func() { w.clock.bound, w.clock.now = tt.bound, time.Date(2026, 3, 1, 10, 0, 0, int(tt.cut), time.UTC) })
		token, err := w.tryStamp("a text")
		switch {
		case tt.want == 0:
			if refusedAs(err) != api.TimeNotAvailable {
				t.Errorf("%+v: %v", tt, err)
			}
		case err != nil || token.Accuracy != tt.want:
			t.Errorf("%+v: %+v, %v", tt, token, err)
		}
	}
}

// TestClockStops: without a time that the sources confirm nothing is issued, and
// afterwards it goes on by itself.
func TestClockStops(t *testing.T) {
	w := newWorld(t)
	for _, cause := range []error{clock.ErrUnverified, &clock.DisagreementError{Offset: time.Hour}} {
		w.clock.set(func() { w.clock.err = cause })
		_, err := w.tryStamp("a text")
		if refusedAs(err) != api.TimeNotAvailable || !errors.Is(err, cause) || w.Ready() == nil {
			t.Errorf("%v: %v", cause, err)
		}
		w.clock.set(func() { w.clock.err = nil })
		w.stamp("a text")
		if err := w.Ready(); err != nil {
			t.Error(err)
		}
	}
}

// TestStepWhileSigning: a token that was made while the clock went wrong does not
// leave; its record stays.
func TestStepWhileSigning(t *testing.T) {
	w := newWorld(t)
	w.clock.after = func(int) { w.clock.err = clock.ErrUnverified }
	if _, err := w.tryStamp("a text"); refusedAs(err) != api.TimeNotAvailable {
		t.Errorf("%v", err)
	}
	if w.clock.reads != 2 {
		t.Errorf("the clock was read %d times", w.clock.reads)
	}
	if records, err := w.state.oldest(10); err != nil || len(records) != 1 {
		t.Errorf("%d records, %v", len(records), err)
	}
}

// TestCertificateExpires: no token is made that its certificate does not cover.
func TestCertificateExpires(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		at    time.Time
		issue bool
	}{
		{w.unit.certificate.NotBefore, false}, // the clock may be behind
		{w.unit.certificate.NotBefore.Add(time.Second), true},
		{w.unit.certificate.NotAfter.Add(-time.Second), true},
		{w.unit.certificate.NotAfter, false},
	} {
		w.clock.set(func() { w.clock.now = tt.at })
		if _, err := w.tryStamp("a text"); (err == nil) != tt.issue || err != nil && refusedAs(err) != api.SystemFailure {
			t.Errorf("%s: %v", tt.at, err)
		}
	}
}

func TestSigningFails(t *testing.T) {
	broken := &signer{err: errors.New("the device is gone")}
	w := newWorld(t, func(c *Config) { broken.Signer = c.Key; c.Key = broken })
	if _, err := w.tryStamp("a text"); refusedAs(err) != api.SystemFailure || !errors.Is(err, broken.err) {
		t.Errorf("%v", err)
	}
	broken.err = nil
	w.stamp("a text")
}

// TestAtOnce: more requests than there are places are refused, not queued.
func TestAtOnce(t *testing.T) {
	w := newWorld(t)
	for range maxAtOnce {
		w.places <- struct{}{}
	}
	if _, err := w.tryStamp("a text"); refusedAs(err) != api.SystemFailure {
		t.Errorf("%v", err)
	}
	<-w.places
	w.stamp("a text")
	if len(w.places) != maxAtOnce-1 {
		t.Errorf("%d places are taken", len(w.places))
	}
}

func TestOpenRefuses(t *testing.T) {
	w := newWorld(t)
	other := newKey(t)
	for name, change := range map[string]func(*Config){
		"no key":         func(c *Config) { c.Key = nil },
		"no clock":       func(c *Config) { c.Clock = nil },
		"no policy":      func(c *Config) { c.Policy = nil },
		"no logger":      func(c *Config) { c.Logger = nil },
		"no accuracy":    func(c *Config) { c.Accuracy = 0 },
		"2 s":            func(c *Config) { c.Accuracy = 2 * time.Second },
		"another key":    func(c *Config) { c.Key = other },
		"no certificate": func(c *Config) { c.Chain = nil },
		"no folder":      func(c *Config) { c.StateFile += "/a/b" },
		"locked":         func(*Config) {},
		"no journal":     func(c *Config) { c.StateFile += "2"; c.Journal = &JournalConfig{} },
	} {
		c := w.config
		change(&c)
		if a, err := Open(c); err == nil {
			t.Errorf("%s: no error", name)
			_ = a.Close()
		}
	}
}

// TestSerials: numbers grow, across restarts too, with the clock put back and with
// an older state file, and have at most 160 bits.
func TestSerials(t *testing.T) {
	w := newWorld(t)
	last := new(big.Int)
	grows := func(when string) {
		t.Helper()
		for range 3 {
			n := w.stamp("a text").Serial
			if n.Cmp(last) <= 0 || n.BitLen() > 160 || n.Sign() != 1 {
				t.Errorf("%s: %x behind %x", when, n, last)
			}
			last = n
		}
	}
	grows("at first")
	w.reopen()
	grows("restarted within the same millisecond")
	w.clock.pass(-30 * time.Minute)
	w.reopen()
	grows("the clock was put back")
	w.clock.pass(30*time.Minute + time.Second)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.config.StateFile += ".older" // a file that knows nothing
	w.open()
	grows("with an older state file")
}

// TestSerialCarries: the count goes on beyond a byte, and leaves the rest alone.
func TestSerialCarries(t *testing.T) {
	l := &life{begun: true}
	l.last = serial{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 0, 0, 0xff, 0xff}
	n, err := l.next(time.Time{}, nil, nil)
	if want := (serial{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 0, 1, 0, 0}); err != nil || n != want {
		t.Errorf("%x, %v", n, err)
	}
	if got := n.text(); got != "102030405060708090a0b0c000000010000" {
		t.Errorf("text %s", got)
	}
}

func TestSerialNeedsItsLife(t *testing.T) {
	cause := errors.New("no disk")
	l := new(life)
	begin := func(uint64) (uint64, error) { return 0, cause }
	if _, err := l.next(time.UnixMilli(1), nil, begin); !errors.Is(err, cause) || l.begun {
		t.Errorf("%v", err)
	}
}

// TestSerialsOfTwins: lives that begin in the same millisecond, as those of two
// copies of one state file might, have numbers of their own.
func TestSerialsOfTwins(t *testing.T) {
	begin := func(ms uint64) (uint64, error) { return ms, nil }
	at := time.UnixMilli(0x0102_0304_0506)
	first := func(random string) serial {
		n, err := new(life).next(at, strings.NewReader(random), begin)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if want := (serial{1, 2, 3, 4, 5, 6, 'a', 'b', 'c', 'd', 'e', 'f', 0, 0, 0, 0, 0, 1}); first("abcdef") != want {
		t.Errorf("%x, expected %x", first("abcdef"), want)
	}
	if first("abcdef") == first("abcdeg") {
		t.Error("two lives gave the same number")
	}
	l := new(life)
	if n, err := l.next(at, strings.NewReader("abcde"), begin); err == nil || l.begun {
		t.Errorf("%x with too little randomness", n)
	}
}
