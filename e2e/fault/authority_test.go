package fault

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/timestamp"
	"github.com/trialog/trialog/e2e/harness"
)

// worstAccuracy is what the authority may state at most.
const worstAccuracy = time.Second

// stamping asks an authority again and again, and holds each token against the
// machine's clock, which is the right one.
type stamping struct {
	t *testing.T
	a *harness.Authority

	mu      sync.Mutex
	issued  int
	refused int // because the time is not to be had
	worst   time.Duration
}

// run asks until ctx ends.
func (s *stamping) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		before := time.Now()
		token, err := s.a.Ask(ctx, sha256.Sum256(fmt.Append(nil, n)))
		s.judge(ctx, token, err, before, time.Now())
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond): // between two questions
		}
	}
}

func (s *stamping) judge(ctx context.Context, token *timestamp.Token, err error, before, after time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var status *timestamp.StatusError
	switch {
	case errors.As(err, &status) && status.Failure == timestamp.TimeNotAvailable:
		s.refused++
		return
	case err != nil:
		if ctx.Err() == nil {
			s.t.Errorf("the authority: %v", err)
		}
		return
	}
	s.issued++
	// The time was some time between the question and the answer.
	if token.Time.Add(token.Accuracy).Before(before) || token.Time.Add(-token.Accuracy).After(after) {
		s.t.Errorf("a token says %s to within %s; it was asked for at %s and there at %s",
			token.Time, token.Accuracy, before.UTC(), after.UTC())
	}
	if token.Accuracy > worstAccuracy {
		s.t.Errorf("a token states an accuracy of %s", token.Accuracy)
	}
	s.worst = max(s.worst, before.Sub(token.Time), token.Time.Sub(after))
}

// await waits until a count has grown by n.
func (s *stamping) await(limit time.Duration, what string, count *int, n int) {
	s.t.Helper()
	s.mu.Lock()
	want := *count + n
	s.mu.Unlock()
	deadline := time.After(limit)
	for {
		s.mu.Lock()
		reached := *count >= want
		s.mu.Unlock()
		if reached {
			return
		}
		select {
		case <-deadline:
			s.t.Fatalf("after %s: not %d %s", limit, n, what)
		case <-time.After(time.Millisecond): // between two looks
		}
	}
}

// TestAuthorityClock sets the clock of a time-stamp authority, which states an
// accuracy of at most a second, by two seconds and back, again and again, while
// it is asked all the time. Tokens that leave are right to within what they state;
// by 0.4 s it goes on and says so. 10 s.
func TestAuthorityClock(t *testing.T) {
	var sources []string
	for range 3 {
		sources = append(sources, harness.NewTimeServer(t).URL())
	}
	a := harness.NewAuthority(t, sources...)
	clock := a.ShiftClock()
	a.Start()
	s := &stamping{t: t, a: a}
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	for range 3 {
		asking.Go(func() { s.run(ctx) })
	}
	const some = 20
	s.await(clockLimit*2, "tokens", &s.issued, some)
	for _, offset := range []time.Duration{2 * time.Second, -2 * time.Second, 1500 * time.Millisecond, -1500 * time.Millisecond} {
		clock.Set(offset)
		s.await(clockLimit, "refusals", &s.refused, some)
		clock.Set(0)
		s.await(2*clockLimit, "tokens", &s.issued, some)
	}
	for _, offset := range []time.Duration{400 * time.Millisecond, -400 * time.Millisecond} {
		clock.Set(offset)
		s.await(2*clockLimit, "tokens", &s.issued, some)
	}
	cancel()
	asking.Wait()
	t.Logf("%d tokens, %d refusals; a token was at most %s off", s.issued, s.refused, s.worst.Round(time.Millisecond))
	const stepped = 300 * time.Millisecond
	if s.worst < stepped {
		t.Errorf("no token was more than %s off: the clock was not set", s.worst)
	}
}
