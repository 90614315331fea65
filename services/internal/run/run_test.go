package run_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/services/internal/run"
)

var errBroken = errors.New("broken")

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func waits(ended *bool) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		*ended = true
		return ctx.Err()
	}
}

func TestOnePartEndsAll(t *testing.T) {
	var ended bool
	err := run.All(t.Context(),
		run.Part{Name: "good", Run: waits(&ended)},
		run.Part{Name: "bad", Run: func(context.Context) error { return errBroken }})
	if !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "bad: ") {
		t.Errorf("error %v, expected that of the bad part with its name", err)
	}
	if !ended {
		t.Error("the good part was left running")
	}
}

func TestContextEndsAll(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var a, b bool
	cancel()
	if err := run.All(ctx, run.Part{Name: "a", Run: waits(&a)}, run.Part{Name: "b", Run: waits(&b)}); err != nil {
		t.Errorf("an orderly end gives %v", err)
	}
	if !a || !b {
		t.Error("a part was left running")
	}
}

func TestEveryFailureIsTold(t *testing.T) {
	late := errors.New("late")
	err := run.All(t.Context(),
		run.Part{Name: "first", Run: func(context.Context) error { return errBroken }},
		run.Part{Name: "second", Run: func(ctx context.Context) error { <-ctx.Done(); return late }})
	if !errors.Is(err, errBroken) || !errors.Is(err, late) {
		t.Errorf("error %v, expected both", err)
	}
}

// TestHTTPDrains: a request that is under way when the end comes gets its answer.
func TestHTTPDrains(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cancel()
		_, _ = io.WriteString(w, "answered")
	})
	done := make(chan error, 1)
	go func() { done <- run.HTTP(ctx, l, run.Server(handler, quiet())) }()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "answered" {
		t.Errorf("answer %q, %v", body, err)
	}
	if err := <-done; err != nil {
		t.Errorf("an orderly end gives %v", err)
	}
	if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String()); err == nil {
		t.Error("the address still answers", conn.Close())
	}
}

func TestHTTPTellsWhatBroke(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := run.HTTP(t.Context(), l, run.Server(http.NotFoundHandler(), quiet())); err == nil {
		t.Error("serving on a closed listener succeeds")
	}
}

// TestServerHasLimits: a client that sends its header slowly is cut.
func TestServerHasLimits(t *testing.T) {
	s := run.Server(http.NotFoundHandler(), quiet())
	for name, limit := range map[string]time.Duration{
		"header": s.ReadHeaderTimeout, "read": s.ReadTimeout, "write": s.WriteTimeout, "idle": s.IdleTimeout,
	} {
		if limit <= 0 || limit > 5*time.Minute {
			t.Errorf("%s limit %s", name, limit)
		}
	}
	if s.MaxHeaderBytes <= 0 || s.MaxHeaderBytes > 64<<10 {
		t.Errorf("header limit %d bytes", s.MaxHeaderBytes)
	}
}
