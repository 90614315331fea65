package register_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/register/registertest"
)

const (
	key  = "shards/1/register"
	path = "/" + registertest.Bucket + "/" + key
)

func record(size uint64) register.Record { return registertest.Record(size) }

// faulty opens a register on a stub through a Transport, without pauses.
func faulty(t *testing.T, flaw registertest.Flaw) (*register.S3, *registertest.Stub, *registertest.Transport) {
	t.Helper()
	registertest.Credentials(t)
	stub, transport := registertest.NewStub(t, flaw), new(registertest.Transport)
	c := registertest.S3(stub.URL, key)
	c.HTTP, c.Attempts = transport, 3
	c.Pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	r, err := register.OpenS3(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r, stub, transport
}

// TestProbe: a server on which two sequencers might not notice each other is
// refused, whatever it does wrong.
func TestProbe(t *testing.T) {
	registertest.Credentials(t)
	for _, tt := range []struct {
		name string
		flaw registertest.Flaw
		want string
	}{
		{"ignores If-Match", registertest.IgnoresIfMatch, "does not honour If-Match"},
		{"ignores If-None-Match", registertest.IgnoresIfNoneMatch, "does not honour If-None-Match"},
		{"compares, then writes", registertest.ComparesThenWrites, "does not honour If-Match when 8 writes come at once"},
		{"takes If-Match for nothing", registertest.RecreatesAbsent, "If-Match for an object that does not exist"},
		{"same tag", registertest.SameTag, "the same ETag"},
		{"stale reads", registertest.Stale, "does not give back what was written last"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stub := registertest.NewStub(t, tt.flaw)
			c := registertest.S3(stub.URL, key)
			c.Timeout = 500 * time.Millisecond // writes that wait for a partner which never comes
			r, err := register.OpenS3(context.Background(), c)
			if !errors.Is(err, register.ErrUnsafe) || r != nil {
				t.Fatalf("opened: %v; expected ErrUnsafe", err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %q, expected it to say %q", err, tt.want)
			}
			if n := stub.Keys(); n != 0 {
				t.Errorf("%d probes are left", n)
			}
		})
	}
}

// TestProbeFails: while the server cannot be asked, nothing is opened, and
// nothing is said about it.
func TestProbeFails(t *testing.T) {
	registertest.Credentials(t)
	stub := registertest.NewStub(t, registertest.NoFlaw)
	for _, method := range []string{http.MethodPut, http.MethodGet} {
		for _, answer := range registertest.Faults() {
			transport := new(registertest.Transport)
			transport.Plan(method, answer)
			c := registertest.S3(stub.URL, key)
			c.HTTP = transport
			r, err := register.OpenS3(context.Background(), c)
			if err == nil || r != nil || errors.Is(err, register.ErrUnsafe) {
				t.Errorf("%s, answer %d: %v", method, answer, err)
			}
		}
	}
}

// TestS3WriteFails lets each write of a swap and a creation fail in each way, as
// often as it is tried. The register then holds the old record or the new one,
// success is only reported if it holds the new one, and the next swap counts.
func TestS3WriteFails(t *testing.T) {
	ctx := context.Background()
	for _, answer := range registertest.Faults() {
		for times := 1; times <= 3; times++ {
			plan := make([]registertest.Answer, times)
			for i := range plan {
				plan[i] = answer
			}
			r, stub, transport := faulty(t, registertest.NoFlaw)
			transport.Plan(http.MethodPut, plan...)
			created := r.Create(ctx, record(1))
			switch got, err := r.Read(ctx); {
			case created == nil && (err != nil || got != record(1)):
				t.Errorf("answer %d × %d: made, but it holds %+v, %v", answer, times, got, err)
			case errors.Is(created, register.ErrExists):
				t.Errorf("answer %d × %d: its own creation was in the way", answer, times)
			case errors.Is(err, register.ErrMissing):
				transport.Plan(http.MethodPut)
				if err := r.Create(ctx, record(1)); err != nil {
					t.Fatal(err)
				}
			}
			transport.Plan(http.MethodPut, plan...)
			swapped := r.Swap(ctx, record(1), record(2))
			got, err := r.Read(ctx)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case errors.Is(swapped, register.ErrConflict) || errors.Is(swapped, register.ErrBackwards):
				t.Errorf("answer %d × %d: its own write was in the way: %v", answer, times, swapped)
			case swapped == nil && got != record(2):
				t.Errorf("answer %d × %d: swapped, but it holds %+v", answer, times, got)
			case got != record(1) && got != record(2):
				t.Errorf("answer %d × %d: it holds %+v", answer, times, got)
			case times < 3 && answer != registertest.Forbidden && swapped != nil:
				t.Errorf("answer %d × %d: given up: %v", answer, times, swapped)
			}
			transport.Plan(http.MethodPut)
			if err := r.Swap(ctx, got, record(3)); err != nil {
				t.Errorf("answer %d × %d: the next swap: %v", answer, times, err)
			}
			if n := stub.Keys(); n != 1 {
				t.Errorf("%d objects", n)
			}
		}
	}
}

// TestAnotherWroteMeanwhile: a write whose answer was lost, and after which
// somebody else's record is there, was not ours.
func TestAnotherWroteMeanwhile(t *testing.T) {
	ctx := context.Background()
	r, stub, transport := faulty(t, registertest.NoFlaw)
	if err := r.Create(ctx, record(7)); err != nil {
		t.Fatal(err)
	}
	theirs := bytes.Clone(stub.Object(path))
	stub.Set(path, bytes.Replace(theirs, []byte("\n7\n"), []byte("\n1\n"), 1))
	now, err := r.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, first := range []registertest.Answer{registertest.Through, registertest.NoConnection, registertest.Busy} {
		stub.Set(path, bytes.Replace(theirs, []byte("\n7\n"), []byte("\n1\n"), 1))
		transport.Plan(http.MethodPut, first)
		transport.Before(func() { stub.Set(path, theirs) })
		if err := r.Swap(ctx, now, record(9)); !errors.Is(err, register.ErrConflict) {
			t.Errorf("answer %d: %v, expected ErrConflict", first, err)
		}
		registertest.Holds(t, r, record(7))
	}
}

// TestUnreadable: what cannot be read is neither missing nor replaced.
func TestUnreadable(t *testing.T) {
	ctx := context.Background()
	r, stub, transport := faulty(t, registertest.NoFlaw)
	for _, text := range []string{"", "x", "trialog-register@v1\n", strings.Repeat("x", 5000)} {
		stub.Set(path, []byte(text))
		if _, err := r.Read(ctx); !errors.Is(err, register.ErrCorrupt) {
			t.Errorf("%d bytes: read: %v", len(text), err)
		}
		if err := r.Create(ctx, record(1)); !errors.Is(err, register.ErrCorrupt) {
			t.Errorf("%d bytes: made anew: %v", len(text), err)
		}
		if err := r.Swap(ctx, record(1), record(1)); !errors.Is(err, register.ErrCorrupt) {
			t.Errorf("%d bytes: swapped: %v", len(text), err)
		}
		if got := string(stub.Object(path)); got != text {
			t.Errorf("%d bytes became %q", len(text), got)
		}
	}
	for _, answer := range registertest.Faults() {
		transport.Plan(http.MethodGet, answer, answer, answer)
		if got, err := r.Read(ctx); err == nil || errors.Is(err, register.ErrMissing) || got != (register.Record{}) {
			t.Errorf("answer %d: %+v, %v", answer, got, err)
		}
	}
}

// TestTornRead: content under the tag of another write is not believed.
func TestTornRead(t *testing.T) {
	r, stub, transport := faulty(t, registertest.NoFlaw)
	if err := r.Create(context.Background(), record(1)); err != nil {
		t.Fatal(err)
	}
	if len(stub.Object(path)) == 0 {
		t.Fatal("nothing was written")
	}
	transport.Plan(http.MethodGet, registertest.WrongTag, registertest.WrongTag)
	registertest.Holds(t, r, record(1))
	if n := transport.Sent(); n != 3 {
		t.Errorf("%d reads, expected the third to count", n)
	}
	transport.Plan(http.MethodGet, registertest.WrongTag, registertest.WrongTag, registertest.WrongTag)
	if err := r.Swap(context.Background(), record(1), record(2)); err == nil {
		t.Error("swapped by a tag that is not the content's")
	}
}

// TestErrorsHoldNoSecrets: neither key of the credentials is in an error.
func TestErrorsHoldNoSecrets(t *testing.T) {
	registertest.Credentials(t)
	secret, id := os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_ACCESS_KEY_ID")
	stub := registertest.NewStub(t, registertest.IgnoresIfMatch)
	for name, c := range map[string]register.S3Config{
		"refused":     registertest.S3(stub.URL, key),
		"unreachable": registertest.S3("http://127.0.0.1:1", key),
		"no bucket":   {Key: key},
	} {
		_, err := register.OpenS3(context.Background(), c)
		if err == nil || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), id) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
